//! The parent of a session's credentials at one provider: made at the first mint, kept alive only while the
//! session is, ended with it. A broker that dies ends it too, by not renewing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{Label, LeaseId, SessionId};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::Revocability;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::failure::{fenced, internal};
use super::fall::{Fall, Stage};
use super::record::{Record, What};
use super::renew::{NOTICE, jittered};
use super::state::Alive;
use super::wake::Roused;
use super::{Leases, Lost};
use crate::audit::Event;
use crate::fault;
use crate::provider::{Blame, MintRequest, Parent, Provider, ProviderError, SessionTag};

/// A parent that is being kept alive.
pub(super) struct Held {
    id: LeaseId,
    provider: Label,
    pub(super) parent: Parent,
    /// Its end, for those below it.
    pub(super) fall: Arc<Fall>,
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
    /// Who is making it right now.
    makers: TaskTracker,
}

impl Slot {
    /// Takes the parent out of service.
    fn close(&self) {
        self.closed.cancel();
        if let Some(held) = self.held() {
            held.fall.comes_to(Stage::Doomed);
        }
    }

    fn held(&self) -> Option<&Arc<Held>> {
        self.held.get().and_then(Option::as_ref)
    }
}

/// Slots by session and provider.
#[derive(Default)]
pub(super) struct Slots(Mutex<HashMap<(SessionId, Label), Arc<Slot>>>);

impl Slots {
    fn lock(&self) -> MutexGuard<'_, HashMap<(SessionId, Label), Arc<Slot>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Parents that were taken out of service: nothing is minted under them and they are not renewed any more.
/// They are ended when nothing below them has to be ended by itself any more.
#[must_use]
pub struct Parents(Vec<Arc<Slot>>);

impl Parents {
    /// The provider of the first of them.
    #[must_use]
    pub fn provider(&self) -> Option<Label> {
        let mut held = self.0.iter().filter_map(|slot| slot.held());
        held.next().map(|held| held.provider.clone())
    }
}
/// A renewal that gives so much less than a period was cut short by the longest life that the token may have.
const CAPPED: Duration = Duration::from_secs(1);

/// One renewal must be done in this time, and in a quarter of a short period.
const RENEW_LIMIT: Duration = Duration::from_secs(5);

impl Leases {
    /// The parent for a mint, made if there is none; `None` where the provider has no such thing.
    pub(super) async fn parent(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        fence: &CancellationToken,
    ) -> Result<Option<Arc<Held>>, Problem> {
        let slot = {
            let mut slots = self.parents.lock();
            // The fence falls before the slots are taken: a place that is made after that would be nobody's.
            if fence.is_cancelled() {
                return Err(fenced());
            }
            let key = (request.session, request.spec.provider.clone());
            Arc::clone(slots.entry(key).or_default())
        };
        if let Some(held) = slot.held.get() {
            return Ok(held.clone());
        }
        let (leases, provider, request) = (Arc::clone(self), Arc::clone(provider), request.clone());
        // A task of its own: whoever waits may be dropped at its deadline, and the parent must be known then.
        let makers = slot.makers.clone();
        let made = makers.spawn(async move {
            let open = || async {
                if slot.closed.is_cancelled() {
                    Err(fenced())
                } else {
                    leases.open_parent(&provider, &request).await
                }
            };
            let held = slot.held.get_or_try_init(open).await?.clone();
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
        fault::passing("mint.parent-made").await;
        // A crash before this line leaves a token that nobody renews and that opens nothing: it ends by itself.
        self.backings.put(id, provider);
        drop(self.book.intend(id, What::Parent { session, provider: name.clone() }));
        let alive = Alive::new(parent.handle.clone(), None, Revocability::Immediate);
        let live = Record::Live { id, provider: name.clone(), alive };
        let durable = self.book.step(live).ok_or_else(internal)?.durable().await;
        if let Err(error) = durable {
            self.end([id], EndReason::MintFailed);
            return Err(error.to_problem());
        }
        fault::passing("mint.parent-known").await;
        self.audit.note(Event::ParentOpened { lease: id, session, provider: name.clone() });
        let fall = Fall::of(parent.handle.clone());
        self.backings.stand(id, &fall);
        Ok(Some(Arc::new(Held { id, provider: name, parent, fall, kept: Once::new() })))
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
            let (provider, held, slot) = (Arc::clone(provider), Arc::clone(held), Arc::clone(slot));
            tokio::spawn(Arc::clone(self).keep_parent(provider, session, name, held, slot));
        });
    }

