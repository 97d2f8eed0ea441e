//! From a ticket to an instance: one keeper, one plan, or the ticket given back.

use std::time::{Duration, Instant};

use mcp_broker_proto::channel::{GoneReason, ToBroker};
use mcp_broker_proto::launch::{Refresh, SecretsTicket};

use super::Relay;
use super::broker::random;
use super::wait::MAX_BACKENDS;
use crate::failure::{Failure, UNAVAILABLE};
use crate::inject::{self, delivered};
use crate::proxy::backend::{Backend, Ground};
use crate::proxy::talk::notice::{Kind, Notice};

impl Relay {
    /// Starts an instance from its ticket.
    pub(super) fn start(&mut self, ticket: SecretsTicket, now: Instant) {
        let (number, wire) = (self.count, ticket.instance);
        let idle = Duration::from_secs(ticket.idle_secs);
        let lane = self.lane(&ticket.scope);
        if lane.is_none() && self.planned {
            // It was asked for before the definition has changed.
            drop(ticket);
            return self.send(&ToBroker::Gone { instance: wire, reason: GoneReason::Unusable });
        }
        let quiet = lane.and_then(|lane| self.life.ticket(lane, number, idle, now));
        let (Some(lane), Some(quiet)) = (lane, quiet) else {
            return self.lose_broker("says what it was not asked for", now);
        };
        self.count += 1;
        if self.keepers.is_empty() || self.by_signal() {
            return self.decline(number, ticket, now);
        }
        self.make_room();
        let started = self.spawn(number, ticket);
        match started {
            Ok((backend, started)) => {
                self.backends.push(backend);
                self.send(&started);
                // The broker may have been lost by that, and the instance with it.
                if self.link.is_up() && self.talk.join(lane, number, quiet) {
                    self.instance_ready(number, now);
                }
            }
            Err((failure, gone)) if lane == 0 && self.life.is_first() => {
                self.finish(failure.exit, Some(failure), now);
                // A tree that cannot be ended is not called dead.
                self.owes_dead &= gone;
            }
            Err((failure, gone)) => {
                self.stuck |= !gone;
                if gone {
                    self.send(&ToBroker::Gone { instance: wire, reason: GoneReason::Unusable });
                }
                self.say(&format!("the server cannot be started again: {}", failure.what));
                let notice = Notice::new(Kind::Restarting, failure.what, failure.hint);
                self.life.failed(number, &notice, random(), now);
            }
        }
    }

    /// Gives a ticket back. While one is held no keeper may be cloned, as it would hold the secrets for as long as
    /// its instance lives; and after a signal nothing starts.
    fn decline(&mut self, number: u32, ticket: SecretsTicket, now: Instant) {
        let instance = ticket.instance;
        drop(ticket);
        self.send(&ToBroker::Gone { instance, reason: GoneReason::Unusable });
        let hint = "call again in a few seconds";
        let notice = Notice::new(Kind::Restarting, "no process was at hand to start the server in", hint);
        self.life.failed(number, &notice, random(), now);
    }

    fn spawn(
        &mut self,
        number: u32,
        mut ticket: SecretsTicket,
    ) -> Result<(Backend, ToBroker), (Failure, bool)> {
        if self.backends.len() >= MAX_BACKENDS {
            let hint = "end the server and start it again from its client";
            let what = "too many instances of the server do not end";
            return Err((Failure::new(UNAVAILABLE, what, hint), true));
        }
        let Some(keeper) = self.keepers.pop() else {
            let hint = "call again in a few seconds";
            return Err((
                Failure::new(UNAVAILABLE, "no process was at hand to start the server in", hint),
                true,
            ));
        };
        self.redactor.learn(number, inject::secrets(&mut ticket));
        let spared = self.spared();
        let ground =
            Ground { environment: self.dialer.environment(), runtime: &self.runtime, spared: &spared };
        let started = Backend::start(number, keeper, ticket, &ground);
        if started.is_err() {
            self.redactor.forget(number);
        }
        started
    }

    /// Gives an instance new credentials below its running server, and says what came of it.
    pub(super) fn refresh(&mut self, mut refresh: Refresh) {
        let (instance, leases) = (refresh.instance, delivered::leases(&refresh));
        let named = |backend: &&mut Backend| backend.wire == instance && backend.alive();
        let failed = match self.backends.iter_mut().find(named) {
            Some(backend) => {
                // Before the server can say one of them.
                self.redactor.learn(backend.number, backend.delivered().secrets(&mut refresh));
                backend.refresh(refresh).err().map(|failure| failure.what)
            }
            None => Some("the instance has ended".to_owned()),
        };
        if let Some(what) = &failed {
            self.say(&format!("the server's credentials cannot be refreshed: {what}"));
        }
        self.send(&ToBroker::Refreshed { instance, leases, failed });
    }

    /// Gives up waiting for the last words of the oldest that is dead, where there are too many.
    fn make_room(&mut self) {
        if self.backends.len() >= MAX_BACKENDS
            && let Some(index) = self.backends.iter().position(|backend| !backend.alive())
        {
            self.forget(index);
        }
    }

    /// Ends a keeper that gets no plan.
    pub(super) fn dismiss_keeper(&mut self) {
        if let Some(keeper) = self.keepers.pop() {
            let spared = self.spared();
            // It holds nothing; the kernel ends it with us at the latest.
            let _ended = keeper.dismiss(&spared);
        }
    }
}
