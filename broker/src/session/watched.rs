//! What the watch sources tell the register. Each of these is enough to lock or end; none of them unlocks by
//! itself.

use std::sync::Arc;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::SessionId;
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::LockCause;
use tokio::sync::mpsc;

use super::holder::Holder;
use super::lock::Notice;
use super::login::{Login, Look, Sighting};
use super::registry::Sessions;
use super::trial::end_trials;
use super::words;

/// A login session of which something is seen during each of so many looks is not let in for now.
const LOOKS: usize = 4;

impl Sessions {
    /// Something was seen to happen to the login session with this object path.
    pub fn sighted(self: &Arc<Self>, path: &str, sighting: Sighting) {
        let bound = |holder: &Holder| holder.login.as_ref().is_some_and(|login| login.path == path);
        let sessions: Vec<_> = {
            let mut inner = self.lock();
            let bound = inner.sessions.iter().filter(|(_, holder)| bound(holder)).map(|(id, _)| *id);
            let bound: Vec<_> = bound.collect();
            if bound.is_empty() {
                inner.marks.see(path, sighting, self.clock.boot());
            }
            bound
        };
        for session in sessions {
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
        {
            let mut inner = self.lock();
            inner.asleep |= cause == LockCause::Sleep;
            // They belong to no session that could be locked, and an admin begins another one.
            drop(end_trials(&mut inner, EndReason::Locked));
        }
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
        self.lock().asleep = false;
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
            if let Err(problem) = self.look_at(session, &login, Notice::Read).await {
                tracing::warn!(what = problem.title, "a login session cannot be looked at");
            }
        }
    }

    /// Looks at the login session of a session, and takes what it sees as that notice. An answer that is older
    /// than something that was seen meanwhile is worth nothing, and asked for anew.
    pub(super) async fn look_at(
        self: &Arc<Self>,
        session: SessionId,
        login: &Login,
        notice: fn(Look) -> Notice,
    ) -> Result<(), Problem> {
        for _ in 0..LOOKS {
            let Some(before) = self.lock().sessions.get(&session).map(Holder::seen) else { return Ok(()) };
            let look = match self.logins.look(login).await? {
                Some(look) if !look.closing => look,
                _ => {
                    drop(self.end_session(session, EndReason::SessionClosed));
                    return Err(words::login_over());
                }
            };
            if let Some(winding) = self.notice_unless_seen(session, before, notice(look)) {
                drop(winding);
                return Ok(());
            }
        }
        Err(words::restless())
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

    pub(super) fn those(&self, which: impl Fn(&Holder) -> bool) -> Vec<SessionId> {
        self.lock().sessions.iter().filter(|(_, holder)| which(holder)).map(|(id, _)| *id).collect()
    }
}
