//! The register of sessions and launches. One lock holds both, and every fence falls under it: a launch is given
//! its seat, and an instance its pass, under the same lock that locks and ends.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_broker_proto::CONFIRM_SECS;
use mcp_broker_proto::names::{LaunchId, SessionId};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{LaunchInfo, SessionInfo, Status};
use tokio::sync::{Notify, mpsc, watch};

use super::confirm;
use super::holder::{Holder, Key};
use super::login::{Login, Logins};
use super::marks::Marks;
use super::pace::{self, Paces};
use super::park::Why;
use super::seat::{Launch, Seat};
use super::sign_in::Person;
use super::uses::Rested;
use super::words;
use crate::audit::AuditLog;
use crate::clock::{Clock, Slept};
use crate::config::Config;
use crate::lease::Leases;
use crate::package::Approvals;

/// Sessions, launches, and what ending them needs.
pub struct Sessions {
    pub(super) inner: Mutex<Inner>,
    pub(super) leases: Arc<Leases>,
    pub(super) audit: AuditLog,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) slept: Arc<Slept>,
    pub(super) logins: Arc<dyn Logins>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) approvals: Arc<Approvals>,
    /// How long a person is asked whether a call may go on.
    pub(super) confirm_limit: Duration,
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
    /// What servers showed when they were approved.
    pub approvals: Arc<Approvals>,
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
    /// How often each account was refused lately, and how much it began.
    pub(super) paces: Paces,
    /// How much servers were used in sessions that are over.
    pub(super) rested: Rested,
    /// Tells of each login session that a session is bound to.
    pub(super) newborn: Option<mpsc::UnboundedSender<Arc<Login>>>,
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
            rested: Rested::default(),
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
            approvals: needs.approvals,
            confirm_limit: Duration::from_secs(CONFIRM_SECS),
            changed: Notify::new(),
        })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere must not keep an end from being carried out.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a launch its seat, unless its session is not there any more. One that `waits` needs no credentials yet:
    /// in a locked session it is parked instead of refused.
    pub(super) fn seat(
        self: &Arc<Self>,
        session: SessionId,
        mut info: LaunchInfo,
        waits: bool,
    ) -> Result<Seat, Problem> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.stopping {
            return Err(words::stopping());
        }
        let holder = inner.sessions.get_mut(&session).ok_or_else(words::session_over)?;
        let uses = holder.uses.of(&info.server);
        let why = match holder.fence() {
            Some(_) => None,
            None if !waits => return Err(words::locked(holder)),
            None => Some(Why::Locked(holder.cause(), words::way_back(holder.lock()))),
        };
        let uid = holder.person.uid;
        pace::room(inner.launches.values().filter(|launch| launch.uid == uid).count())?;
        inner.paces.begins(uid, self.clock.boot(), self.config.borrow().session.mints_per_minute)?;
        let (orders, receiver) = mpsc::unbounded_channel();
        let launch = info.id;
        info.session = session;
        let mut entry = Launch::new(info, uid, orders);
        if let Some(why) = why {
            entry.park_at_once(why);
        }
        inner.launches.insert(launch, entry);
        Ok(Seat { launch, session, uses, orders: receiver, sessions: Arc::clone(self) })
    }

    /// Counts something that an account begins.
    pub(super) fn paced(&self, uid: u32) -> Result<(), Problem> {
        let most = self.config.borrow().session.mints_per_minute;
        self.lock().paces.begins(uid, self.clock.boot(), most)
    }

    /// What an account sees: the session of the process that asks, its others, and what earlier ones left.
    #[must_use]
    pub fn status(&self, person: &Person, login: Option<&Login>) -> Status {
        let key = Key::of(person.uid, login);
        let (session, mut others, mut launches, confirmations) = {
            let inner = self.lock();
            let mine = inner.sessions.iter().filter(|(_, holder)| holder.person.uid == person.uid);
            let (own, others): (Vec<_>, Vec<_>) = mine.partition(|(_, holder)| holder.key() == key);
            let launches = inner.launches.values().filter(|launch| launch.uid == person.uid);
            (
                own.first().map(|(id, holder)| holder.info(**id)),
                others.into_iter().map(|(id, holder)| holder.info(*id)).collect::<Vec<_>>(),
                launches.map(|launch| launch.info.clone()).collect::<Vec<_>>(),
                confirm::waiting(&inner, &key),
            )
        };
        others.sort_by_key(|session| session.id);
        launches.sort_by_key(|launch| launch.id);
        let leases = self.leases.infos().into_iter().chain(self.leases.withheld());
        let leases = leases.filter(|lease| lease.user == person.user).collect();
        Status { session, others, launches, leases, confirmations }
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
