//! Waiting without luck: a condition is asked again until it holds or patience ends. No test asserts a time;
//! the bound is generous, so that a loaded machine does not fail a right program.

use std::time::{Duration, Instant};

/// What "within seconds" means here. Thirty-second faults must end well before their thirty seconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until `condition` answers with a value.
///
/// # Panics
/// When it did not within [`PATIENCE`].
#[track_caller]
pub fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

/// The same with another bound.
///
/// # Panics
/// When the condition did not hold in time.
#[track_caller]
pub fn within<T>(patience: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "not within {patience:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Turns a condition into what [`eventually`] asks for.
#[must_use]
pub fn so(holds: bool) -> Option<()> {
    holds.then_some(())
}
