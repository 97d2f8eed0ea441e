//! The time: wall clock for people and for what a backend says, boot time for the broker's own deadlines,
//! because it goes on while the machine sleeps. Nobody else asks the system.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Wall clock (UTC).
    fn now(&self) -> Timestamp;

    /// Time since boot, sleep included (clock_gettime(2), `CLOCK_BOOTTIME`).
    fn boot(&self) -> Duration;

    /// Time that stands still while the machine sleeps (`CLOCK_MONOTONIC`), from any origin.
    fn monotonic(&self) -> Duration;
}

/// Sees that the machine slept: then the boot clock went on and the monotonic one did not.
pub struct JumpWatch(Mutex<Duration>);

/// The two clocks are read one after the other, and the machine may be busy in between.
const SHORTEST_SLEEP: Duration = Duration::from_secs(2);

impl JumpWatch {
    /// Watches from now on.
    #[must_use]
    pub fn new(clock: &dyn Clock) -> Self {
        Self(Mutex::new(Self::slept(clock)))
    }

    /// Whether the machine slept since this was last asked.
    pub fn jumped(&self, clock: &dyn Clock) -> bool {
        let slept = Self::slept(clock);
        let mut before = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let jumped = slept.saturating_sub(*before) > SHORTEST_SLEEP;
        if jumped {
            *before = slept;
        }
        jumped
    }

    /// Time slept since boot, and a constant.
    fn slept(clock: &dyn Clock) -> Duration {
        clock.boot().saturating_sub(clock.monotonic())
    }
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
        read(ClockId::Boottime)
    }

    fn monotonic(&self) -> Duration {
        read(ClockId::Monotonic)
    }
}

fn read(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}
