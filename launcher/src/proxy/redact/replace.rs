//! Puts the mask in place of what was found. In a message it goes into strings only, so that the message stays one
//! whatever was found where.

use std::ops::Range;

use super::MASK;
use super::escapes::Escape;

/// In text that is no JSON.
pub(super) fn plain(text: &[u8], ranges: &[Range<usize>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + ranges.len() * MASK.len());
    let mut from = 0;
    for range in ranges {
        out.extend_from_slice(text.get(from..range.start).unwrap_or_default());
        out.extend_from_slice(MASK.as_bytes());
        from = range.end;
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default());
    out
}

/// In JSON. What reaches beyond a string is masked inside of each string; a number or a word that holds some of it
/// becomes a string; signs stay.
pub(super) fn json(text: &[u8], ranges: &[Range<usize>]) -> Vec<u8> {
    let mut writer =
        Writer { text, ranges, out: Vec::with_capacity(text.len() + ranges.len() * (MASK.len() + 2)) };
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at = match byte {
            b'"' => writer.string(at),
            b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => writer.copy(at..at + 1),
            _ => writer.scalar(at),
        };
    }
    writer.out
}

struct Writer<'a> {
    text: &'a [u8],
    /// Those that are not over yet.
    ranges: &'a [Range<usize>],
    out: Vec<u8>,
}

impl Writer<'_> {
    fn copy(&mut self, piece: Range<usize>) -> usize {
        self.out.extend_from_slice(self.text.get(piece.clone()).unwrap_or_default());
        piece.end
    }

    /// The range that a piece shares bytes with, by its end, which no other has.
    fn found(&mut self, piece: &Range<usize>) -> Option<usize> {
        while let Some((first, rest)) = self.ranges.split_first() {
            if first.end > piece.start {
                return (first.start < piece.end).then_some(first.end);
            }
            self.ranges = rest;
        }
        None
    }

    /// A string, from its quote to its quote.
    fn string(&mut self, start: usize) -> usize {
        let mut at = self.copy(start..start + 1);
        let mut masked = None;
        while let Some(rest) = self.text.get(at..).filter(|rest| !rest.is_empty()) {
            if rest.starts_with(b"\"") {
                return self.copy(at..at + 1);
            }
            // An escape is masked whole or not at all.
            let piece = at..at + Escape::Backslash.length(rest);
            at = piece.end;
            match self.found(&piece) {
                None => drop(self.copy(piece)),
                found if found == masked => {}
                found => {
                    masked = found;
                    self.out.extend_from_slice(MASK.as_bytes());
                }
            }
        }
        at
    }

    /// A number, `true`, `false` or `null`.
    fn scalar(&mut self, start: usize) -> usize {
        let rest = self.text.get(start..).unwrap_or_default();
        let ends = |byte: &u8| b"\"{}[],: \t\r\n".contains(byte);
        let piece = start..start + rest.iter().position(ends).unwrap_or(rest.len());
        match self.found(&piece) {
            None => self.copy(piece),
            Some(_) => {
                self.out.extend([&b"\""[..], MASK.as_bytes(), b"\""].concat());
                piece.end
            }
        }
    }
}
