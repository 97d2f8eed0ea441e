//! Every reason that a decision can have: a closed set, for the audit log as tags and for people as words.
//! Holds names of groups and positions of arguments, never an argument's text.

use std::fmt;

use mcp_broker_proto::problem::ErrorCode;
use serde::Serialize;

/// The outcome of one step of a decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// The server is approved.
    KnownServer,
    /// No server of that name is approved.
    UnknownServer,
    /// The broker can serve what is so sensitive.
    TierAllowed {
        /// The tier's word.
        tier: &'static str,
    },
    /// `access.users` names the account.
    UserListed,
    /// `access.groups` names one of the account's groups.
    GroupListed {
        /// The group.
        group: String,
    },
    /// `[access]` names nobody at all.
    NobodyListed,
    /// `[access]` names others only.
    NotListed,
    /// None was given.
    NoExtraArguments,
    /// Each one matches a pattern of `extra_args`.
    ExtraArgumentsAllowed {
        /// How many there are.
        count: usize,
    },
    /// The definition has no `extra_args`.
    ExtraArgumentsForbidden,
    /// One matches no pattern of `extra_args`.
    ExtraArgumentNotAllowed {
        /// Which, from 1.
        position: usize,
    },
}

impl Reason {
    /// The refusal that this reason alone is enough for; `None` where it speaks for the launch.
    #[must_use]
    pub fn denies(&self) -> Option<ErrorCode> {
        match self {
            Self::KnownServer
            | Self::TierAllowed { .. }
            | Self::UserListed
            | Self::GroupListed { .. }
            | Self::NoExtraArguments
            | Self::ExtraArgumentsAllowed { .. } => None,
            Self::UnknownServer => Some(ErrorCode::UnknownServer),
            Self::NobodyListed | Self::NotListed => Some(ErrorCode::NoAccess),
            Self::ExtraArgumentsForbidden | Self::ExtraArgumentNotAllowed { .. } => {
                Some(ErrorCode::ArgumentsNotAllowed)
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::KnownServer => f.write_str("the server is approved"),
            Self::UnknownServer => f.write_str("no server of that name is approved"),
            Self::TierAllowed { tier } => write!(f, "tier `{tier}` can be served"),
            Self::UserListed => f.write_str("`access.users` lists the account"),
            Self::GroupListed { group } => write!(f, "`access.groups` lists group `{group}`"),
            Self::NobodyListed => f.write_str("[access] lists nobody"),
            Self::NotListed => f.write_str("[access] lists neither the account nor a group of it"),
            Self::NoExtraArguments => f.write_str("no extra arguments were given"),
            Self::ExtraArgumentsAllowed { count } => {
                write!(f, "`extra_args` allows each of {count} arguments")
            }
            Self::ExtraArgumentsForbidden => f.write_str("the definition allows no extra arguments"),
            Self::ExtraArgumentNotAllowed { position } => {
                write!(f, "no pattern of `extra_args` matches extra argument {position}")
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a reason that has no JSON must fail the test")]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        let json = |reason: Reason| serde_json::to_string(&reason).unwrap();
        assert_eq!(json(Reason::NotListed), r#"{"reason":"not_listed"}"#);
        let group = Reason::GroupListed { group: "data".to_owned() };
        assert_eq!(json(group), r#"{"reason":"group_listed","group":"data"}"#);
    }
}
