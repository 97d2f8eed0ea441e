//! The calls to GitHub: as the app, by a signed token of ten minutes at most, and as an installation, by its token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_broker_proto::Secret;
use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::Revocability;
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};

use super::GithubApp;
use super::narrow::{Given, Narrowed};
use super::settings::FIELD;
use crate::provider::held::Known;
use crate::provider::http::{Answer, Http};
use crate::provider::{
    Blame, Handle, Healthy, Issued, MintRequest, Prepared, Proof, ProviderError, Renewed, Revocation, own,
};

/// The life of an installation token (REST API, "Create an installation access token for an app").
const LIFE: Duration = Duration::from_secs(3600);
/// For clocks that differ, and for the time that a request takes.
const MARGIN: Duration = Duration::from_secs(60);
/// The life of a signed token; GitHub takes ten minutes at most.
const SIGNED: Duration = Duration::from_secs(480);
/// A revoked token is looked for so often, so long after each other.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// After this the answer of a request that is under way is looked for again.
const SOON: Duration = Duration::from_secs(1);

/// What names a token to the provider that made it.
#[derive(Serialize, Deserialize)]
struct Named {
    lease: LeaseId,
    /// It lives so long at most.
    until: Timestamp,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
    exp: i64,
}

/// Of an answer the token alone.
#[derive(Deserialize)]
struct Bare {
    token: Secret,
}

/// Of an answer the rest.
#[derive(Deserialize)]
struct Terms {
    expires_at: Timestamp,
    #[serde(flatten)]
    given: Given,
}

impl GithubApp {
    /// The handle of a token that is not made yet: it cannot live longer than this.
    pub(super) fn intent(&self, request: &MintRequest) -> Handle {
        Named { lease: request.lease, until: self.after(LIFE + MARGIN) }.to_handle()
    }

    pub(super) async fn make_token(
        &self,
        request: &MintRequest,
        prepared: &Prepared,
    ) -> Result<Issued, ProviderError> {
        let named = self.named(&prepared.handle)?;
        let asked: &Narrowed = own::credential(&request.spec)?;
        // Nothing was asked for so far.
        self.held.put(named.lease, Known::None);
        let signed = self.signed().await?;
        let answer = self.ask_for_it(signed, asked, named.lease).await?;
        if answer.status != 201 {
            return Err(self.refusal(&answer));
        }
        // The lease layer revokes what fails from here on, by what is held now.
        let (Some(Bare { token }), Some(Terms { expires_at, given })) = (answer.json(), answer.json()) else {
            return Err(self.http.error(Blame::Broken, "gave a token that cannot be read", "check `api`"));
        };
        if let Some(excess) = asked.excess(&given) {
            let hint = "nothing was handed out, and the token is revoked; look at the app's installation";
            return Err(self.http.error(Blame::Refused, &format!("gave {excess}"), hint));
        }
        self.issued(request, named.lease, &token, expires_at)
    }

    /// Asks in a task of its own: where nobody waits any more, the token that comes is kept all the same.
    async fn ask_for_it(
        &self,
        signed: Secret,
        asked: &Narrowed,
        lease: LeaseId,
    ) -> Result<Answer, ProviderError> {
        let path = format!("app/installations/{}/access_tokens", self.settings.installation_id);
        let url = self.url(&path);
        let (http, asked, flight) = (Arc::clone(&self.http), asked.clone(), self.held.fly(lease));
        let asking = tokio::spawn(async move {
            let answer = send(&http, Method::POST, url, &signed, |call| call.json(&asked)).await;
            match answer.as_ref().map(|answer| (answer.status, answer.json())) {
                // Before anything else of the answer is looked at: the token is alive, whatever else it says.
                Ok((201, Some(Bare { token }))) => flight.rest(Known::Token(Arc::new(token))),
                Ok((400..=499, _)) => flight.rest(Known::None),
                _lost => drop(flight),
            }
            answer
        });
        asking.await.unwrap_or_else(|_panicked| {
            Err(self.http.error(Blame::Broken, "was asked for a token in vain", own::REPORT))
        })
    }

