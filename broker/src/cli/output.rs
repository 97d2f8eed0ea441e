//! What a command answers with: text for the two streams and an exit code. Prints nothing itself.

use crate::config::diagnostic::{Diagnostic, Severity};

/// The result of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Output {
    /// Data; ends with a line feed unless empty.
    pub(crate) stdout: String,
    /// What went wrong and the cures; ends with a line feed unless empty.
    pub(crate) stderr: String,
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

impl Output {
    /// Data on standard output.
    pub(crate) fn data(stdout: String, code: u8) -> Self {
        Self { stdout, stderr: String::new(), code }
    }

    /// A failure with its cure.
    pub(crate) fn failure(code: u8, message: &str, hint: &str) -> Self {
        let stderr = format!("mcp-broker: {message}\nhint: {hint}\n");
        Self { stdout: String::new(), stderr, code }
    }

    /// The findings of a configuration that was refused, and how many there are.
    pub(crate) fn refused_configuration(found: &[Diagnostic]) -> Self {
        let warnings = found.iter().filter(|finding| finding.severity == Severity::Warning).count();
        let (errors, warnings) = (counted(found.len() - warnings, "error"), counted(warnings, "warning"));
        let mut stderr: String = found.iter().map(|finding| format!("{finding}\n")).collect();
        stderr.push_str(&format!("mcp-broker: the configuration is refused: {errors}, {warnings}\n"));
        Self { stdout: String::new(), stderr, code: EXIT_CONFIG }
    }
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}
