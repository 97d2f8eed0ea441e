//! What brings a locked session back, and what does not: nothing does by itself, the unlocking of a screen counts
//! only after its lock was seen and had lasted, and the person's command does not stand in for it.

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::logind::{Kind, Logind};
use e2e::mcp::Client;
use e2e::{World, eventually};
use mcp_broker_proto::session::LockCause;
use serde_json::json;

fn launched() -> (World, Client) {
    let world = World::user().with_logind().vault().probe("orders-db", &[]).start();
    let client = world.launch(ALICE, "orders-db");
    (world, client)
}

/// It stays locked: said by everyone who can be asked, after everything that was sent was surely heard.
#[track_caller]
fn stays_locked(world: &World, client: &mut Client) {
    world.outlast_the_shortest_lock();
    assert!(world.is_locked(ALICE), "it was opened");
    let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert_eq!(world.users(), [""; 0]);
}

/// It is open, and the same client works on.
#[track_caller]
fn comes_back(mut world: World, mut client: Client) {
    world.assert_active(ALICE);
    eventually("a call works again", || {
        let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
        so(answer["result"]["isError"] != true)
    });
    assert_eq!(world.users().len(), 1);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[track_caller]
fn unlock_is_refused(world: &World) {
    let outcome = world.run_to_end(ALICE, &["unlock"]);
    outcome.assert_refused(77, &["lock"]);
}

#[test]
fn an_unlock_opens_what_a_lock_locked() {
    let (world, client) = launched();
    world.logind().lock("1");
    world.assert_locked(ALICE, LockCause::ScreenLock);
    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    world.wait_audited("session_unlocked", "unlock");
    comes_back(world, client);
}

#[test]
fn a_hint_that_goes_opens_what_a_lock_locked() {
    let (world, mut client) = launched();
    world.logind().lock("1");
    world.assert_locked(ALICE, LockCause::ScreenLock);
    world.logind().hint("1", true);
    world.outlast_the_shortest_lock();
    // The locker was asked to unlock and still shows itself: that is not unlocked.
    world.logind().unlock("1");
    stays_locked(&world, &mut client);
    world.logind().hint("1", false);
    world.wait_audited("session_unlocked", "locked_hint");
    comes_back(world, client);
}

#[test]
fn the_command_does_not_open_what_a_screen_locked() {
    for by_hint in [false, true] {
        let (world, mut client) = launched();
        if by_hint {
            world.logind().hint("1", true);
            world.assert_locked(ALICE, LockCause::LockedHint);
        } else {
            world.logind().lock("1");
            world.assert_locked(ALICE, LockCause::ScreenLock);
        }
        unlock_is_refused(&world);
        stays_locked(&world, &mut client);
        unlock_is_refused(&world);
        if by_hint {
            world.logind().hint("1", false);
        } else {
            world.logind().unlock("1");
        }
        comes_back(world, client);
    }
}

#[test]
fn a_lock_of_a_moment_is_not_opened_by_what_ends_it() {
    for by_hint in [false, true] {
        let (world, mut client) = launched();
        if by_hint {
            world.logind().hint("1", true);
            world.logind().hint("1", false);
        } else {
            world.logind().lock("1");
            world.logind().unlock("1");
        }
        world.assert_dark();
        stays_locked(&world, &mut client);
        // It has lasted by now.
        world.logind().unlock("1");
        comes_back(world, client);
    }
}

#[test]
fn the_command_opens_what_the_command_locked_and_nothing_else_does() {
    let (world, mut client) = launched();
    let _ = world.person(ALICE, "lock");
    world.assert_locked(ALICE, LockCause::Command);
    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    world.logind().hint("1", false);
    stays_locked(&world, &mut client);
    let _ = world.person(ALICE, "unlock");
    world.wait_audited("session_unlocked", "command");
    comes_back(world, client);
}

/// A screen lock that was seen later is evidence with its unlocking, whatever locked before.
#[test]
fn a_seen_lock_and_unlock_open_what_the_command_locked() {
    let (world, client) = launched();
    let _ = world.person(ALICE, "lock");
    world.logind().lock("1");
    // Two locks: the first one is what `status` names.
    world.assert_locked(ALICE, LockCause::Command);
    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    comes_back(world, client);
}

#[test]
fn an_unlock_alone_does_not_open_what_sleep_locked() {
    let (world, mut client) = launched();
    world.logind().sleep(true);
    world.assert_locked(ALICE, LockCause::Sleep);
    unlock_is_refused(&world);
    world.logind().sleep(false);
    world.logind().unlock("1");
    stays_locked(&world, &mut client);
    eventually("the command is enough", || so(world.run_to_end(ALICE, &["unlock"]).code == 0));
    comes_back(world, client);
}

/// As a desktop does it: the screen locks before sleep, and is unlocked by the person after it.
#[test]
fn a_screen_that_was_locked_for_sleep_opens_after_it() {
    let (world, mut client) = launched();
    world.logind().hint("1", true);
    world.logind().sleep(true);
    world.assert_locked(ALICE, LockCause::LockedHint);
    world.outlast_the_shortest_lock();
    world.logind().sleep(false);
    stays_locked(&world, &mut client);
    unlock_is_refused(&world);
    world.logind().hint("1", false);
    comes_back(world, client);
}

/// The lock is there before the broker sees the session for the first time.
#[test]
fn a_session_that_is_found_locked_is_locked() {
    let logind = Logind::start();
    logind.log_in("1", ALICE, Kind::Desktop);
    logind.hint("1", true);
    let mut world = World::user().with_this_logind(logind).vault().probe("orders-db", &[]).start();
    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &["locked"]);
    assert_eq!(world.users(), [""; 0]);
    assert!(world.is_locked(ALICE));
    world.outlast_the_shortest_lock();
    world.logind().hint("1", false);
    world.assert_active(ALICE);
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// A launch that begins while the session is locked waits a few seconds for its unlocking.
#[test]
fn a_launch_that_begins_locked_waits_for_the_unlock() {
    let (mut world, mut first) = launched();
    world.logind().lock("1");
    world.assert_dark();
    world.outlast_the_shortest_lock();
    let mut client = world.run(ALICE, &["orders-db"]);
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {} });
    client.message(&json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }));
    world.logind().unlock("1");
    let line = client.line().expect("it is answered");
    let answer: serde_json::Value = serde_json::from_slice(&line).unwrap();
    assert!(answer["result"].is_object(), "{answer}");
    assert_eq!(client.finish().code(), 0);
    assert_eq!(first.finish().code(), 0);
    world.assert_settled();
}
