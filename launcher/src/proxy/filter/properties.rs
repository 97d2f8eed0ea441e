//! What must hold for any bytes: what a server would carry out of what passes is what was decided on, and what is a
//! message passes as it is. The inputs are made by generators with fixed seeds; the checks are in `checks`.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise, and its numbers are small"
)]

use super::checks::messages::{object, value};
use super::checks::{Dice, READERS, any_message_passes, carried_out, client_stream, list_line, plan};
use super::*;
use crate::proxy::rule::{self, MAX_MESSAGE};

/// How many inputs, and how many where the whole is run.
fn rounds(full: usize, reduced: usize) -> usize {
    if std::env::var_os("E2E_FULL").is_some() { full } else { reduced }
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

fn hostile(dice: &mut Dice<'_>) -> Vec<u8> {
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
    let (filter, mut dice, mut calls) = (Filter::new(&plan()), Dice::new(1), 0);
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

#[test]
fn messages_of_every_kind_pass_as_they_are() {
    let (filter, mut dice) = (Filter::new(&plan()), Dice::new(2));
    for _ in 0..rounds(1_000_000, 10_000) {
        any_message_passes(&filter, &mut dice);
    }
}

#[test]
fn lists_show_what_is_allowed_and_nothing_else() {
    let (filter, mut dice, mut passed) = (Filter::new(&plan()), Dice::new(3), 0);
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
