//! What a command answers with: text for standard output, text for standard error, an exit code. The only
//! place that prints.

use std::io::Write;
use std::process::ExitCode;

use mcp_broker_proto::problem::Problem;

use crate::config::diagnostic::{Diagnostic, Severity};

/// A command's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Data, for standard output.
    pub(crate) out: String,
    /// Messages, for standard error.
    pub(crate) err: String,
    /// Exit code.
    pub(crate) code: u8,
}

/// It worked.
pub(crate) const EXIT_OK: u8 = 0;
/// The command line is wrong (sysexits(3), `EX_USAGE`).
pub(crate) const EXIT_USAGE: u8 = 64;
/// Policy refuses (sysexits(3), `EX_NOPERM`).
pub(crate) const EXIT_REFUSED: u8 = 77;
/// The configuration is wrong (sysexits(3), `EX_CONFIG`).
pub(crate) const EXIT_CONFIG: u8 = 78;

impl Report {
    /// All is well.
    pub(crate) fn success(out: String) -> Self {
        Self { out, err: String::new(), code: 0 }
    }

    /// Data, with an exit code that says more.
    pub(crate) fn data(out: String, code: u8) -> Self {
        Self { out, err: String::new(), code }
    }

    /// The findings of a configuration that was refused, and how many there are.
    pub(crate) fn refused_configuration(found: &[Diagnostic]) -> Self {
        let warnings = found.iter().filter(|finding| finding.severity == Severity::Warning).count();
        let (errors, warnings) = (counted(found.len() - warnings, "error"), counted(warnings, "warning"));
        let mut err: String = found.iter().map(|finding| format!("{finding}\n")).collect();
        err.push_str(&format!("mcp-broker: the configuration is refused: {errors}, {warnings}\n"));
        Self { out: String::new(), err, code: EXIT_CONFIG }
    }

    /// Data for programs, one line a top-level value, indented.
    pub(crate) fn json(value: &impl serde::Serialize) -> Self {
        // Serialising the wire types into memory cannot fail.
        Self::success(serde_json::to_string_pretty(value).unwrap_or_default() + "\n")
    }

    /// What happened, and what to do.
    pub(crate) fn failure(code: u8, what: &str, hint: &str) -> Self {
        Self { out: String::new(), err: format!("mcp-broker: {what}\nhint: {hint}\n"), code }
    }

    /// A broker's own refusal.
    pub(crate) fn problem(problem: &Problem) -> Self {
        Self::failure(problem.code.exit_code(), &problem.title, &problem.hint)
    }

    /// Prints both texts.
    pub(crate) fn print(self) -> ExitCode {
        // A reader that is gone is not our trouble.
        drop(std::io::stdout().write_all(self.out.as_bytes()));
        drop(std::io::stderr().write_all(self.err.as_bytes()));
        ExitCode::from(self.code)
    }
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
