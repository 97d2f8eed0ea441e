//! The launcher as a program, between a client, a scripted broker on a real socket and a small real server: what
//! is parked, crashes, rests or is replaced comes back below the client's pipe, and nothing is answered wrongly.
#![expect(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::process::Command;
use std::time::{Duration, Instant};

use scene::{BARE, Broker, Channel, Client, QUIET, running};
use serde_json::json;

mod scene;

#[test]
fn a_lock_parks_and_an_unlock_goes_on_below_the_same_pipe() {
    let (_broker, mut channel, mut client) = running("lock", 0);
    client.send(
        &json!({ "jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": { "level": "info" } }),
    );
    assert_eq!(client.line()["id"], 1);
    client.call(2, "hang");
    client.call(3, "whoami");
    assert_eq!(client.text(3), "i0 yes set");
    let began = Instant::now();
    channel.park("locked");
    channel.expect("dead");
    assert!(began.elapsed() < Duration::from_millis(500), "the broker would have killed it");
    let text = client.text(2);
    assert!(text.contains("the session is locked") && text.contains("unlock it"), "{text}");
    assert!(text.contains("executed: unknown") && text.contains("hang"), "{text}");
    client.call(4, "whoami");
    assert!(client.text(4).contains("executed: no"));
    client.request(5, "ping");
    assert_eq!(client.line(), json!({ "jsonrpc": "2.0", "id": 5, "result": {} }));
    client.request(6, "tools/list");
    let error = client.line();
    assert_eq!((&error["id"], &error["error"]["code"]), (&json!(6), &json!(1001)));
    assert_eq!(error["error"]["data"]["hint"], "unlock it");
    channel.resume();
    channel.expect("want");
    client.call(7, "whoami");
    client.silent();
    channel.ticket(1, 0);
    assert_eq!(channel.expect("started")["instance"], 1);
    client.lists_changed();
    assert_eq!(client.text(7), "i1 yes set", "the handshake and the level were replayed");
    client.close();
    assert_eq!(client.wait(), 0);
    channel.expect("exited");
    channel.gone(1, "exited");
    channel.expect("dead");
}

#[test]
fn a_server_that_crashes_comes_back() {
    let (_broker, mut channel, mut client) = running("crash", 0);
    client.call(1, "hang");
    client.call(2, "die");
    assert_eq!(channel.expect("exited")["status"], 3);
    channel.gone(0, "exited");
    channel.expect("want");
    for id in [1, 2] {
        let text = client.text(id);
        assert!(text.contains("executed: unknown") && text.contains("status 3"), "{text}");
    }
    client.call(3, "whoami");
    channel.ticket(1, 0);
    channel.expect("started");
    client.lists_changed();
    assert_eq!(client.text(3), "i1 yes ");
    // Three times in a minute, and no more.
    for (instance, id) in [(1, 4), (2, 5), (3, 6)] {
        client.call(id, "die");
        client.text(id);
        channel.expect("exited");
        channel.gone(instance, "exited");
        if instance < 3 {
            channel.expect("want");
            channel.ticket(instance + 1, 0);
            channel.expect("started");
            client.lists_changed();
        }
    }
    client.request(7, "tools/list");
    assert_eq!(client.line()["error"]["code"], 1004);
    client.close();
    assert_eq!(client.wait(), 0);
}

/// What was asked before the client left is answered, also by an instance that is only coming up.
#[test]
fn a_client_that_leaves_while_its_server_restarts() {
    for waits in [true, false] {
        let (_broker, mut channel, mut client) = running(&format!("leaves-{waits}"), 0);
        client.call(1, "die");
        client.text(1);
        channel.expect("exited");
        channel.gone(0, "exited");
        channel.expect("want");
        if waits {
            client.call(2, "whoami");
        }
        client.close();
        if waits {
            channel.ticket(1, 0);
            channel.expect("started");
            client.lists_changed();
            assert_eq!(client.text(2), "i1 yes ");
        }
        assert_eq!(client.wait(), 0);
    }
}

#[test]
fn a_server_that_ends_before_it_answered_ends_the_launch() {
    let broker = Broker::start("early");
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.ticket(0, 0);
    channel.expect("started");
    client.call(1, "die");
    assert_eq!(client.wait(), 3);
    channel.expect("exited");
    channel.gone(0, "exited");
    channel.expect("dead");
}

#[test]
fn an_idle_server_rests_until_it_is_needed() {
    let (_broker, mut channel, mut client) = running("idle", 1);
    client.request(1, "ping");
    channel.gone(0, "idle");
    client.request(2, "ping");
    let answers: Vec<_> = std::iter::from_fn(|| client.lines.recv_timeout(QUIET).ok()).collect();
    assert!(answers.iter().any(|line| line.contains("\"id\":2")), "a ping is answered: {answers:?}");
    client.call(3, "whoami");
    channel.expect("want");
    channel.ticket(1, 0);
    channel.expect("started");
    client.lists_changed();
    assert_eq!(client.text(3), "i1 yes ");
}

