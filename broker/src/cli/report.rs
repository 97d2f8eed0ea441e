//! What a command answers with: text for standard output, text for standard error, an exit code. The only
//! place that prints.

use std::io::{ErrorKind, Write};
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
/// The broker, or what it needs, cannot be reached (sysexits(3), `EX_UNAVAILABLE`).
pub(crate) const EXIT_UNAVAILABLE: u8 = 69;
/// Standard output could not be written (sysexits(3), `EX_IOERR`).
pub(crate) const EXIT_IO: u8 = 74;
/// Policy or the system refuses (sysexits(3), `EX_NOPERM`).
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

    /// The same with `note` before what it says on standard error.
    pub(crate) fn after(self, note: &str) -> Self {
        Self { err: format!("{note}{}", self.err), ..self }
    }

    /// Prints both texts.
    pub(crate) fn print(self) -> ExitCode {
        ExitCode::from(self.write(&mut std::io::stdout(), &mut std::io::stderr()))
    }

    /// Writes both texts; answers with the exit code. An answer that did not arrive is no success, unless
    /// its reader left on purpose.
    fn write(self, out: &mut dyn Write, err: &mut dyn Write) -> u8 {
        let wrote = out.write_all(self.out.as_bytes()).and_then(|()| out.flush());
        // There is nowhere left to say that this one failed.
        drop(err.write_all(self.err.as_bytes()));
        match wrote {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let what = format!("cannot write the answer to standard output: {error}");
                let report = Self::failure(EXIT_IO, &what, "see where standard output leads to");
                drop(err.write_all(report.err.as_bytes()));
                if self.code == EXIT_OK { EXIT_IO } else { self.code }
            }
            _ => self.code,
        }
    }
}

/// Characters spelled out that would act on a terminal or hide something from whoever reads it.
pub(crate) fn printable(text: &str) -> String {
    let spell = |c: char| if is_unseen(c) { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(spell).collect()
}

/// Whether a character is a control, or has no shape of its own: it changes the direction of others (UAX #9), has no
/// width, ends a line, or carries text that nobody sees (tags, variation selectors).
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{fe00}'..='\u{fe0f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// `1 error`, `2 errors`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as it is told; counts as a full disk or a pipe whose reader left.
    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(self.0.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn check(kind: ErrorKind, code: u8) -> (u8, String) {
        let mut err = Vec::new();
        let code = Report::data("data\n".to_owned(), code).write(&mut Failing(kind), &mut err);
        (code, String::from_utf8_lossy(&err).into_owned())
    }

    #[test]
    fn an_answer_that_does_not_arrive_is_no_success() {
        let (code, said) = check(ErrorKind::StorageFull, 0);
        assert_eq!(code, 74);
        assert!(
            said.starts_with("mcp-broker: cannot write the answer") && said.contains("\nhint: "),
            "{said}"
        );
        assert_eq!(check(ErrorKind::StorageFull, 75).0, 75);
    }

    #[test]
    fn a_reader_that_left_is_a_quiet_end() {
        assert_eq!(check(ErrorKind::BrokenPipe, 0), (0, String::new()));
    }

    #[test]
    fn control_characters_are_spelled_out() {
        assert_eq!(printable("a\u{1b}[2J\u{9b}ü\t\n"), "a\\u{1b}[2J\\u{9b}ü\\t\\n");
    }

    #[test]
    fn what_hides_or_turns_text_is_spelled_out() {
        for c in
            "\u{ad}\u{61c}\u{200b}\u{200f}\u{2028}\u{2029}\u{202e}\u{2060}\u{2066}\u{206f}\u{feff}\u{e0041}"
                .chars()
        {
            let spelled = format!("a\\u{{{:x}}}b", u32::from(c));
            assert_eq!(printable(&format!("a{c}b")), spelled);
        }
        assert_eq!(printable("a – ‹b› \u{2027}…"), "a – ‹b› \u{2027}…");
    }
}
