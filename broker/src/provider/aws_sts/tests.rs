//! The provider against a strict double of STS on loopback: it holds each request to the rules of the API reference
//! and answers as AWS does, in XML, with the faults that a test asks for.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use mcp_broker_proto::names::{LaunchId, LeaseId, SessionId};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::clock::SystemClock;
use crate::config::Mode;
use crate::config::testing::read_sound;
use crate::provider::{Denier, Peers};

type Asked = BTreeMap<String, String>;
type Seen = Arc<Mutex<Vec<Asked>>>;

/// What the double does apart from the rules.
#[derive(Clone, Default)]
struct Plan {
    /// These refusals first: status, code, text.
    faults: Vec<(u16, &'static str, &'static str)>,
    /// The role's `MaxSessionDuration`.
    role_maximum: i64,
    /// How far its clock is ahead.
    ahead: i64,
}

fn refusal(status: u16, code: &str, text: &str) -> (u16, String) {
    let body = format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>{text} CANARY</Message></Error><RequestId>r</RequestId></ErrorResponse>"
    );
    (status, body)
}

/// The rules, with the words of the API reference that they stand for.
fn judge(asked: &Asked, plan: &Plan) -> Result<i64, (u16, String)> {
    let get = |key: &str| asked.get(key).map_or("", String::as_str);
    let wrong = |text: &str| Err(refusal(400, "ValidationError", text));
    let seconds: i64 = get("DurationSeconds").parse().unwrap();
    // DurationSeconds: "Minimum value of 900. Maximum value of 43200" (129600 for the two Get calls).
    let assumes = get("Action").starts_with("AssumeRole");
    if !(900..=if assumes { 43_200 } else { 129_600 }).contains(&seconds) {
        return wrong("1 validation error detected: Value at 'durationSeconds' failed: DurationSeconds");
    }
    // "If you specify a value higher than this setting [of the role], the operation fails."
    if assumes && seconds > plan.role_maximum {
        return wrong("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.");
    }
    // RoleSessionName: "Length Constraints: Minimum length of 2. Maximum length of 64. Pattern: [\w+=,.@-]*".
    if assumes && !words::is_name(get("RoleSessionName")) {
        return wrong("Value at 'roleSessionName' failed to satisfy constraint");
    }
    // Policy: "The plaintext … can't exceed 2,048 characters."
    if get("Policy").chars().count() > 2048 {
        return wrong("Value at 'policy' failed to satisfy constraint");
    }
    if get("Action") == "AssumeRoleWithWebIdentity" && get("WebIdentityToken") != "good.token" {
        return Err(refusal(400, "ExpiredTokenException", "Token expired"));
    }
    Ok(seconds)
}

fn answer(asked: &Asked, plan: &Plan) -> (u16, String) {
    let action = asked["Action"].clone();
    let result = if action == "GetCallerIdentity" {
        "<Arn>arn:aws:iam::123456789012:user/broker</Arn><UserId>U</UserId><Account>123456789012</Account>"
            .to_owned()
    } else {
        let seconds = match judge(asked, plan) {
            Ok(seconds) => seconds + plan.ahead,
            Err(refused) => return refused,
        };
        let end = Timestamp::now().checked_add(SignedDuration::from_secs(seconds)).unwrap();
        format!(
            "<Credentials><AccessKeyId>ASIAEXAMPLE</AccessKeyId><SecretAccessKey>secret-1</SecretAccessKey>\
             <SessionToken>token-1</SessionToken><Expiration>{}</Expiration></Credentials>\
             <PackedPolicySize>42</PackedPolicySize>",
            end.strftime("%Y-%m-%dT%H:%M:%SZ")
        )
    };
    let space = "xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"";
    (200, format!("<{action}Response {space}><{action}Result>{result}</{action}Result></{action}Response>"))
}

