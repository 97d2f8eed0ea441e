//! The register of sessions and launches. One lock holds both, and every fence falls under it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcp_broker_proto::channel::{Containment, EndReason};
use mcp_broker_proto::names::{LaunchId, ServerName, SessionId};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::{LaunchInfo, LaunchState, SessionInfo, SessionState, Status};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::sign_in::Person;
use crate::audit::AuditLog;
use crate::clock::{Clock, shown};
use crate::lease::Leases;

/// So many launches one account may have at once.
const MAX_LAUNCHES: usize = 256;

/// Sessions, launches, and what ending them needs.
pub struct Sessions {
    pub(super) inner: Mutex<Inner>,
    pub(super) leases: Arc<Leases>,
    pub(super) audit: AuditLog,
    pub(super) clock: Arc<dyn Clock>,
    /// Wakes whoever waits for a launch to be gone.
    pub(super) changed: Notify,
}

#[derive(Default)]
pub(super) struct Inner {
    pub(super) sessions: HashMap<SessionId, Session>,
    pub(super) launches: HashMap<LaunchId, Launch>,
    /// Set once: the broker stops, and nothing begins any more.
    pub(super) stopping: bool,
    /// Accounts whose session ended while it was locked: the next one begins locked, as nothing but an unlock
    /// unlocks.
    pub(super) locked: HashSet<u32>,
    /// How often each account was refused lately.
    pub(super) refusals: HashMap<u32, Refusals>,
}

pub(super) struct Session {
    pub(super) person: Person,
    pub(super) state: State,
    pub(super) since: Timestamp,
    pub(super) ends_at: Timestamp,
    /// `max_age` on the clock that goes on while the machine sleeps.
    pub(super) deadline: Duration,
}

/// Refusals of one account since a moment on the boot clock.
#[derive(Default)]
pub(super) struct Refusals {
    pub(super) since: Duration,
    pub(super) count: u32,
}

/// Where a session stands; an ended one is no longer in the register.
pub(super) enum State {
    /// Mints; the fence falls when that ends.
    Active(CancellationToken),
    /// Mints nothing.
    Locked,
}

pub(super) struct Launch {
    pub(super) info: LaunchInfo,
    pub(super) uid: u32,
    end: watch::Sender<Option<EndReason>>,
    fence: CancellationToken,
}

impl Launch {
    /// Tells the launch to end; the first reason stays.
    pub(super) fn tell(&self, reason: EndReason) {
        self.fence.cancel();
        self.end.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(reason);
            first
        });
    }
}

/// A launch's place in the register: given back when dropped.
pub struct Seat {
    /// The launch.
    pub launch: LaunchId,
    /// Its session.
    pub session: SessionId,
    /// What is left of the session.
    pub horizon: Duration,
    /// Falls when the launch must end.
    pub fence: CancellationToken,
    /// Why it must end.
    pub end: watch::Receiver<Option<EndReason>>,
    sessions: Arc<Sessions>,
}

