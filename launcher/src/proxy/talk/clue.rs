//! What a line of a server that does not pass was meant to answer. Pure. It reads what no parser takes, as far as it
//! goes; what it says decides on no message, only on which open request waits for nothing any more.

use super::id::Id;

/// A byte order mark, which some servers begin with.
const MARK: &[u8] = b"\xef\xbb\xbf";
/// The most messages that are looked for on a line.
const MAX_MESSAGES: usize = 1024;

/// A line that was dropped.
#[derive(Debug, Clone, Copy)]
pub struct Dropped<'a> {
    /// The whole line, or its beginning where it is too long to be kept.
    pub head: &'a [u8],
    /// The end of such a line, once it has come.
    pub tail: Option<&'a [u8]>,
    /// Whether the head is only the beginning.
    pub long: bool,
    /// Its length as far as it has come, in bytes.
    pub length: u64,
}

impl<'a> Dropped<'a> {
    /// One that was kept whole.
    #[must_use]
    pub fn whole(line: &'a [u8]) -> Self {
        Self { head: line, tail: None, long: false, length: line.len() as u64 }
    }

    /// The answers that went with it: the id of the request of each, where it can be read. A line that only tells or
    /// asks, or was never meant for the client, holds none.
    pub(super) fn answers(&self) -> Vec<Option<Id>> {
        let mut scan = Scan { bytes: self.head.strip_prefix(MARK).unwrap_or(self.head), at: 0 };
        let mut found = Vec::new();
        while found.len() < MAX_MESSAGES && scan.next_object() {
            let clue = scan.object();
            if clue.answers() {
                found.push(clue.id.or_else(|| self.tail.and_then(last_id)));
            } else if self.long && !clue.asks {
                // Its first name is longer than what is kept, or is none that says anything.
                found.push(self.tail.and_then(last_id));
            }
            if clue.cut {
                break;
            }
        }
        found
    }
}

/// What the names at the top of an object say.
#[derive(Default)]
struct Clue {
    id: Option<Id>,
    /// It has several ids.
    unclear: bool,
    version: bool,
    asks: bool,
    replies: bool,
    /// It ends nowhere.
    cut: bool,
}

impl Clue {
    /// Servers log objects too, which have a `result` or an `id` at times, and are whole.
    fn answers(&self) -> bool {
        let named = self.id.is_some() || self.unclear;
        let says = self.replies && (self.version || named || self.cut);
        !self.asks && (says || (self.version && named && self.cut))
    }
}

struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn skip(&mut self, what: impl Fn(u8) -> bool) {
        while self.peek().is_some_and(&what) {
            self.at += 1;
        }
    }

    /// Goes to where the next message begins: in a batch or not.
    fn next_object(&mut self) -> bool {
        self.skip(|byte| is_blank(byte) || matches!(byte, b',' | b'[' | b']'));
        self.peek() == Some(b'{')
    }

    fn object(&mut self) -> Clue {
        let mut clue = Clue::default();
        self.at += 1;
        clue.cut = self.members(&mut clue).is_none();
        if clue.unclear {
            clue.id = None;
        }
        clue
    }

    /// Takes the members up to the end of the object; nothing where that does not come.
    fn members(&mut self, clue: &mut Clue) -> Option<()> {
        loop {
            self.skip(|byte| is_blank(byte) || byte == b',');
            if self.peek()? == b'}' {
                self.at += 1;
                return Some(());
            }
            let name = self.string()?;
            match name {
                br#""jsonrpc""# => clue.version = true,
                br#""method""# => clue.asks = true,
                br#""result""# | br#""error""# => clue.replies = true,
                _ => {}
            }
            self.skip(is_blank);
            if self.peek()? != b':' {
                return None;
            }
            self.at += 1;
            self.skip(is_blank);
            let value = self.value()?;
            if name == br#""id""# {
                let id = id_of(value);
                clue.unclear |= clue.id.is_some() && clue.id != id;
                clue.id = id;
            }
        }
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let begin = self.at;
        match self.peek()? {
            b'"' => return self.string(),
            b'{' | b'[' => self.nested()?,
            _ => {
                self.skip(|byte| !is_blank(byte) && !matches!(byte, b',' | b'}' | b']'));
                self.peek()?;
            }
        }
        self.bytes.get(begin..self.at)
    }

    /// Goes to the end of what is opened here.
    fn nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// A string with its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let begin = self.at;
        if self.peek()? != b'"' {
            return None;
        }
        self.at += 1;
        loop {
            let rest = self.bytes.get(self.at..)?;
            self.at += memchr::memchr2(b'"', b'\\', rest)? + 1;
            match self.bytes.get(self.at.wrapping_sub(1))? {
                b'"' => return self.bytes.get(begin..self.at),
                _ => self.at += 1,
            }
        }
    }
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// An id as raw JSON; what is neither text nor an integer is none.
fn id_of(raw: &[u8]) -> Option<Id> {
    let id = Id::of(std::str::from_utf8(raw).ok()?);
    let quoted = |text: &str| text.len() > 1 && text.starts_with('"');
    matches!(&id, Id::Number(_)).then_some(()).or_else(|| quoted(&id.raw()).then_some(()))?;
    Some(id)
}

