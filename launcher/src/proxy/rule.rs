//! What may pass in each direction. Pure. Only a complete JSON object is a message: anything else on the
//! server's output would break the client, and anything else to the server could hide a message.

use serde::de::IgnoredAny;

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;
/// The longest line of diagnostics; longer ones are split.
pub const MAX_DIAGNOSTIC: usize = 64 << 10;

/// The rule of a direction.
#[derive(Debug, Clone, Copy)]
pub enum Rule {
    /// Messages to the server.
    FromClient {
        /// The longest message, in bytes.
        max_line: usize,
    },
    /// Messages to the client.
    FromServer {
        /// The longest message, in bytes.
        max_line: usize,
    },
    /// The server's standard error: everything passes, long lines in pieces.
    Diagnostics {
        /// The longest piece, in bytes.
        max_line: usize,
    },
}

/// What happens to a line.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes, with its first so many bytes.
    Pass(usize),
    /// It does not.
    Drop(Drop),
}

/// Why a line does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// No JSON object.
    NotMessage,
    /// Not UTF-8.
    NotText,
    /// Nothing in it.
    Empty,
    /// Longer than allowed.
    TooLong,
}

impl Drop {
    /// How many there are.
    pub const COUNT: usize = 4;
    /// All of them, in the order of their numbers, with the words for a person.
    pub const WORDS: [&'static str; Self::COUNT] = ["not a JSON object", "not UTF-8", "empty", "too long"];
}

impl Rule {
    /// The longest line.
    #[must_use]
    pub fn max_line(self) -> usize {
        match self {
            Self::FromClient { max_line }
            | Self::FromServer { max_line }
            | Self::Diagnostics { max_line } => max_line,
        }
    }

    /// Whether longer lines are split instead of dropped.
    #[must_use]
    pub fn splits(self) -> bool {
        matches!(self, Self::Diagnostics { .. })
    }

    /// Judges a complete line without its line feed.
    #[must_use]
    pub fn judge(self, line: &mut [u8]) -> Verdict {
        match self {
            Self::Diagnostics { .. } => Verdict::Pass(line.len()),
            Self::FromServer { .. } => message(line),
            Self::FromClient { .. } => {
                let length = tame_returns(line);
                message(line.get(..length).unwrap_or_default())
            }
        }
    }
}

/// Takes one carriage return off the end and makes every other a blank; answers the new length. In JSON
/// a raw one can only be white space (RFC 8259 section 2), but some servers take it for the end of a line
/// and would read a second message out of the first.
fn tame_returns(line: &mut [u8]) -> usize {
    let length = line.len() - usize::from(line.ends_with(b"\r"));
    let mut from = 0;
    while let Some(at) = line.get(from..length).and_then(|rest| memchr::memchr(b'\r', rest)) {
        if let Some(byte) = line.get_mut(from + at) {
            *byte = b' ';
        }
        from += at + 1;
    }
    length
}

fn message(line: &[u8]) -> Verdict {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let Some(first) = line.iter().find(|byte| !blank(byte)) else { return Verdict::Drop(Drop::Empty) };
    let Ok(text) = std::str::from_utf8(line) else { return Verdict::Drop(Drop::NotText) };
    if *first == b'{' && serde_json::from_str::<IgnoredAny>(text).is_ok() {
        Verdict::Pass(line.len())
    } else {
        Verdict::Drop(Drop::NotMessage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(rule: Rule, line: &str, want: Verdict, left: &str) {
        let mut bytes = line.as_bytes().to_vec();
        let verdict = rule.judge(&mut bytes);
        if let Verdict::Pass(length) = verdict {
            assert_eq!(bytes.get(..length), Some(left.as_bytes()), "{line:?}");
        }
        assert_eq!(verdict, want, "{line:?}");
    }

    #[test]
    fn messages() {
        let rule = Rule::FromServer { max_line: 100 };
        for line in ["{}", " {\"a\":[1,{\"b\":null}]} ", "{\"a\":1,\"a\":2}", "{\"\\u0065\":1e9}"] {
            check(rule, line, Verdict::Pass(line.len()), line);
        }
        for line in
            ["x", "[]", "1", "null", "\"{}\"", "{", "{}}", "{} {}", "{\"a\":01}", "{a:1}", "\u{feff}{}"]
        {
            check(rule, line, Verdict::Drop(Drop::NotMessage), "");
        }
        for line in ["", " ", "\t\r"] {
            check(rule, line, Verdict::Drop(Drop::Empty), "");
        }
        let deep = format!("{}{}", "{\"a\":".repeat(5000), "1".to_owned() + &"}".repeat(5000));
        check(rule, &deep, Verdict::Pass(deep.len()), &deep);
    }

    #[test]
    fn carriage_returns_to_the_server() {
        let rule = Rule::FromClient { max_line: 100 };
        check(rule, "{}\r", Verdict::Pass(2), "{}");
        check(rule, "{}\r\r", Verdict::Pass(3), "{} ");
        check(rule, "{\"a\":\r1}", Verdict::Pass(8), "{\"a\": 1}");
        check(rule, "{\"a\":\"\\r\"}", Verdict::Pass(10), "{\"a\":\"\\r\"}");
    }
}
