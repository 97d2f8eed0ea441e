//! How much one account may ask for. Each refusal is a line in the audit log, and nobody may fill the disk with
//! them.

use std::collections::HashMap;
use std::time::Duration;

use mcp_broker_proto::problem::{ErrorCode, Problem};

/// So many launches one account may have at once.
const MAX_LAUNCHES: usize = 256;

/// So many refusals an account is given in a [`WINDOW`].
const MAX_REFUSALS: u32 = 60;

/// The time in which refusals are counted.
const WINDOW: Duration = Duration::from_secs(60);

/// How often each account was refused lately.
#[derive(Default)]
pub(super) struct Paces(HashMap<u32, Pace>);

/// Refusals of one account since a moment on the boot clock.
#[derive(Default)]
struct Pace {
    since: Duration,
    count: u32,
}

/// What an account may do.
pub(super) enum Allowed {
    /// Ask.
    Ask,
    /// Wait, and this is the first time that it is told so.
    WaitFromNow,
    /// Wait.
    Wait,
}

impl Paces {
    /// Whether the account is listened to now.
    pub(super) fn allows(&mut self, uid: u32, now: Duration) -> Allowed {
        let pace = self.0.entry(uid).or_default();
        if now.saturating_sub(pace.since) > WINDOW {
            *pace = Pace { since: now, count: 0 };
        }
        match pace.count.cmp(&MAX_REFUSALS) {
            std::cmp::Ordering::Less => Allowed::Ask,
            std::cmp::Ordering::Equal => {
                pace.count += 1;
                Allowed::WaitFromNow
            }
            std::cmp::Ordering::Greater => Allowed::Wait,
        }
    }

    /// Counts a refusal.
    pub(super) fn refused(&mut self, uid: u32) {
        if let Some(pace) = self.0.get_mut(&uid) {
            pace.count += 1;
        }
    }
}

/// Whether an account with so many launches may have one more.
pub(super) fn room(launches: usize) -> Result<(), Problem> {
    if launches < MAX_LAUNCHES {
        return Ok(());
    }
    let title = format!("there are {MAX_LAUNCHES} launches of this account already");
    Err(Problem::new(ErrorCode::TooMany, title, "see `mcp-run status`, and end what is not needed"))
}

/// What an account that must wait is told.
pub(super) fn wait() -> Problem {
    let title = format!("this account was refused {MAX_REFUSALS} times within a minute");
    Problem::new(ErrorCode::TooMany, title, "wait a minute; `mcp-run servers` says what may be launched")
}
