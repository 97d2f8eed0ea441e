//! Nobody talks a call past the relay. Bytes that a relay and a server could read differently are sent to servers that
//! people have, one of each era, and a tool that no scope names is never run: the server writes down what it ran, and
//! that is the judge. And no bytes of one client grow its launcher without bound, or slow another one.
//!
//! Not proved: servers that read JSON otherwise than the Python SDK does.

#[path = "framing/attacks.rs"]
mod attacks;

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use attacks::{Era, attacks};
use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::world::Scope;
use e2e::{PATIENCE, World, eventually, rounds};
use rustix::event::{PollFd, PollFlags, poll};
use serde_json::{Value, json};

/// A client of one of the two servers, through the launcher or without it.
struct Talk {
    client: Client,
    era: Era,
    next: u32,
}

impl Talk {
    fn through_the_launcher(world: &World, era: Era) -> Self {
        Self { client: world.run(ALICE, &["tools"]), era, next: 1 }
    }

    fn bare(world: &World, era: Era) -> Self {
        let [python, arguments @ ..] = era.command();
        let mut command = world.command(ALICE, python);
        command.args(arguments).env("E2E_RAN", world.ran_file());
        Self { client: Client::start(command, world.view(ALICE)), era, next: 1 }
    }

    fn shake_hands(&mut self) {
        match self.era {
            Era::Handshake => drop(self.client.initialize()),
            Era::Stateless => drop(self.answer("server/discover", "")),
        }
    }

    fn send(&mut self, bytes: &[u8]) {
        self.client.send(bytes);
    }

