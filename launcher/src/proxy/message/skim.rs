//! JSON as most peers write it, gone through once and kept as it stands: where strings, values and members begin and
//! end, by the grammar of RFC 8259 and nothing beside it. Whatever is rare is given up as nothing, and is then read
//! by the parser of serde_json, whose word counts: nothing is taken here that it would not take the same way.

/// Values in values that are followed; what is deeper is rare.
const MAX_DEPTH: usize = 64;

/// A place in a text.
#[derive(Clone, Copy)]
pub struct Skim<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Skim<'a> {
    /// At the beginning of a text.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// How many bytes were gone through.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    /// What stands between this place and a later one.
    #[must_use]
    pub fn upto(&self, later: &Self) -> Option<&'a str> {
        self.text.get(self.at..later.at)
    }

    /// The next byte that is no white space (RFC 8259 section 2).
    #[must_use]
    #[inline]
    pub fn peek(&mut self) -> Option<u8> {
        match self.byte()? {
            0..=b' ' => self.behind_blanks(),
            byte => Some(byte),
        }
    }

    /// Most peers write none.
    #[cold]
    fn behind_blanks(&mut self) -> Option<u8> {
        loop {
            let byte = self.byte()?;
            if !matches!(byte, b' ' | b'\t' | b'\n' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
    }

    /// Nothing follows but white space.
    #[must_use]
    pub fn ends(mut self) -> bool {
        self.peek().is_none()
    }

    /// Goes over a string without escapes: what it says.
    #[must_use]
    pub fn plain(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at + 1;
        let escapes = self.string()?;
        self.text.get(start..self.at - 1).filter(|_| !escapes)
    }

    /// Goes over any value: as it stands there.
    #[must_use]
    pub fn value(&mut self) -> Option<&'a str> {
        self.peek()?;
        let start = self.at;
        self.pass(MAX_DEPTH)?;
        self.text.get(start..self.at)
    }

    /// Goes over an object, whose names have no escapes. `member` has to go over each value.
    #[must_use]
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, &'a str) -> Option<()>) -> Option<()> {
        self.sign(b'{')?;
        if self.peek()? == b'}' {
            return self.sign(b'}');
        }
        loop {
            let name = self.plain()?;
            self.sign(b':')?;
            member(self, name)?;
            if !self.more(b'}')? {
                return Some(());
            }
        }
    }

    /// Goes over an array. `element` has to go over each value.
    #[must_use]
    pub fn array(&mut self, mut element: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        self.sign(b'[')?;
        if self.peek()? == b']' {
            return self.sign(b']');
        }
        loop {
            element(self)?;
            if !self.more(b']')? {
                return Some(());
            }
        }
    }

    #[inline]
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn sign(&mut self, sign: u8) -> Option<()> {
        (self.peek()? == sign).then(|| self.at += 1)
    }

    /// Goes over a comma, or over what closes a list of members or elements: whether there are more.
    #[inline]
    fn more(&mut self, close: u8) -> Option<bool> {
        let byte = self.peek()?;
        self.at += 1;
        (byte == b',' || byte == close).then_some(byte == b',')
    }

    fn pass(&mut self, depth: usize) -> Option<()> {
        match self.peek()? {
            b'"' => self.string().map(drop),
            b'{' => self.members(depth.checked_sub(1)?),
            b'[' => {
                let depth = depth.checked_sub(1)?;
                self.array(|skim| skim.pass(depth))
            }
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.number(),
        }
    }

    /// Goes over an object, whatever its names are.
    fn members(&mut self, depth: usize) -> Option<()> {
        self.sign(b'{')?;
        if self.peek()? == b'}' {
            return self.sign(b'}');
        }
        loop {
            self.peek()?;
            self.string()?;
            self.sign(b':')?;
            self.pass(depth)?;
            if !self.more(b'}')? {
                return Some(());
            }
        }
    }

    /// Goes over a string, from its quote to its quote: whether it has escapes.
    #[inline]
    fn string(&mut self) -> Option<bool> {
        let (quote, mut rest) = self.text.as_bytes().get(self.at..)?.split_first()?;
        if *quote != b'"' {
            return None;
        }
        let mut escapes = false;
        loop {
            let found = plain(rest);
            let (first, after) = rest.get(found..)?.split_first()?;
            match first {
                b'"' => {
                    self.at = self.text.len() - after.len();
                    return Some(escapes);
                }
                b'\\' => rest = escaped(after)?,
                _ => return None,
            }
            escapes = true;
        }
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.text.as_bytes().get(self.at..)?.starts_with(word.as_bytes()).then(|| self.at += word.len())
    }

    fn number(&mut self) -> Option<()> {
        self.at += usize::from(self.byte()? == b'-');
        let zero = self.byte()? == b'0';
        let whole = self.digits()?;
        (!zero || whole == 1).then_some(())?;
        if self.byte() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            self.at += 1;
            self.at += usize::from(matches!(self.byte(), Some(b'+' | b'-')));
            self.digits()?;
        }
        Some(())
    }

    /// Goes over digits, one at least: how many.
    fn digits(&mut self) -> Option<usize> {
        let start = self.at;
        while self.byte().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        (self.at > start).then(|| self.at - start)
    }
}

