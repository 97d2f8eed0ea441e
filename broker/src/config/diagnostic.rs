//! What is wrong with a configuration file: where, what, and the cure. Collected, never thrown, so that
//! one `check` shows every mistake. Offending values are not repeated: one of them may be a secret.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::needs::Need;

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file.
    pub file: PathBuf,
    /// Line and column, both from 1, where the finding has a place in the text.
    pub place: Option<(usize, usize)>,
    /// Whether the configuration can be used all the same.
    pub severity: Severity,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do.
    pub hint: String,
}

/// Whether a finding stops the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The configuration is refused.
    Error,
    /// It works, but weaker than it could be.
    Warning,
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", printable(&self.file.display().to_string()))?;
        if let Some((line, column)) = self.place {
            write!(f, ":{line}:{column}")?;
        }
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, ": {word}: {}\n  hint: {}", printable(&self.message), self.hint)
    }
}

/// Names of files and keys are quoted in messages: control characters in them must not reach a terminal.
fn printable(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    Cow::Owned(text.chars().map(escape).collect())
}

/// Collects the findings of one file.
pub struct Sink {
    file: PathBuf,
    text: String,
    found: RefCell<Vec<Diagnostic>>,
    damaged: Cell<bool>,
    /// Lines with a syntax error: what is found on them besides follows from it.
    damaged_lines: RefCell<BTreeSet<usize>>,
    /// Secrets that tables of the file name.
    needs: RefCell<Vec<Need>>,
    /// Every key that a reader asked for, as (path of the table, key): the schema is held against it.
    #[cfg(test)]
    asked: RefCell<BTreeSet<(String, String)>>,
}

impl Sink {
    /// For the file at `file` with the content `text`.
    #[must_use]
    pub fn new(file: &Path, text: String) -> Self {
        Self {
            file: file.to_owned(),
            text,
            found: RefCell::default(),
            damaged: Cell::default(),
            damaged_lines: RefCell::default(),
            needs: RefCell::default(),
            #[cfg(test)]
            asked: RefCell::default(),
        }
    }

    /// The content.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Notes an error at a place in the text.
    pub fn error(&self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Some(span), Severity::Error, message.into(), hint.into());
    }

    /// Notes a warning at a place in the text.
    pub fn warning(&self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.push(Some(span), Severity::Warning, message.into(), hint.into());
    }

    /// Notes an error of the file as a whole.
    pub fn file_error(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.push(None, Severity::Error, message.into(), hint.into());
    }

    /// Notes a warning about the file as a whole.
    pub fn file_warning(&self, message: impl Into<String>, hint: impl Into<String>) {
        self.push(None, Severity::Warning, message.into(), hint.into());
    }

    /// Notes a syntax error; from now on nothing can be told from what is absent.
    pub fn syntax_error(&self, span: Option<&Range<usize>>, message: &str) {
        self.push(span, Severity::Error, format!("not TOML: {message}"), SYNTAX_HINT.to_owned());
        self.damaged.set(true);
        if let Some(span) = span {
            let (line, _) = self.line_and_column(span.start);
            self.damaged_lines.borrow_mut().insert(line);
        }
    }

    /// Whether the syntax is broken.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.damaged.get()
    }

    #[cfg(test)]
    pub(crate) fn record(&self, path: &str, key: &str) {
        self.asked.borrow_mut().insert((path.to_owned(), key.to_owned()));
    }

    #[cfg(test)]
    pub(crate) fn asked(&self) -> BTreeSet<(String, String)> {
        self.asked.borrow().clone()
    }

    /// Notes that a table names a secret.
    pub(super) fn need(&self, need: Need) {
        self.needs.borrow_mut().push(need);
    }

    /// What secrets tables name, in the order in which they were read.
    pub(super) fn needs(&self) -> Vec<Need> {
        self.needs.borrow().clone()
    }

    /// What was found.
    #[must_use]
    pub fn into_found(self) -> Vec<Diagnostic> {
        self.found.into_inner()
    }

    /// Whether an error was found so far.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.found.borrow().iter().any(|d| d.severity == Severity::Error)
    }

    fn push(&self, span: Option<&Range<usize>>, severity: Severity, message: String, hint: String) {
        let place = span.map(|span| self.line_and_column(span.start));
        if place.is_some_and(|(line, _)| self.damaged_lines.borrow().contains(&line)) {
            return;
        }
        self.found.borrow_mut().push(Diagnostic { file: self.file.clone(), place, severity, message, hint });
    }

    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let column = before.get(line_start..).unwrap_or("").chars().count() + 1;
        (before.matches('\n').count() + 1, column)
    }
}

const SYNTAX_HINT: &str =
    "see the TOML description at https://toml.io/en/v1.0.0; texts stand in double quotes";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rendering() {
        let sink = Sink::new(Path::new("a\nb"), "ü = 1\nxü = 2".to_owned());
        sink.error(&(11..12), "bad \u{1b}[31mkey", "do");
        sink.file_warning("odd", "so");
        let rendered: Vec<_> = sink.into_found().iter().map(ToString::to_string).collect();
        assert_eq!(
            rendered,
            ["a\\nb:2:4: error: bad \\u{1b}[31mkey\n  hint: do", "a\\nb: warning: odd\n  hint: so"]
        );
    }
}
