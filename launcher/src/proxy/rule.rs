//! What may pass in each direction. Pure. Only a complete JSON object is a message: anything else on the
//! server's output would break the client, and anything else to the server could hide a message.

use serde::de::IgnoredAny;
use serde_json::error::Category;

use super::message::{Message, id_of};

/// The longest message, in bytes.
pub const MAX_MESSAGE: usize = 16 << 20;
/// The longest line of diagnostics; longer ones are split.
pub const MAX_DIAGNOSTIC: usize = 64 << 10;

/// Why a line does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drop {
    /// No JSON.
    NotMessage,
    /// Not UTF-8.
    NotText,
    /// Nothing in it.
    Empty,
    /// Longer than allowed.
    TooLong,
    /// Its receiver is not there, or waits for nothing.
    Undelivered,
    /// JSON, but no object: a batch, which no revision since 2025-06-18 has, or nothing known.
    NotObject,
    /// An object that says two things at once: a name that stands there twice, a request that is an answer too.
    Ambiguous,
    /// More than is kept for its receiver, which does not read, or is to come.
    NotKept,
}

impl Drop {
    /// How many there are.
    pub const COUNT: usize = 8;
    /// All of them, in the order of their numbers, with the words for a person.
    pub const WORDS: [&'static str; Self::COUNT] = [
        "not JSON",
        "not UTF-8",
        "empty",
        "too long",
        "for a receiver that is gone",
        "not a JSON object",
        "ambiguous",
        "more than is kept for its receiver",
    ];

    /// The code and the words of JSON-RPC for it (JSON-RPC 2.0 section 5.1), where the line was a message to us
    /// that could not be understood.
    #[must_use]
    pub fn error(self) -> Option<(i32, &'static str)> {
        match self {
            Self::NotMessage | Self::NotText | Self::TooLong => Some((-32700, "parse error")),
            Self::NotObject | Self::Ambiguous => Some((-32600, "invalid request")),
            Self::Empty | Self::Undelivered | Self::NotKept => None,
        }
    }
}

/// A line from the client: carriage returns are tamed first.
///
/// # Errors
/// Why it does not pass.
pub fn from_client(line: &mut [u8]) -> Result<(&str, Message<'_>), Drop> {
    let length = tame_returns(line);
    message(line.get(..length).unwrap_or_default())
}

/// A line from the server: likewise, as there are such clients too.
///
/// # Errors
/// Why it does not pass.
pub fn from_server(line: &mut [u8]) -> Result<(&str, Message<'_>), Drop> {
    from_client(line)
}

/// The error that the client gets for a line of its own that was dropped, without a line feed; nothing where nobody
/// waits for one. It is under the id of the request, where the line is an object that has just one, else under none.
#[must_use]
pub fn answer(line: &[u8], why: Drop) -> Option<String> {
    let (code, words) = why.error()?;
    let error = serde_json::json!({ "code": code, "message": words });
    let id = std::str::from_utf8(line).ok().and_then(id_of).unwrap_or("null");
    Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#))
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

fn message(line: &[u8]) -> Result<(&str, Message<'_>), Drop> {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r');
    let first = line.iter().find(|byte| !blank(byte)).ok_or(Drop::Empty)?;
    let text = std::str::from_utf8(line).map_err(|_not_text| Drop::NotText)?;
    if *first != b'{' {
        let json = serde_json::from_str::<IgnoredAny>(text).is_ok();
        return Err(if json { Drop::NotObject } else { Drop::NotMessage });
    }
    // The words of the parser would quote the line.
    let message = Message::parse(text).map_err(|quotes| not_a_message(text, quotes.classify()))?;
    Ok((text, message))
}

