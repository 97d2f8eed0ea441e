//! Who is at the other end of a connection: user id and pidfd, both from the kernel and both taken from the
//! open stream, never from a number that could be reused.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use async_trait::async_trait;
use nix::errno::Errno;
use nix::sys::socket::{getsockopt, sockopt::PeerPidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Signal, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use super::places::Place;
use crate::audit::ByWhom;
use crate::session::PeerWatch;
use crate::session::login::Caller;

/// The process that connected.
#[derive(Clone)]
pub(super) struct Peer {
    /// Its user id when it connected (unix(7), `SO_PEERCRED`).
    pub(super) uid: u32,
    /// Its process id, for people.
    pub(super) pid: Option<u32>,
    /// It, and no other process that gets its number later (`SO_PEERPIDFD`, Linux 6.5).
    pidfd: Option<Arc<OwnedFd>>,
    /// Its place at the socket, held as long as anything of the connection is.
    _place: Arc<Place>,
}

impl Peer {
    /// Asks the kernel who connected.
    ///
    /// # Errors
    /// When the peer is gone already.
    pub(super) fn of(stream: &UnixStream, place: Place) -> io::Result<Self> {
        let cred = stream.peer_cred()?;
        let pidfd = match getsockopt(stream, PeerPidfd) {
            Ok(pidfd) => Some(Arc::new(pidfd)),
            // A kernel before 6.5: the connection itself is what remains to tell its end by.
            Err(Errno::ENOPROTOOPT) => None,
            Err(error) => return Err(error.into()),
        };
        let pid = cred.pid().and_then(|pid| u32::try_from(pid).ok());
        Ok(Self { uid: cred.uid(), pid, pidfd, _place: Arc::new(place) })
    }

    /// To find out who it is.
    pub(super) fn caller(&self) -> Caller {
        Caller { uid: self.uid, pid: self.pid, pidfd: self.pidfd.clone() }
    }

    /// For the audit log.
    pub(super) fn by(&self) -> ByWhom {
        ByWhom { uid: self.uid, pid: self.pid }
    }
}

impl Peer {
    /// Whether it still runs for the account that connected: a program that it became may belong to another, which
    /// its starter could not kill.
    fn is_still_theirs(&self) -> bool {
        let status = self.pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).ok());
        let real = status.as_deref().and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
            line.split_whitespace().next()?.parse().ok()
        });
        // Read before this look, so that what was read is this process's and not a later one's.
        real.is_none_or(|real: u32| real == self.uid) || !self.alive()
    }
}

/// Whether the kernel names the very process that connected (Linux 6.5).
#[must_use]
pub fn knows_peers_for_sure() -> bool {
    let pair = std::os::unix::net::UnixStream::pair();
    pair.is_ok_and(|(one, _other)| !matches!(getsockopt(&one, PeerPidfd), Err(Errno::ENOPROTOOPT)))
}

#[async_trait]
impl PeerWatch for Peer {
    fn alive(&self) -> bool {
        let Some(pidfd) = &self.pidfd else { return true };
        // Readable means exited (pidfd_open(2)); what cannot be asked counts as gone.
        let mut fds = [PollFd::new(pidfd.as_ref(), PollFlags::IN)];
        matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
    }

    async fn exited(&self) {
        let Some(pidfd) = &self.pidfd else { return std::future::pending().await };
        #[expect(
            deprecated,
            reason = "an Arc<OwnedFd> stays the same open descriptor, which is what the unsafe one asks for"
        )]
        let watched = AsyncFd::with_interest(Arc::clone(pidfd), Interest::READABLE);
        let Ok(pidfd) = watched else { return std::future::pending().await };
        if pidfd.readable().await.is_err() {
            std::future::pending().await
        }
    }

    fn kill(&self) {
        let Some(pidfd) = &self.pidfd else { return };
        if !self.is_still_theirs() {
            tracing::warn!(pid = self.pid, "a launcher that became another account's process is not killed");
            return;
        }
        if let Err(error) = pidfd_send_signal(pidfd.as_fd(), Signal::KILL) {
            // In system mode the broker may not signal other accounts; revocation goes on.
            tracing::warn!(pid = self.pid, %error, "a launcher that did not answer could not be killed");
        }
    }
}

#[cfg(test)]
#[path = "peer_tests.rs"]
mod tests;