    fn issued(
        &self,
        request: &MintRequest,
        lease: LeaseId,
        token: &Secret,
        valid_until: Timestamp,
    ) -> Result<Issued, ProviderError> {
        if valid_until > self.after(LIFE + 5 * MARGIN) || valid_until <= self.clock.now() {
            let what = "says that a token ends at a time that cannot be";
            return Err(self.http.error(Blame::Broken, what, "set this machine's clock"));
        }
        let expires_at = self.after(request.spec.ttl.min(request.horizon)).min(valid_until);
        // EXPOSE: the copy that goes to the launch; the other one is kept to revoke it.
        let copy = token.expose(|text| Secret::new(text.to_owned()));
        Ok(Issued {
            handle: Named { lease, until: valid_until }.to_handle(),
            fields: BTreeMap::from([(FIELD.to_owned(), copy)]),
            plain: &[],
            expires_at: Some(expires_at),
            valid_until: (valid_until > expires_at).then_some(valid_until),
            detail: Some(format!("installation {}", self.settings.installation_id)),
            renewable: expires_at < valid_until,
            revocability: Revocability::Immediate,
        })
    }

    pub(super) fn lengthen(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        let named = self.named(handle)?;
        let expires_at = self.after(ttl).min(named.until);
        Ok(Renewed { expires_at, renewable: expires_at < named.until })
    }

    pub(super) async fn end_token(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        let named = self.named(handle)?;
        let token = match self.held.get(named.lease) {
            Some(Known::Token(token)) => token,
            Some(Known::None) => {
                self.held.forget(named.lease);
                return Ok(Revocation::NeverMade);
            }
            Some(Known::InFlight) => {
                let what = "is still being asked for the token that is to be revoked";
                return Err(self.http.error(Blame::Busy(Some(SOON)), what, "it is revoked when it is there"));
            }
            // It was lost with the process or the connection that had it.
            None => return Ok(Revocation::ExpiresAt(Some(named.until))),
        };
        let answer = self.call(Method::DELETE, "installation/token", &token, |call| call).await?;
        let was_gone = match answer.status {
            204 => false,
            401 => true,
            _ => return Err(self.refusal(&answer)),
        };
        if !was_gone {
            self.see_it_refused(&token).await?;
        }
        self.held.forget(named.lease);
        Ok(if was_gone { Revocation::AlreadyGone(Proof::Token) } else { Revocation::Revoked(Proof::Token) })
    }

