//! The admin's kill switch: ends what is meant, and reports what was verified and what is not.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{LaunchId, LeaseId, SessionId};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::{LeaseInfo, RevokeReport, RevokeRequest};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep, timeout_at};

use super::registry::Sessions;
use crate::audit::{ByWhom, Event};
use crate::lease::Outcome;

/// An answer waits so long for proof; what is pending then is said to be pending.
const PROOF_LIMIT: Duration = Duration::from_secs(10);

/// A launcher has so long to exit once its launch has ended.
const EXIT_LIMIT: Duration = Duration::from_secs(1);

/// It is looked at so often.
const EXIT_LOOK: Duration = Duration::from_millis(5);

/// What a request means at this moment.
struct Meant {
    launches: HashSet<LaunchId>,
    sessions: Vec<SessionId>,
    leases: HashSet<LeaseId>,
}

impl Sessions {
    /// Ends what is meant, and says what was verified. What was withheld before and is valid still is told as well,
    /// though nothing can be done about it.
    ///
    /// # Errors
    /// When nothing of the kind is there: a typing mistake must not look like success.
    pub async fn revoke(
        self: &Arc<Self>,
        target: RevokeRequest,
        by: ByWhom,
    ) -> Result<RevokeReport, Problem> {
        let mut outcomes = self.leases.outcomes();
        let Meant { launches, sessions, leases } = self.meant(&target);
        let nothing = launches.is_empty() && sessions.is_empty() && leases.is_empty();
        if nothing && target != RevokeRequest::All && self.withheld(&target).is_empty() {
            return Err(nothing_there(&target));
        }
        let launchers = self.launchers(&launches);
        let told = Event::AdminRevoked { by, target: target.clone(), launches: launches.len() };
        self.audit.note(told);
        for launch in &launches {
            self.end_launch(*launch, EndReason::Revoked);
        }
        let ends: Vec<_> =
            sessions.into_iter().map(|session| self.end_session(session, EndReason::Revoked)).collect();
        let deadline = Instant::now() + PROOF_LIMIT;
        let going = launches.iter().map(|launch| (*launch, None)).collect();
        let in_register = self.still(&going, deadline).await;
        let still_running = in_register.max(launchers.left(deadline).await);
        for end in ends {
            // What is not done by then goes on; it is reported as pending.
            drop(timeout_at(deadline, end).await);
        }
        let mut report = RevokeReport { launches: launches.len() - still_running, still_running, ..empty() };
        let mut open = leases;
        while !open.is_empty() {
            match timeout_at(deadline, outcomes.recv()).await {
                Ok(Ok((id, outcome))) => {
                    if open.remove(&id) {
                        count(&mut report, outcome);
                    }
                }
                // What was missed in a flood is settled and in neither list.
                Ok(Err(RecvError::Lagged(_))) => {
                    let alive: HashSet<_> = self.leases.infos().iter().map(|lease| lease.id).collect();
                    open.retain(|id| alive.contains(id));
                }
                Ok(Err(RecvError::Closed)) | Err(_) => break,
            }
        }
        // Their parents were told last; a moment more shows whether they are gone too.
        while self.leases.unlisted_pending() > 0 {
            if !matches!(timeout_at(deadline, outcomes.recv()).await, Ok(Ok(_) | Err(RecvError::Lagged(_)))) {
                break;
            }
        }
        report.pending = self.leases.infos().into_iter().filter(|lease| open.contains(&lease.id)).collect();
        report.unlisted_pending = self.leases.unlisted_pending();
        report.withheld = self.withheld(&target);
        Ok(report)
    }

    fn withheld(&self, target: &RevokeRequest) -> Vec<LeaseInfo> {
        self.leases.withheld().into_iter().filter(|lease| hits(target, lease)).collect()
    }

