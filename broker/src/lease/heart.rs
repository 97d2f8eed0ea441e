//! Whether the broker as a whole is alive, as its watchdog finds it. Parents are renewed only while it is: a
//! broker that hangs in part must not keep credentials alive that it could not end.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::Leases;

/// A broker that was not found alive for so long keeps nothing alive; `WatchdogSec=` of the units says the same.
const HEART_LIMIT: Duration = Duration::from_secs(20);

/// When the broker was last found alive. By the clock that stands still while the machine sleeps: then the
/// watchdog does as well.
pub(super) struct Heart(Mutex<Instant>);

impl Default for Heart {
    fn default() -> Self {
        Self(Mutex::new(Instant::now()))
    }
}

impl Heart {
    pub(super) fn beats(&self) -> bool {
        self.beat_before(Instant::now(), HEART_LIMIT)
    }

    /// One that has stood still for long.
    #[cfg(test)]
    pub(super) fn stop(&self) {
        let long_ago = Instant::now().checked_sub(HEART_LIMIT);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = long_ago.unwrap_or_else(Instant::now);
    }

    fn beat_before(&self, now: Instant, limit: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(last) < limit
    }
}

impl Leases {
    /// The broker was found alive just now: its locks and its timers answer.
    pub fn beat(&self) {
        *self.heart.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stops_when_nobody_looks() {
        let begun = Instant::now();
        let heart = Heart(Mutex::new(begun));
        for (millis, want) in [(0, true), (19_999, true), (20_000, false), (3_600_000, false)] {
            let later = begun + Duration::from_millis(millis);
            assert_eq!(heart.beat_before(later, HEART_LIMIT), want, "{millis} ms");
        }
    }
}
