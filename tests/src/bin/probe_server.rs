//! A real MCP server over stdio whose tools tell what reached it (environment, descriptors, arguments, files)
//! and make it misbehave. It speaks the handshake of 2025-11-25 and before, and the discovery of 2026-07-28.
//!
//! Arguments change its start: `exit=N` ends it at once, `rubbish` prints what is no message first, `deaf`
//! ignores SIGTERM and the end of its input, `detach` leaves a grandchild in a session of its own, `sleep` never
//! answers, `flood` writes 64 messages of 1 MiB while it reads and says at the end how many bytes it read.
//! `words=PATH` takes the descriptions of its tools from a file: one that is `null` there does not exist, and one that
//! it does not know is listed all the same. `ran=PATH` is where it writes down which tools were run. `lists=PATH` has it
//! answer `tools/list` with the bytes of a file, where there is one; `@ID@` in it stands for the request's id.

use std::io::{self, BufRead, Read, Write};
use std::process::{Command, Stdio, exit};
use std::time::Duration;

use serde_json::{Map, Value, json};

#[path = "probe/secret.rs"]
mod secret;

const TOOLS: &[&str] = &[
    "env",
    "fds",
    "cmdline",
    "pids",
    "cwd",
    "read",
    "spawn",
    "rubbish",
    "ignore_term",
    "exit",
    "large",
    "sleep",
    "stderr",
    "echo",
    "stat",
    "secret",
];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if let Some(status) = arguments.iter().find_map(|a| a.strip_prefix("exit=")) {
        eprintln!("probe: ends with {status} as asked");
        exit(status.parse().unwrap_or(1));
    }
    if has("rubbish") {
        say("Listening on stdio, have a nice day!\n\n{\"not\": \"finished\n[1, 2]\n");
    }
    if has("deaf") {
        ignore_term();
    }
    if has("detach") {
        spawn_grandchild();
    }
    if has("sleep") {
        sleep_for_ever();
    }
    if has("flood") {
        return flood();
    }
    serve();
    if has("deaf") {
        sleep_for_ever();
    }
}

fn serve() {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        let Ok(message) = serde_json::from_str::<Value>(&line) else {
            eprintln!("probe: not JSON: {line:.60}");
            continue;
        };
        let Some(id) = message.get("id").filter(|_| message.get("method").is_some()) else { continue };
        if message["method"] == "tools/call" && message["params"]["name"] == "secret" {
            secret::tell(id, &message["params"]["arguments"]);
            continue;
        }
        if let Some(bytes) = raw_list(&message) {
            say(&bytes.replace("@ID@", &id.to_string()));
            continue;
        }
        let answer = match answer(&message) {
            Ok(result) => json!({ "jsonrpc": "2.0", "id": id, "result": result }),
            Err((code, text)) => {
                json!({ "jsonrpc": "2.0", "id": id, "error": { "code": code, "message": text } })
            }
        };
        say(&format!("{answer}\n"));
    }
}

/// Both directions at once, neither waiting for the other.
fn flood() {
    let writer = std::thread::spawn(|| {
        let padding = "y".repeat(1 << 20);
        for n in 0..64 {
            say(&format!(
                "{{\"jsonrpc\":\"2.0\",\"method\":\"flood\",\"params\":{{\"n\":{n},\"padding\":\"{padding}\"}}}}\n"
            ));
        }
    });
    let (mut read, mut lines, mut buffer) = (0usize, 0usize, vec![0; 64 << 10]);
    while let Ok(n @ 1..) = io::stdin().read(&mut buffer) {
        read += n;
        lines += buffer[..n].iter().filter(|byte| **byte == b'\n').count();
    }
    let _ = writer.join();
    say(&format!(
        "{}\n",
        json!({ "jsonrpc": "2.0", "method": "read", "params": { "bytes": read, "lines": lines } })
    ));
}

fn say(text: &str) {
    let mut out = io::stdout().lock();
    // A client that is gone is noticed at the end of the input.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn answer(message: &Value) -> Result<Value, (i32, String)> {
    let params = &message["params"];
    match message["method"].as_str().unwrap_or_default() {
        "initialize" => Ok(json!({
            "protocolVersion": params["protocolVersion"], "capabilities": { "tools": {} },
            "serverInfo": { "name": "probe", "version": "1" },
        })),
        "server/discover" => Ok(json!({
            "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} },
            "ttlMs": 0, "cacheScope": "private", "serverInfo": { "name": "probe", "version": "1" },
        })),
        "ping" => Ok(json!({})),
        "tools/list" => {
            Ok(json!({ "resultType": "complete", "tools": tools(), "ttlMs": 0, "cacheScope": "private" }))
        }
        "tools/call" => {
            let name = params["name"].as_str().unwrap_or_default();
            ran(name);
            let text = call(name, &params["arguments"]).ok_or((-32602, format!("Unknown tool: {name}")))?;
            Ok(json!({ "resultType": "complete", "content": [{ "type": "text", "text": text }] }))
        }
        other => Err((-32601, format!("Method not found: {other}"))),
    }
}

