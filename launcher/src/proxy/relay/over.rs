//! The end of a launch: who asked for it, what is still waited for, and with which status it ends.

use std::time::Instant;

use super::{Closing, DRAIN, DRAIN_HURRIED, DRAIN_LONGEST, FAREWELL, LEFT, Outcome, Over, Relay};
use crate::failure::Failure;
use crate::proxy::backend::Backend;
use crate::proxy::life::{State, Why};
use crate::proxy::signals::Signal;
use crate::proxy::talk::notice::{Kind, Notice};
use crate::spawn::Ended;

impl Relay {
    /// Sees the end through that was asked for.
    pub(super) fn close_down(&mut self, now: Instant) {
        if self.closing.is_none() || self.over.is_some() {
            return;
        }
        self.left_at.get_or_insert(now);
        if self.decides() {
            return;
        }
        let waits: Vec<_> = (0..self.life.count()).map(|lane| self.waits_for(lane, now)).collect();
        let (mut alive, signal) = (false, self.by_signal());
        for backend in self.backends.iter_mut().filter(|backend| backend.alive()) {
            alive = true;
            let lane = self.talk.lane_of(backend.number);
            let coming = lane.is_some_and(|lane| waits.get(lane) == Some(&true));
            // Calls wait for what it shows.
            let sealed = !signal && lane.is_some_and(|lane| self.talk.sealed_waits(lane));
            let current = lane.and_then(|lane| self.talk.current(lane)) == Some(backend.number);
            // What is held goes to it first; it reads all that it was sent before the end of its input.
            if !backend.shutdown.begun() && (!coming || current) && !sealed {
                backend.shutdown.client_left(now);
            }
        }
        if !alive && !waits.contains(&true) {
            let failure = self.life.first_failure().filter(|_| self.life.is_first() && !self.by_signal());
            let own = || self.status.unwrap_or_else(|| self.own_status());
            let status = failure.as_ref().map_or_else(own, |failure| failure.exit);
            self.finish(status, failure, now);
        }
    }

    /// Whether a call of the client may still go on, if it is decided so.
    pub(super) fn decides(&self) -> bool {
        self.calls.waits() && !self.by_signal()
    }

    pub(super) fn by_signal(&self) -> bool {
        matches!(self.closing, Some(Closing::Signal(_)))
    }

    /// The status of a launch that no server ended.
    pub(super) fn own_status(&self) -> u8 {
        match self.closing {
            Some(Closing::Signal(number)) => status_of(number),
            _ => 0,
        }
    }

    /// Whether an instance of a scope is coming up for what the client had asked before it left. The first one is
    /// waited for a while in any case, so that whoever only wants to see whether a server starts learns it.
    pub(super) fn waits_for(&self, lane: usize, now: Instant) -> bool {
        use State::{Asking, Parked, Starting};
        let coming =
            matches!(self.life.state(lane), Asking { .. } | Starting { .. } | Parked(Why::Restarting(_), _));
        let first = lane == 0 && self.life.is_first();
        let soon = first && self.left_at.is_none_or(|left| now < left + LEFT);
        (soon || ((first || coming) && self.talk.holds(lane))) && !self.by_signal()
    }

    /// The launch is over.
    pub(super) fn finish(&mut self, status: u8, why: Option<Failure>, now: Instant) {
        if self.over.is_some() {
            return;
        }
        self.client.close();
        let hurried = why.is_some() || self.closing.is_some();
        let until = now + if hurried { DRAIN_HURRIED } else { DRAIN };
        // A client that only left may read on as long as it reads.
        let latest = if why.is_some() || self.by_signal() { until } else { now + DRAIN_LONGEST };
        let notice = match &why {
            Some(failure) => Notice::new(Kind::Refused, failure.what.as_str(), failure.hint.as_str()),
            None => Notice::new(Kind::Restarting, "the server has ended", "start it again from its client"),
        };
        // A launch that never began ends as a program that cannot start: with its words and its exit code.
        if !self.life.is_first() {
            for lane in 0..self.life.count() {
                let lost = self.talk.refuse_held(lane, &notice);
                self.client.lost(lost);
            }
            let acts = self.calls.refuse_all(&notice);
            self.act(acts, now);
        }
        self.kill_all(&notice);
        self.owes_dead = true;
        self.over = Some(Over { ended: Ended { status, gone: true }, why, until, latest });
    }

    /// Kills everything that runs, and the keepers that wait.
    pub(super) fn kill_all(&mut self, notice: &Notice) {
        for backend in &mut self.backends {
            backend.kill(None, notice);
            self.talk.leave(backend.number);
        }
        while !self.keepers.is_empty() {
            self.dismiss_keeper();
        }
    }

    pub(super) fn take_signals(&mut self, now: Instant) {
        while let Some(signal) = self.signals.next_signal() {
            let alive = self.backends.iter_mut().filter(|backend| backend.alive());
            match signal {
                Signal::End(number) => {
                    self.client.close();
                    for backend in alive {
                        if let Some(inbox) = self.talk.inbox(backend.number) {
                            inbox.clear();
                        }
                        backend.stdin.close();
                        backend.shutdown.hurry(now);
                    }
                    self.closing = Some(Closing::Signal(number));
                    if let Some(over) = &mut self.over {
                        over.until = over.until.min(now + DRAIN_HURRIED);
                        over.latest = over.until;
                    }
                }
                Signal::Forward(number) => alive.for_each(|backend| backend.instance.signal(number)),
            }
        }
    }

    pub(super) fn is_finished(&self, now: Instant) -> bool {
        let Some(over) = &self.over else { return false };
        let said = self.talk.to_client.waiting().is_empty() && self.words.waiting().is_empty();
        let alive = self.backends.iter().any(Backend::alive);
        !alive && (now >= over.until || (said && self.backends.is_empty()))
    }

    pub(super) fn close(mut self) -> Outcome {
        self.say_dead();
        self.link.drain(Instant::now() + FAREWELL);
        self.sum_up();
        self.err.write(&mut self.words);
        let gone = self.all_gone();
        let (ended, why) = match self.over {
            Some(over) => (over.ended, over.why),
            None => (Ended { status: 0, gone: true }, None),
        };
        Outcome { ended: Ended { gone: ended.gone && gone, ..ended }, why }
    }
}

fn status_of(signal: i32) -> u8 {
    u8::try_from(signal).map_or(u8::MAX, |number| number.saturating_add(128))
}
