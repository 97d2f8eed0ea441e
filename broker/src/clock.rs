//! The time: wall clock for people and for what a backend says, boot time for the broker's own deadlines,
//! because it goes on while the machine sleeps. Nobody else asks the system.

use std::time::Duration;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Wall clock (UTC).
    fn now(&self) -> Timestamp;

    /// Time since boot, sleep included (clock_gettime(2), `CLOCK_BOOTTIME`).
    fn boot(&self) -> Duration;
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
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    }
}
