//! How much a scope is used in a session: calls of the last minute and calls at once, in memory of a fixed size. It
//! is told the time, decides nothing, and may count a call for up to a second longer than a minute.

use std::time::Duration;

/// What [`super::decide_call`] has to know of a scope's calls, the one that is decided on not among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Calls in the last minute.
    pub last_minute: u32,
    /// Calls that are under way, or wait for a person.
    pub at_once: u32,
}

/// Counts the calls of one scope of a server in one session.
#[derive(Debug, Clone)]
pub struct Meter {
    /// Calls by second, the second's number modulo the length of the ring.
    ring: [u32; SECONDS],
    /// The last second that the ring holds.
    second: u64,
    at_once: u32,
}

/// A minute touches one second more than it is long.
const SECONDS: usize = 61;

impl Default for Meter {
    fn default() -> Self {
        Self { ring: [0; SECONDS], second: 0, at_once: 0 }
    }
}

impl Meter {
    /// The usage at `now`, a time of a clock that never goes back (a step back counts as no step).
    pub fn usage(&mut self, now: Duration) -> Usage {
        self.turn_to(now.as_secs());
        let last_minute = self.ring.iter().fold(0_u32, |sum, calls| sum.saturating_add(*calls));
        Usage { last_minute, at_once: self.at_once }
    }

    /// Counts a call that is let through, or waits for a person.
    pub fn begin(&mut self, now: Duration) {
        self.turn_to(now.as_secs());
        if let Some(calls) = self.ring.get_mut(place(self.second)) {
            *calls = calls.saturating_add(1);
        }
        self.at_once = self.at_once.saturating_add(1);
    }

    /// A call that was counted is over: answered, or refused by the person.
    pub fn end(&mut self) {
        self.at_once = self.at_once.saturating_sub(1);
    }

    /// Forgets the seconds that are older than a minute at `second`.
    fn turn_to(&mut self, second: u64) {
        let passed = second.saturating_sub(self.second);
        for step in 1..=passed.min(SECONDS as u64) {
            if let Some(calls) = self.ring.get_mut(place(self.second.saturating_add(step))) {
                *calls = 0;
            }
        }
        self.second = self.second.max(second);
    }
}

fn place(second: u64) -> usize {
    usize::try_from(second % SECONDS as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(at: u64) -> Duration {
        Duration::from_millis(at)
    }

    #[test]
    fn at_once() {
        let mut meter = Meter::default();
        meter.begin(millis(0));
        meter.begin(millis(90_000));
        assert_eq!(meter.usage(millis(90_000)), Usage { last_minute: 1, at_once: 2 });
        meter.end();
        assert_eq!(meter.usage(millis(90_000)), Usage { last_minute: 1, at_once: 1 });
        meter.end();
        meter.end();
        assert_eq!(meter.usage(millis(90_000)).at_once, 0);
    }

    #[test]
    fn a_call_counts_for_a_minute() {
        for (at, asked, want) in [
            (0, 0, 1),
            (0, 59_999, 1),
            (0, 60_999, 1),
            (0, 61_000, 0),
            (999, 60_999, 1),
            (1_500, 61_500, 1),
            (1_500, 62_000, 0),
            (5_000, 9_000_000, 0),
            // A clock that steps back forgets nothing.
            (5_000, 1_000, 1),
        ] {
            let mut meter = Meter::default();
            meter.begin(millis(at));
            assert_eq!(meter.usage(millis(asked)).last_minute, want, "{at} {asked}");
        }
    }

    #[test]
    fn a_clock_that_steps_back_and_on_again_forgets_nothing() {
        let mut meter = Meter::default();
        meter.begin(millis(5_000));
        for at in [1_000, 6_000, 2_000, 60_000] {
            assert_eq!(meter.usage(millis(at)).last_minute, 1, "{at}");
        }
    }

    /// Against a list of all calls: never fewer than the last minute has, never more than 61 seconds have.
    #[test]
    fn agrees_with_a_list() {
        let mut state = 7_u64;
        let mut next = |below: u64| {
            // xorshift64 (Marsaglia 2003): the same calls in every run.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for pace in [20, 900, 30_000, 90_000] {
            let (mut meter, mut calls, mut now) = (Meter::default(), Vec::new(), 0);
            for _ in 0..3_000 {
                now += next(pace);
                let within = |time: u64| calls.iter().filter(|at: &&u64| now - **at < time).count();
                let (least, most) = (within(60_000), within(61_000));
                let counted = usize::try_from(meter.usage(millis(now)).last_minute).unwrap_or(usize::MAX);
                assert!((least..=most).contains(&counted), "{least} {counted} {most}");
                if next(3) > 0 {
                    meter.begin(millis(now));
                    calls.push(now);
                }
            }
        }
    }
}
