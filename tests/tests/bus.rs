//! Only logind itself is believed, and only what it says in the end: signals of others, a hint that flaps, a logind
//! that restarts and a bus that is gone open nothing and leak nothing.

use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::mcp::Client;
use e2e::{PATIENCE, World, eventually};
use mcp_broker_proto::session::LockCause;
use serde_json::json;

fn launched() -> (World, Client) {
    let world = World::user().with_logind().vault().probe("orders-db", &[]).start();
    let client = world.launch(ALICE, "orders-db");
    eventually("the broker has subscribed", || so(world.logind().sleep_is_delayed()));
    (world, client)
}

#[track_caller]
fn works_again(client: &mut Client) {
    eventually("a call works again", || {
        let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
        so(answer["result"]["isError"] != true)
    });
}

#[test]
fn a_forged_lock_or_end_does_nothing() {
    let (mut world, mut client) = launched();
    let users = world.users();
    for _ in 0..20 {
        world.logind().forge_session("1", "Lock");
        world.logind().forge_hint("1", true);
        world.logind().forge_manager("PrepareForSleep", "b", &json!([true]));
        world.logind().forge_manager("PrepareForShutdown", "b", &json!([true]));
        world.logind().forge_removed("1");
    }
    // A real signal that comes after them is heard: so were they.
    world.logind().active("1", true);
    world.logind().sleep(false);
    assert_eq!(client.call("echo", json!({})), "{}");
    world.outlast_the_shortest_lock();
    assert!(!world.is_locked(ALICE));
    assert_eq!(client.call("echo", json!({})), "{}");
    assert_eq!(world.users(), users);
    assert_eq!(world.audited("session_locked", ""), 0);
    // The control: the same from logind does something.
    world.logind().lock("1");
    world.assert_dark();
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn a_forged_unlock_opens_nothing() {
    let (mut world, mut client) = launched();
    world.logind().hint("1", true);
    world.assert_locked(ALICE, LockCause::LockedHint);
    world.outlast_the_shortest_lock();
    for _ in 0..20 {
        world.logind().forge_session("1", "Unlock");
        world.logind().forge_hint("1", false);
    }
    world.outlast_the_shortest_lock();
    assert!(world.is_locked(ALICE));
    world.assert_dark();
    assert_eq!(world.audited("session_unlocked", ""), 0);
    world.logind().hint("1", false);
    works_again(&mut client);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// No state of it lasts, so nothing of it is an unlocking. What it says last is what counts.
#[test]
fn a_hint_that_flaps_never_unlocks() {
    let (mut world, mut client) = launched();
    for last in [true, false] {
        let delivered = world.audited("credential_delivered", "");
        world.logind().flap("1", 1000, last);
        world.assert_dark();
        world.outlast_the_shortest_lock();
        assert!(world.is_locked(ALICE), "a hint that flapped and ended as {last}");
        assert_eq!(world.users(), [""; 0]);
        assert_eq!(world.audited("credential_delivered", ""), delivered, "delivered while locked");
        let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
        assert_eq!(answer["result"]["isError"], true, "{answer}");
        // A screen that is locked for a while and unlocked then is what opens it.
        world.logind().hint("1", true);
        world.outlast_the_shortest_lock();
        world.logind().hint("1", false);
        works_again(&mut client);
    }
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// logind keeps its sessions over a restart, and so does the broker.
#[test]
fn a_logind_that_restarts_is_heard_again() {
    let (mut world, mut client) = launched();
    let users = world.users();
    world.logind().restart();
    eventually("the broker has subscribed again", || so(world.logind().sleep_is_delayed()));
    assert_eq!(client.call("echo", json!({})), "{}");
    assert_eq!(world.users(), users, "nothing happened");
    world.logind().lock("1");
    world.assert_dark();
    world.assert_locked(ALICE, LockCause::ScreenLock);
    world.outlast_the_shortest_lock();
    world.logind().restart();
    eventually("the broker has subscribed again", || so(world.logind().sleep_is_delayed()));
    assert!(world.is_locked(ALICE), "a restart of logind is no unlocking");
    world.logind().unlock("1");
    works_again(&mut client);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// What nobody was told is read.
#[test]
fn what_changed_while_logind_was_away_is_found() {
    let (mut world, mut client) = launched();
    world.logind().kill();
    world.logind().hint("1", true);
    world.logind().restart();
    world.assert_dark();
    world.assert_locked(ALICE, LockCause::LockedHint);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();

    let (mut world, mut client) = launched();
    world.logind().kill();
    world.logind().remove("1");
    world.logind().restart();
    client.outcome().assert_code(77);
    world.assert_settled();
    world.wait_audited("session_ended", "session_closed");
}

/// A hint that went while nobody listened was not seen to go.
#[test]
fn an_unlock_that_was_not_seen_opens_nothing() {
    let (mut world, mut client) = launched();
    world.logind().hint("1", true);
    world.assert_locked(ALICE, LockCause::LockedHint);
    world.outlast_the_shortest_lock();
    world.logind().kill();
    world.logind().hint("1", false);
    world.logind().restart();
    eventually("the broker has subscribed again", || so(world.logind().sleep_is_delayed()));
    world.outlast_the_shortest_lock();
    assert!(world.is_locked(ALICE));
    assert_eq!(world.users(), [""; 0]);
    // The screen is open as far as anybody can tell, so that the person's word is enough.
    assert!(world.person(ALICE, "unlock").starts_with("unlocked"));
    works_again(&mut client);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// Five seconds without the bus, or without logind on it, lock; while nothing can be heard nothing opens.
#[test]
fn a_bus_that_is_gone_locks_until_it_is_back() {
    for whole_bus in [true, false] {
        let (mut world, mut client) = launched();
        if whole_bus {
            world.logind().kill_bus();
        } else {
            world.logind().kill();
        }
        world.assert_dark_within(Duration::from_secs(5) + PATIENCE);
        world.assert_locked(ALICE, LockCause::BusLost);
        let outcome = world.run_to_end(ALICE, &["unlock"]);
        assert!([75, 77].contains(&outcome.code) && outcome.stderr.contains("hint: "), "{outcome:?}");
        let outcome = world.run_to_end(ALICE, &["orders-db"]);
        assert!([75, 77].contains(&outcome.code), "{outcome:?}");
        outcome.assert_refused(outcome.code, &[]);
        assert_eq!(world.users(), [""; 0]);

        if whole_bus {
            world.logind().start_bus();
        } else {
            world.logind().restart();
        }
        within(2 * PATIENCE, "the broker has subscribed again", || so(world.logind().sleep_is_delayed()));
        assert!(world.is_locked(ALICE), "to hear again is no evidence");
        eventually("the command is enough", || so(world.run_to_end(ALICE, &["unlock"]).code == 0));
        works_again(&mut client);
        world.logind().lock("1");
        world.assert_dark();
        assert_eq!(client.finish().code(), 0);
        world.assert_settled();
    }
}

/// A broker that must see login sessions and finds no bus starts, and mints nothing until it does.
#[test]
fn without_a_bus_from_the_start_nothing_is_minted() {
    let world = World::user().with_logind().vault().probe("orders-db", &[]);
    world.logind().kill_bus();
    let mut world = world.start();
    let outcome = world.run_to_end(ALICE, &["orders-db"]);
    assert!([75, 77].contains(&outcome.code), "{outcome:?}");
    outcome.assert_refused(outcome.code, &["logind"]);
    assert_eq!(world.users(), [""; 0]);
    world.logind().start_bus();
    within(2 * PATIENCE, "the broker has subscribed", || so(world.logind().sleep_is_delayed()));
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// Where there is no logind and none is demanded, the broker works, and says what it does not see.
#[test]
fn without_logind_lock_and_logout_are_said_not_to_be_seen() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let status = world.status(ALICE);
    assert_eq!(status.session.expect("the launch began one").login, None);
    let text = world.person(ALICE, "status");
    assert!(text.contains("not seen"), "{text}");
    let doctor = world.run_to_end(ALICE, &["doctor"]);
    assert!(format!("{}{}", doctor.text(), doctor.stderr).contains("logout"), "{doctor:?}");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();

    let (mut world, mut client) = launched();
    let login = world.status(ALICE).session.expect("there is one").login.expect("and it is seen");
    assert_eq!((login.id.as_str(), login.seat.as_deref(), login.remote), ("1", Some("seat0"), false));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}
