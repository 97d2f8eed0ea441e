//! What of the book is shown to people: leases that are not settled, with their true state, and those that were
//! ended and live on.

use jiff::Timestamp;
use mcp_broker_proto::names::{Label, LeaseId, SessionId};
use mcp_broker_proto::session::{LeaseInfo, LeaseState};

use tokio::sync::watch;

use super::Leases;
use super::book::Entry;
use super::record::{LeaseFacts, What};
use super::state::State;
use super::withheld::{Now, Withheld};
use crate::clock::shown;

impl Leases {
    /// All leases that are not settled, oldest first. Parents are not shown: they open nothing.
    #[must_use]
    pub fn infos(&self) -> Vec<LeaseInfo> {
        let mut infos = self.book.tell(info);
        for info in infos.iter_mut().filter(|info| info.state == LeaseState::Live) {
            info.renews_at = self.backings.next(info.id).map(shown);
        }
        infos.sort_by_key(|info| info.id);
        infos
    }

    /// Leases that are settled, cannot be revoked and are valid still, as far as their providers said: those that end
    /// first come first.
    #[must_use]
    pub fn withheld(&self) -> Vec<LeaseInfo> {
        self.book.tell_withheld(self.now(), withheld)
    }

    pub(super) fn now(&self) -> Now {
        Now { wall: self.clock.now(), boot: self.clock.boot() }
    }

    /// How much of a session, at one provider or at all, was begun before that and is not settled: leases and
    /// parents.
    #[must_use]
    pub fn left(&self, session: SessionId, provider: Option<&Label>, before: LeaseId) -> usize {
        let ours = |id: LeaseId, entry: &Entry| {
            let owner = match &entry.what {
                What::Lease(facts) => Some(facts.session),
                What::Parent { session, .. } => Some(*session),
                What::Orphan { .. } => None,
            };
            let there = provider.is_none_or(|provider| entry.what.provider() == provider);
            id < before && owner == Some(session) && there
        };
        self.book.select(ours).len()
    }

    /// Changes whenever less is left, or less of it has to be ended by itself.
    #[must_use]
    pub fn moves(&self) -> watch::Receiver<()> {
        self.moves.subscribe()
    }

    /// What is being ended and is in no list: sessions' parents, and what a damaged journal could not name.
    #[must_use]
    pub fn unlisted_pending(&self) -> usize {
        let unlisted = |entry: &Entry| !matches!(entry.what, What::Lease(_));
        let ending = |entry: &Entry| matches!(entry.state, State::Ending(_));
        self.book.select(|_, entry| unlisted(entry) && ending(entry)).len()
    }
}

fn info(id: LeaseId, entry: &Entry) -> Option<LeaseInfo> {
    let What::Lease(facts) = &entry.what else { return None };
    let begun = begun(id, facts);
    match &entry.state {
        State::Intended | State::Prepared(_) => Some(begun),
        State::Live(alive) => Some(LeaseInfo {
            state: LeaseState::Live,
            expires_at: alive.expires_at.map(shown),
            valid_until: alive.valid_until.map(shown),
            detail: alive.detail.clone(),
            revocability: alive.revocability,
            ..begun
        }),
        State::Ending(ending) => Some(LeaseInfo {
            state: LeaseState::RevocationPending,
            expires_at: ending.expires_at.map(shown),
            detail: ending.detail.clone(),
            revocability: ending.revocability.unwrap_or(facts.revocability),
            trouble: ending.trouble.clone(),
            ..begun
        }),
        State::Settled => None,
    }
}

fn withheld(id: LeaseId, until: Timestamp, one: &Withheld) -> LeaseInfo {
    LeaseInfo {
        state: LeaseState::RevocationPending,
        expires_at: Some(shown(until)),
        detail: one.detail.as_deref().map(str::to_owned),
        withheld: true,
        ..begun(id, &one.facts)
    }
}

/// What is known of one before it is minted.
fn begun(id: LeaseId, facts: &LeaseFacts) -> LeaseInfo {
    LeaseInfo {
        id,
        launch: facts.launch,
        session: facts.session,
        user: facts.user.clone(),
        server: facts.server.clone(),
        scope: facts.scope.clone(),
        credential: facts.credential.clone(),
        provider: facts.provider.clone(),
        state: LeaseState::Minting,
        expires_at: None,
        valid_until: None,
        renews_at: None,
        delivered: facts.delivered.clone(),
        detail: None,
        revocability: facts.revocability,
        trouble: None,
        withheld: false,
    }
}
