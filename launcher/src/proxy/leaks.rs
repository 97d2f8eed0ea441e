//! Secrets that were masked in what an instance said: counted, and told at once, but no more than once in a while.
//! Pure.

use std::time::{Duration, Instant};

/// The shortest time from one word about it to the next.
const PAUSE: Duration = Duration::from_secs(1);

/// The count of one instance.
#[derive(Debug, Default)]
pub struct Leaks {
    count: u64,
    told_at: Option<Instant>,
}

impl Leaks {
    /// So many more were masked.
    pub fn found(&mut self, count: u64) {
        self.count += count;
    }

    /// How many have to be told of now.
    pub fn take(&mut self, now: Instant) -> Option<u64> {
        let due = self.told_at.is_none_or(|at| now >= at + PAUSE);
        let count = if due { self.take_all() } else { None };
        if count.is_some() {
            self.told_at = Some(now);
        }
        count
    }

    /// The same, as there is no later.
    pub fn take_all(&mut self) -> Option<u64> {
        Some(std::mem::take(&mut self.count)).filter(|count| *count > 0)
    }

    /// When there is something to tell.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.told_at.filter(|_| self.count > 0).map(|at| at + PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn told_at_once_and_then_seldom() {
        let zero = Instant::now();
        let at = |ms| zero + Duration::from_millis(ms);
        let mut leaks = Leaks::default();
        assert_eq!((leaks.take(at(0)), leaks.next()), (None, None));
        leaks.found(2);
        assert_eq!(leaks.take(at(1)), Some(2));
        leaks.found(3);
        assert_eq!((leaks.take(at(1000)), leaks.next()), (None, Some(at(1001))));
        leaks.found(1);
        assert_eq!((leaks.take(at(1001)), leaks.take(at(5000))), (Some(4), None));
        leaks.found(1);
        assert_eq!(leaks.take_all(), Some(1));
    }
}