/// Starts one; answers with its address and what it was asked.
async fn double(plan: Plan) -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let (noted, plan) = (Arc::clone(&seen), plan);
    tokio::spawn(async move {
        let mut faults = plan.faults.clone().into_iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut text = Vec::new();
            let body = loop {
                let mut part = [0; 4096];
                let read = stream.read(&mut part).await.unwrap();
                text.extend_from_slice(&part[..read]);
                let head = String::from_utf8_lossy(&text).to_ascii_lowercase();
                let Some(at) = head.find("\r\n\r\n") else { continue };
                let length = head.split("content-length: ").nth(1).unwrap().lines().next().unwrap();
                if text.len() >= at + 4 + length.trim().parse::<usize>().unwrap() {
                    break text[at + 4..].to_vec();
                }
            };
            let form = format!("http://x/?{}", String::from_utf8(body).unwrap());
            let mut asked: Asked = form.parse::<reqwest::Url>().unwrap().query_pairs().into_owned().collect();
            let head = String::from_utf8_lossy(&text).into_owned();
            let signed = head.lines().find(|line| line.to_ascii_lowercase().starts_with("authorization: "));
            asked.extend(signed.map(|line| ("Authorization".to_owned(), line.to_owned())));
            let (status, body) = match faults.next() {
                Some((status, code, text)) => refusal(status, code, text),
                None => answer(&asked, &plan),
            };
            noted.lock().unwrap().push(asked);
            let date = Timestamp::now().strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
            let head = format!(
                "HTTP/1.1 {status} x\r\ndate: {date}\r\ncontent-type: text/xml\r\nconnection: close\r\n\
                 content-length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).await.unwrap();
        }
    });
    (address, seen)
}

/// A file with a key of the broker's own, gone at the end.
struct KeyFile(std::path::PathBuf);

