//! Options that every command takes, and what they mean together with the environment, which is read here
//! and nowhere else.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use super::report::EXIT_USAGE;
use super::{Report, admin};
use crate::app::readers;
use crate::config::{Config, Mode, Places, load, shell_word};

/// Options of every command.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Common {
    /// Directory of broker.toml and servers.d [default: /etc/mcp-broker, or $XDG_CONFIG_HOME/mcp-broker in user mode]
    #[arg(long, global = true, value_name = "DIR")]
    config: Option<PathBuf>,
    /// Whose broker is meant: the machine's, or the calling account's own [default: system for root, user for others]
    #[arg(long, global = true, value_enum)]
    mode: Option<ModeWord>,
    /// The options as they were written, for hints.
    #[arg(skip)]
    written: String,
}

/// Which broker a command means, for `--help`.
pub(super) const WHICH_BROKER: &str = "Which broker is meant: root, or `--mode system`, means the machine's; anybody else, \
    or `--user`, their own. `serve` alone means the machine's unless it is told otherwise, as systemd starts it under \
    the broker's account. Where `--user NAME` names an account, write `--mode user`.";

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
pub(super) const LOG_VARIABLE: &str = "MCP_BROKER_LOG";

impl Common {
    /// Keeps the options as they were written. Called once, before anything is filled in.
    pub(super) fn remember(mut self) -> Self {
        if let Some(dir) = &self.config {
            self.written.push_str(&format!(" --config {}", shell_word(dir)));
        }
        match self.mode {
            Some(ModeWord::User) => self.written.push_str(" --mode user"),
            Some(ModeWord::System) => self.written.push_str(" --mode system"),
            None => {}
        }
        self
    }

    /// The caller's options, each with a space before it: a hint with them can be typed as printed.
    pub(super) fn options(&self) -> &str {
        &self.written
    }

    /// As the command's own short form says.
    ///
    /// # Errors
    /// Where the two forms contradict each other.
    pub(super) fn with<T: clap::Args>(mut self, mine: &Mine<T>) -> Result<Self, Report> {
        if !mine.user {
            return Ok(self);
        }
        match self.mode {
            Some(ModeWord::User) => {}
            Some(ModeWord::System) => {
                let what = "`--user` and `--mode system` name two brokers";
                return Err(Report::failure(EXIT_USAGE, what, "keep the one that is meant"));
            }
            None => {
                self.mode = Some(ModeWord::User);
                self.written.push_str(" --user");
            }
        }
        Ok(self)
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

    /// What a server inherits in a trial: as from `mcp-run`, without what belongs to the admin's own session.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    #[expect(clippy::unused_self, reason = "asked for like the other options")]
    pub(super) fn inherited(&self) -> BTreeMap<String, OsString> {
        let named = ["PATH", "TERM", "LANG", "TZ"].map(str::to_owned).into_iter();
        let categories = ["CTYPE", "NUMERIC", "TIME", "COLLATE", "MONETARY", "MESSAGES", "ALL"];
        let all = named.chain(categories.map(|category| format!("LC_{category}")));
        all.filter_map(|name| std::env::var_os(&name).map(|value| (name, value))).collect()
    }

    /// Where the temporary files of a trial go: root's are where another account can reach them, too.
    #[expect(clippy::unused_self, reason = "asked for like the other options")]
    pub(super) fn scratch(&self) -> PathBuf {
        match rustix::process::geteuid().is_root() {
            true => PathBuf::from("/tmp"),
            false => std::env::temp_dir(),
        }
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

    /// The admin socket, and what to say first. Where no configuration was named, a broken one must not keep
    /// an admin from the kill switch: then it is looked for where it is by default. Where one was named, that
    /// could be another broker than the one that is meant.
    ///
    /// # Errors
    /// The findings of the named configuration.
    pub(super) fn admin_socket(&self) -> Result<(PathBuf, String), Report> {
        let report = match self.load() {
            Ok(config) => return Ok((config.broker.admin_socket, String::new())),
            Err(report) if self.config.is_some() => return Err(report),
            Err(report) => report,
        };
        let socket = admin::beside(&self.places().socket(self.mode()));
        let first = report.err.lines().next().unwrap_or_default();
        let note = format!(
            "mcp-broker: warning: without a usable configuration ({}), the default socket `{}` is asked\n\
             hint: `mcp-broker check{}` says what is wrong; name another configuration by `--config DIR`\n",
            first.trim_start_matches("mcp-broker: "),
            socket.display(),
            self.options()
        );
        Ok((socket, note))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::config::testing::TempDir;

    #[derive(clap::Args, Debug)]
    struct Nothing {}

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        mine: Mine<Nothing>,
    }

    fn parse(words: &[&str]) -> Result<Common, Report> {
        let line = Line::try_parse_from([&["mcp-broker"], words].concat()).unwrap();
        line.common.remember().with(&line.mine).map(Common::of_account)
    }

    #[test]
    fn which_broker() {
        let own = if rustix::process::geteuid().is_root() { Mode::System } else { Mode::User };
        for (words, mode, options) in [
            (&[][..], own, ""),
            (&["--user"], Mode::User, " --user"),
            (&["--mode", "user", "--user"], Mode::User, " --mode user"),
            (&["--mode", "system"], Mode::System, " --mode system"),
            (&["--user", "--config", "/a b"], Mode::User, " --config '/a b' --user"),
        ] {
            let common = parse(words).unwrap();
            assert_eq!((common.mode(), common.options()), (mode, options), "{words:?}");
        }
        let both = parse(&["--user", "--mode", "system"]).unwrap_err();
        assert_eq!(both.code, 64);
        assert!(both.err.contains("\nhint: "), "{}", both.err);
    }

    #[test]
    fn a_named_configuration_that_is_broken_is_never_passed_over() {
        let dir = TempDir::new();
        dir.write("broker.toml", "x = 1\n");
        let name = dir.path().display().to_string();
        for named in [name.clone(), format!("{name}-typo")] {
            let report = parse(&["--config", &named, "--user"]).unwrap().admin_socket().unwrap_err();
            assert_eq!(report.code, 78, "{named}");
            assert!(report.err.contains(&named), "{}", report.err);
        }
        dir.write("broker.toml", "[broker]\nadmin_socket = \"/there/a.sock\"\nstate_dir = \"/there\"\n");
        let (socket, note) = parse(&["--config", &name, "--user"]).unwrap().admin_socket().unwrap();
        assert_eq!((socket, note.as_str()), (PathBuf::from("/there/a.sock"), ""));
    }
}
