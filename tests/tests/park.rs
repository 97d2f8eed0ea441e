//! The client's pipe outlives what is behind it. When the session is locked the server's process and its database
//! user are gone, and the same client is answered what happened and what to do; when it is unlocked the same
//! connection works on, with another process and another user. Real SDK clients of both eras, real servers.
//!
//! Not proved: a real screen locker, and what clients other than the two SDK generations do.

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::parts::seen;
use e2e::pipe::{Called, Pipe, assert_own_error};
use e2e::sdk::Sdk;
use e2e::{PATIENCE, World, eventually};
use mcp_broker_proto::session::LockCause;
use serde_json::{Value, json};

/// Something that happens in a world.
type Deed = fn(&World);

/// A person at a desktop, and a server with a minted database user.
fn desktop(command: &[&str]) -> World {
    World::user().with_logind().vault().server("orders-db", command).start()
}

const DBHUB: [&str; 4] = [seen::NODE, seen::DBHUB, "--transport", "stdio"];
const STATELESS: [&str; 3] = [seen::PYTHON_2, "-B", seen::STATELESS];

/// Whom the database sees, asked through dbhub.
fn dbhub_user(pipe: &mut Pipe) -> Called {
    pipe.call("execute_sql", json!({ "sql": "SELECT current_user AS who, body FROM notes" }))
}

/// The same through the server of the stateless era.
fn stateless_user(pipe: &mut Pipe) -> Called {
    pipe.call("whoami", json!({}))
}

