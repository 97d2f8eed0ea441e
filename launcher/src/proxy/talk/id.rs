//! The id of a request as something to look it up by: the same id however it is spelled. A number never goes
//! through a float, as peers use ids beyond 2^53.

use std::borrow::Cow;

/// How the ids begin that the relay gives out, as JSON: nobody else may use such.
const OWN: &str = "\"mcp-run:";

/// An id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    /// An integer.
    Number(i64),
    /// Anything else, as canonical JSON.
    Text(Box<str>),
}

impl Id {
    /// From raw JSON.
    #[must_use]
    pub fn of(raw: &str) -> Self {
        if let Ok(number) = raw.parse() {
            return Self::Number(number);
        }
        // Peers write a string back with other escapes, and `1.0` as `1`.
        if raw.contains('\\') {
            let text =
                serde_json::from_str::<Cow<'_, str>>(raw).and_then(|text| serde_json::to_string(&text));
            return Self::Text(text.map_or_else(|_| raw.into(), Into::into));
        }
        match raw.split_once('.') {
            Some((whole, zeros)) if !zeros.is_empty() && zeros.bytes().all(|digit| digit == b'0') => {
                whole.parse().map_or_else(|_| Self::Text(raw.into()), Self::Number)
            }
            _ => Self::Text(raw.into()),
        }
    }

    /// Whether it is one of those that the relay gives out itself.
    #[must_use]
    pub fn is_own(&self) -> bool {
        matches!(self, Self::Text(text) if text.starts_with(OWN))
    }

    /// As JSON.
    #[must_use]
    pub fn raw(&self) -> Cow<'_, str> {
        match self {
            Self::Number(number) => number.to_string().into(),
            Self::Text(text) => text.as_ref().into(),
        }
    }

    /// Memory that it holds beside itself, in bytes.
    #[must_use]
    pub fn weight(&self) -> usize {
        match self {
            Self::Number(_) => 0,
            Self::Text(text) => text.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (one, other) in [("1", "1.0"), (r#""a/b""#, r#""a\/b""#), (r#""é""#, r#""\u00e9""#), ("-7", "-7")]
        {
            assert_eq!(Id::of(one), Id::of(other), "{one} {other}");
        }
        for (one, other) in
            [("1", "\"1\""), ("9007199254740993", "9007199254740992"), ("1", "1.5"), (r#""a""#, r#""A""#)]
        {
            assert_ne!(Id::of(one), Id::of(other), "{one} {other}");
        }
        for (raw, own) in
            [(r#""mcp-run:list:1""#, true), (r#""\u006dcp-run:""#, true), (r#""mcp""#, false), ("7", false)]
        {
            assert_eq!(Id::of(raw).is_own(), own, "{raw}");
        }
        for raw in ["9007199254740993", r#""a\"b""#, "123456789012345678901234567890", "1e3"] {
            assert_eq!(Id::of(raw).raw(), raw);
        }
    }
}