impl KeyFile {
    fn new(content: &str) -> Self {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = std::env::temp_dir().join(format!("mcp-broker-sts-{}", LeaseId::fresh()));
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        Self(path)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn provider(address: &str, key: &KeyFile, extra: &str) -> Arc<dyn Provider> {
    let file = key.0.display();
    let source =
        format!("access_key_id = {{ file = \"{file}\" }}, secret_access_key = {{ file = \"{file}\" }}");
    let source = if extra.contains("source") { String::new() } else { format!("source = {{ {source} }}\n") };
    let text = format!("region = \"eu-central-1\"\nendpoint = \"{address}\"\n{source}{extra}");
    let config = read_sound(&text, |reader| settings::read(reader, Mode::User));
    let deps = BuildDeps {
        name: "aws".parse().unwrap(),
        clock: Arc::new(SystemClock),
        state_dir: std::env::temp_dir(),
        peers: Peers::default(),
    };
    build(&*config, &deps).unwrap()
}

const ROLE: &str = "role_arn = \"arn:aws:iam::123456789012:role/tool\"\n";

fn request(keys: &str, ttl: u64) -> MintRequest {
    let settings = read_sound(keys, credential::read).settings;
    MintRequest {
        lease: LeaseId::fresh(),
        launch: LaunchId::fresh(),
        session: SessionId::fresh(),
        user: "alice".to_owned(),
        server: "notes".parse().unwrap(),
        scope: "read".parse().unwrap(),
        spec: CredentialSpec {
            name: "aws".parse().unwrap(),
            provider: "aws".parse().unwrap(),
            ttl: Duration::from_secs(ttl),
            settings,
        },
        horizon: Duration::from_secs(36_000),
        delivered: Vec::new(),
        refreshes: false,
    }
}

fn usual() -> Plan {
    Plan { role_maximum: 3600, ..Plan::default() }
}

async fn mint(
    provider: &Arc<dyn Provider>,
    request: &MintRequest,
) -> (Handle, Result<Issued, ProviderError>) {
    let prepared = provider.prepare(request, None).await.unwrap();
    (prepared.handle.clone(), provider.issue(request, prepared).await)
}

#[tokio::test]
async fn what_is_asked_for_and_what_comes_of_it() {
    let (address, seen) = double(usual()).await;
    let key = KeyFile::new("AKIAEXAMPLE");
    let provider = provider(&address, &key, "");
    let keys = format!(
        "{ROLE}external_id = \"e-1\"\ntags = {{ team = \"{{person}}\" }}\ntransitive_tags = [\"team\"]\n\
         policy_arns = [\"arn:aws:iam::aws:policy/ReadOnlyAccess\"]\n\
         policy = {{ Statement = [{{ Effect = \"Allow\", Action = \"s3:*\", Resource = \"b/{{launch}}/${{aws:username}}\" }}] }}"
    );
    let request = request(&keys, 900);
    let (handle, issued) = mint(&provider, &request).await;
    let issued = issued.unwrap();
    let asked = seen.lock().unwrap()[0].clone();
    let name = handle.0["session_name"].as_str().unwrap();
    assert!(name.starts_with("mcp-") && name.contains("-read-"), "{name}");
    for (key, want) in [
        ("Action", "AssumeRole"),
        ("RoleSessionName", name),
        ("DurationSeconds", "900"),
        ("ExternalId", "e-1"),
        ("SourceIdentity", "alice"),
        ("Tags.member.1.Key", "team"),
        ("Tags.member.1.Value", "alice"),
        ("TransitiveTagKeys.member.1", "team"),
        ("PolicyArns.member.1.arn", "arn:aws:iam::aws:policy/ReadOnlyAccess"),
    ] {
        assert_eq!(asked.get(key).map(String::as_str), Some(want), "{key}");
    }
    let resource = format!("b/{}/${{aws:username}}", request.launch);
    assert!(asked["Policy"].contains(&resource), "{}", asked["Policy"]);
    // EXPOSE: invented values of this test.
    let field = |name: &str| issued.fields[name].expose(str::to_owned);
    assert_eq!(
        (field("access_key_id"), field("secret_access_key")),
        ("ASIAEXAMPLE".into(), "secret-1".into())
    );
    assert_eq!((field("session_token"), field("region")), ("token-1".into(), "eu-central-1".into()));
    let detail = issued.detail.unwrap();
    assert!(detail.contains(name) && detail.contains("policy packed to 42 %"), "{detail}");
    assert!(!issued.handle.0.to_string().contains("secret-1") && !issued.renewable);
    let Ok(Revocation::ExpiresAt(Some(until))) = provider.revoke(&issued.handle).await else {
        unreachable!("STS cannot revoke")
    };
    assert_eq!(Some(until), issued.valid_until.or(issued.expires_at));
}

#[tokio::test]
async fn a_limit_in_time_below_the_floor() {
    let (address, seen) = double(usual()).await;
    let key = KeyFile::new("AKIAEXAMPLE");
    let provider = provider(&address, &key, "");
    let request = request(&format!("{ROLE}time_limit = true"), 120);
    assert_eq!(provider.revocability(&request.spec), Revocability::Bounded { seconds: 120 });
    let issued = mint(&provider, &request).await.1.unwrap();
    let (end, valid) = (issued.expires_at.unwrap(), issued.valid_until.unwrap());
    assert!((770..790).contains(&(valid.as_second() - end.as_second())));
    let asked = seen.lock().unwrap()[0].clone();
    assert_eq!(asked["DurationSeconds"], "900");
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    assert_eq!(asked["Policy"].matches(&end).count(), 2, "{}", asked["Policy"]);
}

#[tokio::test]
async fn other_calls() {
    let (address, seen) = double(usual()).await;
    let (key, token) = (KeyFile::new("AKIAEXAMPLE"), KeyFile::new("good.token"));
    let signed = provider(&address, &key, "");
    let session = request("call = \"get-session-token\"", 86_400);
    assert!(mint(&signed, &session).await.1.is_ok());
    let allow = "policy = { Statement = { Effect = \"Allow\", Action = \"*\", Resource = \"*\" } }";
    let federated = request(&format!("call = \"get-federation-token\"\n{allow}"), 900);
    assert!(mint(&signed, &federated).await.1.is_ok());
    let web = format!("source = {{ web_identity_token_file = \"{}\" }}", token.0.display());
    let by_token = request(&format!("call = \"assume-role-with-web-identity\"\n{ROLE}"), 900);
    assert!(mint(&provider(&address, &key, &web), &by_token).await.1.is_ok());
    let stale = KeyFile::new("old.token");
    let web = format!("source = {{ web_identity_token_file = \"{}\" }}", stale.0.display());
    let error = mint(&provider(&address, &key, &web), &by_token).await.1.err().unwrap();
    assert!(error.what.contains("token has expired"), "{error}");
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen[0]["DurationSeconds"], "36000", "no longer than the session");
        assert!((2..=32).contains(&seen[1]["Name"].len()));
    }
    // With keys alone nothing can be asked that needs a token.
    let error = mint(&signed, &by_token).await.1.err().unwrap();
    assert!(error.what.contains("no web identity token"), "{error}");
}

