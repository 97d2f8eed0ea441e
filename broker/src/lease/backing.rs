//! What is kept in memory of an entry beside the book: the provider that made it, whatever the configuration
//! says now, its end on the clock that nobody can set, and the parent that it hangs below.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::names::{Label, LeaseId};

use super::Leases;
use super::fall::Fall;
use crate::provider::Provider;

/// By entry. Entries of an earlier broker have none.
#[derive(Default)]
pub(super) struct Backings(Mutex<HashMap<LeaseId, Backing>>);

struct Backing {
    provider: Arc<dyn Provider>,
    /// On the boot clock.
    ends: Option<Duration>,
    /// When it is renewed or replaced next.
    next: Option<Timestamp>,
    /// Another one has taken its place: it is not renewed any more.
    retired: bool,
    /// The end of the parent that it hangs below.
    above: Option<Arc<Fall>>,
    /// Its own end, where it is a parent.
    itself: Option<Arc<Fall>>,
}

impl Backings {
    fn lock(&self) -> MutexGuard<'_, HashMap<LeaseId, Backing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes who makes the entry.
    pub(super) fn put(&self, id: LeaseId, provider: &Arc<dyn Provider>) {
        let provider = Arc::clone(provider);
        self.lock().insert(
            id,
            Backing { provider, ends: None, next: None, retired: false, above: None, itself: None },
        );
    }

    /// Notes below which parent the entry hangs.
    pub(super) fn hang(&self, id: LeaseId, above: &Arc<Fall>) {
        if let Some(backing) = self.lock().get_mut(&id) {
            backing.above = Some(Arc::clone(above));
        }
    }

    /// Notes that the entry is a parent.
    pub(super) fn stand(&self, id: LeaseId, itself: &Arc<Fall>) {
        if let Some(backing) = self.lock().get_mut(&id) {
            backing.itself = Some(Arc::clone(itself));
        }
    }

    /// The end of the parent that the entry hangs below.
    pub(super) fn above(&self, id: LeaseId) -> Option<Arc<Fall>> {
        self.lock().get(&id).and_then(|backing| backing.above.clone())
    }

    /// The entry's own end, where it is a parent.
    pub(super) fn itself(&self, id: LeaseId) -> Option<Arc<Fall>> {
        self.lock().get(&id).and_then(|backing| backing.itself.clone())
    }

    /// Whether the entry is rid of everything that would outlive its parent.
    pub(super) fn is_carried(&self, id: LeaseId) -> bool {
        self.above(id).is_some_and(|fall| fall.carries(id))
    }

    /// When the entry is renewed, or another one takes its place, next.
    pub(super) fn next(&self, id: LeaseId) -> Option<Timestamp> {
        self.lock().get(&id).and_then(|backing| backing.next)
    }

    /// Another one has taken the entry's place. Answers when it ends, on the boot clock.
    pub(super) fn retire(&self, id: LeaseId) -> Option<Duration> {
        let mut backings = self.lock();
        let backing = backings.get_mut(&id)?;
        (backing.retired, backing.next) = (true, None);
        backing.ends
    }

    /// Whether another one has taken the entry's place.
    pub(super) fn is_retired(&self, id: LeaseId) -> bool {
        self.lock().get(&id).is_some_and(|backing| backing.retired)
    }

    /// When the entry ends, on the boot clock.
    pub(super) fn ends(&self, id: LeaseId) -> Option<Duration> {
        self.lock().get(&id).and_then(|backing| backing.ends)
    }

    /// The entry is settled.
    pub(super) fn forget(&self, id: LeaseId) {
        self.lock().remove(&id);
    }
}

impl Leases {
    /// Who can end the entry: its maker, or after a restart whoever has the maker's name now.
    pub(super) fn maker(&self, id: LeaseId, name: &Label) -> Option<Arc<dyn Provider>> {
        let made = self.backings.lock().get(&id).map(|backing| Arc::clone(&backing.provider));
        made.or_else(|| self.provider(name))
    }

    /// Notes when the entry ends, and answers with that on the boot clock.
    pub(super) fn note_end(&self, id: LeaseId, expires_at: Timestamp) -> Duration {
        let left = Duration::try_from(expires_at.duration_since(self.clock.now())).unwrap_or_default();
        let ends = self.clock.boot() + left;
        if let Some(backing) = self.backings.lock().get_mut(&id) {
            backing.ends = Some(ends);
        }
        ends
    }

    /// Notes in how long the entry is renewed or replaced next, if at all.
    pub(super) fn note_next(&self, id: LeaseId, wait: Option<Duration>) {
        let at = wait.and_then(|wait| self.clock.now().checked_add(wait).ok());
        if let Some(backing) = self.backings.lock().get_mut(&id) {
            backing.next = at.filter(|_| !backing.retired);
        }
    }

    /// Whether the entry's end has passed by more than `margin`: on the clock that nobody can set, except for an
    /// entry of an earlier broker, which has the wall clock only.
    pub(super) fn has_expired(&self, id: LeaseId, expires_at: Timestamp, margin: Duration) -> bool {
        match self.backings.ends(id) {
            Some(ends) => self.clock.boot() > ends + margin,
            None => self.clock.now() > expires_at + margin,
        }
    }
}
