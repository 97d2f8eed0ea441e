//! Tests of what may pass: a server with two scopes, with and without a record.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use std::collections::BTreeMap;

use mcp_broker_proto::call::Change;
use mcp_broker_proto::plan::{ClientRequest, Lists, Plan, Record, Variant};
use serde_json::{Value, json};

use super::checks::plan;
use super::*;
use crate::proxy::message::Message;
use crate::proxy::rule;

const OLD: &str = "2025-11-25";
const NEW: &str = "2026-07-28";

fn tool(name: &str, description: &str) -> String {
    json!({ "name": name, "description": description, "inputSchema": { "type": "object" } }).to_string()
}

/// The same, approved in both eras; a capable client sees one tool more in the second scope.
fn approved() -> Plan {
    let items = [
        json!({ "protocolVersion": OLD, "capabilities": { "tools": {} }, "serverInfo": { "name": "s" } }).to_string(),
        json!({ "supportedVersions": [NEW], "capabilities": { "tools": {} }, "cacheScope": "public", "ttlMs": 9_000_000_000_u64 })
            .to_string(),
        tool("query", "reads"),
        tool("write_row", "writes"),
        tool("secret", "no scope names it"),
        tool("write_asks", "asks first"),
        json!({ "uri": "file:///logs/1", "name": "1" }).to_string(),
        json!({ "uri": "file:///etc/passwd", "name": "no" }).to_string(),
        json!({ "uriTemplate": "file:///{path}", "name": "files" }).to_string(),
        "{\r\n\"name\": \"explain_plan\" }".to_owned(),
    ];
    let lists = |tools: &[usize], capable: bool| Lists {
        tools: Some(tools.iter().copied().chain(capable.then_some(5)).collect()),
        resources: Some(vec![6, 7]),
        templates: Some(vec![8]),
        prompts: None,
    };
    let variant = |revision: &str, capable, discovery| Variant {
        revision: revision.to_owned(),
        capable,
        discovery,
        scopes: BTreeMap::from([
            ("read".parse().unwrap(), Lists { prompts: Some(vec![9, 9]), ..lists(&[2, 3, 4], false) }),
            ("write".parse().unwrap(), lists(&[2, 3, 4], capable)),
        ]),
    };
    let variants =
        vec![variant(OLD, false, 0), variant(OLD, true, 0), variant(NEW, false, 1), variant(NEW, true, 1)];
    let approved_at = "2026-11-24T10:00:00Z".to_owned();
    Plan { record: Some(Record { approved_at, items: items.into(), variants }), lazy: true, ..plan() }
}

fn initialize(revision: &str, capabilities: &Value) -> String {
    let params = json!({ "protocolVersion": revision, "capabilities": capabilities, "clientInfo": {} });
    json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params }).to_string()
}

/// A request, of the stateless era where the client's capabilities are given.
fn ask(method: &str, mut params: Value, capabilities: Option<&Value>) -> String {
    if let Some(capabilities) = capabilities {
        params["_meta"] = json!({
            "io.modelcontextprotocol/protocolVersion": NEW,
            "io.modelcontextprotocol/clientCapabilities": capabilities,
        });
    }
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string()
}

/// Where a line goes, in one word or with the code of the error.
fn goes(filter: &Filter, line: &str) -> String {
    let mut bytes = line.as_bytes().to_vec();
    let Ok((_, message)) = rule::from_client(&mut bytes) else { return "dropped".into() };
    match filter.route(&message) {
        Route::Call(call) => format!("call {} {}", call.lane, call.tool),
        Route::Lane(lane) => format!("lane {lane}"),
        Route::Refused(line) => {
            let line: Value = serde_json::from_str(&line).unwrap();
            format!("{} {}", line["error"]["code"], line["error"]["message"].as_str().unwrap())
        }
        Route::Nowhere(_) => "nowhere".into(),
        other => format!("{other:?}").to_lowercase(),
    }
}

fn go(requests: &[(&str, Value, &str)]) {
    let filter = Filter::new(&plan());
    for (method, params, want) in requests {
        let line = ask(method, params.clone(), None);
        assert_eq!(goes(&filter, &line), *want, "{line}");
    }
}

