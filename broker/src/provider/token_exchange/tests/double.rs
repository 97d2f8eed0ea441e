//! A strict double of an authorization server on loopback: it holds each request to the rules of the RFCs, knows which
//! of its tokens are active, and does wrong what a test asks for. What it writes in errors must never be shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

pub(super) const CLIENT: &str = "broker 1";
pub(super) const SECRET: &str = "s+c:r%t";
/// What no message may hold.
pub(super) const CANARY: &str = "CANARY";

/// What the double does apart from the rules.
#[derive(Clone, Copy, Default)]
pub(super) struct Plan {
    /// Put over the answer with a token; JSON.
    pub(super) over: &'static str,
    /// The answer to a request for a token: status, error code.
    pub(super) fault: Option<(u16, &'static str)>,
    /// The same, to one for a revocation.
    pub(super) keeps: Option<(u16, &'static str)>,
    /// It calls each token inactive.
    pub(super) blind: bool,
    /// It says that it revoked, and did not.
    pub(super) lies: bool,
    /// Without these endpoints.
    pub(super) without: &'static [&'static str],
    /// Its metadata stands at the place of OpenID Connect only.
    pub(super) oidc_only: bool,
    /// Its metadata names an issuer with this at its end.
    pub(super) issuer_end: &'static str,
    /// To revoke a refresh token revokes the access token with it, as RFC 7009 section 2.1 says it should.
    pub(super) one_grant: bool,
    /// It makes the token, and hangs up.
    pub(super) hangs_up: bool,
    /// It makes the token, and says so when the gate is opened.
    pub(super) waits: bool,
}

/// One request.
#[derive(Clone)]
pub(super) struct Asked {
    pub(super) path: String,
    pub(super) authorization: String,
    pub(super) form: BTreeMap<String, String>,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    alive: BTreeSet<String>,
    made: usize,
}

#[derive(Clone)]
pub(super) struct Double {
    pub(super) address: String,
    pub(super) gate: Arc<Notify>,
    state: Arc<Mutex<State>>,
    plan: Arc<Mutex<Plan>>,
}

type Reply = (u16, Value);

impl Double {
    pub(super) async fn start(plan: Plan) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let double =
            Self { address, gate: Arc::default(), state: Arc::default(), plan: Arc::new(Mutex::new(plan)) };
        let serving = double.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serving.clone().serve(stream));
            }
        });
        double
    }

    pub(super) fn change(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }

    pub(super) fn asked(&self, path: &str) -> Vec<Asked> {
        let state = self.state.lock().unwrap();
        state.asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    pub(super) fn alive(&self) -> Vec<String> {
        self.state.lock().unwrap().alive.iter().cloned().collect()
    }

    async fn serve(self, mut stream: TcpStream) {
        let Some(asked) = request(&mut stream).await else { return };
        let plan = *self.plan.lock().unwrap();
        let ((status, body), drops) = {
            let mut state = self.state.lock().unwrap();
            state.asked.push(asked.clone());
            (self.answer(&mut state, plan, &asked), plan.hangs_up && asked.path == "/token")
        };
        if drops {
            return;
        }
        if plan.waits && asked.path == "/token" {
            self.gate.notified().await;
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!(
            "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\nretry-after: 7\r\nconnection: close\r\n\
             content-length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
    }

    fn answer(&self, state: &mut State, plan: Plan, asked: &Asked) -> Reply {
        let absent = |name: &str| plan.without.contains(&name);
        match asked.path.as_str() {
            "/.well-known/oauth-authorization-server" if plan.oidc_only => (404, Value::Null),
            "/.well-known/oauth-authorization-server" | "/.well-known/openid-configuration" => {
                let mut metadata = json!({
                    "issuer": format!("{}{}", self.address, plan.issuer_end),
                    "token_endpoint": format!("{}/token", self.address),
                });
                for (name, path) in
                    [("revocation_endpoint", "revoke"), ("introspection_endpoint", "introspect")]
                {
                    if !absent(name) {
                        metadata[name] = format!("{}/{path}", self.address).into();
                    }
                }
                (200, metadata)
            }
            "/token" | "/revoke" | "/introspect" => match self.judge(asked) {
                Err(refused) => refused,
                Ok(()) if asked.path == "/token" => give(state, plan, &asked.form),
                Ok(()) if asked.path == "/revoke" => revoke(state, plan, &asked.form),
                Ok(()) => look(state, plan, &asked.form),
            },
            _ => (404, Value::Null),
        }
    }

    /// "The client MUST NOT use more than one authentication method in each request" (RFC 6749 section 2.3).
    fn judge(&self, asked: &Asked) -> Result<(), Reply> {
        let basic = asked.authorization.strip_prefix("Basic ").map(|text| {
            let text = String::from_utf8(STANDARD.decode(text).unwrap()).unwrap();
            let (id, secret) = text.split_once(':').unwrap();
            // Both are encoded as in a form (RFC 6749 section 2.3.1).
            (decoded(id), decoded(secret))
        });
        let get = |name: &str| asked.form.get(name).cloned();
        let posted = get("client_secret").map(|secret| (get("client_id").unwrap_or_default(), secret));
        let signed = get("client_assertion").map(|assertion| {
            assert_eq!(
                get("client_assertion_type").as_deref(),
                Some("urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
            );
            super::verified_client(&assertion, &self.address)
        });
        let ways =
            usize::from(basic.is_some()) + usize::from(posted.is_some()) + usize::from(signed.is_some());
        assert!(ways <= 1, "one way of authentication");
        let exchanges = get("grant_type").is_some_and(|grant| grant.ends_with("token-exchange"));
        let good = match (basic.or(posted), signed) {
            (Some(shown), _) => shown == (CLIENT.to_owned(), SECRET.to_owned()),
            (None, Some(signed)) => signed,
            (None, None) => exchanges,
        };
        if good { Ok(()) } else { Err(refusal(401, "invalid_client")) }
    }
}

fn decoded(text: &str) -> String {
    let url: reqwest::Url = format!("http://x/?a={text}").parse().unwrap();
    url.query_pairs().next().unwrap().1.into_owned()
}

fn refusal(status: u16, code: &str) -> Reply {
    (status, json!({ "error": code, "error_description": CANARY, "error_uri": CANARY }))
}

fn give(state: &mut State, plan: Plan, form: &BTreeMap<String, String>) -> Reply {
    if let Some((status, code)) = plan.fault {
        return refusal(status, code);
    }
    let mut answer = json!({ "token_type": "Bearer", "expires_in": 600 });
    match form.get("grant_type").map(String::as_str) {
        Some("client_credentials") => {}
        // subject_token and subject_token_type are REQUIRED; actor_token_type "MUST NOT be included otherwise"
        // (RFC 8693 section 2.1).
        Some("urn:ietf:params:oauth:grant-type:token-exchange") => {
            assert!(form.contains_key("subject_token") && form.contains_key("subject_token_type"));
            assert_eq!(form.contains_key("actor_token"), form.contains_key("actor_token_type"));
            if form["subject_token"] == "stale" {
                return refusal(400, "invalid_request");
            }
            let wanted = form.get("requested_token_type").cloned();
            let wanted = wanted.unwrap_or_else(|| "urn:ietf:params:oauth:token-type:access_token".to_owned());
            answer["issued_token_type"] = wanted.into();
        }
        _ => return refusal(400, "unsupported_grant_type"),
    }
    state.made += 1;
    answer["access_token"] = format!("opaque-{}", state.made).into();
    let over: Value = serde_json::from_str(if plan.over.is_empty() { "{}" } else { plan.over }).unwrap();
    for (name, value) in over.as_object().unwrap() {
        answer[name] = value.clone();
    }
    for name in ["access_token", "refresh_token"] {
        state.alive.extend(answer[name].as_str().map(str::to_owned));
    }
    (200, answer)
}

/// "The authorization server responds with HTTP status code 200 if the token has been revoked successfully or if the
/// client submitted an invalid token" (RFC 7009 section 2.2).
fn revoke(state: &mut State, plan: Plan, form: &BTreeMap<String, String>) -> Reply {
    if let Some((status, code)) = plan.keeps {
        return refusal(status, code);
    }
    let token = &form["token"];
    if plan.one_grant && token.starts_with("refresh") {
        state.alive.clear();
    }
    if !plan.lies {
        state.alive.remove(token);
    }
    (200, Value::Null)
}

/// "If the introspection call is properly authorized but the token is not active … [it] MUST return an introspection
/// response with the "active" field set to "false"" (RFC 7662 section 2.2).
fn look(state: &State, plan: Plan, form: &BTreeMap<String, String>) -> Reply {
    let active = !plan.blind && state.alive.contains(&form["token"]);
    (
        200,
        if active {
            json!({ "active": true, "scope": "a b", "exp": 9_999_999_999_i64 })
        } else {
            json!({ "active": false })
        },
    )
}

async fn request(stream: &mut TcpStream) -> Option<Asked> {
    let mut text = Vec::new();
    let (head, body) = loop {
        let mut part = [0; 4096];
        let read = stream.read(&mut part).await.ok().filter(|read| *read > 0)?;
        text.extend_from_slice(&part[..read]);
        let whole = String::from_utf8_lossy(&text).into_owned();
        let Some((head, body)) = whole.split_once("\r\n\r\n") else { continue };
        let length = header(head, "content-length").map_or(0, |length| length.parse::<usize>().unwrap());
        if body.len() >= length {
            break (head.to_owned(), body.to_owned());
        }
    };
    let mut words = head.split(' ');
    let (method, path) = (words.next()?, words.next()?.to_owned());
    if method == "POST" {
        // RFC 6749 section 4.4.2, RFC 7009 section 2.1, RFC 7662 section 2.1.
        assert_eq!(header(&head, "content-type").as_deref(), Some("application/x-www-form-urlencoded"));
    }
    let form: reqwest::Url = format!("http://x/?{body}").parse().unwrap();
    let pairs: Vec<_> = form.query_pairs().into_owned().collect();
    let form: BTreeMap<_, _> = pairs.iter().cloned().collect();
    // "Parameters … MUST NOT be included more than once" (RFC 6749 section 3.2).
    assert_eq!(form.len(), pairs.len());
    let authorization = header(&head, "authorization").unwrap_or_default();
    Some(Asked { path, authorization, form })
}

fn header(head: &str, name: &str) -> Option<String> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}
