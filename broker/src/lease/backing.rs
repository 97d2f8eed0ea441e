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
    /// Until when it is good for its launch, on the boot clock.
    ends: Option<Duration>,
    /// Until when the backend may let it live, on the boot clock; not before the former.
    lives: Option<Duration>,
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
            Backing {
                provider,
                ends: None,
                lives: None,
                next: None,
                retired: false,
                above: None,
                itself: None,
            },
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

    /// Until when the backend may let the entry live, on the boot clock.
    fn lives(&self, id: LeaseId) -> Option<Duration> {
        self.lock().get(&id).and_then(|backing| backing.lives)
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
        let ends = self.on_boot_clock(expires_at);
        if let Some(backing) = self.backings.lock().get_mut(&id) {
            backing.ends = Some(ends);
            backing.lives = backing.lives.max(Some(ends));
        }
        ends
    }

    /// Notes until when the backend lets it live, where that is longer than it is good for.
    pub(super) fn note_life(&self, id: LeaseId, valid_until: Timestamp) {
        let lives = self.on_boot_clock(valid_until);
        if let Some(backing) = self.backings.lock().get_mut(&id) {
            backing.lives = backing.lives.max(Some(lives));
        }
    }

    fn on_boot_clock(&self, at: Timestamp) -> Duration {
        self.clock.boot() + Duration::try_from(at.duration_since(self.clock.now())).unwrap_or_default()
    }

    /// Notes in how long the entry is renewed or replaced next, if at all.
    pub(super) fn note_next(&self, id: LeaseId, wait: Option<Duration>) {
        let at = wait.and_then(|wait| self.clock.now().checked_add(wait).ok());
        if let Some(backing) = self.backings.lock().get_mut(&id) {
            backing.next = at.filter(|_| !backing.retired);
        }
    }

    /// Whether nothing can be left of the entry since more than `margin`: on the clock that nobody can set, except for
    /// an entry of an earlier broker, which has the wall clock only.
    pub(super) fn has_expired(&self, id: LeaseId, lives_until: Timestamp, margin: Duration) -> bool {
        match self.backings.lives(id) {
            Some(lives) => self.clock.boot() > lives + margin,
            None => self.clock.now() > lives_until + margin,
        }
    }
}
