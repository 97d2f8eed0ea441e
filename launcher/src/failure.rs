//! What ends `mcp-run` without the server having a say: exit code, what happened, what to do.
//! It may hold a name, a path or a code, never a value that was injected.

use mcp_broker_proto::problem::Problem;

/// The command line or the launch request cannot be understood (sysexits(3) `EX_USAGE`).
pub const USAGE: u8 = 64;
/// The broker or a provider cannot be reached (`EX_UNAVAILABLE`).
pub const UNAVAILABLE: u8 = 69;
/// Try again later (`EX_TEMPFAIL`).
pub const AGAIN: u8 = 75;
/// Refused by policy, or not signed in (`EX_NOPERM`).
pub const REFUSED: u8 = 77;
/// Something is configured wrongly (`EX_CONFIG`).
pub const CONFIG: u8 = 78;

/// An error for a person, with its cure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit code of the program.
    pub exit: u8,
    /// What happened: lower case, no full stop.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl Failure {
    /// A failure with its cure.
    #[must_use]
    pub fn new(exit: u8, what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { exit, what: what.into(), hint: hint.into() }
    }

    /// A failure of this machine that has no cure but its own words.
    #[must_use]
    pub fn system(doing: &str, error: impl Into<std::io::Error>) -> Self {
        let what = format!("cannot {doing}: {}", error.into());
        Self::new(UNAVAILABLE, what, "run `mcp-run doctor`; it checks what a launch needs")
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self { exit: problem.code.exit_code(), what: problem.title, hint: problem.hint }
    }
}
