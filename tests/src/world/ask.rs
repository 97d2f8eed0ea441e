//! What a test does in its world and asks of it: people's launches, the admin's commands, what is alive.

use std::process::Command;

use std::time::Duration;

use mcp_broker_proto::session::{LaunchInfo, LeaseInfo};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Mode, World};
use crate::accounts::Account;
use crate::eventually::{eventually, so};
use crate::mcp::{Client, Outcome};
use crate::parts::seen;
use crate::pipe::Pipe;
use crate::process::with_variable;
use crate::sdk::Sdk;

/// How long an approval may take: a server is started for each revision, and waited for.
const APPROVAL: Duration = Duration::from_secs(120);

impl World {
    /// `mcp-run` with these arguments, started by that person's MCP client.
    #[must_use]
    pub fn run(&self, account: Account, arguments: &[&str]) -> Client {
        let mut command = self.command(account, seen::LAUNCHER);
        command.args(arguments);
        Client::start(command, self.view(account))
    }

    /// Launches a server that answers the handshake.
    #[track_caller]
    #[must_use]
    pub fn launch(&self, account: Account, server: &str) -> Client {
        let mut client = self.run(account, &[server]);
        let _ = client.initialize();
        client
    }

    /// A person's MCP client that holds one conversation with a server through `mcp-run`.
    #[track_caller]
    #[must_use]
    pub fn converse(&self, account: Account, sdk: Sdk, server: &str) -> Pipe {
        self.converse_with(account, sdk, server, json!({}))
    }

    /// The same with further words for the client, such as `{ "elicit": "accept" }`.
    #[track_caller]
    #[must_use]
    pub fn converse_with(&self, account: Account, sdk: Sdk, server: &str, plan: Value) -> Pipe {
        let home = account.home(self.path());
        Pipe::start_with(sdk, &home, self.view(account), &["mcp-run", server], plan)
    }

    /// `mcp-run` with these arguments to its end.
    #[track_caller]
    pub fn run_to_end(&self, account: Account, arguments: &[&str]) -> Outcome {
        let mut client = self.run(account, arguments);
        client.close();
        client.outcome()
    }

    /// A command line of `mcp-broker`, as that account, to its end. Commands that read the configuration are
    /// told where it is.
    #[track_caller]
    pub fn admin_as(&self, account: Account, arguments: &[&str]) -> Outcome {
        let mut command = self.broker_command(account);
        command.args(arguments);
        let mut client = Client::start(command, self.admin_view(account));
        client.close();
        client.outcome()
    }

    /// The same as the broker's own account, with the words by which it finds this world.
    #[track_caller]
    pub fn admin(&self, arguments: &[&str]) -> Outcome {
        let mut client = Client::start(self.admin_command(arguments), self.admin_view(self.owner()));
        client.close();
        client.outcome()
    }

    /// A command line of `mcp-broker` as the broker's own account, not started, with the words by which it finds
    /// this world.
    #[must_use]
    pub fn admin_command(&self, arguments: &[&str]) -> Command {
        let mut command = self.broker_command(self.owner());
        command.args(arguments).arg("--config").arg(self.config_dir());
        if self.mode == Mode::User {
            command.args(["--mode", "user"]);
        }
        command
    }

    /// Approves a server as it shows itself, which starts it several times.
    #[track_caller]
    pub fn approve(&self, server: &str, words: &[&str]) -> Outcome {
        let config = self.config_dir();
        let mut command = self.broker_command(self.owner());
        command.args(["approve", server, "--yes"]).args(words).arg("--config").arg(config);
        if self.mode == Mode::User {
            command.args(["--mode", "user"]);
        }
        let mut client = Client::start(command, self.admin_view(self.owner()));
        client.close();
        client.outcome_within(APPROVAL)
    }

    /// The answer of an admin command with `--json`.
    #[track_caller]
    pub fn admin_json<T: DeserializeOwned>(&self, arguments: &[&str]) -> T {
        let mut words = arguments.to_vec();
        words.push("--json");
        let outcome = self.admin(&words);
        outcome.assert_code(0);
        serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.text()))
    }

    /// This world's minted users that exist now.
    #[must_use]
    pub fn users(&self) -> Vec<String> {
        self.pg().minted(&self.role)
    }

    /// The processes of this world's instances.
    #[must_use]
    pub fn instances(&self) -> Vec<u32> {
        with_variable("E2E_MARK", &self.mark)
    }

    /// The leases that are not settled.
    #[track_caller]
    #[must_use]
    pub fn leases(&self) -> Vec<LeaseInfo> {
        let all: Vec<LeaseInfo> = self.admin_json(&["leases"]);
        all.into_iter().filter(|lease| !lease.withheld).collect()
    }

    /// The leases that were ended, cannot be revoked, and are valid still.
    #[track_caller]
    #[must_use]
    pub fn withheld(&self) -> Vec<LeaseInfo> {
        let all: Vec<LeaseInfo> = self.admin_json(&["leases"]);
        all.into_iter().filter(|lease| lease.withheld).collect()
    }

    /// The launches that are alive.
    #[track_caller]
    #[must_use]
    pub fn launches(&self) -> Vec<LaunchInfo> {
        self.admin_json(&["launches"])
    }

    /// Waits until nothing is left of any launch: no process, no database user, no open session of one, no
    /// lease in OpenBao, and, where a broker runs, none in its journal; and the audit log holds together.
    #[track_caller]
    pub fn assert_settled(&mut self) {
        eventually("every process of an instance is gone", || so(self.instances().is_empty()));
        // Without one nothing was minted.
        if self.bao.is_some() {
            self.assert_revoked(&self.role);
        }
        if self.broker.as_mut().is_some_and(|broker| broker.process.running()) {
            eventually("the journal is settled", || so(self.leases().is_empty()));
            eventually("no launch is left", || so(self.launches().is_empty()));
        }
        self.admin(&["audit", "verify"]).assert_code(0);
    }

    /// Waits until nothing is left of a role's credentials.
    #[track_caller]
    pub fn assert_revoked(&self, role: &str) {
        eventually("every minted user is gone", || so(self.pg().minted(role).is_empty()));
        eventually("every session of one is cut", || so(self.pg().sessions(role) == 0));
        let prefix = format!("database/creds/{role}");
        eventually("no lease is left in OpenBao", || so(self.bao().leases(&prefix).is_empty()));
    }

    /// The audit log, one event each.
    #[track_caller]
    #[must_use]
    pub fn audit(&self) -> Vec<Value> {
        let outcome = self.admin(&["audit", "show", "--json"]);
        outcome.assert_code(0);
        let text = outcome.text();
        let lines = text.lines().filter(|line| !line.trim().is_empty());
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }
}
