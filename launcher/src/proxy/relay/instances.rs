//! Instances as they come and go: ready, replaced, idle, crashed, gone.

use std::time::{Duration, Instant};

use mcp_broker_proto::channel::{GoneReason, ToBroker};

use super::Relay;
use super::broker::random;
use crate::proxy::backend::Backend;
use crate::proxy::life::Due;
use crate::proxy::talk::notice::{Kind, Notice};
use crate::spawn::Ended;

/// How long a replaced instance may take to finish what it was asked, where the broker did not say how long its
/// credentials live.
const FINISH: Duration = Duration::from_secs(60);

impl Relay {
    /// An instance can take the conversation over, unless it is to end already: its last words may be read late.
    pub(super) fn instance_ready(&mut self, number: u32, now: Instant) {
        let works = self.backend(number).is_some_and(|backend| backend.given_up.is_none());
        if works && self.life.awaits(number) && self.list_first(number, now) {
            self.take_over(number, now);
        }
    }

    /// An instance takes the conversation over.
    pub(super) fn take_over(&mut self, number: u32, now: Instant) {
        let works = self.backend(number).is_some_and(|backend| backend.given_up.is_none());
        if !works || !self.life.awaits(number) {
            return;
        }
        if let Some(lane) = self.talk.lane_of(number) {
            self.sieve(lane);
        }
        let lost = self.talk.settle(number);
        self.client.lost(lost);
        let Some(old) = self.life.ready(number, now) else { return };
        self.talk.leave(old);
        if let Some(backend) = self.backend(old) {
            backend.finish_until(now + FINISH);
        }
    }

    /// Tells the broker what was masked: at once, and then no more than once in a while.
    pub(super) fn report_leaks(&mut self, now: Instant) {
        for index in 0..self.backends.len() {
            let Some(backend) = self.backends.get_mut(index) else { break };
            if let Some(count) = backend.leaks.take(now) {
                let instance = backend.wire;
                self.send(&ToBroker::Leaked { instance, count });
            }
        }
    }

    fn backend(&mut self, number: u32) -> Option<&mut Backend> {
        self.backends.iter_mut().find(|backend| backend.number == number && backend.alive())
    }

    /// Ends replaced instances that have finished what they were asked, or take too long.
    pub(super) fn retire_replaced(&mut self, now: Instant) {
        for backend in self.backends.iter_mut().filter(|backend| backend.alive()) {
            if backend.finishes.is_some_and(|until| now >= until || !self.talk.busy(backend.number)) {
                let hint = "call again: another instance has taken its place";
                let notice = Notice::new(Kind::Restarting, "the server was ended before it answered", hint);
                backend.retire(GoneReason::Replaced, notice, now);
            }
        }
    }

    /// Gives up what has outlived its credentials, as no other could take its place in time: the next one is
    /// asked for at once.
    fn retire_expired(&mut self, now: Instant) {
        while let Some(backend) = self.backends.iter_mut().find(|backend| backend.expired(now)) {
            let hint = "call again: it is started anew";
            let what = "the server was ended as its credentials have ended";
            backend.retire(GoneReason::Replaced, Notice::new(Kind::Unavailable, what, hint), now);
            let number = backend.number;
            self.talk.leave(number);
            self.life.expired(number, now);
        }
    }

    /// Gives up what has closed its input and lives on: it will never answer.
    fn retire_deaf(&mut self, now: Instant) {
        while let Some(backend) = self.backends.iter_mut().find(|backend| backend.deaf(now)) {
            let what = "the server closed its input and did not end, so it was ended";
            let hint = "call again: it is started anew; tell its owner if it happens again";
            backend.retire(GoneReason::Unusable, Notice::new(Kind::Restarting, what, hint), now);
            let number = backend.number;
            self.talk.leave(number);
            self.say(what);
        }
    }

    /// An instance came up and cannot be used.
    pub(super) fn unusable(&mut self, number: u32, how: &str) {
        let what = format!("the server was started again and {how}, so it was ended");
        let hint = "start the server again from its client; tell its owner if it happens again";
        let notice = Notice::new(Kind::Restarting, what.as_str(), hint);
        let Some(backend) = self.backend(number) else {
            // It is dead already, and nothing else will say so.
            return self.life.failed(number, &notice, random(), Instant::now());
        };
        if backend.given_up.is_some() {
            return;
        }
        backend.kill(Some(GoneReason::Unusable), &notice);
        self.talk.leave(number);
        self.say(&what);
    }

    /// The tree of an instance is gone.
    pub(super) fn instance_ended(&mut self, index: usize, now: Instant) {
        // It may have answered with its last breath, which decides whether it is started again.
        self.read_rest(index, now);
        let Some(backend) = self.backends.get(index).filter(|backend| backend.alive()) else { return };
        let own = backend.instance.keeper();
        let spared: Vec<_> = self.spared().into_iter().filter(|keeper| *keeper != own).collect();
        if let Some(backend) = self.backends.get_mut(index) {
            let ended = backend.bury(&spared, now);
            self.buried(index, ended, now);
        }
    }

