//! Servers with several scopes, as an admin would write them, and what their tools have left behind.

use std::fmt::Write as _;
use std::path::PathBuf;

use serde_json::Value;

use super::World;
use crate::accounts::ALICE;
use crate::pg;
use crate::tempdir::write;

/// One scope of a server's file.
#[derive(Debug, Clone)]
pub struct Scope {
    name: &'static str,
    lines: String,
    credential: Option<Credential>,
    inject: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Credential {
    Reader,
    Writer,
}

impl Scope {
    /// One with these tools, and without a credential.
    #[must_use]
    pub fn of(name: &'static str, tools: &[&str]) -> Self {
        Self { name, lines: format!("tools = {tools:?}\n"), credential: None, inject: None }
    }

    /// With a further line.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.lines.push_str(line);
        self.lines.push('\n');
        self
    }

    /// With another line for what is injected; `@DSN@` stands for the address with the credential.
    #[must_use]
    pub fn inject(mut self, line: &str) -> Self {
        self.inject = Some(line.to_owned());
        self
    }

    /// With the credential of a user who may read, in `DSN`.
    #[must_use]
    pub fn reads(mut self) -> Self {
        self.credential = Some(Credential::Reader);
        self
    }

    /// With the credential of a user who may write, in `DSN`.
    #[must_use]
    pub fn writes(mut self) -> Self {
        self.credential = Some(Credential::Writer);
        self
    }
}

impl World {
    /// Adds a role of users who may write to the world's OpenBao.
    #[must_use]
    pub fn writers(self) -> Self {
        self.bao().writers(pg::shared(), &self.writer(), &self.role);
        self
    }

    /// The name of that role. OpenBao cuts such names to eight characters in the names of users.
    #[must_use]
    pub fn writer(&self) -> String {
        format!("x{}", &self.role[1..])
    }

    /// The minted users who may write and exist now.
    #[must_use]
    pub fn writing_users(&self) -> Vec<String> {
        self.pg().minted(&self.writer())
    }

    /// Adds a server with these scopes; `top` holds further keys of the file.
    #[must_use]
    pub fn scoped(self, name: &str, command: &[&str], top: &str, scopes: &[Scope]) -> Self {
        let text = self.scoped_text(command, top, scopes);
        self.file(name, &text)
    }

    /// The text of such a server's file.
    #[must_use]
    pub fn scoped_text(&self, command: &[&str], top: &str, scopes: &[Scope]) -> String {
        let (mark, ran) = (&self.mark, self.ran_file());
        let mut text = format!(
            r#"description = "Tools that read and tools that write"
owner = "data-platform"
tier = "development"
command = {command:?}
env = {{ E2E_MARK = "{mark}", E2E_RAN = {ran:?} }}
{top}

[access]
users = ["alice", "bob"]
"#
        );
        for scope in scopes {
            write!(text, "\n[scope.{}]\n{}", scope.name, scope.lines).expect("text takes text");
            let role = match scope.credential {
                None => continue,
                Some(Credential::Reader) => self.role.clone(),
                Some(Credential::Writer) => self.writer(),
            };
            let dsn = format!(
                "postgres://{{db.username|url}}:{{db.password|url}}@127.0.0.1:{}/postgres?sslmode=disable",
                pg::shared().port
            );
            let inject = scope.inject.as_deref().unwrap_or(r#"inject = [{ env = "DSN", value = "@DSN@" }]"#);
            let inject = inject.replace("@DSN@", &dsn);
            writeln!(
                text,
                r#"credential.db = {{ provider = "bao", path = "database/creds/{role}", policies = ["{role}"], ttl = "15m" }}
{inject}"#
            )
            .expect("text takes text");
        }
        text
    }

    /// Where tools write down that they were run.
    #[must_use]
    pub fn ran_file(&self) -> PathBuf {
        ALICE.home(self.path()).join("ran")
    }

    /// What was run so far, in order: `tool`, `pid` and, by some servers, `arguments`.
    #[must_use]
    pub fn ran(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.ran_file()).unwrap_or_default();
        let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        text.lines().map(parse).collect()
    }

    /// How often a tool was run.
    #[must_use]
    pub fn times_run(&self, tool: &str) -> usize {
        self.ran().iter().filter(|told| told["tool"] == tool).count()
    }

    /// The words of a server's tools, in a file that it reads whenever it is asked for its list.
    #[must_use]
    pub fn words_file(&self) -> PathBuf {
        self.path().join("words.json")
    }

    /// Writes them.
    pub fn write_words(&self, words: &Value) {
        write(&self.words_file(), &words.to_string(), 0o644, 0, 0);
    }

    /// A variable of the environment of each instance's processes, read where the kernel keeps it.
    #[must_use]
    pub fn injected(&self, name: &str) -> Vec<String> {
        let of = |pid: u32| {
            let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut entries = environ.split(|byte| *byte == 0).map(String::from_utf8_lossy);
            entries.find_map(|entry| Some(entry.strip_prefix(name)?.strip_prefix('=')?.to_owned()))
        };
        let mut values: Vec<String> = self.instances().into_iter().filter_map(of).collect();
        values.sort();
        values.dedup();
        values
    }
}
