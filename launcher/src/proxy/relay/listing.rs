//! What instances show of their tools, asked on our own account: compared with what was approved, told to the broker
//! and, where what may be seen has changed, to the client.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use mcp_broker_proto::channel::ToBroker;

use super::Relay;
use crate::proxy::filter::{Client, Filter, Listing, Route, Took, Tool};
use crate::proxy::life::{State, Why};
use crate::proxy::message::{Kind, Message};
use crate::proxy::talk::Talk;

/// How long an instance may take to list its tools.
const LIST_TIME: Duration = Duration::from_secs(10);

/// The listings of a launch.
#[derive(Default)]
pub(super) struct Listings {
    open: Vec<Own>,
    /// List requests so far.
    count: u64,
    /// What the client was told of: the tools of each scope, where nothing was approved.
    seen: Vec<Option<u64>>,
}

/// The listing of one instance.
struct Own {
    number: u32,
    stage: Stage,
    /// The instance takes the conversation over when it is done.
    comes_up: bool,
    /// What it says now may have come too late for the pages that were listed.
    again: bool,
}

enum Stage {
    /// Until there is a handshake, or somebody waits.
    Due,
    /// It is asked.
    Open(Listing, Instant),
    /// All its tools; none where they cannot be taken.
    Done(Option<Vec<Tool>>),
}

impl Own {
    fn due(number: u32, comes_up: bool) -> Self {
        Self { number, stage: Stage::Due, comes_up, again: false }
    }
}

impl Listings {
    fn of(&mut self, number: u32) -> Option<&mut Own> {
        self.open.iter_mut().find(|own| own.number == number)
    }

    fn begin(&mut self, number: u32, client: Option<&Client>, talk: &mut Talk, now: Instant) {
        let (listing, line) = Listing::begin(client, &mut self.count);
        if let Some(inbox) = talk.inbox(number) {
            inbox.push(line.as_bytes());
        }
        if let Some(own) = self.of(number) {
            own.stage = Stage::Open(listing, now + LIST_TIME);
        }
    }

    /// Takes an answer of an instance to a list request of ours.
    pub(super) fn take(&mut self, number: u32, line: &str, message: &Message<'_>, talk: &mut Talk) {
        let Kind::Response(id) = message.kind else { return };
        let Some(own) = self.open.iter_mut().find(|own| own.number == number) else { return };
        let Stage::Open(listing, _) = &mut own.stage else { return };
        if !listing.waits_for(id) {
            return;
        }
        match listing.take(line, message, &mut self.count) {
            Took::Next(line) => talk.inbox(number).into_iter().for_each(|inbox| inbox.push(line.as_bytes())),
            Took::Done(tools) => own.stage = Stage::Done(Some(tools)),
            Took::Failed => own.stage = Stage::Done(None),
        }
    }

    /// An instance says that its tools are others now.
    pub(super) fn again(&mut self, number: u32) {
        match self.of(number) {
            Some(own) => own.again |= !matches!(own.stage, Stage::Due),
            None => self.open.push(Own::due(number, false)),
        }
    }

    /// An instance is gone.
    pub(super) fn forget(&mut self, number: u32) {
        self.open.retain(|own| own.number != number);
    }

    /// When the clock has something to say.
    pub(super) fn next(&self) -> Option<Instant> {
        let until = |own: &Own| match own.stage {
            Stage::Open(_, until) => Some(until),
            Stage::Due | Stage::Done(_) => None,
        };
        self.open.iter().filter_map(until).min()
    }
}

impl Relay {
    /// Whether something depends on what an instance of a scope shows.
    pub(super) fn lists(filter: &Filter, lane: usize) -> bool {
        filter.plan().record.is_some() || (lane > 0 && filter.wants_listing())
    }

    /// An instance that can be asked lists its tools before it takes the conversation over. One that nobody has
    /// greeted lists them once somebody has; until then its calls wait, where there is something to compare with.
    /// Whether it may take over now.
    pub(super) fn list_first(&mut self, number: u32, now: Instant) -> bool {
        let (Some(filter), Some(lane)) = (&self.filter, self.talk.lane_of(number)) else { return true };
        if !Self::lists(filter, lane) {
            return true;
        }
        let pinned = filter.plan().record.is_some();
        let client = self.shown.as_ref();
        let known = self.talk.is_greeted() || self.is_stateless();
        self.listings.forget(number);
        self.listings.open.push(Own::due(number, known));
        if known {
            self.talk.prepare(number);
            self.listings.begin(number, client, &mut self.talk, now);
        } else if pinned {
            self.talk.seal(lane);
        }
        !known
    }

    /// Whether the client talks the stateless era, and was understood: one that only tries may fall back to a
    /// handshake, which a server that was asked something else would not take.
    fn is_stateless(&self) -> bool {
        self.talk.answered() && self.shown.as_ref().is_some_and(|client| client.stateless)
    }

