//! Below the client's pipe servers come and go: one that crashed is started again, so often and not for ever, and one
//! whose credential ends for good is replaced while calls go on.

use std::time::{Duration, Instant};

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::pipe::{Pipe, assert_own_error};
use e2e::process::kill;
use e2e::sdk::Sdk;
use e2e::{PATIENCE, World, eventually};
use serde_json::{Value, json};

const STATELESS: [&str; 3] = [seen::PYTHON_2, "-B", seen::STATELESS];

/// A call of the raw client: whether it failed, and its text.
#[track_caller]
fn call(client: &mut Client, tool: &str, arguments: Value) -> (bool, String) {
    let answer = client.request("tools/call", json!({ "name": tool, "arguments": arguments }));
    let result = &answer["result"];
    let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{tool}: {answer}"));
    (result["isError"] == true, text.to_owned())
}

fn kill_instances(world: &World) {
    for pid in world.instances() {
        kill(pid, libc::SIGKILL);
    }
}

#[test]
fn a_server_that_is_killed_comes_back_with_another_user() {
    for sdk in [Sdk::One, Sdk::Two] {
        let mut world = World::user().vault().server("orders-db", &STATELESS).start();
        let mut pipe = world.converse(ALICE, sdk, "orders-db");
        let user = pipe.must_call("whoami", json!({}));
        let slow = pipe.send("call", json!({ "name": "slow", "arguments": { "seconds": 600 } }));
        // Sent after it and answered: the slow one is with the server.
        let _ = pipe.must_call("pid", json!({}));
        kill_instances(&world);
        pipe.called(slow).assert_unknown(&[]);
        let another = eventually("a call works again", || {
            let called = pipe.call("whoami", json!({}));
            (!called.failed).then_some(called.text)
        });
        assert_ne!(user, another);
        eventually("only the new user is there", || so(world.users() == [another.as_str()]));
        assert_eq!(pipe.finish().code(), 0);
        world.assert_settled();
        assert!(world.audited("instance_exited", "\"status\":137") > 0, "the audit log knows how it ended");
    }
}

/// It ends by itself in the middle of a conversation: the client's pipe stays.
#[test]
fn a_server_that_exits_is_started_again() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let (failed, text) = call(&mut client, "exit", json!({ "status": 7 }));
    assert!(failed && text.contains("executed: unknown"), "{text}");
    eventually("a call works again", || so(!call(&mut client, "echo", json!({})).0));
    assert_eq!(world.users().len(), 1);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// A server that cannot stay up is not started for ever: the client is told so, and OpenBao is left in peace.
#[test]
fn a_server_that_crashes_again_and_again_is_given_up_for_a_while() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let told = eventually("the client is told that it does not start again now", || {
        let (failed, text) = call(&mut client, "exit", json!({ "status": 7 }));
        assert!(failed, "{text}");
        assert!(text.contains("executed: "), "{text}");
        text.contains("executed: no").then_some(text)
    });
    println!("told: {told}");
    let answer = client.request("tools/list", json!({}));
    assert_own_error(&answer["error"], 1004);
    let answer = client.request("ping", json!({}));
    assert_eq!(answer["result"], json!({}), "{answer}");
    let minted = world.audited("credential_intended", "");
    assert!(minted <= 20, "{minted} credentials for a server that crashes");
    eventually("nothing of it is left", || so(world.users().is_empty() && world.instances().is_empty()));
    let _ = client.finish();
    world.assert_settled();
}

