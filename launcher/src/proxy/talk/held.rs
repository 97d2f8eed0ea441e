//! Lines of the client that wait for an instance that is coming up: in order, and not without bounds.

use std::collections::VecDeque;

use super::id::Id;
use crate::proxy::message::{Kind, Message};

/// The most lines.
const MAX_LINES: usize = 256;
/// The most bytes: one message of any length fits.
const MAX_BYTES: usize = crate::proxy::rule::MAX_MESSAGE;
/// While the first instance comes up the client is only read so far: then nothing needs to be refused.
const COMFORTABLE: usize = 64 << 10;

/// What waits.
#[derive(Default)]
pub struct Held {
    lines: VecDeque<Box<str>>,
    bytes: usize,
}

impl Held {
    /// Keeps a line, where it fits; the first instance's are bounded by their reader.
    pub fn keep(&mut self, line: &str, bounded: bool) -> bool {
        let fits = self.lines.len() < MAX_LINES && self.bytes + line.len() <= MAX_BYTES;
        if fits || !bounded {
            self.bytes += line.len();
            self.lines.push_back(line.into());
        }
        fits || !bounded
    }

    /// The oldest.
    pub fn take(&mut self) -> Option<Box<str>> {
        let line = self.lines.pop_front()?;
        self.bytes -= line.len();
        if self.lines.is_empty() {
            self.lines = VecDeque::new();
        }
        Some(line)
    }

    /// Forgets the request of that id; whether it was there.
    pub fn cancel(&mut self, id: &Id) -> bool {
        let is_it = |line: &str| matches!(Message::parse(line), Ok(Message { kind: Kind::Request(raw), .. }) if Id::of(raw) == *id);
        let Some(at) = self.lines.iter().position(|line| is_it(line)) else { return false };
        self.bytes -= self.lines.remove(at).map_or(0, |line| line.len());
        true
    }

    /// Whether the client may be read on while the first instance comes up.
    #[must_use]
    pub fn comfortable(&self) -> bool {
        self.bytes < COMFORTABLE
    }

    /// How many lines wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether a request waits.
    #[must_use]
    pub fn has_request(&self) -> bool {
        let is_request =
            |line: &str| matches!(Message::parse(line), Ok(Message { kind: Kind::Request(_), .. }));
        self.lines.iter().any(|line| is_request(line))
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}