    /// The client makes a handshake with the first scope's instance: what that has listed before counts no more.
    pub(super) fn list_again(&mut self) {
        let (Some(filter), Some(number)) = (&self.filter, self.talk.current(0)) else { return };
        if Self::lists(filter, 0) {
            self.listings.again(number);
            self.talk.seal(0);
        }
    }

    /// Begins the listings that are due, and ends those that are done or take too long.
    pub(super) fn tend_listings(&mut self, now: Instant) {
        if self.listings.open.is_empty() {
            return;
        }
        let told = self.talk.reach().told;
        let stateless = self.is_stateless();
        for place in 0..self.listings.open.len() {
            let Some(own) = self.listings.open.get_mut(place) else { break };
            let number = own.number;
            match own.stage {
                Stage::Due => {
                    let waits = self.talk.lane_of(number).is_some_and(|lane| self.talk.sealed_waits(lane));
                    if own.comes_up || told || stateless || waits {
                        self.listings.begin(number, self.shown.as_ref(), &mut self.talk, now);
                    }
                }
                Stage::Open(_, until) if now >= until => own.stage = Stage::Done(None),
                Stage::Open(..) | Stage::Done(_) => {}
            }
        }
        while let Some(place) = self.listings.open.iter().position(|own| matches!(own.stage, Stage::Done(_)))
        {
            let Own { number, stage, comes_up, again } = self.listings.open.remove(place);
            if again {
                self.listings.again(number);
            }
            if let Stage::Done(tools) = stage {
                self.listed(number, tools, comes_up, now);
            }
        }
    }

    fn listed(&mut self, number: u32, tools: Option<Vec<Tool>>, comes_up: bool, now: Instant) {
        // Its scope may be gone since it was asked.
        let Some(lane) = self.talk.lane_of(number).filter(|lane| *lane < self.life.count()) else { return };
        let changed = self.compare(lane, tools);
        if comes_up {
            self.take_over(number, now);
            if self.talk.current(lane) == Some(number) {
                let lost = self.talk.unseal(lane);
                self.client.lost(lost);
            }
        } else {
            self.sieve(lane);
            let lost = self.talk.unseal(lane);
            self.client.lost(lost);
        }
        if changed {
            self.talk.tell_tools_changed();
        }
    }

    /// Compares what an instance lists with what was approved, and tells the broker. Whether what the client may
    /// see has changed.
    fn compare(&mut self, lane: usize, tools: Option<Vec<Tool>>) -> bool {
        let Some(filter) = &mut self.filter else { return false };
        let pinned = filter.plan().record.is_some();
        let digest = digest(tools.as_deref().unwrap_or_default());
        let Some(tools) = tools.or_else(|| pinned.then(Vec::new)) else { return false };
        let before = filter.changed(lane).cloned().unwrap_or_default();
        let differs = *filter.heard(lane, tools, self.shown.as_ref()) != before;
        if pinned {
            if differs && let Some(report) = filter.report(lane) {
                self.send(&ToBroker::Changed(report));
            }
            return differs;
        }
        if self.listings.seen.len() <= lane {
            self.listings.seen.resize(lane + 1, None);
        }
        let seen = self.listings.seen.get_mut(lane);
        seen.is_some_and(|seen| seen.replace(digest) != Some(digest))
    }

    /// Without a record the client sees what those instances list that run: not what one has listed that was given up.
    /// It is not told of that, as it may call all that it knows.
    pub(super) fn unlist_rested(&mut self) {
        let Self { filter: Some(filter), life, .. } = self else { return };
        for lane in 1..life.count() {
            let rests = match life.state(lane) {
                State::Idle => true,
                State::Parked(why, _) => !matches!(why, Why::Restarting(_)),
                _ => false,
            };
            if rests {
                filter.gone(lane);
            }
        }
    }

    /// The client asks for the tools: what it does not see now it is told of when it is there again.
    pub(super) fn note_list(&mut self) {
        let Self { filter: Some(filter), listings, .. } = self else { return };
        let unseen = listings.seen.iter_mut().enumerate().filter(|(lane, _)| !filter.has_shown(*lane));
        unseen.for_each(|(_, seen)| *seen = None);
    }

    /// Answers calls that wait for a scope and whose tools are hidden now.
    pub(super) fn sieve(&mut self, lane: usize) {
        let Some(filter) = &self.filter else { return };
        self.talk.sieve(lane, |message| match filter.route(message) {
            Route::Refused(answer) => Some(answer),
            _ => None,
        });
    }
}

fn digest(tools: &[Tool]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for tool in tools {
        (&tool.name, &tool.text).hash(&mut hasher);
    }
    hasher.finish()
}
