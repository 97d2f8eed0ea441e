//! When the tokens that this broker made end, on the clock that nobody can set: a handle says it by the wall
//! clock, for whoever reads it after a restart.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Ends by accessor, in boot time.
pub(super) struct Ends {
    clock: Arc<dyn Clock>,
    entries: Mutex<HashMap<String, Duration>>,
}

impl Ends {
    /// None known.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, entries: Mutex::default() }
    }

    /// A token ends so long from now.
    pub(super) fn note(&self, accessor: &str, life: Duration) {
        let now = self.clock.boot();
        let mut entries = self.entries();
        // What has ended is asked for no more.
        entries.retain(|_, end| *end > now);
        entries.insert(accessor.to_owned(), now + life);
    }

    /// What is left of a token; `None` for one that an earlier broker made.
    pub(super) fn left(&self, accessor: &str) -> Option<Duration> {
        self.entries().get(accessor).map(|end| end.saturating_sub(self.clock.boot()))
    }

    /// A token was proved to be gone.
    pub(super) fn forget(&self, accessor: &str) {
        self.entries().remove(accessor);
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Duration>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicU64, Ordering};

    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        fn boot(&self) -> Duration {
            Duration::from_secs(self.0.load(Ordering::SeqCst))
        }
        fn monotonic(&self) -> Duration {
            self.boot()
        }
    }

    #[test]
    fn only_what_lives_is_kept() {
        let hand = Arc::new(Hand(AtomicU64::new(100)));
        let ends = Ends::new(Arc::<Hand>::clone(&hand));
        ends.note("a", Duration::from_secs(10));
        ends.note("b", Duration::from_secs(50));
        hand.0.store(108, Ordering::SeqCst);
        assert_eq!(ends.left("a"), Some(Duration::from_secs(2)));
        assert_eq!(ends.left("an earlier broker's"), None);
        hand.0.store(120, Ordering::SeqCst);
        assert_eq!(ends.left("a"), Some(Duration::ZERO));
        ends.note("c", Duration::from_secs(1));
        assert_eq!((ends.left("a"), ends.left("b")), (None, Some(Duration::from_secs(30))));
        ends.forget("b");
        assert_eq!(ends.left("b"), None);
    }
}
