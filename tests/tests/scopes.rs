//! What a tool may do is what its credential can do. A server of two scopes reads as one database user and writes as
//! another, in another process, and the second exists only from the first call that writes until it was idle; a tool
//! that no scope names does not exist; and neither a crash nor a swap of one instance is felt by the other.
//!
//! Not proved: servers whose instances share something on disk or on the network.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::parts::seen;
use e2e::pipe::Pipe;
use e2e::sdk::Sdk;
use e2e::world::Scope;
use e2e::{PATIENCE, World, eventually, rounds};
use serde_json::{Value, json};

/// What dbhub is told: its own two tools, and three of the admin's. All of them are there in each instance.
const DBHUB_CONFIG: &str = r#"
[[sources]]
id = "db"
dsn = "@DSN@"

[[tools]]
name = "search_objects"
source = "db"

[[tools]]
name = "execute_sql"
source = "db"

[[tools]]
name = "read_notes"
source = "db"
description = "Reads the notes"
statement = "SELECT body FROM notes"

[[tools]]
name = "smuggle"
source = "db"
description = "Stands with the tools that read, and tries to write"
statement = "INSERT INTO marks (body) VALUES ('smuggled') RETURNING body"

[[tools]]
name = "write_mark"
source = "db"
description = "Writes"
statement = "INSERT INTO marks (body) VALUES ('written') RETURNING body"
"#;

/// dbhub takes its configuration from a file whose path is an argument; the credential is in it.
fn dbhub() -> World {
    let start = format!("exec {} {} --transport stdio --config \"$DBHUB\"", seen::NODE, seen::DBHUB);
    let inject = format!("inject = [{{ file = \"DBHUB\", value = '''{DBHUB_CONFIG}''' }}]");
    let read = Scope::of("read", &["search_objects", "read_notes", "smuggle"]).reads().inject(&inject);
    let write = Scope::of("write", &["write_*"]).line("idle = \"3s\"").writes().inject(&inject);
    World::user()
        .vault()
        .writers()
        .scoped("orders-db", &["/bin/sh", "-c", &start], "", &[read, write])
        .start()
}

/// Who wrote, as the database knows it.
fn writers_of(world: &World, body: &str) -> BTreeSet<String> {
    let like = format!("v-%-{}-%", world.writer());
    let rows = world.pg().sql(&format!("SELECT who FROM marks WHERE body = '{body}' AND who LIKE '{like}'"));
    rows.lines().map(str::to_owned).collect()
}

#[track_caller]
fn one<T: Clone + std::fmt::Debug>(all: &[T]) -> T {
    let [only] = all else { panic!("not one: {all:?}") };
    only.clone()
}

/// The answer of the protocol itself to a tool that is not there.
#[track_caller]
fn assert_unknown(pipe: &mut Pipe, tool: &str) {
    let error = pipe.ask("call", json!({ "name": tool, "arguments": {} })).expect_err("it does not exist");
    assert_eq!(error["code"], -32602, "{error}");
    assert_eq!(error["message"], format!("Unknown tool: {tool}"), "{error}");
}

fn dbhub_through(sdk: Sdk) {
    let mut world = dbhub();
    let mut pipe = world.converse(ALICE, sdk, "orders-db");
    let tools: BTreeSet<String> = pipe.tools().into_iter().collect();
    let wanted = ["read_notes", "search_objects", "smuggle", "write_mark"].map(str::to_owned);
    assert_eq!(tools, BTreeSet::from(wanted), "only what a scope names is there");

    assert!(pipe.must_call("read_notes", json!({})).contains("hello"));
    let reader = one(&world.users());
    assert_eq!(world.writing_users(), [""; 0], "nobody may write before somebody wants to");

    // The tool tries, and the database says no: the privilege is the credential's, not the name's.
    let refused = pipe.call("smuggle", json!({}));
    assert!(refused.failed && refused.text.contains("permission denied"), "{refused:?}");
    assert_eq!(world.writing_users(), [""; 0]);

    let mut seen = BTreeSet::new();
    for _ in 0..2 {
        assert!(pipe.must_call("write_mark", json!({})).contains("written"));
        let writer = one(&world.writing_users());
        assert!(writers_of(&world, "written").contains(&writer), "the write was that user's");
        assert!(seen.insert(writer), "another one than before");
        assert_eq!(world.leases().len(), 2, "one lease a scope in use");
        eventually("the writer is gone when it was idle", || so(world.writing_users().is_empty()));
        assert!(pipe.must_call("read_notes", json!({})).contains("hello"));
        assert_eq!(one(&world.users()), reader, "the reader stays");
    }
    assert_unknown(&mut pipe, "execute_sql");
    let rows = world.pg().sql("SELECT count(*) FROM marks WHERE body = 'smuggled'");
    assert_eq!(rows, "0");
    let _ = pipe.finish();
    world.assert_settled();
    world.assert_revoked(&world.writer());
}

#[test]
fn dbhub_reads_as_one_user_and_writes_as_another_in_the_handshake_era() {
    dbhub_through(Sdk::One);
}

