//! Login sessions as the rest of the broker sees them: which one a process belongs to, and how it does. Who
//! knows that (logind, or nobody on this machine) is behind [`Logins`]. What happens to one comes as a [`Sighting`].

use std::os::fd::OwnedFd;
use std::sync::Arc;

use async_trait::async_trait;
use mcp_broker_proto::problem::Problem;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

/// A process that asks, as the kernel reported it.
#[derive(Clone)]
pub struct Caller {
    /// Its user id.
    pub uid: u32,
    /// Its process id; good for looking something up between two looks at `pidfd`, and for nothing else.
    pub pid: Option<u32>,
    /// It, and no other process that gets its number later.
    pub pidfd: Option<Arc<OwnedFd>>,
}

/// A login session. Its id may be used again after it, so that two are the same only if all of this is.
#[derive(Debug)]
pub struct Login {
    /// The id, such as `3`.
    pub id: String,
    /// Its object on the bus.
    pub path: String,
    /// Whose it is.
    pub uid: u32,
    /// When it began, in microseconds on the wall clock (`Timestamp`, org.freedesktop.login1(5)).
    pub since: u64,
    /// Its seat, where it has one.
    pub seat: Option<String>,
    /// Whether it came over the network.
    pub remote: bool,
    /// The process that it lives with.
    pub leader: Leader,
}

/// The process that a login session lives with.
#[derive(Debug)]
pub struct Leader {
    /// Its process id.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`starttime`, proc_pid_stat(5)).
    pub started: u64,
    /// It, and no other process that gets its number later: readable when it has exited.
    pub pidfd: OwnedFd,
}

impl Leader {
    /// Whether it still runs; what cannot be asked counts as gone.
    #[must_use]
    pub fn alive(&self) -> bool {
        // Readable means exited (pidfd_open(2)).
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }
}

impl PartialEq for Login {
    fn eq(&self, other: &Self) -> bool {
        let leader = |login: &Self| (login.leader.pid, login.leader.started);
        (&self.id, self.uid, self.since, leader(self)) == (&other.id, other.uid, other.since, leader(other))
    }
}

/// How a login session does right now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// The desktop says that its screen is locked.
    pub locked_hint: bool,
    /// It is the active one of its seat, or has no seat.
    pub active: bool,
    /// It is on its way out, or its leader has exited.
    pub closing: bool,
}

/// Something that was seen to happen to a login session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sighting {
    /// It was asked to lock its screen.
    Lock,
    /// It was asked to unlock its screen.
    Unlock,
    /// The desktop says whether the screen is locked. Only a change that was seen counts as one.
    Hint(bool),
    /// It became the active one of its seat, or is not any more.
    Active(bool),
    /// It is over, whether or not processes of it are left.
    Closed,
}

/// Who knows login sessions.
#[async_trait]
pub trait Logins: Send + Sync {
    /// The login session that the process is bound to; `None` where nobody on this machine knows login
    /// sessions and the configuration allows that.
    ///
    /// # Errors
    /// With the cure, where it has none, where it is not clear which, or where it cannot be seen now.
    async fn login_of(&self, caller: &Caller) -> Result<Option<Login>, Problem>;

    /// How it does now; `None` when it is gone.
    ///
    /// # Errors
    /// When nobody can be asked.
    async fn look(&self, login: &Login) -> Result<Option<Look>, Problem>;
}
