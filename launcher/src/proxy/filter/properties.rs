//! What must hold for any bytes: what a server would carry out of what passes is what was decided on, and what is a
//! message passes as it is. The inputs are made by a generator with fixed seeds; each check is a function of bytes,
//! so that a fuzzer can call it as well.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise, and its numbers are small"
)]

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::tests::plan;
use super::*;
use crate::proxy::lines::{Lines, Long};
use crate::proxy::rule::{self, MAX_MESSAGE};

/// How many inputs, and how many where the whole is run.
fn rounds(full: usize, reduced: usize) -> usize {
    if std::env::var_os("E2E_FULL").is_some() { full } else { reduced }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers on every machine.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

// --- readers as servers have them ---

/// JSON with every member in its place, as often as it stands there.
#[derive(Debug)]
enum Node {
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
struct Reader {
    last: bool,
    folds: bool,
}

const READERS: [Reader; 4] = [
    // Python and JavaScript; Java with some settings; Go and .NET; nobody known.
    Reader { last: true, folds: false },
    Reader { last: false, folds: false },
    Reader { last: true, folds: true },
    Reader { last: false, folds: true },
];

impl Reader {
    fn get<'a>(self, object: &'a Node, name: &str) -> Option<&'a Node> {
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
fn carried_out(reader: Reader, bytes: &[u8]) -> Vec<String> {
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
fn client_stream(filter: &Filter, bytes: &[u8]) -> usize {
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

// --- bytes that mean harm ---

const CALLS: [&str; 6] = [
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"secret","arguments":{"a":1}}}"#,
    r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"query","arguments":{"a":"x"}}}"#,
    r#"{"params":{"_meta":{"progressToken":1},"name":"secret"},"id":"x","method":"tools/call"}"#,
    r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"write_row"}}"#,
    r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"a":1,"name":"secret"}}"#,
    r#"{"jsonrpc":"2.0","id":4,"result":{"method":"tools/call","params":{"name":"secret"}}}"#,
];

const PIECES: [&str; 22] = [
    "\r",
    "\n",
    "\r\n",
    ",",
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    " ",
    "\u{feff}",
    "\u{2028}",
    r#""method":"tools/call","#,
    r#""Method":"tools/call","#,
    r#""params":{"name":"secret"},"#,
    r#""name":"secret","#,
    r#""NAME":"secret","#,
    r#""n\u0061me":"secret","#,
    r#""result":{},"#,
    "\u{0}",
    "secret",
];

fn hostile(dice: &mut Dice) -> Vec<u8> {
    let mut bytes = dice.one(&CALLS).as_bytes().to_vec();
    for _ in 0..dice.below(6) {
        match dice.below(9) {
            // A byte is another one, or is not there.
            0 if !bytes.is_empty() => {
                let at = dice.below(bytes.len());
                bytes[at] = dice.next() as u8;
            }
            1 if !bytes.is_empty() => drop(bytes.remove(dice.below(bytes.len()))),
            // Something is put in between, most of the time where a member can begin.
            2..=4 => {
                let piece = dice.one(&PIECES).as_bytes().to_vec();
                let places: Vec<usize> = (0..bytes.len()).filter(|at| b"{,".contains(&bytes[*at])).collect();
                let at = match places.is_empty() || dice.chance(30) {
                    true => dice.below(bytes.len() + 1),
                    false => places[dice.below(places.len())] + 1,
                };
                bytes.splice(at..at, piece);
            }
            // Another message in place of a value, with returns around it.
            5 => {
                let inner = dice.one(&CALLS);
                let text = String::from_utf8_lossy(&bytes).replacen(":1", &format!(":\r{inner}\r"), 1);
                bytes = text.into_bytes();
            }
            6 => {
                bytes.extend_from_slice(dice.one(&["", "\n", "\r", " ", ","]).as_bytes());
                bytes.extend_from_slice(dice.one(&CALLS).as_bytes());
            }
            7 => bytes = [b"[", bytes.as_slice(), b"]"].concat(),
            // A letter is written as an escape, or in the other case.
            _ => {
                let letters: Vec<usize> =
                    (0..bytes.len()).filter(|at| bytes[*at].is_ascii_lowercase()).collect();
                if let Some(at) = (!letters.is_empty()).then(|| letters[dice.below(letters.len())]) {
                    match dice.chance(70) {
                        true => drop(bytes.splice(at..=at, format!("\\u{:04x}", bytes[at]).into_bytes())),
                        false => bytes[at] = bytes[at].to_ascii_uppercase(),
                    }
                }
            }
        }
    }
    bytes
}