#[test]
fn dbhub_reads_as_one_user_and_writes_as_another_below_a_new_client() {
    dbhub_through(Sdk::Two);
}

/// The same with a server of each era that is asked in its own, and with what else scopes govern.
fn what_no_scope_names_is_not_there(sdk: Sdk) {
    let python = if sdk == Sdk::One { seen::PYTHON_1 } else { seen::PYTHON_2 };
    let read =
        Scope::of("read", &["echo", "read_notes", "smuggle"]).line("resources = [\"note://op*\"]").reads();
    let write = Scope::of("write", &["write_mark"]).writes();
    let mut world = World::user()
        .vault()
        .writers()
        .scoped("tools", &[python, "-B", seen::TOOLS], "", &[read, write])
        .start();
    let mut pipe = world.converse(ALICE, sdk, "tools");
    assert_eq!(pipe.protocol, if sdk == Sdk::One { "2025-11-25" } else { "2026-07-28" });
    let tools: BTreeSet<String> = pipe.tools().into_iter().collect();
    assert_eq!(tools, ["echo", "read_notes", "smuggle", "write_mark"].map(str::to_owned).into());
    let list = |pipe: &mut Pipe, what: &str| pipe.ask(what, json!({})).unwrap_or(Value::Null);
    assert_eq!(list(&mut pipe, "resources"), json!(["note://open"]));
    assert_eq!(list(&mut pipe, "prompts"), json!([]));

    assert_eq!(pipe.ask("read", json!({ "uri": "note://open" })).unwrap(), json!(["open"]));
    let closed = pipe.ask("read", json!({ "uri": "note://closed" })).expect_err("no scope names it");
    assert!(!closed.to_string().contains("scope"), "nothing says that it exists: {closed}");
    for tool in ["hidden", "pid", "die", "nothing-like-it"] {
        assert_unknown(&mut pipe, tool);
    }
    let refused = pipe.must_call("smuggle", json!({ "text": "smuggled by python" }));
    assert!(refused.contains("permission denied"), "{refused}");
    assert_eq!(pipe.must_call("write_mark", json!({ "text": "by python" })), "by python");
    assert!(writers_of(&world, "by python").contains(&one(&world.writing_users())));
    let ran: BTreeSet<String> =
        world.ran().iter().filter_map(|told| told["tool"].as_str().map(str::to_owned)).collect();
    assert_eq!(ran, ["smuggle", "write_mark"].map(str::to_owned).into(), "nothing else was run");
    let _ = pipe.finish();
    world.assert_settled();
}

#[test]
fn what_no_scope_names_is_not_there_in_the_handshake_era() {
    what_no_scope_names_is_not_there(Sdk::One);
}

#[test]
fn what_no_scope_names_is_not_there_in_the_stateless_era() {
    what_no_scope_names_is_not_there(Sdk::Two);
}

// --- instances beside each other ----------------------------------------------------------------------

/// The probe with two scopes, each with a user of its own.
fn probe(options: Value) -> World {
    let read = Scope::of("read", &["echo", "pids", "sleep"]).reads();
    let write = Scope::of("write", &["stat", "cwd", "exit"]).writes();
    let world = World::user().vault_with(options).writers();
    let ran = format!("ran={}", world.ran_file().display());
    world.scoped("probe", &[seen::PROBE, &ran], "", &[read, write]).start()
}

/// The instances by their ids on the machine: inside of its namespace each one has the same.
fn processes(world: &World) -> BTreeSet<u32> {
    world.instances().into_iter().collect()
}

#[test]
fn a_crash_of_one_instance_leaves_the_other_alone() {
    let mut world = probe(json!({}));
    let mut client = world.launch(ALICE, "probe");
    assert_eq!(client.call("echo", json!({})), "{}");
    let reader = processes(&world);
    assert_eq!(world.injected("DSN").len(), 1, "no tool of the other scope was called");
    let _ = client.call("stat", json!({ "path": "/" }));
    let writer: BTreeSet<u32> = &processes(&world) - &reader;
    assert!(!writer.is_empty(), "another process does it");
    assert_eq!(world.injected("DSN").len(), 2, "with a credential of its own");
    let (user, writing) = (world.users(), one(&world.writing_users()));

    let answer = client.request("tools/call", json!({ "name": "exit", "arguments": { "status": 3 } }));
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    assert!(answer.to_string().contains("executed: unknown"), "{answer}");
    eventually("the credential of what crashed is gone", || so(!world.writing_users().contains(&writing)));
    assert_eq!(client.call("echo", json!({})), "{}");
    assert!(processes(&world).is_superset(&reader), "the other one runs on");
    assert_eq!(world.users(), user, "with its own user");

    eventually("the scope works again", || {
        let answer = client.request("tools/call", json!({ "name": "stat", "arguments": { "path": "/" } }));
        so(answer["result"]["isError"] != true)
    });
    assert!(processes(&world).is_superset(&reader) && processes(&world).is_disjoint(&writer));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
    world.assert_revoked(&world.writer());
}

