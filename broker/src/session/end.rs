//! Ends sessions and launches. Each fence falls under the register's lock; what follows is walked by a task of its
//! own ([`winding`](super::winding)), so that nobody who asked for an end and went away can leave it half done.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{LaunchId, LeaseId, SessionId};
use mcp_broker_proto::problem::Problem;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::admit::Asking;
use super::park::Why;
use super::registry::{Inner, Sessions};
use super::seat::Order;
use super::trial::end_trials;
use super::winding::{Fenced, Of};
use super::words;
use crate::audit::Event;
use crate::fault;
use crate::lease::Parents;

/// Credentials that are minted to end with their session are given up a little before it.
const LAST_MOMENTS: Duration = Duration::from_secs(5);

/// The age of a session is looked at so often, as timers stand still while the machine sleeps.
const AGE_CHECK: Duration = Duration::from_secs(15);

impl Sessions {
    /// `mcp-run logout` while nobody can say which session it is for: every session of the account ends.
    pub async fn log_out_account(self: &Arc<Self>, uid: u32) {
        let mine = self.those(|holder| holder.person.uid == uid);
        let ends: Vec<_> = mine.into_iter().map(|id| self.end_session(id, EndReason::LoggedOut)).collect();
        for end in ends {
            end.await;
        }
    }

    /// Ends the session of the process that asks.
    ///
    /// # Errors
    /// When there is none.
    pub async fn log_out(self: &Arc<Self>, asking: &Asking) -> Result<(), Problem> {
        let session = self.session_of(&asking.key()).ok_or_else(words::no_session)?;
        self.end_session(session, EndReason::LoggedOut).await;
        Ok(())
    }

    /// Ends a session: fence, launches, leases, parents. The fence has fallen when this returns its future.
    pub fn end_session(
        self: &Arc<Self>,
        session: SessionId,
        reason: EndReason,
    ) -> impl Future<Output = ()> + Send + use<> {
        let fenced = {
            let mut guard = self.lock();
            let inner = &mut *guard;
            inner.sessions.remove(&session).map(|mut ended| {
                ended.close();
                inner.rested.keep(ended.key(), std::mem::take(&mut ended.uses));
                if reason == EndReason::SessionClosed {
                    inner.marks.forget(&ended.place());
                }
                self.end_all(inner, session, reason)
            })
        };
        let winding = fenced.map(|fenced| self.wind_up(fenced, Some(session), Some(reason)));
        async move {
            if let Some(winding) = winding {
                winding.await;
            }
        }
    }

    /// Tells a launch to end; it does the rest.
    pub fn end_launch(&self, launch: LaunchId, reason: EndReason) {
        if let Some(launch) = self.lock().launches.get_mut(&launch) {
            launch.end(reason);
        }
    }

    /// A credential of a launch was renewed, and lives until then.
    pub fn renewed_credential(&self, launch: LaunchId, lease: LeaseId, until: Timestamp) {
        if let Some(launch) = self.lock().launches.get(&launch) {
            launch.tell(Order::Renewed { lease, until });
        }
    }

    /// A credential of a launch ends for good in a while: another one takes its place, in the same instance where its
    /// scope lets it and in another one elsewhere.
    pub fn losing_credential(&self, launch: LaunchId, lease: LeaseId, within: Duration) {
        if let Some(launch) = self.lock().launches.get(&launch) {
            launch.tell(Order::Ending { lease, within });
        }
    }

    /// A credential of a launch is about to end. One that ends with its session ends because of the session.
    pub fn lost_credential(&self, launch: LaunchId, lease: LeaseId) {
        let mut guard = self.lock();
        let inner = &mut *guard;
        let Some(launch) = inner.launches.get_mut(&launch) else { return };
        let session = inner.sessions.get(&launch.info.session);
        let left = session.map(|session| session.deadline.saturating_sub(self.clock.boot()));
        match left.is_some_and(|left| left < LAST_MOMENTS) {
            true => launch.end(EndReason::MaxAge),
            false => launch.tell(Order::Lost(lease)),
        }
    }

