//! The configuration in its parsed form: what the rest of the broker knows of the files. A value of these
//! types cannot be wrong in itself; whether providers can be reached is found out later.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::launch::Injection;
use mcp_broker_proto::names::{Label, ServerName};

use super::kinds::ProviderConfig;

/// For whom the broker works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For the person who started it, and nobody else.
    User,
    /// For everybody on the machine.
    System,
}

impl Mode {
    /// The word for messages and the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::System => "system",
        }
    }
}

/// Everything that the files say.
pub struct Config {
    /// For whom the broker works.
    pub mode: Mode,
    /// `[broker]`.
    pub broker: BrokerSection,
    /// `[session]`.
    pub session: SessionSection,
    /// `[provider.*]`.
    pub providers: BTreeMap<Label, ProviderSection>,
    /// `servers.d/*.toml`.
    pub servers: BTreeMap<ServerName, Arc<ServerDefinition>>,
    /// Findings that did not stop it, rendered.
    pub warnings: Vec<String>,
}

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

/// One server that the admin approved.
#[derive(Debug, Clone)]
pub struct ServerDefinition {
    /// Its name: the file's.
    pub name: ServerName,
    /// For people.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// How sensitive what it reaches is.
    pub tier: Tier,
    /// Program (absolute) and arguments.
    pub command: Vec<String>,
    /// Patterns (`*` stands for anything) that an extra argument must match one of; none: no extra arguments.
    pub extra_args: Vec<String>,
    /// Variables that are not secret.
    pub env: BTreeMap<String, String>,
    /// Working directory: absolute, or below the person's home where it begins with `{home}`.
    pub cwd: String,
    /// Who may use it.
    pub access: Access,
    /// The only scope: more than one is refused, as nothing would keep their tools apart.
    pub scope: Scope,
}

/// How sensitive what a server reaches is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// Test data; the only tier that needs no helper and no sandbox.
    Development,
}

impl Tier {
    /// The word in files and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Development => "development",
        }
    }
}

/// `[access]`: who may use a server. Both empty: nobody.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Names of accounts.
    pub users: Vec<String>,
    /// Names of groups.
    pub groups: Vec<String>,
}

/// `[scope.NAME]`.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Its name.
    pub name: Label,
    /// What it needs.
    pub credentials: Vec<CredentialSpec>,
    /// How that reaches the instance.
    pub inject: Vec<Injection>,
}

/// `credential.NAME = { provider = …, … }`.
#[derive(Clone)]
pub struct CredentialSpec {
    /// Its name in the scope.
    pub name: Label,
    /// The provider's name.
    pub provider: Label,
    /// The longest life without renewal.
    pub ttl: Duration,
    /// The kind's own keys, parsed by the kind; the provider asks for its own type.
    pub settings: Arc<dyn Any + Send + Sync>,
}

impl fmt::Debug for CredentialSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CredentialSpec({} from {})", self.name, self.provider)
    }
}
