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

/// How often each account was refused lately, and how much it asked for.
#[derive(Default)]
pub(super) struct Paces(HashMap<u32, Pace>);

/// Refusals of one account since a moment on the boot clock, and when it will have done nothing for a [`WINDOW`].
#[derive(Default)]
struct Pace {
    since: Duration,
    count: u32,
    even: Duration,
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
            (pace.since, pace.count) = (now, 0);
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

    /// Counts one thing of those that an account may begin so often a minute: as many at once, and then as they come
    /// back evenly (the generic cell rate algorithm, ITU-T I.371 annex A).
    ///
    /// # Errors
    /// What the person is told who has used them up.
    pub(super) fn begins(&mut self, uid: u32, now: Duration, per_minute: u32) -> Result<(), Problem> {
        let pace = self.0.entry(uid).or_default();
        let even = pace.even.max(now) + WINDOW / per_minute.max(1);
        if even > now + WINDOW {
            let title = format!("this account has begun {per_minute} launches and mints within a minute");
            let hint =
                "see `mcp-run status` for what begins so often; `session.mints_per_minute` is the limit";
            return Err(Problem::new(ErrorCode::TooMany, title, hint));
        }
        pace.even = even;
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_account_begins_comes_back_evenly() {
        let (mut paces, second) = (Paces::default(), Duration::from_secs(1));
        let mut begins =
            |uid, at, times: usize| (0..times).filter(|_| paces.begins(uid, at, 30).is_ok()).count();
        let start = 1000 * second;
        assert_eq!(begins(1, start, 100), 30, "as many at once");
        assert_eq!(begins(1, start + 3 * second, 100), 1, "one in two seconds");
        assert_eq!(begins(2, start, 10), 10, "another account has its own");
        assert_eq!(begins(1, start + 200 * second, 100), 30, "it never has more");
    }

    /// Refusals are counted beside it, and end with their minute.
    #[test]
    fn a_minute_of_refusals_gives_nothing_back() {
        let (mut paces, second) = (Paces::default(), Duration::from_secs(1));
        assert!(paces.begins(1, second, 1).is_ok());
        assert!(matches!(paces.allows(1, 61 * second), Allowed::Ask));
        assert!(paces.begins(1, second, 1).is_err());
    }
}
