//! OpenBao is away, or of no use, at the moment when a launch ends: the process is gone at once, the revocation is
//! retried until it is verified, and meanwhile `status` says that it is pending and when the credential ends at the
//! latest.

use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::fault::Fault;
use e2e::{World, eventually};
use mcp_broker_proto::session::{LeaseState, Status};

fn status(world: &World) -> Status {
    let outcome = world.run_to_end(ALICE, &["status", "--json"]);
    outcome.assert_code(0);
    serde_json::from_slice(&outcome.stdout).unwrap()
}

/// A launch that ended while OpenBao could not be reached.
fn ended_in_the_dark() -> World {
    let world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    world.proxy().down();
    assert_eq!(client.finish().code(), 0, "the end does not wait for OpenBao");
    eventually("the instance is gone", || so(world.instances().is_empty()));
    assert_eq!(world.users().len(), 1, "nobody could revoke it");
    world
}

#[track_caller]
fn assert_pending(world: &World) {
    let pending = eventually("the lease is pending, with its trouble told", || {
        let leases = status(world).leases;
        leases
            .into_iter()
            .find(|lease| lease.state == LeaseState::RevocationPending && lease.trouble.is_some())
    });
    let until = pending.expires_at.as_deref().expect("it ends at some time");
    let text = world.run_to_end(ALICE, &["status"]).text();
    assert!(text.contains("pending") && text.contains(until), "{text}");
    assert_eq!(world.leases().len(), 1);
}

#[test]
fn pending_until_verified() {
    let mut world = ended_in_the_dark();
    assert_pending(&world);
    assert!(
        world.audit().iter().all(|event| !event.to_string().contains("lease_and_token")),
        "nothing was verified"
    );
    world.proxy().heal();
    world.assert_settled();
}

#[test]
fn pending_through_a_restart() {
    let mut world = ended_in_the_dark();
    assert_pending(&world);
    world.restart();
    eventually("the new broker knows of it", || so(world.leases().len() == 1));
    assert_eq!(world.users().len(), 1);
    world.proxy().heal();
    world.assert_settled();
}

#[test]
fn a_broker_stops_all_the_same_and_the_next_one_settles() {
    let mut world = ended_in_the_dark();
    let exit = world.broker().term();
    assert!(exit.0.code().is_some(), "it ended by itself");
    world.restart();
    world.proxy().heal();
    world.assert_settled();
}

#[test]
fn the_kill_switch_says_what_is_pending() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    world.proxy().down();
    let outcome = world.admin(&["revoke", "--all"]);
    assert_ne!(outcome.code, 0, "it does not claim what it could not verify: {}", outcome.text());
    assert!(format!("{}{}", outcome.text(), outcome.stderr).contains("pending"), "{outcome:?}");
    client.outcome().assert_code(77);
    world.proxy().heal();
    world.assert_settled();
}

/// OpenBao runs and is of no use: sealed, or it takes requests and does not answer. At a logout it is as with one
/// that is away: gone here at once, owed until it is proved.
#[test]
fn pending_at_a_logout_while_it_is_sealed_or_hangs() {
    for hangs in [false, true] {
        let mut world = World::user().vault().probe("orders-db", &[]).start();
        let mut client = world.launch(ALICE, "orders-db");
        if hangs {
            world.proxy().always("*", Fault::Delay(Duration::from_secs(60)));
        } else {
            world.bao().seal();
        }
        let _ = world.run_to_end(ALICE, &["logout"]);
        eventually("the instance is gone", || so(world.instances().is_empty()));
        client.process.kill9();
        assert_eq!(world.users().len(), 1, "nobody could revoke it");
        assert_pending(&world);
        if hangs {
            world.proxy().heal();
        } else {
            world.bao().unseal();
        }
        within(Duration::from_secs(60), "its end is proved", || so(world.leases().is_empty()));
        world.assert_settled();
    }
}

/// OpenBao is well, the database behind it does not let it drop the user.
#[test]
fn pending_while_the_database_refuses() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let role = world.role.clone();
    let statements = serde_json::json!({ "revocation_statements": ["SELECT 1/0"] });
    world.bao().database(world.pg(), &role, statements);
    assert_eq!(client.finish().code(), 0);
    assert_pending(&world);
    assert_eq!(world.users().len(), 1);
    world.bao().database(world.pg(), &role, serde_json::json!({}));
    within(Duration::from_secs(60), "its end is proved", || so(world.leases().is_empty()));
    world.assert_settled();
}

/// Nobody comes back in time: the lease ends by itself in OpenBao, and the broker does not keep it for ever.
#[test]
fn pending_until_expired() {
    let options = serde_json::json!({ "default_ttl": "12s", "max_ttl": "12s" });
    let mut world = World::user().vault_with(options).probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    world.proxy().down();
    assert_eq!(client.finish().code(), 0);
    eventually("OpenBao ends it by itself", || so(world.users().is_empty()));
    world.proxy().heal();
    world.assert_settled();
}
