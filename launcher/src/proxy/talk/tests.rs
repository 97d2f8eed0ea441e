//! The conversation, line by line: what each side gets for what the other says, while instances come and go.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::time::Instant;

use serde_json::{Value, json};

use super::notice::{Kind, Notice};
use super::servers::Ears;
use super::*;
use crate::proxy::calls::Calls;
use crate::proxy::filter::Filter;

pub(super) const CLIENT: u32 = u32::MAX;

pub(super) struct Scene(pub(super) Talk);

impl Scene {
    /// With an instance that is ready.
    pub(super) fn new() -> Self {
        let mut scene = Self(Talk::default());
        assert!(scene.0.join(0, 0, false));
        scene.0.settle(0);
        scene
    }

    /// One that has made the handshake of the older revisions, with lists whose changes are told.
    fn greeted() -> Self {
        let mut scene = Self::new();
        scene.client(r#"{"id":0,"method":"initialize","params":{"x": 1}}"#).unwrap();
        let answer = r#"{"id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{}}}}"#;
        assert_eq!(scene.server(0, answer), Ok(Heard::Answer));
        scene.client(r#"{"method":"notifications/initialized"}"#).unwrap();
        scene.clear();
        scene
    }

    pub(super) fn clear(&mut self) {
        self.0.outboxes().for_each(Outbox::clear);
    }

    fn client_or(&mut self, line: &str, otherwise: Otherwise<'_>) -> Result<(), Drop> {
        self.0.client_line(line, &Message::parse(line).unwrap(), 0, otherwise)
    }

    pub(super) fn client(&mut self, line: &str) -> Result<(), Drop> {
        self.client_or(line, Otherwise::Hold)
    }

    pub(super) fn server(&mut self, number: u32, line: &str) -> Result<Heard, Drop> {
        let (mut calls, mut to_broker) = (Calls::default(), Vec::new());
        let now = Instant::now();
        let filter = filter();
        let mut ears = Ears { filter: &filter, calls: &mut calls, to_broker: &mut to_broker, masked: 0, now };
        self.0.server_line(number, line, &Message::parse(line).unwrap(), &mut ears)
    }

    /// What waits for somebody, taken.
    fn take(&mut self, whom: u32) -> Vec<String> {
        let outbox = if whom == CLIENT { &mut self.0.to_client } else { self.0.inbox(whom).unwrap() };
        let text = String::from_utf8(outbox.waiting().to_vec()).unwrap();
        outbox.clear();
        text.lines().map(str::to_owned).collect()
    }

    pub(super) fn json(&mut self, whom: u32) -> Vec<Value> {
        self.take(whom).iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Another instance that agrees with the one before it.
    fn next(&mut self, number: u32) {
        assert!(!self.0.join(0, number, false), "it has to answer first");
        self.0.inbox(number).unwrap().clear();
        let answer = r#"{"id":0,"result":{"capabilities":{"resources":{},"prompts":{"listChanged":true},"tools":{"listChanged":true}},"protocolVersion":"2025-11-25","serverInfo":{"version":"2"}}}"#;
        assert_eq!(self.server(number, answer), Ok(Heard::Agreed));
        self.0.settle(number);
    }
}

/// Everything is the first scope's, and anything may be asked.
fn filter() -> Filter {
    let scope = json!({
        "name": "all", "tools": ["*"], "resources": ["*"], "prompts": ["*"], "result_bytes": 1 << 20,
        "revision": 1, "argument_bytes": 1 << 20, "named": {}, "whole_arguments": false,
    });
    let plan = json!({
        "launch": "019ab000-0000-7000-8000-000000000001", "server": "t", "scopes": [scope],
        "client_requests": ["sampling", "elicitation", "roots"], "lazy": false, "record": null,
    });
    Filter::new(&serde_json::from_value(plan).unwrap())
}

fn locked() -> Notice {
    Notice::new(Kind::Locked, "the session is locked", "unlock it")
}

#[test]
fn lines_pass_as_they_are() {
    let mut scene = Scene::new();
    let lines = [r#" {"method" : "x","id":"a\/b"} "#, r#"{"method":"n"}"#, r#"{"id":9,"result":{}}"#, "{}"];
    lines.iter().for_each(|line| scene.client(line).unwrap());
    assert_eq!(scene.take(0), lines);
    let lines = [r#"{"id":"a/b","result":1 }"#, r#"{"id":1, "method":"roots\/list"}"#, r#"{"method":"m"}"#];
    for line in lines {
        scene.server(0, line).unwrap();
    }
    assert_eq!(scene.take(CLIENT), lines);
    // What nobody waits for could be anything, also a list that was called off.
    for line in [r#"{"id":77,"result":{"tools":[]}}"#, r#"{"id":"a/b","result":1 }"#] {
        assert_eq!(scene.server(0, line), Err(Drop::Undelivered));
    }
    assert_eq!(scene.server(0, "{}"), Err(Drop::Ambiguous));
    scene.server(0, r#"{"id":5,"method":"tools/call"}"#).unwrap();
    assert!(scene.take(CLIENT).is_empty(), "that is nothing to ask a client");
    assert_eq!(scene.json(0)[0]["error"]["code"], 1002);
}

#[test]
fn what_an_instance_owed_is_answered_when_it_is_gone() {
    let mut scene = Scene::new();
    scene.client(r#"{"id":1,"method":"tools/call","params":{"name":"q"}}"#).unwrap();
    scene.client(r#"{"id":"b","method":"tools/list"}"#).unwrap();
    scene.client(r#"{"id":3,"method":"tools/list"}"#).unwrap();
    scene.client(r#"{"method":"notifications/cancelled","params":{"requestId":3}}"#).unwrap();
    scene.server(0, r#"{"id":"b","result":{}}"#).unwrap();
    scene.clear();
    // This one never went out.
    scene.client(r#"{"id":4,"method":"tools/call","params":{"name":"r"}}"#).unwrap();
    scene.client(r#"{"method":"notifications/x"}"#).unwrap();
    assert_eq!(scene.0.gone(0, Some(&locked())), 1, "one notification is lost");
    let answers = scene.json(CLIENT);
    let executed =
        |answer: &Value| (answer["id"].clone(), answer["result"]["_meta"]["mcp-run/executed"].clone());
    let got: Vec<_> = answers.iter().map(executed).collect();
    assert_eq!(got, [(json!(1), json!("unknown")), (json!(4), json!("no"))]);
    assert!(scene.server(0, r#"{"id":1,"result":{}}"#).is_err(), "it can say nothing any more");
}

#[test]
fn nobody_there() {
    let notice = locked();
    let refuse = Otherwise::Refuse(&notice);
    let mut scene = Scene::new();
    scene.0.gone(0, None);
    for line in [
        r#"{"id":1,"method":"ping"}"#,
        r#"{"id":2,"method":"tools/list"}"#,
        r#"{"id":3,"method":"tools/call","params":{"name":"q","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
    ] {
        scene.client_or(line, refuse).unwrap();
    }
    let got = scene.json(CLIENT);
    assert_eq!(got[0], json!({ "jsonrpc": "2.0", "id": 1, "result": {} }));
    assert_eq!((&got[1]["id"], &got[1]["error"]["code"]), (&json!(2), &json!(1001)));
    assert_eq!(
        (&got[2]["result"]["isError"], &got[2]["result"]["resultType"]),
        (&json!(true), &json!("complete"))
    );
    for line in [r#"{"method":"notifications/x"}"#, r#"{"id":1,"result":{}}"#, "{}"] {
        assert_eq!(scene.client_or(line, refuse), Err(Drop::Undelivered), "{line}");
    }
}

#[test]
fn what_is_held_goes_in_order_and_within_bounds() {
    let mut scene = Scene::greeted();
    scene.0.gone(0, None);
    let call = |id: u32| format!(r#"{{"id":{id},"method":"tools/list"}}"#);
    for id in 1..=257 {
        scene.client(&call(id)).unwrap();
    }
    scene.client(r#"{"id":"p","method":"ping"}"#).unwrap();
    scene.client(r#"{"method":"notifications/cancelled","params":{"requestId":2}}"#).unwrap();
    let got = scene.json(CLIENT);
    assert_eq!((&got[0]["id"], &got[0]["error"]["code"]), (&json!(257), &json!(1004)));
    assert_eq!(got[1]["id"], "p");
    scene.next(1);
    let sent = scene.take(1);
    assert_eq!((sent.len(), sent[0].as_str()), (256, r#"{"method":"notifications/initialized"}"#));
    assert_eq!([&sent[1], &sent[2], &sent[255]], [&call(1), &call(3), &call(256)]);
    // And where none comes: an answer for each.
    scene.0.gone(1, None);
    scene.clear();
    scene.client(&call(400)).unwrap();
    scene.client(r#"{"method":"notifications/x"}"#).unwrap();
    assert_eq!(scene.0.refuse_held(0, &locked()), 1);
    assert_eq!(scene.json(CLIENT)[0]["error"]["code"], 1001);
    assert!(!scene.0.holds(0));
}

#[test]
fn a_fresh_instance_is_told_what_the_old_one_knew() {
    let mut scene = Scene::greeted();
    for (id, rest) in [
        (1, r#""method":"logging/setLevel","params":{"level":"debug"}}"#),
        (2, r#""method":"resources/subscribe","params":{"uri":"file:///a"}}"#),
        (3, r#""method":"resources/subscribe","params":{"uri":"file:///b"}}"#),
        (4, r#""method":"resources/unsubscribe","params":{"uri":"file:///a"}}"#),
        (5, r#""method":"logging/setLevel","params":{"level":"nonsense"}}"#),
    ] {
        scene.client(&format!(r#"{{"id":{id},{rest}"#)).unwrap();
        let body = if id == 5 { r#""error":{}"# } else { r#""result":{}"# };
        scene.server(0, &format!(r#"{{"id":{id},{body}}}"#)).unwrap();
    }
    scene.0.gone(0, Some(&locked()));
    scene.clear();
    assert!(!scene.0.join(0, 1, false));
    assert_eq!(scene.take(1), [r#"{"id":0,"method":"initialize","params":{"x": 1}}"#], "byte for byte");
    scene.server(1, r#"{"method":"notifications/message"}"#).unwrap();
    let answer = r#"{"id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{}}}}"#;
    assert_eq!(scene.server(1, answer), Ok(Heard::Agreed));
    scene.0.settle(1);
    let told = scene.json(1);
    assert_eq!(told[0], json!({ "method": "notifications/initialized" }));
    assert_eq!(
        (&told[1]["method"], &told[1]["params"]),
        (&json!("logging/setLevel"), &json!({ "level": "debug" }))
    );
    assert_eq!(
        (&told[2]["method"], &told[2]["params"]),
        (&json!("resources/subscribe"), &json!({ "uri": "file:///b" }))
    );
    for told in &told[1..] {
        scene.server(1, &format!(r#"{{"id":{},"result":{{}}}}"#, told["id"])).unwrap();
    }
    let methods: Vec<_> = scene.json(CLIENT).iter().map(|line| line["method"].clone()).collect();
    let lists =
        ["notifications/message", "notifications/tools/list_changed", "notifications/prompts/list_changed"];
    assert_eq!(methods, lists, "no answer of ours reaches the client");
}

#[test]
fn an_instance_that_answers_otherwise_is_not_used() {
    for answer in [
        r#"{"id":0,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{}}}}"#,
        r#"{"id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}}"#,
        r#"{"id":0,"error":{"code":1,"message":"no"}}"#,
    ] {
        let mut scene = Scene::greeted();
        scene.0.join(0, 1, false);
        assert_eq!(scene.server(1, answer), Ok(Heard::Differs), "{answer}");
        assert!(scene.take(CLIENT).is_empty());
    }
}

#[test]
fn a_subscription_of_the_stateless_era_stays_open() {
    let mut scene = Scene::new();
    let listen = r#"{"id":"listen-1","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true,"promptsListChanged":false}}}"#;
    let acknowledged = r#"{"method":"notifications/subscriptions/acknowledged","params":{"_meta":{"io.modelcontextprotocol/subscriptionId":"listen-1"}}}"#;
    scene.client(listen).unwrap();
    scene.server(0, acknowledged).unwrap();
    assert_eq!(scene.take(CLIENT), [acknowledged]);
    assert!(!scene.0.busy(0), "it keeps nobody awake");
    scene.0.leave(0);
    scene.server(0, r#"{"id":"listen-1","result":{}}"#).unwrap();
    scene.0.gone(0, Some(&locked()));
    assert!(scene.take(CLIENT).is_empty(), "the client's subscription is open still");
    assert!(scene.0.join(0, 1, false), "nothing has to be answered first");
    scene.0.settle(1);
    assert_eq!(scene.take(1), [listen]);
    scene.server(1, acknowledged).unwrap();
    let changed = json!({
        "jsonrpc": "2.0", "method": "notifications/tools/list_changed",
        "params": { "_meta": { "io.modelcontextprotocol/subscriptionId": "listen-1" } },
    });
    assert_eq!(scene.json(CLIENT), [changed]);
    // Its end is the server's word again, and is said once.
    scene.server(1, r#"{"id":"listen-1","result":{}}"#).unwrap();
    assert_eq!(scene.take(CLIENT).len(), 1);
    scene.0.gone(1, Some(&locked()));
    scene.0.join(0, 2, false);
    scene.0.settle(2);
    assert!(scene.take(2).is_empty());
}

#[test]
fn a_quiet_successor_is_not_noticed() {
    let mut scene = Scene::greeted();
    scene.client(r#"{"id":1,"method":"x"}"#).unwrap();
    scene.0.join(0, 1, true);
    scene.client(r#"{"id":2,"method":"x"}"#).unwrap();
    let answer = r#"{"id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{}}}}"#;
    assert_eq!(scene.server(1, answer), Ok(Heard::Agreed));
    scene.0.settle(1);
    scene.0.leave(0);
    scene.client(r#"{"id":3,"method":"x"}"#).unwrap();
    scene.client(r#"{"method":"notifications/cancelled","params":{"requestId":2}}"#).unwrap();
    assert_eq!(scene.take(0).len(), 3, "both calls and the cancellation went to the old one");
    assert!(scene.0.busy(0));
    assert_eq!(scene.server(1, r#"{"id":1,"result":{}}"#), Err(Drop::Undelivered), "it was not asked");
    scene.server(0, r#"{"id":1,"result":{}}"#).unwrap();
    assert!(!scene.0.busy(0));
    scene.server(1, r#"{"id":3,"result":{}}"#).unwrap();
    assert_eq!(scene.take(CLIENT), [r#"{"id":1,"result":{}}"#, r#"{"id":3,"result":{}}"#]);
}

#[test]
fn a_request_of_a_dead_instance_is_nobody_s() {
    let mut scene = Scene::new();
    scene.server(0, r#"{"id":5,"method":"roots/list"}"#).unwrap();
    scene.0.gone(0, Some(&locked()));
    let cancelled = json!({
        "jsonrpc": "2.0", "method": "notifications/cancelled",
        "params": { "requestId": 5, "reason": "the server that asked is gone" },
    });
    assert_eq!(scene.json(CLIENT).last(), Some(&cancelled));
    scene.0.join(0, 1, false);
    scene.0.settle(1);
    scene.server(1, r#"{"method":"roots/list", "id" : 5,"params":{"id":5}}"#).unwrap();
    let asked = scene.take(CLIENT).remove(0);
    assert_eq!(asked, r#"{"method":"roots/list", "id" : "mcp-run:request:1","params":{"id":5}}"#);
    assert_eq!(scene.client(r#"{"id":5,"result":"late"}"#), Err(Drop::Undelivered));
    // It takes it back, under the name that the client knows.
    scene.server(1, r#"{"method":"notifications/cancelled","params":{"requestId":5}}"#).unwrap();
    assert_eq!(scene.json(CLIENT)[0]["params"]["requestId"], "mcp-run:request:1");
    assert!(!scene.0.busy(1));
    scene.client(r#"{"id":"mcp-run:request:1", "result":"mine"}"#).unwrap();
    assert_eq!(scene.take(1), [r#"{"id":5, "result":"mine"}"#]);
    // The id is free again once the late answer has come.
    scene.server(1, r#"{"id":5,"method":"roots/list"}"#).unwrap();
    assert_eq!(scene.take(CLIENT), [r#"{"id":5,"method":"roots/list"}"#]);
}

#[test]
fn answers_are_told_apart_even_where_too_many_are_late() {
    let mut scene = Scene::new();
    for id in 0..2000 {
        scene.server(0, &format!(r#"{{"id":{id},"method":"roots/list"}}"#)).unwrap();
    }
    scene.0.gone(0, None);
    scene.clear();
    scene.0.join(0, 1, false);
    scene.0.settle(1);
    scene.server(1, r#"{"id":7,"method":"roots/list"}"#).unwrap();
    assert_eq!(scene.json(CLIENT)[0]["id"], "mcp-run:request:1");
    assert_eq!(scene.client(r#"{"id":7,"result":"late"}"#), Err(Drop::Undelivered));
}

#[test]
fn neither_side_can_fill_the_memory_with_ids() {
    let mut scene = Scene::new();
    let mut refused = [0, 0];
    for id in 0..20_000 {
        scene.server(0, &format!(r#"{{"id":{id},"method":"roots/list"}}"#)).unwrap();
        scene.client(&format!(r#"{{"id":{id},"method":"m"}}"#)).unwrap();
        for (count, whom) in refused.iter_mut().zip([CLIENT, 0]) {
            *count += scene.take(whom).iter().filter(|line| line.contains("\"error\"")).count();
        }
    }
    assert_eq!(refused, [20_000 - 16_384; 2]);
}

#[test]
fn initialized_is_said_once_whenever_it_came() {
    const INITIALIZED: &str = r#"{"method":"notifications/initialized"}"#;
    for early in [true, false] {
        let mut scene = Scene::new();
        scene.client(r#"{"id":0,"method":"initialize","params":{"x": 1}}"#).unwrap();
        if early {
            scene.client(INITIALIZED).unwrap();
        }
        let answer = r#"{"id":0,"result":{"protocolVersion":"2025-11-25","capabilities":{"tools":{"listChanged":true},"prompts":{"listChanged":true},"resources":{}}}}"#;
        scene.server(0, answer).unwrap();
        scene.0.gone(0, Some(&locked()));
        scene.clear();
        if !early {
            scene.client(INITIALIZED).unwrap();
        }
        scene.next(1);
        assert_eq!(scene.take(1), [INITIALIZED], "early: {early}");
    }
    // One for a handshake that came to nothing belongs to none.
    let mut scene = Scene::new();
    scene.client(r#"{"id":0,"method":"initialize","params":{"x": 1}}"#).unwrap();
    scene.0.gone(0, Some(&locked()));
    assert_eq!(scene.client_or(INITIALIZED, Otherwise::Refuse(&locked())), Err(Drop::Undelivered));
}

#[test]
fn a_replaced_instance_does_not_end_a_subscription_of_the_stateless_era() {
    let mut scene = Scene::new();
    let listen =
        r#"{"id":"l","method":"subscriptions/listen","params":{"notifications":{"toolsListChanged":true}}}"#;
    scene.client(listen).unwrap();
    scene.clear();
    let ends = r#"{"method":"notifications/cancelled","params":{"requestId":"l"}}"#;
    scene.0.join(0, 1, true);
    scene.0.settle(1);
    scene.0.leave(0);
    scene.server(0, ends).unwrap();
    assert!(scene.take(CLIENT).is_empty(), "it lives on at the new one");
    scene.server(1, ends).unwrap();
    assert_eq!(scene.take(CLIENT), [ends]);
}

#[test]
fn nothing_that_is_kept_grows_without_bounds() {
    let refused = |lines: Vec<String>| lines.iter().filter(|line| line.contains("\"error\"")).count();
    // What is not answered yet: lines of log levels, URIs, and what is kept of it when it is.
    let mut scene = Scene::new();
    let long = "x".repeat(1 << 20);
    for id in 0..20 {
        let level = format!(r#"{{"id":{id},"method":"logging/setLevel","params":{{"level":"{long}"}}}}"#);
        scene.client(&level).unwrap();
        scene.0.inbox(0).unwrap().clear();
    }
    assert!((14..=17).contains(&refused(scene.take(CLIENT))));
    for (method, params) in [
        ("resources/subscribe", format!(r#"{{"uri":"{long}ID"}}"#)),
        ("subscriptions/listen", format!(r#"{{"notifications":{{"{long}":true}}}}"#)),
    ] {
        let mut scene = Scene::new();
        for id in 0..20 {
            let params = params.replace("ID", &id.to_string());
            scene.client(&format!(r#"{{"id":{id},"method":"{method}","params":{params}}}"#)).unwrap();
            if method.starts_with("resources") {
                // Its answer makes it a subscription.
                scene.server(0, &format!(r#"{{"id":{id},"result":{{}}}}"#)).unwrap_or(Heard::Taken);
            }
            scene.0.inbox(0).unwrap().clear();
        }
        assert!((14..=17).contains(&refused(scene.take(CLIENT))), "{method}");
    }
    // A server that asks and does not read.
    let mut scene = Scene::new();
    for id in 0..40_000 {
        let outcome = scene.server(0, &format!(r#"{{"id":{id},"method":"roots/list"}}"#));
        assert!(outcome.is_ok() || id > 16_384);
    }
    let waiting = scene.0.inbox(0).unwrap().waiting().len();
    assert!(waiting < 128 << 10, "{waiting}");
    // A client that asks and does not read.
    scene.client(r#"{"id":"last","method":"m"}"#).unwrap();
    scene.clear();
    assert!(scene.0.has_room(false));
    scene.0.to_client.push(&vec![b'x'; 1 << 20]);
    assert!(!scene.0.has_room(false));
}

#[test]
fn progress_is_told_to_who_asked() {
    let mut scene = Scene::new();
    let ask = |id: u32, token: &str| {
        format!(
            r#"{{"id":{id},"method":"sampling/createMessage","params":{{"_meta":{{"progressToken":{token}}}}}}}"#
        )
    };
    let progress = |token: &str| {
        format!(r#"{{"method":"notifications/progress","params":{{"progressToken":{token},"progress":1}}}}"#)
    };
    scene.server(0, &ask(1, "1")).unwrap();
    scene.server(0, &ask(2, "\"a\"")).unwrap();
    scene.0.join(0, 1, true);
    scene.0.settle(1);
    scene.0.leave(0);
    scene.server(1, &ask(3, "1")).unwrap();
    scene.client(&progress("\"a\"")).unwrap();
    assert_eq!(scene.take(0), [progress("\"a\"")], "the old one had asked");
    scene.client(&progress("1")).unwrap();
    assert_eq!(scene.take(0), [progress("1")]);
    let asked = scene.json(CLIENT).remove(2);
    assert_eq!(asked["id"], asked["params"]["_meta"]["progressToken"], "two call it the same");
    scene.client(&progress(&asked["id"].to_string())).unwrap();
    assert_eq!(scene.take(1), [progress("1")]);
    scene.0.gone(0, None);
    assert_eq!(scene.client(&progress("\"a\"")), Err(Drop::Undelivered), "who asked is gone");
    scene.client(&progress("7")).unwrap();
    assert_eq!(scene.take(1), [progress("7")], "nobody knows better");
}

#[test]
fn a_task_is_of_the_instance_that_runs_it() {
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"q","task":{"ttl":60000}}}"#;
    let modern = r#","_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}"#;
    let ask = |method: &str, meta: &str| {
        format!(r#"{{"id":2,"method":"tasks/{method}","params":{{"taskId":"t-1"{meta}}}}}"#)
    };
    // What is asked, what is answered, and whether that ends the task.
    for (created, method, meta, answer, over) in [
        (
            r#"{"task":{"taskId":"t-1","status":"working"}}"#,
            "get",
            "",
            r#"{"taskId":"t-1","status":"working"}"#,
            false,
        ),
        (
            r#"{"task":{"taskId":"t-1","status":"working"}}"#,
            "get",
            "",
            r#"{"taskId":"t-1","status":"completed"}"#,
            false,
        ),
        (r#"{"task":{"taskId":"t-1","status":"working"}}"#, "result", "", r#"{"content":[]}"#, true),
        (
            r#"{"task":{"taskId":"t-1","status":"working"}}"#,
            "cancel",
            "",
            r#"{"taskId":"t-1","status":"cancelled"}"#,
            true,
        ),
        (
            r#"{"resultType":"task","taskId":"t-1","status":"working"}"#,
            "get",
            modern,
            r#"{"status":"working"}"#,
            false,
        ),
        (
            r#"{"resultType":"task","taskId":"t-1","status":"working"}"#,
            "get",
            modern,
            r#"{"status":"completed"}"#,
            true,
        ),
    ] {
        let mut scene = Scene::new();
        scene.client(call).unwrap();
        scene.server(0, &format!(r#"{{"id":1,"result":{created}}}"#)).unwrap();
        assert!(scene.0.busy(0), "it was answered with a task: {created}");
        scene.0.join(0, 1, true);
        scene.0.settle(1);
        scene.0.leave(0);
        scene.clear();
        scene.client(&ask(method, meta)).unwrap();
        assert_eq!(scene.take(0), [ask(method, meta)], "the other one knows nothing of it");
        scene.server(0, &format!(r#"{{"id":2,"result":{answer}}}"#)).unwrap();
        assert_eq!(scene.0.busy(0), !over, "{method} {answer}");
        scene.0.gone(0, None);
        scene.client(&ask(method, meta)).unwrap();
        assert_eq!(scene.take(1).len(), 1, "there is no other to ask");
    }
    // A result that only looks like one.
    let mut scene = Scene::new();
    scene.client(call).unwrap();
    scene.server(0, r#"{"id":1,"result":{"structuredContent":{"taskId":"x"},"taskId":"y"}}"#).unwrap();
    assert!(!scene.0.busy(0));
}

/// An id that is used again before its answer has come could carry a list past the filter.
#[test]
fn an_id_is_one_request_at_a_time() {
    let list = r#"{"id":5,"method":"tools/list"}"#;
    let call = r#"{"id":5,"method":"tools/call","params":{"name":"q"}}"#;
    for cancels in [false, true] {
        let mut scene = Scene::new();
        scene.client(list).unwrap();
        if cancels {
            scene.client(r#"{"method":"notifications/cancelled","params":{"requestId":5}}"#).unwrap();
        }
        let sent = scene.take(0).len();
        scene.client(call).unwrap();
        assert_eq!((sent, scene.take(0).len()), (1 + usize::from(cancels), 0), "cancels: {cancels}");
        assert_eq!(scene.json(CLIENT)[0]["error"]["code"], -32600);
        assert!(scene.0.news.contains(&News::Ended(Id::of("5"), CallOutcome::NotSent, 0)));
        let answered = scene.server(0, r#"{"id":5,"result":{"tools":[]}}"#);
        assert_eq!(answered.is_err(), cancels);
        // It is free again when that has come.
        scene.client(call).unwrap();
        assert_eq!(scene.take(0), [call]);
    }
}

#[test]
fn a_server_cannot_pass_for_the_relay_or_for_another() {
    let mut scene = Scene::new();
    scene.server(0, r#"{"id":"mcp-run:confirm:1","method":"elicitation/create"}"#).unwrap();
    assert_eq!(scene.json(CLIENT)[0]["id"], "mcp-run:request:1", "that is how we ask ourselves");
    scene.server(0, r#"{"id":5,"method":"roots/list"}"#).unwrap();
    scene.clear();
    scene.0.plan(&[Some(0), None], false);
    scene.0.join(1, 1, false);
    scene.0.settle(1);
    let cancelled =
        |id: &str| format!(r#"{{"method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#);
    for (number, id, passes) in
        [(1, "5", false), (0, "\"mcp-run:confirm:2\"", false), (0, "77", false), (0, "5", true)]
    {
        assert_eq!(scene.server(number, &cancelled(id)).is_ok(), passes, "{number} {id}");
        assert_eq!(scene.take(CLIENT).len(), usize::from(passes));
    }
    scene.server(0, &cancelled("\"mcp-run:confirm:1\"")).unwrap();
    assert_eq!(scene.json(CLIENT)[0]["params"]["requestId"], "mcp-run:request:1");
}

/// A handshake that came to nothing is nobody's: not that of another scope's instance either.
#[test]
fn a_handshake_that_waits_in_vain_is_replayed_to_nobody() {
    let initialize = r#"{"id":0,"method":"initialize","params":{}}"#;
    let cancelled = r#"{"method":"notifications/cancelled","params":{"requestId":0}}"#;
    for cancels in [false, true] {
        let mut scene = Scene(Talk::default());
        scene.0.plan(&[Some(0), None], false);
        scene.client(initialize).unwrap();
        if cancels {
            scene.client(cancelled).unwrap();
        } else {
            scene.0.refuse_held(0, &locked());
        }
        assert!(scene.0.join(1, 1, false), "cancels: {cancels}");
    }
    // While it waits it is everybody's.
    let mut scene = Scene(Talk::default());
    scene.0.plan(&[Some(0), None], false);
    scene.client(initialize).unwrap();
    assert!(!scene.0.join(1, 1, false));
    assert_eq!(scene.take(1), [initialize]);
    let own = r#"{"method":"notifications/cancelled","params":{"requestId":"mcp-run:list:1"}}"#;
    assert_eq!(scene.client(own), Err(Drop::Undelivered));
}

/// A task leads to its instance only where the request is about a task: everything else goes to its own scope.
#[test]
fn a_task_id_beside_another_request_leads_nowhere() {
    let mut scene = Scene::new();
    scene.0.plan(&[Some(0), None], false);
    assert!(scene.0.join(1, 1, false));
    scene.0.settle(1);
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"w"}}"#;
    scene.0.client_line(call, &Message::parse(call).unwrap(), 1, Otherwise::Hold).unwrap();
    scene.server(1, r#"{"id":1,"result":{"task":{"taskId":"t","status":"working"}}}"#).unwrap();
    scene.clear();
    for method in ["tools/call", "prompts/get", "resources/read", "logging/setLevel", "x/y"] {
        let line = format!(r#"{{"id":"{method}","method":"{method}","params":{{"name":"r","taskId":"t"}}}}"#);
        scene.client(&line).unwrap();
        assert_eq!((scene.take(0), scene.take(1)), (vec![line], vec![]), "{method}");
    }
    let line = r#"{"id":9,"method":"tasks/get","params":{"taskId":"t"}}"#;
    scene.client(line).unwrap();
    assert_eq!((scene.take(0), scene.take(1)), (vec![], vec![line.to_owned()]));
}

/// A reader of floats takes these for one id, and would mix up their answers.
#[test]
fn an_id_that_another_reader_takes_for_an_open_one_is_in_use() {
    let mut scene = Scene::new();
    scene.client(r#"{"id":9007199254740993,"method":"x"}"#).unwrap();
    for (id, fine) in [("9007199254740992", false), ("9007199254740993.0", false), ("9007199254740990", true)]
    {
        scene.clear();
        scene.client(&format!(r#"{{"id":{id},"method":"x"}}"#)).unwrap();
        assert_eq!(scene.take(0).len(), usize::from(fine), "{id}");
        assert_eq!(scene.take(CLIENT).len(), usize::from(!fine), "{id}");
    }
    for id in ["1e0", "10e-1", "1.5", r#""\uD800""#] {
        assert!(Message::parse(&format!(r#"{{"id":{id},"method":"x"}}"#)).is_err(), "{id}");
    }
}

/// Whatever the client sends an instance that does not read: it is bounded, and the others are served.
#[test]
fn an_instance_that_does_not_read_is_sent_no_more() {
    let mut scene = Scene::new();
    scene.0.plan(&[Some(0), None], false);
    assert!(scene.0.join(1, 1, false));
    scene.0.settle(1);
    let text = "x".repeat(1 << 20);
    let roots = format!(r#"{{"method":"notifications/roots/list_changed","params":{{"a":"{text}"}}}}"#);
    let mut kept = Vec::new();
    for n in 0..8 {
        kept.push(scene.client(&roots));
        scene
            .server(
                1,
                &format!(
                    r#"{{"id":"r{n}","method":"roots/list","params":{{"_meta":{{"progressToken":"t{n}"}}}}}}"#
                ),
            )
            .unwrap();
        scene.0.inbox(0).unwrap().clear();
    }
    assert_eq!([&kept[0], &kept[3], &kept[7]], [&Ok(()), &Ok(()), &Err(Drop::NotKept)]);
    let progress =
        format!(r#"{{"method":"notifications/progress","params":{{"progressToken":"t1","a":"{text}"}}}}"#);
    assert_eq!(scene.client(&progress), Err(Drop::NotKept));
    assert_eq!(scene.client(&format!(r#"{{"id":"r1","result":{{"roots":"{text}"}}}}"#)), Err(Drop::NotKept));
    for id in 0..9000 {
        scene
            .client(&format!(r#"{{"id":{id},"method":"logging/setLevel","params":{{"level":"info"}}}}"#))
            .unwrap();
        scene.server(0, &format!(r#"{{"id":{id},"result":{{}}}}"#)).unwrap();
    }
    assert!(scene.0.waiting_for(1).unwrap().waiting().len() < 6 << 20);
    scene.0.inbox(0).unwrap().clear();
    scene.client(&roots).unwrap_err();
    assert_eq!(scene.take(0), [roots], "the first scope's hears it");
    scene.0.inbox(1).unwrap().clear();
    scene.client(&progress).unwrap();
}

#[test]
fn an_instance_tells_no_progress_of_what_another_was_asked() {
    let mut scene = Scene::new();
    scene.0.plan(&[Some(0), None], false);
    scene.0.join(1, 1, false);
    scene.0.settle(1);
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"q","_meta":{"progressToken":"t"}}}"#;
    scene.client(call).unwrap();
    let progress = r#"{"method":"notifications/progress","params":{"progressToken":"t","progress":1}}"#;
    assert_eq!(scene.server(1, progress), Err(Drop::Undelivered));
    assert!(scene.take(CLIENT).is_empty());
    scene.server(0, progress).unwrap();
    assert_eq!(scene.take(CLIENT), [progress]);
    // A task goes on after its call was answered, and nobody else has named that token.
    scene.server(0, r#"{"id":1,"result":{"task":{"taskId":"x"}}}"#).unwrap();
    scene.clear();
    scene.server(0, progress).unwrap();
    assert_eq!(scene.take(CLIENT), [progress]);
}

/// Resources are of one scope, however the request spells that it is about them.
#[test]
fn a_listen_request_for_resources_is_of_one_scope() {
    for (name, shared) in
        [("resourceSubscriptions", false), ("resource\\u0053ubscriptions", false), ("toolsListChanged", true)]
    {
        let mut scene = Scene::new();
        scene.0.plan(&[Some(0), None], false);
        scene.0.join(1, 1, false);
        scene.0.settle(1);
        let value = if shared { "true" } else { r#"["demo://a"]"# };
        scene.client(&format!(r#"{{"id":1,"method":"subscriptions/listen","params":{{"notifications":{{"{name}":{value}}},"x":"resourceSubscriptions"}}}}"#)).unwrap();
        assert_eq!(scene.take(1).len(), usize::from(shared), "{name}");
    }
}
