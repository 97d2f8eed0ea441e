//! What the audit log may hold of a call: types that can be made of nothing else. Names and arguments come from
//! clients and models, so they are checked before they can stand in a line.

use mcp_broker_proto::MAX_AUDITED_ARGUMENTS;
use serde::{Serialize, Serializer};

/// A tool's name: not empty, without control characters, at most [`ToolName::LONGEST`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ToolName(String);

impl ToolName {
    /// The longest that is written down, in bytes.
    pub const LONGEST: usize = 256;

    /// The name, where it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let sound = !text.is_empty() && text.len() <= Self::LONGEST && !text.chars().any(char::is_control);
        sound.then(|| Self(text.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A SHA-256 digest of a call's arguments, as a launcher sent it. Whoever knows a digest can try arguments against
/// it, so it is written down only after it went through [`super::AuditLog::digest`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlainDigest(pub(super) [u8; 32]);

impl PlainDigest {
    /// Reads 64 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() || !rest.is_empty() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = digit(*high)? << 4 | digit(*low)?;
        }
        Some(Self(bytes))
    }
}

/// HMAC-SHA-256 (RFC 2104) of such a digest, under the key of this installation's log: equal arguments have equal
/// ones, and nobody without the key can find out which arguments those were.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyedDigest(pub(super) [u8; 32]);

impl Serialize for KeyedDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{self:?}"))
    }
}

impl std::fmt::Debug for KeyedDigest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The arguments of a call, where the definition says that they are written down: a JSON object, at most
/// [`MAX_AUDITED_ARGUMENTS`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Arguments(String);

impl Arguments {
    /// The text, where it is that.
    #[must_use]
    pub fn parse(text: String) -> Option<Self> {
        // JSON text has control characters only as white space (RFC 8259 section 2), so that its length in a line
        // is bounded as well.
        let short = text.len() <= MAX_AUDITED_ARGUMENTS;
        let object = || {
            serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok() && text.trim_start().starts_with('{')
        };
        (short && object()).then_some(Self(text))
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "what cannot be made must fail the test")]
mod tests {
    use super::*;

    #[test]
    fn names_of_tools() {
        for good in ["a", "execute_sql", "Größe/2", &"x".repeat(ToolName::LONGEST)] {
            assert_eq!(ToolName::parse(good).map(|name| name.as_str().to_owned()).as_deref(), Some(good));
        }
        for bad in ["", "a\nb", "a\u{1b}[2J", "a\u{9b}2J", "\0", &"x".repeat(ToolName::LONGEST + 1)] {
            assert_eq!(ToolName::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn digests() {
        let text = "00ff1aB2".repeat(8);
        assert_eq!(PlainDigest::parse(&text).unwrap().0, [0, 0xff, 0x1a, 0xb2].repeat(8).as_slice());
        for bad in
            ["", "0", &"0".repeat(63), &"0".repeat(65), &"0".repeat(66), &"0g".repeat(32), &"+1".repeat(32)]
        {
            assert_eq!(PlainDigest::parse(bad), None, "{bad}");
        }
        let shown = serde_json::to_string(&KeyedDigest([0xa0; 32])).unwrap();
        assert_eq!(shown, format!("\"{}\"", "a0".repeat(32)));
    }

    #[test]
    fn arguments() {
        for good in ["{}", " {\"a\":\"\\u0000\"}\n"] {
            assert!(Arguments::parse(good.to_owned()).is_some(), "{good}");
        }
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_AUDITED_ARGUMENTS));
        for bad in ["", "{", "[1]", "1", "{}{}", "{\"a\":\"\n\"}", &long] {
            assert_eq!(Arguments::parse(bad.to_owned()), None, "{}", bad.len());
        }
    }
}
