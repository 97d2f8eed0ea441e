//! Errors on the wire: RFC 9457 problem details with a stable `code` and the cure as `hint`.
//! A problem holds names and codes, never a body, a token or a provider's reply text.

use serde::{Deserialize, Serialize};

/// Media type of a [`Problem`] (RFC 9457 section 3).
pub const MEDIA_TYPE: &str = "application/problem+json";

/// What went wrong, as programs know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request cannot be understood, or is too large.
    BadRequest,
    /// There is no such route.
    NotFound,
    /// The launcher speaks another revision of the protocol.
    ProtocolVersion,
    /// No server of that name is approved.
    UnknownServer,
    /// The person may not use that server.
    NoAccess,
    /// The definition does not allow extra arguments.
    ArgumentsNotAllowed,
    /// Something that is not built yet would be needed.
    NotBuilt,
    /// There is no signed-in session.
    NotSignedIn,
    /// The session is locked.
    SessionLocked,
    /// The process that asks belongs to no login session, or it is not clear to which.
    NoLoginSession,
    /// The login sessions of this machine cannot be seen.
    LoginsUnseen,
    /// What was to be ended is not there.
    NothingThere,
    /// The process that asked is gone.
    PeerGone,
    /// Too many launches or connections of this person.
    TooMany,
    /// The broker stops.
    Stopping,
    /// The provider cannot be reached, or did not answer in time.
    ProviderUnreachable,
    /// The provider asks to come back later.
    ProviderBusy,
    /// The provider refused.
    ProviderRefused,
    /// The provider's answer cannot be used.
    ProviderBroken,
    /// A secret that the definition names is not in the store.
    SecretMissing,
    /// The audit log or the journal cannot be written.
    StorageUnavailable,
    /// The configuration is wrong.
    ConfigError,
    /// A defect of the broker.
    Internal,
}

impl ErrorCode {
    /// HTTP status (RFC 9110 section 15).
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest | Self::ProtocolVersion => 400,
            Self::NotFound | Self::UnknownServer | Self::NothingThere => 404,
            Self::NoAccess
            | Self::ArgumentsNotAllowed
            | Self::NotBuilt
            | Self::NotSignedIn
            | Self::NoLoginSession
            | Self::PeerGone
            | Self::ProviderRefused => 403,
            Self::SessionLocked => 423,
            Self::TooMany | Self::ProviderBusy => 429,
            Self::ProviderUnreachable | Self::ProviderBroken => 502,
            Self::Stopping | Self::StorageUnavailable | Self::LoginsUnseen => 503,
            Self::SecretMissing | Self::ConfigError | Self::Internal => 500,
        }
    }

    /// Whether waiting can cure it: then a launch that runs is parked instead of ended.
    #[must_use]
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Self::SessionLocked
                | Self::LoginsUnseen
                | Self::NotSignedIn
                | Self::TooMany
                | Self::Stopping
                | Self::ProviderUnreachable
                | Self::ProviderBusy
                | Self::ProviderRefused
                | Self::ProviderBroken
                | Self::SecretMissing
                | Self::StorageUnavailable
                | Self::Internal
        )
    }

    /// Exit code of `mcp-run` (sysexits(3) values, see `design` 6.1 in the README).
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Self::BadRequest | Self::NothingThere => 64,
            Self::ProviderUnreachable
            | Self::ProviderBroken
            | Self::StorageUnavailable
            | Self::Internal
            | Self::NotFound => 69,
            Self::TooMany | Self::ProviderBusy | Self::Stopping | Self::LoginsUnseen => 75,
            Self::NoAccess
            | Self::UnknownServer
            | Self::NotSignedIn
            | Self::SessionLocked
            | Self::NoLoginSession
            | Self::PeerGone
            | Self::NotBuilt
            | Self::ProviderRefused => 77,
            Self::ArgumentsNotAllowed => 64,
            Self::ProtocolVersion | Self::SecretMissing | Self::ConfigError => 78,
        }
    }
}

/// Body of every error answer, and of a refusal on the launch channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What happened, for a person: lower case, no full stop.
    pub title: String,
    /// [`ErrorCode::status`].
    pub status: u16,
    /// What happened, for programs.
    pub code: ErrorCode,
    /// What to do about it.
    pub hint: String,
}

impl Problem {
    /// A problem with its cure.
    #[must_use]
    pub fn new(code: ErrorCode, title: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { title: title.into(), status: code.status(), code, hint: hint.into() }
    }
}
