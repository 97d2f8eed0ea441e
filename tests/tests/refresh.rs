//! New credentials below a running server, with PostgreSQL as the judge of what lives: a server that reads a file works
//! past three whole lives of its credentials as the process that was started, each role is gone in time, and it is told
//! of each by a signal. While OpenBao is down the old one works to its end, then nothing, then a new one; and what a
//! lock finds in flight is delivered to nobody and lives nowhere.
//!
//! What a broker that is killed in the middle of a refresh leaves behind is shown in `fault_points`. Not proved here:
//! that a server which never reads its file again is of any use.

use std::time::{Duration, Instant};

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::fault::Fault;
use e2e::mcp::Client;
use e2e::tempdir::write;
use e2e::{World, eventually, pg};
use serde_json::json;

/// The life of a credential here; another one takes its place when two thirds are over.
const LIFE: Duration = Duration::from_secs(12);
/// A busy machine may take so long for what is to happen.
const LONG: Duration = Duration::from_secs(90);

/// A world with a server that reads its credential in a file, not started.
fn world() -> World {
    let life = format!("{}s", LIFE.as_secs());
    let world = World::user().vault_with(json!({ "default_ttl": life, "max_ttl": life }));
    let text = world.definition_by_file();
    world.file("orders-db", &text)
}

/// As whom the server is connected when it connects now.
fn user(client: &mut Client) -> String {
    client.call_on("query", json!({}))
}

#[test]
fn a_server_outlives_its_database_users() {
    let mut world = world().start();
    let mut client = world.launch(ALICE, "orders-db");
    let (begun, processes) = (Instant::now(), world.instances());
    let mut users = vec![user(&mut client)];
    within(LONG, "three whole lives are over", || {
        let now = user(&mut client);
        let there = world.users();
        assert!(there.contains(&now), "{now} of {there:?}");
        let before = users.last().expect("there was one");
        if now != *before {
            assert!(there.contains(before), "what is in use when another one comes is not cut off");
            users.push(now);
        }
        std::thread::sleep(Duration::from_millis(200));
        so(begun.elapsed() > 3 * LIFE && users.len() >= 4)
    });
    assert_eq!(world.instances(), processes, "it is the process that was started");
    let last = users.pop().expect("there are some");
    assert_eq!(client.call_on("told", json!({})), users.len().to_string(), "it was told of each");
    assert_eq!(client.call_on("kept", json!({})), last, "and had the new one when it was told");
    within(LONG, "those before are gone", || so(users.iter().all(|user| !world.users().contains(user))));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// A role of the provider `postgres` is given more life instead, as long as its session goes on.
#[test]
fn a_role_that_can_be_renewed_is_not_replaced() {
    let (world, server) = (World::user(), pg::shared());
    let (owner, port) = (world.owner().uid, server.port);
    let secret = world.config_dir().join("admin");
    write(&secret, &format!("{}\n", server.password), 0o600, owner, owner);
    let provider = format!(
        "\n[provider.db]\nkind = \"postgres\"\nport = {port}\ntls = \"off\"\nusername = \"vaultadmin\"\npassword = {{ file = {secret:?} }}\n"
    );
    let text = world.definition_by_file();
    let (before, rest) = text.split_once("credential.db").expect("it has one");
    let (_, rest) = rest.split_once('\n').expect("more lines follow");
    let credential = r#"credential.db = { provider = "db", grant = ["app_ro"], ttl = "6s" }"#;
    let text = format!("{before}{credential}\n{rest}");
    let mut world = world.config(&provider).with_fault_points().file("orders-db", &text).start();
    let mut client = world.launch(ALICE, "orders-db");
    let begun = Instant::now();
    let role = user(&mut client);
    let until = || server.sql(&format!("SELECT rolvaliduntil FROM pg_roles WHERE rolname = '{role}'"));
    let mut ends = vec![until()];
    within(LONG, "three whole lives are over", || {
        assert_eq!(user(&mut client), role);
        ends.push(until());
        ends.dedup();
        std::thread::sleep(Duration::from_millis(200));
        so(begun.elapsed() > Duration::from_secs(18) && ends.len() >= 4)
    });
    assert_eq!(client.call_on("told", json!({})), "0", "its file says what it said");
    assert_eq!(client.finish().code(), 0);
    eventually("the role is gone", || so(until().is_empty()));
    world.assert_settled();
}

#[test]
fn a_server_gets_over_an_openbao_that_is_down() {
    let mut world = world().start();
    let mut client = world.launch(ALICE, "orders-db");
    let (processes, old) = (world.instances(), user(&mut client));
    world.proxy().down();
    let refused = within(LONG, "what it has ends", || {
        let now = user(&mut client);
        (now != old).then_some(now)
    });
    assert!(refused.starts_with("refused: "), "{refused}");
    eventually("the user is gone", || so(!world.users().contains(&old)));
    world.proxy().heal();
    let new = within(LONG, "there is a new one", || {
        let now = user(&mut client);
        (!now.starts_with("refused")).then_some(now)
    });
    assert!(world.users().contains(&new));
    assert_eq!(world.instances(), processes, "it is the process that was started");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn a_lock_finds_a_refresh_in_flight() {
    let mut world = world().start();
    let mut client = world.launch(ALICE, "orders-db");
    let old = user(&mut client);
    let delivered = world.audited("credential_delivered", "");
    // It is made, and the answer is on its way for longer than the lock takes.
    world.proxy().times(1, "database/creds/", Fault::DelayAnswer(Duration::from_secs(5)));
    within(LONG, "a refresh is in flight", || so(world.users().len() == 2));
    assert!(world.person(ALICE, "lock").starts_with("locked"));
    world.assert_dark();
    assert_eq!(world.audited("credential_delivered", ""), delivered, "nothing was delivered");
    assert_eq!(world.audited("instance_refreshed", ""), 0);
    world.proxy().heal();
    eventually("nothing is owed", || so(world.leases().is_empty()));
    let _ = world.person(ALICE, "unlock");
    let new = user(&mut client);
    assert!(new != old && world.users() == [new.clone()], "{new}");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}
