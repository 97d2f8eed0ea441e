//! Notices of a session: what locks it or opens it again is taken under the register's lock, where the fence falls,
//! and wound up after. What ends it is in [`end`](super::end).

use std::sync::Arc;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::SessionId;
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::LockCause;

use super::admit::Asking;
use super::end::fenced;
use super::holder::Holder;
use super::lock::{Notice, Turn};
use super::park::Why;
use super::registry::{Inner, Sessions};
use super::seat::Order;
use super::winding::{Fenced, Of};
use super::words;
use crate::audit::{ByWhom, Event};
use crate::config::OnLock;
use crate::fault;

impl Sessions {
    /// `mcp-run lock`: locks the session of the process that asks, whether or not it has begun.
    ///
    /// # Errors
    /// When it cannot begin.
    pub async fn lock_session(self: &Arc<Self>, asking: &Asking) -> Result<(), Problem> {
        let session = self.sign_in(asking).await?;
        let notice = Notice::Lock(LockCause::Command);
        self.notice(session, notice, Some(asking.by.clone())).await;
        Ok(())
    }

    /// `mcp-run unlock`: evidence, unless it was a screen that was locked.
    ///
    /// # Errors
    /// When something speaks against it.
    pub async fn unlock_session(self: &Arc<Self>, asking: &Asking) -> Result<(), Problem> {
        // What is locked may have ended since, or its broker; and nothing counts before it was looked at.
        let session = self.sign_in(asking).await?;
        self.paced(asking.person.uid)?;
        self.notice(session, Notice::Unlock, Some(asking.by.clone())).await;
        let inner = self.lock();
        match inner.sessions.get(&session).map(Holder::lock) {
            Some(lock) if lock.cause().is_some() => Err(words::still_locked(lock)),
            _ => Ok(()),
        }
    }

    /// Takes a notice of a session. The fence has fallen when this returns its future, which is ready when
    /// everything that follows from it is done.
    pub(super) fn notice(
        self: &Arc<Self>,
        session: SessionId,
        notice: Notice,
        by: Option<ByWhom>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let fenced = self.turn(session, notice, by);
        self.wound_up(session, fenced)
    }

    /// The same for what was asked for when that much was seen of its login session; `None` where more was seen
    /// since.
    pub(super) fn notice_unless_seen(
        self: &Arc<Self>,
        session: SessionId,
        seen: u64,
        notice: Notice,
    ) -> Option<impl Future<Output = ()> + Send + use<>> {
        let fenced = {
            let mut inner = self.lock();
            let stale = inner.sessions.get(&session).is_some_and(|holder| holder.seen() != seen);
            if stale {
                return None;
            }
            self.turn_under(&mut inner, session, notice, None)
        };
        Some(self.wound_up(session, fenced))
    }

    fn wound_up(
        self: &Arc<Self>,
        session: SessionId,
        fenced: Option<Fenced>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let winding = fenced.map(|fenced| self.wind_up(fenced, Some(session), None));
        async move {
            if let Some(winding) = winding {
                winding.await;
            }
        }
    }

    pub(super) fn turn(
        self: &Arc<Self>,
        session: SessionId,
        notice: Notice,
        by: Option<ByWhom>,
    ) -> Option<Fenced> {
        self.turn_under(&mut self.lock(), session, notice, by)
    }

    fn turn_under(
        &self,
        inner: &mut Inner,
        session: SessionId,
        notice: Notice,
        by: Option<ByWhom>,
    ) -> Option<Fenced> {
        let holder = inner.sessions.get_mut(&session)?;
        let turn = holder.take(notice, &*self.clock);
        inner.marks.note(holder.place(), holder.lock());
        let (way_back, refused) = (words::way_back(holder.lock()), holder.refused);
        match turn {
            Turn::Stays | Turn::Begun => None,
            Turn::Locked(cause) => {
                self.audit.note(Event::SessionLocked { session, cause, by });
                Some(match self.config.borrow().session.on_lock {
                    OnLock::Park => self.park_all(inner, session, Why::Locked(cause, way_back)),
                    OnLock::End => self.end_all(inner, session, EndReason::Locked),
                })
            }
            Turn::Opened(evidence) => {
                self.audit.note(Event::SessionUnlocked { session, evidence, refused, by });
                let launches = inner.launches.values().filter(|launch| launch.info.session == session);
                launches.for_each(|launch| launch.tell(Order::Resume));
                fault::at("session.resumed");
                None
            }
        }
    }

    /// `mcp-run lock` while nobody can say which session it is for: every session of the account is locked.
    pub async fn lock_account(self: &Arc<Self>, by: &ByWhom) {
        let mine = self.those(|holder| holder.person.uid == by.uid);
        let lock = |id| self.notice(id, Notice::Lock(LockCause::Command), Some(by.clone()));
        let locks: Vec<_> = mine.into_iter().map(lock).collect();
        for lock in locks {
            lock.await;
        }
    }

    /// Under the register's lock, after the session's fence has fallen: every launch is told to kill and stay.
    fn park_all(&self, inner: &mut Inner, session: SessionId, why: Why) -> Fenced {
        let launches = inner.launches.values_mut().filter(|launch| launch.info.session == session);
        let launches = launches.map(|launch| {
            launch.park(why);
            (launch.info.id, Some(launch.ordered()))
        });
        fenced(launches.collect(), Of::Session(session), self.leases.take_parents(session), why.reason())
    }
}
