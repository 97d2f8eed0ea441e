//! Who is connected is known from the kernel: another person gets nothing of a user's broker, the system's
//! broker keeps people apart, and the admin's socket is the admin's.
//!
//! Other people are other user ids that a child of the test took; that they signed in is not proved.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::accounts::{ALICE, Account, BOB, MALLORY, ROOT};
use e2e::eventually::so;
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::{World, eventually};
use serde_json::json;

fn peer(world: &World, who: Account, words: &[&str]) -> Client {
    let mut command = world.command(who, "/usr/bin/python3");
    command.arg("-B").arg(format!("{}/peer.py", seen::CLIENTS)).args(words);
    Client::start(command, world.view(who))
}

/// What the socket answers a person who speaks HTTP by hand.
fn ask(world: &World, who: Account, method: &str, route: &str, body: &str) -> String {
    let socket = world.socket();
    let mut client = peer(world, who, &["ask", socket.to_str().unwrap(), method, route, body]);
    client.outcome().text()
}

const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/v1/health", ""),
    ("GET", "/v1/session", ""),
    ("GET", "/v1/servers", ""),
    ("DELETE", "/v1/session", ""),
    ("POST", "/v1/launches", r#"{"protocol":3,"server":"orders-db","want":true}"#),
    ("GET", "/v1/admin/leases", ""),
    ("POST", "/v1/admin/revoke", r#""all""#),
];

#[test]
fn another_person_gets_nothing_of_a_users_broker() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let closed = ask(&world, BOB, "GET", "/v1/health", "");
    assert!(closed.starts_with("refused"), "the directory is private: {closed}");

    // Even where somebody opened the way.
    for path in [world.runtime_dir(ALICE), world.socket_dir(), world.socket(), world.admin_socket()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    for who in [BOB, MALLORY, ROOT] {
        for (method, route, body) in ROUTES {
            let answer = ask(&world, who, method, route, body);
            let refused = answer.starts_with("closed") || answer.starts_with("HTTP/1.1 403");
            assert!(refused, "{} {method} {route}: {answer}", who.name);
            assert!(!answer.contains("orders-db"), "{}: {answer}", who.name);
        }
        let socket = world.admin_socket();
        let mut other =
            peer(&world, who, &["ask", socket.to_str().unwrap(), "POST", "/v1/admin/revoke", r#""all""#]);
        let answer = other.outcome().text();
        assert!(answer.starts_with("closed") || answer.starts_with("HTTP/1.1 403"), "{}: {answer}", who.name);
    }
    assert_eq!(client.call("echo", json!({})), "{}", "the launch is not disturbed");
    assert_eq!(world.users().len(), 1);
    // The control: the owner is answered.
    assert!(ask(&world, ALICE, "GET", "/v1/health", "").starts_with("HTTP/1.1 200"));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn a_socket_of_somebody_else_is_not_trusted() {
    let world = World::user().vault().probe("orders-db", &[]).start();
    let folder = world.path().join("shared");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
    let socket = folder.join("broker.sock");
    let mut listener = peer(&world, MALLORY, &["listen", socket.to_str().unwrap()]);
    assert_eq!(listener.line().unwrap(), b"ready");

    let outcome = world.run_to_end(ALICE, &["--socket", socket.to_str().unwrap(), "orders-db"]);
    outcome.assert_refused(78, &["broker.sock"]);

    let link = ALICE.home(world.path()).join("link.sock");
    std::os::unix::fs::symlink(&socket, &link).unwrap();
    let outcome = world.run_to_end(ALICE, &["--socket", link.to_str().unwrap(), "orders-db"]);
    outcome.assert_refused(78, &["link.sock"]);
    for line in listener.stdout.text().lines().skip(1) {
        assert_eq!(line, "0", "bytes went to a stranger");
    }
}

#[test]
fn the_systems_broker_keeps_people_apart() {
    let mut world = World::system().vault().probe("orders-db", &[]).start();
    let mut alices = world.launch(ALICE, "orders-db");
    let mut bobs = world.launch(BOB, "orders-db");
    assert_eq!(world.users().len(), 2);
    assert_eq!(alices.ask("env")["USER"], "alice");
    assert_eq!(bobs.ask("env")["USER"], "bob");
    assert_eq!(world.injected("DSN").len(), 2, "each has a credential of its own");

    for who in [ALICE, BOB] {
        let outcome = world.run_to_end(who, &["status", "--json"]);
        let status: mcp_broker_proto::session::Status = serde_json::from_slice(&outcome.stdout).unwrap();
        assert_eq!(status.launches.len(), 1, "{} sees the own launch only", who.name);
        assert_eq!(status.launches[0].user, who.name);
        assert_eq!(status.leases.len(), 1);
    }
    world.run_to_end(MALLORY, &["orders-db"]).assert_refused(77, &["orders-db"]);
    let servers = world.run_to_end(MALLORY, &["servers", "--json"]);
    let servers: Vec<mcp_broker_proto::session::ServerInfo> =
        serde_json::from_slice(&servers.stdout).unwrap();
    assert!(servers.iter().all(|server| !server.allowed && !server.reasons.is_empty()), "{servers:?}");

    world.run_to_end(BOB, &["logout"]).assert_code(0);
    bobs.outcome().assert_code(77);
    eventually("bob's user is gone", || so(world.users().len() == 1));
    assert_eq!(alices.call("echo", json!({})), "{}", "alice is not disturbed");

    world.admin(&["revoke", "--user", "alice"]).assert_code(0);
    alices.outcome().assert_code(77);
    world.assert_settled();
}

#[test]
fn the_admins_socket_is_the_admins() {
    let mut world = World::system().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let mode = fs::metadata(world.admin_socket()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600);
    let config = world.config_dir();
    for words in [&["leases"][..], &["sessions"], &["revoke", "--all"]] {
        let words = [words, &["--config", config.to_str().unwrap()]].concat();
        let outcome = world.admin_as(ALICE, &words);
        assert!([69, 77].contains(&outcome.code), "{words:?}: {outcome:?}");
        assert!(outcome.stderr.contains("hint: "), "{words:?}: {outcome:?}");
    }
    // On the people's socket there are no such routes.
    for (method, route, body) in ROUTES.iter().filter(|(_, route, _)| route.starts_with("/v1/admin")) {
        let answer = ask(&world, ROOT, method, route, body);
        assert!(answer.starts_with("HTTP/1.1 404"), "{route}: {answer}");
    }
    assert_eq!(client.call("echo", json!({})), "{}");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn members_of_a_group_have_access_and_others_not() {
    let mut world = World::system().vault();
    let text =
        world.definition(&[seen::PROBE]).replace("users = [\"alice\", \"bob\"]", "groups = [\"data\"]");
    world = world.file("orders-db", &text).start();
    for who in [ALICE, BOB] {
        assert_eq!(world.launch(who, "orders-db").finish().code(), 0, "{}", who.name);
    }
    world.run_to_end(MALLORY, &["orders-db"]).assert_refused(77, &["orders-db"]);
    world.assert_settled();
}
