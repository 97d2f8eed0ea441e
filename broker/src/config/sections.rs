//! The tables of `broker.toml` in their parsed form, defaults filled in.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::kinds::ProviderConfig;

/// `[broker]`, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerSection {
    /// The socket of `mcp-run`.
    pub socket: PathBuf,
    /// The socket of the admin commands.
    pub admin_socket: PathBuf,
    /// Journal, audit log and sealed store.
    pub state_dir: PathBuf,
}

/// `[session]`, defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionSection {
    /// A session ends so long after it began.
    pub max_age: Duration,
    /// An instance that was not asked for anything for so long is dropped; the next request brings it back.
    pub idle: Duration,
    /// What a lock does to the launches of its session.
    pub on_lock: OnLock,
    /// Whether login sessions must be seen.
    pub logind: LogindUse,
    /// What brings a locked session back.
    pub resume: Resume,
    /// So many mints an account may begin a minute; a launch and a session that begin count as one each.
    pub mints_per_minute: u32,
}

/// What a lock does to launches. Their instances end either way, and their credentials are revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLock {
    /// They are parked: the client's pipe stays open, and what brings the session back brings them back.
    Park,
    /// They end.
    End,
}

impl OnLock {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Park => "park",
            Self::End => "end",
        }
    }
}

/// What to do where there is no logind. Without it neither a lock of the screen nor a logout is seen: only
/// `mcp-run lock`, idle time and age end something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogindUse {
    /// Nothing is launched. The default in system mode.
    Required,
    /// Do without. The default in user mode.
    Optional,
}

impl LogindUse {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Required => "required",
            Self::Optional => "optional",
        }
    }
}

/// What brings a locked session back, of every tier that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// An unlock that was seen, or `mcp-run unlock` where that serves.
    Unlock,
}

impl Resume {
    /// The word in files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unlock => "unlock",
        }
    }
}

/// `[provider.NAME]`.
pub struct ProviderSection {
    /// The kind's name in the `KINDS` table.
    pub kind: &'static str,
    /// The section as it was written, to see whether it changed.
    pub written: serde_json::Value,
    /// The kind's own keys, parsed by the kind.
    pub config: Arc<dyn ProviderConfig>,
}