/// The same numbers and texts are under way in both instances at once, and each answer goes to its question.
#[test]
fn ids_of_two_scopes_do_not_meet() {
    let mut world = probe(json!({}));
    let mut client = world.launch(ALICE, "probe");
    let rounds = rounds(200, 5_000);
    let mut text = String::new();
    for n in 0..rounds {
        // A number and its text are different ids; each pair has one in each scope.
        let (here, there) = if n % 2 == 0 {
            (format!("{n}"), format!("\"{n}\""))
        } else {
            (format!("\"{n}\""), format!("{n}"))
        };
        let call = |id: &str, tool: &str, arguments: Value| {
            format!(
                r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
            )
        };
        text.push_str(&call(&here, "echo", json!({ "here": n })));
        text.push('\n');
        text.push_str(&call(&there, "cwd", json!({ "there": n })));
        text.push('\n');
    }
    client.send(text.as_bytes());
    let mut answered = BTreeSet::new();
    while answered.len() < 2 * rounds {
        let line = client.line().expect("it goes on");
        let answer: Value = serde_json::from_slice(&line).unwrap();
        let Some(id) = answer.get("id").filter(|_| answer.get("method").is_none()) else { continue };
        let told = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
        let n: usize =
            id.as_str().map_or_else(|| id.as_u64().unwrap() as usize, |text| text.parse().unwrap());
        let of_reader = id.is_string() == (n % 2 == 1);
        let wanted = if of_reader { json!({ "here": n }) } else { json!(ALICE.home(world.path())) };
        assert_eq!(serde_json::from_str::<Value>(told).unwrap(), wanted, "{answer}");
        assert!(answered.insert(id.to_string()), "answered twice: {answer}");
    }
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
    world.assert_revoked(&world.writer());
    assert_eq!(world.times_run("echo"), rounds);
    assert_eq!(world.times_run("cwd"), rounds);
}

/// Credentials that cannot be renewed are swapped below a client that calls all the time, in both scopes.
#[test]
fn a_swap_below_a_thousand_calls_loses_none() {
    let mut world = probe(json!({ "default_ttl": "12s", "max_ttl": "12s" }));
    let mut client = world.launch(ALICE, "probe");
    assert_eq!(client.call("echo", json!({})), "{}");
    let (first, old) = (processes(&world), one(&world.users()));
    let least = rounds(200, 1_000);
    let (start, mut made, mut swapped) = (Instant::now(), 1, false);
    while made < least || !swapped {
        let said = client.call("echo", json!({ "n": made }));
        assert_eq!(said, json!({ "n": made }).to_string());
        assert_eq!(client.ask("cwd"), json!(ALICE.home(world.path())));
        made += 1;
        if made % 20 == 0 {
            swapped = !world.users().contains(&old);
        }
        assert!(start.elapsed() < 3 * PATIENCE, "no swap was seen");
        std::thread::sleep(Duration::from_millis(2));
    }
    eventually("the old instance is gone", || so(processes(&world).is_disjoint(&first)));
    assert_eq!(world.times_run("echo"), made, "each call was run once");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

// --- what a server asks of the client -----------------------------------------------------------------

/// A client that offers sampling, asked for it by a tool: what it was asked, and what the tool said in the end.
fn sampled(top: &str) -> (Vec<Value>, Value) {
    let command = ["/usr/bin/python3", "-I", "-S", seen::CONFORMS];
    let world = World::user().scoped("asks", &command, top, &[Scope::of("all", &["*"])]).start();
    let mut client = world.run(ALICE, &["asks"]);
    let info = json!({ "name": "e2e", "version": "1" });
    let _ = client.request(
        "initialize",
        json!({ "protocolVersion": "2025-11-25", "capabilities": { "sampling": {} }, "clientInfo": info }),
    );
    client.message(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    let call = json!({ "name": "test_sampling", "arguments": { "prompt": "hello" } });
    client.message(&json!({ "jsonrpc": "2.0", "id": "call", "method": "tools/call", "params": call }));
    let mut asked = Vec::new();
    loop {
        let message: Value = serde_json::from_slice(&client.line().expect("it goes on")).unwrap();
        if message["id"] == "call" && message.get("method").is_none() {
            assert_eq!(client.finish().code(), 0);
            return (asked, message);
        }
        if let Some(id) = message.get("id") {
            let content = json!({ "type": "text", "text": "the model's words" });
            let result = json!({ "role": "assistant", "model": "m", "content": content });
            client.message(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
            asked.push(message);
        }
    }
}

#[test]
fn a_server_asks_the_client_only_for_what_its_definition_lists() {
    let (asked, answer) = sampled("");
    assert_eq!(asked, [Value::Null; 0], "the client was not asked");
    assert!(!answer.to_string().contains("LLM response"), "and the server was told no: {answer}");
    let (asked, _) = sampled("client_requests = [\"roots\", \"elicitation\"]");
    assert_eq!(asked, [Value::Null; 0]);

    let (asked, answer) = sampled("client_requests = [\"sampling\"]");
    assert_eq!(asked.len(), 1);
    assert_eq!(asked[0]["method"], "sampling/createMessage");
    assert!(answer.to_string().contains("LLM response: the model's words"), "{answer}");
}
