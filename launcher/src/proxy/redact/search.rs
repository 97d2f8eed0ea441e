//! Finds needles in a text. Vector instructions look for the first four bytes of all needles at once; where those
//! stand the needles are compared. So libraries hold four bytes of each, in memory that is wiped when it is freed.

use std::collections::BTreeMap;
use std::ops::Range;

use aho_corasick::{Span, packed};

use super::escapes::{Escape, Hidden};
use super::forms::{Needle, What, is_base64};
use super::{SHORTEST, forms};

/// The layers of escapes that are taken off.
const MAX_LAYERS: usize = 4;
/// What may be decoded of a line, in lengths of it: every mix of two layers, and the usual one of four. A line that
/// is made to need more holds nothing by accident.
const MAX_DECODED: usize = 12;
/// The most beginnings that one vector search takes well.
const MAX_PACKED: usize = 64;

type Beginning = [u8; SHORTEST];

/// What is looked for.
pub(super) struct Search {
    /// By their first bytes, the longest first.
    needles: BTreeMap<Beginning, Vec<Needle>>,
    beginnings: Vec<Finder>,
    hidden: Hidden,
    longest: usize,
}

enum Finder {
    Packed(packed::Searcher),
    /// Where the machine has no such instructions: in order, and by their first bytes.
    Table(Vec<Beginning>, Box<[bool; 256]>),
}

impl Search {
    /// Of these secrets, in all their forms; nothing where there is none.
    pub(super) fn of<'a>(secrets: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut needles: BTreeMap<Beginning, Vec<Needle>> = BTreeMap::new();
        let mut longest = 0;
        for secret in secrets {
            forms::of(secret, |needle| {
                let Some(beginning) = needle.bytes.first_chunk().copied() else { return };
                longest = longest.max(needle.bytes.len());
                let same = needles.entry(beginning).or_default();
                if !same.iter().any(|other| other.bytes == needle.bytes && other.what == needle.what) {
                    same.push(needle);
                }
            });
        }
        for same in needles.values_mut() {
            same.sort_by_key(|needle| std::cmp::Reverse(needle.bytes.len()));
        }
        let beginnings: Vec<_> = needles.keys().copied().collect();
        let finders = beginnings.chunks(MAX_PACKED).map(Finder::of).collect();
        let hidden = Hidden::of(needles.values().flatten().map(|needle| needle.bytes.as_slice()));
        (longest > 0).then_some(Self { needles, beginnings: finders, hidden, longest })
    }

    /// The longest needle, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    /// Where needles stand in the text, in order and apart from each other; with `lines` also lines of secrets.
    pub(super) fn ranges(&self, text: &[u8], lines: bool) -> Vec<Range<usize>> {
        self.below(text, lines, MAX_LAYERS, &mut (text.len() * MAX_DECODED))
    }

    fn below(&self, text: &[u8], lines: bool, layers: usize, budget: &mut usize) -> Vec<Range<usize>> {
        let mut found = Vec::new();
        for finder in &self.beginnings {
            self.plain(finder, text, lines, &mut found);
        }
        for escape in [Escape::Backslash, Escape::Percent] {
            if layers == 0 || text.len() > *budget || !self.hidden.may_be_in(text, escape) {
                continue;
            }
            *budget -= text.len();
            let decoded = escape.decode(text);
            let mut inside = self.below(&decoded, lines, layers - 1, budget);
            escape.locate(text, &mut inside);
            found.extend(inside);
        }
        merge(&mut found);
        found
    }

    fn plain(&self, finder: &Finder, text: &[u8], lines: bool, found: &mut Vec<Range<usize>>) {
        let mut from = 0;
        while let Some(at) = finder.next(text, from) {
            // Also what begins inside of what was found: together they may be more.
            from = at + 1;
            let Some(rest) = text.get(at..) else { return };
            let candidates = rest.first_chunk().and_then(|beginning| self.needles.get(beginning));
            let mut fit =
                candidates.into_iter().flatten().filter(|needle| lines || needle.what != What::Line);
            if let Some(needle) = fit.find(|needle| rest.starts_with(&needle.bytes)) {
                let range = extent(text, at, needle);
                // At once, so that text that repeats itself needs no memory.
                match found.last_mut().filter(|last| last.start < range.end && range.start < last.end) {
                    Some(last) => *last = last.start.min(range.start)..last.end.max(range.end),
                    None => found.push(range),
                }
            }
        }
    }
}

