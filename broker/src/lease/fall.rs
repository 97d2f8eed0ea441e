//! Credentials that end with the parent above them. Where a session's parent is about to be revoked, an entry below
//! it is first rid of what would outlive the parent, then waits for the parent's end, and is settled when that has
//! been proved for it as well. Whatever goes wrong on this way ends it by itself, as if there were no parent.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_broker_proto::names::{Label, LeaseId, SessionId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::Leases;
use super::book::Entry;
use super::record::What;
use super::revoke::{TRY_LIMIT, guarded};
use super::state::Ending;
use crate::provider::{Handle, Proof, Revocation};

/// An entry waits so long for its parent's end to begin while no other comes to wait as well: a launcher that does not die must not
/// hold up what the others had.
const QUIET_LIMIT: Duration = Duration::from_millis(500);

/// And so long at most.
const DOOM_LIMIT: Duration = Duration::from_secs(3);

/// The end of a parent, as those below it see it.
pub(super) struct Fall {
    /// Names the parent to its provider.
    pub(super) parent: Handle,
    stage: watch::Sender<Stage>,
    below: Mutex<Below>,
}

/// What is below a parent that is out of service.
struct Below {
    /// Who has nothing left that would outlive the parent, and waits for its end.
    waiting: HashSet<LeaseId>,
    /// When it came to be one more.
    moved: Instant,
}

/// How far the end of a parent has come. It only goes on from the earlier of these to the later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It stands: what is below it ends by itself.
    Stands,
    /// It is out of service, and is revoked as soon as nothing below it has to be ended by itself any more.
    Doomed,
    /// It is being revoked.
    Falls,
    /// It was proved to be gone.
    Fallen(Proved),
    /// It could not be revoked at once, and is tried further.
    Stuck,
}

/// How the end of a parent was proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proved {
    /// It was revoked.
    Revoked(Proof),
    /// It was gone before anybody asked.
    Gone(Proof),
}

impl Proved {
    fn revocation(self) -> Revocation {
        match self {
            Self::Revoked(proof) => Revocation::Revoked(proof),
            Self::Gone(proof) => Revocation::AlreadyGone(proof),
        }
    }
}

/// A place among those who wait; given back when dropped.
struct Place<'a>(&'a Fall, LeaseId);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.below().waiting.remove(&self.1);
    }
}

impl Stage {
    fn rank(self) -> u8 {
        match self {
            Self::Stands => 0,
            Self::Doomed => 1,
            Self::Falls => 2,
            Self::Fallen(_) | Self::Stuck => 3,
        }
    }

    fn is_over(self) -> bool {
        matches!(self, Self::Fallen(_) | Self::Stuck)
    }
}

impl Fall {
    pub(super) fn of(parent: Handle) -> Arc<Self> {
        let below = Mutex::new(Below { waiting: HashSet::new(), moved: Instant::now() });
        Arc::new(Self { parent, stage: watch::Sender::new(Stage::Stands), below })
    }

    /// The parent came to that stage.
    pub(super) fn comes_to(&self, stage: Stage) {
        self.stage.send_if_modified(|now| {
            let later = stage.rank() > now.rank();
            if later {
                *now = stage;
            }
            later
        });
    }

