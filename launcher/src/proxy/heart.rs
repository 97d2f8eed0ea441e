//! The heartbeat of a launch: when to beat, and when the other side counts as gone. Pure.
//! The time is one that stops while the machine sleeps, so that waking up is no silence.

use std::time::{Duration, Instant};

use mcp_broker_proto::{BEAT_SECS, SILENCE_SECS};

/// When the next beat is due and when silence is too long.
#[derive(Debug, Clone, Copy)]
pub struct Heart {
    /// The next beat.
    pub beat_at: Instant,
    /// Nothing heard until then: the broker is gone.
    pub silent_at: Instant,
}

impl Heart {
    /// Starts with a sign of life just heard.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            beat_at: now + Duration::from_secs(BEAT_SECS),
            silent_at: now + Duration::from_secs(SILENCE_SECS),
        }
    }

    /// Something was heard.
    pub fn heard(&mut self, now: Instant) {
        self.silent_at = now + Duration::from_secs(SILENCE_SECS);
    }

    /// Whether a beat is due; the next one is set.
    pub fn beat(&mut self, now: Instant) -> bool {
        let due = now >= self.beat_at;
        if due {
            self.beat_at = now + Duration::from_secs(BEAT_SECS);
        }
        due
    }

    /// Whether the broker was silent for too long.
    #[must_use]
    pub fn silent(&self, now: Instant) -> bool {
        now >= self.silent_at
    }

    /// When to look again.
    #[must_use]
    pub fn next(&self) -> Instant {
        self.beat_at.min(self.silent_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beats_and_silence() {
        let zero = Instant::now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let mut heart = Heart::new(zero);
        assert_eq!(heart.next(), at(5));
        assert_eq!((heart.beat(at(4)), heart.beat(at(5)), heart.beat(at(6))), (false, true, false));
        assert_eq!((heart.silent(at(14)), heart.silent(at(15))), (false, true));
        heart.heard(at(14));
        assert_eq!((heart.silent(at(28)), heart.silent(at(29))), (false, true));
    }
}
