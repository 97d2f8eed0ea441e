//! Which instances a launch should have, and when it asks for one. Pure: it is told what happens and the
//! time, and says what is due. It knows nothing of processes, frames or lines.

use std::time::{Duration, Instant};

use super::backoff::{Backoff, Restarts};
use super::talk::Otherwise;
use super::talk::notice::Notice;
use crate::failure::Failure;

mod park;
mod state;
#[cfg(test)]
mod tests;

pub use state::{Due, State, Why};

/// How long the broker may take from a request to its ticket.
const ASK_TIME: Duration = Duration::from_secs(20);
/// How long an instance may take to answer the handshake that is replayed to it.
const REPLAY_TIME: Duration = Duration::from_secs(30);
/// How long the very first start is tried where waiting could cure it.
const FIRST_TIME: Duration = Duration::from_secs(3);
/// An instance that neither says nor takes anything for so long will not answer what it was asked.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);
/// A request makes a refused launch ask again where the last try is older than this.
const STALE: Duration = Duration::from_secs(1);

/// The life of a launch.
pub struct Life {
    state: State,
    /// Credentials have to be asked for, and have not been.
    wanting: bool,
    /// Whether any instance ever ran.
    started: bool,
    /// Whether an instance is owed when what parked the launch is over.
    owed: bool,
    /// When the first start is given up, once it has been refused.
    first: Option<(Instant, Failure)>,
    backoff: Backoff,
    restarts: Restarts,
    replace_at: Option<Instant>,
    idle: Duration,
    used: Instant,
}

impl Life {
    /// Credentials were asked for just now.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            state: State::Asking { until: now + ASK_TIME },
            wanting: false,
            started: false,
            owed: true,
            first: None,
            backoff: Backoff::refusals(),
            restarts: Restarts::default(),
            replace_at: None,
            idle: Duration::ZERO,
            used: now,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Whether no instance ever ran.
    #[must_use]
    pub fn is_first(&self) -> bool {
        !self.started
    }

    /// Why the first start does not come about, while it does not.
    #[must_use]
    pub fn first_failure(&self) -> Option<Failure> {
        self.first.as_ref().map(|(_, failure)| failure.clone())
    }

    /// Whether credentials have to be asked for now; says so once.
    pub fn take_want(&mut self) -> bool {
        std::mem::take(&mut self.wanting)
    }

