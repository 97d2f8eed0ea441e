//! Each call of a tool is decided by the broker when it is made: limits, rules for arguments, a person's yes. What is
//! refused says why, what to do, and that it was not executed; and every call is in the audit log, without its
//! arguments unless the definition asks for them. Without the broker nothing is called.

use std::time::{Duration, Instant};

use e2e::accounts::{ALICE, BOB};
use e2e::eventually::so;
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::pipe::Pipe;
use e2e::sdk::Sdk;
use e2e::world::Scope;
use e2e::{PATIENCE, World, eventually};
use mcp_broker_proto::CONFIRM_SECS;
use mcp_broker_proto::session::ConfirmationInfo;
use serde_json::{Value, json};

const TOOLS: [&str; 4] = ["echo", "cwd", "sleep", "large"];

/// The probe below one scope with these lines; a second scope has no limits.
fn probe(lines: &str) -> World {
    let world = World::user();
    let ran = format!("ran={}", world.ran_file().display());
    let scopes = [Scope::of("kept", &TOOLS).line(lines), Scope::of("free", &["stat"])];
    world.scoped("orders-db", &[seen::PROBE, &ran], "", &scopes).start()
}

/// The whole answer to a call.
fn answer(client: &mut Client, tool: &str, arguments: Value) -> Value {
    client.request("tools/call", json!({ "name": tool, "arguments": arguments }))
}

/// Refused, for that reason, with a cure, and not executed.
#[track_caller]
fn assert_refused(answer: &Value, reason: &str) {
    let result = &answer["result"];
    assert_eq!(result["isError"], true, "{answer}");
    let text = result["content"][0]["text"].as_str().unwrap_or_default();
    for word in ["executed: no", "hint: "] {
        assert!(text.contains(word), "`{word}` is not in {text}");
    }
    let meta = &result["_meta"];
    assert_eq!(meta["mcp-run/reason"], reason, "{answer}");
    assert!(meta["mcp-run/decision"].as_str().is_some_and(|id| !id.is_empty()), "{answer}");
}

#[track_caller]
fn assert_worked(answer: &Value) {
    assert!(answer["result"].is_object() && answer["result"]["isError"] != true, "{answer}");
}

/// What was decided on calls of a tool, in order.
fn events(world: &World, tool: &str) -> Vec<Value> {
    let decided = |event: &Value| event["event"] == "call_decided" && event["tool"] == tool;
    world.audit().into_iter().filter(decided).collect()
}

// --- limits -------------------------------------------------------------------------------------------

#[test]
fn calls_a_minute() {
    let mut world = probe("limits = { calls_per_minute = 3 }");
    let mut client = world.launch(ALICE, "orders-db");
    for n in 0..3 {
        assert_worked(&answer(&mut client, "echo", json!({ "n": n })));
    }
    for tool in ["echo", "cwd"] {
        assert_refused(&answer(&mut client, tool, json!({})), "too_many_per_minute");
    }
    assert_worked(&answer(&mut client, "stat", json!({ "path": "/" })));
    assert_eq!((world.times_run("echo"), world.times_run("cwd")), (3, 0));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn calls_at_once() {
    let mut world = probe("limits = { concurrent_calls = 1 }");
    let mut client = world.launch(ALICE, "orders-db");
    // The probe does one thing at a time, so that what it sleeps for is under way when the next one is asked.
    let call = |id: &str, tool: &str| json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool, "arguments": { "ms": 1500 } } });
    client.message(&call("long", "sleep"));
    eventually("the first is under way", || so(world.times_run("sleep") == 1));
    client.message(&call("second", "echo"));
    let mut said = std::collections::BTreeMap::new();
    while said.len() < 2 {
        let line = client.line().expect("it goes on");
        let message: Value = serde_json::from_slice(&line).unwrap();
        if let Some(id) = message["id"].as_str() {
            said.insert(id.to_owned(), message.clone());
        }
    }
    assert_refused(&said["second"], "too_many_at_once");
    assert_worked(&said["long"]);
    assert_worked(&answer(&mut client, "echo", json!({})));
    assert_eq!(world.times_run("echo"), 1);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn sizes() {
    let mut world = probe("limits = { argument_size = \"1KiB\", result_size = \"64KiB\" }");
    let mut client = world.launch(ALICE, "orders-db");
    assert_worked(&answer(&mut client, "echo", json!({ "text": "x".repeat(900) })));
    assert_refused(&answer(&mut client, "echo", json!({ "text": "x".repeat(1100) })), "arguments_too_long");
    assert_eq!(world.times_run("echo"), 1);

    assert_worked(&answer(&mut client, "large", json!({ "bytes": 60 << 10 })));
    let before = client.stdout.len();
    let withheld = answer(&mut client, "large", json!({ "bytes": 70 << 10 }));
    assert!(withheld["result"]["isError"] == true || withheld.get("error").is_some(), "{withheld}");
    assert!(!withheld.to_string().contains("executed: no"), "it was run: {withheld}");
    assert!(client.stdout.len() - before < 8 << 10, "the answer was withheld");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
    assert!(outcome(&world, "result_too_long"));
}

