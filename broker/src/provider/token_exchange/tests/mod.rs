//! The provider against a strict double of an authorization server: what is asked for, what is taken, what is refused
//! and revoked, and what is said of a token in the end.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use mcp_broker_proto::names::{LaunchId, LeaseId, SessionId};
use toml::de::DeTable;

use super::*;
use crate::clock::SystemClock;
use crate::config::diagnostic::Sink;
use crate::config::{Mode, Reader};
use crate::provider::{Blame, Denier, Proof, jwt};

mod double;

use double::{CANARY, CLIENT, Double, Plan, SECRET};

/// What the readers find wrong, or what they read.
fn read<T>(text: &str, read: impl FnOnce(&Reader<'_>) -> Option<T>) -> Result<T, String> {
    let sink = Sink::new(Path::new("f.toml"), text.to_owned());
    let table = DeTable::parse(text).unwrap();
    let reader = Reader::new(&sink, table.get_ref(), 0..text.len(), "t".to_owned());
    let value = read(&reader);
    if value.is_some() {
        reader.finish();
    }
    let found: String = sink.into_found().iter().map(ToString::to_string).collect();
    if found.is_empty() { Ok(value.unwrap()) } else { Err(found) }
}

/// A file of the broker's own, gone at the end.
struct Kept(std::path::PathBuf);

impl Kept {
    fn new(content: &str) -> Self {
        use std::io::Write;
        use std::os::unix::fs::OpenOptionsExt;
        let path = std::env::temp_dir().join(format!("mcp-broker-oauth-{}", LeaseId::fresh()));
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(&path).unwrap();
        file.write_all(content.as_bytes()).unwrap();
        Self(path)
    }

    fn source(&self) -> String {
        format!("{{ file = {:?} }}", self.0)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn deps(name: &str, peers: &Peers, state_dir: &Path) -> BuildDeps {
    BuildDeps {
        name: name.parse().unwrap(),
        clock: Arc::new(SystemClock),
        state_dir: state_dir.to_owned(),
        peers: peers.clone(),
    }
}

fn built(text: &str, peers: &Peers) -> Arc<dyn Provider> {
    let config = read(text, |reader| settings::read(reader, Mode::User)).unwrap();
    build(&*config, &deps("idp", peers, &std::env::temp_dir())).unwrap()
}

/// A provider of that double, which finds it by its metadata.
fn provider(double: &Double, extra: &str) -> (Arc<dyn Provider>, Kept) {
    let secret = Kept::new(SECRET);
    let text = format!(
        "issuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclient_secret = {}\n{extra}",
        double.address,
        secret.source()
    );
    (built(&text, &Peers::default()), secret)
}

const CLIENT_CREDENTIALS: &str = "grant_type = \"client_credentials\"\nscope = \"a b\"\n";

fn request(keys: &str) -> MintRequest {
    let settings = read(keys, credential::read).unwrap().settings;
    MintRequest {
        lease: LeaseId::fresh(),
        launch: LaunchId::fresh(),
        session: SessionId::fresh(),
        user: "alice".to_owned(),
        server: "orders".parse().unwrap(),
        scope: "read".parse().unwrap(),
        spec: CredentialSpec {
            name: "api".parse().unwrap(),
            provider: "idp".parse().unwrap(),
            ttl: Duration::from_secs(120),
            settings,
        },
        horizon: Duration::from_secs(36_000),
        delivered: Vec::new(),
        refreshes: false,
    }
}

async fn mint(provider: &Arc<dyn Provider>, keys: &str) -> (Handle, Result<Issued, ProviderError>) {
    let request = request(keys);
    let prepared = provider.prepare(&request, None).await.unwrap();
    (prepared.handle.clone(), provider.issue(&request, prepared).await)
}

async fn minted(provider: &Arc<dyn Provider>) -> Issued {
    mint(provider, CLIENT_CREDENTIALS).await.1.unwrap()
}

fn field(issued: &Issued, name: &str) -> String {
    // EXPOSE: invented values of this test.
    issued.fields[name].expose(str::to_owned)
}

fn left(until: Timestamp) -> i64 {
    until.as_second() - Timestamp::now().as_second()
}

#[tokio::test]
async fn client_credentials_from_the_request_to_the_proof() {
    let double = Double::start(Plan { oidc_only: true, ..Plan::default() }).await;
    let (provider, _secret) = provider(&double, "");
    let issued = minted(&provider).await;
    let asked = &double.asked("/token")[0];
    let basic = STANDARD.encode("broker+1:s%2Bc%3Ar%25t");
    assert_eq!(asked.authorization, format!("Basic {basic}"));
    assert_eq!(
        asked.form.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(),
        ["grant_type=client_credentials", "scope=a b"]
    );
    assert_eq!(field(&issued, "access_token"), "opaque-1");
    assert_eq!((field(&issued, "token_type"), field(&issued, "scope")), ("Bearer".into(), "a b".into()));
    assert_eq!(issued.plain, ["token_type", "scope"]);
    assert_eq!(issued.detail, None);
    assert_eq!(issued.revocability, Revocability::Immediate);
    assert!((115..=120).contains(&left(issued.expires_at.unwrap())) && issued.renewable);
    assert!((595..=600).contains(&left(issued.valid_until.unwrap())));
    assert!(!issued.handle.0.to_string().contains("opaque"));

    let longer = provider.renew(&issued.handle, Duration::from_secs(300)).await.unwrap();
    assert!((295..=300).contains(&left(longer.expires_at)) && longer.renewable);
    let longest = provider.renew(&issued.handle, Duration::from_secs(3000)).await.unwrap();
    assert_eq!((Some(longest.expires_at), longest.renewable), (issued.valid_until, false));

    assert_eq!(provider.revoke(&issued.handle).await, Ok(Revocation::Revoked(Proof::Token)));
    assert_eq!(double.alive(), [""; 0]);
    minted(&provider).await;
    assert_eq!(double.asked("/.well-known/openid-configuration").len(), 1, "metadata is remembered");
}

#[tokio::test]
async fn nothing_is_called_revoked_that_was_not_seen_to_be() {
    let jwt = r#"{"access_token":"aa.bb.cc"}"#;
    let opaque = "access_tokens = \"opaque\"";
    for (plan, extra, revocability, end) in [
        // Checked by its signature alone.
        (Plan { over: jwt, ..Plan::default() }, "", false, "denied"),
        (Plan::default(), "access_tokens = \"jwt\"", false, "denied"),
        (Plan { over: jwt, ..Plan::default() }, opaque, true, "revoked"),
        // Introspection that never knew it proves nothing.
        (Plan { blind: true, ..Plan::default() }, "", false, "denied"),
        (Plan { without: &["introspection_endpoint"], ..Plan::default() }, "", false, "denied"),
        (Plan { without: &["revocation_endpoint"], ..Plan::default() }, "", false, "expires"),
        (Plan { keeps: Some((400, "unsupported_token_type")), ..Plan::default() }, "", true, "expires"),
    ] {
        let double = Double::start(plan).await;
        let (provider, _secret) = provider(&double, extra);
        let issued = minted(&provider).await;
        assert_eq!(issued.revocability == Revocability::Immediate, revocability, "{end}");
        assert_eq!(issued.detail.is_none(), revocability, "why is told: {:?}", issued.detail);
        if let Revocability::Bounded { seconds } = issued.revocability {
            assert!((590..=600).contains(&seconds), "{seconds}");
        }
        let told = match provider.revoke(&issued.handle).await.unwrap() {
            Revocation::Revoked(Proof::Token) => "revoked",
            Revocation::Denied { until, by: Denier::Server } if Some(until) == issued.valid_until => "denied",
            Revocation::ExpiresAt(until) if until == issued.valid_until => "expires",
            other => unreachable!("{other:?}"),
        };
        assert_eq!(told, end);
    }
}

#[tokio::test]
async fn a_server_that_does_not_do_what_it_says_is_asked_again() {
    let double = Double::start(Plan { lies: true, ..Plan::default() }).await;
    let (provider, _secret) = provider(&double, "");
    let issued = minted(&provider).await;
    let error = provider.revoke(&issued.handle).await.unwrap_err();
    assert!(error.what.contains("still takes a token"), "{error}");
    double.change(Plan { keeps: Some((503, "x")), ..Plan::default() });
    let error = provider.revoke(&issued.handle).await.unwrap_err();
    assert_eq!(error.blame, Blame::Busy(Some(Duration::from_secs(7))));
    double.change(Plan::default());
    assert_eq!(provider.revoke(&issued.handle).await, Ok(Revocation::Revoked(Proof::Token)));
}

#[tokio::test]
async fn what_is_more_than_was_asked_for_is_refused_and_revoked() {
    for (over, want) in [
        (r#"{"scope":"a b c"}"#, "a scope that was not asked for"),
        (r#"{"token_type":"DPoP"}"#, "not a bearer token"),
        (r#"{"expires_in":"soon"}"#, "not understood"),
        (r#"{"expires_in":0}"#, "ends at once"),
        (r#"{"expires_in":90000}"#, "later than `longest_life`"),
        (r#"{"access_token":"a b"}"#, "no token has"),
    ] {
        let double = Double::start(Plan { over, ..Plan::default() }).await;
        let (provider, _secret) = provider(&double, "");
        let (handle, issued) = mint(&provider, CLIENT_CREDENTIALS).await;
        let error = issued.err().unwrap();
        assert!(error.what.contains(want) && !error.hint.is_empty(), "{error}");
        assert_eq!(double.alive().len(), 1, "{over}");
        assert_eq!(provider.revoke(&handle).await, Ok(Revocation::Revoked(Proof::Token)), "{over}");
        assert_eq!(double.alive(), [""; 0], "{over}");
    }
    // Introspection says so, where the answer does not.
    let double = Double::start(Plan::default()).await;
    let (provider, _secret) = provider(&double, "");
    let (handle, issued) = mint(&provider, "grant_type = \"client_credentials\"\nscope = \"b\"").await;
    assert!(issued.err().unwrap().what.contains("a scope that was not asked for"));
    assert_eq!(provider.revoke(&handle).await, Ok(Revocation::Revoked(Proof::Token)));
}

#[tokio::test]
async fn less_than_was_asked_for_is_taken_and_told() {
    for (over, without, want) in [
        (r#"{"scope":"a"}"#, &["introspection_endpoint"][..], "a"),
        (r#"{"scope":"a"}"#, &[], "a"),
        ("", &[], "a b"),
    ] {
        let double = Double::start(Plan { over, without, ..Plan::default() }).await;
        let (provider, _secret) = provider(&double, "");
        let issued = minted(&provider).await;
        assert_eq!(field(&issued, "scope"), want);
        let told = issued.detail.is_some_and(|detail| detail.contains("less scope"));
        assert_eq!(told, want == "a", "{over}");
    }
}

#[tokio::test]
async fn a_refresh_token_is_not_kept() {
    let over = r#"{"refresh_token":"refresh-1"}"#;
    for (plan, alive, detail) in [
        (Plan { over, ..Plan::default() }, vec!["opaque-1"], "was revoked"),
        (
            Plan { over, without: &["revocation_endpoint"], ..Plan::default() },
            vec!["opaque-1", "refresh-1"],
            "thrown away",
        ),
    ] {
        let double = Double::start(plan).await;
        let (provider, _secret) = provider(&double, "");
        let issued = minted(&provider).await;
        assert_eq!(double.alive(), alive);
        assert!(issued.detail.as_ref().unwrap().contains(detail), "{:?}", issued.detail);
        assert_eq!(issued.fields.len(), 3);
    }
    // Where both are one grant, there is no token that could be used.
    let double = Double::start(Plan { over, one_grant: true, ..Plan::default() }).await;
    let (provider, _secret) = provider(&double, "");
    let error = mint(&provider, CLIENT_CREDENTIALS).await.1.err().unwrap();
    assert!(error.what.contains("ended the access token"), "{error}");
    // One that could not be revoked at once is revoked with the other at the end.
    let plan = Plan { over, keeps: Some((500, "x")), ..Plan::default() };
    double.change(plan);
    let (handle, issued) = mint(&provider, CLIENT_CREDENTIALS).await;
    assert_eq!(issued.err().unwrap().blame, Blame::Unreachable);
    double.change(Plan::default());
    assert!(provider.revoke(&handle).await.is_ok());
    assert_eq!(double.alive(), [""; 0]);
}

#[tokio::test]
async fn an_end_that_is_not_told_is_the_ttl() {
    let over = r#"{"expires_in":null}"#;
    let blind = Double::start(Plan { over, without: &["introspection_endpoint"], ..Plan::default() }).await;
    let (provider_, _secret) = provider(&blind, "longest_life = \"1h\"");
    let issued = minted(&provider_).await;
    assert!((115..=120).contains(&left(issued.expires_at.unwrap())) && !issued.renewable);
    assert!((3590..=3600).contains(&left(issued.valid_until.unwrap())));
    assert!(issued.detail.unwrap().contains("does not say when it ends"));
    // Introspection tells one, which is held to the same limit.
    let telling = Double::start(Plan { over, ..Plan::default() }).await;
    let (provider, _secret) = provider(&telling, "");
    let error = mint(&provider, CLIENT_CREDENTIALS).await.1.err().unwrap();
    assert!(error.what.contains("later than `longest_life`"), "{error}");
}

#[tokio::test]
async fn what_is_known_of_a_token_that_may_not_exist() {
    // Refused: nothing was made.
    let double = Double::start(Plan { fault: Some((400, "invalid_scope")), ..Plan::default() }).await;
    let (provider, _secret) = provider(&double, "longest_life = \"1h\"");
    let (handle, issued) = mint(&provider, CLIENT_CREDENTIALS).await;
    assert!(issued.is_err());
    assert_eq!(provider.revoke(&handle).await, Ok(Revocation::NeverMade));
    // Told to come back: neither.
    double.change(Plan { fault: Some((429, "x")), ..Plan::default() });
    let (handle, issued) = mint(&provider, CLIENT_CREDENTIALS).await;
    assert_eq!(issued.err().unwrap().blame, Blame::Busy(Some(Duration::from_secs(7))));
    assert_eq!(provider.revoke(&handle).await, Ok(Revocation::NeverMade));
    // The answer got lost, or is trouble of its own: nothing is certain.
    for plan in [
        Plan { hangs_up: true, ..Plan::default() },
        Plan { fault: Some((500, "server_error")), ..Plan::default() },
        Plan { fault: Some((503, "x")), ..Plan::default() },
        Plan { over: r#"{"access_token":null}"#, ..Plan::default() },
    ] {
        double.change(plan);
        let (handle, issued) = mint(&provider, CLIENT_CREDENTIALS).await;
        assert!(issued.err().unwrap().is_passing());
        let Ok(Revocation::ExpiresAt(Some(until))) = provider.revoke(&handle).await else {
            unreachable!("it may be")
        };
        assert!((3600..=3660).contains(&left(until)));
    }
    // Nobody was there to be asked.
    let text = "token_endpoint = \"http://127.0.0.1:1/\"\nclient_id = \"x\"\ntoken_endpoint_auth_method = \"none\"\n";
    let secret = Kept::new("subject");
    let keys = format!(
        "grant_type = \"token-exchange\"\nscope = \"a\"\nsubject_token = {}\nsubject_token_type = \"jwt\"",
        secret.source()
    );
    let down = built(text, &Peers::default());
    let (handle, issued) = mint(&down, &keys).await;
    assert_eq!(issued.err().unwrap().blame, Blame::Unreachable);
    assert_eq!(down.revoke(&handle).await, Ok(Revocation::NeverMade));
}

#[tokio::test]
async fn refusals_have_a_cause_and_a_cure() {
    let (mine, theirs) = (Blame::Config, Blame::Refused);
    for (status, code, blame, what) in [
        (
            401,
            "invalid_client",
            Blame::Identity,
            "does not accept the broker as its client (`invalid_client`)",
        ),
        (
            400,
            "invalid_client",
            Blame::Identity,
            "does not accept the broker as its client (`invalid_client`)",
        ),
        (400, "invalid_scope", theirs, "does not give such a scope (`invalid_scope`)"),
        (400, "invalid_target", theirs, "does not give tokens for this target (`invalid_target`)"),
        (400, "invalid_grant", theirs, "does not accept the request (`invalid_grant`)"),
        (
            400,
            "unauthorized_client",
            theirs,
            "does not let this client use this grant (`unauthorized_client`)",
        ),
        (400, "unsupported_grant_type", mine, "does not know this grant (`unsupported_grant_type`)"),
        (500, "server_error", Blame::Unreachable, "has trouble of its own (`server_error`)"),
        (401, "x", Blame::Identity, "does not accept the broker as its client (status 401)"),
        (403, "x", theirs, "does not allow it (status 403)"),
        (404, "x", mine, "has no such endpoint (status 404)"),
        (502, "x", Blame::Unreachable, "has trouble of its own (status 502)"),
        (302, "x", Blame::Broken, "gave an answer that is not understood (status 302)"),
    ] {
        let double = Double::start(Plan { fault: Some((status, code)), ..Plan::default() }).await;
        let (provider, _secret) = provider(&double, "");
        let error = mint(&provider, CLIENT_CREDENTIALS).await.1.err().unwrap();
        assert_eq!((error.blame, error.what.as_str()), (blame, format!("provider `idp` {what}").as_str()));
        assert!(!error.hint.is_empty() && !error.hint.contains(CANARY), "{}", error.hint);
    }
}

#[tokio::test]
async fn metadata_of_another_is_not_taken() {
    for (plan, blame, want) in [
        (Plan { issuer_end: "/", ..Plan::default() }, Blame::Config, "is another issuer"),
        (Plan { issuer_end: ".example.com", ..Plan::default() }, Blame::Config, "is another issuer"),
    ] {
        let double = Double::start(plan).await;
        let (provider, _secret) = provider(&double, "");
        let error = mint(&provider, CLIENT_CREDENTIALS).await.1.err().unwrap();
        assert_eq!(error.blame, blame);
        assert!(error.what.contains(want), "{error}");
        assert!(double.asked("/token").is_empty());
        // It may be mended there: it is asked for again.
        double.change(Plan::default());
        assert!(mint(&provider, CLIENT_CREDENTIALS).await.1.is_ok());
    }
}

#[tokio::test]
async fn the_secret_in_the_body_and_one_that_is_wrong() {
    let double = Double::start(Plan::default()).await;
    let post = "token_endpoint_auth_method = \"client_secret_post\"";
    let (provider_, _secret) = provider(&double, post);
    minted(&provider_).await;
    let asked = &double.asked("/token")[0];
    assert_eq!((asked.authorization.as_str(), asked.form["client_secret"].as_str()), ("", SECRET));

    let wrong = Kept::new("wrong");
    let text = format!(
        "issuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclient_secret = {}\n",
        double.address,
        wrong.source()
    );
    let refused = built(&text, &Peers::default());
    let (handle, issued) = mint(&refused, CLIENT_CREDENTIALS).await;
    assert_eq!(issued.err().unwrap().blame, Blame::Identity);
    assert_eq!(refused.revoke(&handle).await, Ok(Revocation::NeverMade));
    assert_eq!(refused.health().await.unwrap_err().blame, Blame::Identity);
}

#[tokio::test]
async fn a_client_that_signs() {
    let double = Double::start(Plan::default()).await;
    let key = Kept::new(&pem());
    let text = format!(
        "issuer = \"{}\"\nclient_id = \"{CLIENT}\"\ntoken_endpoint_auth_method = \"private_key_jwt\"\n\
         token_endpoint_auth_signing_alg = \"ES256\"\nprivate_key = {}\n",
        double.address,
        key.source()
    );
    let provider = built(&text, &Peers::default());
    let issued = minted(&provider).await;
    assert_eq!(provider.revoke(&issued.handle).await, Ok(Revocation::Revoked(Proof::Token)));
    let all: std::collections::BTreeSet<_> = ["/token", "/introspect", "/revoke"]
        .iter()
        .flat_map(|path| double.asked(path))
        .map(|asked| claims(&asked.form["client_assertion"])["jti"].to_string())
        .collect();
    assert_eq!(all.len(), 4, "each is used once");
    let text = text.replace("ES256", "RS256");
    let error = mint(&built(&text, &Peers::default()), CLIENT_CREDENTIALS).await.1.err().unwrap();
    assert!(error.what.contains("private key that cannot be used"), "{error}");
}

/// The key of the client that signs.
fn pkcs8() -> &'static [u8] {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
    static KEY: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    KEY.get_or_init(|| {
        let random = aws_lc_rs::rand::SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        key.as_ref().to_vec()
    })
}

fn pem() -> String {
    format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(pkcs8()))
}

/// Whether an assertion is as RFC 7523 section 3 wants it.
fn verified_client(assertion: &str, audience: &str) -> bool {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING};
    use aws_lc_rs::signature::{EcdsaKeyPair, KeyPair, UnparsedPublicKey};
    let (signed, signature) = assertion.rsplit_once('.').unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8()).unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, pair.public_key().as_ref());
    let claims = claims(assertion);
    let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
    public.verify(signed.as_bytes(), &signature).is_ok()
        && claims["iss"] == CLIENT
        && claims["sub"] == CLIENT
        && claims["aud"] == audience
        && claims["jti"].is_string()
        && (1..=60).contains(&(exp - iat))
}

fn claims(token: &str) -> serde_json::Value {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

#[tokio::test]
async fn an_exchange_of_a_token_that_the_broker_signs() {
    let double = Double::start(Plan::default()).await;
    let (peers, secret, actor) = (Peers::default(), Kept::new(SECRET), Kept::new("actor-token"));
    let dir = std::env::temp_dir().join(format!("mcp-broker-oauth-{}", LeaseId::fresh()));
    std::fs::create_dir(&dir).unwrap();
    let issuer = read("issuer = \"https://broker.example.com\"", |reader| {
        (jwt::KIND.reader.provider)(reader, Mode::User)
    });
    let signer = (jwt::KIND.build)(&*issuer.unwrap(), &deps("own", &peers, &dir)).unwrap();
    let text = format!(
        "issuer = \"{}\"\nclient_id = \"{CLIENT}\"\nclient_secret = {}\n",
        double.address,
        secret.source()
    );
    let provider = built(&text, &peers);
    peers.fill(
        &[("own", &signer), ("idp", &provider)]
            .map(|(name, one)| (name.parse().unwrap(), Arc::clone(one)))
            .into(),
    );
    let keys = format!(
        "grant_type = \"token-exchange\"\naudience = \"orders\"\nresource = \"https://api.example.com/\"\n\
         requested_token_type = \"jwt\"\nsubject_token = {{ signed_by = \"own\" }}\n\
         actor_token = {}\nactor_token_type = \"access_token\"\n",
        actor.source()
    );
    let issued = mint(&provider, &keys).await.1.unwrap();
    assert_eq!(field(&issued, "scope"), "a b");
    let form = double.asked("/token")[0].form.clone();
    let uri = |word: &str| format!("urn:ietf:params:oauth:token-type:{word}");
    for (name, want) in [
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
        ("audience", "orders"),
        ("resource", "https://api.example.com/"),
        ("requested_token_type", &uri("jwt")),
        ("subject_token_type", &uri("jwt")),
        ("actor_token", "actor-token"),
        ("actor_token_type", &uri("access_token")),
    ] {
        assert_eq!(form.get(name).map(String::as_str), Some(want), "{name}");
    }
    assert_eq!(form.len(), 8);
    let said = claims(&form["subject_token"]);
    assert_eq!((&said["sub"], &said["aud"]), (&"alice".into(), &double.address.clone().into()));
    assert_eq!((&said["server"], &said["iss"]), (&"orders".into(), &"https://broker.example.com".into()));
    assert_eq!(said["exp"].as_i64().unwrap() - said["iat"].as_i64().unwrap(), 60);

    // Only kinds that sign do.
    let keys = "grant_type = \"token-exchange\"\nscope = \"a\"\nsubject_token = { signed_by = \"idp\" }";
    let error = mint(&provider, keys).await.1.err().unwrap();
    assert!(error.what.contains("signs none") && error.hint.contains("kind `jwt`"), "{error}");
    std::fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_subject_token_that_is_not_good_any_more() {
    let double = Double::start(Plan::default()).await;
    let (provider, _secret) = provider(&double, "");
    let stale = Kept::new("stale");
    let keys = format!(
        "grant_type = \"token-exchange\"\nscope = \"a\"\nsubject_token = {}\nsubject_token_type = \"id_token\"",
        stale.source()
    );
    let (handle, issued) = mint(&provider, &keys).await;
    let error = issued.err().unwrap();
    assert!(error.what.contains("or the token that was shown (`invalid_request`)"), "{error}");
    assert!(error.hint.contains("`subject_token`"), "{}", error.hint);
    assert_eq!(provider.revoke(&handle).await, Ok(Revocation::NeverMade));
}

#[tokio::test]
async fn health_tells_what_cannot_be_proved() {
    for (plan, extra, want) in [
        (Plan::default(), "", None),
        (Plan { without: &["introspection_endpoint"], ..Plan::default() }, "", Some("does not tell whether")),
        (Plan { without: &["revocation_endpoint"], ..Plan::default() }, "", Some("revokes no tokens")),
        (Plan { without: &["revocation_endpoint"], ..Plan::default() }, "access_tokens = \"jwt\"", None),
    ] {
        let double = Double::start(plan).await;
        let (provider, _secret) = provider(&double, extra);
        let healthy = provider.health().await.unwrap();
        assert_eq!(healthy.detail, format!("client {CLIENT}"));
        match (healthy.warning, want) {
            (None, None) => {}
            (Some((what, _)), Some(want)) => assert!(what.contains(want), "{what}"),
            (got, want) => unreachable!("{got:?}, not {want:?}"),
        }
    }
}

/// The keys of a provider that are always there, and then these.
fn check_provider(text: &str) -> Result<(), String> {
    read(text, |reader| settings::read(reader, Mode::User)).map(drop)
}

#[test]
fn mistakes_in_the_provider_are_found() {
    let id = "client_id = \"x\"\nclient_secret = { file = \"/s\" }\n";
    let issuer = "issuer = \"https://id.example.com/\"\n";
    for (text, want) in [
        (format!("{issuer}{id}"), None),
        (
            format!(
                "token_endpoint = \"https://id.example.com/t\"\nrevocation_endpoint = \"https://id.example.com/r\"\n{id}"
            ),
            None,
        ),
        (id.to_owned(), Some("`t.issuer` is missing")),
        (format!("issuer = \"http://id.example.com/\"\n{id}"), Some("is not encrypted")),
        (format!("token_endpoint = \"http://10.0.0.1/t\"\n{id}"), Some("is not encrypted")),
        (
            format!("{issuer}token_endpoint = \"https://id.example.com/t\"\n{id}"),
            Some("does not go with `issuer`"),
        ),
        (
            format!("{issuer}revocation_endpoint = \"https://id.example.com/t\"\n{id}"),
            Some("does not go with `issuer`"),
        ),
        (format!("{issuer}client_id = \"x\"\n"), Some("`t.client_secret` is missing")),
        (format!("{issuer}client_id = \"\"\nclient_secret = {{ file = \"/s\" }}\n"), Some("is not an id")),
        (format!("{issuer}token_endpoint_auth_method = \"none\"\n"), None),
        (format!("{issuer}{id}token_endpoint_auth_method = \"none\"\n"), Some("does not go with this")),
        (format!("{issuer}{id}private_key = {{ file = \"/k\" }}\n"), Some("does not go with this")),
        (format!("{issuer}{id}token_endpoint_auth_method = \"tls_client_auth\"\n"), Some("not known")),
        (format!("{issuer}{id}longest_life = \"10s\"\n"), Some("out of range")),
        (format!("{issuer}{id}access_tokens = \"x\"\n"), Some("not known")),
        (format!("{issuer}{id}secret = \"x\"\n"), Some("secret")),
    ] {
        let got = check_provider(&text);
        match want {
            None => assert_eq!(got, Ok(()), "{text}"),
            Some(want) => assert!(got.as_ref().is_err_and(|found| found.contains(want)), "{text}: {got:?}"),
        }
    }
}

#[test]
fn mistakes_in_a_credential_are_found() {
    let exchange = "grant_type = \"token-exchange\"\nscope = \"a\"\n";
    let signed = "subject_token = { signed_by = \"own\" }\n";
    for (text, want) in [
        (CLIENT_CREDENTIALS.to_owned(), None),
        (format!("{exchange}{signed}"), None),
        (
            format!(
                "{exchange}subject_token = {{ provider = \"s\", path = \"P\" }}\nsubject_token_type = \"jwt\"\n"
            ),
            None,
        ),
        ("scope = \"a\"\n".to_owned(), Some("`t.grant_type` is missing")),
        ("grant_type = \"client_credentials\"\n".to_owned(), Some("narrows the token to nothing")),
        ("grant_type = \"client_credentials\"\naudience = \"x\"\n".to_owned(), None),
        ("grant_type = \"password\"\nscope = \"a\"\n".to_owned(), Some("not known")),
        ("grant_type = \"client_credentials\"\nscope = \"a  b\"\n".to_owned(), Some("does not belong there")),
        (
            "grant_type = \"client_credentials\"\nscope = \"a\\\"b\"\n".to_owned(),
            Some("does not belong there"),
        ),
        (
            "grant_type = \"client_credentials\"\nresource = \"orders\"\n".to_owned(),
            Some("does not belong there"),
        ),
        (
            "grant_type = \"client_credentials\"\nresource = \"https://a/#b\"\n".to_owned(),
            Some("does not belong there"),
        ),
        (format!("{CLIENT_CREDENTIALS}{signed}"), Some("does not go with client_credentials")),
        (exchange.to_owned(), Some("`t.subject_token` is missing")),
        (
            format!("{exchange}subject_token = {{ file = \"/t\" }}\n"),
            Some("`t.subject_token_type` is missing"),
        ),
        (format!("{exchange}subject_token = {{}}\nsubject_token_type = \"jwt\"\n"), Some("needs either")),
        (format!("{exchange}{signed}requested_token_type = \"id_token\"\n"), Some("not known")),
        (format!("{exchange}{signed}actor_token_type = \"jwt\"\n"), Some("actor_token_type")),
    ] {
        let got = read(&text, credential::read).map(drop);
        match want {
            None => assert_eq!(got, Ok(()), "{text}"),
            Some(want) => assert!(got.as_ref().is_err_and(|found| found.contains(want)), "{text}: {got:?}"),
        }
    }
}

/// A key that is read and not described, or described and not read, is a mistake in one of the two.
#[test]
fn schemas_name_the_keys() {
    for (text, keys) in [(KIND.reader.provider_schema, 12), (KIND.reader.credential_schema, 9)] {
        let schema: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(schema.as_object().unwrap().len(), keys);
    }
}

/// The fence falls while the server is asked: what comes then is revoked, and nothing is said of it before.
#[tokio::test]
async fn a_token_that_nobody_waits_for_is_revoked() {
    let double = Double::start(Plan { waits: true, ..Plan::default() }).await;
    let (provider, _secret) = provider(&double, "");
    let request = request(CLIENT_CREDENTIALS);
    let prepared = provider.prepare(&request, None).await.unwrap();
    let handle = prepared.handle.clone();
    let made = async {
        while double.alive().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = provider.issue(&request, prepared) => unreachable!("nobody answers"),
        () = made => {}
    }
    let early = provider.revoke(&handle).await.unwrap_err();
    assert_eq!(early.blame, Blame::Busy(Some(end::SOON)), "{early}");
    double.gate.notify_one();
    let ended = loop {
        match provider.revoke(&handle).await {
            Err(error) if matches!(error.blame, Blame::Busy(_)) => tokio::task::yield_now().await,
            done => break done.unwrap(),
        }
    };
    assert!(!matches!(ended, Revocation::ExpiresAt(_) | Revocation::NeverMade), "{ended:?}");
    assert!(double.alive().is_empty());
}