    /// A session lost its parent at a provider: the launches that live on it are parked, and what is left of the
    /// parent is ended.
    pub fn lost_parent(self: &Arc<Self>, session: SessionId, parents: Parents) {
        let provider = parents.provider();
        let infos = self.leases.infos();
        let on_it = |launch| {
            infos.iter().any(|lease| lease.launch == launch && Some(&lease.provider) == provider.as_ref())
        };
        let fenced = {
            let mut inner = self.lock();
            let mine = inner.launches.values_mut().filter(|launch| launch.info.session == session);
            let launches = mine.filter(|launch| on_it(launch.info.id)).map(|launch| {
                launch.park(Why::ParentLost);
                (launch.info.id, Some(launch.ordered()))
            });
            let of = Of::Provider(session, provider.clone());
            fenced(launches.collect(), of, parents, EndReason::ParentLost)
        };
        drop(self.wind_up(fenced, None, None));
    }

    /// Ends everything: no launch and no session begins any more. The fences have fallen when this returns its
    /// future.
    pub fn stop(self: &Arc<Self>, reason: EndReason) -> impl Future<Output = ()> + Send + use<> {
        let (sessions, trials): (Vec<_>, _) = {
            let mut inner = self.lock();
            inner.stopping = true;
            inner.leaving |= reason == EndReason::BrokerStopping;
            (inner.sessions.keys().copied().collect(), end_trials(&mut inner, reason))
        };
        let ends: Vec<_> = sessions.into_iter().map(|session| self.end_session(session, reason)).collect();
        let stopping = Arc::clone(self);
        async move {
            for end in ends {
                end.await;
            }
            stopping.still(&trials, Fenced::deadline()).await;
        }
    }

    /// The shutdown that everything was ended for does not come.
    pub fn go_on(&self) {
        let mut inner = self.lock();
        inner.stopping = inner.leaving;
    }

    /// Under the register's lock, after the session's fence has fallen: every launch is told to kill and go.
    pub(super) fn end_all(&self, inner: &mut Inner, session: SessionId, reason: EndReason) -> Fenced {
        let launches = inner.launches.values_mut().filter(|launch| launch.info.session == session);
        let launches = launches.map(|launch| {
            launch.end(reason);
            (launch.info.id, None)
        });
        fenced(launches.collect(), Of::Session(session), self.leases.take_parents(session), reason)
    }

    /// Kill, leaves, parents, and what the audit log says of it. The task goes on when its handle is dropped.
    pub(super) fn wind_up(
        self: &Arc<Self>,
        fenced: Fenced,
        session: Option<SessionId>,
        ended: Option<EndReason>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let sessions = Arc::clone(self);
        let task: JoinHandle<()> = tokio::spawn(async move {
            fault::passing("session.fenced").await;
            let began = Instant::now();
            let killed = fenced.kill(&sessions).await;
            let dead = began.elapsed();
            fault::passing("session.killed").await;
            let bare = killed.revoke_leaves(&sessions).await;
            let shed = began.elapsed();
            fault::passing("session.leaves-revoked").await;
            let pending = bare.revoke_parents(&sessions).await.pending;
            tracing::debug!(?dead, ?shed, over = ?began.elapsed(), pending, "wound up");
            fault::passing("session.parents-revoked").await;
            match (session, ended) {
                (Some(session), Some(reason)) => {
                    sessions.audit.note(Event::SessionEnded { session, reason, pending });
                }
                (Some(session), None) => sessions.audit.note(Event::SessionCleared { session, pending }),
                (None, _) => {}
            }
        });
        async move {
            if task.await.is_err() {
                tracing::error!("ending a session panicked; what it left is ended at the next start");
            }
        }
    }

    /// Waits until these launches are still, or left the register where they have to; answers with how many did
    /// not in time.
    pub(super) async fn still(&self, launches: &HashMap<LaunchId, Option<u64>>, deadline: Instant) -> usize {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let left = {
                let inner = self.lock();
                let moving = |(id, order): &(&LaunchId, &Option<u64>)| {
                    let launch = inner.launches.get(id);
                    launch.is_some_and(|launch| order.is_none_or(|order| !launch.has_stilled(order)))
                };
                launches.iter().filter(moving).count()
            };
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

/// What is wound up next.
pub(super) fn fenced(
    launches: HashMap<LaunchId, Option<u64>>,
    of: Of,
    parents: Parents,
    reason: EndReason,
) -> Fenced {
    Fenced { launches, of, parents, reason, before: LeaseId::fresh(), deadline: Fenced::deadline() }
}
