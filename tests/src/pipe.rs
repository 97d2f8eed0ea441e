//! One long conversation of a client that people have: the MCP Python SDK connects once, and is told command by
//! command what to ask, while the session behind `mcp-run` is locked, ended and brought back.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::eventually::{PATIENCE, within};
use crate::process::{Collected, Exit, Process, spawn};
use crate::sdk::Sdk;
use crate::view::View;

/// How long the client may take to start, its server and its credentials included.
const START: Duration = Duration::from_secs(60);

/// What a tool answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Called {
    /// The result says that the tool failed.
    pub failed: bool,
    /// Its text.
    pub text: String,
    /// `resultType`, where the client's revision has one.
    pub kind: Option<String>,
}

impl Called {
    /// It was not run, and says why in these words and what to do.
    #[track_caller]
    pub fn assert_not_executed(&self, words: &[&str]) {
        self.assert_failed("executed: no", words);
    }

    /// It may have been run or not, and says why in these words.
    #[track_caller]
    pub fn assert_unknown(&self, words: &[&str]) {
        self.assert_failed("executed: unknown", words);
    }

    #[track_caller]
    fn assert_failed(&self, executed: &str, words: &[&str]) {
        assert!(self.failed, "it says that it worked: {self:?}");
        for word in [&[executed], words].concat() {
            assert!(self.text.contains(word), "`{word}` is not in {self:?}");
        }
    }
}

/// An answer of `mcp-run` itself to a request that is no call: that code, with a reason and a cure.
#[track_caller]
pub fn assert_own_error(error: &Value, code: i64) {
    assert_eq!(error["code"], code, "{error}");
    for key in ["reason", "hint"] {
        assert!(error["data"][key].as_str().is_some_and(|text| !text.is_empty()), "no {key}: {error}");
    }
}

/// A client with a conversation under way.
pub struct Pipe {
    /// The client; `mcp-run` is its child.
    pub process: Process,
    /// The standard error of client and server.
    pub stderr: Collected,
    /// The revision that the two agreed on.
    pub protocol: String,
    stdout: Collected,
    stdin: Option<ChildStdin>,
    at: usize,
    next: u64,
    answers: BTreeMap<u64, Value>,
    notifications: Vec<Value>,
}

impl Pipe {
    /// Starts the client, which starts `command` as its server, and waits until they have agreed.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    #[track_caller]
    pub fn start(sdk: Sdk, home: &Path, view: View, command: &[&str]) -> Self {
        Self::start_with(sdk, home, view, command, json!({}))
    }

    /// The same; `plan` holds what else the client is told: `mode`, `elicit`.
    ///
    /// # Panics
    /// When they do not agree.
    #[must_use]
    #[track_caller]
    pub fn start_with(sdk: Sdk, home: &Path, view: View, command: &[&str], mut plan: Value) -> Self {
        plan["command"] = command[0].into();
        plan["args"] = json!(command[1..]);
        plan["env"] = json!({});
        let mut client = sdk.program(home, "pipe.py", &plan.to_string());
        client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = spawn(client, view);
        let stdin = process.child.stdin.take();
        let stdout = Collected::from(process.child.stdout.take().expect("it is piped"));
        let stderr = Collected::from(process.child.stderr.take().expect("it is piped"));
        let (protocol, at, next) = (String::new(), 0, 1);
        let (answers, notifications) = (BTreeMap::new(), Vec::new());
        let mut pipe = Self { process, stderr, protocol, stdout, stdin, at, next, answers, notifications };
        let ready = pipe.stdout.line(&mut pipe.at, START);
        let ready = ready.unwrap_or_else(|| panic!("{sdk:?} did not connect:\n{}", pipe.stderr.text()));
        let ready: Value = serde_json::from_slice(&ready).expect("the client prints JSON");
        pipe.protocol = ready["ready"].as_str().unwrap_or_else(|| panic!("{ready}")).to_owned();
        pipe
    }

