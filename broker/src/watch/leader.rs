//! The process that a login session lives with: its end is the session's, also where logind says nothing about
//! it because other processes of the session are left, and also without any bus.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinSet;

use super::{BoxFuture, Kind, Source};
use crate::session::login::{Login, Sighting};

pub(super) const KIND: Kind = Kind { name: "leader", needs_logind: true, run };

fn run(source: Source) -> BoxFuture<'static, ()> {
    Box::pin(follow(source))
}

/// The leader's pidfd, with what keeps it open.
struct Pidfd(Arc<Login>);

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.leader.pidfd.as_fd().as_raw_fd()
    }
}

async fn follow(source: Source) {
    drop(source.news);
    let sessions = &source.watched.sessions;
    let mut newborn = sessions.newborn();
    let mut known: Vec<Arc<Login>> = Vec::new();
    let mut watches = JoinSet::new();
    let mut births = true;
    while births || !watches.is_empty() {
        tokio::select! {
            login = newborn.recv(), if births => match login {
                // A second session of the same login session needs no second watch.
                Some(login) if known.contains(&login) => {}
                Some(login) => {
                    known.push(Arc::clone(&login));
                    watches.spawn(exited(login));
                }
                None => births = false,
            },
            Some(ended) = watches.join_next() => {
                if let Ok(login) = ended {
                    known.retain(|other| *other != login);
                    sessions.sighted(&login.path, Sighting::Closed);
                }
            }
        }
    }
    // Nobody is bound any more, and nobody will be: the broker stops.
    std::future::pending().await
}

/// Waits until the leader has exited: then its pidfd is readable (pidfd_open(2)).
async fn exited(login: Arc<Login>) -> Arc<Login> {
    #[expect(
        deprecated,
        reason = "an Arc<Login> keeps the same descriptor open, which is what the unsafe one asks for"
    )]
    let watched = AsyncFd::with_interest(Pidfd(Arc::clone(&login)), Interest::READABLE);
    match watched {
        Ok(pidfd) => match pidfd.readable().await {
            Ok(_) => login,
            Err(error) => unwatched(&login, &error).await,
        },
        Err(error) => unwatched(&login, &error).await,
    }
}

/// `state` looks at the leader as well, less often.
async fn unwatched(login: &Login, error: &std::io::Error) -> Arc<Login> {
    tracing::error!(login = login.id, %error, "a login session's leader cannot be watched; it is looked at now and then");
    std::future::pending().await
}
