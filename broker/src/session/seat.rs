//! A launch in the register, and its seat there: what it is told, when it is still, and the passes under which its
//! instances are minted. Everything here happens under the register's lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{CallId, Label, LaunchId, LeaseId, SessionId};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{ConfirmationInfo, LaunchInfo};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::park::Why;
use super::registry::Sessions;
use super::uses::Uses;
use super::words;
use crate::audit::{AuditLog, ByWhom};
use crate::config::ServerDefinition;

/// What a launch is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Kill every instance, and stay.
    Park(Why),
    /// What it was parked for is over.
    Resume,
    /// The lease of one of its instances was renewed.
    Renewed {
        /// The lease.
        lease: LeaseId,
        /// When it ends now.
        until: Timestamp,
    },
    /// The lease of one of its instances ends for good in a while: another one is needed.
    Ending {
        /// The lease.
        lease: LeaseId,
        /// How long it lives.
        within: Duration,
    },
    /// The lease of one of its instances ends now.
    Lost(LeaseId),
    /// Somebody answered whether a call may go on, which waited for that.
    Answered {
        /// The call.
        call: CallId,
        /// Whether it may.
        yes: bool,
        /// Who.
        by: ByWhom,
    },
    /// Kill every instance, and go.
    End(EndReason),
}

pub(super) struct Launch {
    pub(super) info: LaunchInfo,
    pub(super) uid: u32,
    orders: mpsc::UnboundedSender<Order>,
    /// Falls with the launch.
    life: CancellationToken,
    /// Fences of the instances that were admitted since it was still.
    passes: Vec<CancellationToken>,
    /// Orders to be still, and how many of them were carried out.
    ordered: u64,
    stilled: u64,
    ended: bool,
    /// Falls when it is told to be still or to end: nothing that is being written to its launcher may hold that
    /// up.
    rush: CancellationToken,
    /// Calls that wait for a person. Who takes one out answers it.
    waiting: BTreeMap<CallId, ConfirmationInfo>,
}

impl Launch {
    pub(super) fn new(info: LaunchInfo, uid: u32, orders: mpsc::UnboundedSender<Order>) -> Self {
        Self {
            info,
            uid,
            orders,
            life: CancellationToken::new(),
            passes: Vec::new(),
            ordered: 0,
            stilled: 0,
            ended: false,
            rush: CancellationToken::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// Calls that wait for a person.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &ConfirmationInfo> {
        self.waiting.values()
    }

    /// Answers a call that waits for a person; false where there is none such.
    pub(super) fn answer(&mut self, call: CallId, yes: bool, by: ByWhom) -> bool {
        let waited = self.waiting.remove(&call).is_some();
        if waited {
            self.tell(Order::Answered { call, yes, by });
        }
        waited
    }

    /// Tells the launch to end; the first reason stays.
    pub(super) fn end(&mut self, reason: EndReason) {
        self.life.cancel();
        self.rush.cancel();
        self.waiting.clear();
        self.drop_passes();
        if !std::mem::replace(&mut self.ended, true) {
            // A launch that is gone needs no telling.
            drop(self.orders.send(Order::End(reason)));
        }
    }

    /// The same for a launch that begins now and has none. Nothing is being written that has to hurry.
    pub(super) fn park_at_once(&mut self, why: Why) {
        self.ordered += 1;
        self.tell(Order::Park(why));
    }

    /// Tells the launch to kill its instances and stay.
    pub(super) fn park(&mut self, why: Why) {
        self.drop_passes();
        if matches!(why, Why::Locked(..)) {
            self.waiting.clear();
        }
        if !self.ended {
            self.rush.cancel();
            self.ordered += 1;
            drop(self.orders.send(Order::Park(why)));
        }
    }

    /// Tells it anything else.
    pub(super) fn tell(&self, order: Order) {
        drop(self.orders.send(order));
    }

    /// Whether everything that it was told to kill is dead.
    pub(super) fn is_still(&self) -> bool {
        self.stilled >= self.ordered && !self.ended
    }

    /// The number of its newest order to be still.
    pub(super) fn ordered(&self) -> u64 {
        self.ordered
    }

    /// Whether that order was carried out.
    pub(super) fn has_stilled(&self, order: u64) -> bool {
        self.stilled >= order && !self.ended
    }

    fn drop_passes(&mut self) {
        for pass in self.passes.drain(..) {
            pass.cancel();
        }
    }
}

/// A launch's place in the register: given back when dropped.
pub struct Seat {
    /// The launch.
    pub launch: LaunchId,
    /// Its session.
    pub session: SessionId,
    /// How much its server is used in the session.
    pub(super) uses: Arc<Uses>,
    /// What it is told.
    pub(super) orders: mpsc::UnboundedReceiver<Order>,
    pub(super) sessions: Arc<Sessions>,
}

/// The right to mint for one instance.
#[derive(Clone)]
pub(super) struct Pass {
    /// Falls when nothing may be minted or delivered for it any more.
    pub(super) fence: CancellationToken,
    /// What is left of the session.
    pub(super) horizon: Duration,
}

impl Seat {
    /// The right to mint for an instance, unless something forbids it at this moment.
    pub(super) fn pass(&self) -> Result<Pass, Problem> {
        self.while_open(|launch, fence, horizon| {
            let fence = fence.child_token();
            launch.passes.retain(|pass| !pass.is_cancelled());
            launch.passes.push(fence.clone());
            Pass { fence, horizon }
        })
    }

