//! The life of credentials: written down before they exist, minted, renewed, and ended with proof.
//! Knows providers, the journal and the audit log; of sessions and launches only their ids. What it finds
//! out (a credential that cannot be renewed) goes up through a channel.

mod book;
mod issue;
pub mod journal;
mod parent;
mod record;
mod recover;
mod renew;
mod revoke;
mod state;
mod view;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use mcp_broker_proto::names::{Label, LaunchId, LeaseId, SessionId};
use tokio::sync::{broadcast, mpsc};
use tokio_util::task::TaskTracker;

use crate::audit::AuditLog;
use crate::clock::Clock;
use crate::provider::Provider;

pub use book::Book;
pub use issue::{LaunchTag, Minted};
pub use revoke::Outcome;

/// Providers by name.
pub type Providers = BTreeMap<Label, Arc<dyn Provider>>;

/// Everything about credentials that the floors above need.
pub struct Leases {
    book: Book,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    providers: RwLock<Providers>,
    parents: parent::Parents,
    lost: mpsc::UnboundedSender<Lost>,
    outcomes: broadcast::Sender<(LeaseId, Outcome)>,
    tasks: TaskTracker,
}

/// Something that a launch or a session lives on is about to end, or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// A credential of the launch cannot be renewed further.
    Credential(LaunchId),
    /// The parent of the session's credentials could not be renewed in time.
    Parent(SessionId),
}

/// So many outcomes are kept for a listener that is slow to take them.
const OUTCOMES: usize = 16_384;

impl Leases {
    /// Takes over the book. Nothing is revoked yet: see `recover`.
    #[must_use]
    pub fn new(
        book: Book,
        audit: AuditLog,
        clock: Arc<dyn Clock>,
        providers: Providers,
        lost: mpsc::UnboundedSender<Lost>,
    ) -> Arc<Self> {
        Arc::new(Self {
            book,
            audit,
            clock,
            providers: RwLock::new(providers),
            parents: parent::Parents::default(),
            lost,
            outcomes: broadcast::Sender::new(OUTCOMES),
            tasks: TaskTracker::new(),
        })
    }

    /// Puts reloaded providers in force. One that is no longer configured stays, to end what it minted.
    pub fn set_providers(&self, providers: Providers) {
        let mut all = self.providers.write().unwrap_or_else(PoisonError::into_inner);
        all.extend(providers);
    }

    /// Tells the floor above; during the last moments of the broker nobody listens any more.
    fn tell(&self, lost: Lost) {
        if self.lost.send(lost).is_err() {
            tracing::debug!(?lost, "nobody listens any more");
        }
    }

    fn provider(&self, name: &Label) -> Option<Arc<dyn Provider>> {
        self.providers.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }

    /// The providers, to ask each how it does.
    #[must_use]
    pub fn providers(&self) -> Providers {
        self.providers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
