//! A new configuration comes into force by SIGHUP: launches go on, and a broken one leaves the old one in force
//! and says so.

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::parts::seen;
use e2e::{World, eventually};
use mcp_broker_proto::session::Health;
use serde_json::json;

fn servers(world: &World) -> Vec<String> {
    let outcome = world.run_to_end(ALICE, &["servers", "--json"]);
    let servers: Vec<mcp_broker_proto::session::ServerInfo> =
        serde_json::from_slice(&outcome.stdout).unwrap();
    servers.into_iter().filter(|server| server.allowed).map(|server| server.name.to_string()).collect()
}

fn health(world: &World) -> Health {
    let ask = e2e::http::Ask { method: "GET", path: "/v1/health", headers: &[], body: None };
    // As root: the user's broker refuses, so it is asked as a system's.
    serde_json::from_value(e2e::http::unix(&world.socket(), ask).unwrap().json()).unwrap()
}

#[test]
fn a_new_server_appears_and_launches_go_on() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    world.write_server("second", &world.definition(&[seen::PROBE]));
    assert_eq!(servers(&world), ["orders-db"], "not before it is told");
    world.broker().reload();
    eventually("the new server can be launched", || so(servers(&world) == ["orders-db", "second"]));
    let mut second = world.launch(ALICE, "second");
    assert_eq!(client.call("echo", json!({})), "{}", "the old launch goes on");
    assert_eq!(second.finish().code(), 0);

    std::fs::remove_file(world.config_dir().join("servers.d/orders-db.toml")).unwrap();
    world.broker().reload();
    eventually("the old server is gone", || so(servers(&world) == ["second"]));
    let answer = client.request("tools/call", json!({ "name": "echo", "arguments": {} }));
    assert_eq!(
        answer["result"]["_meta"]["mcp-run/reason"], "access_lost",
        "the next call is refused: {answer}"
    );
    world.run_to_end(ALICE, &["orders-db"]).assert_refused(77, &["orders-db"]);
    assert_eq!(client.finish().code(), 77, "and its launch is over");
    world.assert_settled();
}

#[test]
fn a_broken_configuration_leaves_the_old_one_in_force_and_says_so() {
    let mut world = World::system().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let told = |world: &World| {
        health(world).warnings.into_iter().find(|warning| warning.contains("the old one is in force"))
    };
    assert_eq!(told(&world), None);
    let good = world.definition(&[seen::PROBE]);
    world.write_server("orders-db", &good.replace("tier =", "teir ="));
    world.broker().reload();
    eventually("the broken reload is told", || told(&world));
    world.broker().wait_log("orders-db.toml:");
    assert_eq!(client.call("echo", json!({})), "{}");
    assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0, "the old one is in force");
    let doctor = world.run_to_end(ALICE, &["doctor"]);
    assert!(format!("{}{}", doctor.text(), doctor.stderr).contains("the old one is in force"), "{doctor:?}");

    world.write_server("orders-db", &good);
    world.broker().reload();
    eventually("the warning goes with its cause", || so(told(&world).is_none()));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// Whoever starts the broker may signal it as soon as it says that it is ready.
#[test]
fn a_signal_right_after_the_ready_line_is_heeded() {
    for _ in 0..5 {
        let mut world = World::user().start();
        world.broker().reload();
        assert_eq!(world.broker().term().code(), 0, "{}", world.broker().log());
    }
}
