//! Each call is decided by the broker before any server hears of it, and what no scope names does not exist: not
//! before a handshake, not in a list, not for a server either.
#![expect(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::time::{Duration, Instant};

use scene::{Broker, Client, TWICE, running, running_both, running_by, running_two, two};
use serde_json::{Value, json};

mod scene;

fn names(list: &Value) -> Vec<&str> {
    list["result"]["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["name"].as_str())
        .collect()
}

#[test]
fn a_tool_that_no_scope_names_does_not_exist() {
    let mut broker = Broker::start("hidden");
    broker.plan = two();
    let mut client = Client::start(&broker);
    // Before anything is there, and before any handshake.
    client.call(1, "other");
    let (mut channel, _) = broker.accept();
    let answer = client.line();
    assert_eq!(
        (&answer["error"]["code"], &answer["error"]["message"]),
        (&json!(-32602), &json!("Unknown tool: other"))
    );
    channel.ticket_for_command("read", 0, 0, TWICE);
    channel.expect("started");
    client.raw(br#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"oth\u0065r"}}"#);
    assert_eq!(client.line()["error"]["code"], -32602, "however it is spelled");
    client.open();
    client.request(3, "tools/list");
    assert_eq!(names(&client.line()), ["read_whoami", "write_whoami"]);
    client.call(4, "other");
    assert_eq!(client.line()["error"]["code"], -32602);
    client.call(5, "read_whoami");
    assert_eq!(client.text(5), "i0 yes ", "the server has heard of none of these");
    assert_eq!(channel.of_calls("answered")["call"], 1);
}

#[test]
fn ids_of_our_own_are_nobody_else_s() {
    let (_broker, _channel, mut client) = running_two("own-ids");
    for id in [r#""mcp-run:list:1""#, r#""\u006dcp-run:replay:0""#] {
        client.raw(format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/list"}}"#).as_bytes());
        assert_eq!(client.line()["error"]["code"], -32600);
    }
}

#[test]
fn a_call_that_is_denied_reaches_no_server_and_starts_none() {
    let (_broker, mut channel, mut client) = running_two("denied");
    channel.decides();
    client.send(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "write_whoami", "arguments": { "a": 1 } } }));
    let ask = channel.of_calls("ask");
    assert_eq!(
        (&ask["scope"], &ask["tool"], &ask["size"]),
        (&json!("write"), &json!("write_whoami"), &json!(7))
    );
    client.silent();
    channel.decide(&ask, "deny", "argument_refused");
    let text = client.line()["result"].clone();
    assert_eq!(
        (&text["isError"], &text["_meta"]["mcp-run/reason"]),
        (&json!(true), &json!("argument_refused"))
    );
    assert_eq!(text["_meta"]["mcp-run/decision"], scene::LAUNCH);
    assert!(text["content"][0]["text"].to_string().contains("executed: no"));
    assert!(channel.frames.recv_timeout(scene::QUIET).is_err(), "no credentials are asked for");
}

#[test]
fn without_a_decision_a_call_fails() {
    let (_broker, mut channel, mut client) = running_two("undecided");
    channel.decides();
    let began = Instant::now();
    client.call(1, "read_whoami");
    let ask = channel.of_calls("ask");
    let text = client.text(1);
    assert!(text.contains("executed: no") && text.contains("did not decide"), "{text}");
    assert!(began.elapsed() >= Duration::from_millis(900));
    // A late yes is no yes, and the broker learns it.
    channel.decide(&ask, "allow", "allowed");
    let answered = channel.of_calls("answered");
    assert_eq!((&answered["call"], &answered["outcome"]), (&ask["call"], &json!("not_sent")));
    // One that goes away in between.
    client.call(2, "read_whoami");
    channel.of_calls("ask");
    drop(channel);
    assert!(client.text(2).contains("executed: no"));
}

#[test]
fn what_became_of_a_call_is_said_once() {
    let (_broker, mut channel, mut client) = running_both("answered", 0);
    assert_eq!(channel.of_calls("answered")["instance"], 1);
    client.call(1, "read_whoami");
    let length = client.lines.recv_timeout(scene::PATIENCE).map_or(0, |line| line.len());
    let answered = channel.of_calls("answered");
    assert_eq!(
        (&answered["outcome"], &answered["instance"], &answered["size"]),
        (&json!("result"), &json!(0), &json!(length))
    );
    client.call(2, "write_die");
    assert!(client.text(2).contains("executed: unknown"));
    let answered = channel.of_calls("answered");
    assert_eq!((&answered["outcome"], &answered["instance"]), (&json!("unknown"), &json!(1)));
    client.call(3, "read_hang");
    client.call(4, "read_whoami");
    assert_eq!(client.text(4), "i0 yes ");
    assert_eq!(channel.of_calls("answered")["outcome"], "result");
    client.send(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 3 } }),
    );
    assert_eq!(channel.of_calls("answered")["outcome"], "cancelled");
}

