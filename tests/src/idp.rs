//! An authorization server: npm oidc-provider, set up by `tests/parts/npm-oidc/server.mjs`. Which of its tokens are
//! active it tells by introspection, to a client of the tests' own.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::eventually::{eventually, so};
use crate::http::{Ask, tcp};
use crate::parts;
use crate::pg::free_port;
use crate::process::{Process, spawn};
use crate::tempdir::TempDir;
use crate::view::View;

/// The secret of the client `broker`.
pub const SECRET: &str = "a secret: with % and +";

/// A server, running or not.
pub struct Idp {
    /// Its port on 127.0.0.1.
    pub port: u16,
    plan: Value,
    server: Option<Process>,
    dir: TempDir,
}

impl Idp {
    /// Starts it; its tokens live so many seconds.
    #[must_use]
    pub fn start(life: u64) -> Self {
        let plan = json!({ "life": life });
        let mut idp = Self { port: free_port(), plan, server: None, dir: TempDir::new("idp") };
        idp.up();
        idp
    }

    /// Its issuer.
    #[must_use]
    pub fn issuer(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Changes what it does with the next request: `more`, a scope that it gives unasked; `jwks`, the keys of whoever
    /// may say who a person is.
    ///
    /// # Panics
    /// When the plan cannot be written.
    pub fn change(&mut self, key: &str, value: Value) {
        self.plan[key] = value;
        self.write_plan();
    }

    /// Ends it at once. It keeps its tokens in memory.
    pub fn down(&mut self) {
        self.server = None;
    }

    /// Starts it at the same place, with none of its tokens.
    ///
    /// # Panics
    /// When it does not start.
    pub fn up(&mut self) {
        self.write_plan();
        let log = File::create(self.dir.path().join("log")).expect("the directory is ours");
        let node = parts::node_22();
        let below = node.strip_prefix(parts::seen::PARTS).expect("it is one of the parts");
        let mut command = Command::new(parts::folder().join(below));
        command.arg(parts::repository().join("tests/parts/npm-oidc/server.mjs"));
        command.arg(parts::folder().join("npm-oidc")).arg(self.port.to_string()).arg(self.plan_file());
        command.env_clear().env("HOME", "/nowhere").current_dir(self.dir.path());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("one more")).stderr(log);
        self.server = Some(spawn(command, View::new()));
        let path = "/.well-known/openid-configuration";
        let metadata = Ask { method: "GET", path, headers: &[], body: None };
        eventually("the authorization server answers", || {
            so(tcp(self.port, metadata).is_ok_and(|answer| answer.status == 200))
        });
    }

    /// What it says of a token.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn introspect(&self, token: &str) -> Value {
        assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{token}");
        let body = format!("client_id=judge&client_secret=judge-secret&token={token}");
        let head = format!(
            "POST /token/introspection HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nConnection: close\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server is up");
        stream.write_all(format!("{head}{body}").as_bytes()).expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let (_, said) = answer.split_once("\r\n\r\n").expect("an answer has a body");
        serde_json::from_str(said).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    /// Whether a token is active.
    #[must_use]
    pub fn is_active(&self, token: &str) -> bool {
        self.introspect(token)["active"] == true
    }

    /// Writes a file that it can read.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn dir_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).expect("the directory is ours");
        path
    }

    fn plan_file(&self) -> PathBuf {
        self.dir.path().join("plan.json")
    }

    /// The file is replaced, so that the server never reads half of it.
    fn write_plan(&self) {
        let new: &Path = &self.dir.path().join("plan.new");
        std::fs::write(new, self.plan.to_string()).expect("the directory is ours");
        std::fs::rename(new, self.plan_file()).expect("both are ours");
    }
}
