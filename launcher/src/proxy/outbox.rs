//! Lines on their way out: a queue of bytes that is written as far as it goes. Pure. Whoever fills it looks
//! at [`Outbox::has_room`] before it reads more; what the relay has to say itself always fits in.

/// So many bytes may wait before their source is left alone.
const MAX_WAITING: usize = 64 << 10;
/// A buffer larger than this is given back as soon as it is empty, a smaller one when idle.
const KEPT: usize = 4 << 20;

/// What waits for one reader.
#[derive(Default)]
pub struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Appends a line; the line feed is added.
    pub fn push(&mut self, line: &[u8]) {
        self.push_parts(&[line]);
    }

    /// Appends a line that is in parts.
    pub fn push_parts(&mut self, parts: &[&[u8]]) {
        if self.sent > MAX_WAITING && self.sent * 2 > self.bytes.len() {
            self.bytes.drain(..self.sent);
            self.sent = 0;
        }
        self.bytes.reserve(parts.iter().map(|part| part.len()).sum::<usize>() + 1);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.push(b'\n');
    }

    /// What waits.
    #[must_use]
    pub fn waiting(&self) -> &[u8] {
        self.bytes.get(self.sent..).unwrap_or_default()
    }

    /// Whether there is room for what its source has to say.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < MAX_WAITING
    }

    /// Notes that so many bytes have gone.
    pub fn sent(&mut self, count: usize) {
        self.sent += count;
        if self.sent >= self.bytes.len() {
            self.clear();
        }
    }

    /// Forgets what waits: its reader is gone.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
        if self.bytes.capacity() > KEPT {
            self.release();
        }
    }

    /// Whether an idle buffer holds memory.
    #[must_use]
    pub fn holds_memory(&self) -> bool {
        self.bytes.is_empty() && self.bytes.capacity() > 0
    }

    /// Gives the memory of an empty buffer back.
    pub fn release(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_out_in_order_and_is_given_back() {
        let mut outbox = Outbox::default();
        outbox.push(b"ab");
        outbox.push_parts(&[b"c", b"", b"d"]);
        assert_eq!(outbox.waiting(), b"ab\ncd\n");
        outbox.sent(2);
        assert_eq!(outbox.waiting(), b"\ncd\n");
        assert!(outbox.has_room());
        outbox.push(&vec![b'z'; 5 << 20]);
        assert!(!outbox.has_room());
        outbox.sent(4 + (1 << 20));
        outbox.push(b"x");
        outbox.sent((4 << 20) + 1);
        assert_eq!(outbox.waiting(), b"x\n");
        outbox.sent(2);
        assert!(!outbox.holds_memory() && outbox.has_room(), "a large buffer is not kept");
        outbox.push(b"x");
        outbox.sent(2);
        assert!(outbox.holds_memory());
        outbox.release();
        assert!(!outbox.holds_memory());
    }
}
