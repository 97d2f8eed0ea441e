//! What the programs under test are compared with: the least that could do the same work. Compiled by the
//! bench with one call of rustc, static and without dependencies, so that it starts as they do.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::process::{Command, ExitCode, Stdio};
use std::thread;

const PIECE: usize = 64 << 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| words.get(at).and_then(|word| word.parse().ok()).unwrap_or(0);
    match words.first().map(String::as_str) {
        Some("noop") => own(std::io::stdout()).write_all(b"{}\n").unwrap_or_default(),
        Some("launch") => return launch(&words[1], &words[2..]),
        Some("pump") => return pump(&words[1..], None),
        Some("echo") => echo(None),
        Some("mcp") => mcp(),
        Some("reply") => echo(Some(line(number(1)))),
        Some("flood") => flood(number(1), number(2)),
        _ => {
            eprintln!(
                "floor: noop | launch SOCKET PROGRAM… | pump PROGRAM… | echo | mcp | reply BYTES | flood COUNT BYTES"
            );
            return ExitCode::from(64);
        }
    }
    ExitCode::SUCCESS
}

/// The bare descriptor: the standard streams of the library have buffers and locks.
fn own(stream: impl AsFd) -> File {
    File::from(stream.as_fd().try_clone_to_owned().expect("a standard stream"))
}

/// One question and one answer on a unix socket, then the child with the answer in a variable.
fn launch(socket: &str, command: &[String]) -> ExitCode {
    let mut stream = UnixStream::connect(socket).expect("the socket answers");
    stream.write_all(b"launch\n").expect("the socket takes it");
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).expect("the socket answers");
    let code = pump(command, Some(String::from_utf8_lossy(&answer[..length]).trim()));
    drop(stream);
    code
}

/// Starts the child and copies both ways in two threads that block.
fn pump(command: &[String], value: Option<&str>) -> ExitCode {
    let mut child = Command::new(&command[0]);
    child.args(&command[1..]).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(value) = value {
        child.env("VALUE", value);
    }
    let mut child = child.spawn().expect("the child starts");
    let (to, from) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    thread::spawn(move || copy(own(std::io::stdin()), File::from(std::os::fd::OwnedFd::from(to))));
    let back =
        thread::spawn(move || copy(File::from(std::os::fd::OwnedFd::from(from)), own(std::io::stdout())));
    let status = child.wait().expect("the child ends");
    back.join().unwrap_or_default();
    ExitCode::from(u8::try_from(status.code().unwrap_or(1)).unwrap_or(1))
}

fn copy(mut from: File, mut to: File) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = from.read(&mut piece) {
        if to.write_all(&piece[..length]).is_err() {
            return;
        }
    }
}

/// Answers each whole line with itself, or with `reply`, in a write of its own as servers do; at the end of
/// input says so.
fn echo(reply: Option<Vec<u8>>) {
    let (mut from, mut to) = (own(std::io::stdin()), own(std::io::stdout()));
    let (mut piece, mut held) = (vec![0; PIECE], Vec::with_capacity(2 << 20));
    while let Ok(length @ 1..) = from.read(&mut piece) {
        for part in piece[..length].split_inclusive(|byte| *byte == b'\n') {
            held.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                continue;
            }
            if to.write_all(reply.as_ref().unwrap_or(&held)).is_err() {
                return;
            }
            held.clear();
        }
    }
    to.write_all(b"{\"jsonrpc\":\"2.0\",\"method\":\"notifications/end\"}\n").unwrap_or_default();
}

/// The least that an MCP client takes for a server: each request is answered with the same result, in a write of
/// its own.
fn mcp() {
    let (mut from, mut to) = (own(std::io::stdin()), own(std::io::stdout()));
    let (mut piece, mut held) = (vec![0; PIECE], Vec::new());
    while let Ok(length @ 1..) = from.read(&mut piece) {
        for part in piece[..length].split_inclusive(|byte| *byte == b'\n') {
            held.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                continue;
            }
            let line = String::from_utf8_lossy(&held);
            let id = line.split_once("\"id\":").map(|(_, rest)| rest.split([',', '}']).next().unwrap_or("0"));
            if let Some(id) = id.filter(|_| line.contains("\"method\":")) {
                let answer = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{RESULT}}}\n");
                if to.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
            held.clear();
        }
    }
}

/// Good for `initialize`, `tools/list` and `tools/call` alike.
const RESULT: &str = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"floor","version":"1"},"tools":[],"content":[]}"#;

/// Writes so many lines while it reads whatever comes; says at the end of input how many bytes came.
fn flood(count: usize, size: usize) {
    let writer = thread::spawn(move || {
        let (line, mut to) = (line(size), own(std::io::stdout()));
        (0..count).all(|_| to.write_all(&line).is_ok())
    });
    let (mut from, mut piece, mut read) = (own(std::io::stdin()), vec![0; PIECE], 0);
    while let Ok(length @ 1..) = from.read(&mut piece) {
        read += length;
    }
    writer.join().unwrap_or_default();
    let end = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/end/{read}\"}}\n");
    own(std::io::stdout()).write_all(end.as_bytes()).unwrap_or_default();
}

/// A notification of `size` bytes with its line feed: a relay passes it without knowing more.
fn line(size: usize) -> Vec<u8> {
    let (head, tail) = (r#"{"jsonrpc":"2.0","method":"notifications/bench","params":{"text":""#, "\"}}\n");
    let fill = size.saturating_sub(head.len() + tail.len());
    [head.as_bytes(), &vec![b'x'; fill], tail.as_bytes()].concat()
}
