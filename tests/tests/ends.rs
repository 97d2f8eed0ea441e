//! Each thing that locks or ends a session does so alone: the instances are dead, the database users are gone, and
//! the audit log names the cause. Before sleep the machine waits for that, and not longer than it should.
//!
//! Not proved: that a real desktop sends these signals, and a real suspend.

use std::time::{Duration, Instant};

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::fault::Fault;
use e2e::mcp::Client;
use e2e::{PATIENCE, World, eventually};
use mcp_broker_proto::session::LockCause;
use serde_json::json;

/// One launch in the only session of a person at a desktop.
fn launched() -> (World, Client) {
    let world = World::user().with_logind().vault().probe("orders-db", &[]).start();
    let client = world.launch(ALICE, "orders-db");
    assert_eq!(world.users().len(), 1);
    eventually("the machine may not sleep unasked", || so(world.logind().sleep_is_delayed()));
    (world, client)
}

/// A call that is answered with a result, parked or not.
#[track_caller]
fn is_parked(client: &mut Client) -> bool {
    let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
    let result = &answer["result"];
    if result["isError"] == true {
        let text = result["content"][0]["text"].as_str().unwrap_or_default();
        assert!(text.contains("executed: no"), "{answer}");
    }
    result["isError"] == true
}

/// It locks: everything but the launch is gone, and the client is told.
fn locks(cause: LockCause, word: &str, lock: impl FnOnce(&World)) -> (World, Client) {
    let (world, mut client) = launched();
    lock(&world);
    world.assert_dark();
    world.assert_locked(ALICE, cause);
    world.wait_audited("session_locked", word);
    world.assert_parked(1);
    assert!(is_parked(&mut client));
    assert_eq!(world.users(), [""; 0]);
    (world, client)
}

/// It ends: nothing is left, the launcher has ended with that code, and so has the session.
fn ends(reason: &str, codes: &[i32], end: impl FnOnce(&mut World)) {
    let (mut world, mut client) = launched();
    end(&mut world);
    let outcome = client.outcome();
    assert!(codes.contains(&outcome.code), "{outcome:?}");
    assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    world.assert_settled();
    eventually(&format!("the session ended as {reason}"), || so(world.audited("session_ended", reason) == 1));
}

#[track_caller]
fn finish(mut world: World, mut client: Client) {
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn a_request_to_lock_the_screen_locks() {
    let (world, client) = locks(LockCause::ScreenLock, "screen_lock", |world| world.logind().lock("1"));
    finish(world, client);
}

#[test]
fn a_locked_screen_locks() {
    let (world, client) = locks(LockCause::LockedHint, "locked_hint", |world| world.logind().hint("1", true));
    finish(world, client);
}

#[test]
fn another_session_at_the_seat_locks() {
    let (world, mut client) =
        locks(LockCause::Inactive, "inactive", |world| world.logind().active("1", false));
    // To be back is no evidence of who is back.
    world.logind().active("1", true);
    eventually("the command is enough then", || so(world.run_to_end(ALICE, &["unlock"]).code == 0));
    eventually("it works again", || so(!is_parked(&mut client)));
    finish(world, client);
}

#[test]
fn a_sleep_locks() {
    let (world, client) = locks(LockCause::Sleep, "\"sleep\"", |world| world.logind().sleep(true));
    world.logind().sleep(false);
    finish(world, client);
}

#[test]
fn the_persons_command_locks() {
    let (world, client) = locks(LockCause::Command, "command", |world| drop(world.person(ALICE, "lock")));
    finish(world, client);
}

#[test]
fn a_bus_that_stays_away_locks() {
    let (world, client) = locks(LockCause::BusLost, "bus_lost", |world| world.logind().kill_bus());
    finish(world, client);
}

#[test]
fn a_session_that_is_removed_ends() {
    ends("session_closed", &[77], |world| world.logind().remove("1"));
}

/// The person has gone and left processes behind: logind says not a word.
#[test]
fn a_leader_that_exits_in_a_closing_session_ends_it() {
    ends("session_closed", &[77], |world| {
        world.logind().closing("1");
        world.logind().leader_exits("1");
    });
}

#[test]
fn a_leader_that_exits_ends_it_before_anything_is_told() {
    ends("session_closed", &[77], |world| world.logind().leader_exits("1"));
}

#[test]
fn a_user_that_is_removed_ends() {
    ends("session_closed", &[77], |world| world.logind().remove_user(ALICE));
}

#[test]
fn a_shutdown_ends() {
    ends("shutdown", &[69, 77], |world| world.logind().shutdown(true));
}

#[test]
fn the_persons_logout_ends() {
    ends("logged_out", &[77], |world| drop(world.person(ALICE, "logout")));
}

#[test]
fn an_admin_ends_a_session() {
    ends("revoked", &[77], |world| {
        let id = world.status(ALICE).session.expect("there is one").id.to_string();
        world.admin(&["revoke", "--session", &id]).assert_code(0);
        assert_eq!(world.users(), [""; 0], "the command says revoked when it is");
    });
}

/// It ends the session and what it had, and is as little the end of the conversation as a crash is.
#[test]
fn a_broker_that_stops_ends_the_session_and_leaves_the_conversation() {
    let (mut world, mut client) = launched();
    assert_eq!(world.broker().term().code(), 0);
    assert_eq!(world.users(), [""; 0], "the broker revokes before it ends");
    eventually("the instance is gone", || so(world.instances().is_empty()));
    assert!(is_parked(&mut client));
    world.restart();
    eventually("it works again", || so(!is_parked(&mut client)));
    assert_eq!(world.audited("session_ended", "broker_stopping"), 1);
    finish(world, client);
}

/// Takes a minute: no shorter age can be configured.
#[test]
fn a_session_that_is_locked_ends_at_its_age_all_the_same() {
    let mut world =
        World::user().with_logind().session("max_age = \"60s\"").vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    world.logind().lock("1");
    world.assert_dark();
    let outcome = client.outcome_within(Duration::from_secs(60) + PATIENCE);
    outcome.assert_code(77);
    world.wait_audited("session_ended", "max_age");
    world.assert_settled();
}

/// A session ends while it is locked: there is nothing to come back to, and an unlock changes nothing.
#[test]
fn a_locked_session_that_ends_is_over() {
    let (mut world, mut client) =
        locks(LockCause::ScreenLock, "screen_lock", |world| world.logind().lock("1"));
    world.logind().leader_exits("1");
    client.outcome().assert_code(77);
    world.logind().unlock("1");
    world.assert_settled();
    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &[]);
    assert_eq!(world.users(), [""; 0]);
}

