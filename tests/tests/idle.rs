//! Idle costs nothing: an instance that nobody asks for anything is gone with its credential, and the next request
//! has both back below the same pipe, with another user, without the client's seeing any of it.

use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::parts::seen;
use e2e::pipe::Pipe;
use e2e::sdk::Sdk;
use e2e::{World, eventually};
use mcp_broker_proto::session::LaunchState;
use serde_json::json;

fn idling(world: World) -> World {
    let stateless = [seen::PYTHON_2, "-B", seen::STATELESS];
    world.session("idle = \"2s\"").vault().server("orders-db", &stateless).start()
}

/// The database's answer to who is connected; any failure fails the test.
#[track_caller]
fn who(world: &World, pipe: &mut Pipe) -> String {
    let user = pipe.must_call("whoami", json!({}));
    assert!(user.contains(&world.role), "{user}");
    user
}

#[test]
fn an_idle_instance_is_dropped_and_comes_back() {
    for sdk in [Sdk::One, Sdk::Two] {
        let mut world = idling(World::user());
        let mut pipe = world.converse(ALICE, sdk, "orders-db");
        let mut users = vec![who(&world, &mut pipe)];
        for _ in 0..2 {
            world.assert_dark();
            eventually("the launch is idle", || {
                so(world.launches().iter().map(|launch| launch.state).eq([LaunchState::Idle]))
            });
            assert!(world.leases().is_empty());
            let user = who(&world, &mut pipe);
            assert!(!users.contains(&user), "another user: {user} after {users:?}");
            users.push(user);
        }
        // A request that is no call brings it back as well.
        world.assert_dark();
        assert_eq!(pipe.ask("read", json!({ "uri": "note://hello" })), Ok(json!(["hello"])));
        assert_eq!(pipe.finish().code(), 0);
        world.assert_settled();
        assert_eq!(world.audited("session_locked", ""), 0);
    }
}

/// A call that takes longer than the idle time is no idleness.
#[test]
fn a_call_under_way_is_not_idle() {
    let mut world = idling(World::user());
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    let _ = who(&world, &mut pipe);
    let users = world.users();
    let slow = pipe.send("call", json!({ "name": "slow", "arguments": { "seconds": 6 } }));
    let called = pipe.called(slow);
    assert!(!called.failed && called.text == "done", "{called:?}");
    assert_eq!(world.users(), users);
    world.assert_dark();
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}

/// Requests that come more often than that keep it.
#[test]
fn an_instance_in_use_is_kept() {
    let mut world = idling(World::user());
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    let user = who(&world, &mut pipe);
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(who(&world, &mut pipe), user);
    }
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}

/// An unlock brings back what was in use, and leaves alone what was idle until somebody needs it.
#[test]
fn what_was_idle_at_the_lock_waits_for_a_request() {
    let mut world = idling(World::user().with_logind());
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    let _ = who(&world, &mut pipe);
    world.assert_dark();
    eventually("the launch is idle", || {
        so(world.launches().iter().map(|launch| launch.state).eq([LaunchState::Idle]))
    });
    let minted = world.audited("credential_intended", "");
    world.logind().lock("1");
    world.assert_parked(1);
    pipe.call("whoami", json!({})).assert_not_executed(&["locked"]);
    world.outlast_the_shortest_lock();
    world.logind().unlock("1");
    world.assert_active(ALICE);
    eventually("the launch is idle again", || {
        so(world.launches().iter().map(|launch| launch.state).eq([LaunchState::Idle]))
    });
    assert_eq!(world.audited("credential_intended", ""), minted, "nobody had asked for it");
    let _ = who(&world, &mut pipe);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}
