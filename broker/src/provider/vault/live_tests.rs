//! The provider against a real OpenBao and a real PostgreSQL. `BAO_BIN` names the `bao` binary; without it
//! these tests fail. They prove nothing about Vault itself, nor about clusters and standby nodes.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mcp_broker_proto::Secret;
use mcp_broker_proto::session::Revocability;
use serde_json::{Value, json};

use super::Vault;
use super::fault::Complaint;
use super::handle::{Held, Kind};
use super::settings::{AuthMethod, ServerSettings};
use crate::clock::{Clock, SystemClock};
use crate::provider::{Blame, Handle, Issued, Parent, Proof, Provider, ProviderError, Revocation};

#[path = "live_world.rs"]
mod world;

use world::{Bao, Postgres, provider, request, tag, text_of, with_clock};

const PATH: &str = "database/creds/orders-ro";

fn plain(secret: &Secret) -> String {
    // EXPOSE: a value of a test server that ends with the test.
    secret.expose(str::to_owned)
}

fn held(handle: &Handle, vault: &Vault) -> Held {
    Held::read(handle, &vault.name).unwrap()
}

fn lease_of(handle: &Handle, vault: &Vault) -> String {
    match held(handle, vault).kind {
        Kind::Child { lease_id: Some(lease), .. } => lease,
        kind => unreachable!("no lease: {kind:?}"),
    }
}

async fn session(vault: &Vault) -> Parent {
    vault.open_session(&tag()).await.unwrap().unwrap()
}

async fn mint(vault: &Vault, parent: &Parent, path: &str, policy: &str) -> Result<Issued, ProviderError> {
    let request = request(path, policy);
    let prepared = vault.prepare(&request, Some(parent)).await?;
    vault.issue(&request, prepared).await
}

fn blame<T>(result: Result<T, ProviderError>, want: Blame, word: &str) -> ProviderError {
    let Err(error) = result else { unreachable!("expected {want:?}: {word}") };
    assert_eq!(error.blame, want, "{error} | {}", error.hint);
    assert!(error.what.contains(word) || error.hint.contains(word), "{error} | {}", error.hint);
    error
}