    /// Renews at a third of the period, until the session ends or the parent is lost.
    async fn keep_parent(
        self: Arc<Self>,
        provider: Arc<dyn Provider>,
        session: SessionId,
        name: Label,
        held: Arc<Held>,
        slot: Arc<Slot>,
    ) {
        let mut alive_until = self.clock.boot() + held.parent.period;
        let mut wait = jittered(held.parent.period / 3);
        let mut sleeper = self.wake.sleeper();
        let limit = RENEW_LIMIT.min(held.parent.period / 4);
        loop {
            tokio::select! {
                () = slot.closed.cancelled() => return,
                _either = sleeper.sleep(wait) => {}
            }
            let asked = self.clock.boot();
            let answer = timeout(limit, self.renew_parent(&provider, &held.parent)).await;
            if slot.closed.is_cancelled() {
                // Being ended, so that it may well be gone: whoever ends it says so.
                return;
            }
            match answer {
                Ok(Ok(life)) if life + CAPPED >= held.parent.period => {
                    alive_until = asked + life;
                    wait = jittered(life / 3);
                    continue;
                }
                Ok(Ok(life)) => {
                    tracing::warn!(%session, provider = %name, "the session's parent reaches its longest life");
                    self.wait_for_the_last(asked + life, &slot).await;
                    break;
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
            if self.clock.boot() + wait + limit >= alive_until {
                break;
            }
        }
        if !slot.closed.is_cancelled() {
            self.give_up((session, name), slot);
        }
    }

    /// Waits until just before a parent ends that gets no more of a life than that.
    async fn wait_for_the_last(&self, end: Duration, slot: &Slot) {
        let mut sleeper = self.wake.sleeper();
        loop {
            sleeper.awakening();
            let wait = end.saturating_sub(self.clock.boot()).saturating_sub(NOTICE);
            tokio::select! {
                () = slot.closed.cancelled() => return,
                roused = sleeper.sleep(wait) => if roused == Roused::ByTime { return },
            }
        }
    }

    /// One renewal, unless the broker itself is not well.
    async fn renew_parent(
        &self,
        provider: &Arc<dyn Provider>,
        parent: &Parent,
    ) -> Result<Duration, ProviderError> {
        if !self.heart.beats() {
            let what = "the broker's own watchdog has not answered for too long";
            return Err(ProviderError::new(Blame::Broken, what, "restart the broker, and report it"));
        }
        provider.renew_session(parent).await
    }

    /// Takes a parent out of service that could not be kept alive.
    fn give_up(&self, key: (SessionId, Label), slot: Arc<Slot>) {
        let session = key.0;
        let mut slots = self.parents.lock();
        if slots.get(&key).is_some_and(|current| Arc::ptr_eq(current, &slot)) {
            slots.remove(&key);
        }
        drop(slots);
        slot.close();
        self.tell(Lost::Parent(session, Parents(vec![slot])));
    }

    /// Takes the parents of a session out of service, at the fence: what is minted after it gets new ones.
    pub fn take_parents(&self, session: SessionId) -> Parents {
        let mut slots = self.parents.lock();
        let taken: Vec<_> =
            slots.extract_if(|(owner, _), _| *owner == session).map(|(_, slot)| slot).collect();
        taken.iter().for_each(|slot| slot.close());
        Parents(taken)
    }

    /// Waits until the parents are settled, at most until then; answers with how many are not.
    pub async fn parents_settled(&self, taken: &Parents, deadline: Instant) -> usize {
        let mut moves = self.moves.subscribe();
        for slot in &taken.0 {
            slot.makers.close();
            // One that is still being made is counted below only if it is known by then.
            drop(timeout_at(deadline, slot.makers.wait()).await);
        }
        loop {
            moves.borrow_and_update();
            let held = taken.0.iter().filter_map(|slot| slot.held());
            let left = held.filter(|held| self.book.get(held.id).is_some()).count();
            if left == 0 || timeout_at(deadline, moves.changed()).await.is_err() {
                return left;
            }
        }
    }

    /// Ends parents that were taken, and with each what waits for its end below it; one that is still being made is ended by its maker.
    pub fn end_parents(self: &Arc<Self>, taken: &Parents, reason: EndReason) {
        for slot in &taken.0 {
            if let Some(held) = slot.held() {
                held.fall.comes_to(Stage::Falls);
                self.end([held.id], reason);
            }
        }
    }
}
