//! Two people on one machine, and one person in several sessions: each session locks and ends for itself, and nobody
//! sees, names or ends what is another's.
//!
//! Other people are other user ids that a child of the test took.

use e2e::accounts::{ALICE, Account, BOB};
use e2e::eventually::so;
use e2e::logind::{Kind, Logind};
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::{World, eventually};
use mcp_broker_proto::session::{LaunchState, LockCause, SessionState};
use serde_json::{Value, json};

fn shared_machine() -> World {
    World::system().with_logind().vault().probe("orders-db", &[]).start()
}

fn is_parked(client: &mut Client) -> bool {
    let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
    answer["result"]["isError"] == true
}

/// `mcp-run` in one of several sessions of its user.
fn run_in(world: &World, account: Account, session: &str, arguments: &[&str]) -> Client {
    let mut command = world.command(account, seen::LAUNCHER);
    command.args(arguments).env("XDG_SESSION_ID", session);
    Client::start(command, world.view(account))
}

fn launch_in(world: &World, account: Account, session: &str) -> Client {
    let mut client = run_in(world, account, session, &["orders-db"]);
    let _ = client.initialize();
    client
}

#[test]
fn one_locks_and_the_other_works_on() {
    let mut world = shared_machine();
    let (mut alices, mut bobs) = (world.launch(ALICE, "orders-db"), world.launch(BOB, "orders-db"));
    let both = world.injected("DSN");
    assert_eq!(world.users().len(), 2);
    world.logind().lock("1");
    eventually("alice's user is gone", || so(world.users().len() == 1));
    world.assert_locked(ALICE, LockCause::ScreenLock);
    assert!(is_parked(&mut alices));
    assert!(!is_parked(&mut bobs));
    assert!(!world.is_locked(BOB));
    let [of_bob] = &world.injected("DSN")[..] else { panic!("one instance runs") };
    assert!(both.contains(of_bob), "bob was not disturbed");
    assert!(of_bob.contains(&world.users()[0]), "the user that is left is bob's");

    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    eventually("alice works again", || so(!is_parked(&mut alices)));
    world.logind().remove("2");
    bobs.outcome().assert_code(77);
    assert!(!is_parked(&mut alices));
    eventually("bob's user is gone", || so(world.users().len() == 1));
    assert_eq!(alices.finish().code(), 0);
    world.assert_settled();
}

/// What bob can say to the broker, with everything that he could know of alice's.
#[test]
fn nobody_sees_names_or_ends_what_is_anothers() {
    let mut world = shared_machine();
    let (mut alices, mut bobs) = (world.launch(ALICE, "orders-db"), world.launch(BOB, "orders-db"));
    let status = world.status(ALICE);
    let session = status.session.expect("she has one").id.to_string();
    let launch = status.launches[0].id.to_string();
    let lease = status.leases[0].id.to_string();
    let ids = [session.as_str(), &launch, &lease];

    for command in [&["status", "--json"][..], &["status"], &["servers", "--json"], &["doctor", "--json"]] {
        let outcome = world.run_to_end(BOB, command);
        for id in ids {
            let told = format!("{}{}", outcome.text(), outcome.stderr);
            assert!(!told.contains(id), "{command:?} tells bob of {id}: {told}");
        }
    }
    let config = world.config_dir();
    let config = config.to_str().unwrap();
    for target in [["--session", session.as_str()], ["--launch", &launch], ["--user", "alice"]] {
        let outcome = world.admin_as(BOB, &["revoke", target[0], target[1], "--config", config]);
        assert!([69, 77].contains(&outcome.code), "{target:?}: {outcome:?}");
    }
    for command in ["lock", "unlock", "logout"] {
        let _ = world.run_to_end(BOB, &[command]);
        assert!(!is_parked(&mut alices), "bob's {command} is bob's");
        assert_eq!(world.sessions(ALICE)[0].state, SessionState::Active);
    }
    bobs.outcome().assert_code(77);

    // Nor is anything of hers opened by him.
    let _ = world.person(ALICE, "lock");
    eventually("alice's user is gone", || so(world.users().is_empty()));
    let _ = world.run_to_end(BOB, &["unlock"]);
    world.outlast_the_shortest_lock();
    assert!(world.is_locked(ALICE) && is_parked(&mut alices));
    let _ = world.person(ALICE, "unlock");
    eventually("alice works again", || so(!is_parked(&mut alices)));
    assert_eq!(alices.finish().code(), 0);
    world.assert_settled();
}

/// A login over the network into one's own desktop does not break its editor, and the other way round.
#[test]
fn two_sessions_of_one_person_are_apart() {
    let mut world = shared_machine();
    world.logind().log_in("5", ALICE, Kind::Ssh);
    let mut desktop = launch_in(&world, ALICE, "1");
    let mut ssh = launch_in(&world, ALICE, "5");
    assert_eq!(world.users().len(), 2);
    assert_eq!(world.sessions(ALICE).len(), 2);

    let mut status = run_in(&world, ALICE, "5", &["status", "--json"]);
    let status: Value = serde_json::from_slice(&status.outcome().assert_code(0).stdout).unwrap();
    assert_eq!(status["session"]["login"]["id"], "5", "{status}");
    assert_eq!(status["others"][0]["login"]["id"], "1", "{status}");

    world.logind().lock("1");
    eventually("one user is gone", || so(world.users().len() == 1));
    assert!(is_parked(&mut desktop) && !is_parked(&mut ssh));
    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    eventually("the desktop works again", || so(!is_parked(&mut desktop)));

    world.logind().remove("5");
    ssh.outcome().assert_code(77);
    assert!(!is_parked(&mut desktop));
    eventually("one user is gone", || so(world.users().len() == 1));
    assert_eq!(desktop.finish().code(), 0);
    world.assert_settled();
}