    /// The proof: a request with the token is answered 401.
    async fn see_it_refused(&self, token: &Secret) -> Result<(), ProviderError> {
        for _ in 0..LOOKS {
            let path = "installation/repositories?per_page=1";
            if self.call(Method::GET, path, token, |call| call).await?.status == 401 {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Err(self.http.error(Blame::Broken, "still takes a token that it revoked", "it is tried again"))
    }

    pub(super) async fn look(&self) -> Result<Healthy, ProviderError> {
        let signed = self.signed().await?;
        let answer = self.call(Method::GET, "app", &signed, |call| call).await?;
        if answer.status != 200 {
            return Err(self.refusal(&answer));
        }
        Ok(Healthy { detail: format!("app {}", self.settings.app_id), warning: None })
    }

    /// A token of the app's own (RS256). Dated back, for clocks that differ.
    async fn signed(&self) -> Result<Secret, ProviderError> {
        let pem = self.settings.private_key.fetch(&self.peers).await?;
        let now = self.clock.now().as_second();
        let (back, life) = (i64::try_from(MARGIN.as_secs()), i64::try_from(SIGNED.as_secs()));
        let (iat, exp) = (now - back.unwrap_or_default(), now + life.unwrap_or_default());
        let claims = Claims { iss: &self.settings.app_id, iat, exp };
        // EXPOSE: the signer, which reads the key and is dropped here.
        let signed = pem.expose(|pem| {
            let key = EncodingKey::from_rsa_pem(pem.as_bytes())?;
            jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key)
        });
        signed.map(Secret::new).map_err(|_unusable| {
            let hint = "put the RSA key that GitHub gave you, in PEM, where `private_key` says";
            self.http.error(Blame::Config, "has a private key that cannot be used", hint)
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: &Secret,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, ProviderError> {
        send(&self.http, method, self.url(path), token, with).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.settings.api.as_str().trim_end_matches('/'))
    }

    fn refusal(&self, answer: &Answer) -> ProviderError {
        let status = answer.status;
        let (blame, what, hint) = match status {
            401 => (
                Blame::Identity,
                "does not accept the app's key",
                "check `app_id`, `private_key` and this machine's clock",
            ),
            403 if answer.retry_after.is_some() => (Blame::Busy(None), "asks to come back later", "wait"),
            403 => (Blame::Refused, "does not allow it", "see whether the installation is suspended"),
            404 => {
                (Blame::Config, "has no such installation of the app", "check `installation_id` and `api`")
            }
            422 => (
                Blame::Refused,
                "does not give such a token",
                "the installation must have each of `repositories`, and at least `permissions`",
            ),
            500.. => (Blame::Unreachable, "has trouble of its own", "try again; see its status page"),
            _ => (Blame::Broken, "gave an answer that is not understood", "check `api`"),
        };
        self.http.error(blame, &format!("{what} (status {status})"), hint)
    }

    fn named(&self, handle: &Handle) -> Result<Named, ProviderError> {
        let named = serde_json::from_value(handle.0.clone());
        named.map_err(|_foreign| {
            self.http.error(Blame::Broken, "was given a handle of another kind", own::REPORT)
        })
    }

    fn after(&self, life: Duration) -> Timestamp {
        let span = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        self.clock.now().checked_add(span).unwrap_or(Timestamp::MAX)
    }
}

async fn send(
    http: &Http,
    method: Method,
    url: String,
    token: &Secret,
    with: impl FnOnce(RequestBuilder) -> RequestBuilder,
) -> Result<Answer, ProviderError> {
    let make = |client: &reqwest::Client| {
        let call = client.request(method, url).header("Accept", "application/vnd.github+json");
        // EXPOSE: the request's header, marked as sensitive.
        let call = token.expose(|text| call.bearer_auth(text));
        with(call.header("X-GitHub-Api-Version", "2022-11-28"))
    };
    http.send(make).await
}

impl Named {
    fn to_handle(&self) -> Handle {
        Handle(serde_json::to_value(self).unwrap_or_default())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use std::sync::{Mutex, OnceLock};

    use mcp_broker_proto::names::{LaunchId, SessionId};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::sync::Notify;

    use super::super::KIND;
    use super::super::settings::Settings;
    use crate::clock::SystemClock;
    use crate::config::CredentialSpec;
    use crate::config::testing::TempDir;
    use crate::provider::{BuildDeps, Peers, Provider, Source};

    use super::super::narrow::{Level, Narrowed};
    use super::*;

    /// GitHub as far as these tests need it: a token is asked for, and revokes itself.
    struct Double {
        /// The answer to `POST`: its status and its body.
        made: (u16, String),
        /// `POST` is answered only after this, where there is one.
        gate: Option<Arc<Notify>>,
        /// Methods and what they were asked with.
        calls: Mutex<Vec<String>>,
    }

    impl Double {
        async fn start(status: u16, body: &str, gate: Option<Arc<Notify>>) -> (Arc<Self>, u16) {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let double = Arc::new(Self { made: (status, body.to_owned()), gate, calls: Mutex::default() });
            let serving = Arc::clone(&double);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(Arc::clone(&serving).serve(stream));
                }
            });
            (double, port)
        }

        async fn serve(self: Arc<Self>, mut stream: TcpStream) {
            let mut text = String::new();
            let mut part = [0; 4096];
            while !text.contains("\r\n\r\n") {
                let read = stream.read(&mut part).await.unwrap();
                text.push_str(std::str::from_utf8(&part[..read]).unwrap());
            }
            let method = text.split(' ').next().unwrap().to_owned();
            let is_revoked = self.calls.lock().unwrap().contains(&"DELETE".to_owned());
            self.calls.lock().unwrap().push(method.clone());
            let (status, body) = match method.as_str() {
                "POST" => {
                    if let Some(gate) = &self.gate {
                        gate.notified().await;
                    }
                    self.made.clone()
                }
                _ if is_revoked => (401, String::new()),
                _ => (204, String::new()),
            };
            let head = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
        }

        fn calls(&self) -> Vec<String> {
            self.calls.lock().unwrap().clone()
        }
    }

    fn provider(port: u16, dir: &TempDir) -> Arc<dyn Provider> {
        dir.write("key", key());
        let settings = Settings {
            app_id: "1".to_owned(),
            installation_id: "2".to_owned(),
            private_key: Source::File(dir.path().join("key")),
            api: format!("http://127.0.0.1:{port}").parse().unwrap(),
            ca_file: None,
        };
        let deps = BuildDeps {
            name: "hub".parse().unwrap(),
            clock: Arc::new(SystemClock),
            state_dir: dir.path().to_owned(),
            peers: Peers::default(),
        };
        (KIND.build)(&settings, &deps).unwrap()
    }

    fn request() -> MintRequest {
        let narrowed = Narrowed {
            repositories: vec!["orders".to_owned()],
            permissions: BTreeMap::from([("contents".to_owned(), Level::Read)]),
        };
        MintRequest {
            lease: LeaseId::fresh(),
            launch: LaunchId::fresh(),
            session: SessionId::fresh(),
            user: "alice".to_owned(),
            server: "hub".parse().unwrap(),
            scope: "read".parse().unwrap(),
            spec: CredentialSpec {
                name: "hub".parse().unwrap(),
                provider: "hub".parse().unwrap(),
                ttl: Duration::from_secs(900),
                settings: Arc::new(narrowed),
            },
            horizon: Duration::from_secs(36_000),
            delivered: Vec::new(),
            refreshes: false,
        }
    }

    /// The fence falls while GitHub is asked: what comes then is revoked, and nothing is said of it before.
    #[tokio::test]
    async fn a_token_that_nobody_waits_for_is_revoked() {
        let (dir, gate) = (TempDir::new(), Arc::new(Notify::new()));
        let (double, port) = Double::start(201, r#"{"token": "t"}"#, Some(Arc::clone(&gate))).await;
        let (provider, request) = (provider(port, &dir), request());
        let prepared = provider.prepare(&request, None).await.unwrap();
        let handle = prepared.handle.clone();
        let asked = async {
            while double.calls().is_empty() {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            _ = provider.issue(&request, prepared) => unreachable!("nobody answers"),
            () = asked => {}
        }
        let early = provider.revoke(&handle).await.unwrap_err();
        assert_eq!(early.blame, Blame::Busy(Some(SOON)), "{early}");
        gate.notify_one();
        let revoked = loop {
            match provider.revoke(&handle).await {
                Err(error) if matches!(error.blame, Blame::Busy(_)) => tokio::task::yield_now().await,
                done => break done,
            }
        };
        assert_eq!(revoked, Ok(Revocation::Revoked(Proof::Token)));
        assert_eq!(double.calls(), ["POST", "DELETE", "GET"]);
    }

    /// What is wrong with an answer does not make its token less alive.
    #[tokio::test]
    async fn what_is_said_of_a_token_that_is_not_handed_out() {
        let dir = TempDir::new();
        for (status, body, want) in [
            (201, r#"{"token": "t", "expires_at": "soon"}"#, Some(Revocation::Revoked(Proof::Token))),
            (
                201,
                r#"{"token": "t", "permissions": {"x": "owner"}}"#,
                Some(Revocation::Revoked(Proof::Token)),
            ),
            (422, "{}", Some(Revocation::NeverMade)),
            (201, "{}", None),
            (500, "{}", None),
        ] {
            let (_double, port) = Double::start(status, body, None).await;
            let (provider, request) = (provider(port, &dir), request());
            let prepared = provider.prepare(&request, None).await.unwrap();
            let handle = prepared.handle.clone();
            assert!(provider.issue(&request, prepared).await.is_err(), "{body}");
            let got = provider.revoke(&handle).await.unwrap();
            match want {
                Some(want) => assert_eq!(got, want, "{status} {body}"),
                None => assert!(matches!(got, Revocation::ExpiresAt(Some(_))), "{status} {body}: {got:?}"),
            }
        }
    }

    /// Nobody asked GitHub, as there is no key to ask with.
    #[tokio::test]
    async fn what_was_never_asked_for_was_never_made() {
        let dir = TempDir::new();
        let (provider, request) = (provider(1, &dir), request());
        dir.write("key", "no key");
        let prepared = provider.prepare(&request, None).await.unwrap();
        let handle = prepared.handle.clone();
        assert!(provider.issue(&request, prepared).await.is_err());
        assert_eq!(provider.revoke(&handle).await, Ok(Revocation::NeverMade));
    }

    /// A key of nobody's, made once.
    fn key() -> &'static str {
        use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
        use aws_lc_rs::rsa::{KeyPair, KeySize};
        use base64::Engine;
        static KEY: OnceLock<String> = OnceLock::new();
        KEY.get_or_init(|| {
            let key = KeyPair::generate(KeySize::Rsa2048).unwrap();
            let der: Pkcs8V1Der<'_> = key.as_der().unwrap();
            let text = base64::engine::general_purpose::STANDARD.encode(der.as_ref());
            format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
        })
    }
}
