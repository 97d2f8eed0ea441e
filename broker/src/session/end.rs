//! Ends and locks sessions and launches, always in one order: fence, kill, revoke the leaves, revoke the
//! parents. Killing and revoking a launch's own leases is the launch's task; this waits for it. An end runs in
//! a task of its own, so that nobody who asked for it and went away can leave it half done.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{LaunchId, SessionId};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::registry::{Inner, Sessions, State};
use crate::audit::{ByWhom, Event};
use crate::lease::Parents;

/// Launches are waited for so long: each has half a second to die, and its mint 2 s to settle.
const LAUNCH_LIMIT: Duration = Duration::from_secs(8);

/// Credentials that are minted to end with their session are given up a little before it.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// The age of a session is looked at so often, as timers stand still while the machine sleeps.
const AGE_CHECK: Duration = Duration::from_secs(15);

/// What is to be wound up after a fence fell.
struct Fenced {
    launches: HashSet<LaunchId>,
    parents: Parents,
}

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
            let id = *id;
            match std::mem::replace(&mut session.state, State::Locked) {
                State::Active(fence) => Some((id, self.fence(&inner, id, &fence, EndReason::Locked))),
                State::Locked => None,
            }
        };
        if let Some((session, fenced)) = fenced {
            self.audit.note(Event::SessionLocked { session, by });
            self.wind_up(fenced, EndReason::Locked, None).await;
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

    /// Ends a session: fence, launches, leases, parents. The fence has fallen when this returns its future.
    pub fn end_session(
        self: &Arc<Self>,
        session: SessionId,
        reason: EndReason,
    ) -> impl Future<Output = ()> + Send + use<> {
        let fenced = {
            let mut inner = self.lock();
            inner.sessions.remove(&session).map(|ended| match ended.state {
                State::Active(fence) => self.fence(&inner, session, &fence, reason),
                State::Locked => {
                    inner.locked.insert(ended.person.uid);
                    self.fence(&inner, session, &CancellationToken::new(), reason)
                }
            })
        };
        let winding = fenced.map(|fenced| self.wind_up(fenced, reason, Some(session)));
        async move {
            if let Some(winding) = winding {
                winding.await;
            }
        }
    }

    /// Tells a launch to end; it does the rest.
    pub fn end_launch(&self, launch: LaunchId, reason: EndReason) {
        if let Some(launch) = self.lock().launches.get(&launch) {
            launch.tell(reason);
        }
    }

    /// A credential of a launch is about to end. One that ends with its session ends because of the session.
    pub fn lost_credential(&self, launch: LaunchId) {
        let inner = self.lock();
        let Some(launch) = inner.launches.get(&launch) else { return };
        let session = inner.sessions.get(&launch.info.session);
        let left = session.map(|session| session.deadline.saturating_sub(self.clock.boot()));
        let with_session = left.is_some_and(|left| left < LAST_MOMENTS);
        launch.tell(if with_session { EndReason::MaxAge } else { EndReason::CredentialEnded });
    }

    /// A session lost its parent at a provider: its launches end, then what is left of the parent.
    pub fn lost_parent(self: &Arc<Self>, session: SessionId, parents: Parents) {
        let launches = {
            let inner = self.lock();
            tell_all(&inner, session, EndReason::ParentLost)
        };
        drop(self.wind_up(Fenced { launches, parents }, EndReason::ParentLost, None));
    }

    /// Ends everything, as the broker stops: no launch and no session begins any more.
    pub async fn stop(self: &Arc<Self>) {
        let sessions: Vec<_> = {
            let mut inner = self.lock();
            inner.stopping = true;
            inner.sessions.keys().copied().collect()
        };
        // All fences first, then all waits.
        let ends: Vec<_> = sessions
            .into_iter()
            .map(|session| self.end_session(session, EndReason::BrokerStopping))
            .collect();
        for end in ends {
            end.await;
        }
    }

    /// Lets the fence of a session fall: nothing more is minted, every launch is told, and its parents are
    /// out of service. Under the register's lock.
    fn fence(
        &self,
        inner: &Inner,
        session: SessionId,
        fence: &CancellationToken,
        reason: EndReason,
    ) -> Fenced {
        fence.cancel();
        let launches = tell_all(inner, session, reason);
        Fenced { launches, parents: self.leases.take_parents(session) }
    }

    /// Launches first, then what they left, then the parents. The task goes on when its handle is dropped.
    fn wind_up(
        self: &Arc<Self>,
        fenced: Fenced,
        reason: EndReason,
        ended: Option<SessionId>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let sessions = Arc::clone(self);
        let task: JoinHandle<()> = tokio::spawn(async move {
            let deadline = Instant::now() + LAUNCH_LIMIT;
            sessions.gone(&fenced.launches, deadline).await;
            sessions.leaves_settled(&fenced.launches, deadline).await;
            sessions.leases.end_parents(&fenced.parents, reason);
            if let Some(session) = ended {
                sessions.audit.note(Event::SessionEnded { session, reason });
            }
        });
        async move {
            if task.await.is_err() {
                tracing::error!("ending a session panicked; what it left is ended at the next start");
            }
        }
    }

    async fn leaves_settled(&self, launches: &HashSet<LaunchId>, deadline: Instant) {
        let mut outcomes = self.leases.outcomes();
        while self.leases.infos().iter().any(|lease| launches.contains(&lease.launch)) {
            if timeout_at(deadline, outcomes.recv()).await.is_err() {
                return;
            }
        }
    }

    /// Waits until these launches left the register; answers with how many did not in time.
    pub(super) async fn gone(&self, launches: &HashSet<LaunchId>, deadline: Instant) -> usize {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let left = self.lock().launches.keys().filter(|launch| launches.contains(launch)).count();
            if left == 0 || timeout_at(deadline, changed).await.is_err() {
                return left;
            }
        }
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

fn tell_all(inner: &Inner, session: SessionId, reason: EndReason) -> HashSet<LaunchId> {
    let launches = inner.launches.values().filter(|launch| launch.info.session == session);
    launches.inspect(|launch| launch.tell(reason)).map(|launch| launch.info.id).collect()
}

fn no_session() -> Problem {
    Problem::new(ErrorCode::NotSignedIn, "there is no session", "`mcp-run login` or a launch begins one")
}
