//! What must hold for any bytes, as functions of them: called by the tests with inputs of seeded generators, and by a
//! fuzzer (`tests/fuzz`). Compiled for these two only.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a check may stop at the first surprise, and its numbers are small"
)]
#![cfg_attr(fuzzing, allow(dead_code, unfulfilled_lint_expectations, reason = "the tests use more of it"))]

use std::collections::BTreeMap;
use std::fmt;

use mcp_broker_proto::plan::{Plan, ScopePlan};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::*;
use crate::proxy::lines::{Lines, Long};
use crate::proxy::rule::{self, MAX_MESSAGE};

pub use messages::Dice;

pub(super) mod messages;

fn scope(name: &str, tools: &[&str], resources: &[&str], prompts: &[&str]) -> ScopePlan {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    ScopePlan {
        revision: 1,
        name: name.parse().unwrap(),
        tools: owned(tools),
        resources: owned(resources),
        prompts: owned(prompts),
        result_bytes: 16 << 20,
        argument_bytes: 16 << 20,
        named: BTreeMap::from([("write_*".to_owned(), vec!["path".to_owned()])]),
        whole_arguments: false,
    }
}

/// Reading tools in the first scope, writing ones in the second.
pub(super) fn plan() -> Plan {
    Plan {
        launch: "019ab000-0000-7000-8000-000000000001".parse().unwrap(),
        server: "orders-db".parse().unwrap(),
        scopes: vec![
            scope("read", &["query", "list_*"], &["file:///logs/*", "demo://a"], &["explain*"]),
            scope("write", &["write_*"], &["file:///data/*"], &["change"]),
        ],
        client_requests: Vec::new(),
        lazy: false,
        record: None,
    }
}

/// What such a server lets pass.
#[must_use]
pub fn filter() -> Filter {
    Filter::new(&plan())
}

/// JSON with every member in its place, as often as it stands there.
#[derive(Debug)]
pub(super) enum Node {
    Object(Vec<(String, Node)>),
    Array(Vec<Node>),
    Text(String),
    Other,
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Node;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("JSON")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Node::Object(members))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
                let mut nodes = Vec::new();
                while let Some(node) = seq.next_element()? {
                    nodes.push(node);
                }
                Ok(Node::Array(nodes))
            }
            fn visit_str<E>(self, text: &str) -> Result<Node, E> {
                Ok(Node::Text(text.to_owned()))
            }
            fn visit_bool<E>(self, _: bool) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_u64<E>(self, _: u64) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_i64<E>(self, _: i64) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
                Ok(Node::Other)
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// Which of several members of a name a reader takes, and whether it minds the case.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader {
    last: bool,
    folds: bool,
}

pub(super) const READERS: [Reader; 4] = [
    // Python and JavaScript; Java with some settings; Go and .NET; nobody known.
    Reader { last: true, folds: false },
    Reader { last: false, folds: false },
    Reader { last: true, folds: true },
    Reader { last: false, folds: true },
];

impl Reader {
    pub(super) fn get<'a>(self, object: &'a Node, name: &str) -> Option<&'a Node> {
        let Node::Object(members) = object else { return None };
        let fold = |text: &str| -> String {
            text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect()
        };
        let is = |(one, _): &&(String, Node)| one == name || (self.folds && fold(one) == fold(name));
        let mut found = members.iter().filter(is);
        let found = if self.last { found.next_back() } else { found.next() };
        found.map(|(_, node)| node)
    }

    /// The tools that it carries out for one message, whether it has an id or not; batches too.
    fn carries_out(self, message: &Node, into: &mut Vec<String>) {
        if let Node::Array(messages) = message {
            messages.iter().for_each(|message| self.carries_out(message, into));
        }
        let text = |node: Option<&Node>| match node {
            Some(Node::Text(text)) => Some(text.clone()),
            _ => None,
        };
        if text(self.get(message, "method")).as_deref() == Some("tools/call") {
            into.extend(self.get(message, "params").and_then(|params| text(self.get(params, "name"))));
        }
    }
}

/// What a server carries out of the bytes that it gets. To some a carriage return ends a line.
pub(super) fn carried_out(reader: Reader, bytes: &[u8]) -> Vec<String> {
    let mut tools = Vec::new();
    for line in bytes.split(|byte| matches!(byte, b'\n' | b'\r')) {
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        // Several on a line, as a reader of a stream would take them.
        for message in serde_json::Deserializer::from_slice(line).into_iter::<Node>().map_while(Result::ok) {
            reader.carries_out(&message, &mut tools);
        }
    }
    tools
}