#[test]
fn a_parked_launch_that_was_idle_waits_for_a_request() {
    let (_broker, mut channel, mut client) = running("idle-lock", 1);
    channel.gone(0, "idle");
    channel.park("locked");
    channel.expect("dead");
    channel.resume();
    client.silent();
    client.call(1, "whoami");
    channel.expect("want");
    channel.ticket(1, 0);
    channel.expect("started");
    client.lists_changed();
    client.text(1);
}

#[test]
fn a_broker_that_comes_back_is_found_again() {
    let (mut broker, channel, mut client) = running("away", 0);
    client.call(1, "hang");
    client.call(9, "whoami");
    client.text(9);
    drop(channel);
    broker.restart();
    let text = client.text(1);
    assert!(text.contains("executed: unknown") && text.contains("the broker"), "{text}");
    let (mut channel, want) = broker.accept();
    assert!(!want, "it is asked when the plan is known");
    channel.expect("want");
    client.call(2, "whoami");
    channel.ticket(0, 0);
    assert_eq!(channel.expect("started")["instance"], 0);
    loop {
        let message = client.line();
        if message["id"] == 2 {
            // It may have come before the connection did.
            break;
        }
        assert_eq!(message["method"], "notifications/tools/list_changed");
    }
    client.call(3, "whoami");
    assert!(std::iter::from_fn(|| Some(client.line())).any(|message| message["id"] == 3));
}

#[test]
fn an_instance_is_replaced_without_a_trace() {
    let (_broker, mut channel, mut client) = running("replace", 0);
    channel.send(&json!({ "type": "replace", "instance": 0, "within_secs": 60 }));
    channel.expect("want");
    client.call(3, "whoami");
    assert_eq!(client.text(3), "i0 yes ", "it works on");
    client.call(4, "nap");
    // Refused by the launcher itself and in its turn: the call before it has gone to the instance.
    client.raw(b"no message");
    assert_eq!(client.line()["error"]["code"], -32700);
    channel.ticket(1, 0);
    channel.expect("started");
    assert_eq!(client.text(4), "rested i0", "a call in flight is finished where it is");
    channel.gone(0, "replaced");
    client.silent();
    client.call(5, "whoami");
    assert_eq!(client.text(5), "i1 yes ");
}

/// Without a PID namespace the launcher itself ends what a dead keeper leaves, and nothing else.
#[test]
fn a_sub_reaper_ends_the_replaced_instance_alone() {
    let broker = Broker::start("reaper");
    let mut command = Command::new("/usr/bin/unshare");
    command.args(["--user", "--map-current-user", "--keep-caps", "/bin/sh", "-c", BARE]);
    command.arg(env!("CARGO_BIN_EXE_mcp-run"));
    let mut client = Client::start_by(command, &broker, true);
    let (mut channel, _) = broker.accept();
    channel.ticket(0, 0);
    assert_eq!(channel.expect("started")["containment"], "sub-reaper");
    client.open();
    client.call(1, "fork");
    let old = client.text(1);
    channel.send(&json!({ "type": "replace", "instance": 0, "within_secs": 60 }));
    channel.expect("want");
    channel.ticket(1, 0);
    channel.expect("started");
    channel.gone(0, "replaced");
    assert!(!alive(&old), "its grandchild is gone with it");
    client.call(2, "fork");
    let new = client.text(2);
    // Another swap that comes to nothing: the one that works is left alone.
    channel.send(&json!({ "type": "replace", "instance": 1, "within_secs": 60 }));
    channel.expect("want");
    channel.ticket_for(2, 0, "other");
    channel.expect("started");
    channel.gone(2, "unusable");
    assert!(alive(&new));
    client.call(3, "whoami");
    assert_eq!(client.text(3), "i1 yes ");
    channel.park("locked");
    channel.expect("dead");
    assert!(!alive(&new));
}

fn alive(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
}

#[test]
fn a_park_is_quick_whatever_is_under_way() {
    let (_broker, mut channel, mut client) = running("under-way", 0);
    let parked = |channel: &mut Channel, client: &mut Client, id: u32| {
        let began = Instant::now();
        channel.park("locked");
        channel.expect("dead");
        assert!(began.elapsed() < Duration::from_millis(500), "the broker would have killed it");
        client.call(id, "whoami");
        let text = client.text(id);
        assert!(text.contains("executed: no"), "{text}");
        channel.resume();
        channel.expect("want");
    };
    parked(&mut channel, &mut client, 1);
    // While credentials are asked for.
    parked(&mut channel, &mut client, 2);
    // While an instance comes up, with a call that waits for it.
    channel.ticket_for(1, 0, "mute");
    channel.expect("started");
    client.call(3, "whoami");
    client.silent();
    let began = Instant::now();
    channel.park("locked");
    channel.expect("dead");
    assert!(began.elapsed() < Duration::from_millis(500));
    assert!(client.text(3).contains("executed: no"), "it never left the launcher");
    channel.resume();
    channel.expect("want");
    channel.ticket(2, 0);
    channel.expect("started");
    client.lists_changed();
    // While one takes the place of another.
    channel.send(&json!({ "type": "replace", "instance": 2, "within_secs": 60 }));
    channel.expect("want");
    parked(&mut channel, &mut client, 4);
    channel.ticket(3, 0);
    channel.expect("started");
    client.lists_changed();
    channel.send(&json!({ "type": "replace", "instance": 3, "within_secs": 60 }));
    channel.expect("want");
    channel.ticket_for(4, 0, "mute");
    channel.expect("started");
    parked(&mut channel, &mut client, 5);
}

