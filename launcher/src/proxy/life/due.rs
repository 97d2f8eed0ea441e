//! What the clock brings for a scope, and when to look again.

use std::time::{Duration, Instant};

use super::lane::{ASK_TIME, Lane};
use super::state::{Due, State, Why};

/// An instance that neither says nor takes anything for so long will not answer what it was asked.
const FORGOTTEN: Duration = Duration::from_secs(15 * 60);

impl Lane {
    /// What is due; where the instance that works owes somebody an answer, `busy` says when it last said or took
    /// anything.
    pub(super) fn due(&mut self, now: Instant, busy: impl FnOnce(u32) -> Option<Instant>) -> Option<Due> {
        if self.late_at.take_if(|at| now >= *at).is_some() {
            self.waited = false;
            return Some(Due::Late);
        }
        match self.state {
            State::Asking { until } | State::Swapping { new: None, until, .. } if now >= until => {
                return Some(self.unheard(now));
            }
            State::Starting { number, until } | State::Swapping { new: Some(number), until, .. }
                if now >= until =>
            {
                return Some(Due::Unready(number));
            }
            State::Parked(Why::Unavailable { again: Some(at), .. }, _) if now >= at => self.ask(now),
            State::Parked(Why::Restarting(at), _) if now >= at => self.ask_where_needed(now),
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

    /// The broker did not answer. Whoever waits is answered meanwhile, and another scope is left alone: only the
    /// one that has to be there tells that the broker is of no use.
    fn unheard(&mut self, now: Instant) -> Due {
        if self.eager {
            return Due::Unheard;
        }
        let until = now + ASK_TIME;
        match &mut self.state {
            State::Asking { until: at } | State::Swapping { until: at, .. } => *at = until,
            _ => {}
        }
        (self.late_at, self.waited) = (None, false);
        Due::Late
    }

    fn idle_at(&self) -> Option<Instant> {
        (!self.idle.is_zero()).then(|| self.used + self.idle)
    }

    /// When to ask [`Self::due`] again.
    pub(super) fn next(&self) -> Option<Instant> {
        let state = match self.state {
            State::Asking { until } | State::Starting { until, .. } | State::Swapping { until, .. } => {
                Some(until)
            }
            State::Parked(Why::Unavailable { again, .. }, _) => again,
            State::Parked(Why::Restarting(at), _) => Some(at),
            State::Running { .. } => self.replace_at.into_iter().chain(self.idle_at()).min(),
            State::Parked(..) | State::Idle => None,
        };
        state.into_iter().chain(self.late_at).min()
    }
}
