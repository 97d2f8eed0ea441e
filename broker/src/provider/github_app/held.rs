//! The tokens that are alive, in memory only, by lease: without one nobody can revoke it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp_broker_proto::Secret;
use mcp_broker_proto::names::LeaseId;

/// What is known of a lease's token.
#[derive(Clone)]
pub(super) enum Known {
    /// This is it.
    Token(Arc<Secret>),
    /// GitHub said that it made none.
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

    fn all(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