    /// Writes down that a call may go on, unless something forbids that at this moment. Under the register's lock,
    /// so that no call is let through after a fence, and the audit log has them in that order.
    pub(super) fn lets(&self, write_down: impl FnOnce(&AuditLog)) -> Result<(), Problem> {
        self.while_open(|_, _, _| write_down(&self.sessions.audit))
    }

    /// The same for a call that waits for a person from now on.
    pub(super) fn waits(
        &self,
        info: ConfirmationInfo,
        write_down: impl FnOnce(&AuditLog),
    ) -> Result<(), Problem> {
        self.while_open(|launch, _, _| {
            write_down(&self.sessions.audit);
            launch.waiting.insert(info.id, info);
        })
    }

    /// A person's yes holds for a scope for so long, under this definition. Under the register's lock, so that none
    /// is remembered after a lock has made all of them void.
    pub(super) fn remember_yes(&self, scope: &Label, time: Duration, under: &Arc<ServerDefinition>) {
        let until = self.sessions.clock.boot() + time;
        // Where something forbids it now, it is not remembered.
        drop(self.while_open(|_, _, _| self.uses.remember_yes(scope, until, under)));
    }

    /// A call does not wait for a person any more. False where somebody has answered it: that is on its way.
    pub(super) fn waits_no_more(&self, call: CallId) -> bool {
        let mut inner = self.sessions.lock();
        inner.launches.get_mut(&self.launch).is_some_and(|launch| launch.waiting.remove(&call).is_some())
    }

    /// Does something under the register's lock that only an open session and a launch that goes on allow.
    fn while_open<T>(
        &self,
        act: impl FnOnce(&mut Launch, &CancellationToken, Duration) -> T,
    ) -> Result<T, Problem> {
        self.sessions.look_at_clocks();
        let mut guard = self.sessions.lock();
        let inner = &mut *guard;
        if inner.stopping {
            return Err(words::stopping());
        }
        let holder = inner.sessions.get(&self.session).ok_or_else(words::session_over)?;
        if holder.login.as_ref().is_some_and(|login| !login.leader.alive()) {
            drop(guard);
            drop(self.sessions.end_session(self.session, EndReason::SessionClosed));
            return Err(words::login_over());
        }
        let fence = holder.fence().ok_or_else(|| words::locked(holder))?;
        let horizon = holder.deadline.saturating_sub(self.sessions.clock.boot());
        if horizon.is_zero() {
            return Err(words::session_over());
        }
        let launch = inner.launches.get_mut(&self.launch).ok_or_else(words::session_over)?;
        if !launch.is_still() {
            return Err(words::being_stilled());
        }
        Ok(act(launch, fence, horizon))
    }

    /// The right to mint for a trial: there is no session that could forbid it.
    pub(super) fn trial_pass(&self, horizon: Duration) -> Result<Pass, Problem> {
        let mut inner = self.sessions.lock();
        let stopping = inner.stopping || inner.asleep;
        let launch = inner.launches.get_mut(&self.launch).filter(|launch| !stopping && launch.is_still());
        let launch = launch.ok_or_else(words::stopping)?;
        let fence = launch.life.child_token();
        launch.passes.push(fence.clone());
        Ok(Pass { fence, horizon })
    }

    /// Writes down that something is delivered under the pass, unless its fence has fallen. Under the register's
    /// lock, so that the audit log has a delivery and a fence in the order in which they were decided.
    pub(super) fn delivers(&self, pass: &Pass, write_down: impl FnOnce(&AuditLog)) -> bool {
        let _inner = self.sessions.lock();
        let open = !pass.fence.is_cancelled();
        if open {
            write_down(&self.sessions.audit);
        }
        open
    }

    /// Nothing is minted or delivered for it any more.
    pub(super) fn fence_off(&self) {
        if let Some(launch) = self.sessions.lock().launches.get_mut(&self.launch) {
            launch.life.cancel();
            launch.drop_passes();
        }
    }

    /// Falls when the launch is told to be still or to end; fallen for one that is not there any more.
    pub(super) fn rush(&self) -> CancellationToken {
        let inner = self.sessions.lock();
        let gone = || {
            let gone = CancellationToken::new();
            gone.cancel();
            gone
        };
        inner.launches.get(&self.launch).map_or_else(gone, |launch| launch.rush.clone())
    }

    /// Changes what is shown of the launch.
    pub(super) fn show(&self, change: impl FnOnce(&mut LaunchInfo)) {
        if let Some(launch) = self.sessions.lock().launches.get_mut(&self.launch) {
            change(&mut launch.info);
        }
    }

    /// One order to be still was carried out: no instance is alive, and what they had is being revoked.
    pub(super) fn stilled(&self) {
        if let Some(launch) = self.sessions.lock().launches.get_mut(&self.launch) {
            launch.stilled += 1;
            if launch.is_still() {
                launch.rush = CancellationToken::new();
            }
        }
        self.sessions.changed.notify_waiters();
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some(mut launch) = self.sessions.lock().launches.remove(&self.launch) {
            launch.life.cancel();
            launch.drop_passes();
        }
        self.sessions.changed.notify_waiters();
    }
}
