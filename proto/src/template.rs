//! Value templates, `postgres://{db.username|url}:{db.password|url}@host/db`: parsed once, rendered into
//! a [`Secret`]. `{{` and `}}` stand for the braces themselves. Unknown credentials, fields and filters are errors, never blanks.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zeroize::Zeroize;

use crate::Secret;
use crate::names::Label;

/// A template that was parsed: every filter exists, every placeholder is `credential.field`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    source: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Field { credential: Label, field: String, filter: Option<Filter> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Filter {
    /// Percent-encoding of everything but the unreserved characters (RFC 3986 section 2.3).
    Url,
    /// The inside of a JSON string (RFC 8259 section 7), without the quotes.
    Json,
    /// Standard alphabet with padding (RFC 4648 section 4).
    Base64,
}

/// Names of the filters, for messages.
pub const FILTERS: &[&str] = &["url", "json", "base64"];

/// Why a template was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TemplateError {
    /// A `{` without its `}`, or a `}` without its `{`.
    Unbalanced,
    /// Not `credential.field` between the braces.
    Placeholder(String),
    /// A filter that does not exist.
    Filter(String),
    /// The scope has no credential of that name.
    UnknownCredential(String),
    /// The credential has no field of that name.
    UnknownField(String, String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbalanced => f.write_str("unbalanced brace; write `{{` or `}}` for a brace itself"),
            Self::Placeholder(text) => write!(f, "`{{{text}}}` is not `{{credential.field}}`"),
            Self::Filter(name) => write!(f, "unknown filter `{name}`; there are {}", FILTERS.join(", ")),
            Self::UnknownCredential(name) => write!(f, "the scope has no credential `{name}`"),
            Self::UnknownField(name, field) => write!(f, "credential `{name}` has no field `{field}`"),
        }
    }
}

impl std::error::Error for TemplateError {}

impl Template {
    /// The fields that the template reads, as `(credential, field)`.
    pub fn fields(&self) -> impl Iterator<Item = (&Label, &str)> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Field { credential, field, .. } => Some((credential, field.as_str())),
        })
    }

    /// The constant parts between the fields.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(text) => Some(text.as_str()),
            Part::Field { .. } => None,
        })
    }

    /// Fills the template in. `credentials` maps a credential's name to its fields.
    ///
    /// # Errors
    /// Where a credential or a field is not there.
    pub fn render(
        &self,
        credentials: &BTreeMap<Label, BTreeMap<String, Secret>>,
    ) -> Result<Secret, TemplateError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => push(&mut out, text),
                Part::Field { credential, field, filter } => {
                    let fields = credentials
                        .get(credential)
                        .ok_or_else(|| TemplateError::UnknownCredential(credential.to_string()))?;
                    let value = fields
                        .get(field)
                        .ok_or_else(|| TemplateError::UnknownField(credential.to_string(), field.clone()))?;
                    // EXPOSE: the rendered value, which is a Secret itself; intermediate text is wiped.
                    value.expose(|text| match filter {
                        None => push(&mut out, text),
                        Some(filter) => {
                            let mut filtered = filter.apply(text);
                            push(&mut out, &filtered);
                            filtered.zeroize();
                        }
                    });
                }
            }
        }
        Ok(Secret::new(out))
    }
}

/// Appends without leaving an old, smaller buffer behind unwiped.
fn push(out: &mut String, text: &str) {
    if out.capacity() - out.len() < text.len() {
        let mut grown = String::with_capacity((out.len() + text.len()) * 2);
        grown.push_str(out);
        out.zeroize();
        *out = grown;
    }
    out.push_str(text);
}

impl Filter {
    fn apply(self, text: &str) -> String {
        // Room for the worst case, so that no partial copy is left behind by growing.
        let mut out = String::with_capacity(text.len() * 6 + 4);
        match self {
            Self::Url => url(text, &mut out),
            Self::Json => json(text, &mut out),
            Self::Base64 => base64(text.as_bytes(), &mut out),
        }
        out
    }
}

fn hex_digit(nibble: u8) -> char {
    char::from_digit(u32::from(nibble & 15), 16).unwrap_or('0').to_ascii_uppercase()
}

fn url(text: &str, out: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push(hex_digit(byte >> 4));
            out.push(hex_digit(byte));
        }
    }
}

