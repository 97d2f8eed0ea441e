//! Bytes in, complete lines out, in whatever pieces they come. Pure: it owns a buffer and knows no
//! descriptor. What a line means is its reader's affair.

/// Bytes that are read at once; a pipe holds as many by default (pipe(7)).
pub const PIECE: usize = 64 << 10;
/// A buffer larger than this is given back as soon as it is empty, a smaller one when idle.
const KEPT: usize = 4 << 20;

/// So much of a line that is too long is kept of its beginning and of its end, in bytes.
const EDGE: usize = 1024;

/// What is known of a line that was given up as too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// How it began.
    pub head: Vec<u8>,
    /// How it ended, once it has.
    pub tail: Option<Vec<u8>>,
    /// Its length as far as it has come, in bytes.
    pub length: u64,
}

/// What happens to a line that is longer than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Long {
    /// It is dropped whole.
    Drop,
    /// It becomes several.
    Split,
}

/// The buffer and its marks: `line <= searched <= buffer.len()`; `line..` is not complete.
pub struct Lines {
    max: usize,
    long: Long,
    buffer: Vec<u8>,
    line: usize,
    searched: usize,
    /// In the middle of a line that was given up as too long.
    skipping: bool,
    too_long: u64,
    /// How the last line that was too long began and how it goes on; and whether somebody is to hear of it.
    head: Vec<u8>,
    tail: Vec<u8>,
    length: u64,
    fresh: bool,
}

impl Lines {
    /// Of at most `max` bytes each, without the line feed.
    #[must_use]
    pub fn new(max: usize, long: Long) -> Self {
        let [buffer, head, tail] = [const { Vec::new() }; 3];
        Self {
            max,
            long,
            buffer,
            line: 0,
            searched: 0,
            skipping: false,
            too_long: 0,
            head,
            tail,
            length: 0,
            fresh: false,
        }
    }

    /// Where to append what is read: room for [`PIECE`] at least.
    pub fn room(&mut self) -> &mut Vec<u8> {
        self.buffer.reserve(PIECE);
        &mut self.buffer
    }

    /// Hands every line that is complete now to `take`, without its line feed.
    pub fn each(&mut self, mut take: impl FnMut(&mut [u8])) {
        loop {
            let window = self.max.saturating_add(1);
            let limit = self.line.saturating_add(window).min(self.buffer.len());
            let fresh = self.buffer.get(self.searched..limit).unwrap_or_default();
            match memchr::memchr(b'\n', fresh) {
                Some(at) => {
                    let end = self.searched + at;
                    self.complete(end, end + 1, &mut take);
                }
                None if limit - self.line == window => self.too_long(&mut take),
                None => {
                    self.searched = limit;
                    break;
                }
            }
        }
        self.close_gap();
    }

    /// The source has ended: what is left is the last line, without its line feed.
    pub fn finish(&mut self, mut take: impl FnMut(&mut [u8])) {
        if self.line < self.buffer.len() {
            let end = self.buffer.len();
            self.complete(end, end, &mut take);
        }
        self.close_gap();
    }

    /// How many lines were dropped as too long.
    #[must_use]
    pub fn too_long_count(&self) -> u64 {
        self.too_long
    }