#[tokio::test]
async fn faults() {
    let throttled = (400, "Throttling", "Rate exceeded");
    for (faults, ttl, ahead, want) in [
        (vec![(400, "PackedPolicyTooLarge", "Packed size: 113%")], 900, 0, Some("at 113 %")),
        (
            vec![(403, "AccessDenied", "perform: sts:TagSession on")],
            900,
            0,
            Some("session tags are not allowed"),
        ),
        (vec![], 7200, 0, Some("does not allow so long")),
        (vec![throttled; 3], 900, 0, Some("come back later")),
        (vec![throttled, throttled], 900, 0, None),
        (vec![(500, "InternalFailure", "")], 900, 0, None),
        (
            vec![(403, "SignatureDoesNotMatch", "Signature expired: x is earlier")],
            900,
            0,
            Some("clock differs"),
        ),
        (vec![], 900, 600, Some("clock is 600 s behind")),
        (vec![], 900, -600, Some("clock is 600 s ahead")),
    ] {
        let (address, _) = double(Plan { faults, ahead, ..usual() }).await;
        let key = KeyFile::new("AKIAEXAMPLE");
        let result = mint(&provider(&address, &key, ""), &request(ROLE, ttl)).await.1;
        match (result, want) {
            (Ok(_), None) => {}
            (Err(error), Some(want)) => {
                let close = want
                    .strip_suffix(" behind")
                    .or(want.strip_suffix(" ahead"))
                    .map(|w| w.replace("600", "601"));
                let near =
                    close.is_some_and(|close| error.what.contains(&close) || error.what.contains("599 s"));
                assert!(error.what.contains(want) || near, "{error}");
                assert!(!format!("{error} {}", error.hint).contains("CANARY"), "{error}");
            }
            (result, want) => unreachable!("{:?}, not {want:?}", result.err()),
        }
    }
}

#[tokio::test]
async fn what_is_said_of_a_session_that_may_not_exist() {
    let key = KeyFile::new("AKIAEXAMPLE");
    // Refused: nothing was made, and it is said once.
    let (address, _) = double(Plan { faults: vec![(403, "AccessDenied", "")], ..usual() }).await;
    let refusing = provider(&address, &key, "");
    let (handle, issued) = mint(&refusing, &request(ROLE, 900)).await;
    assert!(issued.is_err());
    assert_eq!(refusing.revoke(&handle).await, Ok(Revocation::NeverMade));
    // Nobody answers: nothing is certain.
    let down = provider("http://127.0.0.1:1", &key, "");
    let (handle, issued) = mint(&down, &request(ROLE, 900)).await;
    assert_eq!(issued.err().unwrap().blame, Blame::Unreachable);
    let Ok(Revocation::ExpiresAt(Some(until))) = down.revoke(&handle).await else {
        unreachable!("it may be")
    };
    let left = until.as_second() - Timestamp::now().as_second();
    assert!((880..=911).contains(&left), "{left}");
    // It was made and is not handed out, as STS's clock is ahead: it lives as long as STS said.
    let (address, _) = double(Plan { ahead: 600, ..usual() }).await;
    let apart = provider(&address, &key, "");
    let (handle, issued) = mint(&apart, &request(ROLE, 900)).await;
    assert!(issued.is_err());
    for _ in 0..2 {
        let Ok(Revocation::ExpiresAt(Some(until))) = apart.revoke(&handle).await else {
            unreachable!("it is there")
        };
        let left = until.as_second() - Timestamp::now().as_second();
        assert!((1480..=1501).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn a_deny_hook_is_told_and_believed() {
    let (address, _) = double(usual()).await;
    let key = KeyFile::new("AKIAEXAMPLE");
    let hook = |script: &str| format!("deny = {{ command = [\"/bin/sh\", \"-c\", \"{script}\"] }}");
    let denying = provider(&address, &key, &hook("exit 0"));
    let issued = mint(&denying, &request(ROLE, 900)).await.1.unwrap();
    let Ok(Revocation::Denied { by, .. }) = denying.revoke(&issued.handle).await else {
        unreachable!("denied")
    };
    assert_eq!(by, Denier::Command);
    let failing = provider(&address, &key, &hook("exit 7"));
    let error = failing.revoke(&issued.handle).await.err().unwrap();
    assert!(error.what.contains("status 7"), "{error}");
    // Once it has ended by itself, nobody needs to be told.
    let mut old = Held::read(&issued.handle, "aws").unwrap();
    old.until = Timestamp::UNIX_EPOCH;
    assert_eq!(
        failing.revoke(&old.to_handle()).await,
        Ok(Revocation::ExpiresAt(Some(Timestamp::UNIX_EPOCH)))
    );
}

/// The answer of whoever denies is looked at for its status only, and a redirect is none.
#[tokio::test]
async fn a_deny_url_is_told_and_believed() {
    let (address, _) = double(usual()).await;
    let key = KeyFile::new("AKIAEXAMPLE");
    for (answer, want) in [
        ("204 No", Ok(Denier::Url)),
        ("200 OK\r\nContent-Length: 6\r\n\r\nCANARY", Ok(Denier::Url)),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", Err("answered with status 302")),
        ("500 No", Err("answered with status 500")),
        ("403 CANARY", Err("answered with status 403")),
    ] {
        let (url, told) = denier(answer).await;
        let denying = provider(&address, &key, &format!("deny = {{ url = \"{url}\" }}"));
        let issued = mint(&denying, &request(ROLE, 900)).await.1.unwrap();
        match (denying.revoke(&issued.handle).await, want) {
            (Ok(Revocation::Denied { by, until }), Ok(want)) => {
                assert_eq!((by, Some(until)), (want, issued.expires_at));
            }
            (Err(error), Err(want)) => {
                assert!(error.what.contains(want) && !format!("{error:?}").contains("CANARY"), "{error}");
            }
            (got, want) => unreachable!("{got:?}, not {want:?}"),
        }
        let told = told.lock().unwrap().clone();
        let (head, body) = told.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /deny?a=b HTTP/1.1\r\n"), "{head}");
        let facts: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(facts["session_name"], issued.handle.0["session_name"]);
        assert_eq!((&facts["provider"], &facts["account"]), (&"aws".into(), &"123456789012".into()));
        assert!(!told.contains("secret-1") && !told.contains("token-1"), "{told}");
    }
    let nobody = provider(&address, &key, "deny = { url = \"http://127.0.0.1:1/deny\" }");
    let issued = mint(&nobody, &request(ROLE, 900)).await.1.unwrap();
    let error = nobody.revoke(&issued.handle).await.err().unwrap();
    assert!(error.what.contains("cannot be reached"), "{error}");
}

/// Answers one request like that. Where, and what it was told.
async fn denier(answer: &str) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/deny?a=b", listener.local_addr().unwrap());
    let told = Arc::new(Mutex::new(String::new()));
    let (noted, answer) = (Arc::clone(&told), format!("HTTP/1.1 {answer}\r\nConnection: close\r\n\r\n"));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        // The facts are one object, and the last that is sent.
        while !text.ends_with('}') {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).await.unwrap();
            text.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
        noted.lock().unwrap().push_str(&text);
        stream.write_all(answer.as_bytes()).await.unwrap();
    });
    (url, told)
}

