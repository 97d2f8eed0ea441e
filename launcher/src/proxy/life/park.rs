//! How a scope is parked and comes back: refused, parked by the broker, without a broker.

use std::time::Instant;

use mcp_broker_proto::channel::Park;
use mcp_broker_proto::problem::{ErrorCode, Problem};

use super::lane::Lane;
use super::state::{State, Why};
use crate::proxy::talk::notice::{Kind, Notice};

impl Lane {
    /// The broker says no, and waiting may cure it.
    pub(super) fn refused(&mut self, problem: &Problem, random: u32, now: Instant) {
        let again = now + self.backoff.next(random);
        match self.state {
            // It was asked before the broker locked, and a lock has an end of its own.
            State::Parked(Why::Locked, _) => {}
            State::Swapping { old, .. } => {
                self.state = State::Running { number: old };
                self.replace_at = Some(again);
            }
            _ => {
                let why = match problem.code {
                    ErrorCode::SessionLocked => Why::Locked,
                    _ => Why::Unavailable { again: self.eager.then_some(again), tried: now },
                };
                self.owed = self.eager;
                self.park_as(why, problem.into());
            }
        }
    }

    /// The broker parks the launch.
    pub(super) fn park(&mut self, park: &Park, random: u32, now: Instant) {
        self.note_owed();
        let notice = Notice::from(park);
        let why = match notice.kind {
            Kind::Locked => Why::Locked,
            _ => {
                let again = now + self.backoff.next(random);
                Why::Unavailable { again: self.owed.then_some(again), tried: now }
            }
        };
        self.park_as(why, notice);
    }

    fn park_as(&mut self, why: Why, notice: Notice) {
        // Whoever waits is answered.
        self.late_at = None;
        self.waited = false;
        self.state = State::Parked(why, notice);
    }

    /// What parked the launch is over.
    pub(super) fn resume(&mut self, now: Instant) {
        if let State::Parked(Why::Locked | Why::Unavailable { .. }, _) = self.state {
            self.go_on(now);
        }
    }

    /// The broker is gone, and with it every instance.
    pub(super) fn lost(&mut self, notice: Notice) {
        self.note_owed();
        self.park_as(Why::Away, notice);
    }

    /// A broker is there again.
    pub(super) fn back(&mut self, now: Instant) {
        self.wanting = false;
        self.go_on(now);
    }

    fn note_owed(&mut self) {
        let owed = match self.state {
            State::Idle | State::Parked(Why::GivenUp(_), _) => false,
            State::Parked(Why::Restarting(_), _) => true,
            State::Parked(..) => self.owed,
            _ => true,
        };
        self.owed = owed && self.eager;
        (self.wanting, self.replace_at) = (false, None);
    }

    fn go_on(&mut self, now: Instant) {
        if self.owed {
            self.ask(now);
        } else {
            self.state = State::Idle;
        }
    }
}
