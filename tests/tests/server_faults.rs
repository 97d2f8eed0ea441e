//! Servers and clients that misbehave: each launch ends, tells why, and leaves neither process nor credential.

use std::process::Stdio;

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::parts::seen;
use e2e::process::spawn;
use e2e::{World, eventually};
use serde_json::{Value, json};

#[test]
fn a_server_that_exits_at_once() {
    let mut world = World::user().vault().probe("short", &["exit=3"]).start();
    let outcome = world.run_to_end(ALICE, &["short"]);
    outcome.assert_code(3);
    assert_eq!(outcome.text(), "");
    assert!(outcome.stderr.contains("ends with 3 as asked"), "its own words pass: {}", outcome.stderr);
    world.assert_settled();
}

#[test]
fn a_server_that_prints_rubbish() {
    let mut world = World::user().vault().probe("noisy", &["rubbish"]).start();
    let mut client = world.launch(ALICE, "noisy");
    assert_eq!(client.finish().code(), 0);
    for line in client.stdout.text().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|m| m["jsonrpc"] == "2.0"), "{line}");
    }
    world.assert_settled();
}

#[test]
fn a_server_that_forks_and_detaches() {
    let mut world = World::user().vault().probe("daemon", &["detach"]).start();
    let mut client = world.launch(ALICE, "daemon");
    // The environment of one that is just being executed reads as empty.
    eventually("the grandchild runs", || so(world.instances().len() >= 2));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// The parent exits at once and leaves the grandchild behind, which would hold the credential for ever.
#[test]
fn a_server_that_leaves_a_daemon_behind() {
    let script = "(trap '' TERM HUP INT; exec setsid sleep 1000) >/dev/null 2>&1 </dev/null & exit 0";
    let mut world = World::user().vault().server("daemon", &["/bin/sh", "-c", script]).start();
    world.run_to_end(ALICE, &["daemon"]).assert_code(0);
    world.assert_settled();
}

#[test]
fn a_server_that_ignores_the_end_of_input_and_sigterm() {
    let mut world = World::user().vault().probe("deaf", &["deaf"]).start();
    let mut client = world.launch(ALICE, "deaf");
    client.close();
    client.outcome().assert_code(128 + libc::SIGKILL);
    world.assert_settled();

    let mut client = world.launch(ALICE, "deaf");
    client.process.signal(libc::SIGTERM);
    let _ = client.process.wait();
    world.assert_settled();
}

/// A server that does not read its input ends by the signal, and its code says so.
#[test]
fn a_server_that_never_reads() {
    let mut world = World::user().vault().server("idle", &["/bin/sleep", "1000"]).start();
    for by_signal in [true, false] {
        let mut client = world.run(ALICE, &["idle"]);
        eventually("it runs", || so(!world.instances().is_empty()));
        if by_signal {
            client.process.signal(libc::SIGTERM);
        } else {
            client.close();
        }
        client.outcome().assert_code(128 + libc::SIGTERM);
        world.assert_settled();
    }
}

/// A launcher that is stopped cannot say that it is alive: the broker ends the launch without it.
#[test]
fn a_launcher_that_hangs() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    client.process.signal(libc::SIGSTOP);
    e2e::eventually::within(2 * e2e::PATIENCE, "the user is gone", || so(world.users().is_empty()));
    client.process.signal(libc::SIGCONT);
    let _ = client.process.wait();
    world.assert_settled();
}

/// A client whose pipe is full and never emptied holds up neither a revocation nor an end.
#[test]
fn a_client_that_never_reads() {
    for revoke in [true, false] {
        let mut world = World::user().vault().probe("orders-db", &["flood"]).start();
        let mut command = world.command(ALICE, seen::LAUNCHER);
        command.arg("orders-db").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut launcher = spawn(command, world.view(ALICE));
        eventually("the launch runs", || so(world.users().len() == 1 && !world.instances().is_empty()));
        if revoke {
            world.admin(&["revoke", "--all"]).assert_code(0);
            assert_eq!(launcher.wait().code(), 77);
        } else {
            launcher.signal(libc::SIGTERM);
            let _ = launcher.wait();
        }
        world.assert_settled();
    }
}

#[test]
fn a_command_that_is_not_there() {
    let mut world = World::user().vault().server("absent", &["/nowhere/program"]).start();
    let outcome = world.run_to_end(ALICE, &["absent"]);
    assert!([78, 127, 69].contains(&outcome.code), "{outcome:?}");
    outcome.assert_refused(outcome.code, &["/nowhere/program"]);
    world.assert_settled();
}

#[test]
fn a_command_that_cannot_be_run() {
    let mut world = World::user().vault();
    let path = world.path().join("conf/not-a-program");
    e2e::tempdir::write(&path, "hello", 0o644, 0, 0);
    world = world.server("broken", &[path.to_str().unwrap()]).start();
    let outcome = world.run_to_end(ALICE, &["broken"]);
    assert!([78, 126, 69].contains(&outcome.code), "{outcome:?}");
    outcome.assert_refused(outcome.code, &["not-a-program"]);
    world.assert_settled();
}

/// Two clients start the same server: two users, and the end of one leaves the other.
#[test]
fn two_launches_of_one_server_are_apart() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut first = world.launch(ALICE, "orders-db");
    let mut second = world.launch(ALICE, "orders-db");
    assert_eq!(world.users().len(), 2);
    assert_eq!(world.injected("DSN").len(), 2, "each has a credential of its own");
    assert_eq!(first.finish().code(), 0);
    eventually("one user is gone", || so(world.users().len() == 1));
    let left = &world.users()[0];
    assert!(world.injected("DSN")[0].contains(left.as_str()));
    assert_eq!(second.call("echo", json!({ "a": 1 })), r#"{"a":1}"#);
    assert_eq!(second.finish().code(), 0);
    world.assert_settled();
}
