//! Where things are by default: from the mode and from what the caller read of the environment. Reads no
//! environment itself, so that tests and the daemon decide what it sees.

use std::ffi::OsString;
use std::path::PathBuf;

use mcp_broker_proto::paths;

use super::model::Mode;

/// What the defaults depend on; read once at start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// The broker's own effective uid.
    pub uid: u32,
    /// `XDG_CONFIG_HOME`, or `.config` below the home directory.
    pub config_home: Option<PathBuf>,
    /// `XDG_STATE_HOME`, or `.local/state` below the home directory.
    pub state_home: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`, or the runtime directory of the uid.
    pub runtime_dir: PathBuf,
}

impl Places {
    /// From the environment that `variable` tells (XDG base directories: a relative path counts as not set).
    pub fn new(uid: u32, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let home = absolute("HOME");
        let below_home = |rest: &str| home.as_ref().map(|home| home.join(rest));
        Self {
            uid,
            config_home: absolute("XDG_CONFIG_HOME").or_else(|| below_home(".config")),
            state_home: absolute("XDG_STATE_HOME").or_else(|| below_home(".local/state")),
            runtime_dir: absolute("XDG_RUNTIME_DIR").unwrap_or_else(|| paths::runtime_dir_of(uid)),
        }
    }

    /// The configuration directory; `None` in user mode without a home directory.
    #[must_use]
    pub fn config_dir(&self, mode: Mode) -> Option<PathBuf> {
        match mode {
            Mode::System => Some(PathBuf::from(SYSTEM_CONFIG_DIR)),
            Mode::User => self.config_home.as_ref().map(|base| base.join(paths::DIRECTORY)),
        }
    }

    /// The state directory; `None` in user mode without a home directory.
    #[must_use]
    pub fn state_dir(&self, mode: Mode) -> Option<PathBuf> {
        match mode {
            Mode::System => Some(PathBuf::from(SYSTEM_STATE_DIR)),
            Mode::User => self.state_home.as_ref().map(|base| base.join(paths::DIRECTORY)),
        }
    }

    /// The socket of `mcp-run`.
    #[must_use]
    pub fn socket(&self, mode: Mode) -> PathBuf {
        match mode {
            Mode::System => PathBuf::from(paths::SYSTEM_SOCKET),
            Mode::User => paths::user_socket(&self.runtime_dir),
        }
    }
}

/// The system broker's configuration.
const SYSTEM_CONFIG_DIR: &str = "/etc/mcp-broker";
/// The system broker's state.
const SYSTEM_STATE_DIR: &str = "/var/lib/mcp-broker";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(variables: &[(&str, &str)], want: (Option<&str>, Option<&str>, &str)) {
        let lookup = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| OsString::from(v));
        let places = Places::new(7, lookup);
        assert_eq!(places.config_dir(Mode::User), want.0.map(PathBuf::from), "{variables:?}");
        assert_eq!(places.state_dir(Mode::User), want.1.map(PathBuf::from), "{variables:?}");
        assert_eq!(places.socket(Mode::User), PathBuf::from(want.2), "{variables:?}");
    }

    #[test]
    fn user_mode() {
        check(&[], (None, None, "/run/user/7/mcp-broker/broker.sock"));
        let home = ("HOME", "/h");
        let below_home = (Some("/h/.config/mcp-broker"), Some("/h/.local/state/mcp-broker"));
        check(&[home, ("XDG_RUNTIME_DIR", "/r")], (below_home.0, below_home.1, "/r/mcp-broker/broker.sock"));
        let relative = [home, ("XDG_CONFIG_HOME", "c"), ("XDG_STATE_HOME", ""), ("XDG_RUNTIME_DIR", "r")];
        check(&relative, (below_home.0, below_home.1, "/run/user/7/mcp-broker/broker.sock"));
        let set = [home, ("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s")];
        check(&set, (Some("/c/mcp-broker"), Some("/s/mcp-broker"), "/run/user/7/mcp-broker/broker.sock"));
    }
}
