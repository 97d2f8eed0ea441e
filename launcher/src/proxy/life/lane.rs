//! One scope's part of a launch: whether an instance of it should be there, and when one is asked for. Pure.

use std::time::{Duration, Instant};

use super::state::{State, Why};
use crate::proxy::backoff::{Backoff, Restarts};
use crate::proxy::talk::Otherwise;
use crate::proxy::talk::notice::Notice;

/// How long the broker may take from a request to its ticket.
pub(super) const ASK_TIME: Duration = Duration::from_secs(20);
/// How long an instance may take to answer the handshake that is replayed to it.
const REPLAY_TIME: Duration = Duration::from_secs(30);
/// How long a request waits for the first instance of a scope.
const START_TIME: Duration = Duration::from_secs(20);
/// A request makes a refused scope ask again where the last try is older than this.
const STALE: Duration = Duration::from_secs(1);

/// Where one scope stands.
pub(super) struct Lane {
    pub(super) state: State,
    /// Credentials have to be asked for, and have not been.
    pub(super) wanting: bool,
    /// Whether an instance is to be there without being asked for, once there was one.
    pub(super) eager: bool,
    /// A request waits for an instance.
    pub(super) waited: bool,
    /// Whether an instance is owed when what parked the launch is over.
    pub(super) owed: bool,
    pub(super) backoff: Backoff,
    pub(super) replace_at: Option<Instant>,
    /// Whether any instance of it ever worked.
    ran: bool,
    /// Until when a request waits for the first one.
    pub(super) late_at: Option<Instant>,
    restarts: Restarts,
    pub(super) idle: Duration,
    pub(super) used: Instant,
}

impl Lane {
    /// Nothing is asked for.
    pub(super) fn idle(now: Instant) -> Self {
        Self {
            state: State::Idle,
            wanting: false,
            eager: false,
            waited: false,
            owed: false,
            backoff: Backoff::refusals(),
            replace_at: None,
            ran: false,
            late_at: None,
            restarts: Restarts::default(),
            idle: Duration::ZERO,
            used: now,
        }
    }

    /// Credentials were asked for just now.
    pub(super) fn asking(now: Instant) -> Self {
        let state = State::Asking { until: now + ASK_TIME };
        Self { state, eager: true, owed: true, ..Self::idle(now) }
    }

    /// Whether credentials have to be asked for now; says so once.
    pub(super) fn take_want(&mut self) -> bool {
        std::mem::take(&mut self.wanting)
    }

    /// Whether a ticket is waited for.
    pub(super) fn wants(&self) -> bool {
        matches!(self.state, State::Asking { .. } | State::Swapping { new: None, .. })
    }

    /// What happens to a line of the client where nobody runs.
    pub(super) fn otherwise(&self) -> Otherwise<'_> {
        match &self.state {
            State::Parked(Why::Restarting(_), _) => Otherwise::Hold,
            State::Parked(_, notice) => Otherwise::Refuse(notice),
            _ => Otherwise::Hold,
        }
    }

    /// A request that needs the instance has come, or an answer to one.
    pub(super) fn used(&mut self, now: Instant) {
        self.used = now;
    }

    /// A request that needs the instance has come.
    pub(super) fn asked(&mut self, now: Instant) {
        self.used = now;
        if self.retries(now) {
            self.ask(now);
        }
        match self.state {
            State::Parked(Why::Away, _) => self.owed |= self.eager,
            State::Asking { .. } | State::Starting { .. } | State::Parked(Why::Restarting(_), _) => {
                self.waited = true;
                if !self.ran && !self.eager {
                    self.late_at.get_or_insert(now + START_TIME);
                }
            }
            _ => {}
        }
    }

    /// Whether a request would make it ask.
    pub(super) fn retries(&self, now: Instant) -> bool {
        match self.state {
            State::Idle => true,
            State::Parked(Why::Unavailable { tried, .. }, _) => now >= tried + STALE,
            State::Parked(Why::GivenUp(until), _) => now >= until,
            _ => false,
        }
    }

    pub(super) fn ask(&mut self, now: Instant) {
        self.wanting = true;
        self.state = State::Asking { until: now + ASK_TIME };
    }

    /// Credentials have come: which instance is to start, and whether as a replacement. Nothing where none was
    /// asked for.
    pub(super) fn ticket(&mut self, number: u32, idle: Duration, now: Instant) -> Option<bool> {
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
    pub(super) fn awaits(&self, number: u32) -> bool {
        match self.state {
            State::Starting { number: coming, .. } | State::Swapping { new: Some(coming), .. } => {
                coming == number
            }
            _ => false,
        }
    }

    /// An instance is ready; the one whose place it takes. Nothing where it is not waited for.
    #[expect(clippy::option_option, reason = "whether it is ready, and whether it takes another's place")]
    pub(super) fn ready(&mut self, number: u32, now: Instant) -> Option<Option<u32>> {
        if !self.awaits(number) {
            return None;
        }
        let old = match self.state {
            State::Swapping { old, .. } => Some(old),
            _ => None,
        };
        self.state = State::Running { number };
        (self.ran, self.late_at, self.used) = (true, None, now);
        self.waited = false;
        self.backoff.reset();
        Some(old)
    }

    /// The credentials of an instance cannot be renewed further.
    pub(super) fn replace(&mut self, number: u32, now: Instant) {
        match self.state {
            State::Running { number: running } if running == number => self.swap(number, now),
            _ if self.awaits(number) => self.replace_at = Some(now),
            _ => {}
        }
    }

    pub(super) fn swap(&mut self, old: u32, now: Instant) {
        (self.wanting, self.replace_at) = (true, None);
        self.state = State::Swapping { old, new: None, until: now + ASK_TIME };
    }

    /// An instance ended by itself, or cannot be used; `words` say how.
    pub(super) fn failed(&mut self, number: u32, words: &Notice, random: u32, now: Instant) {
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

    /// An instance ended, and nobody needs another one.
    pub(super) fn ended(&mut self, number: u32) {
        match self.state {
            State::Running { number: running } | State::Starting { number: running, .. }
                if running == number =>
            {
                self.rest();
            }
            State::Swapping { old, .. } if old == number => self.drop_old(),
            State::Swapping { old, new, .. } if new == Some(number) => {
                self.state = State::Running { number: old };
            }
            _ => {}
        }
    }

    /// The credentials of an instance have ended: another is asked for, if it is not on its way.
    pub(super) fn expired(&mut self, number: u32, now: Instant) {
        match self.state {
            State::Running { number: running } | State::Starting { number: running, .. }
                if running == number =>
            {
                self.replace_at = None;
                self.ask_where_needed(now);
            }
            State::Swapping { old, .. } if old == number => self.drop_old(),
            State::Swapping { old, new: Some(new), .. } if new == number => {
                self.state = State::Running { number: old };
                self.replace_at = Some(now);
            }
            _ => {}
        }
    }

    /// Whoever is not to stand by waits for a request.
    pub(super) fn ask_where_needed(&mut self, now: Instant) {
        if self.eager || self.waited {
            self.ask(now);
        } else {
            self.state = State::Idle;
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
            Ok(at) if at <= now => return self.ask_where_needed(now),
            Ok(at) => State::Parked(Why::Restarting(at), words.clone()),
            Err(until) => {
                let what = format!("{}, and was started too often in a short time", words.what);
                State::Parked(Why::GivenUp(until), Notice::new(words.kind, what, words.hint.as_str()))
            }
        };
    }

    /// The instance is given up as idle.
    pub(super) fn rest(&mut self) {
        self.state = State::Idle;
        (self.owed, self.replace_at, self.late_at) = (false, None, None);
    }
}
