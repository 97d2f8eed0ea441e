//! One direction of the conversation: bytes in, complete and acceptable lines out. Pure: it owns a buffer
//! and knows no descriptor. A line is copied only where something before it was dropped or shortened.

use super::rule::{Drop, Rule, Verdict};

/// Bytes that are read at once; a pipe holds as many by default (pipe(7)).
pub const PIECE: usize = 64 << 10;
/// So many bytes may wait for the other side before the source is left alone.
const MAX_WAITING: usize = 64 << 10;
/// A buffer larger than this is given back as soon as it is empty, a smaller one when idle.
const KEPT: usize = 4 << 20;

/// The buffer and its marks: `sent <= ready <= line <= searched <= buffer.len()`.
/// `sent..ready` waits for the other side, `line..` is a line that is not complete.
pub struct Flow {
    rule: Rule,
    buffer: Vec<u8>,
    sent: usize,
    ready: usize,
    line: usize,
    searched: usize,
    /// In the middle of a line that was given up as too long.
    skipping: bool,
    dropped: [u64; Drop::COUNT],
}

impl Flow {
    /// An empty direction under a rule.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            buffer: Vec::new(),
            sent: 0,
            ready: 0,
            line: 0,
            searched: 0,
            skipping: false,
            dropped: [0; Drop::COUNT],
        }
    }

    /// Where to append what is read: room for [`PIECE`] at least.
    pub fn room(&mut self) -> &mut Vec<u8> {
        if self.sent > 0 {
            self.buffer.drain(..self.sent);
            self.ready -= self.sent;
            self.line -= self.sent;
            self.searched -= self.sent;
            self.sent = 0;
        }
        self.buffer.reserve(PIECE);
        &mut self.buffer
    }

    /// Judges what was appended since the last call.
    pub fn judge(&mut self) {
        loop {
            let window = self.rule.max_line().saturating_add(1);
            let limit = self.line.saturating_add(window).min(self.buffer.len());
            let fresh = self.buffer.get(self.searched..limit).unwrap_or_default();
            match memchr::memchr(b'\n', fresh) {
                Some(at) => self.complete(self.searched + at),
                None if limit - self.line == window => self.too_long(),
                None => {
                    self.searched = limit;
                    break;
                }
            }
        }
        self.close_gap();
    }

    /// The source has ended: what is left is the last line, without its line feed.
    pub fn finish(&mut self) {
        if self.line < self.buffer.len() {
            self.buffer.push(b'\n');
            self.judge();
        }
    }

    /// What waits for the other side.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        self.buffer.get(self.sent..self.ready).unwrap_or_default()
    }

    /// Whether the source may be read further.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        self.ready - self.sent < MAX_WAITING
    }

    /// Notes that so many bytes of [`Self::waiting`] have gone.
    pub fn sent(&mut self, count: usize) {
        self.sent = (self.sent + count).min(self.ready);
        if self.sent == self.buffer.len() {
            self.clear();
            if self.buffer.capacity() > KEPT {
                self.release();
            }
        }
    }

    /// Forgets everything that waits: the other side is gone.
    pub fn discard(&mut self) {
        self.sent = self.ready;
        if self.sent == self.buffer.len() {
            self.clear();
        }
    }

    /// Appends a line of our own; false where there is no room, or another line is not complete yet.
    pub fn say(&mut self, text: &str) -> bool {
        let free = self.wants_more() && self.line == self.buffer.len();
        if free {
            self.room().extend_from_slice(text.as_bytes());
            self.buffer.push(b'\n');
            self.line = self.buffer.len();
            self.ready = self.line;
            self.searched = self.line;
        }
        free
    }

    /// Whether an idle buffer holds memory.
    #[must_use]
    pub fn holds_memory(&self) -> bool {
        self.buffer.is_empty() && self.buffer.capacity() > 0
    }

    /// Gives the memory of an empty buffer back.
    pub fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    /// How many lines of each kind were dropped.
    #[must_use]
    pub fn dropped(&self) -> [u64; Drop::COUNT] {
        self.dropped
    }

    /// A line from `self.line` to the line feed at `end`.
    fn complete(&mut self, end: usize) {
        let begin = self.line;
        self.line = end + 1;
        self.searched = end + 1;
        if std::mem::take(&mut self.skipping) {
            return;
        }
        let line = self.buffer.get_mut(begin..end).unwrap_or_default();
        match self.rule.judge(line) {
            Verdict::Pass(length) => self.pass(begin, length),
            Verdict::Drop(why) => self.count(why),
        }
    }

    fn pass(&mut self, begin: usize, length: usize) {
        if self.ready != begin {
            self.buffer.copy_within(begin..begin + length, self.ready);
        }
        self.ready += length;
        if let Some(end) = self.buffer.get_mut(self.ready) {
            *end = b'\n';
        }
        self.ready += 1;
    }

    fn too_long(&mut self) {
        if self.rule.splits() {
            let at = self.line + self.rule.max_line();
            self.buffer.insert(at, b'\n');
            self.complete(at);
            return;
        }
        if !std::mem::replace(&mut self.skipping, true) {
            self.count(Drop::TooLong);
        }
        // The rest of the line is looked for from here; what there is of it goes with the gap.
        self.line += self.rule.max_line() + 1;
        self.searched = self.line;
    }

    /// Moves the incomplete line up to what is ready, once per judgement.
    fn close_gap(&mut self) {
        if self.ready < self.line {
            self.buffer.drain(self.ready..self.line);
            self.searched -= self.line - self.ready;
            self.line = self.ready;
        }
        if self.sent == self.buffer.len() {
            self.clear();
        }
    }

    fn clear(&mut self) {
        self.buffer.clear();
        (self.sent, self.ready, self.line, self.searched) = (0, 0, 0, 0);
    }

    fn count(&mut self, why: Drop) {
        if let Some(count) = self.dropped.get_mut(why as usize) {
            *count += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds `input` in pieces of `step` bytes, writes out `take` bytes between them.
    fn run(rule: Rule, input: &[u8], step: usize, take: usize) -> (String, [u64; Drop::COUNT]) {
        let mut flow = Flow::new(rule);
        let mut out = Vec::new();
        let mut write = |flow: &mut Flow, most: usize| {
            let piece = flow.waiting().get(..flow.waiting().len().min(most)).unwrap_or_default().to_vec();
            flow.sent(piece.len());
            out.extend(piece);
        };
        for piece in input.chunks(step) {
            flow.room().extend_from_slice(piece);
            flow.judge();
            write(&mut flow, take);
        }
        flow.finish();
        write(&mut flow, usize::MAX);
        assert!(flow.buffer.is_empty(), "nothing stays behind");
        (String::from_utf8_lossy(&out).into_owned(), flow.dropped())
    }

    fn check(rule: Rule, input: &str, want: &str, drops: [u64; Drop::COUNT]) {
        for step in [1, 2, 3, 7, usize::MAX] {
            for take in [0, 1, 5, usize::MAX] {
                let got = run(rule, input.as_bytes(), step, take);
                assert_eq!(got, (want.to_owned(), drops), "{input:?} by {step}, {take}");
            }
        }
    }

    #[test]
    fn from_the_server() {
        let rule = Rule::FromServer { max_line: 24 };
        check(rule, "", "", [0; 4]);
        check(rule, "{\"a\": 1 }\n{}\n", "{\"a\": 1 }\n{}\n", [0; 4]);
        check(rule, "hello\n{}\n\n[]\n{\"b\":2}\n", "{}\n{\"b\":2}\n", [2, 0, 1, 0]);
        check(rule, "{\"a\":1}", "{\"a\":1}\n", [0; 4]);
        check(rule, "{}\n{\"a\":", "{}\n", [1, 0, 0, 0]);
        check(rule, "{\"long\":\"xxxxxxxxxxxxxxx\"}\n{}\n", "{}\n", [0, 0, 0, 1]);
        check(rule, &format!("{}\n{{}}\n", "y".repeat(300)), "{}\n", [0, 0, 0, 1]);
        check(rule, &"y".repeat(300), "", [0, 0, 0, 1]);
        check(rule, "{}\r\n", "{}\r\n", [0; 4]);
    }

    #[test]
    fn from_the_client() {
        let rule = Rule::FromClient { max_line: 64 };
        check(rule, "{\"a\":\r{\"b\":1}\r}\r\n", "{\"a\": {\"b\":1} }\n", [0; 4]);
        check(rule, "\r\n{}\n", "{}\n", [0, 0, 1, 0]);
    }

    #[test]
    fn diagnostics_are_split() {
        let rule = Rule::Diagnostics { max_line: 4 };
        check(rule, "ab\n\nabcdefghij\nabcd\nx", "ab\n\nabcd\nefgh\nij\nabcd\nx\n", [0; 4]);
    }

    #[test]
    fn invalid_utf8_does_not_pass() {
        let (out, drops) = run(Rule::FromServer { max_line: 64 }, b"{\"a\":\"\xff\"}\n{}\n", 3, 9);
        assert_eq!((out.as_str(), drops), ("{}\n", [0, 1, 0, 0]));
    }

    #[test]
    fn back_pressure_and_memory() {
        let mut flow = Flow::new(Rule::FromServer { max_line: 16 << 20 });
        let line = format!("{{\"x\":\"{}\"}}\n", "z".repeat(5 << 20));
        flow.room().extend_from_slice(line.as_bytes());
        assert!(flow.wants_more());
        flow.judge();
        assert!(!flow.wants_more());
        flow.sent(line.len());
        assert!(flow.wants_more() && !flow.holds_memory(), "a large buffer is not kept");
        flow.room().extend_from_slice(b"{}\n");
        flow.judge();
        flow.sent(3);
        assert!(flow.holds_memory());
        flow.release();
        assert!(!flow.holds_memory());
    }
}
