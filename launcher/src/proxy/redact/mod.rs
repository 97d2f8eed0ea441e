//! Live secrets in what instances say: found in every form that is looked for, and masked. The only part of the
//! proxy that a secret reaches, and that only as bytes to look for; it hands none out, and wipes them when no
//! instance can say them any more.
//!
//! Found are the value itself, its base64 (both alphabets, wherever it begins, padded or not) and its hexadecimal
//! digits, all of them also behind up to four layers of escapes with backslashes or percent signs. Not found are
//! values that a server shortens, spaces out, encrypts or encodes in other ways: masking stops accidents, not a
//! server that means to tell.

use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use zeroize::Zeroizing;

use search::Search;

mod escapes;
mod forms;
mod replace;
mod search;
#[cfg(test)]
mod tests;

/// What stands in place of a secret.
pub const MASK: &str = "[masked]";
/// Shorter values are not looked for, in bytes: they would be found everywhere.
pub const SHORTEST: usize = 4;
/// The most that is held back of a long line of diagnostics.
const MOST_HELD: usize = 32 << 10;
/// What an escape makes of one byte, at most (`\u0041`).
const STRETCH: usize = 6;

/// The secrets of one instance, to be looked for. Wiped when dropped.
#[derive(Default)]
pub struct Secrets(Vec<Zeroizing<Vec<u8>>>);

impl Secrets {
    /// Adds one. Values shorter than [`SHORTEST`] bytes are passed over.
    pub fn add(&mut self, secret: &[u8]) {
        if secret.len() >= SHORTEST {
            self.0.push(Zeroizing::new(secret.to_vec()));
        }
    }
}

/// A line after the search.
#[derive(Debug, PartialEq, Eq)]
pub struct Masked<'a> {
    /// The line; borrowed where nothing was found.
    pub text: Cow<'a, [u8]>,
    /// Secrets that were found.
    pub count: u64,
}

/// Looks for the secrets of all instances of a launch.
#[derive(Default)]
pub struct Redactor {
    secrets: BTreeMap<u32, VecDeque<Secrets>>,
    search: Option<Search>,
}

/// So many sets of secrets of one instance are looked for: the oldest of more have ended long ago.
const MOST_SETS: usize = 64;

/// What is held back of the diagnostics of one instance, where a long line comes in pieces.
#[derive(Default)]
pub struct Across {
    held: Vec<u8>,
}

impl Redactor {
    /// Looks for the secrets of one more instance from now on; to be called before it can say anything. The number
    /// must be one that no other instance of this launcher ever had. Those that it had before stay: it may have kept
    /// them.
    pub fn learn(&mut self, instance: u32, secrets: Secrets) {
        let sets = self.secrets.entry(instance).or_default();
        sets.push_back(secrets);
        while sets.len() > MOST_SETS {
            sets.pop_front();
        }
        self.search_anew();
    }

    /// Forgets what only this instance could say; to be called when nothing more comes from it.
    pub fn forget(&mut self, instance: u32) {
        if self.secrets.remove(&instance).is_some() {
            self.search_anew();
        }
    }

    fn search_anew(&mut self) {
        // The old one is wiped before the new one is made.
        self.search = None;
        self.search = Search::of(
            self.secrets.values().flatten().flat_map(|one| &one.0).map(|secret| secret.as_slice()),
        );
    }

    /// Masks a line of JSON: it stays one.
    #[must_use]
    pub fn message<'a>(&self, line: &'a [u8]) -> Masked<'a> {
        match &self.search {
            Some(search) => masked(line, &search.ranges(line, true), replace::json),
            None => Masked { text: line.into(), count: 0 },
        }
    }

    /// Masks a line of diagnostics. Where it is as long as `piece` it may be the first part of a longer one: then
    /// its end is held back until the rest comes, which may be all there is; a shorter one is the last part.
    #[must_use]
    pub fn diagnostic<'a>(&self, across: &mut Across, line: &'a [u8], piece: usize) -> Option<Masked<'a>> {
        let last = line.len() < piece;
        if across.held.is_empty() && (last || self.search.is_none()) {
            return Some(self.plain(line));
        }
        let mut all = std::mem::take(&mut across.held);
        all.extend_from_slice(line);
        let Some(search) = self.search.as_ref().filter(|_| !last) else {
            return Some(self.plain(&all).into_owned());
        };
        let mut ranges = search.ranges(&all, true);
        // Whatever begins before the cut ends in what is here.
        let mut cut = all.len().saturating_sub((search.longest() * STRETCH).min(MOST_HELD));
        if let Some(range) = ranges.iter().find(|range| range.contains(&cut)) {
            cut = range.end;
        }
        ranges.retain(|range| range.end <= cut);
        across.held = all.split_off(cut);
        (cut > 0).then(|| masked(&all, &ranges, replace::plain).into_owned())
    }

    /// What is still held back of an instance's diagnostics when nothing more comes.
    #[must_use]
    pub fn rest(&self, across: &mut Across) -> Option<Masked<'static>> {
        let held = std::mem::take(&mut across.held);
        (!held.is_empty()).then(|| self.plain(&held).into_owned())
    }

    fn plain<'a>(&self, line: &'a [u8]) -> Masked<'a> {
        match &self.search {
            Some(search) => masked(line, &search.ranges(line, true), replace::plain),
            None => Masked { text: line.into(), count: 0 },
        }
    }
}

impl Masked<'_> {
    fn into_owned(self) -> Masked<'static> {
        Masked { text: self.text.into_owned().into(), count: self.count }
    }
}

fn masked<'a>(
    text: &'a [u8],
    ranges: &[Range<usize>],
    replace: impl Fn(&[u8], &[Range<usize>]) -> Vec<u8>,
) -> Masked<'a> {
    let text = if ranges.is_empty() { text.into() } else { replace(text, ranges).into() };
    Masked { text, count: ranges.len() as u64 }
}