#[test]
fn a_server_that_comes_back_as_another_one_is_not_used() {
    let (_broker, mut channel, mut client) = running("other", 0);
    channel.park("locked");
    channel.expect("dead");
    channel.resume();
    channel.expect("want");
    channel.ticket_for(1, 0, "other");
    channel.expect("started");
    channel.gone(1, "unusable");
    client.call(1, "whoami");
    client.silent();
    channel.expect("want");
    channel.ticket(2, 0);
    channel.expect("started");
    client.lists_changed();
    assert_eq!(client.text(1), "i2 yes ");
}

#[test]
fn a_broker_that_is_silent_is_not_waited_for() {
    let (broker, channel, mut client) = running("silent", 0);
    client.call(1, "hang");
    let text = client.text(1);
    assert!(text.contains("silent") && text.contains("executed: unknown"), "{text}");
    let (mut next, _) = broker.accept();
    next.expect("want");
    let rest: Vec<_> = channel.frames.iter().collect();
    assert!(rest.is_empty(), "nothing is promised to the silent one: {rest:?}");
}

#[test]
fn a_late_answer_reaches_no_other_instance() {
    let (_broker, mut channel, mut client) = running("late", 0);
    client.call(1, "ask");
    assert_eq!(client.line()["id"], 0, "the server asks");
    channel.park("locked");
    channel.expect("dead");
    client.text(1);
    let cancelled = client.line();
    assert_eq!(
        (&cancelled["method"], &cancelled["params"]["requestId"]),
        (&json!("notifications/cancelled"), &json!(0))
    );
    channel.resume();
    channel.expect("want");
    channel.ticket(1, 0);
    channel.expect("started");
    client.lists_changed();
    client.call(2, "ask");
    let asked = client.line();
    assert_eq!(asked["method"], "roots/list");
    assert_ne!(asked["id"], 0, "the client still has that id open");
    client.send(&json!({ "jsonrpc": "2.0", "id": 0, "result": { "roots": ["late"] } }));
    client.silent();
    client.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "roots": ["mine"] } }));
    let heard = client.line();
    assert_eq!(heard["params"]["to"], "i1");
    assert_eq!(
        heard["params"]["line"],
        json!({ "jsonrpc": "2.0", "id": 0, "result": { "roots": ["mine"] } })
    );
}

#[test]
fn neither_a_flood_nor_a_client_that_does_not_read_delays_a_park() {
    let broker = Broker::start("flood");
    let mut client = Client::start_with(&broker, false);
    let (mut channel, _) = broker.accept();
    channel.ticket(0, 0);
    channel.expect("started");
    client.call(1, "flood");
    // Until every buffer between them is full.
    std::thread::sleep(Duration::from_millis(300));
    let began = Instant::now();
    channel.park("locked");
    channel.expect("dead");
    assert!(began.elapsed() < Duration::from_millis(500), "the broker would have killed it");
}

#[test]
fn what_cannot_be_had_at_first_is_waited_for_and_then_said() {
    for (code, exit, patient) in
        [("provider_busy", 75, true), ("no_access", 77, false), ("session_locked", 77, true)]
    {
        let broker = Broker::start(&format!("first-{code}"));
        let mut client = Client::start(&broker);
        let (mut channel, _) = broker.accept();
        let began = Instant::now();
        channel.refuse("all", code);
        assert_eq!(client.wait(), exit, "{code}");
        assert_eq!(began.elapsed() > Duration::from_secs(2), patient, "{code}");
    }
}

#[test]
fn a_refusal_that_passes_is_asked_about_again() {
    let (_broker, mut channel, mut client) = running("busy", 0);
    channel.park("credential_unavailable");
    channel.expect("dead");
    channel.expect("want");
    channel.refuse("all", "provider_busy");
    client.request(1, "tools/list");
    assert_eq!(client.line()["error"]["code"], 1003);
    channel.expect("want");
    channel.ticket(1, 0);
    channel.expect("started");
    client.lists_changed();
    client.call(2, "whoami");
    assert_eq!(client.text(2), "i1 yes ");
    channel.send(&json!({ "type": "end", "reason": "revoked", "hint": "ask" }));
    channel.expect("dead");
    assert_eq!(client.wait(), 77);
}

#[test]
fn a_parked_launch_ends_with_its_client() {
    for signal in [None, Some(libc::SIGTERM)] {
        let (_broker, mut channel, mut client) = running(&format!("leave-{signal:?}"), 0);
        channel.park("locked");
        channel.expect("dead");
        match signal {
            None => client.close(),
            Some(_) => client.signal(rustix::process::Signal::TERM),
        }
        assert_eq!(client.wait(), signal.map_or(0, |number| 128 + number));
    }
}
