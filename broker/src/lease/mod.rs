//! The life of credentials: written down before they exist, minted, renewed, and ended with proof.
//! Knows providers, the journal and the audit log; of sessions and launches only their ids. What it finds
//! out (a credential that cannot be renewed) goes up through a channel.

mod backing;
mod book;
mod failure;
mod fall;
mod heart;
mod issue;
pub mod journal;
mod parent;
mod record;
mod recover;
mod renew;
mod retire;
mod revoke;
mod state;
mod view;
mod wake;
mod withheld;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::names::{Label, LaunchId, LeaseId, SessionId};
use tokio::sync::{broadcast, mpsc, watch};

use crate::audit::AuditLog;
use crate::clock::Clock;
use crate::provider::Provider;

pub use book::Book;
pub use issue::{LaunchTag, Minted};
pub use parent::Parents;
pub(crate) use renew::jittered;
pub use revoke::Outcome;

/// Providers by name.
pub type Providers = BTreeMap<Label, Arc<dyn Provider>>;

/// Everything about credentials that the floors above need.
pub struct Leases {
    book: Book,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    providers: RwLock<Providers>,
    backings: backing::Backings,
    parents: parent::Slots,
    lost: mpsc::UnboundedSender<Lost>,
    outcomes: broadcast::Sender<(LeaseId, Outcome)>,
    /// Tells whoever counts what is left that it is less now.
    moves: watch::Sender<()>,
    wake: wake::Wake,
    heart: heart::Heart,
}

/// Something that a launch or a session lives on is about to end, has ended, or ends later than it was said.
pub enum Lost {
    /// This credential of the launch was renewed, and ends then.
    Postponed(LaunchId, LeaseId, Timestamp),
    /// This credential of the launch cannot be renewed further and ends soon: another one is to take its place
    /// within that time. Not said of one that ends with its session, nor where there is no time left for it. Said
    /// again and again of one that another one can follow below a running server, until that is so.
    Ending(LaunchId, LeaseId, Duration),
    /// This credential of the launch ends now, within seconds.
    Credential(LaunchId, LeaseId),
    /// The parent of the session's credentials could not be renewed in time. Its launches are to be ended
    /// first, then the parent.
    Parent(SessionId, Parents),
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
            backings: backing::Backings::default(),
            parents: parent::Slots::default(),
            lost,
            outcomes: broadcast::Sender::new(OUTCOMES),
            moves: watch::Sender::new(()),
            wake: wake::Wake::default(),
            heart: heart::Heart::default(),
        })
    }

    /// Puts reloaded providers in force for what is minted from now on. What was minted before is renewed and
    /// ended by the provider that made it.
    pub fn set_providers(&self, providers: Providers) {
        *self.providers.write().unwrap_or_else(PoisonError::into_inner) = providers;
    }

    /// Tells the floor above; during the last moments of the broker nobody listens any more.
    fn tell(&self, lost: Lost) {
        if self.lost.send(lost).is_err() {
            tracing::debug!("nobody listens any more");
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
