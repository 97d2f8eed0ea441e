//! What the tests of the launcher as a program share: a scripted broker on a real socket, a client, and a small
//! real server. It holds no test.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::let_underscore_must_use,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test may stop at the first surprise, and not every test uses everything"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// No step takes so long, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for a line that must not come to have come.
pub const QUIET: Duration = Duration::from_millis(150);
pub const LAUNCH: &str = "019ab000-0000-7000-8000-000000000001";

/// The answer to a launch.
pub const UPGRADED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n";

/// A server in a few lines: it says who it is, hangs, asks the client, or ends.
pub const SERVER: &str = r#"
text() { printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$id" "$1"; }
while IFS= read -r line; do
    id=${line#*'"id":'}
    id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) [ "$MODE" = mute ] || printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true},"prompts":{"x":"'$MODE'"}},"serverInfo":{"name":"t","version":"'$MARK'"}}}\n' "$id" ;;
    *'"notifications/initialized"'*) greeted=yes ;;
    *'"logging/setLevel"'*) level=set; printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id" ;;
    *'"whoami"'*) text "$MARK $greeted $level" ;;
    *'"ask"'*) printf '{"jsonrpc":"2.0","id":0,"method":"roots/list"}\n' ;;
    *'"roots":'*) printf '{"jsonrpc":"2.0","method":"notifications/roots","params":{"to":"%s","line":%s}}\n' "$MARK" "$line" ;;
    *'"ping"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{}}\n' "$id" ;;
    *'"hang"'*) ;;
    *'"nap"'*) sleep 1; text "rested $MARK" ;;
    *'"fork"'*) setsid sleep 1000 </dev/null >/dev/null 2>&1 & text $! ;;
    *'"flood"'*) while :; do printf '{"jsonrpc":"2.0","method":"notifications/flood"}\n'; done ;;
    *'"die"'*) exit 3 ;;
    esac
done
"#;

/// A server whose tools come twice, `read_*` and `write_*`, each in a scope of its own: it says which instance it is,
/// and hands out the same ids as the other.
pub const TWICE: &str = r#"
say() { printf '{"jsonrpc":"2.0",%s}\n' "$1"; }
text() { say '"id":'"$id"',"result":{"content":[{"type":"text","text":"'"$1"'"}]}'; }
while IFS= read -r line; do
    id=${line#*'"id":'}
    id=${id%%[,\}]*}
    case $line in
    *'"initialize"'*) say '"id":'"$id"',"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{"listChanged":true}},"serverInfo":{"name":"t","version":"'$MARK'"}}' ;;
    *'"notifications/initialized"'*) greeted=yes ;;
    *'"logging/setLevel"'*) level=set; say '"id":'"$id"',"result":{}' ;;
    *'"tools/list"'*) say '"id":'"$id"',"result":{"tools":[{"name":"read_whoami"},{"name":"write_whoami"},{"name":"other"}]}' ;;
    *'_whoami"'*) text "$MARK $greeted $level" ;;
    *'_ask"'*) say '"id":0,"method":"roots/list","params":{"_meta":{"progressToken":7}}' ;;
    *'"roots":'*) say '"method":"notifications/message","params":{"to":"'$MARK'","line":'"$line"'}' ;;
    *'notifications/progress'* | *'notifications/cancelled'* | *'roots/list_changed'*) say '"method":"notifications/message","params":{"to":"'$MARK'","line":'"$line"'}' ;;
    *'_task"'*) say '"id":'"$id"',"result":{"task":{"taskId":"t","status":"working"}}' ;;
    *'tasks/get"'*'"t"'*) say '"id":'"$id"',"result":{"taskId":"t","status":"working","statusMessage":"'$MARK'"}' ;;
    *'_hang"'*) ;;
    *'_long"'*) text "$(printf '%01000d' 0)" ;;
    *'_sleep"'*) sleep 1; text "slept $MARK" ;;
    *'_die"'*) exit 3 ;;
    esac
done
"#;

/// Runs a command where no namespace can be had.
pub const BARE: &str = "echo 0 >/proc/sys/user/max_user_namespaces && echo 0 >/proc/sys/user/max_pid_namespaces && exec \"$0\" \"$@\"";

pub struct Broker {
    pub listener: UnixListener,
    pub dir: PathBuf,
    /// What it says first of each launch.
    pub plan: Value,
}

