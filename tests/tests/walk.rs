//! The main job: a person's MCP client lists tables through dbhub with a PostgreSQL user that was minted for
//! that launch, and after each way in which a launch can end the user is gone.
//!
//! Not proved here: that a person signed in (there is no logind; the person is a user id taken by setuid), and
//! what another client than the two SDK generations does.

use std::process::Stdio;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::process::{Process, alive, spawn};
use e2e::sdk::Sdk;
use e2e::view::View;
use e2e::{PATIENCE, World, eventually};
use serde_json::json;

#[test]
fn an_sdk_client_lists_tables_with_a_user_of_its_own() {
    let mut world = World::user()
        .vault_by_script()
        .server("orders-db", &[seen::NODE, seen::DBHUB, "--transport", "stdio"])
        .start();
    let mut users = Vec::new();
    for sdk in [Sdk::Two, Sdk::One] {
        let calls = [
            ("search_objects", json!({ "object_type": "table", "pattern": "notes" })),
            ("execute_sql", json!({ "sql": "SELECT current_user AS who, body FROM notes" })),
        ];
        let home = ALICE.home(world.path());
        let client = sdk.start(&home, world.view(ALICE), &["mcp-run", "orders-db"], &calls);
        let walk = client.finish();
        assert!(walk.tools.contains(&"execute_sql".to_owned()), "{sdk:?}: {:?}", walk.tools);
        assert!(walk.calls[0].contains("notes"), "{sdk:?}: {}", walk.calls[0]);
        let answer = &walk.calls[1];
        let from = answer.find("v-").unwrap_or_else(|| panic!("{sdk:?}: no minted user in {answer}"));
        let user: String = answer[from..].chars().take_while(|c| c.is_alphanumeric() || *c == '-').collect();
        assert!(user.contains(&world.role) && answer.contains("hello"), "{sdk:?}: {answer}");
        users.push(user);
        world.assert_settled();
    }
    assert_ne!(users[0], users[1], "each launch has a user of its own");
}

/// A launch with everything that must end with it: a grandchild that fled, and a stolen credential in use.
struct Launched {
    world: World,
    client: Client,
    grandchild: Option<u32>,
    thief: Process,
}

impl Launched {
    fn new() -> Self {
        Self::with(json!({}))
    }

    fn with(options: serde_json::Value) -> Self {
        let world = World::user().vault_with(options).probe("orders-db", &[]).start();
        let mut client = world.launch(ALICE, "orders-db");
        let dsn = world.injected("DSN").pop().expect("the credential was injected");
        assert_eq!(world.users().len(), 1);
        let before = world.instances();
        let _ = client.ask("spawn");
        let fled = eventually("the grandchild runs", || {
            world.instances().into_iter().find(|pid| !before.contains(pid))
        });
        let mut psql = world.pg().psql(&dsn);
        psql.args(["-c", "SELECT pg_sleep(600)"]).stdout(Stdio::null()).stderr(Stdio::null());
        let thief = spawn(psql, View::new());
        eventually("the credential is in use", || so(world.pg().sessions(&world.role) == 1));
        Self { world, client, grandchild: Some(fled), thief }
    }

    /// Everything is gone, and the launcher ended with that code.
    #[track_caller]
    fn assert_ended(&mut self, code: i32) {
        let outcome = self.client.outcome();
        outcome.assert_code(code);
        if let Some(pid) = self.grandchild {
            eventually("the grandchild is gone", || so(!alive(pid)));
        }
        self.world.assert_settled();
        assert_ne!(self.thief.wait().code(), 0, "the open connection was cut");
    }
}

#[test]
fn the_client_closes_its_end() {
    let mut launched = Launched::new();
    launched.client.close();
    launched.assert_ended(0);
}

#[test]
fn the_launcher_gets_sigterm() {
    let mut launched = Launched::new();
    launched.client.process.signal(libc::SIGTERM);
    // The server's input is closed first, and it ends well.
    launched.assert_ended(0);
}

#[test]
fn the_launcher_gets_sigkill() {
    let mut launched = Launched::new();
    launched.client.process.signal(libc::SIGKILL);
    launched.assert_ended(128 + libc::SIGKILL);
}

#[test]
fn the_admin_revokes_the_launch() {
    let mut launched = Launched::new();
    let id = launched.world.launches()[0].id.to_string();
    launched.world.admin(&["revoke", "--launch", &id]).assert_code(0);
    assert_eq!(launched.world.users(), [""; 0], "the command says revoked when it is");
    launched.client.wait_stderr("hint: ");
    launched.assert_ended(77);
}