#[test]
fn where_calls_go() {
    go(&[
        ("tools/call", json!({ "name": "query" }), "call 0 query"),
        ("tools/call", json!({ "name": "list_x", "arguments": {} }), "call 0 list_x"),
        ("tools/call", json!({ "name": "write_row" }), "call 1 write_row"),
        ("tools/call", json!({ "name": "secret" }), "-32602 Unknown tool: secret"),
        ("tools/call", json!({ "name": "Query" }), "-32602 Unknown tool: Query"),
        ("tools/call", json!({ "name": "query " }), "-32602 Unknown tool: query "),
        ("tools/call", json!({ "name": "query\n" }), "-32602 Unknown tool: query\n"),
        ("tools/call", json!({ "name": "list_a\nb" }), "-32602 Unknown tool: list_a\nb"),
        ("tools/call", json!({ "name": ["query"] }), "-32602 the name of a tool is missing"),
        ("tools/call", json!({}), "-32602 the name of a tool is missing"),
        ("tools/call", json!(["query"]), "-32602 the name of a tool is missing"),
        // What has rules cannot be named so that only the server understands it.
        (
            "tools/call",
            json!({ "name": "write_row", "arguments": { "path": 1, "x": 2 } }),
            "call 1 write_row",
        ),
        (
            "tools/call",
            json!({ "name": "write_row", "arguments": { "Path": 1 } }),
            "-32602 an argument that has rules, in another case",
        ),
        ("tools/call", json!({ "name": "query", "arguments": { "Path": 1 } }), "call 0 query"),
    ]);
}

#[test]
fn a_long_name_is_not_said_again() {
    let filter = Filter::new(&plan());
    for (method, member) in [("tools/call", "name"), ("prompts/get", "name"), ("resources/read", "uri")] {
        let line = ask(method, json!({ member: "ä".repeat(1 << 20) }), None);
        let Route::Refused(answer) = filter.route(&Message::parse(&line).unwrap()) else {
            panic!("{method}")
        };
        assert!(answer.len() < 2048, "{method}: {}", answer.len());
    }
}

#[test]
fn where_prompts_and_resources_go() {
    go(&[
        ("prompts/get", json!({ "name": "explain_plan" }), "lane 0"),
        ("prompts/get", json!({ "name": "change" }), "lane 1"),
        ("prompts/get", json!({ "name": "query" }), "-32602 Unknown prompt: query"),
        ("resources/read", json!({ "uri": "file:///logs/a" }), "lane 0"),
        ("resources/subscribe", json!({ "uri": "file:///data/a" }), "lane 1"),
        ("resources/unsubscribe", json!({ "uri": "demo://a" }), "lane 0"),
        ("resources/unsubscribe", json!({ "uri": "demo://b" }), "-32002 Resource not found"),
        ("resources/read", json!({ "uri": "file:///etc/passwd" }), "-32002 Resource not found"),
        ("resources/read", json!({ "uri": 5 }), "-32602 the URI of a resource is missing"),
        ("completion/complete", json!({ "ref": { "type": "ref/prompt", "name": "change" } }), "lane 1"),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/prompt", "name": "x" } }),
            "-32602 Unknown prompt: x",
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/resource", "uri": "file:///{path}" } }),
            "lane 0",
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/resource", "uri": "file:///data/x" } }),
            "lane 1",
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/resource", "uri": "x://" } }),
            "-32002 Resource not found",
        ),
        (
            "completion/complete",
            json!({ "ref": { "type": "ref/tool", "name": "query" } }),
            "-32602 what is to be completed is missing",
        ),
        ("completion/complete", json!({ "ref": "query" }), "-32602 what is to be completed is missing"),
    ]);
    let modern = ask("resources/read", json!({ "uri": "x://" }), Some(&json!({})));
    let filter = Filter::new(&plan());
    assert_eq!(goes(&filter, &modern), "-32602 Resource not found", "SEP-2164");
}

#[test]
fn where_subscriptions_go() {
    go(&[
        ("subscriptions/listen", json!({}), "lane 0"),
        ("subscriptions/listen", json!({ "notifications": { "toolsListChanged": true } }), "lane 0"),
        (
            "subscriptions/listen",
            json!({ "notifications": { "resourceSubscriptions": ["file:///data/a"] } }),
            "lane 1",
        ),
        (
            "subscriptions/listen",
            json!({ "notifications": { "resourceSubscriptions": ["demo://a", "demo://b"] } }),
            "-32602 Resource not found",
        ),
        (
            "subscriptions/listen",
            json!({ "notifications": { "resourceSubscriptions": ["demo://a", "file:///data/a"] } }),
            "-32602 resources of several scopes: listen to each scope on its own",
        ),
        (
            "subscriptions/listen",
            json!({ "notifications": { "resourceSubscriptions": "demo://b" } }),
            "-32602 resourceSubscriptions are no list of URIs",
        ),
        (
            "subscriptions/listen",
            json!({ "notifications": { "ResourceSubscriptions": ["demo://b"] } }),
            "-32602 notifications are no object",
        ),
    ]);
}

