//! The tokens that are alive, in memory only, by lease: without one nobody can revoke it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp_broker_proto::Secret;
use mcp_broker_proto::names::LeaseId;

use super::endpoints::Endpoints;

/// What is known of a lease's token.
#[derive(Clone)]
pub(super) enum Known {
    /// This is it.
    Token(Kept),
    /// None was asked for, or the server said that it made none.
    Nothing,
}

/// A token, and how it can be ended.
#[derive(Clone)]
pub(super) struct Kept {
    pub(super) token: Arc<Secret>,
    /// Came with it, and is not revoked yet.
    pub(super) refresh: Option<Arc<Secret>>,
    /// Of the server that made it.
    pub(super) endpoints: Arc<Endpoints>,
    /// Introspection knew it while it was alive: when it calls it inactive later, that says something.
    pub(super) seen_active: bool,
    /// Resource servers ask the server about it, so that a revoked one is worth nothing.
    pub(super) asked_about: bool,
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
