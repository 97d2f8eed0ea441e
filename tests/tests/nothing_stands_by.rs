//! What is not used costs nothing. Of a server that an admin approved, a client is answered from the record: fifteen
//! launches are no process, no credential and little memory, a locked session does not matter, and the first request
//! that needs the server starts it. And what was approved is what is there: a tool that the server shows otherwise is
//! hidden until it is approved again.
//!
//! Not proved: clients other than the two SDK generations.

use std::collections::BTreeSet;
use std::fs;

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::sdk::Sdk;
use e2e::world::Scope;
use e2e::{World, eventually};
use mcp_broker_proto::session::{LaunchState, ServerInfo};
use serde_json::json;

/// The most memory of one launch that waits, in KiB.
const BOUND: u64 = 2 << 10;

/// A server with a minted user that is approved as an admin does it.
fn approved(command: &[&str], scopes: &[Scope]) -> World {
    let world = World::user().vault().writers().scoped("orders-db", command, "", scopes).start();
    approve(&world);
    world
}

#[track_caller]
fn approve(world: &World) {
    world.approve("orders-db", &[]).assert_code(0);
    assert!(approved_at(world).is_some(), "it is in force at once");
    assert_eq!(world.instances(), [0; 0], "the trial is over");
    assert_eq!(world.users(), [""; 0], "and had no credential");
}

/// Since when the definition in force is approved, as a person is shown it.
#[track_caller]
fn approved_at(world: &World) -> Option<String> {
    let servers = world.run_to_end(ALICE, &["servers", "--json"]);
    let servers: Vec<ServerInfo> = serde_json::from_slice(&servers.assert_code(0).stdout).unwrap();
    servers[0].approved.clone()
}

fn everything() -> World {
    approved(
        &[seen::NODE, seen::EVERYTHING, "stdio"],
        &[Scope::of("all", &["*"]).line("resources = [\"*\"]\nprompts = [\"*\"]").reads()],
    )
}

#[track_caller]
fn assert_nothing_runs(world: &World) {
    assert_eq!(world.instances(), [0; 0], "no process");
    assert_eq!(world.users(), [""; 0], "no user");
    assert!(world.leases().is_empty(), "no lease");
}

/// A figure of a process's memory, in KiB (proc_pid_smaps(5)).
fn memory(pid: u32, figure: &str) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).expect("it runs");
    let line = rollup.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    line.expect("Linux says it").trim().trim_end_matches(" kB").parse().expect("a number")
}

fn names(client: &mut Client, list: &str, key: &str, name: &str) -> BTreeSet<String> {
    let answer = client.request(list, json!({}));
    let items = answer["result"][key].as_array().unwrap_or_else(|| panic!("{answer}"));
    items.iter().map(|item| item[name].as_str().unwrap().to_owned()).collect()
}

#[test]
fn fifteen_servers_cost_nothing_until_they_are_used() {
    let mut world = everything();
    let mut clients: Vec<Client> = (0..15).map(|_| world.launch(ALICE, "orders-db")).collect();
    for client in &mut clients {
        let tools = names(client, "tools/list", "tools", "name");
        assert!(tools.contains("get-env") && tools.len() >= 12, "{tools:?}");
        assert!(!names(client, "resources/list", "resources", "uri").is_empty());
        assert!(!names(client, "prompts/list", "prompts", "name").is_empty());
        let _ = client.request("resources/templates/list", json!({}));
        let _ = client.request("ping", json!({}));
    }
    assert_nothing_runs(&world);
    assert_eq!(world.launches().iter().filter(|launch| launch.state == LaunchState::Idle).count(), 15);
    for client in &clients {
        let pid = client.process.pid();
        let (pss, own) = (memory(pid, "Pss"), memory(pid, "Private_Dirty"));
        assert!(pss < BOUND && own < BOUND, "{pss} KiB, {own} KiB of its own");
    }

    let text = clients[7].call("echo", json!({ "message": "first" }));
    assert!(text.contains("first"), "{text}");
    assert_eq!(world.users().len(), 1, "one launch is used, and no other");
    assert_eq!(world.leases().len(), 1);
    for client in &mut clients {
        assert_eq!(client.finish().code(), 0);
    }
    world.assert_settled();
}