    /// The launchers of these launches. The kernel tells processes only by number here: one that took over the
    /// number of a launcher within the moment before counts as running, which errs on the safe side.
    fn launchers(&self, launches: &HashSet<LaunchId>) -> Launchers {
        let inner = self.lock();
        let mine = launches.iter().filter_map(|id| inner.launches.get(id)?.info.launcher_pid);
        Launchers(mine.filter_map(open).collect())
    }

    fn meant(&self, target: &RevokeRequest) -> Meant {
        let inner = self.lock();
        let sessions = inner.sessions.iter().filter(|(id, session)| match target {
            RevokeRequest::Session(wanted) => *id == wanted,
            RevokeRequest::User(user) => session.person.user == *user,
            RevokeRequest::All => true,
            RevokeRequest::Launch(_) | RevokeRequest::Server(_) => false,
        });
        let sessions = sessions.map(|(id, _)| *id).collect();
        let launches = inner.launches.values().map(|launch| &launch.info).filter(|launch| match target {
            RevokeRequest::Launch(wanted) => launch.id == *wanted,
            RevokeRequest::Server(server) => launch.server == *server,
            RevokeRequest::Session(wanted) => launch.session == *wanted,
            RevokeRequest::User(user) => launch.user == *user,
            RevokeRequest::All => true,
        });
        let launches = launches.map(|launch| launch.id).collect();
        drop(inner);
        let leases = self.leases.infos().into_iter().filter(|lease| hits(target, lease));
        Meant { launches, sessions, leases: leases.map(|lease| lease.id).collect() }
    }
}

/// The processes of launches that are ended. One that neither did as it was told nor could be killed, as a broker may
/// not kill other accounts' in system mode, runs on with what it started.
struct Launchers(Vec<OwnedFd>);

fn open(pid: u32) -> Option<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
    pidfd_open(pid, PidfdFlags::empty()).ok()
}

impl Launchers {
    /// How many still run a moment after their launches ended.
    async fn left(&self, deadline: Instant) -> usize {
        let deadline = deadline.min(Instant::now() + EXIT_LIMIT);
        loop {
            let left = self.0.iter().filter(|launcher| runs(launcher)).count();
            if left == 0 || Instant::now() >= deadline {
                return left;
            }
            sleep(EXIT_LOOK).await;
        }
    }
}

fn runs(launcher: &OwnedFd) -> bool {
    // Readable means exited (pidfd_open(2)).
    let mut fds = [PollFd::new(launcher, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

fn hits(target: &RevokeRequest, lease: &LeaseInfo) -> bool {
    match target {
        RevokeRequest::Launch(launch) => lease.launch == *launch,
        RevokeRequest::Server(server) => lease.server == *server,
        RevokeRequest::Session(session) => lease.session == *session,
        RevokeRequest::User(user) => lease.user == *user,
        RevokeRequest::All => true,
    }
}

fn count(report: &mut RevokeReport, outcome: Outcome) {
    match outcome {
        Outcome::Verified => report.verified += 1,
        Outcome::NotRevocable => report.not_revocable += 1,
        Outcome::Expired => report.expired += 1,
        Outcome::NothingMade => {}
    }
}

fn empty() -> RevokeReport {
    RevokeReport {
        launches: 0,
        still_running: 0,
        verified: 0,
        not_revocable: 0,
        expired: 0,
        pending: Vec::new(),
        unlisted_pending: 0,
        withheld: Vec::new(),
    }
}

fn nothing_there(target: &RevokeRequest) -> Problem {
    let (what, command) = match target {
        RevokeRequest::Launch(id) => (format!("there is no launch {id}"), "launches"),
        RevokeRequest::Session(id) => (format!("there is no session {id}"), "sessions"),
        RevokeRequest::User(user) => (format!("account `{user}` has no session and no launch"), "sessions"),
        RevokeRequest::Server(server) => (format!("no launch of `{server}` is running"), "launches"),
        RevokeRequest::All => ("nothing is running".to_owned(), "launches"),
    };
    Problem::new(
        ErrorCode::NothingThere,
        what,
        format!("`mcp-broker {command}` lists what there is; nothing was ended"),
    )
}
