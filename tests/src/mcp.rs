//! A raw MCP client on a child's pipes, for what an SDK cannot be made to send, and for judging bytes.

use std::io::Write;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::eventually::{PATIENCE, eventually};
use crate::process::{Collected, Exit, Process, spawn};
use crate::view::View;

/// A child that speaks MCP on its standard streams.
pub struct Client {
    /// The child.
    pub process: Process,
    /// Its standard error so far.
    pub stderr: Collected,
    /// Its standard output so far.
    pub stdout: Collected,
    stdin: Option<ChildStdin>,
    at: usize,
    next: u64,
}

impl Client {
    /// Starts it; nothing is sent.
    #[must_use]
    pub fn start(mut command: Command, view: View) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = spawn(command, view);
        let stdin = process.child.stdin.take();
        let stdout = Collected::from(process.child.stdout.take().expect("it is piped"));
        let stderr = Collected::from(process.child.stderr.take().expect("it is piped"));
        Self { process, stderr, stdout, stdin, at: 0, next: 1 }
    }

    /// Sends bytes as they are. A child that is gone is no error: what it said is judged.
    pub fn send(&mut self, bytes: &[u8]) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin.write_all(bytes).and_then(|()| stdin.flush());
        }
    }

    /// Takes the pipe to it, to write from another thread.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("it is open")
    }

    /// Takes it back.
    pub fn give_stdin(&mut self, stdin: ChildStdin) {
        self.stdin = Some(stdin);
    }

    /// Sends one message.
    pub fn message(&mut self, message: &Value) {
        self.send(format!("{message}\n").as_bytes());
    }

    /// The next line of its output, `None` at the end.
    pub fn line(&mut self) -> Option<Vec<u8>> {
        self.stdout.line(&mut self.at, PATIENCE)
    }

    /// Sends a request and waits for its answer; other messages are passed over.
    ///
    /// # Panics
    /// When the output ends first or holds what is no message.
    #[track_caller]
    pub fn request(&mut self, method: &str, params: Value) -> Value {
        self.try_request(method, params).unwrap_or_else(|| {
            panic!("no answer to {method}; stderr:\n{}", self.stderr.text());
        })
    }

    /// The same; `None` where the output ends first.
    #[track_caller]
    pub fn try_request(&mut self, method: &str, params: Value) -> Option<Value> {
        let id = self.next;
        self.next += 1;
        self.message(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }));
        loop {
            let line = self.line()?;
            let message: Value = serde_json::from_slice(&line).unwrap_or_else(|error| {
                panic!("not a message ({error}): {}", String::from_utf8_lossy(&line))
            });
            if message["id"] == id && message.get("method").is_none() {
                return Some(message);
            }
        }
    }

    /// The handshake of the revisions up to 2025-11-25.
    #[track_caller]
    pub fn initialize(&mut self) -> Value {
        let answer = self.request(
            "initialize",
            json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "e2e", "version": "1" } }),
        );
        self.message(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }));
        answer["result"].clone()
    }

    /// Calls a tool: the text of its result.
    ///
    /// # Panics
    /// When it answers with an error.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> String {
        let answer = self.request("tools/call", json!({ "name": tool, "arguments": arguments }));
        let result = &answer["result"];
        assert_ne!(result["isError"], true, "{tool}: {answer}");
        result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{tool}: {answer}")).to_owned()
    }

    /// The same for a tool that is called again and again: where a busy broker did not decide in time, nothing was
    /// executed, and it is called once more.
    ///
    /// # Panics
    /// When it answers with another error.
    #[track_caller]
    pub fn call_on(&mut self, tool: &str, arguments: Value) -> String {
        eventually(&format!("{tool} is decided on"), || {
            let answer = self.request("tools/call", json!({ "name": tool, "arguments": &arguments }));
            let result = &answer["result"];
            if result["_meta"]["mcp-run/reason"] == "no_decision" {
                return None;
            }
            assert_ne!(result["isError"], true, "{tool}: {answer}");
            Some(
                result["content"][0]["text"]
                    .as_str()
                    .unwrap_or_else(|| panic!("{tool}: {answer}"))
                    .to_owned(),
            )
        })
    }

    /// The same, parsed as JSON.
    #[track_caller]
    pub fn ask(&mut self, tool: &str) -> Value {
        serde_json::from_str(&self.call(tool, json!({}))).expect("the probe answers in JSON")
    }

    /// Closes its input.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Closes its input and waits for its end.
    #[track_caller]
    pub fn finish(&mut self) -> Exit {
        self.close();
        self.process.wait()
    }

    /// Waits until its standard error holds a text.
    #[track_caller]
    pub fn wait_stderr(&self, text: &str) {
        eventually(&format!("stderr says `{text}`"), || self.stderr.text().contains(text).then_some(()));
    }

    /// Waits for its end, with all that it said.
    #[track_caller]
    pub fn outcome(&mut self) -> Outcome {
        let code = self.process.wait().code();
        let (stdout, stderr) = (self.stdout.complete(), self.stderr.complete());
        Outcome { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }

    /// The same within another bound.
    #[track_caller]
    pub fn outcome_within(&mut self, patience: Duration) -> Outcome {
        let _ = self.process.wait_within(patience);
        self.outcome()
    }
}

/// What a program did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Exit code, 128 + n where signal n ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Its standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// The exit code is that one.
    #[track_caller]
    pub fn assert_code(&self, code: i32) -> &Self {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", self.text(), self.stderr);
        self
    }

    /// Nothing was printed to standard output, standard error says what happened in these words, and gives a cure.
    #[track_caller]
    pub fn assert_refused(&self, code: i32, words: &[&str]) -> &Self {
        self.assert_code(code);
        assert_eq!(self.text(), "", "standard output carries messages only");
        for word in words {
            assert!(self.stderr.contains(word), "`{word}` is not in: {}", self.stderr);
        }
        assert!(self.stderr.contains("mcp-run: "), "no message: {}", self.stderr);
        assert!(self.stderr.contains("hint: "), "no cure: {}", self.stderr);
        self
    }
}
