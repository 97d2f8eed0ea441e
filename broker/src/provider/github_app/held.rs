//! The tokens that are alive, in memory only, by lease: without one nobody can revoke it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp_broker_proto::Secret;
use mcp_broker_proto::names::LeaseId;

/// What is known of a lease's token.
#[derive(Clone)]
pub(super) enum Known {
    /// GitHub is being asked for it.
    InFlight,
    /// This is it.
    Token(Arc<Secret>),
    /// GitHub was not asked, or said that it made none.
    None,
}

#[derive(Default)]
pub(super) struct Held(Mutex<BTreeMap<LeaseId, Known>>);

impl Held {
    pub(super) fn put(&self, lease: LeaseId, known: Known) {
        self.all().insert(lease, known);
    }

    pub(super) fn get(&self, lease: LeaseId) -> Option<Known> {
        self.all().get(&lease).cloned()
    }

    pub(super) fn forget(&self, lease: LeaseId) {
        self.all().remove(&lease);
    }

    /// From now on GitHub is being asked for the lease's token, until the answer rests.
    pub(super) fn fly(self: &Arc<Self>, lease: LeaseId) -> Flight {
        self.put(lease, Known::InFlight);
        Flight { held: Arc::clone(self), lease }
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request for a token that is on its way.
pub(super) struct Flight {
    held: Arc<Held>,
    lease: LeaseId,
}

impl Flight {
    /// The answer is there, and this is what it says of the token.
    pub(super) fn rest(self, known: Known) {
        self.held.put(self.lease, known);
    }
}

impl Drop for Flight {
    /// Without an answer nothing is known: a token may have been made that nobody has.
    fn drop(&mut self) {
        let mut all = self.held.all();
        if matches!(all.get(&self.lease), Some(Known::InFlight)) {
            all.remove(&self.lease);
        }
    }
}
