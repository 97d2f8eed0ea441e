//! Ends and locks sessions and launches, always in one order: fence, kill, revoke the leaves, revoke the
//! parent. Killing and revoking a launch's own leases is the launch's task; this waits for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{LaunchId, LeaseId, ServerName, SessionId};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::RevokeReport;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::registry::{Sessions, State};
use crate::audit::{ByWhom, Event};
use crate::lease::Outcome;

/// What is to be ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// One launch.
    Launch(LaunchId),
    /// One session.
    Session(SessionId),
    /// The session of an account.
    User(String),
    /// Every launch of a server.
    Server(ServerName),
    /// Everything.
    All,
}

impl Target {
    fn word(&self) -> &'static str {
        match self {
            Self::Launch(_) => "launch",
            Self::Session(_) => "session",
            Self::User(_) => "user",
            Self::Server(_) => "server",
            Self::All => "all",
        }
    }
}

/// Launches are waited for so long: each has half a second to die, and its mint 2 s to settle.
const LAUNCH_LIMIT: Duration = Duration::from_secs(8);

/// An answer about revocation waits so long for proof; what is pending then is said to be pending.
const PROOF_LIMIT: Duration = Duration::from_secs(10);

/// The age of a session is looked at so often, as timers stand still while the machine sleeps.
const AGE_CHECK: Duration = Duration::from_secs(15);

impl Sessions {
    /// Locks the account's session. In this stage its launches end; the launcher does not park yet.
    ///
    /// # Errors
    /// When there is no session.
    pub async fn lock_session(self: &Arc<Self>, by: ByWhom) -> Result<(), Problem> {
        let fenced = {
            let mut inner = self.lock();
            let found = inner.sessions.iter_mut().find(|(_, session)| session.person.uid == by.uid);
            let (id, session) = found.ok_or_else(no_session)?;
            match std::mem::replace(&mut session.state, State::Locked) {
                State::Active(fence) => Some((*id, fence)),
                State::Locked => None,
            }
        };
        if let Some((session, fence)) = fenced {
            fence.cancel();
            self.audit.note(Event::SessionLocked { session, by });
            self.wind_up(session, EndReason::Locked).await;
        }
        Ok(())
    }

    /// Unlocks the account's session; what ran before is not resumed.
    ///
    /// # Errors
    /// When there is no session.
    pub fn unlock_session(&self, by: ByWhom) -> Result<(), Problem> {
        let mut inner = self.lock();
        let found = inner.sessions.iter_mut().find(|(_, session)| session.person.uid == by.uid);
        let (id, session) = found.ok_or_else(no_session)?;
        if matches!(session.state, State::Locked) {
            session.state = State::Active(CancellationToken::new());
            self.audit.note(Event::SessionUnlocked { session: *id, by });
        }
        Ok(())
    }

    /// Ends the account's session.
    ///
    /// # Errors
    /// When there is none.
    pub async fn log_out(self: &Arc<Self>, uid: u32) -> Result<(), Problem> {
        let session = {
            let inner = self.lock();
            inner.sessions.iter().find(|(_, session)| session.person.uid == uid).map(|(id, _)| *id)
        };
        self.end_session(session.ok_or_else(no_session)?, EndReason::LoggedOut).await;
        Ok(())
    }

    /// Ends a session: fence, launches, leases, parents.
    pub async fn end_session(self: &Arc<Self>, session: SessionId, reason: EndReason) {
        let Some(ended) = self.lock().sessions.remove(&session) else { return };
        if let State::Active(fence) = ended.state {
            fence.cancel();
        }
        self.wind_up(session, reason).await;
        self.audit.note(Event::SessionEnded { session, reason });
    }

    /// Tells a launch to end; it does the rest.
    pub fn end_launch(&self, launch: LaunchId, reason: EndReason) {
        if let Some(launch) = self.lock().launches.get(&launch) {
            launch.tell(reason);
        }
    }

    /// Tells every launch of a session to end, without ending the session.
    pub fn end_launches_of(&self, session: SessionId, reason: EndReason) {
        for launch in self.lock().launches.values().filter(|launch| launch.info.session == session) {
            launch.tell(reason);
        }
    }