/// The minted user's name in an answer.
#[track_caller]
fn minted(text: &str) -> String {
    let from = text.find("v-").unwrap_or_else(|| panic!("no minted user in {text}"));
    text[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect()
}

/// Calls until it works again: between the unlocking and the broker's seeing it a call is still refused.
#[track_caller]
fn works_again(pipe: &mut Pipe, call: fn(&mut Pipe) -> Called) -> String {
    let answer = eventually("a call works again", || {
        let called = call(pipe);
        if called.failed {
            // Refused or not, each one says whether it was run.
            assert!(called.text.contains("executed: "), "{called:?}");
        }
        (!called.failed).then_some(called)
    });
    minted(&answer.text)
}

/// Lock, refusals, unlock, and the same connection with another user; twice, as once proves too little.
fn park_and_resume(world: &mut World, pipe: &mut Pipe, call: fn(&mut Pipe) -> Called) {
    let mut users = vec![works_again(pipe, call)];
    let tools = pipe.tools();
    for _ in 0..2 {
        assert_eq!(world.users(), [users.last().unwrap().as_str()]);
        world.logind().lock("1");
        world.assert_dark();
        world.assert_locked(ALICE, LockCause::ScreenLock);
        world.assert_parked(1);
        let called = call(pipe);
        called.assert_not_executed(&["locked"]);
        if pipe.protocol == "2026-07-28" {
            assert_eq!(called.kind.as_deref(), Some("complete"));
        }
        assert_own_error(&pipe.ask("list", json!({})).unwrap_err(), 1001);
        // The stateless era has no pings.
        let ping = pipe.ask("ping", json!({}));
        assert_eq!(ping.is_ok(), pipe.protocol != "2026-07-28", "{ping:?}");
        assert_eq!(world.users(), [""; 0], "none of this minted anything");

        world.outlast_the_shortest_lock();
        world.logind().unlock("1");
        let user = works_again(pipe, call);
        assert!(!users.contains(&user), "another user than before: {user} and {users:?}");
        users.push(user);
        assert_eq!(pipe.tools(), tools, "the lists are there again");
    }
    assert!(pipe.process.running());
    let _ = pipe.finish();
    world.assert_settled();
    assert_eq!(world.audited("session_locked", "screen_lock"), 2);
    assert_eq!(world.audited("session_unlocked", ""), 2);
}

#[test]
fn a_lock_parks_dbhub_below_a_client_of_the_handshake_era() {
    let mut world = desktop(&DBHUB);
    let mut pipe = world.converse(ALICE, Sdk::One, "orders-db");
    park_and_resume(&mut world, &mut pipe, dbhub_user);
}

#[test]
fn a_lock_parks_a_stateless_server_below_a_client_of_its_era() {
    let mut world = desktop(&STATELESS);
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    assert_eq!(pipe.protocol, "2026-07-28");
    park_and_resume(&mut world, &mut pipe, stateless_user);
}

/// The new client asks for the stateless era first, and goes on in the other one.
#[test]
fn a_lock_parks_dbhub_below_a_client_of_both_eras() {
    let mut world = desktop(&DBHUB);
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    park_and_resume(&mut world, &mut pipe, dbhub_user);
}

/// What a client told a server that remembers is told to the next one: logging level and subscriptions; and
/// the client is told that lists may have changed.
#[test]
fn what_the_client_set_is_set_again() {
    let mut world = desktop(&[seen::NODE, seen::EVERYTHING]);
    let mut pipe = world.converse(ALICE, Sdk::One, "orders-db");
    let resource = |number: u32| json!({ "uri": format!("demo://resource/dynamic/text/{number}") });
    let (logged, updated) = ("notifications/message", "notifications/resources/updated");
    pipe.ask("level", json!({ "level": "emergency" })).unwrap();
    pipe.ask("subscribe", resource(1)).unwrap();
    assert_eq!(pipe.notifications(logged), [Value::Null; 0], "the server says this below that level only");
    eventually("the server tells of its own that its list changed", || {
        so(!pipe.notifications("notifications/tools/list_changed").is_empty())
    });

    world.logind().lock("1");
    world.assert_dark();
    world.assert_parked(1);
    assert_own_error(&pipe.ask("subscribe", resource(2)).unwrap_err(), 1001);
    let before = pipe.notifications("notifications/tools/list_changed").len();
    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    eventually("the client is told that the tools may have changed", || {
        so(pipe.notifications("notifications/tools/list_changed").len() > before)
    });
    let echo = eventually("a call works again", || {
        let called = pipe.call("echo", json!({ "message": "hello there" }));
        (!called.failed).then_some(called)
    });
    assert!(echo.text.contains("hello there"), "{echo:?}");

    let _ = pipe.must_call("toggle-subscriber-updates", json!({}));
    eventually("the subscription is there", || so(!pipe.notifications(updated).is_empty()));
    pipe.ask("subscribe", resource(3)).unwrap();
    assert_eq!(pipe.notifications(logged), [Value::Null; 0], "the level is still that one");
    // The control: at another level the same request is told.
    pipe.ask("level", json!({ "level": "debug" })).unwrap();
    pipe.ask("subscribe", resource(4)).unwrap();
    eventually("the server says so", || so(!pipe.notifications(logged).is_empty()));
    // This client fails at its end where a message comes then; what it says does not matter any more.
    let _ = pipe.finish();
    world.assert_settled();
}

/// Nobody knows how far a call in flight came: it is answered at once, and the model is told that.
#[test]
fn a_call_in_flight_may_have_been_executed() {
    let mut world = desktop(&STATELESS);
    for sdk in [Sdk::Two, Sdk::One] {
        let mut pipe = world.converse(ALICE, sdk, "orders-db");
        let slow = pipe.send("call", json!({ "name": "slow", "arguments": { "seconds": 600 } }));
        // Sent after it and answered: the slow one is with the server.
        let _ = pipe.must_call("pid", json!({}));
        assert!(!pipe.is_answered(slow));
        world.logind().lock("1");
        pipe.called(slow).assert_unknown(&["locked"]);
        world.assert_dark();
        world.outlast_the_shortest_lock();
        world.logind().unlock("1");
        let _ = works_again(&mut pipe, stateless_user);
        assert_eq!(pipe.finish().code(), 0);
        world.assert_settled();
    }
}

/// Requests around the moment of an unlock: each has an answer, and none waits for ever.
#[test]
fn nothing_is_dropped_silently() {
    let mut world = desktop(&STATELESS);
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    world.logind().lock("1");
    world.assert_dark();
    world.outlast_the_shortest_lock();
    let mut sent = Vec::new();
    for turn in 0..40 {
        if turn == 10 {
            world.logind().unlock("1");
        }
        sent.push(pipe.send("call", json!({ "name": "variable", "arguments": { "name": "E2E_MARK" } })));
        sent.push(pipe.send("list", json!({})));
    }
    for id in sent {
        let answer = pipe.answer(id);
        let right = answer["ok"].is_object() || answer["ok"].is_array() || answer["error"]["code"] == 1001;
        assert!(right, "{answer}");
        if answer["ok"]["is_error"] == false {
            assert_eq!(answer["ok"]["text"], world.mark.as_str());
        }
    }
    let _ = works_again(&mut pipe, stateless_user);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn where_a_lock_is_an_end_the_launch_ends() {
    let world = World::user().with_logind().session("on_lock = \"end\"").vault();
    let mut world = world.probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    world.logind().lock("1");
    let outcome = client.outcome();
    outcome.assert_code(77);
    assert!(outcome.stderr.contains("locked") && outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    world.assert_settled();
    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &["locked"]);
    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    world.assert_active(ALICE);
    assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0);
    world.assert_settled();
}

/// The person logs out: nothing is parked, and the client learns it by the end of its server.
#[test]
fn a_logout_ends_a_launch_that_is_parked_and_one_that_is_not() {
    for parked in [false, true] {
        let mut world = World::user().with_logind().vault().probe("orders-db", &[]).start();
        let mut client = world.launch(ALICE, "orders-db");
        if parked {
            world.logind().lock("1");
            world.assert_dark();
        }
        world.logind().remove("1");
        let outcome = client.outcome();
        outcome.assert_code(77);
        assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
        world.assert_settled();
        world.wait_audited("session_ended", "session_closed");
    }
}

/// The broker is killed under a conversation: the instance is gone at once and not when somebody restarts it,
/// and the same client goes on when somebody did.
#[test]
fn a_killed_broker_ends_instances_and_not_the_conversation() {
    for with_logind in [true, false] {
        let world = if with_logind { World::user().with_logind() } else { World::user() };
        let mut world = world.vault().server("orders-db", &DBHUB).start();
        let mut pipe = world.converse(ALICE, Sdk::One, "orders-db");
        let user = works_again(&mut pipe, dbhub_user);
        world.broker().kill9();
        eventually("the instances are gone", || so(world.instances().is_empty()));
        dbhub_user(&mut pipe).assert_not_executed(&["broker"]);
        let error = pipe.ask("list", json!({})).unwrap_err();
        assert_own_error(&error, 1003);
        // The stateless era has no pings.
        let ping = pipe.ask("ping", json!({}));
        assert_eq!(ping.is_ok(), pipe.protocol != "2026-07-28", "{ping:?}");
        world.restart();
        let another = works_again(&mut pipe, dbhub_user);
        assert_ne!(user, another);
        eventually("only the new user is there", || so(world.users() == [another.as_str()]));
        let _ = pipe.finish();
        world.assert_settled();
    }
}

/// A call in flight when the broker dies.
#[test]
fn a_call_in_flight_when_the_broker_dies_may_have_been_executed() {
    let mut world = World::user().vault().server("orders-db", &STATELESS).start();
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    let slow = pipe.send("call", json!({ "name": "slow", "arguments": { "seconds": 600 } }));
    let _ = pipe.must_call("pid", json!({}));
    world.broker().kill9();
    pipe.called(slow).assert_unknown(&["broker"]);
    world.restart();
    let _ = works_again(&mut pipe, stateless_user);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}

/// A restart is no way around a lock, whether the desktop shows it or only logind told of it.
#[test]
fn a_broker_that_restarts_while_locked_stays_locked() {
    let locks: [(&str, Deed); 3] = [
        ("a screen lock", |world| world.logind().lock("1")),
        ("a locked hint", |world| world.logind().hint("1", true)),
        ("a command", |world| drop(world.person(ALICE, "lock"))),
    ];
    let opens: [Deed; 3] = [
        |world| world.logind().unlock("1"),
        |world| world.logind().hint("1", false),
        |world| drop(world.person(ALICE, "unlock")),
    ];
    for ((what, lock), open) in locks.into_iter().zip(opens) {
        let mut world = desktop(&STATELESS);
        let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
        lock(&world);
        world.assert_dark();
        world.assert_parked(1);
        world.broker().kill9();
        world.restart();
        // The launcher has heard from the new broker, and nothing was minted for it.
        eventually("the lock is what the client is told of", || {
            let called = stateless_user(&mut pipe);
            called.assert_not_executed(&[]);
            so(called.text.contains("locked"))
        });
        assert!(world.is_locked(ALICE), "{what}");
        assert_eq!(world.users(), [""; 0], "{what}");
        world.outlast_the_shortest_lock();
        open(&world);
        let _ = works_again(&mut pipe, stateless_user);
        assert_eq!(pipe.finish().code(), 0, "{what}");
        world.assert_settled();
    }
}

/// The broker is away for longer than a client waits for anything.
#[test]
fn a_broker_that_stays_away_is_waited_for() {
    let mut world = World::user().vault().server("orders-db", &STATELESS).start();
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    world.broker().kill9();
    let mut told = 0;
    within(4 * PATIENCE, "it has been away for a while", || {
        stateless_user(&mut pipe).assert_not_executed(&[]);
        told += 1;
        std::thread::sleep(std::time::Duration::from_millis(100));
        so(told == 80)
    });
    world.restart();
    let _ = works_again(&mut pipe, stateless_user);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}
