//! Tokens that only they themselves can revoke, in memory only, by lease. A token may come when nobody waits for it any
//! more: from the question to its answer the lease is in flight, and nothing is said of it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp_broker_proto::names::LeaseId;

/// What is known of a lease's token.
#[derive(Clone)]
pub(super) enum Known<T> {
    /// It is being asked for.
    InFlight,
    /// This is it.
    Token(T),
    /// None was asked for, or the server said that it made none.
    None,
}

/// By lease; nothing where it was lost with the process or the connection that had it.
pub(super) struct Held<T>(Mutex<BTreeMap<LeaseId, Known<T>>>);

impl<T> Default for Held<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Held<T> {
    pub(super) fn put(&self, lease: LeaseId, known: Known<T>) {
        self.all().insert(lease, known);
    }

    pub(super) fn get(&self, lease: LeaseId) -> Option<Known<T>> {
        self.all().get(&lease).cloned()
    }

    pub(super) fn forget(&self, lease: LeaseId) {
        self.all().remove(&lease);
    }

    /// From now on the lease's token is being asked for, until the answer rests.
    pub(super) fn fly(self: &Arc<Self>, lease: LeaseId) -> Flight<T> {
        self.put(lease, Known::InFlight);
        Flight { held: Arc::clone(self), lease }
    }
}

impl<T> Held<T> {
    fn all(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Known<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request for a token that is on its way.
pub(super) struct Flight<T> {
    held: Arc<Held<T>>,
    lease: LeaseId,
}

impl<T: Clone> Flight<T> {
    /// The answer is there, and this is what it says of the token.
    pub(super) fn rest(self, known: Known<T>) {
        self.held.put(self.lease, known);
    }
}

impl<T> Drop for Flight<T> {
    /// Without an answer nothing is known: a token may have been made that nobody has.
    fn drop(&mut self) {
        let mut all = self.held.all();
        if matches!(all.get(&self.lease), Some(Known::InFlight)) {
            all.remove(&self.lease);
        }
    }
}