/// Most applications of a desktop run under the user's service manager: they belong to the display's session.
#[test]
fn a_process_under_the_users_manager_is_bound_to_the_display() {
    let mut world = shared_machine();
    world.logind().log_in("5", ALICE, Kind::Ssh);
    world.logind().run_outside(ALICE);
    let mut client = world.launch(ALICE, "orders-db");
    let login = world.sessions(ALICE)[0].login.clone().expect("it is bound to one");
    assert_eq!(login.id, "1");
    // For good: that the other one locks or ends is nothing to it.
    world.logind().lock("5");
    world.logind().remove("5");
    world.outlast_the_shortest_lock();
    assert!(!is_parked(&mut client));
    world.logind().lock("1");
    world.assert_dark();
    assert!(is_parked(&mut client));
    world.logind().remove("1");
    client.outcome().assert_code(77);
    world.assert_settled();
}

fn people_with(sessions: &[(&str, Kind)]) -> World {
    let logind = Logind::start();
    for (id, kind) in sessions {
        logind.log_in(id, ALICE, *kind);
    }
    logind.run_outside(ALICE);
    World::system().with_this_logind(logind).vault().probe("orders-db", &[]).start()
}

#[test]
fn a_process_under_the_users_manager_is_bound_to_the_only_session() {
    let mut world = people_with(&[("5", Kind::Ssh)]);
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(world.sessions(ALICE)[0].login.as_ref().expect("it is bound").id, "5");
    world.logind().lock("5");
    world.assert_dark();
    assert!(is_parked(&mut client));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// Which of several is meant is not guessed.
#[test]
fn with_several_sessions_and_no_display_the_refusal_says_what_to_do() {
    let mut world = people_with(&[("5", Kind::Ssh), ("6", Kind::Ssh)]);
    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &["session"]);
    assert_eq!(world.users(), [""; 0]);
    // One of them ends: what is left is the only one.
    world.logind().remove("6");
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn a_process_without_any_session_is_refused() {
    let mut world = people_with(&[]);
    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &["session"]);
    assert_eq!(world.users(), [""; 0]);
    world.assert_settled();
}

#[test]
fn a_process_of_a_session_on_its_way_out_is_refused() {
    let mut world = shared_machine();
    world.logind().closing("1");
    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &["session"]);
    assert_eq!(world.users(), [""; 0]);
    assert_eq!(world.launch(BOB, "orders-db").finish().code(), 0);
    world.assert_settled();
}

/// An id that logind uses again is another session: nothing of the old one is adopted.
#[test]
fn an_id_that_is_used_again_is_another_session() {
    let mut world = shared_machine();
    let mut client = world.launch(ALICE, "orders-db");
    let old = world.sessions(ALICE)[0].id;
    world.logind().remove("1");
    world.logind().log_in("1", ALICE, Kind::Desktop);
    client.outcome().assert_code(77);
    let mut client = world.launch(ALICE, "orders-db");
    let new = world.sessions(ALICE).iter().map(|session| session.id).next_back();
    assert_ne!(new, Some(old));
    assert_eq!(world.launches()[0].state, LaunchState::Running);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// Somebody else comes to the seat.
#[test]
fn a_user_switch_locks_who_went() {
    let mut world = shared_machine();
    world.logind().remove("2");
    let mut alices = world.launch(ALICE, "orders-db");
    world.logind().active("1", false);
    world.logind().log_in("7", BOB, Kind::Desktop);
    world.assert_dark();
    world.assert_locked(ALICE, LockCause::Inactive);
    let mut bobs = world.launch(BOB, "orders-db");
    assert!(is_parked(&mut alices) && !is_parked(&mut bobs));
    world.run_to_end(ALICE, &["unlock"]).assert_refused(77, &[]);
    assert_eq!(bobs.finish().code(), 0);
    assert_eq!(alices.finish().code(), 0);
    world.assert_settled();
}

/// Launches and mints are written down, and each mint makes something at the backend: a person who begins one after the
/// other is held up before the disk is full, and nobody else is.
#[test]
fn one_begins_too_much_and_the_other_works_on() {
    let world = World::system().with_logind().session("mints_per_minute = 4").vault().probe("orders-db", &[]);
    let mut world = world.start();
    let refused = (0..20).map(|_| world.run_to_end(ALICE, &["orders-db"])).find(|outcome| outcome.code != 0);
    let words = ["this account has begun 4 launches and mints within a minute", "mints_per_minute"];
    refused.expect("a minute brings four back, not forty").assert_refused(75, &words);
    let mut bobs = world.launch(BOB, "orders-db");
    assert!(!is_parked(&mut bobs));
    assert_eq!(bobs.finish().code(), 0);
    world.assert_settled();
}