    /// Has the client send something; the answer is fetched with [`Self::answer`].
    pub fn send(&mut self, what: &str, mut with: Value) -> u64 {
        let id = self.next;
        self.next += 1;
        with["id"] = id.into();
        with["do"] = what.into();
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(format!("{with}\n").as_bytes()).expect("the client runs");
        id
    }

    /// Takes in what the client has printed so far.
    fn drain(&mut self) {
        let bytes = self.stdout.bytes();
        while let Some(length) = bytes[self.at..].iter().position(|byte| *byte == b'\n') {
            let line = &bytes[self.at..self.at + length];
            self.at += length + 1;
            let message: Value = serde_json::from_slice(line)
                .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(line)));
            match message["id"].as_u64() {
                Some(id) => drop(self.answers.insert(id, message)),
                None => self.notifications.push(message),
            }
        }
    }

    /// The answer to something that was sent: `ok` or `error` is in it.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn answer(&mut self, id: u64) -> Value {
        self.answer_within(PATIENCE, id)
    }

    /// The same within another bound.
    #[track_caller]
    pub fn answer_within(&mut self, patience: Duration, id: u64) -> Value {
        let stderr = self.stderr.clone();
        within(patience, "the client prints an answer", || {
            self.drain();
            assert!(!self.stdout.ended() || self.answers.contains_key(&id), "it ended:\n{}", stderr.text());
            self.answers.remove(&id)
        })
    }

    /// Whether that answer is there already.
    pub fn is_answered(&mut self, id: u64) -> bool {
        self.drain();
        self.answers.contains_key(&id)
    }

    /// Calls a tool.
    ///
    /// # Panics
    /// When the answer is a protocol error, or none comes.
    #[track_caller]
    pub fn call(&mut self, tool: &str, arguments: Value) -> Called {
        let id = self.send("call", json!({ "name": tool, "arguments": arguments }));
        self.called(id)
    }

    /// The result of a call that was sent.
    #[track_caller]
    pub fn called(&mut self, id: u64) -> Called {
        let answer = self.answer(id);
        let result = &answer["ok"];
        assert!(result.is_object(), "not a result: {answer}");
        Called {
            failed: result["is_error"] == true,
            text: result["text"].as_str().unwrap_or_default().to_owned(),
            kind: result["result_type"].as_str().map(str::to_owned),
        }
    }

    /// Calls a tool that succeeds: its text.
    #[track_caller]
    pub fn must_call(&mut self, tool: &str, arguments: Value) -> String {
        let called = self.call(tool, arguments);
        assert!(!called.failed, "{tool}: {called:?}\n{}", self.stderr.text());
        called.text
    }

    /// A request that has no text: `Ok` with the answer, or the protocol's error.
    #[track_caller]
    pub fn ask(&mut self, what: &str, with: Value) -> Result<Value, Value> {
        let id = self.send(what, with);
        let mut answer = self.answer(id);
        if answer.get("ok").is_some() { Ok(answer["ok"].take()) } else { Err(answer["error"].take()) }
    }

    /// The names of the tools.
    ///
    /// # Panics
    /// When the answer is an error.
    #[track_caller]
    pub fn tools(&mut self) -> Vec<String> {
        let tools = self.ask("list", json!({})).unwrap_or_else(|error| panic!("tools/list: {error}"));
        tools.as_array().into_iter().flatten().filter_map(|tool| tool.as_str().map(str::to_owned)).collect()
    }

    /// The notifications of that method so far.
    pub fn notifications(&mut self, method: &str) -> Vec<Value> {
        self.drain();
        self.notifications.iter().filter(|told| told["notification"] == method).cloned().collect()
    }

    /// Closes its input: the client ends the conversation as its SDK does.
    #[track_caller]
    pub fn finish(&mut self) -> Exit {
        self.stdin = None;
        self.process.wait_within(START)
    }
}
