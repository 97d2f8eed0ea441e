//! Which instances a launch should have, and when it asks for one. Pure: it is told what happens and the
//! time, and says what is due. It knows nothing of processes, frames or lines.

use std::time::{Duration, Instant};

use mcp_broker_proto::channel::Park;
use mcp_broker_proto::problem::Problem;

use super::talk::Otherwise;
use super::talk::notice::Notice;
use crate::failure::Failure;
use lane::Lane;

mod due;
mod lane;
mod park;
mod state;
#[cfg(test)]
mod tests;

pub use state::{Due, State, Why};

/// How long the very first start is tried where waiting could cure it.
const FIRST_TIME: Duration = Duration::from_secs(3);

/// The life of a launch: what concerns all of it, above the life of each scope.
pub struct Life {
    /// Its scopes, in the order of the plan; never none.
    lanes: Vec<Lane>,
    /// Whether it may stand below an open pipe without any instance, from the beginning.
    lazy: bool,
    /// Whether any instance ever ran.
    started: bool,
    /// When the first start is given up, once it has been refused.
    first: Option<(Instant, Failure)>,
}

impl Life {
    /// Credentials for the first scope were asked for just now. There are others once the plan is known.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { lanes: vec![Lane::asking(now)], lazy: false, started: false, first: None }
    }

    /// What the launch is: for each of its scopes where it stood before, if it did, and whether nothing is started
    /// until it is needed.
    pub fn plan(&mut self, before: &[Option<usize>], lazy: bool, now: Instant) {
        let mut old: Vec<_> = std::mem::take(&mut self.lanes).into_iter().map(Some).collect();
        let take = |place: &Option<usize>| place.and_then(|place| old.get_mut(place)?.take());
        self.lanes = before.iter().map(take).map(|lane| lane.unwrap_or_else(|| Lane::idle(now))).collect();
        let begins = !self.started && !self.lazy;
        self.lazy = lazy;
        for (place, lane) in self.lanes.iter_mut().enumerate() {
            lane.eager = place == 0 && !lazy;
            // The broker mints nothing for a lazy launch that did not ask.
            if lazy && begins && matches!(lane.state, State::Asking { .. }) {
                *lane = Lane::idle(now);
            }
        }
        if lazy {
            self.first = None;
        }
    }

    /// Where a scope stands.
    #[must_use]
    pub fn state(&self, lane: usize) -> &State {
        self.lanes.get(lane).map_or(&State::Idle, |lane| &lane.state)
    }

    /// How many scopes there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lanes.len()
    }

    /// Whether no instance ever ran of a launch that has to have one.
    #[must_use]
    pub fn is_first(&self) -> bool {
        !self.started && !self.lazy
    }

    /// Why the first start does not come about, while it does not.
    #[must_use]
    pub fn first_failure(&self) -> Option<Failure> {
        self.first.as_ref().map(|(_, failure)| failure.clone())
    }

    /// The next scope that credentials have to be asked for now; says so once.
    pub fn take_want(&mut self) -> Option<usize> {
        self.lanes.iter_mut().position(Lane::take_want)
    }

    /// The scopes that wait for a ticket.
    pub fn wanted(&self) -> impl Iterator<Item = usize> {
        self.lanes.iter().enumerate().filter(|(_, lane)| lane.wants()).map(|(place, _)| place)
    }

    /// Whether a scope waits for a ticket.
    #[must_use]
    pub fn wants(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(Lane::wants)
    }

    /// What happens to a line of the client where no instance of the scope runs.
    #[must_use]
    pub fn otherwise(&self, lane: usize) -> Otherwise<'_> {
        match self.lanes.get(lane) {
            _ if lane == 0 && self.is_first() => Otherwise::First,
            Some(lane) => lane.otherwise(),
            None => Otherwise::Hold,
        }
    }

    /// Whether a request would be answered by the reason why nothing runs, and is of no use to it.
    #[must_use]
    pub fn refuses(&self, lane: usize, now: Instant) -> Option<&Notice> {
        let retries = self.lanes.get(lane).is_some_and(|lane| lane.retries(now));
        match self.otherwise(lane) {
            Otherwise::Refuse(notice) if !retries => Some(notice),
            _ => None,
        }
    }

    /// A request that needs an instance has come, or an answer to one.
    pub fn used(&mut self, lane: usize, now: Instant) {
        self.lanes.get_mut(lane).into_iter().for_each(|lane| lane.used(now));
    }

    /// A request that needs an instance has come.
    pub fn asked(&mut self, lane: usize, now: Instant) {
        self.lanes.get_mut(lane).into_iter().for_each(|lane| lane.asked(now));
    }

    /// Credentials have come: which instance is to start, and whether as a replacement. Nothing where none was
    /// asked for.
    pub fn ticket(&mut self, lane: usize, number: u32, idle: Duration, now: Instant) -> Option<bool> {
        self.lanes.get_mut(lane)?.ticket(number, idle, now)
    }

    /// Whether this instance is one that is coming up.
    #[must_use]
    pub fn awaits(&self, number: u32) -> bool {
        self.lanes.iter().any(|lane| lane.awaits(number))
    }

    /// An instance is ready; the one whose place it takes. Nothing happens where it is not waited for.
    pub fn ready(&mut self, number: u32, now: Instant) -> Option<u32> {
        let old = self.lanes.iter_mut().find_map(|lane| lane.ready(number, now))?;
        (self.started, self.first) = (true, None);
        old
    }

    /// The credentials of an instance cannot be renewed further.
    pub fn replace(&mut self, number: u32, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.replace(number, now));
    }

    /// An instance ended by itself, or cannot be used; `words` say how.
    pub fn failed(&mut self, number: u32, words: &Notice, random: u32, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.failed(number, words, random, now));
    }

    /// An instance ended, and nobody needs another one.
    pub fn ended(&mut self, number: u32) {
        self.lanes.iter_mut().for_each(|lane| lane.ended(number));
    }

    /// The credentials of an instance have ended: another is asked for where one has to be there.
    pub fn expired(&mut self, number: u32, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.expired(number, now));
    }

    /// The instance of a scope is given up as idle, or nobody waits for one any more.
    pub fn rest(&mut self, lane: usize) {
        self.lanes.get_mut(lane).into_iter().for_each(Lane::rest);
    }

    /// The broker says no. The launch is over where waiting cannot cure it, and the scope has to be there.
    pub fn refused(&mut self, lane: usize, problem: &Problem, random: u32, now: Instant) -> Option<Failure> {
        if !problem.code.is_passing() && lane == 0 {
            return Some(problem.clone().into());
        }
        self.lanes.get_mut(lane)?.refused(problem, random, now);
        if lane == 0 && !matches!(self.state(0), State::Running { .. }) {
            self.park_first(|| problem.clone().into(), now);
        }
        None
    }

    fn park_first(&mut self, failure: impl FnOnce() -> Failure, now: Instant) {
        if self.is_first() {
            let until = self.first.take().map_or(now + FIRST_TIME, |(until, _)| until);
            self.first = Some((until, failure()));
        }
    }

    /// The broker parks the launch.
    pub fn park(&mut self, park: &Park, random: u32, now: Instant) {
        let kind = Notice::from(park).kind;
        self.park_first(|| Failure::new(kind.exit_code(), park.what.as_str(), park.hint.as_str()), now);
        self.lanes.iter_mut().for_each(|lane| lane.park(park, random, now));
    }

    /// What parked the launch is over.
    pub fn resume(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.resume(now));
    }

    /// The broker is gone, and with it every instance.
    pub fn lost(&mut self, notice: &Notice) {
        self.lanes.iter_mut().for_each(|lane| lane.lost(notice.clone()));
    }

    /// A broker is there again: what is owed is asked for.
    pub fn back(&mut self, now: Instant) {
        self.lanes.iter_mut().for_each(|lane| lane.back(now));
    }

    /// What is due, and for which scope; where the instance that works owes somebody an answer, `busy` says when it
    /// last said or took anything.
    pub fn due(&mut self, now: Instant, busy: impl Fn(u32) -> Option<Instant>) -> Option<(usize, Due)> {
        if self.is_first()
            && let Some((_, failure)) = self.first.take_if(|(until, _)| now >= *until)
        {
            return Some((0, Due::Over(failure)));
        }
        let mut lanes = self.lanes.iter_mut().enumerate();
        lanes.find_map(|(place, lane)| lane.due(now, &busy).map(|due| (place, due)))
    }

    /// When to ask [`Self::due`] again.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let first = self.first.as_ref().filter(|_| self.is_first()).map(|(until, _)| *until);
        self.lanes.iter().filter_map(Lane::next).chain(first).min()
    }
}
