//! One session: whose, bound to which login session, locked or not. Its state is a lock and, while that is open,
//! a fence; both change together and only here.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::names::SessionId;
use mcp_broker_proto::session::{LockCause, LockInfo, LoginInfo, SessionInfo, SessionState};
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use super::lock::{Lock, Notice, Turn};
use super::login::Login;
use super::sign_in::Person;
use super::uses::Servers;
use super::words;
use crate::clock::{Clock, shown};

/// What a session is bound to. Two are the same only if all of this is: nothing that is used again can match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    uid: u32,
    login: Option<LoginKey>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct LoginKey {
    id: String,
    since: u64,
    leader: u32,
    leader_started: u64,
}

impl Key {
    /// Of an account, bound to a login session or to none.
    #[must_use]
    pub(super) fn of(uid: u32, login: Option<&Login>) -> Self {
        let login = login.map(|login| LoginKey {
            id: login.id.clone(),
            since: login.since,
            leader: login.leader.pid,
            leader_started: login.leader.started,
        });
        Self { uid, login }
    }
}

/// A session in the register.
pub(super) struct Holder {
    pub(super) person: Person,
    pub(super) login: Option<Arc<Login>>,
    lock: Lock,
    fence: Option<CancellationToken>,
    locked_since: Timestamp,
    since: Timestamp,
    ends_at: Timestamp,
    /// The maximum age on the clock that goes on while the machine sleeps.
    pub(super) deadline: Duration,
    /// Set once its login session was looked at after the register knew of it.
    pub(super) established: Arc<OnceCell<()>>,
    /// Launches that were refused since it was locked.
    pub(super) refused: u64,
    /// How much its servers are used.
    pub(super) uses: Servers,
    /// Counts what was seen of its login session: a look that was asked for before is older than that.
    seen: u64,
}

impl Holder {
    /// One that begins now, locked until its login session was looked at where it has one.
    pub(super) fn begin(
        person: Person,
        login: Option<Arc<Login>>,
        lock: Option<Lock>,
        age: (Timestamp, Duration),
        clock: &dyn Clock,
    ) -> Self {
        let (ends_at, max_age) = age;
        let since = clock.now();
        let lock = match (&login, lock) {
            (Some(_), Some(lock)) => lock.unlooked(),
            (Some(_), None) => Lock::shut(LockCause::Found, false, clock.boot()).unlooked(),
            (None, lock) => lock.unwrap_or_else(Lock::open),
        };
        Self {
            fence: lock.cause().is_none().then(CancellationToken::new),
            person,
            login,
            lock,
            locked_since: since,
            since,
            ends_at,
            deadline: clock.boot() + max_age,
            established: Arc::default(),
            refused: 0,
            uses: Servers::default(),
            seen: 0,
        }
    }

    /// How much was seen of its login session.
    pub(super) fn seen(&self) -> u64 {
        self.seen
    }

    /// Takes a notice; the fence falls here when that locks it.
    pub(super) fn take(&mut self, notice: Notice, clock: &dyn Clock) -> Turn {
        self.seen += u64::from(matches!(notice, Notice::Seen(_)));
        let turn = self.lock.take(notice, clock.boot());
        match turn {
            Turn::Locked(_) => {
                self.locked_since = clock.now();
                self.refused = 0;
                self.uses.forget_yes();
                self.close();
            }
            Turn::Begun | Turn::Opened(_) => self.fence = Some(CancellationToken::new()),
            Turn::Stays => {}
        }
        turn
    }

    /// Lets the fence fall for good.
    pub(super) fn close(&mut self) {
        if let Some(fence) = self.fence.take() {
            fence.cancel();
        }
    }

    /// Under it credentials may be minted, while the session is open.
    pub(super) fn fence(&self) -> Option<&CancellationToken> {
        self.fence.as_ref()
    }

    /// What locked it.
    pub(super) fn cause(&self) -> LockCause {
        self.lock.cause().unwrap_or(LockCause::Found)
    }

    pub(super) fn lock(&self) -> &Lock {
        &self.lock
    }

    pub(super) fn key(&self) -> Key {
        Key::of(self.person.uid, self.login.as_deref())
    }

    /// Where its lock is remembered.
    pub(super) fn place(&self) -> String {
        place(self.person.uid, self.login.as_deref())
    }

    pub(super) fn info(&self, id: SessionId) -> SessionInfo {
        let lock = self.lock.cause().map(|cause| LockInfo {
            cause,
            since: shown(self.locked_since),
            hint: words::way_back(&self.lock).to_owned(),
        });
        let login = self.login.as_ref().map(|login| LoginInfo {
            id: login.id.clone(),
            seat: login.seat.clone(),
            remote: login.remote,
        });
        SessionInfo {
            id,
            state: if lock.is_some() { SessionState::Locked } else { SessionState::Active },
            uid: self.person.uid,
            user: self.person.user.clone(),
            since: shown(self.since),
            ends_at: shown(self.ends_at),
            lock,
            login,
        }
    }
}

/// Where the lock of an account's login session is remembered: by the session's object, which is the same for
/// whoever tells of it, and without login sessions by the account.
pub(super) fn place(uid: u32, login: Option<&Login>) -> String {
    login.map_or_else(|| format!("uid {uid}"), |login| login.path.clone())
}