/// Its program is gone, or its credential of no use to it: it cannot answer as the one before it.
#[test]
fn a_server_that_does_not_come_up_again_is_an_error_and_not_a_hang() {
    let world = World::user().vault();
    // It works once: the second time it ends before it has answered anything.
    let mark = world.path().join("home/alice/started");
    let script = format!("test -e {0} && exit 5; touch {0}; exec {1}", mark.display(), seen::PROBE);
    let mut world = world.server("orders-db", &["/bin/sh", "-c", &script]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let (failed, _) = call(&mut client, "exit", json!({ "status": 1 }));
    assert!(failed);
    let (failed, text) = call(&mut client, "echo", json!({}));
    assert!(failed && text.contains("executed: no"), "{text}");
    std::fs::remove_file(&mark).expect("it was there");
    e2e::eventually::within(3 * PATIENCE, "it comes back when it can", || {
        // Removed each time, so that one late start is enough.
        let _ = std::fs::remove_file(&mark);
        let answer = client.try_request("tools/call", json!({ "name": "echo", "arguments": {} }))?;
        so(answer["result"]["isError"] != true && answer.get("error").is_none())
    });
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// What was seen of a world over a while.
struct Watched {
    users: Vec<String>,
    longest_two: Duration,
}

/// Calls for so long, each of which must succeed, and watches the minted users meanwhile.
fn call_and_watch(world: &World, pipe: &mut Pipe, time: Duration) -> Watched {
    let (mut users, mut longest_two, mut two_since) = (Vec::new(), Duration::ZERO, None);
    let start = Instant::now();
    while start.elapsed() < time {
        let user = pipe.must_call("whoami", json!({}));
        assert!(user.starts_with("v-"), "the database refused: {user}");
        if users.last() != Some(&user) {
            users.push(user);
        }
        let alive = world.users();
        assert!((1..=2).contains(&alive.len()), "{alive:?}");
        if alive.len() == 2 {
            let since = *two_since.get_or_insert_with(Instant::now);
            longest_two = longest_two.max(since.elapsed());
        } else {
            two_since = None;
        }
        std::thread::sleep(Duration::from_millis(150));
    }
    Watched { users, longest_two }
}

/// A credential that cannot be renewed beyond twenty seconds: the client sees nothing of the swaps.
#[test]
fn a_credential_that_ends_for_good_is_swapped_unseen() {
    for sdk in [Sdk::One, Sdk::Two] {
        let options = json!({ "default_ttl": "20s", "max_ttl": "20s" });
        let mut world = World::user().vault_with(options).server("orders-db", &STATELESS).start();
        let mut pipe = world.converse(ALICE, sdk, "orders-db");
        let watched = call_and_watch(&world, &mut pipe, Duration::from_secs(60));
        println!("{sdk:?}: {} users, two at once for {:?}", watched.users.len(), watched.longest_two);
        assert!(watched.users.len() >= 3, "{:?}", watched.users);
        let mut unique = watched.users.clone();
        unique.sort();
        unique.dedup();
        assert_eq!(unique.len(), watched.users.len(), "an old user came back: {:?}", watched.users);
        assert!(watched.longest_two < Duration::from_secs(10), "{:?}", watched.longest_two);
        assert_eq!(pipe.finish().code(), 0);
        world.assert_settled();
    }
}

/// A call that is in flight when the credential is swapped is finished by the server that has it. A server that
/// sees the end of its input gives up what it is at, so that its input ends after the answer and not before.
#[test]
fn a_call_in_flight_survives_a_swap() {
    let options = json!({ "default_ttl": "20s", "max_ttl": "20s" });
    let mut world = World::user().vault_with(options).server("orders-db", &STATELESS).start();
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    let first = pipe.must_call("whoami", json!({}));
    let swapped = e2e::eventually::within(Duration::from_secs(60), "a swap with a call in flight", || {
        let slow = pipe.send("call", json!({ "name": "slow", "arguments": { "seconds": 1 } }));
        let called = pipe.called(slow);
        assert!(!called.failed && called.text == "done", "{called:?}");
        let user = pipe.must_call("whoami", json!({}));
        (user != first).then_some(user)
    });
    eventually("the old one is gone", || so(!world.users().contains(&first)));
    assert!(swapped.starts_with("v-"));
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}

/// The server does not come up with the new credential in time: the old one ends when it ends, and nothing is left.
#[test]
fn a_swap_that_cannot_be_made_parks_and_comes_back() {
    let options = json!({ "default_ttl": "20s", "max_ttl": "20s" });
    let mut world = World::user().vault_with(options).server("orders-db", &STATELESS).start();
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    let first = pipe.must_call("whoami", json!({}));
    world.proxy().always("database/creds/", e2e::fault::Fault::status(503));
    e2e::eventually::within(Duration::from_secs(20) + PATIENCE, "it is over", || {
        so(world.users().is_empty() && world.instances().is_empty())
    });
    pipe.call("whoami", json!({})).assert_not_executed(&[]);
    world.proxy().heal();
    let second = e2e::eventually::within(3 * PATIENCE, "a call works again", || {
        let called = pipe.call("whoami", json!({}));
        (!called.failed).then_some(called.text)
    });
    assert_ne!(first, second);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}