#[test]
fn a_server_carries_out_what_was_decided_on_and_nothing_else() {
    let (filter, mut dice, mut calls) = (Filter::new(&plan()), Dice(1), 0);
    for _ in 0..rounds(500_000, 20_000) {
        calls += client_stream(&filter, &hostile(&mut dice));
    }
    assert!(calls > 1000, "the check saw {calls} calls");
}

/// The check itself sees a server that is fooled.
#[test]
fn the_readers_differ_where_servers_do() {
    let seen = |line: &str| READERS.map(|reader| carried_out(reader, line.as_bytes()).join(","));
    let twice = r#"{"method":"tools/call","params":{"name":"a","name":"b","NAME":"c"}}"#;
    assert_eq!(seen(twice), ["b", "a", "c", "a"]);
    let hidden =
        "{\"method\":\"x\",\"params\":{\"a\":\r{\"method\":\"tools/call\",\"params\":{\"name\":\"s\"}}\r}}";
    assert_eq!(seen(hidden), ["s"; 4]);
    assert_eq!(seen(r#"[{"method":"tools/call","params":{"name":"s"}}]"#), ["s"; 4]);
}

// --- messages ---

const WORDS: [&str; 12] =
    ["a", "Name", "uri", "x/y", "ä", "é ", "😀", "tab\t", "quote\"", "back\\", "\u{1}", "\u{2028}"];

/// Any JSON, in one of its spellings.
fn value(dice: &mut Dice, depth: usize, out: &mut String) {
    blank(dice, out);
    match dice.below(if depth == 0 { 6 } else { 8 }) {
        0 => out.push_str(dice.one(&["null", "true", "false"])),
        1 => out.push_str(dice.one(&[
            "0",
            "-0",
            "1.0",
            "1e2",
            "-12.5E-3",
            "9007199254740993",
            "123456789012345678901234567890",
        ])),
        2..=5 => text(dice, out),
        6 => {
            out.push('[');
            for n in 0..dice.below(4) {
                if n > 0 {
                    out.push(',');
                }
                value(dice, depth - 1, out);
            }
            out.push(']');
        }
        _ => object(dice, depth - 1, out),
    }
    blank(dice, out);
}

fn object(dice: &mut Dice, depth: usize, out: &mut String) {
    out.push('{');
    for n in 0..dice.below(5) {
        if n > 0 {
            out.push(',');
        }
        blank(dice, out);
        out.push_str(&format!("\"k{n}{}\"", dice.one(&["", "é", "_x"])));
        blank(dice, out);
        out.push(':');
        value(dice, depth, out);
    }
    blank(dice, out);
    out.push('}');
}

fn blank(dice: &mut Dice, out: &mut String) {
    if dice.chance(20) {
        out.push_str(dice.one(&[" ", "\t", "  "]));
    }
}

fn text(dice: &mut Dice, out: &mut String) {
    let plain: String = (0..dice.below(4)).map(|_| dice.one(&WORDS)).collect();
    let mut written = serde_json::to_string(&plain).unwrap();
    if dice.chance(30) {
        written = written.replace('a', "\\u0061").replace('/', "\\/").replace('😀', "\\ud83d\\ude00");
    }
    out.push_str(&written);
}

const REQUESTS: [(&str, &str); 18] = [
    ("tools/call", r#""name":"query""#),
    ("tools/call", r#""name":"write_row","task":{"ttl":1}"#),
    ("tools/call", r#""inputResponses":{},"requestState":"x","name":"list_a""#),
    ("prompts/get", r#""name":"explain_x""#),
    ("resources/read", r#""uri":"file:///logs/ä""#),
    ("resources/subscribe", r#""uri":"demo:\/\/a""#),
    (
        "completion/complete",
        r#""ref":{"type":"ref/prompt","name":"change"},"argument":{"name":"x","value":""}"#,
    ),
    (
        "initialize",
        r#""protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}"#,
    ),
    ("server/discover", ""),
    ("tools/list", r#""cursor":"""#),
    ("resources/templates/list", ""),
    ("logging/setLevel", r#""level":"debug""#),
    ("tasks/get", r#""taskId":"t""#),
    ("tasks/list", ""),
    ("ping", ""),
    ("subscriptions/listen", r#""notifications":{"toolsListChanged":true}"#),
    ("x/custom", ""),
    ("", ""),
];

/// A message as peers send them: a request, a notification or an answer, its members in any order.
fn valid(dice: &mut Dice) -> String {
    let mut some = |depth| {
        let mut out = String::new();
        object(dice, depth, &mut out);
        out
    };
    let (extra, meta) = (some(3), some(2));
    let id = dice.one(&["0", "-1", "9007199254740993", "1.0", r#""""#, r#""a\u0062/ä""#, "1000.00"]);
    let more = extra.strip_prefix('{').unwrap().strip_suffix('}').unwrap().trim().to_owned();
    let mut members = vec![r#""jsonrpc":"2.0""#.to_owned()];
    match dice.below(10) {
        0..=5 => {
            let (method, params) = REQUESTS[dice.below(REQUESTS.len())];
            let mut all = vec![params.to_owned(), format!(r#""_meta":{meta}"#), more];
            if method == "tools/call" {
                let mut arguments = String::new();
                object(dice, 3, &mut arguments);
                all.push(format!(r#""arguments" : {arguments}"#));
            }
            all.retain(|one| !one.is_empty());
            shuffle(dice, &mut all);
            members
                .push(format!(r#""method":"{}""#, method.replace('/', dice.one(&["/", "\\/", "\\u002f"]))));
            members.push(format!(r#""params":{{{}}}"#, all.join(" ,")));
            members.push(format!(r#""id": {id}"#));
        }
        6..=7 => {
            let method = dice.one(&["notifications/initialized", "notifications/message", "x"]);
            members.push(format!(r#""method":"{method}""#));
            members.push(format!(r#""params":{}"#, dice.one(&[extra.as_str(), "null", "[1]"])));
        }
        _ => {
            let answer = dice.one(&["result", "error"]);
            members.push(format!(r#""{answer}":{extra}"#));
            members.push(format!(r#""id": {id}"#));
        }
    }
    shuffle(dice, &mut members);
    let mut line = String::new();
    blank(dice, &mut line);
    line.push_str(&format!("{{{}}}", members.join(",")));
    blank(dice, &mut line);
    line
}

fn shuffle(dice: &mut Dice, of: &mut [String]) {
    for at in (1..of.len()).rev() {
        of.swap(at, dice.below(at + 1));
    }
}

/// The check: a message passes as it is, in whatever pieces it comes, and none is lost.
fn passes_as_it_is(filter: &Filter, lines: &mut Lines, line: &str, piece: usize) {
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

#[test]
fn messages_of_every_kind_pass_as_they_are() {
    let (filter, mut dice) = (Filter::new(&plan()), Dice(2));
    let mut lines = Lines::new(MAX_MESSAGE, Long::Drop);
    for _ in 0..rounds(1_000_000, 10_000) {
        let line = valid(&mut dice);
        let piece = if dice.chance(5) { 1 + dice.below(40) } else { line.len() + 1 };
        passes_as_it_is(&filter, &mut lines, &line, piece);
        let mut bytes = line.as_bytes().to_vec();
        assert_eq!(rule::from_server(&mut bytes).map(|(text, _)| text), Ok(line.as_str()));
    }
}

// --- lists ---

/// The check: a list is filtered as a reader of whole values would do it, or does not pass.
fn list_line(filter: &Filter, line: &str) -> bool {
    let mut bytes = line.as_bytes().to_vec();
    let Ok((text, _)) = rule::from_server(&mut bytes) else { return false };
    let shown = match filter.list(List::Tools, text) {
        Listed::Same => text.to_owned(),
        Listed::Line(line) => line,
        Listed::Unclear => return false,
    };
    let allowed = |tool: &Value| tool["name"].as_str().is_some_and(|name| filter.tool(name).is_some());
    let Ok(mut want) = serde_json::from_str::<Value>(text) else { return false };
    if let Some(tools) = want["result"]["tools"].as_array_mut() {
        tools.retain(allowed);
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

#[test]
fn lists_show_what_is_allowed_and_nothing_else() {
    let (filter, mut dice, mut passed) = (Filter::new(&plan()), Dice(3), 0);
    for _ in 0..rounds(100_000, 5_000) {
        let mut tools = Vec::new();
        for _ in 0..dice.below(6) {
            let name =
                dice.one(&["query", "secret", "list_a", "write_x", "Query", "qu\\u0065ry", "s\\u0065cret"]);
            let (mut before, mut after) = (String::new(), String::new());
            object(&mut dice, 2, &mut before);
            value(&mut dice, 2, &mut after);
            let gap = dice.one(&["", " ", "\t"]);
            tools.push(format!(r#"{gap}{{{gap}"x":{before},"name"{gap}:"{name}",{gap}"y":{after}}}{gap}"#));
        }
        let next = dice.one(&["", r#""nextCursor":"c","#, r#""nextCursor" : null , "#]);
        let mut line =
            format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{next}"tools":[{}],"z":1}}}}"#, tools.join(","));
        if dice.chance(40) {
            // A part of it is another one, so that it is no clean list any more, perhaps.
            let piece = dice.one(&[
                r#""name":"secret","#,
                r#""Name":"secret","#,
                r#""tools":[{"name":"secret"}],"#,
                r#""TOOLS":[{"name":"secret"}],"#,
                r#""result":{"tools":[{"name":"secret"}]},"#,
                r#""method":"x","#,
                "[],",
                "null,",
                "{",
                "\r",
            ]);
            let places: Vec<usize> = line.match_indices(['{', '[', ',']).map(|(at, _)| at + 1).collect();
            line.insert_str(places[dice.below(places.len())], piece);
        }
        passed += usize::from(list_line(&filter, &line));
    }
    assert!(passed > 1000, "{passed} lists passed");
}

// --- lengths and depths ---

/// Neither depth nor length takes the stack: all of it runs on a small one.
#[test]
fn depth_and_length_are_bounded() {
    const DEPTH: usize = 100_000;
    let check = || {
        let filter = Filter::new(&plan());
        let wrap = |open: &str, close: &str| format!("{}1{}", open.repeat(DEPTH), close.repeat(DEPTH));
        let deep = [wrap("[", "]"), wrap("{\"a\":", "}"), wrap("[{\"a\":", "}]")];
        for (n, line) in lines_of(&deep[0]).into_iter().enumerate() {
            // Each line with one kind of depth, each kind in several lines.
            let mut bytes = line.replace(&deep[0], &deep[n % 3]).into_bytes();
            match rule::from_client(&mut bytes) {
                Ok((text, message)) => {
                    drop(filter.route(&message));
                    drop(filter.recorded(&message, None));
                    drop(filter.list(List::Tools, text));
                    drop(pins::canonical(text));
                }
                Err(why) => drop(rule::answer(&bytes, why)),
            }
        }
    };
    let small = std::thread::Builder::new().stack_size(256 << 10);
    small.spawn(check).unwrap().join().unwrap();
}

/// A value at every place where one can be.
fn lines_of(deep: &str) -> Vec<String> {
    vec![
        deep.to_owned(),
        format!(r#"{{"id":1,"method":"tools/call","params":{{"name":"query","arguments":{{"a":{deep}}}}}}}"#),
        format!(r#"{{"id":1,"method":"tools/call","params":{{"name":{deep},"arguments":{deep}}}}}"#),
        format!(r#"{{"id":1,"method":"tools/call","params":{{"name":"write_x","arguments":{deep}}}}}"#),
        format!(r#"{{"id":1,"method":"x","params":{{"_meta":{deep},"ref":{deep}}}}}"#),
        format!(
            r#"{{"id":1,"method":"subscriptions/listen","params":{{"notifications":{{"resourceSubscriptions":{deep}}}}}}}"#
        ),
        format!(
            r#"{{"id":1,"method":"initialize","params":{{"protocolVersion":"x","capabilities":{deep}}}}}"#
        ),
        format!(r#"{{"id":{deep},"method":"x"}}"#),
        format!(r#"{{"id":1,"method":{deep}}}"#),
        format!(r#"{{"id":1,"id":{deep}}}"#),
        format!(r#"{{"id":1,"result":{{"tools":[{{"name":"secret","x":{deep}}}],"y":{deep}}}}}"#),
        format!(r#"{{"id":1,"result":{{"tools":{deep}}}}}"#),
        deep.repeat(2),
        deep.trim_end_matches(']').to_owned(),
    ]
}

/// The longest lines, of text, of names and of elements.
#[test]
fn the_longest_lines_are_read() {
    let filter = Filter::new(&plan());
    let fill = |length: usize, head: &str, piece: &str, tail: &str| {
        let count = (length - head.len() - tail.len()) / piece.len();
        format!("{head}{}{tail}", piece.repeat(count)).into_bytes()
    };
    let call = r#"{"id":1,"method":"tools/call","params":{"name":"query","arguments":{"a":"#;
    let mut text = fill(MAX_MESSAGE, &format!("{call}\""), "x\\n", "\"}}}");
    let (_, message) = rule::from_client(&mut text).unwrap();
    assert!(matches!(filter.route(&message), Route::Call(_)));
    let mut elements = fill(2 << 20, &format!("{call}["), "[],", "0]}}}");
    assert!(rule::from_client(&mut elements).is_ok());
    // As many names as that are no arguments, and take no memory for as many.
    let names: String = (0..100_000).map(|n| format!("\"{n}\":1,")).collect();
    let mut names = format!("{call}1,{names}\"z\":1}}}}}}").into_bytes();
    assert_eq!(rule::from_client(&mut names).unwrap_err(), rule::Drop::Ambiguous);
    let mut list =
        fill(2 << 20, r#"{"id":1,"result":{"tools":["#, r#"{"name":"secret"},"#, r#"{"name":"query"}]}}"#);
    let (text, _) = rule::from_server(&mut list).unwrap();
    let want = r#"{"id":1,"result":{"tools":[{"name":"query"}]}}"#;
    assert_eq!(filter.list(List::Tools, text), Listed::Line(want.into()));
}
