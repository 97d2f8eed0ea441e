//! What the watch sources tell the register. Each of these is enough to lock or end; none of them unlocks by
//! itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::SessionId;
use mcp_broker_proto::session::LockCause;
use tokio::sync::mpsc;

use super::holder::Holder;
use super::lock::{Lock, Notice};
use super::login::{Login, Sighting};
use super::registry::Sessions;

/// No more login sessions that nobody is bound to are remembered.
const MAX_STRANGERS: usize = 4096;

impl Sessions {
    /// Something was seen to happen to the login session with this object path.
    pub fn sighted(self: &Arc<Self>, path: &str, sighting: Sighting) {
        let bound = |holder: &Holder| holder.login.as_ref().is_some_and(|login| login.path == path);
        let sessions: Vec<_> = {
            let mut inner = self.lock();
            let bound = inner.sessions.iter().filter(|(_, holder)| bound(holder)).map(|(id, _)| *id);
            let bound: Vec<_> = bound.collect();
            if bound.is_empty() {
                remember(&mut inner.strangers, path, sighting, self.clock.boot());
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

/// A login session may be locked before anything of it asks for a launch, and its desktop may not say so when it
/// is looked at then.
fn remember(strangers: &mut HashMap<String, Lock>, path: &str, sighting: Sighting, at: Duration) {
    match sighting {
        Sighting::Closed => drop(strangers.remove(path)),
        Sighting::Lock if strangers.len() < MAX_STRANGERS => {
            strangers.entry(path.to_owned()).or_insert_with(Lock::open).take(Notice::Seen(sighting), at);
        }
        Sighting::Unlock | Sighting::Hint(_) => {
            let Some(lock) = strangers.get_mut(path) else { return };
            lock.take(Notice::Seen(sighting), at);
            if lock.cause().is_none() {
                strangers.remove(path);
            }
        }
        Sighting::Lock | Sighting::Active(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_remembered_until_its_end_was_seen() {
        let mut strangers = HashMap::new();
        let mut at = Duration::from_secs(100);
        let mut see = |sighting| {
            at += Duration::from_secs(2);
            remember(&mut strangers, "/3", sighting, at);
            strangers.get("/3").and_then(Lock::cause)
        };
        let locked = Some(LockCause::ScreenLock);
        assert_eq!(see(Sighting::Unlock), None);
        assert_eq!(see(Sighting::Active(false)), None);
        assert_eq!(see(Sighting::Lock), locked);
        assert_eq!(see(Sighting::Active(true)), locked);
        assert_eq!(see(Sighting::Hint(true)), locked);
        assert_eq!(see(Sighting::Unlock), locked, "the locker still shows itself");
        assert_eq!(see(Sighting::Hint(false)), None);
        assert_eq!(see(Sighting::Lock), locked);
        assert_eq!(see(Sighting::Closed), None);
    }
}
