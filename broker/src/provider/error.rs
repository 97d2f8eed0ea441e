//! Why a provider could not do something, split by who can cure it. Holds names, codes and cures; never a
//! body, a token or the provider's own text, which may quote a secret.

use std::time::Duration;

use mcp_broker_proto::problem::{ErrorCode, Problem};

/// Who must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The backend cannot be reached, or did not answer in time.
    Unreachable,
    /// The backend asks to come back later, after so long where it says so.
    Busy(Option<Duration>),
    /// The backend refused.
    Refused,
    /// The answer cannot be used.
    Broken,
    /// The broker's own identity there is not accepted.
    Identity,
    /// The configuration names something that is not there.
    Config,
    /// A secret is not in the store.
    Missing,
    /// Somebody else has had what was made for the broker: an incident, which is audited.
    Incident,
}

/// A failure with its cure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}")]
pub struct ProviderError {
    /// Who must act.
    pub blame: Blame,
    /// What happened: lower case, no full stop, names the provider.
    pub what: String,
    /// What to do.
    pub hint: String,
}

impl ProviderError {
    /// A failure with its cure.
    #[must_use]
    pub fn new(blame: Blame, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { blame, what: what.into(), hint: hint.into() }
    }

    /// Whether the same call may succeed later without anybody doing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        matches!(self.blame, Blame::Unreachable | Blame::Busy(_) | Blame::Broken)
    }

    /// The rendering for the person.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let code = match self.blame {
            Blame::Unreachable => ErrorCode::ProviderUnreachable,
            Blame::Busy(_) => ErrorCode::ProviderBusy,
            Blame::Refused | Blame::Identity | Blame::Incident => ErrorCode::ProviderRefused,
            Blame::Broken => ErrorCode::ProviderBroken,
            Blame::Config => ErrorCode::ConfigError,
            Blame::Missing => ErrorCode::SecretMissing,
        };
        Problem::new(code, self.what.clone(), self.hint.clone())
    }
}
