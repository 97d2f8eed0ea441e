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

#[path = "live_clouds.rs"]
mod clouds;
#[path = "live_engines.rs"]
mod engines;
#[path = "live_fall.rs"]
mod fall;
#[path = "live_fate.rs"]
mod fate;
#[path = "live_races.rs"]
mod races;
#[path = "live_scripted.rs"]
mod scripted;
#[path = "live_set_up.rs"]
mod set_up;
#[path = "live_sign_in.rs"]
mod sign_in;
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
        // A parent's leases follow it in the background; nobody else revokes them here.
        until("no user is left", || postgres.minted() == 0).await;
        let left = bao.try_admin("LIST", "sys/leases/lookup/database/creds/orders-ro", Value::Null, "").await;
        assert_eq!(left.0, 404, "a lease is left: {}", left.1);
    }
    // Time enough for a read that was not waited for to have made its user.
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
        // A new mount of `kv` is upgraded for a moment, and takes nothing meanwhile.
        for rest in (0..100).rev() {
            let (status, answer) = bao.try_admin("POST", path, body.clone(), "team-a").await;
            if status < 300 {
                break;
            }
            assert!(rest > 0, "{path}: {answer}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
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

async fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < end, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
