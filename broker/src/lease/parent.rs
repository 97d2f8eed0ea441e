//! The parent of a session's credentials at one provider: made at the first mint, kept alive only while the
//! session is, ended with it. A broker that dies ends it too, by not renewing.

use std::collections::HashMap;
use std::sync::{Arc, Once};
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{Label, LeaseId, SessionId};
use mcp_broker_proto::problem::Problem;
use tokio::sync::{Mutex, OnceCell};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::issue::{fenced, internal, storage};
use super::record::{Record, What};
use super::renew::jittered;
use super::{Leases, Lost};
use crate::audit::Event;
use crate::provider::{MintRequest, Parent, Provider, SessionTag};

/// A parent that is being kept alive.
pub(super) struct Held {
    id: LeaseId,
    pub(super) parent: Parent,
    /// Whether it is being renewed already: several mints may have waited for it.
    kept: Once,
}

/// The place of a session's parent at one provider, while it is being made and after.
#[derive(Default)]
struct Slot {
    held: OnceCell<Option<Arc<Held>>>,
    /// Falls when the session ends: the parent is not renewed any more, and one that is still being made is
    /// ended by its maker.
    closed: CancellationToken,
}

/// Parents by session and provider.
#[derive(Default)]
pub(super) struct Parents(Mutex<HashMap<(SessionId, Label), Arc<Slot>>>);

/// One renewal must be done in this time.
const RENEW_LIMIT: Duration = Duration::from_secs(5);

impl Leases {
    /// The parent for a mint, made if there is none; `None` where the provider has no such thing.
    pub(super) async fn parent(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
    ) -> Result<Option<Arc<Held>>, Problem> {
        let key = (request.session, request.spec.provider.clone());
        let slot = Arc::clone(self.parents.0.lock().await.entry(key).or_default());
        if let Some(held) = slot.held.get() {
            return Ok(held.clone());
        }
        let (leases, provider, request) = (Arc::clone(self), Arc::clone(provider), request.clone());
        // A task of its own: whoever waits may be dropped at its deadline, and the parent must be known then.
        let made = self.tasks.spawn(async move {
            let held = slot.held.get_or_try_init(|| leases.open_parent(&provider, &request)).await?.clone();
            if slot.closed.is_cancelled() {
                leases.end(held.iter().map(|held| held.id), EndReason::MintFailed);
                return Err(fenced());
            }
            if let Some(held) = &held {
                leases.keep_parent_once(&provider, &request, held, &slot);
            }
            Ok(held)
        });
        made.await.unwrap_or_else(|_panicked| Err(internal()))
    }

    async fn open_parent(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
    ) -> Result<Option<Arc<Held>>, Problem> {
        let id = LeaseId::fresh();
        let (session, name) = (request.session, request.spec.provider.clone());
        let tag = SessionTag { session, user: request.user.clone() };
        let parent = match provider.open_session(&tag).await {
            Ok(Some(parent)) => parent,
            Ok(None) => return Ok(None),
            Err(error) => return Err(error.to_problem()),
        };
        // A crash before this line leaves a token that nobody renews and that opens nothing: it ends by itself.
        drop(self.book.intend(id, What::Parent { session, provider: name.clone() }));
        let handle = parent.handle.clone();
        let live = Record::Live { id, provider: name.clone(), handle, expires_at: None };
        let durable = self.book.step(live).ok_or_else(internal)?.durable().await;
        if let Err(error) = durable {
            self.end([id], EndReason::MintFailed);
            return Err(storage(&error));
        }
        self.audit.note(Event::ParentOpened { lease: id, session, provider: name });
        Ok(Some(Arc::new(Held { id, parent, kept: Once::new() })))
    }

    fn keep_parent_once(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        held: &Arc<Held>,
        slot: &Arc<Slot>,
    ) {
        held.kept.call_once(|| {
            let (session, name) = (request.session, request.spec.provider.clone());
            let (provider, held) = (Arc::clone(provider), Arc::clone(held));
            let closed = slot.closed.clone();
            self.tasks.spawn(Arc::clone(self).keep_parent(provider, session, name, held, closed));
        });
    }

    /// Renews at a third of the period, until the session ends or the parent is lost.
    async fn keep_parent(
        self: Arc<Self>,
        provider: Arc<dyn Provider>,
        session: SessionId,
        name: Label,
        held: Arc<Held>,
        closed: CancellationToken,
    ) {
        let mut alive_until = self.clock.boot() + held.parent.period;
        let mut wait = jittered(held.parent.period / 3);
        loop {
            tokio::select! {
                () = closed.cancelled() => return,
                () = sleep(wait) => {}
            }
            let asked = self.clock.boot();
            let answer = timeout(RENEW_LIMIT, provider.renew_session(&held.parent)).await;
            match answer {
                Ok(Ok(life)) => {
                    alive_until = asked + life;
                    wait = jittered(life / 3);
                    continue;
                }
                Ok(Err(error)) if !error.is_passing() => {
                    tracing::warn!(%session, provider = %name, %error, "the session's parent is gone");
                    break;
                }
                Ok(Err(error)) => tracing::warn!(%session, provider = %name, %error, "renewal failed"),
                Err(_elapsed) => tracing::warn!(%session, provider = %name, "renewal took too long"),
            }
            wait = jittered(held.parent.period / 12);
            // End before the backend does, so that no server works on a dead credential.
            if self.clock.boot() + wait + RENEW_LIMIT >= alive_until {
                break;
            }
        }
        self.parents.0.lock().await.remove(&(session, name));
        self.end([held.id], EndReason::ParentLost);
        self.tell(Lost::Parent(session));
    }

    /// Stops renewing the parents of a session and ends them; its leases are ended before.
    pub async fn end_parents(self: &Arc<Self>, session: SessionId, reason: EndReason) {
        let mut parents = self.parents.0.lock().await;
        let mine: Vec<_> = parents.keys().filter(|(owner, _)| *owner == session).cloned().collect();
        for key in mine {
            let Some(slot) = parents.remove(&key) else { continue };
            slot.closed.cancel();
            let held = slot.held.get().and_then(Option::as_ref);
            self.end(held.map(|held| held.id), reason);
        }
    }
}
