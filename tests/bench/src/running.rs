//! Servers that run, behind `mcp-run` or alone, with the client's end of their pipes; and how their processes
//! end.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, test_kill_process};

use crate::measure::tree;

/// What every client says first.
const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A server and its client.
pub struct Running {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    calls: u32,
}

impl Running {
    /// Starts it, in a process group of its own; nothing is said yet.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().expect("the program starts");
        let to = child.stdin.take().expect("piped");
        let from = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, to, from, calls: 0 }
    }

    /// So many at once, each with its handshake done.
    #[must_use]
    pub fn several(count: usize, command: impl Fn() -> Command) -> Vec<Self> {
        let mut all: Vec<_> = (0..count).map(|_| Self::start(command())).collect();
        all.iter_mut().for_each(Self::greet);
        all.iter_mut().for_each(Self::greeted);
        all
    }

    fn say(&mut self, line: &str) {
        self.to.write_all(format!("{line}\n").as_bytes()).expect("it reads");
    }

    /// Sends the client's first request.
    pub fn greet(&mut self) {
        self.say(INITIALIZE);
    }

    /// Waits for its answer, and ends the handshake.
    pub fn greeted(&mut self) {
        let line = self.answer_to(0);
        assert!(line.contains("\"serverInfo\""), "no handshake: {line}");
        self.say(INITIALIZED);
    }

    /// Calls a tool; whether a server answered, and not `mcp-run` in its place.
    pub fn call(&mut self) -> bool {
        self.call_of("echo")
    }

    /// The same, of that tool.
    pub fn call_of(&mut self, tool: &str) -> bool {
        self.calls += 1;
        let id = self.calls;
        self.say(&format!(
            r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{{"message":"x"}}}}}}"#
        ));
        let line = self.answer_to(id);
        !line.contains("\"isError\":true") && !line.contains("\"error\"")
    }

    /// Reads on until that answer; a notification may come in between.
    fn answer_to(&mut self, id: u32) -> String {
        let wanted = [format!("\"id\":{id},"), format!("\"id\":{id}}}")];
        loop {
            let mut line = String::new();
            let read = self.from.read_line(&mut line).expect("a pipe");
            if read == 0 {
                self.gone();
            }
            if wanted.iter().any(|id| line.contains(id)) && !line.contains("\"method\"") {
                return line;
            }
        }
    }

    /// It says what it wrote to its standard error; a pipe holds more than anything here writes.
    fn gone(&mut self) -> ! {
        self.child.kill().unwrap_or_default();
        let mut said = String::new();
        let stderr = self.child.stderr.as_mut().expect("piped");
        stderr.read_to_string(&mut said).expect("a pipe");
        panic!("the server is gone: {said}");
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// The processes of its tree that run that program.
    #[must_use]
    pub fn servers(&self, program: &Path) -> Vec<u32> {
        let program = program.canonicalize().expect("it is there");
        let runs = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program);
        tree(self.child.id()).into_iter().filter(runs).collect()
    }

    fn group(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself, and the rest of its group with it.
        kill_process_group(self.group(), Signal::KILL).unwrap_or_default();
        self.child.wait().expect("it is our child");
    }
}

/// Kills all of them by their process groups and reaps them: the least that an end can take.
#[must_use]
pub fn kill_and_reap(mut all: Vec<Running>) -> Duration {
    let begin = Instant::now();
    for one in &all {
        kill_process_group(one.group(), Signal::KILL).expect("it runs");
    }
    for one in &mut all {
        one.child.wait().expect("it is our child");
    }
    begin.elapsed()
}

/// Processes that are watched, each by a descriptor that no later process can take over.
pub struct Watched(Vec<(Pid, OwnedFd)>);

impl Watched {
    /// Watches these.
    #[must_use]
    pub fn new(pids: impl IntoIterator<Item = u32>) -> Self {
        let watch = |pid: u32| {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a pid");
            (pid, pidfd_open(pid, PidfdFlags::empty()).expect("it runs"))
        };
        Self(pids.into_iter().map(watch).collect())
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Waits until all are dead and reaped, and says when that was.
    pub fn gone(&self) -> Instant {
        for (_, pidfd) in &self.0 {
            let mut fds = [PollFd::new(pidfd, PollFlags::IN)];
            while poll(&mut fds, None).is_err() {}
        }
        while self.0.iter().any(|(pid, _)| test_kill_process(*pid).is_ok()) {
            std::thread::sleep(Duration::from_micros(50));
        }
        Instant::now()
    }
}
