//! The time: wall clock for people and for what a backend says, boot time for the broker's own deadlines,
//! because it goes on while the machine sleeps. Nobody else asks the system.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Wall clock (UTC).
    fn now(&self) -> Timestamp;

    /// Time since boot, sleep included (clock_gettime(2), `CLOCK_BOOTTIME`).
    fn boot(&self) -> Duration;

    /// Time since boot without the time that the machine slept (`CLOCK_MONOTONIC`).
    fn monotonic(&self) -> Duration;
}

/// A time as people and the wire see it: RFC 3339, whole seconds, UTC.
#[must_use]
pub fn shown(at: Timestamp) -> String {
    at.round(jiff::Unit::Second).unwrap_or(at).to_string()
}

/// The machine's clocks.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn boot(&self) -> Duration {
        reading(rustix::time::ClockId::Boottime)
    }

    fn monotonic(&self) -> Duration {
        reading(rustix::time::ClockId::Monotonic)
    }
}

fn reading(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The two clocks may drift apart by so much between two looks without the machine having slept.
const SLACK: Duration = Duration::from_secs(2);

/// Whether the machine slept and nobody has acted on that yet. Only the boot clock goes on in a sleep, so the
/// two clocks of the kernel drift apart by its length, whoever announced it or did not.
pub struct Slept {
    clock: Arc<dyn Clock>,
    /// How far apart the clocks were when somebody last acted.
    accounted: Mutex<Duration>,
}

/// How far apart the clocks are: what is accounted for once it was acted on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Apart(Duration);

impl Slept {
    /// Counts from now on.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let accounted = Mutex::new(apart(clock.as_ref()));
        Self { clock, accounted }
    }

    /// A sleep that nobody has acted on. It stays until [`Slept::account`] is told, so whoever is about to
    /// open something may ask, at any time and under any lock, and need not do anything about it.
    #[must_use]
    pub fn unaccounted(&self) -> Option<Apart> {
        let now = apart(self.clock.as_ref());
        let accounted = *self.accounted.lock().unwrap_or_else(PoisonError::into_inner);
        (now > accounted.saturating_add(SLACK)).then_some(Apart(now))
    }

    /// Everything was locked because of it. To be called after that, never before.
    pub fn account(&self, apart: Apart) {
        let mut accounted = self.accounted.lock().unwrap_or_else(PoisonError::into_inner);
        *accounted = apart.0.max(*accounted);
    }
}

fn apart(clock: &dyn Clock) -> Duration {
    // In this order the time between the two readings makes them closer, never further apart.
    let boot = clock.boot();
    boot.saturating_sub(clock.monotonic())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    struct Hand(Mutex<(u64, u64)>);

    impl Clock for Hand {
        fn now(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH
        }

        fn boot(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().0)
        }

        fn monotonic(&self) -> Duration {
            Duration::from_millis(self.0.lock().unwrap().1)
        }
    }

    #[test]
    fn a_sleep_is_seen_until_it_was_acted_on() {
        let hand = Arc::new(Hand(Mutex::new((100_000, 40_000))));
        let slept = Slept::new(Arc::clone(&hand) as Arc<dyn Clock>);
        // (boot, monotonic) in milliseconds, and whether that is a sleep.
        let steps = [
            (100_000, 40_000, false),
            (900_000, 840_000, false),
            (902_000, 840_000, false),
            (902_001, 840_000, true),
            (950_000, 888_000, false),
            (990_000, 888_000, true),
        ];
        for (boot, monotonic, expected) in steps {
            *hand.0.lock().unwrap() = (boot, monotonic);
            assert_eq!(slept.unaccounted().is_some(), expected, "{boot} {monotonic}");
        }
        let seen = slept.unaccounted().unwrap();
        *hand.0.lock().unwrap() = (1_090_000, 888_000);
        slept.account(seen);
        assert!(slept.unaccounted().is_some(), "a second sleep is not covered by the first");
        slept.account(slept.unaccounted().unwrap());
        assert_eq!(slept.unaccounted(), None);
        slept.account(seen);
        assert_eq!(slept.unaccounted(), None, "an older reading takes nothing back");
    }

    #[test]
    fn the_machine_has_both_clocks() {
        let (monotonic, boot) = (SystemClock.monotonic(), SystemClock.boot());
        assert!(!monotonic.is_zero() && boot >= monotonic);
    }
}
