//! A token as it is kept while it is alive, and how it can be ended.

use std::sync::Arc;

use mcp_broker_proto::Secret;

use super::endpoints::Endpoints;

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