pub(crate) fn json(text: &str, out: &mut String) {
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if u32::from(c) < 0x20 => {
                let byte = u8::try_from(u32::from(c)).unwrap_or(0);
                out.push_str("\\u00");
                out.push(hex_digit(byte >> 4));
                out.push(hex_digit(byte));
            }
            c => out.push(c),
        }
    }
}

fn base64(bytes: &[u8], out: &mut String) {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4u32 {
            let index = usize::try_from(word >> (18 - 6 * i) & 63).unwrap_or(0);
            let symbol = ALPHABET.get(index).copied().unwrap_or(b'=');
            let padding = usize::try_from(i).unwrap_or(0) > chunk.len();
            out.push(if padding { '=' } else { char::from(symbol) });
        }
    }
}

impl FromStr for Template {
    type Err = TemplateError;

    fn from_str(source: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = source;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            text.push_str(before);
            if let Some(after) = from.strip_prefix("{{") {
                text.push('{');
                rest = after;
            } else if let Some(after) = from.strip_prefix("}}") {
                text.push('}');
                rest = after;
            } else {
                let inside = from.strip_prefix('{').ok_or(TemplateError::Unbalanced)?;
                let (inside, after) = inside.split_once('}').ok_or(TemplateError::Unbalanced)?;
                if !text.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut text)));
                }
                parts.push(placeholder(inside)?);
                rest = after;
            }
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text));
        }
        Ok(Self { source: source.to_owned(), parts })
    }
}

fn placeholder(inside: &str) -> Result<Part, TemplateError> {
    let bad = || TemplateError::Placeholder(inside.to_owned());
    let (path, filter) = match inside.split_once('|') {
        None => (inside, None),
        Some((path, "url")) => (path, Some(Filter::Url)),
        Some((path, "json")) => (path, Some(Filter::Json)),
        Some((path, "base64")) => (path, Some(Filter::Base64)),
        Some((_, other)) => return Err(TemplateError::Filter(other.to_owned())),
    };
    let (credential, field) = path.split_once('.').ok_or_else(bad)?;
    let credential = credential.parse().map_err(|_not_a_label| bad())?;
    let word = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    if field.is_empty() || !field.chars().all(word) {
        return Err(bad());
    }
    Ok(Part::Field { credential, field: field.to_owned(), filter })
}

impl TryFrom<String> for Template {
    type Error = TemplateError;
    fn try_from(text: String) -> Result<Self, TemplateError> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> String {
        template.source
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    fn render(template: &str, value: &str) -> Result<String, TemplateError> {
        let fields = BTreeMap::from([("pw".to_owned(), Secret::new(value.to_owned()))]);
        let credentials = BTreeMap::from([("db".parse().unwrap(), fields)]);
        template.parse::<Template>()?.render(&credentials).map(|s| s.expose(str::to_owned))
    }

    #[test]
    fn filters() {
        for (template, value, want) in [
            ("x", "", "x"),
            ("{db.pw}", "a b", "a b"),
            ("p:{db.pw|url}@", "a/b:ü~", "p:a%2Fb%3A%C3%BC~@"),
            ("{{\"p\":\"{db.pw|json}\"}}", "q\"\\\u{1}\n", "{\"p\":\"q\\\"\\\\\\u0001\\n\"}"),
            ("{db.pw|base64}", "", ""),
            ("{db.pw|base64}", "f", "Zg=="),
            ("{db.pw|base64}", "fo", "Zm8="),
            ("{db.pw|base64}", "foo", "Zm9v"),
            ("{db.pw|base64}", "foob", "Zm9vYg=="),
        ] {
            assert_eq!(render(template, value).as_deref(), Ok(want), "{template}");
        }
    }

    #[test]
    fn mistakes() {
        for template in ["{", "}", "{db.pw", "a}b"] {
            assert_eq!(render(template, ""), Err(TemplateError::Unbalanced), "{template}");
        }
        for inside in ["", "db", "db.", ".pw", "db.p w", "DB.pw"] {
            let got = render(&format!("{{{inside}}}"), "");
            assert_eq!(got, Err(TemplateError::Placeholder(inside.into())));
        }
        assert_eq!(render("{db.pw|hex}", ""), Err(TemplateError::Filter("hex".into())));
        assert_eq!(render("{no.pw}", ""), Err(TemplateError::UnknownCredential("no".into())));
        assert_eq!(render("{db.no}", ""), Err(TemplateError::UnknownField("db".into(), "no".into())));
    }
}