impl Finder {
    /// Of beginnings in order.
    fn of(beginnings: &[Beginning]) -> Self {
        packed::Searcher::builder()
            .extend(beginnings)
            .build()
            .map_or_else(|| Self::table(beginnings), Self::Packed)
    }

    fn table(beginnings: &[Beginning]) -> Self {
        let mut first = Box::new([false; 256]);
        for byte in beginnings.iter().flat_map(|beginning| beginning.first()) {
            first.get_mut(usize::from(*byte)).into_iter().for_each(|there| *there = true);
        }
        Self::Table(beginnings.to_vec(), first)
    }

    fn next(&self, text: &[u8], from: usize) -> Option<usize> {
        let rest = text.get(from..)?;
        match self {
            Self::Packed(searcher) => {
                searcher.find_in(text, Span { start: from, end: text.len() }).map(|found| found.start())
            }
            Self::Table(beginnings, first) => {
                let may = |byte: &u8| first.get(usize::from(*byte)).is_some_and(|there| *there);
                let fits = |window: &[u8]| {
                    window.first().is_some_and(may)
                        && window.first_chunk().is_some_and(|chunk| beginnings.binary_search(chunk).is_ok())
                };
                rest.windows(SHORTEST).position(fits).map(|at| from + at)
            }
        }
    }
}

/// All that stands there of the secret: the characters beside a core hold bits of it, and padding its length.
fn extent(text: &[u8], at: usize, needle: &Needle) -> Range<usize> {
    let (mut start, mut end) = (at, at + needle.bytes.len());
    let What::Core { before, after } = needle.what else { return start..end };
    let there = |at: usize| text.get(at).is_some_and(|byte| is_base64(*byte));
    start -= usize::from(before && start > 0 && there(start - 1));
    end += usize::from(after && there(end));
    end += text.get(end..).unwrap_or_default().iter().take(2).take_while(|byte| **byte == b'=').count();
    start..end
}

/// Puts ranges in order, and those that overlap together.
fn merge(ranges: &mut Vec<Range<usize>>) {
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    ranges.dedup_by(|next, last| {
        let overlap = next.start < last.end;
        if overlap {
            last.end = last.end.max(next.end);
        }
        overlap
    });
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    /// Both ways of finding agree, on texts in which beginnings are common.
    #[test]
    fn finders_agree() {
        let beginnings: Vec<Beginning> = vec![*b"aaaa", *b"abab", *b"abba", *b"bbab"];
        let (packed, table) = (Finder::of(&beginnings), Finder::table(&beginnings));
        for number in 0..1_u32 << 12 {
            let text: Vec<u8> =
                (0..40).map(|i| if number >> (i % 12) & 1 == 1 { b'a' } else { b'b' }).collect();
            for from in 0..=text.len() {
                let end = text.len() - from / 2;
                let text = text.get(..end).unwrap_or_default();
                assert_eq!(packed.next(text, from), table.next(text, from), "{text:?} from {from}");
            }
        }
    }

    /// A server that means harm neither fills the memory nor keeps the launch busy for long.
    #[test]
    fn text_that_is_made_for_it() {
        let search = Search::of([&b"aaaaaaaaab"[..], b"c%41\\u0041d"].into_iter()).unwrap();
        let repeated = [vec![b'a'; 1 << 16], vec![b'b']].concat();
        let found = search.ranges(&repeated, false);
        assert_eq!(
            found.iter().map(|range| (range.start, range.end)).collect::<Vec<_>>(),
            [(65_527, 65_537)]
        );
        let same = Search::of([&b"aaaa"[..]].into_iter()).unwrap();
        let mut found = Vec::new();
        same.beginnings.iter().for_each(|finder| same.plain(finder, &repeated, false, &mut found));
        assert_eq!((found.len(), found.capacity() < 16), (1, true));
        // Every layer and every mix of them has something to take off.
        let layers = br"\\\\\\\\u0041%2525252541\u0025%25".repeat(100);
        let mut budget = layers.len() * MAX_DECODED;
        assert!(search.below(&layers, false, MAX_LAYERS, &mut budget).is_empty());
        assert!(budget < layers.len(), "it is used up: {budget}");
    }

    #[test]
    fn ranges_that_overlap_are_one() {
        let mut ranges = vec![7..9, 0..2, 1..4, 4..5, 8..9, 2..3];
        merge(&mut ranges);
        assert_eq!(ranges, [0..4, 4..5, 7..9]);
    }
}