/// A plan of these scopes, each with the patterns of its tools. Everything else is the first one's.
pub fn plan_of(scopes: &[(&str, &[&str])]) -> Value {
    let scope = |(name, tools): &(&str, &[&str])| {
        let all: &[&str] = if *name == scopes[0].0 { &["*"] } else { &[] };
        json!({
            "name": name, "tools": tools, "resources": all, "prompts": all, "result_bytes": 1 << 20,
            "revision": 1, "argument_bytes": 1 << 20, "named": {}, "whole_arguments": false,
        })
    };
    json!({
        "type": "plan", "launch": LAUNCH, "server": "t", "scopes": scopes.iter().map(scope).collect::<Vec<_>>(),
        "client_requests": ["sampling", "elicitation", "roots"], "lazy": false, "record": null,
    })
}

impl Broker {
    pub fn start(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mcp-run-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let listener = UnixListener::bind(dir.join("socket")).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self { listener, dir, plan: plan_of(&[("all", &["*"])]) }
    }

    /// Starts again, as another process would.
    pub fn restart(&mut self) {
        let path = self.dir.join("socket");
        std::fs::remove_file(&path).unwrap();
        self.listener = UnixListener::bind(&path).unwrap();
        self.listener.set_nonblocking(true).unwrap();
    }

    /// Whether a launch is asked for within a moment.
    pub fn is_asked(&self) -> bool {
        let mut ready = [rustix::event::PollFd::new(&self.listener, rustix::event::PollFlags::IN)];
        let moment = rustix::time::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
        rustix::event::poll(&mut ready, Some(&moment)).unwrap() > 0
    }

    /// Takes the next launch; whether it wants credentials at once.
    pub fn accept(&self) -> (Channel, bool) {
        let (mut channel, want) = self.accept_unanswered();
        channel.raw(UPGRADED);
        channel.send(&self.plan);
        (channel, want)
    }

    /// The same, without an answer yet.
    pub fn accept_unanswered(&self) -> (Channel, bool) {
        let until = Instant::now() + PATIENCE;
        let stream = loop {
            match self.listener.accept() {
                Ok((stream, _)) => break stream,
                Err(_) if Instant::now() < until => std::thread::sleep(Duration::from_millis(2)),
                Err(error) => panic!("nobody asks for a launch: {error}"),
            }
        };
        stream.set_nonblocking(false).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        (Channel::over(stream, reader), body["want"].as_bool().unwrap())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// The broker's end of a launch.
pub struct Channel {
    stream: Arc<Mutex<UnixStream>>,
    /// Whether every call is allowed as soon as it is asked about.
    allows: Arc<AtomicBool>,
    /// What is said of calls, and of what servers show.
    calls: Receiver<Value>,
    /// Everything else but beats.
    pub frames: Receiver<Value>,
}

impl Channel {
    fn over(stream: UnixStream, reader: BufReader<UnixStream>) -> Self {
        let (stream, allows) = (Arc::new(Mutex::new(stream)), Arc::new(AtomicBool::new(true)));
        let ((say, frames), (tell, calls)) = (channel(), channel());
        let (writer, open) = (Arc::clone(&stream), Arc::clone(&allows));
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                let frame: Value = serde_json::from_str(&line).unwrap();
                match frame["type"].as_str().unwrap() {
                    "beat" => {}
                    "ask" if open.load(Ordering::Relaxed) => {
                        let line = format!("{}\n", decision(&frame, "allow", "allowed"));
                        let _ = writer.lock().unwrap().write_all(line.as_bytes());
                    }
                    "ask" | "confirmed" | "answered" | "changed" | "leaked" => drop(tell.send(frame)),
                    _ => drop(say.send(frame)),
                }
            }
        });
        Self { stream, allows, calls, frames }
    }

    pub fn raw(&mut self, text: &str) {
        self.stream.lock().unwrap().write_all(text.as_bytes()).unwrap();
    }

    /// From now on it beats, for a test that may take longer than the launcher takes silence.
    pub fn beats(&self) {
        let stream = Arc::downgrade(&self.stream);
        std::thread::spawn(move || {
            while let Some(stream) = stream.upgrade()
                && stream.lock().unwrap().write_all(b"{\"type\":\"beat\"}\n").is_ok()
            {
                drop(stream);
                std::thread::sleep(Duration::from_secs(1));
            }
        });
    }

    /// From now on calls are decided by the test.
    pub fn decides(&mut self) {
        self.allows.store(false, Ordering::Relaxed);
    }

    /// The next word about calls.
    #[track_caller]
    pub fn of_calls(&mut self, kind: &str) -> Value {
        let frame = self.calls.recv_timeout(PATIENCE).expect("the launcher says something of calls");
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    pub fn decide(&mut self, ask: &Value, verdict: &str, reason: &str) {
        self.send(&decision(ask, verdict, reason));
    }

    pub fn send(&mut self, frame: &Value) {
        self.raw(&format!("{frame}\n"));
    }

    pub fn ticket(&mut self, instance: u32, idle: u64) {
        self.ticket_for(instance, idle, "");
    }

    pub fn ticket_for(&mut self, instance: u32, idle: u64, mode: &str) {
        self.ticket_in("all", instance, idle, mode);
    }

    pub fn ticket_in(&mut self, scope: &str, instance: u32, idle: u64, mode: &str) {
        let mark = format!("i{instance}");
        self.send(&json!({
            "type": "ticket", "kind": "secrets", "launch": LAUNCH, "instance": instance, "server": "t",
            "scope": scope, "idle_secs": idle, "command": ["/bin/sh", "-c", SERVER], "env": { "MARK": mark, "MODE": mode },
            "cwd": "/", "credentials": {}, "inject": [],
        }));
    }

    /// The next frame that is not about calls.
    pub fn frame(&mut self) -> Value {
        self.frames
            .recv_timeout(PATIENCE)
            .expect("the launcher says something, and has not closed the channel")
    }

    #[track_caller]
    pub fn expect(&mut self, kind: &str) -> Value {
        let frame = self.frame();
        assert_eq!(frame["type"], kind, "{frame}");
        frame
    }

    #[track_caller]
    pub fn gone(&mut self, instance: u32, reason: &str) {
        let frame = self.expect("gone");
        assert_eq!((&frame["instance"], &frame["reason"]), (&json!(instance), &json!(reason)));
    }

    #[track_caller]
    pub fn wanted(&mut self, scope: &str) {
        assert_eq!(self.expect("want")["scope"], scope);
    }

    pub fn refuse(&mut self, scope: &str, code: &str) {
        let problem = json!({ "title": code, "status": 429, "code": code, "hint": "wait" });
        self.send(&json!({ "type": "refused", "scope": scope, "problem": problem }));
    }

    pub fn park(&mut self, reason: &str) {
        self.send(&json!({ "type": "park", "reason": reason, "what": "the session is locked", "hint": "unlock it" }));
    }

    pub fn resume(&mut self) {
        self.send(&json!({ "type": "resume" }));
    }
}

