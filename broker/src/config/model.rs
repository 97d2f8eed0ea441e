//! The configuration in its parsed form: what the rest of the broker knows of the files. A value of these
//! types cannot be wrong in itself; whether providers can be reached is found out later.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::names::{Label, ServerName};
use mcp_broker_proto::plan::ClientRequest;

use super::granted::Scope;
use super::sections::{BrokerSection, ProviderSection, SessionSection};

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
    /// Its scopes in the order of the file; never none. The first one answers what belongs to no tool.
    pub scopes: Vec<Scope>,
    /// Whether its instances wait for a request that needs them.
    pub start: Start,
    /// What happens when it says a secret.
    pub on_leak: OnLeak,
    /// What it may ask of the client.
    pub client_requests: BTreeSet<ClientRequest>,
}

impl ServerDefinition {
    /// A scope by its name.
    #[must_use]
    pub fn scope(&self, name: &Label) -> Option<&Scope> {
        self.scopes.iter().find(|scope| scope.name == *name)
    }
}

/// When the instances of a server start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// When a request needs them; what discovery asks is answered from the approval record, where there is one.
    Lazy,
    /// With the launch.
    Eager,
}

/// What happens when a server's words hold a secret of its launch. The client never sees it either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnLeak {
    /// It is masked.
    Mask,
    /// It is masked, and the launch ends.
    End,
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

    /// Whether a launch ends whose server shows tools otherwise than they were approved; such tools are hidden
    /// either way.
    #[must_use]
    pub fn refuses_changed_tools(self) -> bool {
        match self {
            Self::Development => false,
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

/// `limits = { … }` of a scope, defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls in any minute.
    pub calls_per_minute: Option<u32>,
    /// Calls at once.
    pub concurrent_calls: Option<u32>,
    /// Longest answer, in bytes of its line.
    pub result_size: u64,
    /// Longest arguments, in bytes of JSON.
    pub argument_size: u64,
}

/// The longest message that the relay takes, in bytes: what a limit of sizes is where none is written.
pub const LONGEST_MESSAGE: u64 = 16 << 20;

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls_per_minute: None,
            concurrent_calls: None,
            result_size: LONGEST_MESSAGE,
            argument_size: LONGEST_MESSAGE,
        }
    }
}

/// `confirm` of a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confirm {
    /// Every call.
    Each,
    /// A yes holds so long, for the scope in that session.
    For(Duration),
}

/// `arguments.PATTERN = { … }` of a scope: rules for the arguments of the tools that the pattern names.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolRules {
    /// The pattern.
    pub tools: String,
    /// Rules by name of argument. A rule says no to a call that lacks the argument.
    pub rules: BTreeMap<String, ArgumentRule>,
}

/// What one argument may be: all that is there must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ArgumentRule {
    /// This value.
    pub equals: Option<serde_json::Value>,
    /// A text that the pattern matches.
    pub glob: Option<String>,
    /// One of these values.
    pub one_of: Option<Vec<serde_json::Value>>,
    /// A number up to this one.
    pub max: Option<serde_json::Number>,
    /// A call without the argument is as good.
    pub optional: bool,
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