/// The id with which an object ends: several libraries write it last.
fn last_id(tail: &[u8]) -> Option<Id> {
    const NAME: &[u8] = br#""id""#;
    let inside = tail.trim_ascii_end().strip_suffix(b"}")?;
    let at = memchr::memmem::rfind(inside, NAME)?;
    // Behind a comma that no string holds the name is one of the object that ends here.
    inside.get(..at)?.trim_ascii_end().strip_suffix(b",")?;
    let value = inside.get(at + NAME.len()..)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii();
    let mut whole = Scan { bytes: value, at: 0 };
    match value.first()? {
        b'"' => (whole.string()?.len() == value.len()).then(|| id_of(value))?,
        _ => id_of(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(line: &[u8], tail: Option<&[u8]>, long: bool) -> Vec<Option<String>> {
        let found = Dropped { head: line, tail, long, length: 0 }.answers();
        found.into_iter().map(|id| id.map(|id| id.raw().into_owned())).collect()
    }

    #[test]
    fn whole_lines() {
        for (line, want) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{"a":1,"a":2}}"#, &[Some("7")][..]),
            (r#"{"result":{"id":8,"x":"}\"{"},"jsonrpc":"2.0","id":"a/b"}"#, &[Some(r#""a/b""#)]),
            // Cut short, in various places.
            (r#"{"jsonrpc":"2.0","id":7,"res"#, &[Some("7")]),
            (r#"{"jsonrpc":"2.0","id":7"#, &[]),
            (r#"{"result":{"content":["#, &[None]),
            // A number is over only where something follows.
            (r#"{"id":1,"result":1}{"id":2,"result":2} {"id":3"#, &[Some("1"), Some("2")]),
            (
                r#"[{"id":1,"result":1},{"jsonrpc":"2.0","method":"x"},{"id":2,"error":{}}]"#,
                &[Some("1"), Some("2")],
            ),
            ("\u{feff}{\"id\":1.0,\"result\":{}}", &[Some("1")]),
            // Which of the two nobody knows; and what is no id.
            (r#"{"id":1,"id":2,"result":{}}"#, &[None]),
            (r#"{"jsonrpc":"2.0","id":null,"error":{}}"#, &[None]),
            (r#"{"jsonrpc":"2.0","id":1e3,"result":{}}"#, &[None]),
            // Asked or told, or written for somebody else.
            (r#"{"jsonrpc":"2.0","id":7,"method":"roots/list","method":"x"}"#, &[]),
            (r#"{"level":"error","error":"no"}"#, &[]),
            (r#"{"id":1,"msg":"result"}"#, &[]),
            (r#"{ foo: 1 }"#, &[]),
            ("{", &[]),
            ("Starting {\"id\":1,\"result\":1}", &[]),
            ("", &[]),
        ] {
            let want: Vec<_> = want.iter().map(|id| id.map(str::to_owned)).collect();
            assert_eq!(ids(line.as_bytes(), None, false), want, "{line}");
        }
        assert_eq!(ids(b"{\"id\":1,\"result\":\"\xff\"}", None, false), [Some("1".to_owned())]);
    }

    #[test]
    fn long_lines() {
        let result = br#"{"result":{"content":[{"text":"aaa"#;
        for (head, tail, want) in [
            (&br#"{"jsonrpc":"2.0","id":7,"result":{"x"#[..], None, &[Some("7")][..]),
            (result, None, &[None]),
            (result, Some(&br#"a"}]},"jsonrpc":"2.0","id":7}"#[..]), &[Some("7")]),
            (result, Some(br#"a"}]} , "id" : "x\"y" } "#), &[Some(r#""x\"y""#)]),
            (result, Some(br#"a"}]},"jsonrpc":"2.0"}"#), &[None]),
            (result, Some(br#"a\"id\":7}"#), &[None]),
            (result, Some(br#"a","id":7}]}"#), &[None]),
            (result, Some(br#","id":7,8}"#), &[None]),
            (br#"{"method":"notifications/x","params":{"#, Some(br#"},"id":7}"#), &[]),
            (b"aaaaaaaa", Some(b"aaa,\"id\":7}"), &[]),
        ] {
            let want: Vec<_> = want.iter().map(|id| id.map(str::to_owned)).collect();
            assert_eq!(ids(head, tail, true), want, "{}", String::from_utf8_lossy(head));
        }
    }
}
