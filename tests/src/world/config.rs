//! The configuration files of a world, as an admin would write them.

use super::{Mode, World};
use crate::parts::{self, seen};
use crate::pg;
use crate::tempdir::write;

impl World {
    /// Adds a server with the probe as its program and the world's credential in `DSN`.
    #[must_use]
    pub fn probe(self, name: &str, arguments: &[&str]) -> Self {
        let mut command = vec![seen::PROBE];
        command.extend(arguments);
        self.server(name, &command)
    }

    /// Adds a server with that command and the world's credential in `DSN`.
    #[must_use]
    pub fn server(self, name: &str, command: &[&str]) -> Self {
        let text = self.definition(command);
        self.file(name, &text)
    }

    /// Adds a server by the text of its file.
    #[must_use]
    pub fn file(self, name: &str, text: &str) -> Self {
        self.write_server(name, text);
        self
    }

    /// Writes a server's file as its owner.
    pub fn write_server(&self, name: &str, text: &str) {
        let owner = self.owner().uid;
        write(&self.config_dir().join("servers.d").join(format!("{name}.toml")), text, 0o644, owner, owner);
    }

    /// The text of a server's file: everybody in the group `data` may launch it.
    #[must_use]
    pub fn definition(&self, command: &[&str]) -> String {
        let dsn = format!(
            "postgres://{{db.username|url}}:{{db.password|url}}@127.0.0.1:{}/postgres?sslmode=disable",
            pg::shared().port
        );
        let (role, mark) = (&self.role, &self.mark);
        format!(
            r#"description = "Orders database"
owner = "data-platform"
tier = "development"
command = {command:?}
env = {{ E2E_MARK = "{mark}" }}

[access]
users = ["alice", "bob"]

[scope.read]
tools = ["*"]
resources = ["*"]
prompts = ["*"]
credential.db = {{ provider = "bao", path = "database/creds/{role}", policies = ["{role}"], ttl = "15m" }}
inject = [{{ env = "DSN", value = "{dsn}" }}]
"#
        )
    }

    /// The text of a server's file whose server reads the world's credential in a file, again and again, and is told
    /// when there is another one.
    #[must_use]
    pub fn definition_by_file(&self) -> String {
        let psql = parts::postgres("psql");
        self.definition(&[seen::PYTHON, seen::READS_FILE])
            .replace("env = { ", &format!("env = {{ PSQL = {:?}, ", psql.display().to_string()))
            .replace(r#"{ env = "DSN","#, r#"{ file = "DSN_FILE", signal = "HUP","#)
    }

    /// Takes the broker that has fault points and clocks that can be moved.
    #[must_use]
    pub fn with_fault_points(mut self) -> Self {
        self.program = parts::broker_with_fault_points();
        self
    }

    /// Sets a variable for the brokers that start from now on; `None` removes it.
    pub fn set_variable(&mut self, name: &'static str, value: Option<String>) {
        self.variables.retain(|(known, _)| *known != name);
        self.variables.extend(value.map(|value| (name, value)));
    }

    pub(super) fn write_config(&self) {
        let mut text = String::new();
        if self.mode == Mode::System {
            text.push_str(&format!("[broker]\nstate_dir = {:?}\n\n", self.state_dir()));
        }
        text.push_str("[identity]\nsign_in = \"os\"\n\n[session]\n");
        // Without one, login sessions are nobody's: a system's broker must be told so.
        text.push_str(match (&self.logind, self.mode) {
            (Some(_), _) => "logind = \"required\"\n",
            (None, Mode::System) => "logind = \"optional\"\n",
            (None, Mode::User) => "",
        });
        text.push_str(&self.session);
        if let Some(proxy) = &self.proxy {
            let role_id = std::fs::read_to_string(self.config_dir().join("role_id")).expect("it was written");
            text.push_str(&format!(
                r#"
[provider.bao]
kind = "vault"
address = "http://127.0.0.1:{}"
auth = {{ method = "approle", mount = "approle", role_id = "{role_id}", secret_id_file = {:?} }}
dead_man = "{}s"
"#,
                proxy.port,
                self.config_dir().join("secret_id"),
                self.dead_man,
            ));
        }
        text.push_str(&self.extra);
        let owner = self.owner().uid;
        write(&self.config_dir().join("broker.toml"), &text, 0o644, owner, owner);
    }
}
