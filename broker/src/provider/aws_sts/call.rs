//! The calls of STS that make a credential: what each is called, takes and gives.

use std::time::Duration;

/// Which call of STS makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    AssumeRole,
    WebIdentity,
    SessionToken,
    FederationToken,
}

impl Call {
    /// As in the configuration and in messages.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::AssumeRole => "assume-role",
            Self::WebIdentity => "assume-role-with-web-identity",
            Self::SessionToken => "get-session-token",
            Self::FederationToken => "get-federation-token",
        }
    }

    /// The longest life that the API reference allows; a role may allow less.
    pub(super) fn longest(self) -> Duration {
        match self {
            Self::AssumeRole | Self::WebIdentity => Duration::from_secs(12 * 3600),
            Self::SessionToken | Self::FederationToken => Duration::from_secs(36 * 3600),
        }
    }

    /// Keys of a credential that are nothing to it.
    pub(super) fn refuses(self) -> &'static [&'static str] {
        match self {
            Self::AssumeRole => &[],
            // Identity and tags of such a session are in the token.
            Self::WebIdentity => &["external_id", "tags", "transitive_tags", "source_identity"],
            Self::SessionToken => &[
                "role_arn",
                "external_id",
                "policy",
                "policy_file",
                "policy_arns",
                "tags",
                "transitive_tags",
                "source_identity",
                "time_limit",
            ],
            Self::FederationToken => &["role_arn", "external_id", "transitive_tags", "source_identity"],
        }
    }
}
