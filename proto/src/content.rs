//! What a private file holds: a text as it is, dotenv lines, or a JSON object. Values come out of every reader of the
//! format as they went in, or the file is not written.

use std::collections::BTreeMap;
use std::fmt;

use zeroize::Zeroizing;

use crate::Secret;
use crate::launch::Content;
use crate::names::Label;
use crate::template::{Template, TemplateError};

/// Why the content of a file cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContentError {
    /// A template does not fit the credentials.
    Template(TemplateError),
    /// Readers of dotenv files disagree about the value of this name, however it is written.
    Ambiguous(String),
}

impl fmt::Display for ContentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Template(error) => error.fmt(f),
            Self::Ambiguous(name) => {
                write!(f, "no form of the value of `{name}` means the same to all readers of dotenv files")
            }
        }
    }
}

impl std::error::Error for ContentError {}

impl From<TemplateError> for ContentError {
    fn from(error: TemplateError) -> Self {
        Self::Template(error)
    }
}

type Credentials = BTreeMap<Label, BTreeMap<String, Secret>>;

impl Content {
    /// Makes the content of the file. `credentials` maps a credential's name to its fields.
    ///
    /// # Errors
    /// Where a credential or a field is not there, or a value cannot be written in the format.
    pub fn render(&self, credentials: &Credentials) -> Result<Secret, ContentError> {
        match self {
            Self::Text(value) => Ok(value.render(credentials)?),
            Self::Dotenv(values) => dotenv(&rendered(values, credentials)?),
            Self::Json(values) => Ok(secret(json(&rendered(values, credentials)?))),
        }
    }
}

fn rendered<'n>(
    values: &'n BTreeMap<String, Template>,
    credentials: &Credentials,
) -> Result<Vec<(&'n str, Secret)>, TemplateError> {
    values.iter().map(|(name, value)| Ok((name.as_str(), value.render(credentials)?))).collect()
}

/// Hands the text on without a copy that nobody wipes.
fn secret(mut text: Zeroizing<String>) -> Secret {
    Secret::new(std::mem::take(&mut *text))
}

/// What one byte becomes at most: `\u0000`.
const STRETCH: usize = 6;
/// The most that stands around a name and its value.
const AROUND: usize = 8;

/// A buffer that the values fit into in any form: growing would leave unwiped copies behind.
fn room(values: &[(&str, Secret)]) -> Zeroizing<String> {
    let sizes = values.iter().map(|(name, value)| STRETCH * (name.len() + value.len()) + AROUND);
    Zeroizing::new(String::with_capacity(sizes.sum::<usize>() + AROUND))
}

fn json(values: &[(&str, Secret)]) -> Zeroizing<String> {
    let mut out = room(values);
    out.push('{');
    for (index, (name, value)) in values.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        json_text(&mut out, name);
        out.push(':');
        // EXPOSE: the content, which is a Secret itself.
        value.expose(|text| json_text(&mut out, text));
    }
    out.push_str("}\n");
    out
}

/// A JSON string (RFC 8259 section 7).
fn json_text(out: &mut String, text: &str) {
    out.push('"');
    crate::template::json(text, out);
    out.push('"');
}

fn dotenv(values: &[(&str, Secret)]) -> Result<Secret, ContentError> {
    let mut out = room(values);
    for (name, value) in values {
        out.push_str(name);
        out.push('=');
        // EXPOSE: as above.
        let written = value.expose(|text| dotenv_value(&mut out, text));
        written.ok_or_else(|| ContentError::Ambiguous((*name).to_owned()))?;
        out.push('\n');
    }
    Ok(secret(out))
}