#[tokio::test]
async fn a_named_profile_of_one_file_signs() {
    let (address, seen) = double(usual()).await;
    let key = KeyFile::new("AKIAEXAMPLE");
    let file = KeyFile::new(
        "[profile work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = work-secret\n\
         [profile metadata]\nrole_arn = arn:aws:iam::123456789012:role/x\ncredential_source = Ec2InstanceMetadata\n",
    );
    let by = |name: &str| {
        let source = format!("source = {{ profile = \"{name}\", file = \"{}\" }}", file.0.display());
        provider(&address, &key, &source)
    };
    assert!(mint(&by("work"), &request(ROLE, 900)).await.1.is_ok());
    let signed = seen.lock().unwrap()[0]["Authorization"].clone();
    assert!(signed.contains("Credential=AKIAWORK/"), "{signed}");
    // One that is not there, and one that would have to ask the metadata service, which nobody allowed.
    for name in ["home", "metadata"] {
        let keyless = by(name);
        let (handle, issued) = mint(&keyless, &request(ROLE, 900)).await;
        let error = issued.err().unwrap();
        assert_eq!(error.blame, Blame::Identity, "{name}: {error}");
        assert!(error.what.contains("has no keys of its own") && !error.what.contains("work-secret"));
        assert_eq!(keyless.revoke(&handle).await, Ok(Revocation::NeverMade), "nothing was asked of STS");
    }
    assert_eq!(seen.lock().unwrap().len(), 1, "STS was not asked without keys");
}

#[tokio::test]
async fn a_role_that_was_assumed_by_a_role_lives_an_hour() {
    let chained =
        "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.";
    let (address, _) = double(Plan { faults: vec![(400, "ValidationError", chained)], ..usual() }).await;
    let key = KeyFile::new("AKIAEXAMPLE");
    let chaining = provider(&address, &key, "");
    let (handle, issued) = mint(&chaining, &request(ROLE, 3600)).await;
    let error = issued.err().unwrap();
    assert!(format!("{error}; {}", error.hint).contains("one hour at most"), "{error}; {}", error.hint);
    assert_eq!(chaining.revoke(&handle).await, Ok(Revocation::NeverMade));
}

#[tokio::test]
async fn health() {
    let (address, _) = double(usual()).await;
    let key = KeyFile::new("AKIAEXAMPLE");
    let healthy = provider(&address, &key, "").health().await.unwrap();
    assert_eq!(healthy.detail, "eu-central-1, account 123456789012, as a user");
}

#[test]
fn schemas_name_the_keys() {
    for text in [KIND.reader.provider_schema, KIND.reader.credential_schema] {
        assert!(serde_json::from_str::<serde_json::Value>(text).unwrap().is_object());
    }
}
