//! Children that end with their parent, by the word of the real servers.

use super::*;

/// A value with a lease of the server's own, and no backend behind it.
const LEASED: &str = "leased/weather";

/// A parent that was revoked, and one that was gone before.
const FELL: Revocation = Revocation::Revoked(Proof::Token);
const GONE: Revocation = Revocation::AlreadyGone(Proof::Token);

async fn with_both() -> (Bao, Postgres, Vault) {
    let (bao, postgres) = (Bao::start().await, Postgres::start());
    postgres.serve(&bao);
    let options = json!({ "version": "1", "leased_passthrough": "true" });
    bao.admin("POST", "sys/mounts/leased", json!({ "type": "kv", "options": options })).await;
    bao.admin("POST", LEASED, json!({ "key": "s3cret", "ttl": "10m" })).await;
    bao.policy("orders-ro", PATH).await;
    bao.policy("weather", LEASED).await;
    bao.set_up(&["--launch-policies", "orders-ro,weather"]);
    let vault = bao.provider();
    (bao, postgres, vault)
}

async fn knows(bao: &Bao, accessor: &str) -> bool {
    let body = json!({ "accessor": accessor });
    bao.try_admin("POST", "auth/token/lookup-accessor", body, "").await.0 == 200
}

async fn knows_lease(bao: &Bao, lease: &str) -> bool {
    bao.try_admin("PUT", "sys/leases/lookup", json!({ "lease_id": lease }), "").await.0 == 200
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_ends_children_and_their_leases() {
    let (bao, postgres, vault) = with_both().await;
    let parent = session(&vault).await;
    let user = mint(&vault, &parent, PATH, "orders-ro").await.unwrap().handle;
    let value = mint(&vault, &parent, LEASED, "weather").await.unwrap().handle;
    let empty = vault.prepare(&request(LEASED, "weather"), Some(&parent)).await.unwrap().handle;
    let all = [&user, &value, &empty];
    for handle in all {
        assert!(vault.shed(handle, &parent.handle).await.unwrap());
    }
    assert_eq!(postgres.minted(), 0, "a database's users go before the parent");
    assert!(!knows_lease(&bao, &lease_of(&user, &vault)).await);
    assert!(
        knows_lease(&bao, &lease_of(&value, &vault)).await,
        "what the server does by itself is left to it"
    );
    for handle in all {
        assert!(knows(&bao, &held(handle, &vault).accessor).await);
        blame(vault.fallen(handle, &GONE).await, Blame::Broken, "revoke");
        let again = vault.issue(&request(LEASED, "weather"), opened(handle)).await.map(drop);
        blame(again, Blame::Refused, "is ending");
    }

    assert_eq!(vault.revoke(&parent.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
    let proofs = [Proof::LeaseAndParent, Proof::LeaseAndParent, Proof::Token];
    for (handle, proof) in all.into_iter().zip(proofs) {
        assert_eq!(vault.fallen(handle, &FELL).await.unwrap(), Revocation::Revoked(proof));
        assert!(!knows(&bao, &held(handle, &vault).accessor).await);
    }
    assert!(!knows_lease(&bao, &lease_of(&value, &vault)).await);
}

/// Nothing may begin with a token that is about to fall; whatever it is asked with.
fn opened(handle: &Handle) -> crate::provider::Prepared {
    crate::provider::Prepared { handle: handle.clone(), opener: Some(Secret::new("none".into())) }
}

/// A role that was changed to make orphans after the broker had looked at it: they would outlive their parent.
#[tokio::test(flavor = "multi_thread")]
async fn an_orphan_is_refused() {
    let (bao, _postgres, vault) = with_both().await;
    let parent = session(&vault).await;
    let role = bao.admin("GET", "auth/token/roles/mcp-launch", Value::Null).await;
    let mut role = role.get("data").unwrap().clone();
    role.as_object_mut().unwrap().insert("orphan".into(), true.into());
    bao.admin("POST", "auth/token/roles/mcp-launch", role).await;
    let before = accessors(&bao).await;
    blame(mint(&vault, &parent, LEASED, "weather").await.map(drop), Blame::Config, "makes orphans");
    assert_eq!(accessors(&bao).await, before, "and revoked");
}

async fn accessors(bao: &Bao) -> usize {
    let list = bao.admin("LIST", "auth/token/accessors", Value::Null).await;
    list.pointer("/data/keys").unwrap().as_array().unwrap().len()
}

/// Somebody took the parent away from above its children.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_lost_its_parent_is_found_out() {
    let (bao, _postgres, vault) = with_both().await;
    let parent = session(&vault).await;
    let value = mint(&vault, &parent, LEASED, "weather").await.unwrap().handle;
    assert!(vault.shed(&value, &parent.handle).await.unwrap());
    let token = plain(&parent.token);
    bao.admin("POST", "auth/token/revoke-orphan", json!({ "token": token })).await;
    let end = vault.revoke(&parent.handle).await.unwrap();
    assert_eq!(end, GONE);
    blame(vault.fallen(&value, &end).await, Blame::Broken, "revoke");
    assert!(knows(&bao, &held(&value, &vault).accessor).await, "it lives, and nothing else was said");
    assert_eq!(vault.revoke(&value).await.unwrap(), Revocation::Revoked(Proof::LeaseAndToken));
}

/// The server says nothing of a user that it could not drop when a token is revoked: the lease tells.
#[tokio::test(flavor = "multi_thread")]
async fn a_user_that_stays_is_not_said_to_be_gone() {
    let (_bao, postgres, vault) = with_both().await;
    let parent = session(&vault).await;
    let user = mint(&vault, &parent, PATH, "orders-ro").await.unwrap().handle;
    postgres.down();
    assert!(vault.shed(&user, &parent.handle).await.unwrap(), "the token need not wait for the database");
    assert_eq!(vault.revoke(&parent.handle).await.unwrap(), Revocation::Revoked(Proof::Token));
    blame(vault.fallen(&user, &FELL).await, Blame::Broken, "could not revoke a lease");
    postgres.up();
    until_ended(&vault, &user).await;
    assert_eq!(postgres.minted(), 0);
}

async fn until_ended(vault: &Vault, handle: &Handle) {
    let end = Instant::now() + Duration::from_secs(30);
    while vault.revoke(handle).await.is_err() {
        assert!(Instant::now() < end, "it does not end");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hangs_elsewhere_does_not_fall() {
    let (_bao, _postgres, vault) = with_both().await;
    let (one, other) = (session(&vault).await, session(&vault).await);
    let value = mint(&vault, &one, LEASED, "weather").await.unwrap().handle;
    assert!(!vault.shed(&value, &other.handle).await.unwrap());
    assert!(!vault.shed(&one.handle, &one.handle).await.unwrap(), "a parent is nobody's child");
    vault.revoke(&other.handle).await.unwrap();
    blame(vault.fallen(&value, &GONE).await, Blame::Broken, "revoke");
}