    /// The line that was last given up as too long: says it once when it is, and once when it is over.
    pub fn skipped(&mut self) -> Option<Skipped> {
        if !std::mem::take(&mut self.fresh) {
            return None;
        }
        let length = self.length;
        if self.skipping {
            return Some(Skipped { head: self.head.clone(), tail: None, length });
        }
        let (head, tail) = (std::mem::take(&mut self.head), Some(std::mem::take(&mut self.tail)));
        Some(Skipped { head, tail, length })
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

    fn complete(&mut self, end: usize, next: usize, take: &mut impl FnMut(&mut [u8])) {
        let begin = std::mem::replace(&mut self.line, next);
        self.searched = next;
        if std::mem::take(&mut self.skipping) {
            self.fresh = true;
            self.keep_tail(begin, end);
        } else {
            take(self.buffer.get_mut(begin..end).unwrap_or_default());
        }
    }

    fn keep_tail(&mut self, begin: usize, end: usize) {
        self.length += end.saturating_sub(begin) as u64;
        let from = begin.max(end.saturating_sub(EDGE));
        self.tail.extend_from_slice(self.buffer.get(from..end).unwrap_or_default());
        self.tail.drain(..self.tail.len().saturating_sub(EDGE));
    }

    fn too_long(&mut self, take: &mut impl FnMut(&mut [u8])) {
        if self.long == Long::Split {
            let at = self.line + self.max;
            return self.complete(at, at, take);
        }
        if !std::mem::replace(&mut self.skipping, true) {
            self.too_long += 1;
            let window = self.buffer.get(self.line..).unwrap_or_default();
            self.head = window.get(..EDGE.min(self.max)).unwrap_or_default().to_vec();
            self.tail.clear();
            self.length = 0;
            self.fresh = true;
        }
        self.keep_tail(self.line, self.line + self.max + 1);
        // The rest of the line is looked for from here; what there is of it goes with the gap.
        self.line += self.max + 1;
        self.searched = self.line;
    }

    /// Moves the incomplete line to the front, once a piece.
    fn close_gap(&mut self) {
        if self.line == self.buffer.len() {
            self.buffer.clear();
            (self.line, self.searched) = (0, 0);
            if self.buffer.capacity() > KEPT {
                self.release();
            }
        } else if self.line > 0 {
            self.buffer.drain(..self.line);
            self.searched -= self.line;
            self.line = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(max: usize, long: Long, input: &str, want: &[&str], too_long: u64) {
        for step in [1, 2, 3, 7, usize::MAX] {
            let mut lines = Lines::new(max, long);
            let mut got = Vec::new();
            let mut take = |line: &mut [u8]| got.push(String::from_utf8_lossy(line).into_owned());
            for piece in input.as_bytes().chunks(step) {
                lines.room().extend_from_slice(piece);
                lines.each(&mut take);
            }
            lines.finish(&mut take);
            assert!(lines.buffer.is_empty(), "nothing stays behind");
            assert_eq!(got, want, "{input:?} by {step}");
            assert_eq!(lines.too_long, too_long, "{input:?} by {step}");
        }
    }

    #[test]
    fn lines() {
        check(9, Long::Drop, "", &[], 0);
        check(9, Long::Drop, "a\n\nbc\nd", &["a", "", "bc", "d"], 0);
        check(4, Long::Drop, "abcd\nabcde\nab\n", &["abcd", "ab"], 1);
        check(4, Long::Drop, &format!("{}\nx\n", "y".repeat(300)), &["x"], 1);
        check(4, Long::Drop, &"y".repeat(300), &[], 1);
        check(4, Long::Split, "ab\n\nabcdefghij\nabcd\nx", &["ab", "", "abcd", "efgh", "ij", "abcd", "x"], 0);
    }

    #[test]
    fn the_ends_of_a_line_that_is_too_long() {
        let mut lines = Lines::new(4, Long::Drop);
        let mut put = |bytes: &[u8]| {
            lines.room().extend_from_slice(bytes);
            lines.each(|_| {});
            lines.skipped().map(|Skipped { head, tail, length }| (head, tail, length))
        };
        assert_eq!(put(b"ab\nabc"), None);
        assert_eq!(put(b"def"), Some((b"abcd".to_vec(), None, 5)));
        assert_eq!(put(b"ghijklmnopq"), None, "it is said once");
        assert_eq!(put(b"rs\nxy"), Some((b"abcd".to_vec(), Some(b"abcdefghijklmnopqrs".to_vec()), 19)));
        assert_eq!(put(b"z\n"), None);
        let long = [b"y".repeat(3000), b"end\n".to_vec()].concat();
        let (head, tail, length) = put(&long).unwrap_or_default();
        assert_eq!(length, 3003);
        assert_eq!((head, tail.clone().map(|tail| tail.len())), (b"yyyy".to_vec(), Some(EDGE)));
        assert!(tail.is_some_and(|tail| tail.ends_with(b"yend")));
    }

    #[test]
    fn memory() {
        let mut lines = Lines::new(16 << 20, Long::Drop);
        lines.room().extend(std::iter::repeat_n(b'z', 5 << 20));
        lines.room().push(b'\n');
        lines.each(|_| {});
        assert!(!lines.holds_memory(), "a large buffer is not kept");
        lines.room().extend_from_slice(b"{}\n");
        lines.each(|_| {});
        assert!(lines.holds_memory());
        lines.release();
        assert!(!lines.holds_memory());
    }
}