/// Clients of both generations see what they would see of the server itself, and nothing runs for it.
#[test]
fn sdk_clients_list_tools_of_a_server_that_does_not_run() {
    for command in [[seen::NODE, seen::EVERYTHING, "stdio"], [seen::PYTHON_2, "-B", seen::TOOLS]] {
        let mut world = approved(&command, &[Scope::of("all", &["echo", "get-*", "read_*"]).reads()]);
        let (name, said) =
            if command[0] == seen::NODE { ("message", "Echo: hello") } else { ("text", "hello") };
        for sdk in [Sdk::One, Sdk::Two] {
            let mut pipe = world.converse(ALICE, sdk, "orders-db");
            let new = command[0] == seen::PYTHON_2 && sdk == Sdk::Two;
            assert_eq!(pipe.protocol == "2026-07-28", new, "{sdk:?} and {command:?}: {}", pipe.protocol);
            let tools = pipe.tools();
            assert!(tools.contains(&"echo".to_owned()) && !tools.contains(&"hidden".to_owned()), "{tools:?}");
            assert!(world.instances().is_empty(), "{sdk:?} and {command:?}: a process runs");
            assert_nothing_runs(&world);
            assert_eq!(pipe.must_call("echo", json!({ name: "hello" })), said, "the first call starts it");
            assert_eq!(world.users().len(), 1);
            assert_eq!(pipe.tools(), tools, "and the list is the same");
            let _ = pipe.finish();
            world.assert_settled();
        }
    }
}