/// Whether a call ended so, as the audit log says.
fn outcome(world: &World, word: &str) -> bool {
    world.audit().iter().any(|event| event["event"] == "call_answered" && event["outcome"] == word)
}

// --- arguments ----------------------------------------------------------------------------------------

#[test]
fn arguments_are_judged_as_values() {
    let rules = r#"arguments.echo.table = { glob = "public.*" }
arguments.echo.limit = { max = 100, optional = true }
arguments."e*".mode = { one_of = ["fast", "slow"], optional = true }
arguments.cwd.really = { equals = true }"#;
    let mut world = probe(rules);
    let mut client = world.launch(ALICE, "orders-db");
    for (tool, arguments, good) in [
        ("echo", r#"{"table":"public.notes"}"#, true),
        ("echo", r#"{"table":"public.notes","limit":100,"mode":"fast"}"#, true),
        ("echo", r#"{"table":"public.notes","limit":1e2}"#, true),
        ("echo", r#"{"table":"p\u0075blic.notes"}"#, true),
        ("echo", r#"{"table":"secret.notes"}"#, false),
        ("echo", r#"{"table":"p\u0075blik.notes"}"#, false),
        ("echo", r#"{"table":["public.notes"]}"#, false),
        ("echo", r#"{}"#, false),
        ("echo", r#"{"table":"public.notes","limit":100.000000000000000000001}"#, false),
        ("echo", r#"{"table":"public.notes","limit":"100"}"#, false),
        ("echo", r#"{"table":"public.notes","limit":1e99}"#, false),
        ("echo", r#"{"table":"public.notes","mode":"FAST"}"#, false),
        ("cwd", r#"{"really":true}"#, true),
        ("cwd", r#"{"really":"true"}"#, false),
        ("cwd", r#"{"really":1}"#, false),
    ] {
        let before = world.ran().len();
        let line = format!(
            r#"{{"jsonrpc":"2.0","id":"raw","method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        );
        client.send(format!("{line}\n").as_bytes());
        let answer: Value = serde_json::from_slice(&client.line().expect("it goes on")).unwrap();
        assert_eq!(world.ran().len() - before, usize::from(good), "{tool} {arguments}: {answer}");
        if good {
            assert_worked(&answer);
        } else {
            assert_refused(&answer, "argument_refused");
        }
    }
    // A name that is there twice, or in another case, could be read in two ways.
    for arguments in
        [r#"{"table":"secret","table":"public.x"}"#, r#"{"table":"public.x","t\u0061ble":"secret"}"#]
    {
        let before = world.ran().len();
        let params = format!(r#"{{"name":"echo","arguments":{arguments}}}"#);
        client.send(
            format!("{{\"jsonrpc\":\"2.0\",\"id\":\"raw\",\"method\":\"tools/call\",\"params\":{params}}}\n")
                .as_bytes(),
        );
        let answer: Value = serde_json::from_slice(&client.line().expect("it goes on")).unwrap();
        assert!(answer.get("error").is_some() || answer["result"]["isError"] == true, "{answer}");
        assert_eq!(world.ran().len(), before, "{arguments}");
    }
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

// --- a person's yes -----------------------------------------------------------------------------------

fn waiting(world: &World) -> Vec<ConfirmationInfo> {
    world.status(ALICE).confirmations
}

/// Sends a call that waits for a person, until `status` lists it.
#[track_caller]
fn pending(world: &World, pipe: &mut Pipe, text: &str) -> (u64, String) {
    let id = pipe.send("call", json!({ "name": "echo", "arguments": { "text": text } }));
    let waits = eventually("status lists what waits", || waiting(world).pop());
    assert_eq!((waits.tool.as_str(), waits.server.to_string().as_str()), ("echo", "orders-db"));
    (id, waits.id.to_string())
}

fn asks(how: &str) -> World {
    let scopes =
        [Scope::of("kept", &["echo"]).line(&format!("confirm = \"{how}\"")), Scope::of("free", &["pid"])];
    World::user().scoped("orders-db", &[seen::PYTHON_1, "-B", seen::TOOLS], "", &scopes).start()
}

#[test]
fn a_person_says_yes_or_no_by_a_command() {
    let mut world = asks("each");
    let mut pipe = world.converse(ALICE, Sdk::One, "orders-db");
    let (call, id) = pending(&world, &mut pipe, "yes");
    assert_eq!(world.times_run("echo"), 0, "nothing is run before");
    assert!(!pipe.is_answered(call));
    assert!(pipe.must_call("pid", json!({})).parse::<u32>().is_ok(), "other calls go on");
    eventually("the client is told", || so(!pipe.notifications("notifications/message").is_empty()));
    let told = pipe.notifications("notifications/message")[0].to_string();
    assert!(told.contains(&format!("mcp-run approve {id}")), "{told}");
    // Somebody else's word is none, and neither is one about another call.
    assert_ne!(world.run_to_end(BOB, &["approve", &id]).code, 0);
    assert_ne!(world.run_to_end(ALICE, &["approve", "0199b6a0-0000-7000-8000-000000000000"]).code, 0);
    assert!(!pipe.is_answered(call));
    world.run_to_end(ALICE, &["approve", &id]).assert_code(0);
    assert_eq!(pipe.called(call).text, "yes");
    assert_ne!(world.run_to_end(ALICE, &["approve", &id]).code, 0, "a yes serves once");

    let (call, id) = pending(&world, &mut pipe, "no");
    world.run_to_end(ALICE, &["approve", &id, "--no"]).assert_code(0);
    pipe.called(call).assert_not_executed(&["the person said no", "hint: "]);
    assert!(waiting(&world).is_empty());
    assert_eq!(world.times_run("echo"), 1);
    let _ = pipe.finish();
    world.assert_settled();
}

/// The whole time that a person has is waited for, as nobody can make a broker's clock go faster.
#[test]
fn no_answer_is_a_no() {
    let mut world = asks("each");
    let mut pipe = world.converse(ALICE, Sdk::One, "orders-db");
    let (begin, limit) = (Instant::now(), Duration::from_secs(CONFIRM_SECS));
    let (call, id) = pending(&world, &mut pipe, "nobody");
    let answer = pipe.answer_within(limit + PATIENCE, call).to_string();
    assert!(begin.elapsed() >= limit, "it was given up after {:?}", begin.elapsed());
    for word in ["executed: no", "hint: "] {
        assert!(answer.contains(word), "`{word}` is not in {answer}");
    }
    assert_ne!(world.run_to_end(ALICE, &["approve", &id]).code, 0, "it is too late");
    assert_eq!((world.times_run("echo"), waiting(&world).len()), (0, 0));
    let decided = events(&world, "echo").pop().expect("it is in the audit log");
    assert_eq!((&decided["verdict"], &decided["reason"]), (&json!("deny"), &json!("not_confirmed")));
    let _ = pipe.finish();
    world.assert_settled();
}

#[test]
fn a_yes_holds_for_as_long_as_the_definition_says() {
    let mut world = asks("10m");
    let mut pipe = world.converse(ALICE, Sdk::One, "orders-db");
    let (call, id) = pending(&world, &mut pipe, "first");
    world.run_to_end(ALICE, &["approve", &id]).assert_code(0);
    assert_eq!(pipe.called(call).text, "first");
    assert_eq!(pipe.must_call("echo", json!({ "text": "second" })), "second", "nobody is asked again");
    let _ = pipe.finish();
    // It was said for the session, so it holds for another launch, and no longer than until a lock.
    let mut pipe = world.converse(ALICE, Sdk::One, "orders-db");
    assert_eq!(pipe.must_call("echo", json!({ "text": "third" })), "third");
    let _ = pipe.finish();
    world.run_to_end(ALICE, &["lock"]).assert_code(0);
    world.run_to_end(ALICE, &["unlock"]).assert_code(0);
    let mut pipe = world.converse(ALICE, Sdk::One, "orders-db");
    let (call, id) = pending(&world, &mut pipe, "fourth");
    world.run_to_end(ALICE, &["approve", &id, "--no"]).assert_code(0);
    assert!(pipe.called(call).failed);
    let _ = pipe.finish();
    world.assert_settled();
}

#[test]
fn a_client_that_can_ask_asks_the_person() {
    for (how, runs) in [("accept", 1), ("decline", 0), ("cancel", 0)] {
        let mut world = asks("each");
        let mut pipe = world.converse_with(ALICE, Sdk::One, "orders-db", json!({ "elicit": how }));
        let called = pipe.call("echo", json!({ "text": "asked" }));
        if runs == 1 {
            assert_eq!((called.failed, called.text.as_str()), (false, "asked"));
        } else {
            called.assert_not_executed(&["hint: "]);
        }
        let questions = pipe.notifications("elicitation/create");
        assert_eq!(questions.len(), 1, "{how}: {questions:?}");
        let shown = questions[0].to_string();
        assert!(shown.contains("echo") && shown.contains("asked"), "it says what is asked: {shown}");
        assert_eq!(world.times_run("echo"), runs, "{how}");
        let _ = pipe.finish();
        world.assert_settled();
    }
}

/// A client cannot say yes by itself where nobody asked it.
#[test]
fn an_answer_to_no_question_is_no_yes() {
    let mut world = asks("each");
    let mut client = world.launch(ALICE, "orders-db");
    client.message(&json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": { "name": "echo", "arguments": { "text": "x" } } }));
    let waits = eventually("status lists it", || waiting(&world).pop());
    for number in 0..20 {
        for content in [json!({ "approve": true }), json!({})] {
            let result = json!({ "action": "accept", "content": content });
            client.message(
                &json!({ "jsonrpc": "2.0", "id": format!("mcp-run:confirm:{number}"), "result": result }),
            );
        }
    }
    let _ = client.request("ping", json!({}));
    assert_eq!(waiting(&world).len(), 1, "it still waits");
    assert_eq!(world.times_run("echo"), 0);
    world.run_to_end(ALICE, &["approve", &waits.id.to_string(), "--no"]).assert_code(0);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
    assert_eq!(world.times_run("echo"), 0);
}

// --- the log, and the broker --------------------------------------------------------------------------

#[test]
fn every_call_is_in_the_audit_log_without_its_arguments() {
    let mut world = probe("limits = { argument_size = \"1KiB\" }");
    let mut client = world.launch(ALICE, "orders-db");
    let canary = format!("canary-{}", uuid::Uuid::new_v4().simple());
    assert_worked(&answer(&mut client, "echo", json!({ "text": canary })));
    assert_refused(&answer(&mut client, "large", json!({ "text": "x".repeat(2000) })), "arguments_too_long");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
    let text: String = world.audit().iter().map(Value::to_string).collect();
    assert!(!text.contains(&canary), "no argument is in it");
    let (echo, large) = (events(&world, "echo"), events(&world, "large"));
    assert_eq!((echo.len(), large.len()), (1, 1), "{text}");
    assert_eq!((&echo[0]["scope"], &echo[0]["reason"]), (&json!("kept"), &json!("allowed")));
    assert_eq!(large[0]["reason"], "arguments_too_long");
    assert!(echo[0]["digest"].as_str().is_some_and(|digest| digest.len() >= 32), "{echo:?}");
    assert_eq!(echo[0]["size"], json!({ "text": canary }).to_string().len());
    assert!(outcome(&world, "result"), "what became of it: {text}");
    // Known by a digest with a key: the plain one of so little could be tried out.
    let plain = sha256_of(&json!({ "text": canary }).to_string());
    assert!(!text.contains(&plain), "the digest has a key");
}

#[test]
fn arguments_are_in_the_audit_log_where_the_definition_says_so() {
    let mut world = probe("audit_arguments = true");
    let mut client = world.launch(ALICE, "orders-db");
    let canary = format!("canary-{}", uuid::Uuid::new_v4().simple());
    assert_worked(&answer(&mut client, "echo", json!({ "text": canary })));
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
    assert!(events(&world, "echo").iter().any(|event| event.to_string().contains(&canary)));
}

/// By the machine's own program, so that nothing of ours is used to judge.
fn sha256_of(text: &str) -> String {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child =
        Command::new("/usr/bin/sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).split(' ').next().unwrap().to_owned()
}

#[test]
fn without_the_broker_nothing_is_called() {
    let mut world = probe("");
    let mut client = world.launch(ALICE, "orders-db");
    assert_worked(&answer(&mut client, "echo", json!({})));
    // It is there and says nothing: the call does not wait for ever.
    world.broker().process.signal(libc::SIGSTOP);
    let refused = answer(&mut client, "echo", json!({}));
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    assert!(refused.to_string().contains("executed: no"), "{refused}");
    world.broker().process.signal(libc::SIGCONT);
    eventually("a call works again", || {
        so(answer(&mut client, "echo", json!({}))["result"]["isError"] != true)
    });
    let ran = world.times_run("echo");

    world.broker().kill9();
    let refused = answer(&mut client, "echo", json!({}));
    assert_eq!(refused["result"]["isError"], true, "{refused}");
    assert!(refused.to_string().contains("executed: no"), "{refused}");
    assert_eq!(world.times_run("echo"), ran, "nothing was run meanwhile");
    world.restart();
    eventually("a call works with the next broker", || {
        so(answer(&mut client, "echo", json!({}))["result"]["isError"] != true)
    });
    client.close();
    assert_eq!(client.outcome_within(PATIENCE).code, 0);
    world.assert_settled();
}

/// Access that was taken away is refused at the next call, and not at the next launch.
#[test]
fn a_call_is_decided_by_what_is_in_force() {
    let mut world = probe("");
    let mut client = world.launch(ALICE, "orders-db");
    assert_worked(&answer(&mut client, "cwd", json!({})));
    let text = fs_text(&world);
    world.write_server("orders-db", &text.replace(r#""cwd", "#, ""));
    world.broker().reload();
    eventually("a tool that was taken out is gone", || {
        let answer = answer(&mut client, "cwd", json!({}));
        so(answer["error"]["code"] == -32602 || answer["result"]["isError"] == true)
    });
    let ran = world.times_run("cwd");
    assert_worked(&answer(&mut client, "echo", json!({})));
    let _ = answer(&mut client, "cwd", json!({}));
    assert_eq!(world.times_run("cwd"), ran);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

fn fs_text(world: &World) -> String {
    std::fs::read_to_string(world.config_dir().join("servers.d/orders-db.toml")).unwrap()
}
