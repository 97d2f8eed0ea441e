//! How a launch is parked and comes back: refused, parked by the broker, without a broker.

use std::time::Instant;

use mcp_broker_proto::channel::Park;
use mcp_broker_proto::problem::{ErrorCode, Problem};

use super::{FIRST_TIME, Life, State, Why};
use crate::failure::Failure;
use crate::proxy::talk::notice::{Kind, Notice};

impl Life {
    /// The broker says no. The launch is over where waiting cannot cure it.
    pub fn refused(&mut self, problem: &Problem, random: u32, now: Instant) -> Option<Failure> {
        if !problem.code.is_passing() {
            return Some(problem.clone().into());
        }
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
                    _ => Why::Unavailable { again: Some(again), tried: now },
                };
                self.owed = true;
                self.park_first(problem.clone().into(), now);
                self.state = State::Parked(why, problem.into());
            }
        }
        None
    }

    fn park_first(&mut self, failure: Failure, now: Instant) {
        if !self.started {
            let until = self.first.take().map_or(now + FIRST_TIME, |(until, _)| until);
            self.first = Some((until, failure));
        }
    }

    /// The broker parks the launch.
    pub fn park(&mut self, park: &Park, random: u32, now: Instant) {
        self.note_owed();
        let notice = Notice::from(park);
        self.park_first(Failure::new(notice.kind.exit_code(), park.what.as_str(), park.hint.as_str()), now);
        let why = match notice.kind {
            Kind::Locked => Why::Locked,
            _ => {
                let again = now + self.backoff.next(random);
                Why::Unavailable { again: self.owed.then_some(again), tried: now }
            }
        };
        self.state = State::Parked(why, notice);
    }

    /// What parked the launch is over.
    pub fn resume(&mut self, now: Instant) {
        if let State::Parked(Why::Locked | Why::Unavailable { .. }, _) = self.state {
            self.go_on(self.owed, now);
        }
    }

    /// The broker is gone, and with it every instance.
    pub fn lost(&mut self, notice: Notice) {
        self.note_owed();
        self.state = State::Parked(Why::Away, notice);
    }

    /// Whether the next broker is asked for credentials at once.
    #[must_use]
    pub fn owed(&self) -> bool {
        self.owed
    }

    /// A broker is there again, and was asked for credentials already where they are owed.
    pub fn back(&mut self, asked: bool, now: Instant) {
        self.go_on(asked, now);
        self.wanting = false;
        if self.owed && !asked {
            self.ask(now);
        }
    }

    fn note_owed(&mut self) {
        self.owed = match self.state {
            State::Idle | State::Parked(Why::GivenUp(_), _) => false,
            State::Parked(Why::Restarting(_), _) => true,
            State::Parked(..) => self.owed,
            _ => true,
        };
        (self.wanting, self.replace_at) = (false, None);
    }

    fn go_on(&mut self, asks: bool, now: Instant) {
        if asks {
            self.ask(now);
        } else {
            self.state = State::Idle;
        }
    }
}
