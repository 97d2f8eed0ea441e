//! Why a mint failed, as its person is told, and what is left to do about what it may have made.

use std::time::Duration;

use mcp_broker_proto::problem::{ErrorCode, Problem};

use crate::provider::{Blame, MINT_LIMIT, MintRequest, ProviderError, REST};

/// A mint that failed.
pub(super) struct Failure {
    /// What the person is told.
    pub(super) problem: Problem,
    /// How long the backend may need to come to rest before its handle is revoked.
    pub(super) rest: Duration,
    /// Whether somebody else had what was made.
    pub(super) incident: bool,
}

impl Failure {
    /// One after which something may still be running at the backend.
    pub(super) fn unclear(problem: Problem) -> Self {
        Self { rest: REST, ..problem.into() }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { problem, rest: Duration::ZERO, incident: false }
    }
}

impl From<ProviderError> for Failure {
    fn from(error: ProviderError) -> Self {
        let rest = if error.is_passing() { REST } else { Duration::ZERO };
        Self { problem: error.to_problem(), rest, incident: error.blame == Blame::Incident }
    }
}

pub(super) fn internal() -> Problem {
    Problem::new(ErrorCode::Internal, "the broker failed to mint", "read the broker's log, and report it")
}

pub(super) fn fenced() -> Problem {
    let hint = "see `mcp-run status`, then start the server again";
    Problem::new(ErrorCode::PeerGone, "the launch ended while its credential was being minted", hint)
}

pub(super) fn too_slow(request: &MintRequest) -> Problem {
    let title =
        format!("provider `{}` did not answer within {} s", request.spec.provider, MINT_LIMIT.as_secs());
    Problem::new(
        ErrorCode::ProviderUnreachable,
        title,
        "run `mcp-run doctor`; try again when it is reachable",
    )
}
