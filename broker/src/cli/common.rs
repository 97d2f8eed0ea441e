//! Options that every command takes, and what they mean together with the environment, which is read here
//! and nowhere else.

use std::path::PathBuf;

use super::{Report, admin};
use crate::app::readers;
use crate::config::{Config, Mode, Places, load};

/// Options of every command.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Common {
    /// Directory of broker.toml and servers.d [default: /etc/mcp-broker, or $XDG_CONFIG_HOME/mcp-broker in user mode]
    #[arg(long, global = true, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Whose broker is meant: the machine's, or the calling account's own
    #[arg(long, global = true, value_enum)]
    mode: Option<ModeWord>,
}

/// The two modes as words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ModeWord {
    /// The calling account's own broker
    User,
    /// The machine's broker
    System,
}

/// A command's arguments, and the short form of `--mode user`. Commands that are about an account have
/// `--user NAME` instead.
#[derive(Debug, clap::Args)]
pub(super) struct Mine<T: clap::Args> {
    /// Short for --mode user
    #[arg(long, global = true)]
    user: bool,
    #[command(flatten)]
    pub(super) rest: T,
}

/// Variable with the log filter of `serve` (the syntax of tracing's `EnvFilter`).
const LOG_VARIABLE: &str = "MCP_BROKER_LOG";

impl Common {
    /// As the command's own short form says.
    pub(super) fn with<T: clap::Args>(mut self, mine: &Mine<T>) -> Self {
        if mine.user {
            self.mode = Some(ModeWord::User);
        }
        self
    }

    /// The same for a command that talks to a running broker.
    pub(super) fn admin<T: clap::Args>(self, mine: &Mine<T>) -> Self {
        self.with(mine).of_account()
    }

    /// Where nothing is said: root means the machine's broker, anybody else their own, as only root and the
    /// broker's account may ask the machine's.
    pub(super) fn of_account(mut self) -> Self {
        let own = if rustix::process::geteuid().is_root() { ModeWord::System } else { ModeWord::User };
        self.mode.get_or_insert(own);
        self
    }

    /// For whom the broker works.
    pub(super) fn mode(&self) -> Mode {
        match self.mode {
            Some(ModeWord::User) => Mode::User,
            Some(ModeWord::System) | None => Mode::System,
        }
    }

    /// What defaults depend on.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    #[expect(clippy::unused_self, reason = "asked for like the other options")]
    pub(super) fn places(&self) -> Places {
        Places::new(rustix::process::geteuid().as_raw(), |name| std::env::var_os(name))
    }

    /// The log filter of `serve`.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    #[expect(clippy::unused_self, reason = "asked for like the other options")]
    pub(super) fn log_filter(&self) -> Option<String> {
        std::env::var(LOG_VARIABLE).ok()
    }

    /// The configuration directory.
    pub(super) fn config_dir(&self) -> Result<PathBuf, Report> {
        let given = self.config.as_ref().and_then(|dir| std::path::absolute(dir).ok());
        given.or_else(|| self.places().config_dir(self.mode())).ok_or_else(|| {
            Report::failure(
                78,
                "there is no home directory to find the configuration in",
                "set HOME, or give --config DIR",
            )
        })
    }

    /// The configuration, with every mistake in the report when there is one.
    pub(super) fn load(&self) -> Result<Config, Report> {
        let dir = self.config_dir()?;
        let loaded = load(&dir, self.mode(), &self.places(), &readers());
        loaded.map_err(|found| Report::refused_configuration(&found))
    }

    /// Where the running broker's state is.
    pub(super) fn state_dir(&self) -> Result<PathBuf, Report> {
        self.load().map(|config| config.broker.state_dir)
    }

    /// The admin socket. A broken configuration must not keep an admin from the kill switch, so then it is
    /// looked for where it is by default.
    pub(super) fn admin_socket(&self) -> PathBuf {
        match self.load() {
            Ok(config) => config.broker.admin_socket,
            Err(_) => admin::beside(&self.places().socket(self.mode())),
        }
    }
}