async fn with_database() -> (Bao, Postgres, Vault) {
    let (bao, postgres) = (Bao::start().await, Postgres::start());
    postgres.serve(&bao);
    bao.policy("orders-ro", PATH).await;
    bao.set_up(&["--launch-policies", "orders-ro"]);
    let vault = bao.provider();
    (bao, postgres, vault)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_user_lives_for_one_launch() {
    let (bao, postgres, vault) = with_database().await;
    let health = vault.health().await.unwrap();
    assert!(health.detail.starts_with("OpenBao 2.") && health.warning.is_none(), "{health:?}");

    let parent = session(&vault).await;
    assert_eq!(parent.period, Duration::from_secs(10));
    let asked = request(PATH, "orders-ro");
    assert_eq!(vault.revocability(&asked.spec), Revocability::Immediate);
    let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
    let child = held(&prepared.handle, &vault).accessor;
    let seen = bao.admin("POST", "auth/token/lookup-accessor", json!({ "accessor": child })).await;
    let data = seen.get("data").unwrap();
    assert_eq!(data.pointer("/meta/server"), Some(&json!("orders-db")));
    assert_eq!(data.pointer("/policies"), Some(&json!(["orders-ro"])), "no default policy");

    let issued = vault.issue(&asked, prepared).await.unwrap();
    let (user, password) =
        (plain(issued.fields.get("username").unwrap()), plain(issued.fields.get("password").unwrap()));
    assert_eq!(postgres.minted(), 1);
    let read = postgres.psql(&user, &password, &["-Atc", "select count(*) from notes"]);
    assert!(read.status.success(), "{}", text_of(&read));
    let mut open = postgres.sleeper(&user, &password);

    // The role says an hour, the credential a quarter.
    let lease = lease_of(&issued.handle, &vault);
    let life = vault.lease_life(&lease, super::gate::Urgency::Normal).await.unwrap().unwrap();
    assert!((890..=900).contains(&life.as_secs()), "{life:?}");
    let said = issued.expires_at.unwrap().duration_since(SystemClock.now()).as_secs();
    assert!((890..=900).contains(&said) && issued.renewable, "{said}");

    assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::Revoked(Proof::LeaseAndToken));
    assert_eq!(postgres.minted(), 0);
    assert!(!open.wait().unwrap().success(), "the open connection is cut");
    assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::AlreadyGone(Proof::LeaseAndToken));

    assert_eq!(vault.renew_session(&parent).await.unwrap(), Duration::from_secs(10));
    assert_eq!(vault.revoke(&parent.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
    assert_eq!(vault.revoke(&parent.handle).await.unwrap(), Revocation::AlreadyGone(Proof::Token));
    blame(vault.renew_session(&parent).await, Blame::Refused, "no longer knows");
    blame(mint(&vault, &parent, PATH, "orders-ro").await.map(drop), Blame::Refused, "begin a new session");
}

#[tokio::test(flavor = "multi_thread")]
async fn renewals_say_the_true_end() {
    let (bao, postgres, vault) = with_database().await;
    let parent = session(&vault).await;
    let seconds = |end: jiff::Timestamp| end.duration_since(SystemClock.now()).as_secs();

    let issued = mint(&vault, &parent, PATH, "orders-ro").await.unwrap();
    let longer = vault.renew(&issued.handle, Duration::from_secs(1800)).await.unwrap();
    assert!((1790..=1800).contains(&seconds(longer.expires_at)) && longer.renewable, "{longer:?}");

    // The role's own maximum caps it.
    bao.admin("POST", "database/roles/orders-ro", json!({ "max_ttl": "60s", "default_ttl": "50s" })).await;
    let short = mint(&vault, &parent, PATH, "orders-ro").await.unwrap();
    let capped = vault.renew(&short.handle, Duration::from_secs(1800)).await.unwrap();
    assert!((50..=60).contains(&seconds(capped.expires_at)) && !capped.renewable, "{capped:?}");

    // The session ends before the lease would.
    let mut asked = request(PATH, "orders-ro");
    asked.horizon = Duration::from_secs(20);
    let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
    let last = vault.issue(&asked, prepared).await.unwrap();
    assert!((10..=20).contains(&seconds(last.expires_at.unwrap())) && !last.renewable);
    let last = vault.renew(&last.handle, Duration::from_secs(900)).await.unwrap();
    assert!(seconds(last.expires_at) <= 20 && !last.renewable, "{last:?}");

    // Gone behind our back.
    let lease = lease_of(&issued.handle, &vault);
    bao.admin("PUT", "sys/leases/revoke", json!({ "lease_id": lease, "sync": true })).await;
    blame(
        vault.renew(&issued.handle, Duration::from_secs(60)).await,
        Blame::Refused,
        "no longer knows the lease",
    );
    assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::Revoked(Proof::LeaseAndToken));

    assert_eq!(vault.revoke(&parent.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
    until("the rest goes with the session", || postgres.minted() == 0).await;
    assert_eq!(vault.revoke(&short.handle).await.unwrap(), Revocation::AlreadyGone(Proof::LeaseAndToken));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_claimed_while_the_database_is_down() {
    let (_bao, postgres, vault) = with_database().await;
    let parent = session(&vault).await;
    let issued = mint(&vault, &parent, PATH, "orders-ro").await.unwrap();
    let unused = vault.prepare(&request(PATH, "orders-ro"), Some(&parent)).await.unwrap();
    postgres.down();
    blame(vault.revoke(&issued.handle).await, Blame::Broken, "could not revoke a lease");
    let failed = mint(&vault, &parent, PATH, "orders-ro").await.map(drop);
    blame(failed, Blame::Broken, "the database behind the path may be down");
    assert_eq!(vault.revoke(&unused.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
    postgres.up();
    let end = Instant::now() + Duration::from_secs(60);
    let revocation = loop {
        match vault.revoke(&issued.handle).await {
            Ok(revocation) => break revocation,
            Err(error) => assert!(Instant::now() < end, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let proof = Proof::LeaseAndToken;
    // The server's own queue may have been quicker.
    assert!(revocation == Revocation::Revoked(proof) || revocation == Revocation::AlreadyGone(proof));
    assert_eq!(postgres.minted(), 0);
}

/// Every read is slowed to 1.5 s by the database, its asker goes away after 0.3 s, and the revocation comes
/// at once. Without the wait the user would outlive the token.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_is_revoked_under_a_read() {
    let (bao, postgres, vault) = with_database().await;
    let slow = "SELECT pg_sleep(1.5); CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_ro;";
    bao.admin("POST", "database/roles/orders-ro", json!({ "creation_statements": slow })).await;
    for revoke_parent in [false, true] {
        let parent = session(&vault).await;
        let asked = request(PATH, "orders-ro");
        let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
        let handle = prepared.handle.clone();
        let left = tokio::time::timeout(Duration::from_millis(300), vault.issue(&asked, prepared)).await;
        assert!(left.is_err(), "the read is slow");
        let ended = if revoke_parent { &parent.handle } else { &handle };
        let revocation = vault.revoke(ended).await.unwrap();
        let proof = if revoke_parent { Proof::Token } else { Proof::LeaseAndToken };
        assert_eq!(revocation, Revocation::Revoked(proof));
        // A parent's leases follow it in the background.
        until("no user is left", || postgres.minted() == 0).await;
        vault.revoke(&handle).await.unwrap();
        let left = bao.try_admin("LIST", "sys/leases/lookup/database/creds/orders-ro", Value::Null, "").await;
        assert_eq!(left.0, 404, "a lease is left: {}", left.1);
    }
    // Slow enough for a user that nobody knew of to have been made.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(postgres.minted(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_lease_is_withheld_not_revoked() {
    let bao = Bao::start().await;
    let value = json!({ "data": { "key": "s3cret", "limits": { "n": [1, 2] } } });
    bao.admin("POST", "kv/data/weather", value).await;
    bao.policy("weather", "kv/data/weather").await;
    bao.policy("cubby", "cubbyhole/*").await;
    bao.policy("absent", "kv/data/absent").await;
    bao.set_up(&["--launch-policies", "weather,cubby,absent"]);
    let vault = bao.provider();
    let parent = session(&vault).await;

    let asked = request("kv/data/weather", "weather");
    assert_eq!(vault.revocability(&asked.spec), Revocability::None);
    let prepared = vault.prepare(&asked, Some(&parent)).await.unwrap();
    let child = prepared.handle.clone();
    let issued = vault.issue(&asked, prepared).await.unwrap();
    assert_eq!(plain(issued.fields.get("key").unwrap()), "s3cret");
    assert_eq!(plain(issued.fields.get("limits").unwrap()), r#"{"n":[1,2]}"#);
    assert_eq!((issued.expires_at, issued.renewable), (None, false));
    assert_eq!(
        vault.revoke(&child).await.unwrap(),
        Revocation::AlreadyGone(Proof::Token),
        "its reader is gone"
    );
    assert_eq!(vault.revoke(&issued.handle).await.unwrap(), Revocation::ExpiresAt(None));

    let refused = mint(&vault, &parent, "kv/data/other", "weather").await.map(drop);
    let error = blame(refused, Blame::Refused, "kv/data/other");
    assert!(error.hint.contains("weather"), "{}", error.hint);
    blame(
        mint(&vault, &parent, "kv/data/absent", "absent").await.map(drop),
        Blame::Missing,
        "kv/data/absent",
    );
    blame(mint(&vault, &parent, "cubbyhole/x", "cubby").await.map(drop), Blame::Missing, "cubbyhole/x");
    let foreign = mint(&vault, &parent, "kv/data/weather", "mcp-broker").await.map(drop);
    blame(foreign, Blame::Refused, "--launch-policies");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_server_proves_nothing() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    let vault = bao.provider();
    let parent = session(&vault).await;
    bao.admin("PUT", "sys/seal", Value::Null).await;
    for result in [vault.revoke(&parent.handle).await.map(drop), vault.renew_session(&parent).await.map(drop)]
    {
        blame(result, Blame::Unreachable, "is sealed");
    }
    blame(vault.health().await, Blame::Unreachable, "is sealed");
    blame(bao.provider().open_session(&tag()).await.map(drop), Blame::Unreachable, "is sealed");
    drop(bao);
    blame(vault.revoke(&parent.handle).await, Blame::Unreachable, "cannot be reached");
}

/// Permission denied must not pass for "no such accessor".
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_permission_proves_nothing() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    let vault = bao.provider();
    let parent = session(&vault).await;
    let text = std::fs::read_to_string("../deploy/vault/policies/mcp-broker.hcl").unwrap();
    let less = text.replace("auth/token/lookup-accessor", "auth/token/not-lookup-accessor");
    bao.admin("PUT", "sys/policies/acl/mcp-broker", json!({ "policy": less })).await;
    let error = blame(vault.revoke(&parent.handle).await, Blame::Identity, "looking up a token");
    assert!(error.hint.contains("setup.sh --check"), "{}", error.hint);
    let checked = bao.script("setup.sh", &["--check", "--period", "10s"]);
    assert!(
        !checked.status.success() && text_of(&checked).contains("cannot look up accessors"),
        "{}",
        text_of(&checked)
    );
    bao.admin("PUT", "sys/policies/acl/mcp-broker", json!({ "policy": text })).await;
    assert_eq!(vault.revoke(&parent.handle).await.unwrap(), Revocation::AlreadyGone(Proof::Token));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_is_a_world_of_its_own() {
    let bao = Bao::start().await;
    bao.admin("POST", "sys/namespaces/team-a", json!({})).await;
    let text = "path \"kv/data/x\" { capabilities = [\"read\"] }";
    for (path, body) in [
        ("sys/mounts/kv", json!({"type":"kv","options":{"version":"2"}})),
        ("kv/data/x", json!({"data":{"key":"of team a"}})),
        ("sys/policies/acl/x", json!({ "policy": text })),
    ] {
        let (status, answer) = bao.try_admin("POST", path, body, "team-a").await;
        assert!(status < 300, "{path}: {answer}");
    }
    bao.set_up(&["--launch-policies", "x", "--namespace", "team-a"]);
    let inside = provider(ServerSettings { namespace: Some("team-a".into()), ..bao.settings() });
    inside.health().await.unwrap();
    let parent = session(&inside).await;
    let issued = mint(&inside, &parent, "kv/data/x", "x").await.unwrap();
    assert_eq!(plain(issued.fields.get("key").unwrap()), "of team a");

    blame(bao.provider().open_session(&tag()).await.map(drop), Blame::Identity, "auth/approle");
    // Set up outside as well, and asked about a token of the inside: "no such accessor" would be a lie.
    bao.policy("weather", "kv/data/weather").await;
    std::fs::remove_dir_all(bao.dir.path("out")).unwrap();
    bao.set_up(&["--launch-policies", "weather"]);
    blame(bao.provider().revoke(&parent.handle).await, Blame::Config, "not the namespace");
    assert_eq!(inside.revoke(&parent.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_authority_is_trusted() {
    let bao = Bao::start_tls().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    let ca = std::fs::read_dir(bao.dir.path("")).unwrap().filter_map(|entry| entry.ok().map(|e| e.path()));
    let ca = ca.into_iter().find(|path| path.to_string_lossy().ends_with("-ca.pem")).expect("an authority");
    let trusting = provider(ServerSettings { ca_file: Some(ca), ..bao.settings() });
    let parent = session(&trusting).await;
    assert_eq!(trusting.revoke(&parent.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
    blame(bao.provider().health().await, Blame::Config, "ca_file");
}

/// Goes ahead of the machine's clock by so many milliseconds.
struct Ahead(AtomicU64);

impl Clock for Ahead {
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now()
    }
    fn boot(&self) -> Duration {
        SystemClock.boot() + Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

async fn broker_tokens(bao: &Bao) -> usize {
    let (status, answer) =
        bao.try_admin("LIST", "sys/leases/lookup/auth/approle/login", Value::Null, "").await;
    if status == 404 { 0 } else { answer.pointer("/data/keys").and_then(Value::as_array).unwrap().len() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_broker_signs_in_again_by_itself() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    let before = broker_tokens(&bao).await;
    let clock = Arc::new(Ahead(AtomicU64::new(0)));
    let vault = Arc::new(with_clock(bao.settings(), Arc::clone(&clock) as Arc<dyn Clock>));

    // Twenty at once share one login.
    let all: Vec<_> = (0..20)
        .map(|_| {
            let vault = Arc::clone(&vault);
            tokio::spawn(async move { vault.health().await.map(drop) })
        })
        .collect();
    for one in all {
        one.await.unwrap().unwrap();
    }
    assert_eq!(broker_tokens(&bao).await, before + 1);

    // Revoked at the server: a new login.
    bao.admin("PUT", "sys/leases/revoke-prefix/auth/approle/login", json!({ "sync": true })).await;
    let parent = session(&vault).await;
    assert_eq!(broker_tokens(&bao).await, 1);

    // Two thirds of the hour: renewed. Two hours asleep: a new login.
    clock.0.store(45 * 60 * 1000, Ordering::SeqCst);
    vault.health().await.unwrap();
    assert_eq!(broker_tokens(&bao).await, 1, "renewed, not had anew");
    clock.0.store(3 * 3600 * 1000, Ordering::SeqCst);
    vault.health().await.unwrap();
    assert_eq!(broker_tokens(&bao).await, 2);
    // The orphan parent outlives all of them.
    vault.renew_session(&parent).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_set_up_wrong_is_said_with_its_cure() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);

    let wrong_id = AuthMethod::AppRole {
        mount: "approle".into(),
        role_id: "nobody".into(),
        secret_id_file: bao.dir.path("out/secret_id"),
    };
    let wrong = provider(ServerSettings { auth: wrong_id, ..bao.settings() });
    blame(wrong.health().await, Blame::Identity, "role_id");
    let dead = AuthMethod::Token { token_file: bao.dir.secret("token", "s.nothing\n") };
    blame(
        provider(ServerSettings { auth: dead, ..bao.settings() }).health().await,
        Blame::Identity,
        "write a new one",
    );

    let five = provider(ServerSettings { dead_man: Duration::from_secs(300), ..bao.settings() });
    let (_, hint) = five.health().await.unwrap().warning.unwrap();
    assert!(hint.contains("token_period=300s"), "{hint}");
    blame(five.open_session(&tag()).await.map(drop), Blame::Config, "period of 10 s");
    let absent = provider(ServerSettings { launch_role: "absent".into(), ..bao.settings() });
    blame(absent.open_session(&tag()).await.map(drop), Blame::Identity, "absent");

    for (role, change, word) in [
        ("mcp-session", json!({ "orphan": false }), "orphan=true"),
        ("mcp-launch", json!({ "orphan": true }), "orphan=false"),
        ("mcp-launch", json!({ "token_no_default_policy": false }), "token_no_default_policy=true"),
    ] {
        bao.admin("POST", &format!("auth/token/roles/{role}"), change).await;
        blame(bao.provider().open_session(&tag()).await.map(drop), Blame::Config, word);
        let checked = bao.script("setup.sh", &["--check", "--period", "10s"]);
        assert!(!checked.status.success(), "{word}: {}", text_of(&checked));
        bao.set_up(&["--launch-policies", "weather"]);
        session(&bao.provider()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_finds_tokens_that_read_too_much() {
    let bao = Bao::start().await;
    bao.policy("weather", "kv/data/weather").await;
    bao.set_up(&["--launch-policies", "weather"]);
    bao.set_up(&[]);
    let wide = "path \"kv/*\" { capabilities = [\"read\"] }\npath \"auth/token/create\" { capabilities = [\"update\"] }";
    for (policy, who) in [("mcp-session", "a session may use"), ("mcp-broker", "the broker may use")] {
        let text = std::fs::read_to_string(format!("../deploy/vault/policies/{policy}.hcl")).unwrap();
        let body = json!({ "policy": format!("{text}{wide}") });
        bao.admin("PUT", &format!("sys/policies/acl/{policy}"), body).await;
        let checked = bao.script("setup.sh", &["--check", "--period", "10s"]);
        assert!(!checked.status.success() && text_of(&checked).contains(who), "{}", text_of(&checked));
    }
    let longer = bao.script("setup.sh", &["--check", "--period", "5m"]);
    assert!(text_of(&longer).contains("token_period is 10, not 300"), "{}", text_of(&longer));
}

/// The rest is against a scripted double, not a real server: what it answers cannot be had from one on demand.
mod scripted {
    use super::*;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    const ALIVE: &str = "{\"data\":{\"ttl\":0,\"renewable\":false}}";

    fn response(head: &str, body: &str) -> String {
        format!("HTTP/1.1 {head}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    }

    /// Answers one request after the other with the script, the last for ever. Empty: never.
    async fn serve(script: Vec<String>) -> (ServerSettings, Arc<AtomicU64>, world::Dir) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&asked);
        tokio::spawn(async move {
            let mut left = script.into_iter().peekable();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = vec![0; 8192];
                if stream.read(&mut request).await.unwrap_or(0) == 0 {
                    continue;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let Some(answer) = left.next() else { continue };
                if left.peek().is_none() {
                    left = vec![answer.clone()].into_iter().peekable();
                }
                if answer.is_empty() {
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_secs(60)).await;
                        drop(stream)
                    });
                } else {
                    stream.write_all(answer.as_bytes()).await.ok();
                }
            }
        });
        let dir = world::Dir::new("double");
        let settings = ServerSettings {
            address: address.parse().unwrap(),
            ca_file: None,
            namespace: None,
            auth: AuthMethod::Token { token_file: dir.secret("token", "s.double") },
            session_role: "mcp-session".into(),
            launch_role: "mcp-launch".into(),
            dead_man: Duration::from_secs(10),
        };
        (settings, asked, dir)
    }

    async fn lookup(script: &[String]) -> (Result<Complaint, ProviderError>, u64) {
        let (settings, asked, _dir) = serve(script.to_vec()).await;
        let vault = provider(settings);
        let answer =
            vault.identity.call(super::super::calls::lookup_self, super::super::gate::Urgency::Normal).await;
        (answer.map(|answer| answer.complaint()), asked.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn retry_after_is_obeyed_while_there_is_time() {
        let ok = response("200 OK", ALIVE);
        let later =
            |seconds: u32| response(&format!("429 Too Many Requests\r\nretry-after: {seconds}"), "{}");
        let began = Instant::now();
        // Login, health, then the call itself.
        let (answer, asked) = lookup(&[ok.clone(), ok.clone(), later(1), ok.clone()]).await;
        assert!(answer.is_ok() && asked == 4, "{asked}");
        assert!(began.elapsed() >= Duration::from_secs(1), "it waited");
        let (answer, asked) = lookup(&[later(60)]).await;
        blame(answer, Blame::Busy(Some(Duration::from_secs(60))), "60 s");
        assert_eq!(asked, 1);
    }

    #[tokio::test]
    async fn bad_answers_are_refused_and_not_repeated() {
        let canary = "hvs.CANARY";
        let table = [
            (response("200 OK", &format!("{{\"data\":\"{canary}")), Blame::Broken),
            (response("200 OK", &"x".repeat(2 << 20)), Blame::Broken),
            (response("500 Oops", &format!("{{\"errors\":[\"{canary}\"]}}")), Blame::Broken),
            (response("307 Away\r\nlocation: http://127.0.0.1:1/", ""), Blame::Config),
            (response("403 No", &format!("{{\"errors\":[\"{canary}\"]}}")), Blame::Identity),
            ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort".to_owned(), Blame::Unreachable),
        ];
        for (answer, want) in table {
            let error = blame(lookup(std::slice::from_ref(&answer)).await.0, want, "provider `bao`");
            assert!(!format!("{error:?}").contains(canary), "{error:?}");
        }
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        let began = Instant::now();
        let (answer, _) = lookup(&[String::new()]).await;
        blame(answer, Blame::Unreachable, "in time");
        assert!(began.elapsed() < Duration::from_secs(20), "bounded");
    }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