    /// The kill switch: ends what is meant, and says what was verified.
    pub async fn revoke(self: &Arc<Self>, target: &Target, by: ByWhom) -> RevokeReport {
        let (launches, sessions) = self.meant(target);
        let mut outcomes = self.leases.outcomes();
        let sessions_meant: HashSet<_> = sessions.iter().copied().collect();
        let wanted = |lease: &mcp_broker_proto::session::LeaseInfo| {
            launches.contains(&lease.launch)
                || sessions_meant.contains(&lease.session)
                || *target == Target::All
        };
        let mut open: HashSet<LeaseId> =
            self.leases.infos().into_iter().filter(wanted).map(|lease| lease.id).collect();
        self.audit.note(Event::AdminRevoked { by, target: target.word(), launches: launches.len() });
        for launch in &launches {
            self.end_launch(*launch, EndReason::Revoked);
        }
        let ends: Vec<_> = sessions
            .into_iter()
            .map(|session| {
                let sessions = Arc::clone(self);
                tokio::spawn(async move { sessions.end_session(session, EndReason::Revoked).await })
            })
            .collect();
        let deadline = Instant::now() + PROOF_LIMIT;
        let mut report =
            RevokeReport { launches: launches.len(), verified: 0, not_revocable: 0, pending: vec![] };
        while !open.is_empty() {
            let Ok(Ok((id, outcome))) = timeout_at(deadline, outcomes.recv()).await else { break };
            if open.remove(&id) {
                match outcome {
                    Outcome::Verified => report.verified += 1,
                    Outcome::NotRevocable | Outcome::Expired => report.not_revocable += 1,
                }
            }
        }
        self.gone(&launches, deadline).await;
        for end in ends {
            // What is not done by then goes on; its leases are reported as pending.
            drop(timeout_at(deadline, end).await);
        }
        report.pending = self.leases.infos().into_iter().filter(|lease| open.contains(&lease.id)).collect();
        report
    }

    /// Ends everything, as the broker stops: no launch and no session begins any more.
    pub async fn stop(self: &Arc<Self>) {
        let sessions: Vec<_> = {
            let mut inner = self.lock();
            inner.stopping = true;
            inner.sessions.keys().copied().collect()
        };
        let ends: Vec<_> = sessions
            .into_iter()
            .map(|session| {
                let sessions = Arc::clone(self);
                tokio::spawn(async move { sessions.end_session(session, EndReason::BrokerStopping).await })
            })
            .collect();
        for end in ends {
            if end.await.is_err() {
                tracing::error!("ending a session panicked");
            }
        }
    }

    /// Launches first, then what they left, then the parents.
    async fn wind_up(self: &Arc<Self>, session: SessionId, reason: EndReason) {
        self.end_launches_of(session, reason);
        let launches: HashSet<_> = {
            let inner = self.lock();
            let of = inner.launches.values().filter(|launch| launch.info.session == session);
            of.map(|launch| launch.info.id).collect()
        };
        let deadline = Instant::now() + LAUNCH_LIMIT;
        self.gone(&launches, deadline).await;
        self.leaves_settled(session, deadline).await;
        self.leases.end_parents(session, reason).await;
    }

    async fn leaves_settled(&self, session: SessionId, deadline: Instant) {
        let mut outcomes = self.leases.outcomes();
        while self.leases.infos().iter().any(|lease| lease.session == session) {
            if timeout_at(deadline, outcomes.recv()).await.is_err() {
                return;
            }
        }
    }

    /// Waits until these launches left the register.
    async fn gone(&self, launches: &HashSet<LaunchId>, deadline: Instant) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if !self.lock().launches.keys().any(|launch| launches.contains(launch)) {
                return;
            }
            if timeout_at(deadline, changed).await.is_err() {
                return;
            }
        }
    }

    fn meant(&self, target: &Target) -> (HashSet<LaunchId>, Vec<SessionId>) {
        let inner = self.lock();
        let sessions: Vec<_> = inner
            .sessions
            .iter()
            .filter(|(id, session)| match target {
                Target::Session(wanted) => *id == wanted,
                Target::User(user) => session.person.user == *user,
                Target::All => true,
                Target::Launch(_) | Target::Server(_) => false,
            })
            .map(|(id, _)| *id)
            .collect();
        let launches = inner.launches.values().filter(|launch| match target {
            Target::Launch(wanted) => launch.info.id == *wanted,
            Target::Server(server) => launch.info.server == *server,
            Target::Session(_) | Target::User(_) | Target::All => sessions.contains(&launch.info.session),
        });
        (launches.map(|launch| launch.info.id).collect(), sessions)
    }

    /// Ends the session when it reaches its maximum age.
    pub(super) fn watch_age(self: &Arc<Self>, session: SessionId) {
        let sessions = Arc::clone(self);
        tokio::spawn(async move {
            loop {
                let Some(deadline) = sessions.lock().sessions.get(&session).map(|s| s.deadline) else {
                    return;
                };
                let left = deadline.saturating_sub(sessions.clock.boot());
                if left.is_zero() {
                    return sessions.end_session(session, EndReason::MaxAge).await;
                }
                sleep(left.min(AGE_CHECK)).await;
            }
        });
    }
}

fn no_session() -> Problem {
    use mcp_broker_proto::problem::ErrorCode;
    Problem::new(ErrorCode::NotSignedIn, "there is no session", "`mcp-run login` or a launch begins one")
}