/// The check: whatever the client sends, no server carries out a tool that was not decided on. Answers how many calls
/// passed.
pub fn client_stream(filter: &Filter, bytes: &[u8]) -> usize {
    let mut lines = Lines::new(MAX_MESSAGE, Long::Drop);
    lines.room().extend_from_slice(bytes);
    let mut calls = 0;
    let mut take = |line: &mut [u8]| {
        let Ok((text, message)) = rule::from_client(line) else { return };
        let decided = match filter.route(&message) {
            Route::Refused(_) | Route::Nowhere(_) => return,
            Route::Call(call) => Some(call.tool.into_owned()),
            _ => None,
        };
        let named =
            |tool: &str| tool == "query" || ["list_", "write_"].iter().any(|one| tool.starts_with(one));
        assert!(decided.as_deref().is_none_or(named), "{text}");
        for reader in READERS {
            for tool in carried_out(reader, text.as_bytes()) {
                assert_eq!(Some(tool), decided, "{reader:?} of {text:?}");
            }
        }
        calls += usize::from(decided.is_some());
    };
    lines.each(&mut take);
    lines.finish(&mut take);
    calls
}

/// The check: a message passes as it is, in whatever pieces it comes, and none is lost.
pub fn passes_as_it_is(filter: &Filter, lines: &mut Lines, line: &str, piece: usize) {
    let mut passed = 0;
    for bytes in format!("{line}\n").as_bytes().chunks(piece) {
        lines.room().extend_from_slice(bytes);
        lines.each(|one| {
            let (text, message) = rule::from_client(one).unwrap_or_else(|why| panic_at(line, why));
            assert_eq!(text, line);
            let route = filter.route(&message);
            assert!(!matches!(route, Route::Refused(_) | Route::Nowhere(_)), "{route:?} of {line}");
            if let Route::Call(call) = route {
                let whole: Value = serde_json::from_str(line).unwrap();
                let arguments = call.arguments.map(|raw| serde_json::from_str::<Value>(raw).unwrap());
                assert_eq!(whole["params"].get("arguments"), arguments.as_ref(), "{line}");
            }
            passed += 1;
        });
    }
    assert_eq!(passed, 1, "{line}");
}

#[expect(clippy::panic, reason = "the message must be seen")]
fn panic_at(line: &str, why: rule::Drop) -> ! {
    panic!("{why:?}: {line}")
}

/// The check: any clean message passes as it is, towards the server and towards the client.
pub fn any_message_passes(filter: &Filter, dice: &mut Dice<'_>) {
    let piece = if dice.chance(5) { 1 + dice.below(40) } else { usize::MAX };
    let line = messages::valid(dice);
    let mut lines = Lines::new(MAX_MESSAGE, Long::Drop);
    passes_as_it_is(filter, &mut lines, &line, piece.min(line.len() + 1));
    let mut bytes = line.as_bytes().to_vec();
    assert_eq!(rule::from_server(&mut bytes).map(|(text, _)| text), Ok(line.as_str()));
}

/// The check: a list is filtered as a reader of whole values would do it, or does not pass.
pub fn list_line(filter: &Filter, line: &str) -> bool {
    let mut bytes = line.as_bytes().to_vec();
    let Ok((text, _)) = rule::from_server(&mut bytes) else { return false };
    let shown = match filter.list(List::Tools, text) {
        Listed::Same => text.to_owned(),
        Listed::Line(line) => line,
        Listed::Unclear => return false,
    };
    let allowed = |tool: &Value| tool["name"].as_str().is_some_and(|name| filter.tool(name).is_some());
    let Ok(mut want) = serde_json::from_str::<Value>(text) else { return false };
    // An index would put there what is not.
    let tools = want.pointer_mut("/result/tools").and_then(Value::as_array_mut);
    let filtered = tools.is_some_and(|tools| {
        let before = tools.len();
        tools.retain(allowed);
        tools.len() < before
    });
    if let Some(result) = want.get_mut("result").and_then(Value::as_object_mut).filter(|_| filtered) {
        // What is shown to one client is for nobody else, and not for long.
        let scope = result.get_mut("cacheScope");
        scope.into_iter().for_each(|scope| *scope = "private".into());
        let long = |ttl: &&mut Value| ttl.as_u64().is_none_or(|ttl| ttl > list::MAX_TTL_MS);
        result.get_mut("ttlMs").filter(long).into_iter().for_each(|ttl| *ttl = list::MAX_TTL_MS.into());
    }
    let mut again = shown.clone().into_bytes();
    assert!(rule::from_server(&mut again).is_ok(), "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), want, "{text}");
    // As a client reads it that takes the first of two, or does not mind the case.
    let node: Node = serde_json::from_str(&shown).unwrap();
    for reader in READERS {
        let tools = reader.get(&node, "result").and_then(|result| reader.get(result, "tools"));
        let Some(Node::Array(tools)) = tools else { continue };
        for tool in tools {
            let Some(Node::Text(name)) = reader.get(tool, "name") else { continue };
            assert!(filter.tool(name).is_some(), "{reader:?} sees {name} in {shown}");
        }
    }
    true
}