/// How many bytes stand before the next one that is special.
#[inline]
fn plain(text: &[u8]) -> usize {
    let (words, rest) = text.as_chunks();
    let mut count = 0_usize;
    for word in words {
        if suspects(*word) != 0 {
            let found = specials(*word);
            if found != 0 {
                return count + found.trailing_zeros() as usize / 8;
            }
        }
        count = count.wrapping_add(WORD);
    }
    count + rest.iter().position(|byte| special(*byte)).unwrap_or(rest.len())
}

/// What follows an escape, whose backslash was gone over.
#[inline]
fn escaped(text: &[u8]) -> Option<&[u8]> {
    match text.split_first()? {
        (b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', rest) => Some(rest),
        (b'u', rest) => {
            let (digits, rest) = rest.split_first_chunk::<4>()?;
            digits.iter().all(u8::is_ascii_hexdigit).then_some(rest)
        }
        _ => None,
    }
}

/// Whether a byte ends a piece of a string: a quote, a backslash, or a control character, which none may have as it is.
fn special(byte: u8) -> bool {
    matches!(byte, b'"' | b'\\' | 0..0x20)
}

/// Bytes that are looked at together.
const WORD: usize = 8;
/// In every byte.
const ONES: u64 = u64::MAX / 255;

/// The high bit of each byte that is special. Those behind the first such may be wrong, and none before it.
#[inline]
fn specials(word: [u8; WORD]) -> u64 {
    suspects(word) & !u64::from_le_bytes(word)
}

/// The same, and of bytes beyond ASCII: most words have none, and need no closer look.
#[inline]
fn suspects(word: [u8; WORD]) -> u64 {
    let bytes = u64::from_le_bytes(word);
    // With its second bit turned a quote stands next to the control characters. A byte below the bound borrows from its
    // high bit, which only counts where it had none itself.
    let low = (bytes ^ (ONES * 0x02)).wrapping_sub(ONES * 0x21);
    let backslash = (bytes ^ (ONES * b'\\' as u64)).wrapping_sub(ONES);
    (low | backslash) & (ONES << 7)
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;

    use super::*;

    /// Whether a text is taken whole.
    fn takes(text: &str) -> bool {
        let mut skim = Skim::new(text);
        skim.value().is_some() && skim.ends()
    }

    /// Whether it should be.
    fn is_json(text: &str) -> bool {
        serde_json::from_str::<IgnoredAny>(text).is_ok()
    }

    #[test]
    fn values_end_where_they_end() {
        for raw in [
            "0",
            "-0",
            "-12.50e+3",
            "1E5",
            "true",
            "null",
            r#""""#,
            r#""a\"\\\/\b\f\n\r\t\u00e9é""#,
            "[]",
            "[ ]",
            "[1,[2] , {}]",
            "{}",
            r#"{"a":{"\u0062":[null]} , "c":"}"}"#,
        ] {
            for after in ["", " ", ",", "]", "}", "  :"] {
                let line = format!("  {raw}{after}");
                assert_eq!(Skim::new(&line).value(), Some(raw), "{line:?}");
            }
        }
    }

    /// Whatever is taken is JSON, and what is not taken is none or rare; on every short text of the signs that count.
    #[test]
    fn takes_what_the_parser_takes() {
        const SIGNS: &[u8] = b"{}[],:\"\\ue01-+.tn \t\x01";
        let mut count = 0;
        for length in 1..=4_u32 {
            for number in 0..SIGNS.len().pow(length) {
                let signs = (0..length).filter_map(|i| SIGNS.get(number / SIGNS.len().pow(i) % SIGNS.len()));
                let text: String = signs.map(|byte| char::from(*byte)).collect();
                assert_eq!(takes(&text), is_json(&text), "{text:?}");
                count += u32::from(is_json(&text));
            }
        }
        assert!(count > 400, "{count}");
        let deep = format!("{}1{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH));
        assert!(takes(&deep) && !takes(&format!("[{deep}]")), "rare");
    }

    /// The same, on valid text that is damaged in one place.
    #[test]
    fn takes_no_damaged_text() {
        let good =
            r#"{"id":-1.5e7,"result":{"content":[{"text":"a\u00e9\\ \"é\"","n":[true,false,null,0]}]}}"#;
        for at in 0..good.len() {
            for with in
                ["", "\"", "\\", "0", "-", ",", ":", "}", "]", "{", "[", "\u{1}", "\t", "x", "e", "\u{e9}"]
            {
                for width in [0, 1, 2] {
                    let (Some(before), Some(after)) = (good.get(..at), good.get(at + width..)) else {
                        continue;
                    };
                    let text = format!("{before}{with}{after}");
                    assert_eq!(takes(&text), is_json(&text), "{text}");
                }
            }
        }
    }

    #[test]
    fn special_bytes_are_found_in_every_place() {
        for other in [b'x', b'!', b'#', 0x7f, 0x80, 0xc3, 0xff] {
            for (at, byte) in (0..WORD).flat_map(|at| (0..=255_u8).map(move |byte| (at, byte))) {
                let mut word = [other; WORD];
                word.iter_mut().skip(at).take(1).for_each(|place| *place = byte);
                let first = specials(word).trailing_zeros() as usize / 8;
                assert_eq!(first, if special(byte) { at } else { WORD }, "{byte} at {at} among {other}");
            }
        }
    }
}
