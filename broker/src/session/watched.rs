//! What the watch sources tell the register. Each of these is enough to lock or end; none of them unlocks by
//! itself.

use std::sync::Arc;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::SessionId;
use mcp_broker_proto::session::LockCause;
use tokio::sync::mpsc;

use super::holder::Holder;
use super::lock::Notice;
use super::login::{Login, Sighting};
use super::registry::Sessions;

impl Sessions {
    /// Something was seen to happen to the login session with this object path.
    pub fn sighted(self: &Arc<Self>, path: &str, sighting: Sighting) {
        let bound = |holder: &Holder| holder.login.as_ref().is_some_and(|login| login.path == path);
        for session in self.those(bound) {
            // What follows goes on by itself.
            match sighting {
                Sighting::Closed => drop(self.end_session(session, EndReason::SessionClosed)),
                seen => drop(self.notice(session, Notice::Seen(seen), None)),
            }
        }
    }

    /// Every login session of the account is over.
    pub fn user_removed(self: &Arc<Self>, uid: u32) {
        for session in self.those(|holder| holder.person.uid == uid && holder.login.is_some()) {
            drop(self.end_session(session, EndReason::SessionClosed));
        }
    }

    /// Locks every session; ready when everything is wound up. The fences have fallen when this returns.
    pub fn lock_all(self: &Arc<Self>, cause: LockCause) -> impl Future<Output = ()> + Send + use<> {
        self.lock_those(cause, |_| true)
    }

    /// Locks every session that is bound to a login session.
    pub fn lock_bound(self: &Arc<Self>, cause: LockCause) -> impl Future<Output = ()> + Send + use<> {
        self.lock_those(cause, |holder| holder.login.is_some())
    }

    fn lock_those(
        self: &Arc<Self>,
        cause: LockCause,
        which: fn(&Holder) -> bool,
    ) -> impl Future<Output = ()> + Send + use<> {
        let lock = |session| self.notice(session, Notice::Lock(cause), None);
        let locks: Vec<_> = self.those(which).into_iter().map(lock).collect();
        let leases = Arc::clone(&self.leases);
        async move {
            for lock in locks {
                lock.await;
            }
            // An earlier lock may still be at it.
            leases.endings_settled().await;
        }
    }

    /// The machine is awake: what is pending is tried now.
    pub fn woke(self: &Arc<Self>) {
        for session in self.those(|_| true) {
            drop(self.notice(session, Notice::Awake, None));
        }
        self.leases.woke();
    }

    /// Whether the machine slept and nobody said so; then everything is locked. The fences have fallen when this
    /// returns.
    pub(super) fn look_at_clocks(self: &Arc<Self>) {
        if let Some(apart) = self.slept.unaccounted() {
            drop(self.lock_all(LockCause::ClockJump));
            self.slept.account(apart);
            self.leases.woke();
        }
    }

    /// Reads the state of every login session again: what happened while nobody listened was not seen.
    pub async fn look_again(self: &Arc<Self>) {
        let bound: Vec<_> = {
            let inner = self.lock();
            let bound = |(id, holder): (&SessionId, &Holder)| Some((*id, Arc::clone(holder.login.as_ref()?)));
            inner.sessions.iter().filter_map(bound).collect()
        };
        for (session, login) in bound {
            match self.logins.look(&login).await {
                Ok(Some(look)) if !look.closing => {
                    drop(self.notice(session, Notice::Read(look), None));
                }
                Ok(_) => drop(self.end_session(session, EndReason::SessionClosed)),
                Err(problem) => tracing::warn!(what = problem.title, "a login session cannot be looked at"),
            }
        }
    }

    /// Each login session that a session is bound to from now on, and those that are already.
    pub fn newborn(&self) -> mpsc::UnboundedReceiver<Arc<Login>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut inner = self.lock();
        for login in inner.sessions.values().filter_map(|holder| holder.login.as_ref()) {
            drop(sender.send(Arc::clone(login)));
        }
        inner.newborn = Some(sender);
        receiver
    }

    fn those(&self, which: impl Fn(&Holder) -> bool) -> Vec<SessionId> {
        self.lock().sessions.iter().filter(|(_, holder)| which(holder)).map(|(id, _)| *id).collect()
    }
}
