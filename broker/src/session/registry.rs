//! The register of sessions and launches. One lock holds both, and every fence falls under it: a launch is given
//! its seat, and an instance its pass, under the same lock that locks and ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{LaunchId, LeaseId, SessionId};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{LaunchInfo, SessionInfo, Status};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::holder::{Holder, Key};
use super::login::{Login, Logins};
use super::marks::Marks;
use super::pace::{self, Paces};
use super::park::Why;
use super::sign_in::Person;
use super::words;
use crate::audit::AuditLog;
use crate::clock::{Clock, Slept};
use crate::config::Config;
use crate::lease::Leases;

/// Sessions, launches, and what ending them needs.
pub struct Sessions {
    pub(super) inner: Mutex<Inner>,
    pub(super) leases: Arc<Leases>,
    pub(super) audit: AuditLog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) slept: Arc<Slept>,
    pub(super) logins: Arc<dyn Logins>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    /// Wakes whoever waits for a launch to be still or gone.
    pub(super) changed: Notify,
}

/// What the register is made with.
pub struct Needs {
    /// Credentials.
    pub leases: Arc<Leases>,
    /// The audit log.
    pub audit: AuditLog,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Sleeps that nobody acted on.
    pub slept: Arc<Slept>,
    /// Who knows login sessions.
    pub logins: Arc<dyn Logins>,
    /// The configuration in force.
    pub config: watch::Receiver<Arc<Config>>,
    /// Sessions that an earlier broker of this boot had locked.
    pub marks: Marks,
}

pub(super) struct Inner {
    pub(super) sessions: HashMap<SessionId, Holder>,
    pub(super) launches: HashMap<LaunchId, Launch>,
    /// The broker stops, or the machine does, and nothing begins any more.
    pub(super) stopping: bool,
    /// It is the broker that stops: that is not called off.
    pub(super) leaving: bool,
    /// Locks that outlive their session or come before it.
    pub(super) marks: Marks,
    /// Sleep was announced, and is not over: nothing begins open.
    pub(super) asleep: bool,
    /// How often each account was refused lately.
    pub(super) paces: Paces,
    /// Tells of each login session that a session is bound to.
    pub(super) newborn: Option<mpsc::UnboundedSender<Arc<Login>>>,
}

/// What a launch is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Kill every instance, and stay.
    Park(Why),
    /// What it was parked for is over.
    Resume,
    /// The lease of one of its instances ends for good in a while.
    Replace {
        /// The lease.
        lease: LeaseId,
        /// How long it lives.
        within: Duration,
    },
    /// The lease of one of its instances ends now.
    Lost(LeaseId),
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
}

impl Launch {
    /// Tells the launch to end; the first reason stays.
    pub(super) fn end(&mut self, reason: EndReason) {
        self.life.cancel();
        self.rush.cancel();
        self.drop_passes();
        if !std::mem::replace(&mut self.ended, true) {
            // A launch that is gone needs no telling.
            drop(self.orders.send(Order::End(reason)));
        }
    }

    /// Tells the launch to kill its instances and stay.
    pub(super) fn park(&mut self, why: Why) {
        self.drop_passes();
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
        let fence = fence.child_token();
        launch.passes.retain(|pass| !pass.is_cancelled());
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

impl Sessions {
    /// An empty register.
    #[must_use]
    pub fn new(needs: Needs) -> Arc<Self> {
        let inner = Inner {
            sessions: HashMap::new(),
            launches: HashMap::new(),
            stopping: false,
            leaving: false,
            marks: needs.marks,
            asleep: false,
            paces: Paces::default(),
            newborn: None,
        };
        Arc::new(Self {
            inner: Mutex::new(inner),
            leases: needs.leases,
            audit: needs.audit,
            slept: needs.slept,
            clock: needs.clock,
            logins: needs.logins,
            config: needs.config,
            changed: Notify::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere must not keep an end from being carried out.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a launch its seat, unless its session is not there any more.
    pub(super) fn seat(self: &Arc<Self>, session: SessionId, mut info: LaunchInfo) -> Result<Seat, Problem> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.stopping {
            return Err(words::stopping());
        }
        let holder = inner.sessions.get(&session).ok_or_else(words::session_over)?;
        if holder.fence().is_none() {
            return Err(words::locked(holder));
        }
        let uid = holder.person.uid;
        pace::room(inner.launches.values().filter(|launch| launch.uid == uid).count())?;
        let (orders, receiver) = mpsc::unbounded_channel();
        let launch = info.id;
        info.session = session;
        let entry = Launch {
            info,
            uid,
            orders,
            life: CancellationToken::new(),
            passes: Vec::new(),
            ordered: 0,
            stilled: 0,
            ended: false,
            rush: CancellationToken::new(),
        };
        inner.launches.insert(launch, entry);
        Ok(Seat { launch, session, orders: receiver, sessions: Arc::clone(self) })
    }

    /// What an account sees: the session of the process that asks, its others, and what earlier ones left.
    #[must_use]
    pub fn status(&self, person: &Person, login: Option<&Login>) -> Status {
        let key = Key::of(person.uid, login);
        let (session, mut others, mut launches) = {
            let inner = self.lock();
            let mine = inner.sessions.iter().filter(|(_, holder)| holder.person.uid == person.uid);
            let (own, others): (Vec<_>, Vec<_>) = mine.partition(|(_, holder)| holder.key() == key);
            let launches = inner.launches.values().filter(|launch| launch.uid == person.uid);
            (
                own.first().map(|(id, holder)| holder.info(**id)),
                others.into_iter().map(|(id, holder)| holder.info(*id)).collect::<Vec<_>>(),
                launches.map(|launch| launch.info.clone()).collect::<Vec<_>>(),
            )
        };
        others.sort_by_key(|session| session.id);
        launches.sort_by_key(|launch| launch.id);
        let leases = self.leases.infos().into_iter().filter(|lease| lease.user == person.user).collect();
        Status { session, others, launches, leases }
    }

    /// How many records of the audit log were lost.
    #[must_use]
    pub fn lost_records(&self) -> u64 {
        self.audit.lost()
    }

    /// All sessions, for the admin.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let mut all: Vec<_> = self.lock().sessions.iter().map(|(id, holder)| holder.info(*id)).collect();
        all.sort_by_key(|session| session.id);
        all
    }

    /// All launches, for the admin.
    #[must_use]
    pub fn launches(&self) -> Vec<LaunchInfo> {
        let mut all: Vec<_> = self.lock().launches.values().map(|launch| launch.info.clone()).collect();
        all.sort_by_key(|launch| launch.id);
        all
    }
}