/// What the broker says to a call.
pub fn decision(ask: &Value, verdict: &str, reason: &str) -> Value {
    let (what, hint) = if verdict == "allow" { ("", "") } else { ("not so", "ask the owner") };
    json!({
        "type": "decision", "call": ask["call"], "id": LAUNCH, "verdict": verdict, "reason": reason, "what": what,
        "hint": hint,
    })
}

impl Drop for Channel {
    fn drop(&mut self) {
        let _ = self.stream.lock().unwrap().shutdown(std::net::Shutdown::Both);
    }
}

pub struct Client {
    pub child: Child,
    pub stdin: Option<ChildStdin>,
    pub lines: Receiver<String>,
}

impl Client {
    pub fn start(broker: &Broker) -> Self {
        Self::start_with(broker, true)
    }

    pub fn start_with(broker: &Broker, reads: bool) -> Self {
        Self::start_by(Command::new(env!("CARGO_BIN_EXE_mcp-run")), broker, reads)
    }

    pub fn start_by(mut command: Command, broker: &Broker, reads: bool) -> Self {
        let mut child = command
            .arg("--socket")
            .arg(broker.dir.join("socket"))
            .arg("t")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let mut client = Self { child, stdin, lines: channel().1 };
        if reads {
            client.read();
        }
        client
    }

    /// Reads from now on.
    pub fn read(&mut self) {
        let (to, lines) = channel();
        self.lines = lines;
        let stdout = self.child.stdout.take().unwrap();
        std::thread::spawn(move || {
            BufReader::new(stdout).lines().map_while(Result::ok).for_each(|line| drop(to.send(line)));
        });
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Until a signal to stop has been heard.
    pub fn stopped(&self) {
        let stat = format!("/proc/{}/stat", self.child.id());
        let until = Instant::now() + PATIENCE;
        while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
            assert!(Instant::now() < until, "it stops");
            std::thread::yield_now();
        }
    }

    pub fn send(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{message}\n").as_bytes()).unwrap();
    }