fn argument(name: &str) -> Option<String> {
    std::env::args().find_map(|argument| Some(argument.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
}

/// Its tools, with the words that the file has for them now.
fn tools() -> Vec<Value> {
    let file = argument("words").and_then(|path| std::fs::read(path).ok());
    let words: Map<String, Value> =
        file.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    let more = words.keys().map(String::as_str).filter(|name| !TOOLS.contains(name));
    let named = TOOLS.iter().copied().chain(more).filter(|name| words.get(*name) != Some(&Value::Null));
    let tool = |name: &str| match words.get(name) {
        Some(words) => json!({ "name": name, "description": words, "inputSchema": { "type": "object" } }),
        None => json!({ "name": name, "inputSchema": { "type": "object" } }),
    };
    named.map(tool).collect()
}

/// What the file says instead of its list.
fn raw_list(message: &Value) -> Option<String> {
    let path = argument("lists").filter(|_| message["method"] == "tools/list")?;
    std::fs::read_to_string(path).ok()
}

/// Writes down that a tool was run.
fn ran(tool: &str) {
    let Some(path) = argument("ran") else { return };
    let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
    let line = format!("{}\n", json!({ "tool": tool, "pid": std::process::id() }));
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes())) {
        eprintln!("probe: cannot write down what was run: {error}");
    }
}

fn call(tool: &str, arguments: &Value) -> Option<String> {
    let text = |key: &str| arguments[key].as_str().unwrap_or_default().to_owned();
    let number = |key: &str| arguments[key].as_u64().unwrap_or(0);
    Some(match tool {
        "env" => Value::Object(std::env::vars().map(|(k, v)| (k, v.into())).collect()).to_string(),
        "fds" => descriptors().to_string(),
        "cmdline" => json!(std::env::args().collect::<Vec<_>>()).to_string(),
        "pids" => pids().to_string(),
        "cwd" => json!(std::env::current_dir().ok()).to_string(),
        "read" => std::fs::read_to_string(text("path")).unwrap_or_else(|error| format!("error: {error}")),
        "stat" => mode_and_owner(&text("path")),
        "spawn" => json!({ "pid": spawn_grandchild() }).to_string(),
        "rubbish" => {
            say("this is not a message\n\u{feff}{\"jsonrpc\": \"2.0\"\n");
            "said".into()
        }
        "ignore_term" => {
            ignore_term();
            "ignored".into()
        }
        "exit" => exit(i32::try_from(number("status")).unwrap_or(1)),
        "large" => "x".repeat(usize::try_from(number("bytes")).unwrap_or(0)),
        "sleep" => {
            std::thread::sleep(Duration::from_millis(number("ms")));
            "slept".into()
        }
        "stderr" => {
            eprint!("{}", text("text"));
            "said".into()
        }
        "echo" => arguments.to_string(),
        _ => return None,
    })
}

fn descriptors() -> Value {
    let entries = std::fs::read_dir("/proc/self/fd").map(|entries| {
        let name = |e: io::Result<std::fs::DirEntry>| Some(e.ok()?.file_name().to_str()?.to_owned());
        entries.filter_map(name).collect::<Vec<_>>()
    });
    // The listing's own descriptor is closed by now.
    let target = |fd: &String| std::fs::read_link(format!("/proc/self/fd/{fd}")).ok();
    let open = entries.unwrap_or_default().into_iter().filter_map(|fd| Some((target(&fd)?, fd)));
    Value::Object(open.map(|(target, fd)| (fd, target.display().to_string().into())).collect())
}

fn pids() -> Value {
    // SAFETY: these calls take nothing and change nothing.
    let (session, group) = unsafe { (libc::getsid(0), libc::getpgrp()) };
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let spaces = status.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    json!({ "pid": std::process::id(), "session": session, "group": group, "namespaces": spaces.split_whitespace().count() })
}

fn mode_and_owner(path: &str) -> String {
    use std::os::unix::fs::MetadataExt;
    match std::fs::metadata(path) {
        Ok(found) => json!({ "mode": found.mode() & 0o7777, "uid": found.uid() }).to_string(),
        Err(error) => format!("error: {error}"),
    }
}

/// A grandchild that leaves the process group and the session, is adopted by somebody else, ignores every
/// signal that it can, and carries the whole environment: what `npx` trees and daemons do.
fn spawn_grandchild() -> u32 {
    let script =
        "trap '' TERM HUP INT; (trap '' TERM HUP INT; exec setsid sleep 1000) >/dev/null 2>&1 & echo $!";
    let child =
        Command::new("/bin/sh").args(["-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut said = String::new();
    let read = child.and_then(|mut child| {
        let pipe = child.stdout.take();
        pipe.map(|mut pipe| pipe.read_to_string(&mut said)).transpose()?;
        child.wait()
    });
    if let Err(error) = read {
        eprintln!("probe: no grandchild: {error}");
    }
    said.trim().parse().unwrap_or(0)
}

fn ignore_term() {
    // SAFETY: SIG_IGN is a valid disposition and no handler of ours is replaced.
    unsafe { libc::signal(libc::SIGTERM, libc::SIG_IGN) };
}

fn sleep_for_ever() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}
