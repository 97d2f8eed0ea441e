//! Where the things of a world are, and what its processes see of the machine.

use std::path::{Path, PathBuf};

use super::{Mode, World};
use crate::accounts::{ALICE, Account, PEOPLE, ROOT};
use crate::parts::{self, seen};
use crate::view::View;

impl World {
    /// The directory of the world.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The folder of all runtime directories, in memory.
    #[must_use]
    pub fn runtime(&self) -> &Path {
        self.runtime.path()
    }

    /// A person's runtime directory, as the test sees it.
    #[must_use]
    pub fn runtime_dir(&self, account: Account) -> PathBuf {
        self.runtime.path().join(account.name)
    }

    /// The configuration directory.
    #[must_use]
    pub fn config_dir(&self) -> PathBuf {
        self.path().join("conf")
    }

    /// The state directory, as the test sees it.
    #[must_use]
    pub fn state_dir(&self) -> PathBuf {
        match self.mode {
            Mode::User => ALICE.home(self.path()).join(".local/state/mcp-broker"),
            Mode::System => self.path().join("state"),
        }
    }

    /// The socket's directory, as the test sees it.
    #[must_use]
    pub fn socket_dir(&self) -> PathBuf {
        match self.mode {
            Mode::User => self.runtime_dir(ALICE).join("mcp-broker"),
            Mode::System => self.path().join("run"),
        }
    }

    /// The broker's socket, as the test sees it.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.socket_dir().join("broker.sock")
    }

    /// The admin's socket, as the test sees it.
    #[must_use]
    pub fn admin_socket(&self) -> PathBuf {
        self.socket_dir().join("admin.sock")
    }

    /// The machine as the world's processes see it, for an account.
    #[must_use]
    pub fn view(&self, account: Account) -> View {
        let at = |name: &str| self.path().join(name);
        let mut view = View::new()
            .bind(at("passwd"), "/etc/passwd")
            .bind(at("group"), "/etc/group")
            .tmpfs("/run", "mode=755")
            .dir("/run/user", 0o755, 0)
            .dir("/run/mcp-broker", 0o755, 0)
            .bind(at("run"), "/run/mcp-broker")
            .dir("/run/e2e", 0o755, 0)
            .dir(seen::BIN, 0o755, 0)
            .dir(seen::PARTS, 0o755, 0)
            .bind_read_only(parts::folder(), seen::PARTS)
            .dir(seen::CLIENTS, 0o755, 0)
            .bind_read_only(parts::repository().join("tests/clients"), seen::CLIENTS)
            .dir(seen::FIXTURES, 0o755, 0)
            .bind_read_only(parts::repository().join("tests/fixtures"), seen::FIXTURES);
        for person in PEOPLE {
            let at_run = format!("/run/user/{}", person.uid);
            view = view.dir(&at_run, 0o700, person.uid).bind(self.runtime_dir(person), &at_run);
        }
        let programs = [
            (parts::node(), seen::NODE),
            (parts::probe(), seen::PROBE),
            (parts::launcher(), seen::LAUNCHER),
            (self.program.clone(), seen::BROKER),
        ];
        for (from, at) in programs {
            view = view.file(at).bind_read_only(from, at);
        }
        view.account(account)
    }

    /// What the broker sees: its small disk besides.
    pub(super) fn broker_view(&self) -> View {
        let mut view = self.view(ROOT);
        for (at, options) in &self.mounts {
            view = view.tmpfs(at, options);
        }
        view.account(self.owner())
    }

    /// What an admin sees who works where the broker does.
    pub(super) fn admin_view(&self, account: Account) -> View {
        match &self.broker {
            Some(broker) if !self.mounts.is_empty() => View::of(broker.process.pid()).account(account),
            _ => self.view(account),
        }
    }
}