/// The delay is given up when nothing is left to be revoked, and not before; after waking it is taken again.
#[test]
fn sleep_waits_until_the_users_are_gone() {
    let (world, mut client) = launched();
    world.proxy().always("sys/leases/revoke", Fault::Delay(Duration::from_millis(800)));
    world.logind().sleep(true);
    let mut delayed_with_users = false;
    eventually("the machine may sleep", || {
        if world.logind().sleep_is_delayed() {
            delayed_with_users |= !world.users().is_empty();
            return None;
        }
        assert_eq!(world.users(), [""; 0], "it sleeps on living credentials");
        assert!(world.instances().is_empty(), "it sleeps on living processes");
        Some(())
    });
    assert!(delayed_with_users, "the test did not see the delay");
    world.proxy().heal();
    world.assert_locked(ALICE, LockCause::Sleep);
    world.logind().sleep(false);
    eventually("the next sleep waits again", || so(world.logind().sleep_is_delayed()));
    assert!(world.is_locked(ALICE), "to wake is no evidence");
    eventually("the command is enough", || so(world.run_to_end(ALICE, &["unlock"]).code == 0));
    eventually("it works again", || so(!is_parked(&mut client)));
    finish(world, client);
}

/// A session that has nothing holds up no sleep.
#[test]
fn sleep_without_launches_is_not_held_up() {
    let world = World::user().with_logind().vault().probe("orders-db", &[]).start();
    let _ = world.person(ALICE, "login");
    eventually("sleep is delayed", || so(world.logind().sleep_is_delayed()));
    world.logind().sleep(true);
    eventually("the machine may sleep", || so(!world.logind().sleep_is_delayed()));
    world.assert_locked(ALICE, LockCause::Sleep);
    world.logind().sleep(false);
    eventually("the next sleep waits again", || so(world.logind().sleep_is_delayed()));
}

/// logind goes on after five seconds in any case; the broker gives up before that and does the rest later, before
/// anything new is minted.
#[test]
fn sleep_does_not_wait_for_an_openbao_that_hangs() {
    let (world, mut client) = launched();
    let old = world.users();
    world.proxy().always("*", Fault::Delay(Duration::from_secs(60)));
    let start = Instant::now();
    world.logind().sleep(true);
    within(Duration::from_secs(8), "the machine may sleep", || so(!world.logind().sleep_is_delayed()));
    println!("sleep was delayed for {:?}", start.elapsed());
    assert!(world.instances().is_empty(), "killing waits for nobody");
    assert_eq!(world.users(), old, "nobody could revoke it");
    assert!(world.audited("credential_revoked", "") == 0, "nothing was verified");

    world.proxy().heal();
    world.logind().sleep(false);
    eventually("the rest is done after waking", || so(world.users().is_empty()));
    eventually("the command is enough", || so(world.run_to_end(ALICE, &["unlock"]).code == 0));
    eventually("it works again", || so(!is_parked(&mut client)));
    let events = world.audit();
    let at = |event: &str, last: bool| {
        let mut all = events.iter().enumerate().filter(|(_, told)| told["event"] == event).map(|(at, _)| at);
        if last { all.next_back() } else { all.next() }
    };
    assert!(at("credential_revoked", false) < at("credential_intended", true), "the old debt comes first");
    finish(world, client);
}

/// Vault hangs at a logout: the processes are dead at once, the debt is shown, and it is settled afterwards.
#[test]
fn a_logout_kills_at_once_where_openbao_hangs() {
    let (mut world, mut client) = launched();
    world.proxy().always("*", Fault::Delay(Duration::from_secs(60)));
    world.logind().remove("1");
    within(Duration::from_secs(10), "the instance is dead", || so(world.instances().is_empty()));
    client.outcome().assert_code(77);
    assert_eq!(world.audited("credential_revoked", ""), 0);
    eventually("the debt is shown", || {
        so(world.leases().iter().any(|l| l.state == mcp_broker_proto::session::LeaseState::RevocationPending))
    });
    world.proxy().heal();
    world.assert_settled();
}