#[test]
fn the_admin_revokes_everything() {
    let mut launched = Launched::new();
    launched.world.admin(&["revoke", "--all"]).assert_code(0);
    assert_eq!(launched.world.users(), [""; 0]);
    launched.assert_ended(77);
}

#[test]
fn the_person_logs_out() {
    let mut launched = Launched::new();
    launched.world.run_to_end(ALICE, &["logout"]).assert_code(0);
    launched.assert_ended(77);
}

/// An orderly stop revokes before it ends, and is as little the end of the conversation as a crash is.
#[test]
fn the_broker_stops() {
    let mut launched = Launched::new();
    assert_eq!(launched.world.broker().term().code(), 0);
    assert_eq!(launched.world.users(), [""; 0], "the broker revokes before it ends");
    assert_eq!(launched.world.instances(), [0; 0]);
    launched.client.wait_stderr("the broker stopped");
    launched.world.restart();
    eventually("another user is there", || so(launched.world.users().len() == 1));
    launched.client.close();
    launched.assert_ended(0);
}

/// The conversation goes on with another instance and another user; what the old one had is gone.
#[test]
fn the_broker_is_killed_and_starts_again() {
    let mut launched = Launched::new();
    let old = launched.world.users();
    launched.world.broker().kill9();
    eventually("the instances die with the connection", || so(launched.world.instances().is_empty()));
    launched.world.restart();
    eventually("another user is there, and the old one is not", || {
        let users = launched.world.users();
        so(users.len() == 1 && users != old)
    });
    assert_ne!(launched.thief.wait().code(), 0, "the open connection was cut");
    launched.client.close();
    launched.assert_ended(0);
}

/// The dead man's switch: nobody starts the broker again, and OpenBao ends what it had minted.
#[test]
fn the_broker_is_killed_for_good() {
    let mut launched = Launched::new();
    launched.world.broker().kill9();
    let gone = e2e::world::DEAD_MAN + PATIENCE;
    within(gone, "the minted user ends with its parent's period", || so(launched.world.users().is_empty()));
    assert_eq!(launched.world.pg().sessions(&launched.world.role), 0);
}

/// It ends when it ends, and the launch goes on with another one.
#[test]
fn the_lease_cannot_be_renewed_further() {
    let mut launched = Launched::with(json!({ "default_ttl": "12s", "max_ttl": "12s" }));
    let old = launched.world.users();
    within(2 * PATIENCE, "another user took its place", || {
        let users = launched.world.users();
        so(users.len() == 1 && users != old)
    });
    assert_ne!(launched.thief.wait().code(), 0, "the open connection was cut");
    launched.client.close();
    launched.assert_ended(0);
}

/// A launch says what it has while it lives: true expiry, what revoking does, what holds its processes.
#[test]
fn status_tells_what_is_alive() {
    let launched = Launched::new();
    let outcome = launched.world.run_to_end(ALICE, &["status", "--json"]);
    outcome.assert_code(0);
    let status: mcp_broker_proto::session::Status = serde_json::from_slice(&outcome.stdout).unwrap();
    assert_eq!(status.session.expect("a session began with the launch").user, "alice");
    assert_eq!(status.launches.len(), 1);
    assert_eq!(status.launches[0].running.len(), 1, "{:?}", status.launches);
    let lease = &status.leases[0];
    assert_eq!(lease.revocability, mcp_broker_proto::session::Revocability::Immediate);
    assert_eq!(lease.state, mcp_broker_proto::session::LeaseState::Live);
    let truth = launched.world.pg().sql(&format!(
        "SELECT abs(extract(epoch FROM rolvaliduntil - '{}'::timestamptz)) < 120 FROM pg_roles WHERE rolname = '{}'",
        lease.expires_at.as_deref().expect("it expires"),
        launched.world.users()[0],
    ));
    assert_eq!(truth, "t", "status and PostgreSQL differ about the end: {lease:?}");
    let text = launched.world.run_to_end(ALICE, &["status"]);
    assert!(text.assert_code(0).text().contains("orders-db"), "{}", text.text());
}

/// The control of every test above: a user that OpenBao claims to have revoked and that is still there is seen.
#[test]
fn the_ground_truth_sees_a_user_that_stays() {
    let mut world = World::user().vault_with(json!({ "revocation_statements": ["SELECT 1"] }));
    world = world.probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(client.finish().code(), 0);
    eventually("the lease is gone", || so(world.leases().is_empty()));
    let users = world.users();
    assert_eq!(users.len(), 1);
    world.pg().sql(&format!("DROP ROLE \"{}\"", users[0]));
}
