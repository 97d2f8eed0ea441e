//! Named points at which a run can be told to die, stop, panic, wait or fail, clocks that a run can be told to move,
//! and credentials that may be shorter, so that a run can see several of them end: for tests, and only with the feature `fault-points`, which no release can have. Without it every
//! function here is empty. Decides nothing: what a point means is written where it stands.
//!
//! `MCP_BROKER_FAULT=POINT[:N][=ACTION][,…]` acts at the N-th passing of a point (the first, unless said). The
//! actions are `kill` (the default), `stop`, `panic`, `delay` (for [`DELAY`]) and `fail`, which points that can
//! fail obey. The points are in [`POINTS`].
//! `MCP_BROKER_FAULT_CLOCK=FILE` adds what the file says to the clocks; see [`clock`].

#[cfg(all(feature = "fault-points", not(debug_assertions)))]
compile_error!("the feature `fault-points` is for tests: it cannot be built without debug assertions");

#[cfg(feature = "fault-points")]
mod armed;
#[cfg(feature = "fault-points")]
mod clocks;
#[cfg(feature = "fault-points")]
mod points;

#[cfg(feature = "fault-points")]
pub use armed::{DELAY, at, call, io, passing};
#[cfg(feature = "fault-points")]
pub use clocks::clock;
#[cfg(feature = "fault-points")]
pub use points::POINTS;

#[cfg(not(feature = "fault-points"))]
pub use disarmed::{at, call, clock, io, passing};

/// The shortest `ttl` that a definition may name.
pub const SHORTEST_TTL: std::time::Duration =
    std::time::Duration::from_secs(if cfg!(feature = "fault-points") { 3 } else { 30 });

/// On which side of a call a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Nothing was sent.
    Before,
    /// It was answered, or given up.
    After,
}

#[cfg(not(feature = "fault-points"))]
mod disarmed {
    use std::sync::Arc;

    use super::Side;
    use crate::clock::{Clock, SystemClock};

    /// A point.
    #[inline(always)]
    pub fn at(_point: &'static str) {}

    /// A point of something that can fail.
    ///
    /// # Errors
    /// None without the feature.
    #[inline(always)]
    pub fn io(_point: &'static str) -> std::io::Result<()> {
        Ok(())
    }

    /// A point at which a task can be delayed.
    #[inline(always)]
    pub async fn passing(_point: &'static str) {}

    /// A point beside the call of that name.
    #[inline(always)]
    pub async fn call(_name: &'static str, _side: Side) {}

    /// The machine's clocks.
    #[must_use]
    pub fn clock() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}
