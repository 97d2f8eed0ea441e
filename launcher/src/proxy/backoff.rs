//! How long to wait before the next try. Pure: the caller brings the randomness and the time.

use std::time::{Duration, Instant};

/// Pauses before a crashed server is started again; after the last of them it is given up.
const PAUSES: [Duration; 3] = [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(4)];
/// Crashes that are longer ago do not count, and a server that was given up rests so long.
const WINDOW: Duration = Duration::from_secs(60);

/// A pause that doubles, with jitter, so that what failed together does not come back together.
#[derive(Debug, Clone, Copy)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    /// The part of a pause that is certain: one in so many, or nothing.
    certain: u32,
    next: Duration,
}

impl Backoff {
    /// For credentials that were refused: 1 s to 30 s, half of it certain.
    #[must_use]
    pub fn refusals() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30), 2)
    }

    /// For a broker that is gone: 0.2 s to 5 s, full jitter.
    #[must_use]
    pub fn reconnects() -> Self {
        Self::new(Duration::from_millis(200), Duration::from_secs(5), 0)
    }

    fn new(first: Duration, longest: Duration, certain: u32) -> Self {
        Self { first, longest, certain, next: first }
    }

    /// The next pause.
    pub fn next(&mut self, random: u32) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        let certain = pause.checked_div(self.certain).unwrap_or_default();
        let rest = u64::try_from((pause - certain).as_micros()).unwrap_or(u64::MAX);
        certain + Duration::from_micros(rest / 1024 * u64::from(random % 1025))
    }

    /// It went well.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

/// When a server was started again.
#[derive(Debug, Default)]
pub struct Restarts(Vec<Instant>);

impl Restarts {
    /// It has ended: when to start it again.
    ///
    /// # Errors
    /// Where it was started too often: when a request may try again.
    pub fn next(&mut self, now: Instant) -> Result<Instant, Instant> {
        self.0.retain(|at| now < *at + WINDOW);
        match PAUSES.get(self.0.len()) {
            Some(pause) => {
                self.0.push(now);
                Ok(now + *pause)
            }
            None => {
                self.0.clear();
                Err(now + WINDOW)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_with_jitter() {
        let mut backoff = Backoff::refusals();
        let ms = |pause: Duration| pause.as_millis();
        assert_eq!(ms(backoff.next(0)), 500);
        assert!((1999..=2000).contains(&ms(backoff.next(1024))));
        for _ in 0..9 {
            backoff.next(0);
        }
        assert_eq!(ms(backoff.next(0)), 15_000);
        backoff.reset();
        assert_eq!(ms(backoff.next(0)), 500);
        assert_eq!(ms(Backoff::reconnects().next(0)), 0);
    }

    #[test]
    fn restarts_are_bounded() {
        let zero = Instant::now();
        let at = |seconds| zero + Duration::from_secs(seconds);
        let mut restarts = Restarts::default();
        assert_eq!(restarts.next(at(0)), Ok(at(0)));
        assert_eq!(restarts.next(at(1)), Ok(at(2)));
        assert_eq!(restarts.next(at(5)), Ok(at(9)));
        assert_eq!(restarts.next(at(10)), Err(at(70)));
        assert_eq!(restarts.next(at(71)), Ok(at(71)));
        assert_eq!(restarts.next(at(200)), Ok(at(200)), "what is long ago does not count");
    }
}