    fn below(&self) -> MutexGuard<'_, Below> {
        self.below.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self, id: LeaseId) -> Place<'_> {
        let mut below = self.below();
        below.waiting.insert(id);
        below.moved = Instant::now();
        Place(self, id)
    }

    /// Whether that entry has nothing left that would outlive the parent.
    pub(super) fn carries(&self, id: LeaseId) -> bool {
        self.below().waiting.contains(&id)
    }

    fn is_doomed(&self) -> bool {
        matches!(*self.stage.borrow(), Stage::Doomed | Stage::Falls | Stage::Fallen(_))
    }

    /// Waits until the parent is gone; `None` where that is not to be waited for.
    async fn fallen(&self) -> Option<Proved> {
        let mut stage = self.stage.subscribe();
        let latest = Instant::now() + DOOM_LIMIT;
        loop {
            let until = (self.below().moved + QUIET_LIMIT).min(latest);
            let begun = stage.wait_for(|stage| stage.rank() >= Stage::Falls.rank());
            match timeout_at(until, begun).await {
                Ok(begun) => break drop(begun.ok()?),
                // Another one may have come meanwhile.
                Err(_elapsed) if self.below().moved + QUIET_LIMIT > until && until < latest => {}
                Err(_elapsed) => return None,
            }
        }
        let over = stage.wait_for(|stage| stage.is_over());
        match *timeout(TRY_LIMIT, over).await.ok()?.ok()? {
            Stage::Fallen(proved) => Some(proved),
            _ => None,
        }
    }
}

impl Leases {
    /// Ends an entry together with the parent above it, where that is being ended: `None` where it has to be ended
    /// by itself, for whatever reason.
    pub(super) async fn end_with_parent(
        &self,
        id: LeaseId,
        entry: &Entry,
        ending: &Ending,
    ) -> Option<Revocation> {
        let fall = self.backings.above(id).filter(|fall| fall.is_doomed())?;
        let name = entry.what.provider();
        let (provider, handle) = (self.maker(id, name)?, ending.handle.clone()?);
        let shed = {
            let (provider, parent) = (Arc::clone(&provider), fall.parent.clone());
            guarded(name, async move { provider.shed(&handle, &parent).await }).await
        };
        match shed {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                tracing::debug!(lease = %id, %error, "it is ended by itself");
                return None;
            }
        }
        let place = fall.place(id);
        self.moves.send_replace(());
        let fallen = fall.fallen().await;
        drop(place);
        let parent = fallen?;
        // What was issued while it waited is in the handle that is known by now.
        let handle = self.ending(id)?.1.handle?;
        let end = parent.revocation();
        match guarded(name, async move { provider.fallen(&handle, &end).await }).await {
            Ok(Revocation::Revoked(proof)) if matches!(parent, Proved::Gone(_)) => {
                Some(Revocation::AlreadyGone(proof))
            }
            Ok(revocation) => Some(revocation),
            Err(error) => {
                tracing::warn!(lease = %id, %error, "it did not end with its parent, and is ended by itself");
                None
            }
        }
    }

    /// A try to end this entry succeeded or failed: those below it are told, where it is a parent.
    pub(super) fn tell_those_below(&self, id: LeaseId, tried: Option<&Revocation>) {
        let Some(fall) = self.backings.itself(id) else { return };
        fall.comes_to(match tried {
            Some(Revocation::Revoked(proof)) => Stage::Fallen(Proved::Revoked(*proof)),
            Some(Revocation::AlreadyGone(proof)) => Stage::Fallen(Proved::Gone(*proof)),
            Some(Revocation::ExpiresAt(_) | Revocation::Denied { .. } | Revocation::NeverMade) | None => {
                Stage::Stuck
            }
        });
    }

    /// Waits, at most until then, until no lease of a session (at one provider or at all) that was begun before
    /// that has to be ended by itself any more: it is settled, or ends with its parent and is rid of the rest.
    pub async fn shed(
        &self,
        session: SessionId,
        provider: Option<&Label>,
        before: LeaseId,
        deadline: Instant,
    ) {
        let mut moves = self.moves.subscribe();
        loop {
            moves.borrow_and_update();
            let leaves = self.book.select(|id, entry| {
                let What::Lease(facts) = &entry.what else { return false };
                let here = provider.is_none_or(|provider| *provider == facts.provider);
                id < before && facts.session == session && here
            });
            if leaves.into_iter().all(|id| self.backings.is_carried(id))
                || timeout_at(deadline, moves.changed()).await.is_err()
            {
                return;
            }
        }
    }
}