/// A launch in a locked session is as good as any until it needs its server, and then says what to do.
#[test]
fn a_locked_session_is_no_matter_until_the_server_is_needed() {
    let mut world = approved(&[seen::PROBE], &[Scope::of("all", &["echo"]).reads()]);
    world.person(ALICE, "login");
    world.person(ALICE, "lock");
    let mut client = world.launch(ALICE, "orders-db");
    assert!(names(&mut client, "tools/list", "tools", "name").contains("echo"));
    let answer = client.request("tools/call", json!({ "name": "echo", "arguments": { "message": "x" } }));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    for word in ["locked", "executed: no", "unlock"] {
        assert!(answer.to_string().contains(word), "{word}: {answer}");
    }
    assert_nothing_runs(&world);
    world.person(ALICE, "unlock");
    let text = eventually("it works when it is unlocked", || {
        let answer = client.request("tools/call", json!({ "name": "echo", "arguments": { "message": "y" } }));
        (answer["result"]["isError"] != true).then(|| answer.to_string())
    });
    assert!(text.contains("message") && text.contains('y'), "{text}");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// OpenBao away: the same, with another cure.
#[test]
fn a_provider_that_is_away_is_no_matter_until_the_server_is_needed() {
    let mut world = approved(&[seen::PROBE], &[Scope::of("all", &["echo"]).reads()]);
    world.proxy().down();
    let mut client = world.launch(ALICE, "orders-db");
    assert!(names(&mut client, "tools/list", "tools", "name").contains("echo"));
    let answer = client.request("tools/call", json!({ "name": "echo", "arguments": { "message": "x" } }));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert!(answer.to_string().contains("executed: no"), "{answer}");
    world.proxy().heal();
    eventually("it works when it is back", || {
        let answer = client.request("tools/call", json!({ "name": "echo", "arguments": { "message": "y" } }));
        so(answer["result"]["isError"] != true)
    });
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// `start = "eager"` starts it with the launch, as without a record.
#[test]
fn an_eager_server_starts_with_the_launch() {
    let world = World::user().vault();
    let scopes = [Scope::of("all", &["*"]).reads()];
    let mut world = world.scoped("orders-db", &[seen::PROBE], "start = \"eager\"", &scopes).start();
    approve(&world);
    let client = world.run(ALICE, &["orders-db"]);
    eventually("it runs before anything was asked", || {
        so(world.users().len() == 1 && world.instances().len() == 1)
    });
    drop(client);
    world.assert_settled();
}

// --- pins ---------------------------------------------------------------------------------------------

fn pinned() -> World {
    let world = World::user().vault();
    world.write_words(&json!({ "echo": "Says it again", "cwd": "Where it is", "stat": "Looks" }));
    let words = format!("words={}", world.words_file().display());
    let ran = format!("ran={}", world.ran_file().display());
    let scopes = [Scope::of("all", &["echo", "cwd", "stat", "later_*"]).reads()];
    let world = world.scoped("orders-db", &[seen::PROBE, &words, &ran], "", &scopes).start();
    approve(&world);
    world
}

/// What `status` says is hidden, and why.
fn hidden(world: &World) -> BTreeSet<(String, String)> {
    let changed = world.status(ALICE).launches.into_iter().flat_map(|launch| launch.changed);
    changed
        .flat_map(|scope| scope.tools)
        .map(|(tool, change)| (tool, json!(change).as_str().unwrap().to_owned()))
        .collect()
}

#[track_caller]
fn assert_unknown(client: &mut Client, tool: &str) {
    let answer = client.request("tools/call", json!({ "name": tool, "arguments": { "path": "/" } }));
    assert!(answer["error"]["code"] == -32602, "{answer}");
    assert_eq!(answer["error"]["message"], format!("Unknown tool: {tool}"));
}

#[test]
fn a_tool_that_changed_is_hidden_until_it_is_approved_again() {
    let mut world = pinned();
    let mut before = world.launch(ALICE, "orders-db");
    assert_eq!(names(&mut before, "tools/list", "tools", "name").len(), 3);
    assert!(before.call("stat", json!({ "path": "/" })).contains("mode"));
    assert_eq!(hidden(&world), BTreeSet::new());
    // One that comes up while the instance runs is not there either, though a pattern names it.
    world.write_words(
        &json!({ "echo": "Says it again", "cwd": "Where it is", "stat": "Looks", "later_on": "New" }),
    );
    assert_eq!(names(&mut before, "tools/list", "tools", "name").len(), 3);
    assert_unknown(&mut before, "later_on");
    assert_eq!(world.times_run("later_on"), 0, "the server was not even asked");
    assert_eq!(before.finish().code(), 0);

    // The program says something else in the same place: one altered, one gone, one more.
    world.write_words(&json!({ "echo": "Says it again", "cwd": null, "stat": "Looks, and sends it home", "later_on": "New" }));
    let mut client = world.launch(ALICE, "orders-db");
    // The first call waits for what the instance shows, so that this one is not run.
    assert_unknown(&mut client, "stat");
    assert_eq!(client.call("echo", json!({})), "{}", "what did not change works");
    assert_eq!(names(&mut client, "tools/list", "tools", "name"), BTreeSet::from(["echo".to_owned()]));
    for tool in ["stat", "cwd", "later_on"] {
        assert_unknown(&mut client, tool);
    }
    let told = eventually("status says what is hidden", || {
        let hidden = hidden(&world);
        (!hidden.is_empty()).then_some(hidden)
    });
    let wanted = [("stat", "altered"), ("cwd", "missing"), ("later_on", "added")];
    assert_eq!(told, wanted.map(|(tool, change)| (tool.to_owned(), change.to_owned())).into());
    let text = world.person(ALICE, "status");
    assert!(text.contains("stat"), "{text}");
    world.wait_audited("tools_changed", "later_on");
    assert_eq!(world.times_run("stat"), 1, "only before the change");
    assert_eq!(world.times_run("later_on"), 0);
    assert_eq!(client.finish().code(), 0);

    approve(&world);
    let mut after = world.launch(ALICE, "orders-db");
    let wanted = ["echo", "stat", "later_on"].map(str::to_owned);
    assert_eq!(names(&mut after, "tools/list", "tools", "name"), wanted.into());
    assert!(after.call("stat", json!({ "path": "/" })).contains("mode"), "as it was approved");
    assert_eq!(hidden(&world), BTreeSet::new());
    assert_eq!(after.finish().code(), 0);
    world.assert_settled();
}

/// A record of another definition is none: nothing is answered from it.
#[test]
fn another_definition_needs_another_approval() {
    let mut world = pinned();
    assert!(approved_at(&world).is_some());
    let scopes = [Scope::of("all", &["echo"]).reads()];
    world.write_server("orders-db", &world.scoped_text(&[seen::PROBE], "", &scopes));
    world.broker().reload();
    eventually("the approval is not in force any more", || so(approved_at(&world).is_none()));
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(client.call("echo", json!({})), "{}");
    assert_eq!(client.finish().code(), 0);
    approve(&world);
    world.assert_settled();
}

/// A server that does not start without its credential is approved with one, which is gone after.
#[test]
fn a_server_that_needs_its_credential_is_approved_with_one() {
    let script = format!("test -n \"$DSN\" || exit 7; exec {}", seen::PROBE);
    let scopes = [Scope::of("all", &["echo"]).reads()];
    let mut world =
        World::user().vault().scoped("orders-db", &["/bin/sh", "-c", &script], "", &scopes).start();
    let outcome = world.approve("orders-db", &[]);
    assert_ne!(outcome.code, 0, "{}", outcome.text());
    assert!(outcome.stderr.contains("--with-credentials"), "it says how: {}", outcome.stderr);
    world.approve("orders-db", &["--with-credentials"]).assert_code(0);
    eventually(
        "what was minted for it is gone",
        || so(world.users().is_empty() && world.leases().is_empty()),
    );
    let mut client = world.launch(ALICE, "orders-db");
    assert_eq!(names(&mut client, "tools/list", "tools", "name"), BTreeSet::from(["echo".to_owned()]));
    assert_nothing_runs(&world);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}