    /// Asks and waits; what else comes is passed over.
    fn answer(&mut self, method: &str, inside: &str) -> Value {
        let id = format!("\"s{}\"", self.next);
        self.next += 1;
        let inside = if inside.is_empty() { r#""none":0"# } else { inside };
        let line = format!("{}\n", self.era.request(&id, method, inside));
        self.send(line.as_bytes());
        self.answer_to(&id)
    }

    fn answer_to(&mut self, id: &str) -> Value {
        let id: Value = serde_json::from_str(id).unwrap();
        loop {
            let line = self.client.line();
            let line = line.unwrap_or_else(|| panic!("it ended:\n{}", self.client.stderr.text()));
            let message: Value = serde_json::from_slice(&line).unwrap();
            if message["id"] == id && message.get("method").is_none() {
                return message;
            }
        }
    }

    /// What was sent before has been worked off: an allowed call is answered as ever.
    #[track_caller]
    fn still_works(&mut self, after: &str) {
        let text = format!("after {}", self.next);
        let inside = format!(r#""name":"echo","arguments":{{"text":"{text}"}}"#);
        let answer = self.answer("tools/call", &inside);
        assert_eq!(answer["result"]["content"][0]["text"], text.as_str(), "{after}: {answer}");
    }
}

fn world(era: Era) -> World {
    let scope = Scope::of("read", &["echo", "wait"]).line("resources = [\"note://open\"]");
    World::user().scoped("tools", &era.command(), "", &[scope])
}

fn none_runs(era: Era) {
    let mut world = world(era).start();
    let mut talk = Talk::through_the_launcher(&world, era);
    talk.shake_hands();
    talk.still_works("the beginning");
    for (name, bytes) in attacks(era) {
        talk.send(&bytes);
        talk.still_works(name);
        let ran = world.ran();
        assert!(
            ran.iter().all(|told| told["tool"] == "echo" || told["tool"] == "wait"),
            "{era:?}: {name}: {ran:?}"
        );
    }
    assert_eq!(talk.client.finish().code(), 0);
    world.assert_settled();
    assert!(world.times_run("echo") > 40);
}

#[test]
fn no_bytes_run_a_hidden_tool_of_the_handshake_era() {
    none_runs(Era::Handshake);
}

#[test]
fn no_bytes_run_a_hidden_tool_of_the_stateless_era() {
    none_runs(Era::Stateless);
}

/// The control: without the launcher these servers do run the tool, and the judge sees it.
#[test]
fn the_judge_sees_what_a_bare_server_runs() {
    for era in Era::BOTH {
        let world = world(era);
        let mut talk = Talk::bare(&world, era);
        talk.shake_hands();
        let wanted = [
            "the call itself",
            "a carriage return inside",
            "two, parted by a carriage return",
            "an escaped name",
            "the name twice, the hidden one last",
        ];
        for (name, bytes) in attacks(era).into_iter().filter(|(name, _)| wanted.contains(name)) {
            let before = world.times_run("hidden");
            talk.send(&bytes);
            eventually(&format!("{era:?}: {name}: a bare server runs it"), || {
                so(world.times_run("hidden") > before)
            });
        }
    }
}

/// Enforcement waits for no handshake, and a hidden tool is unknown as the protocol says it.
#[test]
fn a_hidden_tool_is_unknown_before_any_handshake() {
    for era in Era::BOTH {
        let world = world(era).start();
        let mut talk = Talk::through_the_launcher(&world, era);
        talk.send(format!("{}\n", era.hidden()).as_bytes());
        let answer = talk.answer_to("900");
        assert_eq!(answer["error"]["code"], -32602, "{era:?}: {answer}");
        assert_eq!(answer["error"]["message"], "Unknown tool: hidden", "{era:?}");
        assert!(!answer.to_string().contains("scope"), "nothing says that it exists: {answer}");
        talk.shake_hands();
        talk.still_works("the hidden call");
        talk.send(format!("{}\n", era.hidden()).as_bytes());
        assert_eq!(talk.answer_to("900")["error"]["code"], -32602);
        assert_eq!(world.times_run("hidden"), 0);
    }
}

/// A line that only the end of the input ends is one to these servers.
#[test]
fn a_call_that_no_line_feed_ends_is_not_run() {
    for era in Era::BOTH {
        let mut world = world(era).start();
        let mut talk = Talk::through_the_launcher(&world, era);
        talk.shake_hands();
        talk.still_works("the beginning");
        talk.send(era.hidden().as_bytes());
        assert_eq!(talk.client.finish().code(), 0);
        world.assert_settled();
        assert_eq!(world.times_run("hidden"), 0);
        assert_eq!(world.times_run("echo"), 1);
    }
}

// --- the other direction -------------------------------------------------------------------------------

/// The name of a tool that no scope names.
const SECRET_TOOL: &str = "nobody-may-know-this-tool";

/// Ways in which a server can show a list so that a filter may not take it for one.
fn lists() -> Vec<(&'static str, String)> {
    let tools =
        format!(r#"[{{"name":"echo","inputSchema":{{}}}},{{"name":"{SECRET_TOOL}","inputSchema":{{}}}}]"#);
    let result = format!(r#"{{"tools":{tools}}}"#);
    let plain = format!(r#"{{"jsonrpc":"2.0","id":@ID@,"result":{result}}}"#);
    let head = r#"{"jsonrpc":"2.0","id":@ID@"#;
    vec![
        ("as it should be", format!("{plain}\n")),
        ("with a byte order mark", format!("\u{feff}{plain}\n")),
        ("in a batch", format!("[{plain}]\n")),
        ("beside a method", format!("{head},\"method\":\"x\",\"result\":{result}}}\n")),
        (
            "beside an error",
            format!("{head},\"error\":{{\"code\":1,\"message\":\"\"}},\"result\":{result}}}\n"),
        ),
        ("with the result twice", format!("{head},\"result\":{{\"tools\":[]}},\"result\":{result}}}\n")),
        ("with the tools twice", format!("{head},\"result\":{{\"tools\":[],\"tools\":{tools}}}}}\n")),
        (
            "with the tools twice, once escaped",
            format!("{head},\"result\":{{\"tools\":{tools},\"t\\u006fols\":[]}}}}\n"),
        ),
        (
            "with the name twice",
            plain.replace(r#"{"name":"nobody"#, r#"{"name":"echo","name":"nobody"#) + "\n",
        ),
        ("with an escaped name", plain.replace("nobody", r"n\u006fbody") + "\n"),
        (
            "behind a carriage return",
            format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}}\r{plain}\r\n"),
        ),
        ("behind another object", format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}}{plain}\n")),
        ("twice", format!("{plain}\n{plain}\n")),
        ("to a question of nobody's", format!("{}\n", plain.replace("@ID@", "\"nobody\""))),
        ("with null for an id", format!("{}\n", plain.replace("@ID@", "null"))),
        ("with the id as a text", format!("{}\n", plain.replace("@ID@", "\"@ID@\""))),
        ("with a list in a list", plain.replace("\"tools\":[", "\"tools\":[[").replace("]}}", "]]}}") + "\n"),
        (
            "with an object for a list",
            format!("{head},\"result\":{{\"tools\":{{\"0\":{{\"name\":\"{SECRET_TOOL}\"}}}}}}}}\n"),
        ),
        ("with invalid JSON", format!("{},\n", plain)),
    ]
}

/// However a server writes its list, the client is not shown what no scope names.
#[test]
fn no_list_shows_a_hidden_tool() {
    let world = World::user();
    let file = world.path().join("list");
    let command = [seen::PROBE.to_owned(), format!("lists={}", file.display())];
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let mut world = world.scoped("probe", &command, "", &[Scope::of("read", &["echo"])]).start();
    let mut client = world.launch(ALICE, "probe");
    for (name, bytes) in lists() {
        e2e::tempdir::write(&file, &bytes, 0o644, 0, 0);
        client.message(&json!({ "jsonrpc": "2.0", "id": 77, "method": "tools/list", "params": {} }));
        assert_eq!(client.call("echo", json!({ "after": name })), json!({ "after": name }).to_string());
        let text = client.stdout.text();
        assert!(!text.contains(SECRET_TOOL) && !text.contains(r"n\u006fbody"), "{name}: {text}");
    }
    let shown = client.stdout.text().matches(r#""name":"echo""#).count();
    assert!(shown >= 1, "the list that is as it should be is shown without it");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// A page of which nothing is left is a page all the same: the next one is asked for.
#[test]
fn an_empty_page_says_where_the_next_one_is() {
    let world = World::user();
    let file = world.path().join("list");
    let page = format!(r#"{{"tools":[{{"name":"{SECRET_TOOL}","inputSchema":{{}}}}],"nextCursor":"more"}}"#);
    let bytes = format!("{{\"jsonrpc\":\"2.0\",\"id\":@ID@,\"result\":{page}}}\n");
    e2e::tempdir::write(&file, &bytes, 0o644, 0, 0);
    let lists = format!("lists={}", file.display());
    let world = world.scoped("probe", &[seen::PROBE, &lists], "", &[Scope::of("read", &["echo"])]).start();
    let mut client = world.launch(ALICE, "probe");
    let answer = client.request("tools/list", json!({}));
    assert_eq!(answer["result"], json!({ "tools": [], "nextCursor": "more" }), "{answer}");
}

// --- bounds -------------------------------------------------------------------------------------------

/// The probe, which is fast, with one allowed tool.
fn fast_world() -> World {
    let world = World::user();
    let ran = format!("ran={}", world.ran_file().display());
    world.scoped("probe", &[seen::PROBE, &ran], "", &[Scope::of("read", &["echo"])]).start()
}

/// The most memory that a process ever held, in KiB.
fn peak(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Sends `bytes` in a thread, while another launch is asked over and over and answers each time.
#[track_caller]
fn beside_another(world: &World, bytes: impl FnOnce(&mut dyn Write) + Send + 'static) -> Client {
    let mut other = world.launch(ALICE, "probe");
    let mut client = world.launch(ALICE, "probe");
    let mut stdin = client.take_stdin();
    let writer = std::thread::spawn(move || {
        bytes(&mut stdin);
        stdin
    });
    let mut asked = 0;
    while asked < 50 || !writer.is_finished() {
        assert_eq!(other.call("echo", json!({ "n": asked })), json!({ "n": asked }).to_string());
        asked += 1;
    }
    client.give_stdin(writer.join().expect("the launcher reads on"));
    assert_eq!(client.call("echo", json!({ "last": 1 })), r#"{"last":1}"#, "and so does this one");
    client
}

const MIB: usize = 1 << 20;
/// What a launcher may hold at its peak, in KiB: the longest message twice, and what it needs anyhow.
const BOUND: u64 = 40 << 10;

#[test]
fn a_line_of_64_mib_stays_in_bounds() {
    let world = fast_world();
    let client = beside_another(&world, |stdin| {
        let block = vec![b'x'; MIB];
        for _ in 0..64 {
            stdin.write_all(&block).unwrap();
        }
        // What stands behind the part that was given up is still the same line.
        stdin.write_all(Era::Handshake.request("900", "tools/call", r#""name":"stat""#).as_bytes()).unwrap();
        stdin.write_all(b"\n").unwrap();
    });
    let peak = peak(client.process.pid());
    assert!(peak < BOUND, "the launcher held {peak} KiB");
    assert_eq!(world.times_run("stat"), 0);
}

/// What is long and allowed goes through as it is.
#[test]
fn a_call_of_megabytes_is_one_like_any() {
    let world = fast_world();
    let mut client = world.launch(ALICE, "probe");
    let text = "ä😀\\\"x".repeat(1 << 18);
    let said: Value = serde_json::from_str(&client.call("echo", json!({ "text": text }))).unwrap();
    assert!(said["text"] == text.as_str(), "it is another text");
    assert_eq!(client.finish().code(), 0);
}

#[test]
fn deep_nesting_stays_in_bounds() {
    let world = fast_world();
    let client = beside_another(&world, |stdin| {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let value = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
            let inside = format!(r#""name":"echo","arguments":{{"text":{value}}}"#);
            let line = Era::Handshake.request("900", "tools/call", &inside);
            stdin.write_all(format!("{line}\n{value}\n{}\n", open.repeat(500_000)).as_bytes()).unwrap();
        }
    });
    let peak = peak(client.process.pid());
    assert!(peak < BOUND, "the launcher held {peak} KiB");
}

#[test]
fn a_trickle_keeps_nobody_waiting() {
    let world = fast_world();
    let client = beside_another(&world, |stdin| {
        let line = Era::Handshake.request("900", "tools/call", r#""name":"stat","arguments":{}"#);
        for byte in format!("{line}\n").bytes() {
            stdin.write_all(&[byte]).unwrap();
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert!(client.stdout.text().contains("Unknown tool: stat"));
    assert_eq!(world.times_run("stat"), 0);
}

#[test]
fn a_flood_of_calls_is_answered_in_bounds() {
    let world = fast_world();
    let calls = rounds(1_000, 50_000);
    let client = beside_another(&world, move |stdin| {
        for n in 0..calls {
            let tool = if n % 2 == 0 { "echo" } else { "stat" };
            let line = Era::Handshake.request(
                &format!("\"f{n}\""),
                "tools/call",
                &format!(r#""name":"{tool}","arguments":{{}}"#),
            );
            stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    });
    within(3 * PATIENCE, "every call is answered", || {
        let text = client.stdout.text();
        so(text.matches("\"id\":\"f").count() >= calls)
    });
    let peak = peak(client.process.pid());
    assert!(peak < BOUND, "the launcher held {peak} KiB");
    assert_eq!(world.times_run("stat"), 0, "none of the hidden ones was run");
}

/// A client that asks and never reads is made to wait, not remembered.
#[test]
fn answers_that_nobody_reads_stay_in_bounds() {
    let world = fast_world();
    let mut command = world.command(ALICE, seen::LAUNCHER);
    command.arg("probe").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    command.stderr(std::process::Stdio::null());
    let mut process = e2e::process::spawn(command, world.view(ALICE));
    let mut stdin = process.child.stdin.take().unwrap();
    rustix::io::ioctl_fionbio(&stdin, true).unwrap();
    let line = format!("{}\n", Era::Handshake.request("900", "tools/call", r#""name":"stat""#));
    let block = line.repeat(64 * 1024 / line.len());
    let mut sent = 0;
    let quiet = rustix::event::Timespec { tv_sec: 2, tv_nsec: 0 };
    while sent < 64 * MIB {
        let ready = poll(&mut [PollFd::new(&stdin.as_fd(), PollFlags::OUT)], Some(&quiet)).unwrap();
        if ready == 0 {
            break;
        }
        match stdin.write(block.as_bytes()) {
            Ok(n) => sent += n,
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    let peak = peak(process.pid());
    assert!(peak < BOUND, "the launcher held {peak} KiB after {sent} bytes");
    assert!(process.running());
    let mut other = world.launch(ALICE, "probe");
    assert_eq!(other.call("echo", json!({})), "{}", "another one goes on");
}
