//! The process environment, read once, and the short list of what a server may inherit from it.
//! Everything that is not listed stays outside: tokens, loader variables, proxies, interpreter options.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use mcp_broker_proto::paths;

/// What a server inherits, and why. A name that ends in `*` is a prefix.
pub const INHERITED: &[(&str, &str)] = &[
    ("HOME", "configuration and caches of the person"),
    ("USER", "the account's name"),
    ("LOGNAME", "the account's name, as POSIX spells it"),
    ("SHELL", "servers that run commands for the person"),
    ("PATH", "interpreters and tools that the server starts"),
    ("TERM", "libraries that look for it even without a terminal"),
    ("LANG", "language and encoding of messages"),
    ("LC_*", "the same, by category"),
    ("TZ", "local time"),
    ("TMPDIR", "where the person keeps temporary files"),
    ("XDG_RUNTIME_DIR", "private sockets of the person's own login session"),
];

/// The environment that `mcp-run` was started with.
#[derive(Clone, Default)]
pub struct Environment(BTreeMap<OsString, OsString>);

impl Environment {
    /// The environment of this process.
    #[must_use]
    pub fn of_process() -> Self {
        Self(std::env::vars_os().collect())
    }

    /// One variable; an empty one counts as not set.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The person's runtime directory: as set, else where logind puts it.
    #[must_use]
    pub fn runtime_dir(&self, uid: u32) -> PathBuf {
        match self.get("XDG_RUNTIME_DIR") {
            Some(dir) if dir.as_bytes().starts_with(b"/") => PathBuf::from(dir),
            _ => paths::runtime_dir_of(uid),
        }
    }

    /// What a server inherits.
    pub fn inherited(&self) -> impl Iterator<Item = (String, Vec<u8>)> {
        self.0.iter().filter_map(|(name, value)| {
            let name = name.to_str()?;
            inherits(name).then(|| (name.to_owned(), value.as_bytes().to_vec()))
        })
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Environment {
    fn from(pairs: [(&str, &str); N]) -> Self {
        Self(pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

fn inherits(name: &str) -> bool {
    INHERITED.iter().any(|(listed, _why)| match listed.strip_suffix('*') {
        Some(prefix) => name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty()),
        None => name == *listed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_list_is_inherited() {
        for name in ["HOME", "PATH", "LC_ALL", "LC_TIME", "TZ", "XDG_RUNTIME_DIR"] {
            assert!(inherits(name), "{name}");
        }
        for name in [
            "LC_",
            "LANGUAGE",
            "home",
            "VAULT_TOKEN",
            "BAO_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "LD_PRELOAD",
            "LD_LIBRARY_PATH",
            "NODE_OPTIONS",
            "PYTHONPATH",
            "BASH_ENV",
            "https_proxy",
            "MCP_BROKER_SOCKET",
            "DBUS_SESSION_BUS_ADDRESS",
        ] {
            assert!(!inherits(name), "{name}");
        }
    }

    #[test]
    fn runtime_directory() {
        let dir = |env: Environment| env.runtime_dir(7);
        assert_eq!(dir(Environment::default()), PathBuf::from("/run/user/7"));
        assert_eq!(dir([("XDG_RUNTIME_DIR", "")].into()), PathBuf::from("/run/user/7"));
        assert_eq!(dir([("XDG_RUNTIME_DIR", "relative")].into()), PathBuf::from("/run/user/7"));
        assert_eq!(dir([("XDG_RUNTIME_DIR", "/x")].into()), PathBuf::from("/x"));
    }
}