/// Writes a value in a form that npm's dotenv 16 and 17 and python-dotenv 1 both read back as it was; the plainest
/// that there is, as some readers take quotes for a part of the value. Nothing where there is no such form.
///
/// In single quotes npm's takes everything as it stands, python's takes a backslash before another one or a quote
/// away. In double quotes npm's knows `\n` and `\r`, python's every escape of its language. Outside of quotes both
/// strip blanks at the ends, and npm's ends at a `#`. `${` means another variable to python's wherever it stands.
fn dotenv_value(out: &mut String, text: &str) -> Option<()> {
    let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.contains("${") || text.contains(control) {
        return None;
    }
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./:@%+,=".contains(&byte)) {
        out.push_str(text);
    } else if !text.contains(['\'', '\r']) && !text.contains("\\\\") && !text.ends_with('\\') {
        quoted(out, '\'', text);
    } else if !text.contains('"') && keeps_backslashes(text) {
        quoted(out, '"', text);
    } else if is_plain(text) {
        out.push_str(text);
    } else {
        return None;
    }
    Some(())
}

fn quoted(out: &mut String, quote: char, text: &str) {
    out.push(quote);
    for c in text.chars() {
        match c {
            // Readers make a line feed of a bare one. In single quotes there is none.
            '\r' => out.push_str("\\r"),
            c => out.push(c),
        }
    }
    out.push(quote);
}

/// Whether each backslash of a text stands for itself in double quotes.
fn keeps_backslashes(text: &str) -> bool {
    let behind = text.split('\\').skip(1);
    behind.into_iter().all(|rest| {
        !rest.is_empty() && !rest.starts_with(['\'', '"', 'a', 'b', 'f', 'n', 'r', 't', 'v', '\r'])
    })
}

/// Whether a text stands for itself outside of quotes.
fn is_plain(text: &str) -> bool {
    let blank = |c: char| c.is_whitespace() || c == '\u{feff}';
    !text.starts_with(['\'', '"', '`'])
        && !text.starts_with(blank)
        && !text.ends_with(blank)
        && !text.contains(['#', '\n', '\r', '\u{2028}', '\u{2029}'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dotenv_of(value: &str) -> Option<String> {
        let made = dotenv(&[("K", Secret::new(value.to_owned()))]).ok()?;
        Some(made.expose(str::to_owned))
    }

    #[test]
    fn forms_of_dotenv_values() {
        for (value, want) in [
            ("", Some("K=\n")),
            ("plain-1.2:3/4@5%6+7,8=9_", Some("K=plain-1.2:3/4@5%6+7,8=9_\n")),
            ("a b", Some("K='a b'\n")),
            (" # $x \"q\" `b`", Some("K=' # $x \"q\" `b`'\n")),
            ("a\nb\n", Some("K='a\nb\n'\n")),
            ("a\\xb", Some("K='a\\xb'\n")),
            ("it's $5", Some("K=\"it's $5\"\n")),
            ("a\r\nb", Some("K=\"a\\r\nb\"\n")),
            ("a\\\\b", Some("K=a\\\\b\n")),
            ("end\\", Some("K=end\\\n")),
            ("it's \"a\"", Some("K=it's \"a\"\n")),
            ("it's \"a\" #1", None),
            ("'\"", None),
            ("it's \\n", Some("K=it's \\n\n")),
            ("it's\n\"a\"", None),
            ("a\\\\#", None),
            ("${HOME}", None),
            ("a\u{7}", None),
            ("a\0", None),
        ] {
            assert_eq!(dotenv_of(value).as_deref(), want, "{value:?}");
        }
    }

    #[test]
    fn objects() {
        let value = "a\"b\\c\nd\u{1}é";
        let made = json(&[("k \"", Secret::new(value.to_owned())), ("l", Secret::new(String::new()))]);
        assert_eq!(*made, "{\"k \\\"\":\"a\\\"b\\\\c\\nd\\u0001é\",\"l\":\"\"}\n");
    }

    #[test]
    fn buffers_never_grow() {
        let values = [("K", Secret::new("\u{1}".repeat(100))), ("L", Secret::new("\r".repeat(100)))];
        let size = room(&values).capacity();
        assert_eq!(json(&values).capacity(), size);
    }
}
