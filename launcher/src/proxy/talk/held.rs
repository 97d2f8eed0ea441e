//! Lines of the client that wait for an instance that is coming up: in order, and not without bounds.

use std::collections::VecDeque;

use super::id::Id;

/// The most lines.
const MAX_LINES: usize = 256;
/// The most bytes: one message of any length fits.
const MAX_BYTES: usize = crate::proxy::rule::MAX_MESSAGE;
/// While the first instance comes up the client is only read so far: then nothing needs to be refused.
const COMFORTABLE: usize = 64 << 10;

/// A line that waits.
pub struct Waiting {
    /// The line.
    pub line: Box<str>,
    /// The id, where it is a request. Read once: one that waits may be looked for often.
    pub id: Option<Id>,
}

/// What waits.
#[derive(Default)]
pub struct Held {
    lines: VecDeque<Waiting>,
    bytes: usize,
}

impl Held {
    /// Keeps a line, where it fits, with the id of the request that it is; the first instance's are bounded by their
    /// reader.
    pub fn keep(&mut self, line: &str, id: Option<Id>, bounded: bool) -> bool {
        let fits = self.lines.len() < MAX_LINES && self.bytes + line.len() <= MAX_BYTES;
        if fits || !bounded {
            self.put_back(Waiting { line: line.into(), id });
        }
        fits || !bounded
    }

    /// Keeps one that was taken, behind the others.
    pub fn put_back(&mut self, waiting: Waiting) {
        self.bytes += waiting.line.len();
        self.lines.push_back(waiting);
    }

    /// The oldest.
    pub fn take(&mut self) -> Option<Waiting> {
        let waiting = self.lines.pop_front()?;
        self.bytes -= waiting.line.len();
        if self.lines.is_empty() {
            self.lines = VecDeque::new();
        }
        Some(waiting)
    }

    /// Forgets the request of that id; whether it was there.
    pub fn cancel(&mut self, id: &Id) -> bool {
        let Some(at) = self.lines.iter().position(|waiting| waiting.id.as_ref() == Some(id)) else {
            return false;
        };
        self.bytes -= self.lines.remove(at).map_or(0, |waiting| waiting.line.len());
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
        self.lines.iter().any(|waiting| waiting.id.is_some())
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_found_by_any_spelling_of_its_id() {
        let mut held = Held::default();
        assert!(held.keep("no message, and never read as one", Some(Id::of(r#""a/b""#)), true));
        assert!(held.keep("tells", None, true));
        assert!(held.has_request());
        assert!(!held.cancel(&Id::of("1")));
        assert!(held.cancel(&Id::of(r#""a\/b""#)));
        assert!(!held.has_request() && held.len() == 1 && held.bytes == 5);
        assert_eq!(held.take().map(|waiting| (waiting.line, waiting.id)), Some(("tells".into(), None)));
        assert_eq!(held.bytes, 0);
    }
}