    pub fn raw(&mut self, line: &[u8]) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(line).unwrap();
        stdin.write_all(b"\n").unwrap();
    }

    pub fn call(&mut self, id: u32, tool: &str) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": { "name": tool } }));
    }

    pub fn request(&mut self, id: u32, method: &str) {
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method }));
    }

    pub fn line(&mut self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE).expect("the launcher says something");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("no message: {line}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    #[track_caller]
    pub fn silent(&mut self) {
        assert_eq!(self.lines.recv_timeout(QUIET), Err(RecvTimeoutError::Timeout));
    }

    /// The text of the answer to a call.
    #[track_caller]
    pub fn text(&mut self, id: u32) -> String {
        let message = self.line();
        assert_eq!(message["id"], id, "{message}");
        message["result"]["content"][0]["text"]
            .as_str()
            .unwrap_or_else(|| panic!("no text: {message}"))
            .to_owned()
    }

    pub fn open(&mut self) {
        self.send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "protocolVersion": "2025-06-18", "capabilities": {} } }));
        assert_eq!(self.line()["result"]["protocolVersion"], "2025-06-18");
        self.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
    }

    #[track_caller]
    pub fn lists_changed(&mut self) {
        assert_eq!(self.line()["method"], "notifications/tools/list_changed");
    }

    pub fn close(&mut self) {
        self.stdin = None;
    }

    pub fn wait(&mut self) -> i32 {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < until, "the launcher does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A launch whose first instance has answered the handshake.
pub fn running(name: &str, idle: u64) -> (Broker, Channel, Client) {
    let broker = Broker::start(name);
    let mut client = Client::start(&broker);
    let (mut channel, want) = broker.accept();
    assert!(want);
    channel.ticket(0, idle);
    assert_eq!(channel.expect("started")["instance"], 0);
    client.open();
    (broker, channel, client)
}

impl Channel {
    /// A ticket for a server that is another command than the usual one.
    pub fn ticket_of(&mut self, instance: u32, idle: u64, command: &str) {
        self.ticket_for_command("all", instance, idle, command);
    }

    pub fn ticket_for_command(&mut self, scope: &str, instance: u32, idle: u64, command: &str) {
        self.send(&json!({
            "type": "ticket", "kind": "secrets", "launch": LAUNCH, "instance": instance, "server": "t",
            "scope": scope, "idle_secs": idle, "command": ["/bin/sh", "-c", command],
            "env": { "MARK": format!("i{instance}"), "MODE": "" }, "cwd": "/", "credentials": {}, "inject": [],
        }));
    }
}

/// The plan of [`TWICE`].
pub fn two() -> Value {
    plan_of(&[("read", &["read_*"]), ("write", &["write_*"])])
}

/// A launch of [`TWICE`] whose first scope's instance, 0, has answered the handshake.
pub fn running_two(name: &str) -> (Broker, Channel, Client) {
    running_by(name, two())
}

/// The same by another plan.
pub fn running_by(name: &str, plan: Value) -> (Broker, Channel, Client) {
    let mut broker = Broker::start(name);
    broker.plan = plan;
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.ticket_for_command("read", 0, 0, TWICE);
    channel.expect("started");
    client.open();
    (broker, channel, client)
}

/// The same, where that of the other scope, 1, runs as well.
pub fn running_both(name: &str, idle: u64) -> (Broker, Channel, Client) {
    let (broker, mut channel, mut client) = running_two(name);
    client.call(1000, "write_whoami");
    channel.wanted("write");
    channel.ticket_for_command("write", 1, idle, TWICE);
    assert_eq!(channel.expect("started")["scope"], "write");
    // Nothing was approved, so what it lists is news.
    client.lists_changed();
    assert_eq!(client.text(1000), "i1 yes ");
    (broker, channel, client)
}

/// A record of [`TWICE`] as it shows itself to clients of 2025-06-18 that offer nothing.
pub fn record() -> Value {
    let tool = |name: &str| json!({ "name": name }).to_string();
    let discovery = json!({
        "protocolVersion": "2025-06-18", "capabilities": { "tools": { "listChanged": true } },
        "serverInfo": { "name": "t", "version": "recorded" },
    });
    json!({
        "approved_at": "2026-11-01T00:00:00Z",
        "items": [discovery.to_string(), tool("read_whoami"), tool("write_whoami"), tool("other")],
        "variants": [{
            "revision": "2025-06-18", "capable": false, "discovery": 0,
            "scopes": {
                "read": { "tools": [1, 2, 3], "resources": null, "templates": null, "prompts": null },
                "write": { "tools": [1, 2, 3], "resources": null, "templates": null, "prompts": null },
            },
        }],
    })
}

/// The plan of [`TWICE`] where it was approved, and nothing stands by.
pub fn lazy() -> Value {
    let mut plan = two();
    plan["lazy"] = json!(true);
    plan["record"] = record();
    plan
}