#[test]
fn where_other_requests_go() {
    go(&[
        ("initialize", json!({}), "discovery"),
        ("server/discover", json!({}), "discovery"),
        ("tools/list", json!({}), "list(tools)"),
        ("prompts/list", json!({}), "list(prompts)"),
        ("resources/list", json!({}), "list(resources)"),
        ("resources/templates/list", json!({}), "list(templates)"),
        ("logging/setLevel", json!({ "level": "debug" }), "every"),
        ("tasks/get", json!({ "taskId": "t" }), r#"task("\"t\"")"#),
        ("tasks/result", json!({ "task_id": "t" }), "-32602 Task not found"),
        ("tasks/list", json!({}), "tasks"),
        ("ping", json!({}), "ping"),
        ("x/anything", json!({ "name": "secret" }), "lane 0"),
    ]);
}

/// Each has a real origin: bypasses that were found in other relays, or that real servers fall for.
#[test]
fn nobody_talks_their_way_around() {
    let filter = Filter::new(&plan());
    let hidden = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"secret"}}"#;
    for (line, want) in [
        // Before any handshake, and in every spelling.
        (hidden.to_owned(), "-32602 Unknown tool: secret"),
        (hidden.replace("secret", "\\u0073ecret"), "-32602 Unknown tool: secret"),
        (hidden.replace("tools/call", "tools\\/c\\u0061ll"), "-32602 Unknown tool: secret"),
        (hidden.replace("\"name\"", "\"n\\u0061me\""), "-32602 Unknown tool: secret"),
        (hidden.replace("\"params\"", "\"p\\u0061rams\""), "-32602 Unknown tool: secret"),
        (hidden.replace("secret", "\\ud800"), "-32602 the name of a tool is missing"),
        // A batch, several on a line, a mark in front.
        (format!("[{hidden}]"), "dropped"),
        (format!("{{}}{hidden}"), "dropped"),
        (format!("\u{feff}{hidden}"), "dropped"),
        (format!("\u{2028}{hidden}"), "dropped"),
        // Twice, and twice but for the case.
        (hidden.replace("\"params\"", r#""method":"ping","params""#), "dropped"),
        (hidden.replace("\"params\"", r#""params":{"name":"query"},"params""#), "dropped"),
        (hidden.replace("\"name\"", r#""name":"query","name""#), "dropped"),
        (hidden.replace("\"name\"", r#""name":"query","Name""#), "dropped"),
        (hidden.replace("\"method\":\"tools/call\"", r#""method":"ping","METHOD":"tools/call""#), "dropped"),
        (hidden.replace("\"secret\"", r#""query","arguments":{"a":1,"a":2}"#), "dropped"),
        // An answer that is a request.
        (hidden.replace("\"id\"", r#""result":{},"id""#), "dropped"),
        (hidden.replace("\"id\"", r#""error":{},"id""#), "dropped"),
        // A call that nobody could answer.
        (hidden.replace("\"id\":9,", ""), "nowhere"),
        (hidden.replace("\"id\":9,", "\"id\":null,"), "nowhere"),
        (hidden.replace("\"id\":9,", "\"id\":{},"), "dropped"),
        (hidden.replace("secret", "query").replace("\"id\":9,", ""), "nowhere"),
        // A carriage return is a blank, so that there is one message for everybody.
        (format!("{{\"method\":\"notifications/x\",\"params\":{{\"a\":\r{hidden}\r}}}}"), "lane 0"),
        (format!("{{\"method\":\"notifications/x\"}}\r{hidden}"), "dropped"),
        (format!("{hidden}\r"), "-32602 Unknown tool: secret"),
        // Ids are kept as they are.
        (hidden.replace("9", "9007199254740993"), "-32602 Unknown tool: secret"),
        (hidden.replace("9", "1.0"), "-32602 Unknown tool: secret"),
        // Another tool in a second try of the same call is another call.
        (
            hidden.replace("}}", r#","requestState":"of query","inputResponses":{}}}"#),
            "-32602 Unknown tool: secret",
        ),
    ] {
        assert_eq!(goes(&filter, &line), want, "{line:?}");
    }
}

#[test]
fn arguments_that_have_rules_are_named() {
    let filter = Filter::new(&plan());
    for (tool, arguments, want) in [
        ("write_row", r#"{"path" : {"a": 1.0}, "x":2}"#, &[("path", r#"{"a": 1.0}"#)][..]),
        ("write_row", r#"{"p\u0061th":null}"#, &[("path", "null")]),
        ("write_row", r#"{"x":2}"#, &[]),
        ("query", r#"{"path":1}"#, &[]),
    ] {
        let line = format!(
            r#"{{"id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
        );
        let Route::Call(call) = filter.route(&Message::parse(&line).unwrap()) else { panic!("{line}") };
        assert_eq!(call.arguments, Some(arguments));
        let got = filter.named_arguments(&call);
        let want = want.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(got, want, "{line}");
    }
}

#[test]
fn where_the_rest_goes() {
    let filter = Filter::new(&plan());
    for (line, want) in [
        (r#"{"method":"notifications/initialized"}"#, "every"),
        (r#"{"method":"notifications/roots/list_changed"}"#, "every"),
        (r#"{"method":"notifications/cancelled","params":{"requestId":"a"}}"#, r#"cancel("\"a\"")"#),
        (r#"{"method":"notifications/cancelled","params":{}}"#, "nowhere"),
        (r#"{"method":"notifications/progress","params":{"progressToken":1}}"#, r#"progress("1")"#),
        (r#"{"method":"notifications/x"}"#, "lane 0"),
        (r#"{"method":"tools/list"}"#, "nowhere"),
        (r#"{"method":"resources/read","params":{"uri":"demo://a"}}"#, "nowhere"),
        (r#"{"id":4,"result":{"method":"tools/call"}}"#, r#"answer("4")"#),
        (r#"{"id":4,"error":{}}"#, r#"answer("4")"#),
        (r#"{"id":4}"#, "nowhere"),
        ("{}", "nowhere"),
    ] {
        assert_eq!(goes(&filter, line), want, "{line}");
    }
}

#[test]
fn what_servers_may_ask() {
    let say = |allowed: &[ClientRequest], line: &str| {
        let filter = Filter::new(&Plan { client_requests: allowed.to_vec(), ..plan() });
        let mut line = line.as_bytes().to_vec();
        match rule::from_server(&mut line) {
            Ok((_, message)) => format!("{:?}", filter.said(&message)),
            Err(why) => format!("{why:?}"),
        }
    };
    let all = [ClientRequest::Sampling, ClientRequest::Elicitation, ClientRequest::Roots];
    for (method, own) in [("sampling/createMessage", 0), ("elicitation/create", 1), ("roots/list", 2)] {
        let line = format!(r#"{{"id":"a\u0062","method":"{method}"}}"#);
        assert_eq!(say(&all[own..=own], &line), r#"Asks("\"a\\u0062\"")"#);
        let others: Vec<_> = (0..3).filter(|n| *n != own).map(|n| all[n]).collect();
        let refused = say(&others, &line);
        assert!(refused.starts_with("Refused(") && refused.contains("1002"), "{refused}");
        assert!(refused.contains(r#"\"id\":\"a\\u0062\""#), "{refused}");
    }
    for (line, want) in [
        (r#"{"id":1,"method":"ping"}"#, r#"Ping("1")"#),
        (r#"{"method":"notifications/tools/list_changed"}"#, "Tells"),
        (r#"{"id":1,"result":{"tools":[]}}"#, r#"Answer("1")"#),
        (r#"{"id":1,"error":{}}"#, r#"Answer("1")"#),
        (r#"{"id":1,"method":"x","result":{"tools":[]}}"#, "Ambiguous"),
        (r#"{"method":"notifications/x","result":{"tools":[]}}"#, "Ambiguous"),
        (r#"{"method":"sampling/createMessage"}"#, "Nothing(Ambiguous)"),
        (r#"{"id":null,"method":"elicitation/create"}"#, "Nothing(Ambiguous)"),
        (r#"{"result":{"tools":[]}}"#, "Nothing(Ambiguous)"),
        (r#"{"id":null,"result":{"tools":[]}}"#, "Nothing(Ambiguous)"),
        (r#"{"id":1,"result":{},"Result":{"tools":[]}}"#, "Ambiguous"),
        (r#"[{"id":1,"result":{"tools":[]}}]"#, "NotObject"),
        ("\u{feff}{\"id\":1,\"result\":{\"tools\":[]}}", "NotMessage"),
        ("Listening on stdio", "NotMessage"),
    ] {
        assert_eq!(say(&[], line), want, "{line}");
    }
    assert!(say(&all, r#"{"id":1,"method":"tools/call"}"#).starts_with("Refused("));
    assert!(say(&all[..1], r#"{"id":1,"method":"tasks/get"}"#).starts_with("Asks("));
    assert!(say(&[], r#"{"id":1,"method":"tasks/get"}"#).starts_with("Refused("));
}

fn answer(result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0", "id":7,"result":{result} }}"#)
}

#[test]
fn lists_keep_their_bytes() {
    let filter = Filter::new(&plan());
    for (list, result, want) in [
        // Nothing to take out: not even white space changes.
        (List::Tools, r#"{"tools":[ {"name":"query"} , {"name":"write_a"}],"x":1}"#, None),
        (List::Tools, r#"{"tools":[]}"#, None),
        (
            List::Tools,
            r#"{"_meta":{"a": 1.0},"tools":[{"name":"a"}, { "n":"}]","name" : "qu\u0065ry" , "z":[{}] },{"name":"b"}],"nextCursor":""}"#,
            Some(
                r#"{"_meta":{"a": 1.0},"tools":[{ "n":"}]","name" : "qu\u0065ry" , "z":[{}] }],"nextCursor":""}"#,
            ),
        ),
        // A page may become empty and is not the last one for that.
        (
            List::Tools,
            r#"{"nextCursor":"2","tools":[ {"name":"a"} ]}"#,
            Some(r#"{"nextCursor":"2","tools":[ ]}"#),
        ),
        (
            List::Tools,
            r#"{"tools":[{"name":"a"},{"name":"query"}],"cacheScope":"public","ttlMs":3600000,"resultType":"complete"}"#,
            Some(
                r#"{"tools":[{"name":"query"}],"cacheScope":"private","ttlMs":60000,"resultType":"complete"}"#,
            ),
        ),
        (
            List::Tools,
            r#"{"ttlMs":5000,"cacheScope":"private","tools":[{"name":"a"}]}"#,
            Some(r#"{"ttlMs":5000,"cacheScope":"private","tools":[]}"#),
        ),
        (
            List::Prompts,
            r#"{"prompts":[{"name":"x"},{"name":"change"}]}"#,
            Some(r#"{"prompts":[{"name":"change"}]}"#),
        ),
        (
            List::Resources,
            r#"{"resources":[{"name":"x","uri":"file:///logs/1"},{"name":"query","uri":"file:///etc/passwd"}]}"#,
            Some(r#"{"resources":[{"name":"x","uri":"file:///logs/1"}]}"#),
        ),
        (
            List::Templates,
            r#"{"resourceTemplates":[{"uriTemplate":"http://{x}"},{"uriTemplate":"file:///logs/{x}"}]}"#,
            Some(r#"{"resourceTemplates":[{"uriTemplate":"file:///logs/{x}"}]}"#),
        ),
    ] {
        let want = want.map_or(Listed::Same, |want| Listed::Line(answer(want)));
        assert_eq!(filter.list(list, &answer(result)), want, "{result}");
    }
    let error = r#"{"jsonrpc":"2.0","id":7,"error":{"code":-32601,"message":"tools"}}"#;
    assert_eq!(filter.list(List::Tools, error), Listed::Same);
}

#[test]
fn what_is_no_clean_list_does_not_pass() {
    let filter = Filter::new(&plan());
    for result in [
        "null",
        "[]",
        r#"[{"name":"query"}]"#,
        "{}",
        r#"{"tools":null}"#,
        r#"{"tools":{"name":"query"}}"#,
        r#"{"tools":"[]"}"#,
        r#"{"tools":[null]}"#,
        r#"{"tools":[[{"name":"query"}]]}"#,
        r#"{"tools":[{"title":"query"}]}"#,
        r#"{"tools":[{}]}"#,
        r#"{"tools":[{"name":"query","name":"secret"}]}"#,
        r#"{"tools":[{"name":"query","Name":"secret"}]}"#,
        r#"{"tools":[{"name":"query","x":1,"x":2}]}"#,
        r#"{"tools":[],"tools":[{"name":"secret"}]}"#,
        r#"{"tools":[],"Tools":[{"name":"secret"}]}"#,
        r#"{"tools":[],"x":1,"x":2}"#,
        r#"{"t\u006fols":[{"name":"secret"}]}"#,
    ] {
        assert_eq!(filter.list(List::Tools, &answer(result)), Listed::Unclear, "{result}");
    }
    // What takes long to compare is bounded.
    let many = |element: &str| vec![element; 1025].join(",");
    let tools = answer(&format!(r#"{{"tools":[{}]}}"#, many(r#"{"name":"secret"}"#)));
    assert_eq!(filter.list(List::Tools, &tools), Listed::Line(answer(r#"{"tools":[]}"#)));
    assert_eq!(Filter::new(&approved()).list(List::Tools, &tools), Listed::Unclear);
    let templates = answer(&format!(r#"{{"resourceTemplates":[{}]}}"#, many(r#"{"uriTemplate":"{x}"}"#)));
    assert_eq!(filter.list(List::Templates, &templates), Listed::Unclear);
    // A name that is no text is nobody's.
    for name in ["5", "null", r#"["query"]"#, r#""\ud800""#] {
        let line = answer(&format!(r#"{{"tools":[{{"name":{name}}}]}}"#));
        assert_eq!(filter.list(List::Tools, &line), Listed::Line(answer(r#"{"tools":[]}"#)), "{name}");
    }
}

#[test]
fn tasks_of_others_are_not_listed() {
    let line = answer(r#"{"tasks":[{"taskId":"a","status":"working"},{"taskId":"b"}]}"#);
    let want = Listed::Line(answer(r#"{"tasks":[{"taskId":"b"}]}"#));
    assert_eq!(list::tasks(&line, &|id| id == r#""b""#, &|_| None), want);
    assert_eq!(list::tasks(&line, &|_| true, &|_| None), Listed::Same);
    assert_eq!(list::tasks(&answer("{}"), &|_| true, &|_| None), Listed::Unclear);
}

fn listed(tools: &[String]) -> Vec<Tool> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: Box<str>,
    }
    let name = |text: &String| serde_json::from_str::<Named>(text).unwrap().name;
    tools.iter().map(|text| Tool { name: name(text), text: text.as_str().into() }).collect()
}

/// Without a record the client sees what the instances list, each lane for its own tools.
#[test]
fn other_lanes_add_what_they_list() {
    let mut filter = Filter::new(&plan());
    let (first, last) = (
        answer(r#"{"tools":[{"name":"query"},{"name":"write_old"}],"nextCursor":"x"}"#),
        answer(r#"{"tools":[{"name":"write_old"}]}"#),
    );
    assert_eq!(filter.list(List::Tools, &last), Listed::Same, "nobody knows better");
    let tools = ["write_new", "write_new", "query", "secret"].map(|name| tool(name, "of the second lane"));
    assert!(filter.heard(1, listed(&tools), None).is_empty(), "nothing was approved, so nothing is changed");
    assert_eq!(
        filter.list(List::Tools, &first),
        Listed::Line(answer(r#"{"tools":[{"name":"query"}],"nextCursor":"x"}"#))
    );
    let want = answer(&format!(r#"{{"tools":[{}]}}"#, tool("write_new", "of the second lane")));
    assert_eq!(filter.list(List::Tools, &last), Listed::Line(want));
    filter.gone(1);
    assert_eq!(filter.list(List::Tools, &last), Listed::Same);
}

fn client(filter_line: &str) -> Client {
    Client::of(&Message::parse(filter_line).unwrap()).unwrap()
}

fn recorded(filter: &Filter, line: &str, client: Option<&Client>) -> Option<Value> {
    let answer = filter.recorded(&Message::parse(line).unwrap(), client)?;
    assert!(!answer.contains(['\n', '\r']), "{answer:?}");
    Some(serde_json::from_str(&answer).unwrap())
}

fn names(answer: &Value, list: &str, name: &str) -> Vec<String> {
    let elements = answer["result"][list].as_array().unwrap();
    elements.iter().map(|element| element[name].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_record_answers() {
    let filter = Filter::new(&approved());
    let hello = initialize(OLD, &json!({}));
    let got = recorded(&filter, &hello, None).unwrap();
    assert_eq!((&got["id"], &got["result"]["protocolVersion"]), (&json!(0), &json!(OLD)));
    let bare = client(&hello);
    let got = recorded(&filter, &ask("tools/list", json!({}), None), Some(&bare)).unwrap();
    assert_eq!(
        (names(&got, "tools", "name"), &got["id"]),
        (vec!["query".into(), "write_row".into()], &json!(7))
    );
    assert_eq!(got["result"].as_object().unwrap().len(), 1, "nothing of another era");
    let got = recorded(&filter, &ask("resources/list", json!({}), None), Some(&bare)).unwrap();
    assert_eq!(names(&got, "resources", "uri"), ["file:///logs/1"]);
    let got = recorded(&filter, &ask("resources/templates/list", json!({}), None), Some(&bare)).unwrap();
    assert_eq!(names(&got, "resourceTemplates", "uriTemplate"), ["file:///{path}"], "the first scope has it");
    let got = recorded(&filter, &ask("prompts/list", json!({ "cursor": null }), None), Some(&bare)).unwrap();
    assert_eq!(names(&got, "prompts", "name"), ["explain_plan"]);
    let got = recorded(&filter, &ask("prompts/list", json!({ "cursor": "" }), None), Some(&bare)).unwrap();
    assert_eq!(got["error"]["code"], -32602);

    let all = json!({ "sampling": {}, "elicitation": {}, "roots": { "listChanged": true } });
    let got = recorded(&filter, &ask("tools/list", json!({}), Some(&all)), None).unwrap();
    assert_eq!(names(&got, "tools", "name"), ["query", "write_row", "write_asks"]);
    let era = json!({ "resultType": "complete", "ttlMs": 60_000, "cacheScope": "private" });
    for (member, want) in era.as_object().unwrap() {
        assert_eq!(&got["result"][member], want);
    }
    let got = recorded(&filter, &ask("server/discover", json!({}), Some(&all)), None).unwrap();
    assert_eq!(got["result"]["supportedVersions"], json!([NEW]));
    for (member, want) in era.as_object().unwrap() {
        assert_eq!(&got["result"][member], want);
    }
}

#[test]
fn what_the_record_does_not_know_is_asked() {
    let filter = Filter::new(&approved());
    let (bare, some) = (json!({}), json!({ "elicitation": {} }));
    let handshake = client(&initialize(OLD, &bare));
    for (line, client) in [
        (initialize("2025-06-18", &bare), None),
        (initialize("2099-01-01", &bare), None),
        // It offers some of it, and the two variants differ.
        (initialize(OLD, &some), None),
        (ask("tools/list", json!({}), Some(&some)), None),
        // Nobody has said who the client is.
        (ask("tools/list", json!({}), None), None),
        (ask("server/discover", json!({}), None), Some(&handshake)),
        (ask("prompts/get", json!({ "name": "explain_x" }), None), Some(&handshake)),
        (r#"{"method":"tools/list"}"#.to_owned(), Some(&handshake)),
    ] {
        assert_eq!(recorded(&filter, &line, client), None, "{line}");
    }
    // An `initialize` for the stateless revision is answered by no result of `server/discover`.
    assert_eq!(recorded(&filter, &initialize(NEW, &bare), None), None);
    let mut same = approved();
    let record = same.record.as_mut().unwrap();
    record.variants[1].scopes = record.variants[0].scopes.clone();
    let filter = Filter::new(&same);
    assert!(recorded(&filter, &initialize(OLD, &some), None).is_some(), "it makes no difference");
    // A method that no scope answers.
    let record = same.record.as_mut().unwrap();
    record.variants[0].scopes.values_mut().for_each(|lists| lists.prompts = None);
    let got = recorded(&Filter::new(&same), &ask("prompts/list", json!({}), None), Some(&handshake)).unwrap();
    assert_eq!(got["error"]["code"], -32601);
    assert!(Filter::new(&plan()).recorded(&Message::parse(&initialize(OLD, &bare)).unwrap(), None).is_none());
}

#[test]
fn changed_tools_are_hidden() {
    let all = json!({ "sampling": {}, "elicitation": {}, "roots": {} });
    let (bare, capable) = (client(&initialize(OLD, &json!({}))), client(&initialize(OLD, &all)));
    let row = tool("write_row", "writes");
    let respelled =
        r#"{ "inputSchema" : {"type":"obj\u0065ct"}, "name":"write_row","description":"writes"}"#.to_owned();
    let twice = row.replace("\"description\"", "\"description\":\"x\",\"description\"");
    let deep = format!(r#"{{"name":"write_row","x":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    for (tools, client, want) in [
        (vec![row.clone()], &bare, &[][..]),
        (vec![respelled], &bare, &[]),
        (vec![tool("query", "is not of this lane"), row.clone()], &bare, &[]),
        (vec![], &bare, &[("write_row", Change::Missing)]),
        (vec![row.clone()], &capable, &[("write_asks", Change::Missing)]),
        (vec![row.clone(), tool("write_asks", "asks first")], &bare, &[]),
        (vec![tool("write_row", "writes, and mails it to me")], &bare, &[("write_row", Change::Altered)]),
        (vec![row.clone(), tool("write_row", "again")], &bare, &[("write_row", Change::Altered)]),
        (vec![row.replace("object", "string")], &bare, &[("write_row", Change::Altered)]),
        (vec![row.replacen('{', r#"{"annotations":{},"#, 1)], &bare, &[("write_row", Change::Altered)]),
        (vec![twice], &bare, &[("write_row", Change::Altered)]),
        (vec![deep], &bare, &[("write_row", Change::Altered)]),
        (vec![row.clone(), tool("write_new", "")], &bare, &[("write_new", Change::Added)]),
        (vec![row.clone(), tool("other", "in no scope")], &bare, &[]),
    ] {
        let mut filter = Filter::new(&approved());
        let got = filter.heard(1, listed(&tools), Some(client)).clone();
        let want: BTreeMap<_, _> = want.iter().map(|(name, change)| ((*name).to_owned(), *change)).collect();
        assert_eq!(got, want, "{tools:?}");
        assert_eq!(filter.report(1).unwrap().tools, want);
        for name in want.keys() {
            assert_eq!(filter.tool(name), None);
            let call = ask("tools/call", json!({ "name": name }), None);
            assert_eq!(goes(&filter, &call), format!("-32602 Unknown tool: {name}"));
        }
        let list = recorded(&filter, &ask("tools/list", json!({}), None), Some(client)).unwrap();
        assert!(names(&list, "tools", "name").iter().all(|name| !want.contains_key(name)));
        // What is hidden stays hidden until an instance shows it as it was approved.
        filter.gone(1);
        assert_eq!(*filter.changed(1).unwrap(), want);
        assert!(filter.heard(1, listed(&[row.clone(), tool("write_asks", "asks first")]), None).is_empty());
    }
}

/// A list that goes to a server is compared with the record element by element, as it is another moment.
#[test]
fn a_list_shows_no_more_than_was_approved() {
    let filter = Filter::new(&approved());
    let (good, bad) = (tool("query", "reads"), tool("list_all", "is new"));
    let line = answer(&format!(r#"{{"tools":[{},{good},{bad}]}}"#, tool("query", "is another one")));
    assert_eq!(filter.list(List::Tools, &line), Listed::Line(answer(&format!(r#"{{"tools":[{good}]}}"#))));
}

#[test]
fn another_plan_keeps_what_instances_showed() {
    let mut filter = Filter::new(&plan());
    filter.heard(1, listed(&[tool("write_row", "writes otherwise")]), None);
    let mut next = approved();
    next.scopes.reverse();
    let filter = filter.replaced(&next, None);
    assert_eq!(filter.changed(0).unwrap()["write_row"], Change::Altered);
    assert!(filter.changed(1).unwrap().is_empty(), "that has not listed");
    assert_eq!((filter.tool("query"), filter.tool("write_asks")), (Some(1), Some(0)));
}

#[test]
fn tools_are_listed_page_by_page() {
    let mut counter = 4;
    let (mut listing, line) = Listing::begin(None, &mut counter);
    assert_eq!(line, r#"{"jsonrpc":"2.0","id":"mcp-run:list:5","method":"tools/list","params":{}}"#);
    assert!(listing.waits_for(r#""mcp-run:list:5""#) && !listing.waits_for(r#""mcp-run:list:4""#));
    let take = |listing: &mut Listing, line: &str, counter: &mut u64| {
        listing.take(line, &Message::parse(line).unwrap(), counter)
    };
    let page = answer(r#"{"tools":[{"name":"a"}],"nextCursor":"x\"y"}"#);
    let next = r#"{"jsonrpc":"2.0","id":"mcp-run:list:6","method":"tools/list","params":{"cursor":"x\"y"}}"#;
    assert_eq!(take(&mut listing, &page, &mut counter), Took::Next(next.into()));
    let last = answer(r#"{"tools":[{"name":"b","x":1}],"nextCursor":null}"#);
    let tools = [r#"{"name":"a"}"#.to_owned(), r#"{"name":"b","x":1}"#.to_owned()];
    assert_eq!(take(&mut listing, &last, &mut counter), Took::Done(listed(&tools)));

    let stateless = client(&ask("tools/list", json!({}), Some(&json!({ "elicitation": {} }))));
    let (_, line) = Listing::begin(Some(&stateless), &mut counter);
    let asked = Message::parse(&line).unwrap();
    assert_eq!(
        (asked.params.version, asked.params.client_capabilities),
        (Some("\"2026-07-28\""), Some("{\"elicitation\":{}}"))
    );

    let error = r#"{"id":1,"error":{"code":-32601}}"#;
    let mut fresh = || Listing::begin(None, &mut counter).0;
    assert_eq!(take(&mut fresh(), error, &mut 9), Took::Done(Vec::new()), "it has no tools");
    assert_eq!(take(&mut fresh(), &answer(r#"{"tools":5}"#), &mut 9), Took::Failed);
    let mut endless = fresh();
    let pages = (0..100).take_while(|_| matches!(take(&mut endless, &page, &mut 9), Took::Next(_))).count();
    assert_eq!(pages, listing::MAX_PAGES - 1);
    let many = vec![r#"{"name":"a"}"#; listing::MAX_TOOLS + 1].join(",");
    assert_eq!(take(&mut fresh(), &answer(&format!(r#"{{"tools":[{many}]}}"#)), &mut 9), Took::Failed);
    let mut broken = fresh();
    assert!(matches!(take(&mut broken, &page, &mut 9), Took::Next(_)));
    assert_eq!(take(&mut broken, error, &mut 9), Took::Failed, "the rest of it is not known");
}
