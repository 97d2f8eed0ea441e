//! Where a scope of a launch stands, and what can be due in it.

use std::time::Instant;

use crate::failure::Failure;
use crate::proxy::talk::notice::Notice;

/// Where a scope stands.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing runs; credentials are asked for.
    Asking {
        /// Until when the broker has to answer.
        until: Instant,
    },
    /// An instance is coming up.
    Starting {
        /// Which.
        number: u32,
        /// Until when it has to be ready.
        until: Instant,
    },
    /// An instance works.
    Running {
        /// Which.
        number: u32,
    },
    /// An instance works, and another one is to take its place.
    Swapping {
        /// The one that works.
        old: u32,
        /// The other, once it is coming up.
        new: Option<u32>,
        /// Until when the next step has to be done.
        until: Instant,
    },
    /// Nothing runs, and nothing may.
    Parked(Why, Notice),
    /// Nothing runs, and nothing has to until the next request.
    Idle,
}

/// Why it is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The session is locked.
    Locked,
    /// There are no credentials.
    Unavailable {
        /// When to ask again by itself.
        again: Option<Instant>,
        /// When the last try was.
        tried: Instant,
    },
    /// There is no broker.
    Away,
    /// The server keeps ending: the next try is at this time.
    Restarting(Instant),
    /// The server has ended too often: a request after this time tries again.
    GivenUp(Instant),
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub enum Due {
    /// What waits for the first instance of the scope has waited long enough.
    Late,
    /// The broker did not answer.
    Unheard,
    /// This instance did not come up.
    Unready(u32),
    /// This instance may be given up as idle.
    Idle(u32),
    /// The launch is over before it began.
    Over(Failure),
}