#[test]
fn a_call_that_is_taken_back_before_it_is_decided_is_forgotten() {
    let (_broker, mut channel, mut client) = running_two("taken-back");
    channel.decides();
    client.call(1, "read_whoami");
    let ask = channel.of_calls("ask");
    client.send(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }),
    );
    client.request(2, "ping");
    client.silent();
    channel.decide(&ask, "allow", "allowed");
    assert_eq!(channel.of_calls("answered")["outcome"], "cancelled");
    client.silent();
}

#[test]
fn a_person_is_asked_by_the_client() {
    let mut broker = Broker::start("elicits");
    broker.plan = two();
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.ticket_for_command("read", 0, 0, TWICE);
    channel.expect("started");
    client.send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "protocolVersion": "2025-06-18", "capabilities": { "elicitation": {} } } }));
    client.line();
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    channel.decides();
    for (id, action, yes) in [(1, "accept", true), (2, "decline", false)] {
        client.call(id, "read_whoami");
        let ask = channel.of_calls("ask");
        assert_eq!(ask["elicits"], true);
        channel.decide(&ask, "pending", "awaits_confirmation");
        let asked = client.line();
        assert_eq!(asked["method"], "elicitation/create");
        client.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "action": action, "content": { "approve": true } } }));
        assert_eq!(channel.of_calls("confirmed")["yes"], yes);
        channel.decide(&ask, if yes { "allow" } else { "deny" }, if yes { "confirmed" } else { "declined" });
        if yes {
            assert_eq!(client.text(id), "i0 yes ");
            assert_eq!(channel.of_calls("answered")["outcome"], "result");
        } else {
            assert!(client.text(id).contains("executed: no"));
        }
    }
}

#[test]
fn a_server_asks_only_what_its_definition_lets_it_ask() {
    let mut plan = two();
    plan["client_requests"] = json!(["sampling"]);
    let (_broker, _channel, mut client) = running_by("may-not-ask", plan);
    client.call(1, "read_ask");
    client.call(2, "read_whoami");
    assert_eq!(client.text(2), "i0 yes ", "nothing else was said");
}

#[test]
fn an_answer_that_is_too_long_is_withheld() {
    let mut plan = two();
    plan["scopes"][0]["result_bytes"] = json!(200);
    let (_broker, mut channel, mut client) = running_by("too-long", plan);
    client.call(1, "read_long");
    let answer = client.line();
    assert_eq!(
        (&answer["result"]["isError"], &answer["result"]["_meta"]["mcp-run/executed"]),
        (&json!(true), &json!("yes"))
    );
    let answered = channel.of_calls("answered");
    assert_eq!(
        (&answered["outcome"], answered["size"].as_u64() > Some(1000)),
        (&json!("result_too_long"), true)
    );
    client.call(2, "read_whoami");
    assert_eq!(client.text(2), "i0 yes ");
}

/// The client's half of the pipe is closed as soon as it has asked: what is decided then is done all the same.
#[test]
fn a_call_that_waits_for_its_decision_when_the_client_leaves_is_done() {
    let (_broker, mut channel, mut client) = running_two("leaves-undecided");
    channel.decides();
    client.call(1, "write_whoami");
    client.close();
    let ask = channel.of_calls("ask");
    std::thread::sleep(Duration::from_millis(200));
    channel.decide(&ask, "allow", "allowed");
    channel.wanted("write");
    channel.ticket_for_command("write", 1, 0, TWICE);
    client.lists_changed();
    assert_eq!(client.text(1), "i1 yes ");
    assert_eq!(client.wait(), 0);
}

/// Both come in one turn of the loop: where the call went is known all the same.
#[test]
fn a_call_that_is_allowed_and_taken_back_at_once_is_reported_with_its_instance() {
    let (_broker, mut channel, mut client) = running("same-turn", 0);
    channel.decides();
    client.call(1, "hang");
    let ask = channel.of_calls("ask");
    client.signal(rustix::process::Signal::STOP);
    client.stopped();
    channel.decide(&ask, "allow", "allowed");
    client.send(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": 1 } }),
    );
    client.signal(rustix::process::Signal::CONT);
    let answered = channel.of_calls("answered");
    assert_eq!((&answered["outcome"], &answered["instance"]), (&json!("cancelled"), &json!(0)), "{answered}");
}
