//! Escapes as tokens: what they stand for, and where in the text that was. Reads more than JSON has, as what is
//! searched may be quoted by any language; what is no escape stands for itself.

use std::ops::Range;

/// One way of writing characters as others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Escape {
    /// With a backslash: JSON (RFC 8259 section 7), and what other languages and shells make of it.
    Backslash,
    /// With a percent sign (RFC 3986 section 2.1).
    Percent,
}

/// A piece of text that stands for up to four bytes.
struct Token {
    /// Bytes of the text.
    length: usize,
    means: [u8; 4],
    /// How many of those.
    count: usize,
}

impl Escape {
    pub(super) fn mark(self) -> u8 {
        match self {
            Self::Backslash => b'\\',
            Self::Percent => b'%',
        }
    }

    /// What the text stands for. Never longer than the text.
    pub(super) fn decode(self, text: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = memchr::memchr(self.mark(), rest) {
            let (plain, marked) = rest.split_at(at);
            out.extend_from_slice(plain);
            let token = self.token(marked);
            out.extend(token.means.iter().take(token.count));
            rest = marked.get(token.length..).unwrap_or_default();
        }
        out.extend_from_slice(rest);
        out
    }

    /// Finds ranges of the decoded text, in order and apart from each other, in the text: whole tokens.
    pub(super) fn locate(self, text: &[u8], ranges: &mut [Range<usize>]) {
        let mut ranges = ranges.iter_mut();
        let Some(mut range) = ranges.next() else { return };
        let mut begun = false;
        // Places in the text and in what it stands for.
        let (mut at, mut decoded) = (0, 0);
        while at < text.len() {
            let rest = text.get(at..).unwrap_or_default();
            let plain = memchr::memchr(self.mark(), rest).unwrap_or(rest.len());
            let (length, count, token) = match plain {
                0 => {
                    let token = self.token(rest);
                    (token.length, token.count, true)
                }
                plain => (plain, plain, false),
            };
            // One run of plain text may hold several ranges.
            loop {
                if !begun && range.start < decoded + count {
                    range.start = if token { at } else { at + (range.start - decoded) };
                    begun = true;
                }
                if !begun || range.end > decoded + count {
                    break;
                }
                range.end = if token { at + length } else { at + (range.end - decoded) };
                begun = false;
                match ranges.next() {
                    Some(next) => range = next,
                    None => return,
                }
            }
            at += length;
            decoded += count;
        }
    }

    /// The length of the token at the beginning of a text that is not empty.
    pub(super) fn length(self, text: &[u8]) -> usize {
        match text.first() {
            Some(first) if *first == self.mark() => self.token(text).length,
            _ => 1,
        }
    }

    /// What the text, which begins with the mark, stands for at its beginning.
    fn token(self, text: &[u8]) -> Token {
        let itself = Token::of(1, &[self.mark()]);
        let byte = |from: usize| hexadecimal(text.get(from..from + 2)?).and_then(|n| u8::try_from(n).ok());
        match (self, text.get(1)) {
            (Self::Percent, _) => byte(1).map_or(itself, |byte| Token::of(3, &[byte])),
            (Self::Backslash, Some(b'x')) => byte(2).map_or(itself, |byte| Token::of(4, &[byte])),
            (Self::Backslash, Some(b'u')) => unicode(text).unwrap_or(itself),
            (Self::Backslash, Some(letter)) => {
                letter_means(*letter).map_or(itself, |byte| Token::of(2, &[byte]))
            }
            (Self::Backslash, None) => itself,
        }
    }
}

impl Token {
    fn of(length: usize, bytes: &[u8]) -> Self {
        let mut means = [0; 4];
        means.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Self { length, means, count: bytes.len() }
    }
}

/// What a letter behind a backslash stands for, where it needs nothing more.
fn letter_means(letter: u8) -> Option<u8> {
    match letter {
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'b' => Some(8),
        b'f' => Some(12),
        letter if letter.is_ascii_graphic() && !letter.is_ascii_alphanumeric() || letter == b' ' => {
            Some(letter)
        }
        _ => None,
    }
}

/// `\u` with four digits, a pair of such for what needs one, or digits in braces.
fn unicode(text: &[u8]) -> Option<Token> {
    let (length, code) = match text.get(2) {
        Some(b'{') => {
            let digits = text.get(3..)?.iter().take(7).position(|byte| *byte == b'}')?;
            (digits + 4, hexadecimal(text.get(3..3 + digits)?)?)
        }
        _ => {
            let unit = |from: usize| hexadecimal(text.get(from..from + 4)?);
            let pair = || text.get(6..8).filter(|next| *next == b"\\u").and_then(|_| unit(8));
            match unit(2)? {
                high @ 0xd800..0xdc00 => match pair() {
                    Some(low @ 0xdc00..0xe000) => (12, 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00)),
                    _ => (6, high),
                },
                code => (6, code),
            }
        }
    };
    // Half of a pair stands for nothing that could be part of a secret, as those are text.
    let character = char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER);
    Some(Token::of(length, character.encode_utf8(&mut [0; 4]).as_bytes()))
}

fn hexadecimal(digits: &[u8]) -> Option<u32> {
    let digit = |sum: u32, byte: &u8| Some(sum << 4 | char::from(*byte).to_digit(16)?);
    if digits.is_empty() { None } else { digits.iter().try_fold(0, digit) }
}

/// Bytes that an escape could hide.
pub(super) struct Hidden {
    bytes: [bool; 256],
    beyond_ascii: bool,
}

