//! What of the book is shown to people: leases that are not settled, with their true state.

use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::{LeaseInfo, LeaseState};

use super::Leases;
use super::book::Entry;
use super::record::What;
use super::state::State;
use crate::clock::shown;

impl Leases {
    /// All leases that are not settled, oldest first. Parents are not shown: they open nothing.
    #[must_use]
    pub fn infos(&self) -> Vec<LeaseInfo> {
        let mut infos: Vec<_> =
            self.book.entries().into_iter().filter_map(|(id, entry)| info(id, &entry)).collect();
        infos.sort_by_key(|info| info.id);
        infos
    }

    /// How many entries, parents included, wait for their end to be verified.
    #[must_use]
    pub fn pending(&self) -> usize {
        let ending = |entry: &Entry| matches!(entry.state, State::Ending(_));
        self.book.entries().iter().filter(|(_, entry)| ending(entry)).count()
    }
}

fn info(id: LeaseId, entry: &Entry) -> Option<LeaseInfo> {
    let What::Lease(facts) = &entry.what else { return None };
    let (state, expires_at, trouble) = match &entry.state {
        State::Intended | State::Prepared(_) => (LeaseState::Minting, None, None),
        State::Live(alive) => (LeaseState::Live, alive.expires_at, None),
        State::Ending(ending) => (LeaseState::RevocationPending, ending.expires_at, ending.trouble.clone()),
        State::Settled => return None,
    };
    Some(LeaseInfo {
        id,
        launch: facts.launch,
        session: facts.session,
        user: facts.user.clone(),
        server: facts.server.clone(),
        scope: facts.scope.clone(),
        credential: facts.credential.clone(),
        provider: facts.provider.clone(),
        state,
        expires_at: expires_at.map(shown),
        revocability: facts.revocability,
        trouble,
    })
}