/// What a line is that is no message: the parser stops at the first thing that is wrong, and there may be more.
fn not_a_message(line: &str, wrong: Category) -> Drop {
    let json = || serde_json::from_str::<IgnoredAny>(line).is_ok();
    if wrong == Category::Data && json() { Drop::Ambiguous } else { Drop::NotMessage }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    fn read(line: &[u8]) -> Result<String, Drop> {
        from_server(&mut line.to_vec()).map(|(text, _)| text.to_owned())
    }

    #[test]
    fn messages() {
        for line in ["{}", " {\"a\":[1,{\"b\":null}]} ", "{\"\\u0065\":1e9}"] {
            assert_eq!(read(line.as_bytes()), Ok(line.to_owned()));
        }
        for line in ["[]", " [{}]", "1", "null", "\"{}\"", "[{\"id\":1,\"method\":\"tools/call\"}]"] {
            assert_eq!(read(line.as_bytes()), Err(Drop::NotObject), "{line:?}");
        }
        for line in
            ["x", "[", "{", "{}}", "{} {}", "{\"a\":01}", "{a:1}", "\u{feff}{}", "{\"id\":1,\"id\":2,]"]
        {
            assert_eq!(read(line.as_bytes()), Err(Drop::NotMessage), "{line:?}");
        }
        for line in ["", " ", "\t\r"] {
            assert_eq!(read(line.as_bytes()), Err(Drop::Empty), "{line:?}");
        }
        assert_eq!(read(b"{\"a\":\"\xff\"}"), Err(Drop::NotText));
        let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        assert!(read(deep.as_bytes()).is_ok());
    }

    /// What the client is told of a line that did not pass.
    #[test]
    fn answers() {
        for (line, want) in [
            ("", None),
            ("x", Some((-32700, "null"))),
            ("\u{feff}{\"id\":1,\"method\":\"tools/list\"}", Some((-32700, "null"))),
            ("{\"id\":1,\"method\":\"a\"} {\"id\":2,\"method\":\"b\"}", Some((-32700, "null"))),
            ("{\"id\":1,\"method\":\"a\"", Some((-32700, "null"))),
            ("[{\"id\":1,\"method\":\"a\"}]", Some((-32600, "null"))),
            ("{\"id\":1,\"method\":\"a\",\"method\":\"b\"}", Some((-32600, "1"))),
            ("{\"id\":\"x\",\"method\":5}", Some((-32600, "\"x\""))),
            ("{\"id\":7,\"method\":\"a\",\"result\":{}}", Some((-32600, "7"))),
            ("{\"id\":7,\"id\":8,\"method\":\"a\"}", Some((-32600, "null"))),
            ("{\"id\":7,\"ID\":8,\"method\":\"a\"}", Some((-32600, "null"))),
            ("{\"id\":[7],\"method\":\"a\"}", Some((-32600, "null"))),
            ("{\"id\":true,\"method\":\"a\"}", Some((-32600, "null"))),
            (
                "{\"id\":9007199254740993,\"method\":\"a\",\"params\":{\"x\":1,\"x\":1}}",
                Some((-32600, "9007199254740993")),
            ),
        ] {
            let mut bytes = line.as_bytes().to_vec();
            let why = from_client(&mut bytes).unwrap_err();
            let got = answer(&bytes, why);
            let want = want.map(|(code, id)| {
                let words = if code == -32700 { "parse error" } else { "invalid request" };
                format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"{words}"}}}}"#)
            });
            assert_eq!(got, want, "{line}");
        }
        assert!(answer(b"\xff", Drop::NotText).unwrap().contains("-32700"));
        assert!(answer(b"", Drop::TooLong).unwrap().contains("-32700"));
    }

    #[test]
    fn carriage_returns_to_the_server() {
        for (line, want) in [
            ("{}\r", "{}"),
            ("{}\r\r", "{} "),
            ("{\"a\":\r1}", "{\"a\": 1}"),
            ("{\"a\":\r{\"b\":1}\r}\r", "{\"a\": {\"b\":1} }"),
            ("{\"a\":\"\\r\"}", "{\"a\":\"\\r\"}"),
        ] {
            assert_eq!(
                from_client(&mut line.as_bytes().to_vec()).map(|(text, _)| text.to_owned()),
                Ok(want.to_owned())
            );
        }
    }
}