impl Hidden {
    /// Those of the needles.
    pub(super) fn of<'a>(needles: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut bytes = [false; 256];
        for byte in needles.flatten() {
            if let Some(slot) = bytes.get_mut(usize::from(*byte)) {
                *slot = true;
            }
        }
        Self { bytes, beyond_ascii: bytes.iter().skip(128).any(|there| *there) }
    }

    /// Whether a needle may stand in the text behind such escapes, or behind several layers of them. A no is sure.
    pub(super) fn may_be_in(&self, text: &[u8], escape: Escape) -> bool {
        let mark = escape.mark();
        let mut rest = text;
        while let Some(at) = memchr::memchr(mark, rest) {
            rest = rest.get(at..).unwrap_or_default();
            // Escaped once more, the mark of an escape is repeated: what follows the last is what counts.
            let run = if escape == Escape::Backslash {
                rest.iter().take_while(|byte| **byte == mark).count()
            } else {
                1
            };
            rest = rest.get(run - 1..).unwrap_or_default();
            let token = escape.token(rest);
            let means = token.means.get(..token.count).unwrap_or_default();
            // A token of one byte is no escape, and hides nothing; but the mark itself can be what is escaped.
            if (token.length > 1 && self.matter(means)) || (run > 1 && self.has(mark)) {
                return true;
            }
            rest = rest.get(token.length..).unwrap_or_default();
        }
        false
    }

    fn matter(&self, means: &[u8]) -> bool {
        match means {
            // Marks of further layers.
            [b'\\' | b'%'] => true,
            [byte] => self.has(*byte),
            _ => self.beyond_ascii,
        }
    }

    fn has(&self, byte: u8) -> bool {
        self.bytes.get(usize::from(byte)).is_some_and(|there| *there)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_escapes_stand_for() {
        for (text, want) in [
            (r#"a\"\\\/\n\r\t\b\f\'\$"#, "a\"\\/\n\r\t\u{8}\u{c}'$"),
            (r"\u0041\u00e9\u20ac\ud83d\ude00|\ud83d|\ude00", "Aé€😀|\u{fffd}|\u{fffd}"),
            (r"\ud83d\u0041\u{1f600}\u{e9}\x41", "\u{fffd}A😀éA"),
            (r"\d\w\u12\u{}\u{1234567}\x4\", r"\d\w\u12\u{}\u{1234567}\x4\"),
            ("%41%4", "%41%4"),
        ] {
            assert_eq!(String::from_utf8_lossy(&Escape::Backslash.decode(text.as_bytes())), want, "{text}");
        }
        for (text, want) in
            [("%41%c3%A9%2", "Aé%2"), ("%%41 100% %zz", "%A 100% %zz"), (r"\u0041", r"\u0041")]
        {
            assert_eq!(String::from_utf8_lossy(&Escape::Percent.decode(text.as_bytes())), want, "{text}");
        }
    }

    /// Each part of the decoded text is found where it came from.
    #[test]
    fn places() {
        let text = br"ab\n\u00e9cd\ud83d\ude00%41e\\f";
        for (escape, whole) in [(Escape::Backslash, text.len()), (Escape::Percent, text.len())] {
            let decoded = escape.decode(text);
            for start in 0..decoded.len() {
                for end in start + 1..=decoded.len() {
                    let mut range = start..end;
                    escape.locate(text, std::slice::from_mut(&mut range));
                    assert!(range.end <= whole);
                    let again = escape.decode(text.get(range).unwrap_or_default());
                    let part = decoded.get(start..end).unwrap_or_default();
                    // Whole characters, where a part of one was asked for.
                    assert!(again.windows(part.len()).any(|window| window == part), "{start}..{end}");
                    assert!(again.len() < part.len() + 7, "{start}..{end}");
                }
            }
        }
        let mut ranges = [0..1, 1..2, 2..3, 5..6, 6..7];
        Escape::Backslash.locate(br"ab\n\tcde", &mut ranges);
        assert_eq!(ranges, [0..1, 1..2, 2..4, 7..8, 8..9]);
    }

    #[test]
    fn what_may_be_hidden() {
        let hidden = |needle: &str, text: &str, escape| {
            Hidden::of([needle.as_bytes()].into_iter()).may_be_in(text.as_bytes(), escape)
        };
        for (needle, text, want) in [
            ("abc", r#"{\"x\":\"\n\u00e9\u0078\"}"#, false),
            ("abc", r"\u0061", true),
            ("abc", r"\\u0061", true),
            ("abc", r"\\\\u0061", true),
            ("abc", r"\u005cu0061", true),
            ("abc", r"\\ \\n", false),
            ("abc", r"\/", false),
            ("a/c", r"\/", true),
            ("a/c", r"\\/", true),
            ("a\"c", r#"\""#, true),
            ("a\nc", r"x\\n", true),
            ("a\\c", r"\\", true),
            ("a\\c", r"\n", false),
            ("é", r"\u00e9", true),
            ("é", r"\u0041", false),
            ("abc", r"\u0025", true),
        ] {
            assert_eq!(hidden(needle, text, Escape::Backslash), want, "{needle} in {text}");
        }
        for (needle, text, want) in
            [("abc", "%61", true), ("abc", "%2561", true), ("abc", "%20 % %%", false), ("é", "%C3", true)]
        {
            assert_eq!(hidden(needle, text, Escape::Percent), want, "{needle} in {text}");
        }
    }
}
