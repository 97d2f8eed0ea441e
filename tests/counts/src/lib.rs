//! A program of cases: each prepares its input once and then makes so many calls of one function. The counter
//! runs it twice, with calls and with more calls, so that start-up and preparation cancel out.

use std::process::ExitCode;

/// A prepared case: makes one call.
pub type Call = Box<dyn FnMut()>;

/// One measured function on one input.
pub struct Case {
    /// Its name in the file of counts.
    pub name: &'static str,
    /// So many calls lie between the two runs.
    pub calls: u64,
    /// Prepares the input.
    pub prepare: fn() -> Call,
}

/// Calls before the counted ones: buffers have grown, what is lazy is done.
const WARM: u64 = 4;

/// `list` prints `NAME CALLS` a line; `NAME CALLS` warms up and makes so many calls.
#[must_use]
pub fn main(cases: &[Case]) -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.as_slice() {
        [list] if list == "list" => {
            for case in cases {
                println!("{} {}", case.name, case.calls);
            }
            ExitCode::SUCCESS
        }
        [name, calls] => {
            let case = cases.iter().find(|case| case.name == name);
            let (Some(case), Ok(calls)) = (case, calls.parse::<u64>()) else {
                return usage();
            };
            let mut call = (case.prepare)();
            for _ in 0..WARM + calls {
                call();
            }
            ExitCode::SUCCESS
        }
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("usage: list | NAME CALLS");
    ExitCode::from(64)
}

/// A request of `length` bytes as an agent sends it, without its line feed.
#[must_use]
pub fn request(length: usize) -> Vec<u8> {
    fill(
        r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"execute_sql","arguments":{"sql":""#,
        r#""}}}"#,
        length,
    )
}

/// An answer of `length` bytes as a server sends it, without its line feed.
#[must_use]
pub fn answer(length: usize) -> Vec<u8> {
    fill(
        r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"type":"text","text":""#,
        r#""}],"isError":false}}"#,
        length,
    )
}

/// Text with what text has: blanks, escapes, letters beyond ASCII.
const TEXT: &str = r#"select o.id, o.total from \"orders\" o where o.city = 'Köln' and o.day > now() - 7;\n"#;

fn fill(head: &str, tail: &str, length: usize) -> Vec<u8> {
    let mut line = String::with_capacity(length);
    line.push_str(head);
    while line.len() + TEXT.len() + tail.len() <= length {
        line.push_str(TEXT);
    }
    while line.len() + tail.len() < length {
        line.push('x');
    }
    line.push_str(tail);
    assert_eq!(line.len(), length);
    line.into_bytes()
}