impl Seat {
    /// Notes that the instance runs.
    pub fn started(&self, pid: u32, containment: Containment) {
        let mut inner = self.sessions.lock();
        if let Some(launch) = inner.launches.get_mut(&self.launch) {
            launch.info.pid = Some(pid);
            launch.info.containment = Some(containment);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.fence.cancel();
        self.sessions.lock().launches.remove(&self.launch);
        self.sessions.changed.notify_waiters();
    }
}

impl Sessions {
    /// An empty register.
    #[must_use]
    pub fn new(leases: Arc<Leases>, audit: AuditLog, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::default(), leases, audit, clock, changed: Notify::new() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere must not keep an end from being carried out.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session of the account, made if there is none.
    pub(super) fn open(
        self: &Arc<Self>,
        person: &Person,
        max_age: Duration,
    ) -> Result<(SessionId, bool), Problem> {
        let mut inner = self.lock();
        if inner.stopping {
            return Err(stopping());
        }
        if let Some((id, session)) = inner.sessions.iter_mut().find(|(_, s)| s.person.uid == person.uid) {
            session.person = person.clone();
            return Ok((*id, false));
        }
        let id = SessionId::fresh();
        let since = self.clock.now();
        let ends_at =
            since.saturating_add(SignedDuration::try_from(max_age).unwrap_or_default()).unwrap_or(since);
        let deadline = self.clock.boot() + max_age;
        let state = match inner.locked.remove(&person.uid) {
            true => State::Locked,
            false => State::Active(CancellationToken::new()),
        };
        inner.sessions.insert(id, Session { person: person.clone(), state, since, ends_at, deadline });
        self.watch_age(id);
        Ok((id, true))
    }

    /// Gives a launch its seat, unless the session is not active any more.
    pub(super) fn seat(
        self: &Arc<Self>,
        session: SessionId,
        server: &ServerName,
        launcher_pid: Option<u32>,
    ) -> Result<Seat, Problem> {
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.stopping {
            return Err(stopping());
        }
        let holder = inner.sessions.get(&session).ok_or_else(session_over)?;
        let State::Active(fence) = &holder.state else { return Err(locked()) };
        let horizon = holder.deadline.saturating_sub(self.clock.boot());
        if horizon.is_zero() {
            return Err(session_over());
        }
        let uid = holder.person.uid;
        if inner.launches.values().filter(|launch| launch.uid == uid).count() >= MAX_LAUNCHES {
            return Err(too_many());
        }
        let launch = LaunchId::fresh();
        let (sender, end) = watch::channel(None);
        let fence = fence.child_token();
        let info = LaunchInfo {
            id: launch,
            session,
            user: holder.person.user.clone(),
            server: server.clone(),
            since: shown(self.clock.now()),
            state: LaunchState::Starting,
            parked: None,
            launcher_pid,
            pid: None,
            containment: None,
        };
        inner.launches.insert(launch, Launch { info, uid, end: sender, fence: fence.clone() });
        Ok(Seat { launch, session, horizon, fence, end, sessions: Arc::clone(self) })
    }

    /// What an account sees: its session, and what earlier ones left to settle.
    #[must_use]
    pub fn status(&self, person: &Person) -> Status {
        let (session, mut launches) = {
            let inner = self.lock();
            let mine = inner.sessions.iter().find(|(_, session)| session.person.uid == person.uid);
            let launches = inner.launches.values().filter(|launch| launch.uid == person.uid);
            (
                mine.map(|(id, session)| session.info(*id)),
                launches.map(|l| l.info.clone()).collect::<Vec<_>>(),
            )
        };
        launches.sort_by_key(|launch| launch.id);
        let leases = self.leases.infos().into_iter().filter(|lease| lease.user == person.user).collect();
        Status { session, others: Vec::new(), launches, leases }
    }

    /// How many records of the audit log were lost.
    #[must_use]
    pub fn lost_records(&self) -> u64 {
        self.audit.lost()
    }

    /// All sessions, for the admin.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionInfo> {
        let mut all: Vec<_> = self.lock().sessions.iter().map(|(id, session)| session.info(*id)).collect();
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

impl Session {
    pub(super) fn info(&self, id: SessionId) -> SessionInfo {
        SessionInfo {
            id,
            state: match self.state {
                State::Active(_) => SessionState::Active,
                State::Locked => SessionState::Locked,
            },
            uid: self.person.uid,
            user: self.person.user.clone(),
            since: shown(self.since),
            ends_at: shown(self.ends_at),
            lock: None,
            login: None,
        }
    }
}

fn stopping() -> Problem {
    Problem::new(ErrorCode::Stopping, "the broker is stopping", "try again when it runs again")
}

fn session_over() -> Problem {
    Problem::new(
        ErrorCode::NotSignedIn,
        "the session is over",
        "run `mcp-run login`, then start the server again",
    )
}

pub(super) fn locked() -> Problem {
    Problem::new(
        ErrorCode::SessionLocked,
        "the session is locked",
        "run `mcp-run unlock`, then start the server again",
    )
}

fn too_many() -> Problem {
    let title = format!("there are {MAX_LAUNCHES} launches of this account already");
    Problem::new(ErrorCode::TooMany, title, "see `mcp-run status`, and end what is not needed")
}
