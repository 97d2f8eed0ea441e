//! Why a launch is parked: what it is told, and what that is for its leases.

use mcp_broker_proto::channel::{EndReason, Park, ParkReason};
use mcp_broker_proto::session::LockCause;

use super::words;

/// A reason to park a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Its session is locked.
    Locked(LockCause, &'static str),
    /// Its session's parent token could not be kept alive.
    ParentLost,
    /// A credential of it ends for good.
    CredentialEnded,
    /// The broker stops; the launcher comes back to the next one.
    BrokerStopping,
}

impl Why {
    /// What the launcher is told.
    pub(super) fn frame(self) -> Park {
        let (reason, what, hint) = match self {
            Self::Locked(cause, way_back) => (ParkReason::Locked, words::locked_by(cause), way_back),
            Self::ParentLost => (
                ParkReason::CredentialUnavailable,
                "the credential provider could not be reached in time",
                "it is tried again by itself; `mcp-run doctor` says how the provider does",
            ),
            Self::CredentialEnded => (
                ParkReason::CredentialUnavailable,
                "the credential could not be renewed any further",
                "a new one is asked for by itself",
            ),
            Self::BrokerStopping => (
                ParkReason::CredentialUnavailable,
                "the broker stopped",
                "the server comes back with the broker by itself",
            ),
        };
        Park { reason, what: what.to_owned(), hint: hint.to_owned() }
    }

    /// Why its leases end.
    pub(super) fn reason(self) -> EndReason {
        match self {
            Self::Locked(..) => EndReason::Locked,
            Self::ParentLost => EndReason::ParentLost,
            Self::CredentialEnded => EndReason::CredentialEnded,
            Self::BrokerStopping => EndReason::BrokerStopping,
        }
    }
}
