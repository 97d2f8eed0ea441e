//! Clients that people have: the MCP Python SDK, both of its generations, as a program of its own that
//! decides what its server's environment holds and how the server is ended.

use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::parts::seen;
use crate::process::{Collected, Exit, Process, spawn};
use crate::view::View;

/// A generation of the SDK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sdk {
    /// 2.3, which asks for the revision of 2026-07-28 first.
    Two,
    /// 1.30, which knows the handshake only.
    One,
}

/// What the server was asked and answered.
#[derive(Debug)]
pub struct Walk {
    /// The names of its tools.
    pub tools: Vec<String>,
    /// The text of each call's result.
    pub calls: Vec<String>,
}

/// A client that runs.
pub struct Running {
    /// The client; the server is its child.
    pub process: Process,
    stdout: Collected,
    stderr: Collected,
}

impl Sdk {
    /// Starts the client, which starts `command` as its server and makes the calls.
    #[must_use]
    pub fn start(
        self,
        home: &std::path::Path,
        view: View,
        command: &[&str],
        calls: &[(&str, Value)],
    ) -> Running {
        let (program, arguments) = command.split_first().expect("a command");
        let calls: Vec<Value> = calls.iter().map(|(tool, arguments)| json!([tool, arguments])).collect();
        let plan = json!({ "command": program, "args": arguments, "env": {}, "calls": calls });
        let mut client = self.program(home, "walk.py", &plan.to_string());
        client.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = spawn(client, view);
        let stdout = Collected::from(process.child.stdout.take().expect("it is piped"));
        let stderr = Collected::from(process.child.stderr.take().expect("it is piped"));
        Running { process, stdout, stderr }
    }

    /// One of the clients with its plan, not started.
    pub(crate) fn program(self, home: &std::path::Path, script: &str, plan: &str) -> Command {
        let venv = match self {
            Self::Two => "mcp-2",
            Self::One => "mcp-1",
        };
        let mut client = Command::new(format!("{}/{venv}/bin/python", seen::PARTS));
        client.arg("-B").arg(format!("{}/{script}", seen::CLIENTS)).arg(plan);
        client
            .env_clear()
            .env("HOME", home)
            .env("PATH", format!("{}:/usr/bin:/bin", seen::BIN))
            .env("LANG", "C.UTF-8")
            .current_dir("/");
        client
    }
}

impl Running {
    /// Waits for its end, which must be a success.
    ///
    /// # Panics
    /// When it is none.
    #[track_caller]
    pub fn finish(mut self) -> Walk {
        let exit = self.process.wait_within(Duration::from_secs(60));
        let stderr = String::from_utf8_lossy(&self.stderr.complete()).into_owned();
        assert_eq!(exit, Exit(Default::default()), "the client failed:\n{stderr}");
        let said: Value = serde_json::from_slice(&self.stdout.complete()).expect("one JSON object");
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |call: &Value| {
            assert_eq!(call["error"], false, "a call failed: {call}");
            call["text"].as_str().unwrap_or_default().to_owned()
        };
        Walk {
            tools: list(&said["tools"]).iter().filter_map(|t| t.as_str().map(str::to_owned)).collect(),
            calls: list(&said["calls"]).iter().map(text).collect(),
        }
    }
}
