//! What an AWS SDK waits for its credentials: one connection and one answer of the launcher's endpoint, beside a bare
//! loopback server of this program that only accepts and answers. The server that asks is this program too.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use e2e::tempdir::TempDir;

use crate::measure::Samples;
use crate::table::{Goal, Row, Table};
use crate::world::{World, aws_server};

/// Questions that warm up, and questions that count.
const ROUNDS: [usize; 2] = [500, 5_000];
/// The word that makes this program the server that asks.
pub const ASK: &str = "--ask-endpoint";
/// How long it may take in all.
const PATIENCE: Duration = Duration::from_secs(120);

/// The endpoint of a launch, asked from its cache.
pub fn endpoint(table: &mut Table) {
    let dir = TempDir::in_memory("endpoint");
    let out = dir.path().join("times");
    let own = std::env::current_exe().expect("a program has a path");
    let words = [own.display().to_string(), ASK.to_owned(), out.display().to_string()];
    let world = World::with_bao(&[("aws", aws_server(&words))]);
    let mut launch = world.launcher("aws");
    let mut child = launch.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("the launcher starts");
    let until = Instant::now() + PATIENCE;
    while !out.exists() {
        assert!(Instant::now() < until, "the endpoint was not measured");
        std::thread::sleep(Duration::from_millis(20));
    }
    let text = fs::read_to_string(&out).expect("it was written");
    drop(child.stdin.take());
    child.wait().expect("it is our child");
    let mut lines = text.lines().map(|line| {
        let mut samples = Samples::default();
        line.split(' ').for_each(|time| samples.push(time.parse().expect("a number")));
        samples
    });
    let (product, floor) = (lines.next().expect("two lines"), lines.next().expect("two lines"));
    let note = format!("{} / {}", product.spread(), floor.spread());
    let row = Row::new("D1", "answer of the credential endpoint, p99", "us", product.p99());
    table.row(row.floor(floor.p99()).wants(Goal::Below(200.0)).note(note));
}

/// The server: asks its own endpoint, and a bare one, and writes the times down.
pub fn ask(out: &Path) -> ExitCode {
    let url = std::env::var("AWS_CONTAINER_CREDENTIALS_FULL_URI").expect("it is injected");
    let token = std::env::var("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE").expect("it is injected");
    let token = fs::read_to_string(token).expect("it is there");
    let (host, path) = url.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {token}\r\n\r\n");
    let bare = TcpListener::bind("127.0.0.1:0").expect("a port");
    let floor = bare.local_addr().expect("it is bound").to_string();
    std::thread::spawn(move || {
        for mut stream in bare.incoming().flatten() {
            let mut head = [0; 1024];
            let read = stream.read(&mut head).unwrap_or(0);
            assert!(read > 0 && stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").is_ok(), "the floor is asked");
        }
    });
    let lines = [host, floor.as_str()].map(|host| {
        let mut times = Vec::new();
        for round in 0..ROUNDS[0] + ROUNDS[1] {
            let time = once(host, &request);
            if round >= ROUNDS[0] {
                times.push(format!("{:.1}", time.as_secs_f64() * 1e6));
            }
        }
        times.join(" ")
    });
    let fresh = out.with_extension("new");
    fs::write(&fresh, lines.join("\n")).expect("it can be written");
    fs::rename(&fresh, out).expect("it can be put in place");
    // Until the launcher closes the input.
    let mut rest = Vec::new();
    std::io::stdin().read_to_end(&mut rest).map_or(ExitCode::FAILURE, |_| ExitCode::SUCCESS)
}

fn once(host: &str, request: &str) -> Duration {
    let begin = Instant::now();
    let mut stream = TcpStream::connect(host).expect("it listens");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::with_capacity(1024);
    stream.read_to_end(&mut answer).expect("it answers");
    let time = begin.elapsed();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    time
}
