//! SQL statements as an admin writes them, with places for a role's name, its password and its end. What is put
//! there brings its own quotes; nothing is ever put between quotes that are there already.

use std::fmt;
use std::str::FromStr;

/// A statement, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    /// As it was written.
    pub(super) text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Place(Place),
}

/// What a place stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `{name}`: the role as an identifier.
    Name,
    /// `{name|literal}`: the role as a text.
    NameLiteral,
    /// `{password}`: the SCRAM verifier of its password, as a text.
    Password,
    /// `{until}`: when its password stops working, as a text.
    Until,
}

/// Why a text is no statement. Goes on from the key's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NotAStatement(String);

impl fmt::Display for NotAStatement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is put into the places.
pub(super) struct Values<'a> {
    pub(super) name: &'a str,
    pub(super) verifier: &'a str,
    pub(super) until: &'a str,
}

impl Statement {
    /// Whether it has such a place.
    pub(super) fn has(&self, place: Place) -> bool {
        self.pieces.contains(&Piece::Place(place))
    }

    /// The statement to send.
    pub(super) fn render(&self, values: &Values<'_>) -> String {
        let rendered = self.pieces.iter().map(|piece| match piece {
            Piece::Text(text) => text.clone(),
            Piece::Place(Place::Name) => identifier(values.name),
            Piece::Place(Place::NameLiteral) => literal(values.name),
            Piece::Place(Place::Password) => literal(values.verifier),
            Piece::Place(Place::Until) => literal(values.until),
        });
        rendered.collect()
    }
}

impl FromStr for Statement {
    type Err = NotAStatement;

    fn from_str(text: &str) -> Result<Self, NotAStatement> {
        let refuse = |what: &str| Err(NotAStatement(what.to_owned()));
        if text.trim().is_empty() || text.contains('\0') || text.len() > MAX_STATEMENT {
            return refuse("is empty, has a NUL in it, or is longer than 16 KiB");
        }
        let (mut pieces, mut plain, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            plain.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                plain.push_str(from.get(..1).unwrap_or_default());
                rest = after;
                continue;
            }
            let Some((word, after)) = from.strip_prefix('{').and_then(|inside| inside.split_once('}')) else {
                return refuse("has a brace without its other half; `{{` and `}}` stand for braces");
            };
            let Some((_, place)) = PLACES.iter().find(|(name, _)| *name == word) else {
                let what = format!("has `{{{word}}}`, which stands for nothing");
                return Err(NotAStatement(what));
            };
            if plain.ends_with(['\'', '"']) || after.starts_with(['\'', '"']) {
                return refuse("has quotes around a place, which brings its own");
            }
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
            pieces.push(Piece::Place(*place));
            rest = after;
        }
        plain.push_str(rest);
        pieces.push(Piece::Text(plain));
        Ok(Self { text: text.to_owned(), pieces })
    }
}

/// A name in double quotes (PostgreSQL manual, section 4.1.1).
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text in single quotes (section 4.1.2.1); with a backslash in it, in the form whose meaning does not hang on
/// `standard_conforming_strings`.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// Longer ones are refused, in bytes.
const MAX_STATEMENT: usize = 16 << 10;

const PLACES: &[(&str, Place)] = &[
    ("name", Place::Name),
    ("name|literal", Place::NameLiteral),
    ("password", Place::Password),
    ("until", Place::Until),
];

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const VALUES: Values<'_> =
        Values { name: "a\"b'c", verifier: "SCRAM-SHA-256$1:x", until: "2026-01-01T00:00:00Z" };

    #[test]
    fn what_is_put_in_is_quoted() {
        for (text, want) in [
            ("DROP ROLE {name}", "DROP ROLE \"a\"\"b'c\""),
            ("SELECT f({name|literal})", "SELECT f('a\"b''c')"),
            (
                "PASSWORD {password} VALID UNTIL {until}",
                "PASSWORD 'SCRAM-SHA-256$1:x' VALID UNTIL '2026-01-01T00:00:00Z'",
            ),
            ("SELECT '{{1,2}}'::int[]", "SELECT '{1,2}'::int[]"),
        ] {
            assert_eq!(text.parse::<Statement>().unwrap().render(&VALUES), want);
        }
        assert_eq!(literal("a\\'b"), " E'a\\\\''b'");
    }

    #[test]
    fn what_would_be_spliced_is_refused() {
        for (text, want) in [
            ("", "is empty"),
            ("DROP ROLE \"{name}\"", "brings its own"),
            ("PASSWORD '{password}'", "brings its own"),
            ("PASSWORD {password}'", "brings its own"),
            ("DROP ROLE {nam}", "`{nam}`"),
            ("DROP ROLE {name", "without its other half"),
            ("DROP ROLE name}", "without its other half"),
        ] {
            let error = text.parse::<Statement>().unwrap_err().to_string();
            assert!(error.contains(want), "{text}: {error}");
        }
    }
}
