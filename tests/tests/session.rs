//! A session locks, unlocks, ends on request and ends by itself, and each time its launches and credentials
//! end with it; a client that does not wait for the answer changes nothing about that.
//!
//! Not proved: that a session begins with a person's login, which needs logind.

use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::mcp::Client;
use e2e::{PATIENCE, World, eventually};
use serde_json::json;

/// The shortest `max_age` that the configuration takes.
const MAX_AGE: Duration = Duration::from_secs(60);

fn world() -> World {
    World::user().vault().probe("orders-db", &[]).start()
}

/// A command of the person that succeeds; what it prints.
#[track_caller]
fn person(world: &World, command: &str) -> String {
    let outcome = world.run_to_end(ALICE, &[command]);
    outcome.assert_code(0);
    outcome.text()
}

/// How often an event, with that word in it, is in the audit log.
#[track_caller]
fn audited(world: &World, event: &str, word: &str) -> usize {
    world.audit().iter().filter(|told| told["event"] == event && told.to_string().contains(word)).count()
}

/// The token of the session that makes the launches' own.
fn parent_token(world: &World) -> String {
    let seen = world.proxy().seen();
    let create = seen.iter().rfind(|seen| seen.path.starts_with("auth/token/create/mcp-launch"));
    create.and_then(|seen| seen.token.clone()).expect("a launch's token was made by the parent")
}

fn exists(world: &World, token: &str) -> bool {
    let body = json!({ "token": token });
    let root = e2e::bao::ROOT_TOKEN;
    let answer =
        world.bao().try_call("POST", "auth/token/lookup", Some(&body), root).expect("OpenBao answers");
    assert!([200, 403, 404].contains(&answer.status), "{answer:?}");
    answer.status == 200
}

#[test]
fn a_lock_parks_launches_and_an_unlock_brings_them_back() {
    let mut world = world();
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(world.users().len(), 1);
    let parent = parent_token(&world);
    assert!(exists(&world, &parent));

    assert!(person(&world, "lock").starts_with("locked"));
    assert_eq!(world.users(), [""; 0], "the command says locked when the credential is revoked");
    client.wait_stderr("the server is parked: the session was locked with `mcp-run lock`");
    assert_eq!(world.instances(), [0; 0]);
    assert!(!exists(&world, &parent), "a locked session has no token to mint with");
    assert!(person(&world, "status").contains("locked"));

    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &["locked", "mcp-run unlock"]);
    assert_eq!(world.users(), [""; 0]);

    assert!(person(&world, "unlock").starts_with("unlocked"));
    let mut other = world.launch(ALICE, "orders-db");
    assert_eq!(other.finish().code(), 0);
    eventually("the parked one is back", || so(world.users().len() == 1));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
    for event in ["session_locked", "session_unlocked"] {
        assert_eq!(audited(&world, event, ""), 1, "{event}");
    }
}

/// A lock is not undone by signing out and in: only an unlock does that.
#[test]
fn a_logout_does_not_unlock() {
    let world = world();
    let _ = person(&world, "login");
    let _ = person(&world, "lock");
    let _ = person(&world, "logout");
    let _ = world.run_to_end(ALICE, &["login"]);
    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &["mcp-run unlock"]);
    let _ = person(&world, "unlock");
    assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0);
}

#[test]
fn a_logout_ends_the_session_and_a_login_begins_another() {
    let mut world = world();
    assert!(person(&world, "login").contains("signed in as alice"));
    assert_eq!(audited(&world, "session_started", ""), 1);
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(audited(&world, "session_started", ""), 1, "the launch joins the session");
    let parent = parent_token(&world);

    assert!(person(&world, "logout").starts_with("logged out"));
    assert_eq!(world.users(), [""; 0]);
    assert!(!exists(&world, &parent));
    client.outcome().assert_code(77);
    world.assert_settled();
    assert_eq!(audited(&world, "session_ended", "logged_out"), 1);
    assert!(person(&world, "status").contains("session  none"));

    assert!(person(&world, "login").contains("signed in as alice"));
    assert!(person(&world, "status").contains("session  active, alice"));
    let mut client = world.launch(ALICE, "orders-db");
    assert_ne!(parent_token(&world), parent, "a new session has a parent of its own");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// Takes a minute: no shorter age can be configured, and the clock of a running broker cannot be moved.
#[test]
fn a_session_ends_by_itself_at_its_maximum_age() {
    let config = format!("max_age = \"{}s\"", MAX_AGE.as_secs());
    let mut world = World::user().vault().session(&config).probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let parent = parent_token(&world);
    within(MAX_AGE + PATIENCE, "the launch ends", || so(!client.process.running()));
    // Its credential was minted to end with the session, and is given up two seconds earlier: for that reason.
    let outcome = client.outcome();
    assert!(outcome.code == 77 && outcome.stderr.contains("hint: "), "{outcome:?}");
    world.assert_settled();
    eventually("the end is in the audit log", || so(audited(&world, "session_ended", "max_age") == 1));
    assert!(!exists(&world, &parent));
    assert!(person(&world, "status").contains("session  none"));
}

/// The client of `DELETE /v1/session` closes its connection without waiting for the answer, while the end waits for a launcher that
/// is stopped and cannot say that its server is dead.
#[test]
fn a_logout_whose_client_goes_away_is_a_whole_logout() {
    let mut world = world();
    let mut client = world.launch(ALICE, "orders-db");
    let parent = parent_token(&world);
    assert!(exists(&world, &parent));
    client.process.signal(libc::SIGSTOP);

    // It stays until the broker surely has the request, and leaves long before the end is done.
    let script = "import socket, sys, time\n\
        s = socket.socket(socket.AF_UNIX)\n\
        s.connect(sys.argv[1])\n\
        s.sendall(b'DELETE /v1/session HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n')\n\
        time.sleep(0.2)\n\
        s.close()\n";
    let mut command = world.command(ALICE, "/usr/bin/python3");
    command.args(["-c", script, world.socket().to_str().unwrap()]);
    Client::start(command, world.view(ALICE)).outcome().assert_code(0);

    eventually("the end is in the audit log", || so(audited(&world, "session_ended", "logged_out") == 1));
    eventually("the parent is revoked", || so(!exists(&world, &parent)));
    eventually("the minted user is gone", || so(world.users().is_empty()));
    client.process.signal(libc::SIGCONT);
    let _ = client.process.wait();
    world.assert_settled();
}