    /// What happens to a line of the client where nobody runs.
    #[must_use]
    pub fn otherwise(&self) -> Otherwise<'_> {
        match &self.state {
            _ if !self.started => Otherwise::First,
            State::Parked(Why::Restarting(_), _) => Otherwise::Hold,
            State::Parked(_, notice) => Otherwise::Refuse(notice),
            _ => Otherwise::Hold,
        }
    }

    /// A request that needs a server has come, or an answer to one.
    pub fn used(&mut self, now: Instant) {
        self.used = now;
    }

    /// A request that needs a server has come.
    pub fn asked(&mut self, now: Instant) {
        self.used = now;
        match self.state {
            State::Idle => self.ask(now),
            State::Parked(Why::Unavailable { tried, .. }, _) if now >= tried + STALE => self.ask(now),
            State::Parked(Why::GivenUp(until), _) if now >= until => self.ask(now),
            State::Parked(Why::Away, _) => self.owed = true,
            _ => {}
        }
    }

    fn ask(&mut self, now: Instant) {
        self.wanting = true;
        self.state = State::Asking { until: now + ASK_TIME };
    }

    /// Credentials have come: which instance is to start, and whether as a replacement. Nothing where none was
    /// asked for.
    pub fn ticket(&mut self, number: u32, idle: Duration, now: Instant) -> Option<bool> {
        let until = now + REPLAY_TIME;
        let quiet = match self.state {
            State::Asking { .. } => {
                self.state = State::Starting { number, until };
                false
            }
            State::Swapping { old, new: None, .. } => {
                self.state = State::Swapping { old, new: Some(number), until };
                true
            }
            _ => return None,
        };
        (self.idle, self.replace_at) = (idle, None);
        Some(quiet)
    }

    /// Whether this instance is the one that is coming up.
    #[must_use]
    pub fn awaits(&self, number: u32) -> bool {
        match self.state {
            State::Starting { number: coming, .. } | State::Swapping { new: Some(coming), .. } => {
                coming == number
            }
            _ => false,
        }
    }

    /// An instance is ready; the one whose place it takes. Nothing happens where it is not waited for.
    pub fn ready(&mut self, number: u32, now: Instant) -> Option<u32> {
        if !self.awaits(number) {
            return None;
        }
        let old = match self.state {
            State::Swapping { old, .. } => Some(old),
            _ => None,
        };
        self.state = State::Running { number };
        (self.started, self.first, self.used) = (true, None, now);
        self.backoff.reset();
        old
    }

    /// The credentials of an instance cannot be renewed further.
    pub fn replace(&mut self, number: u32, now: Instant) {
        match self.state {
            State::Running { number: running } if running == number => self.swap(number, now),
            _ if self.awaits(number) => self.replace_at = Some(now),
            _ => {}
        }
    }

    fn swap(&mut self, old: u32, now: Instant) {
        (self.wanting, self.replace_at) = (true, None);
        self.state = State::Swapping { old, new: None, until: now + ASK_TIME };
    }

    /// An instance ended by itself, or cannot be used; `words` say how.
    pub fn failed(&mut self, number: u32, words: &Notice, random: u32, now: Instant) {
        match self.state {
            State::Running { number: running } | State::Starting { number: running, .. }
                if running == number =>
            {
                self.replace_at = None;
                self.restart(words, now);
            }
            State::Swapping { old, .. } if old == number => self.drop_old(),
            State::Swapping { old, new, .. } if new == Some(number) => {
                self.state = State::Running { number: old };
                self.replace_at = Some(now + self.backoff.next(random));
            }
            _ => {}
        }
    }

    /// The credentials of an instance have ended: another is asked for, if it is not on its way.
    pub fn expired(&mut self, number: u32, now: Instant) {
        match self.state {
            State::Running { number: running } | State::Starting { number: running, .. }
                if running == number =>
            {
                self.replace_at = None;
                self.ask(now);
            }
            State::Swapping { old, .. } if old == number => self.drop_old(),
            State::Swapping { old, new: Some(new), .. } if new == number => {
                self.state = State::Running { number: old };
                self.replace_at = Some(now);
            }
            _ => {}
        }
    }

    /// The one that was to be replaced is gone: the other is all there is.
    fn drop_old(&mut self) {
        if let State::Swapping { new, until, .. } = self.state {
            self.state = match new {
                Some(number) => State::Starting { number, until },
                None => State::Asking { until },
            };
        }
    }

    fn restart(&mut self, words: &Notice, now: Instant) {
        self.state = match self.restarts.next(now) {
            Ok(at) if at <= now => return self.ask(now),
            Ok(at) => State::Parked(Why::Restarting(at), words.clone()),
            Err(until) => {
                let what = format!("{}, and was started too often in a short time", words.what);
                State::Parked(Why::GivenUp(until), Notice::new(words.kind, what, words.hint.as_str()))
            }
        };
    }

    /// The instance is given up as idle.
    pub fn rest(&mut self) {
        self.state = State::Idle;
        (self.owed, self.replace_at) = (false, None);
    }

    /// What is due; where the instance that works owes somebody an answer, `busy` says when it last said or took
    /// anything.
    pub fn due(&mut self, now: Instant, busy: impl FnOnce(u32) -> Option<Instant>) -> Option<Due> {
        if self.first.as_ref().is_some_and(|(until, _)| now >= *until && !self.started) {
            return self.first.take().map(|(_, failure)| Due::Over(failure));
        }
        match self.state {
            State::Asking { until } | State::Swapping { new: None, until, .. } if now >= until => {
                return Some(Due::Unheard);
            }
            State::Starting { number, until } | State::Swapping { new: Some(number), until, .. }
                if now >= until =>
            {
                return Some(Due::Unready(number));
            }
            State::Parked(Why::Unavailable { again: Some(at), .. } | Why::Restarting(at), _) if now >= at => {
                self.ask(now);
            }
            State::Running { number } if self.replace_at.is_some_and(|at| now >= at) => {
                self.swap(number, now)
            }
            State::Running { number } if self.idle_at().is_some_and(|at| now >= at) => {
                if busy(number).is_none_or(|moved| now >= moved + FORGOTTEN) {
                    return Some(Due::Idle(number));
                }
                // Its answer will count as use; until then there is nothing to look for every moment.
                self.used = now;
            }
            _ => {}
        }
        None
    }

    fn idle_at(&self) -> Option<Instant> {
        (!self.idle.is_zero()).then(|| self.used + self.idle)
    }

    /// When to ask [`Self::due`] again.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let state = match self.state {
            State::Asking { until } | State::Starting { until, .. } | State::Swapping { until, .. } => {
                Some(until)
            }
            State::Parked(Why::Unavailable { again, .. }, _) => again,
            State::Parked(Why::Restarting(at), _) => Some(at),
            State::Running { .. } => self.replace_at.into_iter().chain(self.idle_at()).min(),
            State::Parked(..) | State::Idle => None,
        };
        let first = self.first.as_ref().filter(|_| !self.started).map(|(until, _)| *until);
        state.into_iter().chain(first).min()
    }
}