    fn buried(&mut self, index: usize, ended: Ended, now: Instant) {
        let Some(backend) = self.backends.get(index) else { return };
        let (number, instance) = (backend.number, backend.wire);
        let (killed, given_up) = (backend.killed(), backend.given_up.as_ref().map(|(reason, _)| *reason));
        self.talk.leave(number);
        if given_up.is_none() && !killed {
            self.send(&ToBroker::Exited { instance, status: ended.status });
        }
        if let Some(reason) = given_up.unwrap_or(Some(GoneReason::Exited)).filter(|_| ended.gone) {
            self.send(&ToBroker::Gone { instance, reason });
        }
        if self.over.is_some() {
            return;
        }
        let lane = self.talk.lane_of(number);
        let by_itself =
            given_up.is_none() && (self.closing.is_some() || (lane == Some(0) && !self.talk.answered()));
        let left = self.closing.is_some() && !lane.is_some_and(|lane| self.waits_for(lane, now));
        if given_up.is_none() && lane == Some(0) && self.closing.is_some() {
            self.status = Some(ended.status);
        }
        if by_itself || left {
            let mut others = (0..self.life.count()).filter(|other| Some(*other) != lane);
            let others = self.decides() || others.any(|other| self.waits_for(other, now));
            if !others && !self.backends.iter().any(Backend::alive) {
                // How one ends that was told to says nothing; one that only ignored its end does.
                let own = if given_up.is_none() { ended.status } else { self.own_status() };
                return self.finish(self.status.unwrap_or(own), None, now);
            }
            if left {
                return self.life.ended(number);
            }
            let hint = "start it again from its client";
            let notice = Notice::new(Kind::Restarting, "the server has ended", hint);
            return self.life.failed(number, &notice, random(), now);
        }
        match given_up {
            None => self.crashed(index, ended, now),
            // What comes next is asked for when this one is gone, as after a crash.
            Some(Some(GoneReason::Unusable)) => self.fail(index, now),
            Some(_) => {}
        }
    }

    fn fail(&mut self, index: usize, now: Instant) {
        if let Some(backend) = self.backends.get(index)
            && let Some((_, notice)) = &backend.given_up
        {
            self.life.failed(backend.number, notice, random(), now);
        }
    }

    /// A server that worked has ended by itself: it comes back below the client's pipe.
    fn crashed(&mut self, index: usize, ended: Ended, now: Instant) {
        let Some(backend) = self.backends.get_mut(index) else { return };
        let what = format!("the server ended by itself with status {}", ended.status);
        let notice =
            Notice::new(Kind::Restarting, what, "it is started again; look at its words on standard error");
        let words = notice.what.clone();
        backend.given_up = Some((None, notice));
        self.say(&words);
        self.fail(index, now);
    }

    /// What the clock brings.
    pub(super) fn on_time(&mut self, now: Instant) {
        self.tend_link(now);
        self.give_up_calls(now);
        self.talk.doubts_due(now);
        for index in 0..self.backends.len() {
            if let Some(backend) = self.backends.get_mut(index)
                && backend.on_time(now)
            {
                let ended = backend.give_up_stuck(now);
                self.buried(index, ended, now);
            }
        }
        while let Some(index) = self.backends.iter().position(|backend| backend.finished(now)) {
            self.forget(index);
        }
        if self.over.is_none() {
            self.retire_expired(now);
            self.retire_deaf(now);
            let (talk, backends) = (&self.talk, &self.backends);
            let busy = |number| {
                let backend = backends.iter().find(|backend| backend.number == number);
                backend.filter(|_| talk.busy(number)).map(Backend::moved_at)
            };
            match self.life.due(now, busy) {
                Some((_, Due::Unheard)) => self.unheard(now),
                Some((_, Due::Unready(number))) => self.unusable(number, "did not answer in time"),
                Some((_, Due::Over(failure))) => self.finish(failure.exit, Some(failure), now),
                Some((lane, Due::Idle(number))) => self.rest(lane, number, now),
                Some((lane, Due::Late)) => self.late(lane),
                None => {}
            }
        }
        self.release_memory(now);
    }

    /// What waits for a scope's first instance is answered; the instance may come up all the same.
    fn late(&mut self, lane: usize) {
        let what = "the server did not come up in time for this";
        let hint = "call again in a few seconds; if it stays so, run `mcp-run doctor`";
        let lost = self.talk.refuse_held(lane, &Notice::new(Kind::Unavailable, what, hint));
        self.client.lost(lost);
    }

    fn rest(&mut self, lane: usize, number: u32, now: Instant) {
        self.talk.leave(number);
        self.life.rest(lane);
        if let Some(backend) = self.backend(number) {
            let hint = "call again: it is started for that";
            let notice = Notice::new(Kind::Restarting, "the server was ended as it was not used", hint);
            backend.retire(GoneReason::Idle, notice, now);
        }
    }

    /// An instance has said everything: what it still owed is answered.
    pub(super) fn forget(&mut self, index: usize) {
        let mut backend = self.backends.remove(index);
        let rest = self.redactor.rest(&mut backend.across);
        if let Some(rest) = rest {
            self.words.push(&rest.text);
            backend.leaks.found(rest.count);
        }
        if let Some(count) = backend.leaks.take_all() {
            self.send(&ToBroker::Leaked { instance: backend.wire, count });
        }
        self.redactor.forget(backend.number);
        self.listings.forget(backend.number);
        let ended_well = backend.outcome().is_some_and(|ended| ended.gone);
        let ended = || {
            let hint = "look at its words on standard error, and start it again from its client";
            Notice::new(Kind::Restarting, "the server has ended", hint)
        };
        let notice = backend.given_up.map_or_else(ended, |(_, notice)| notice);
        // A client that has left waits for no answer.
        let notice = self.closing.is_none().then_some(&notice);
        let lost = self.talk.gone(backend.number, notice);
        self.client.lost(lost);
        for (sum, count) in self.past.iter_mut().zip(backend.stdout.counts()) {
            *sum += count;
        }
        self.stuck |= !ended_well;
    }
}
