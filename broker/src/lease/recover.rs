//! What a broker does at start about credentials that an earlier one left: it ends all of them. A restart is
//! a logout; nothing is resumed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{LaunchId, LeaseId, SessionId};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::timeout;

use super::Leases;
use super::record::What;
use super::state::State;
use crate::audit::Event;
use crate::fault;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Credentials that are being ended.
    pub leases: usize,
    /// Parents that are being ended.
    pub parents: usize,
}

/// A backend is given so long to finish what an earlier broker asked for: longer than [`crate::provider::REST`],
/// as nobody knows when that broker died, and a machine that starts is busy.
const REST_AFTER_CRASH: Duration = Duration::from_secs(3);

/// Parents wait so long for the leases below them.
const LEAVES_LIMIT: Duration = Duration::from_secs(8);

impl Leases {
    /// Begins to end everything in the book: leases, then the parents above them, as at every end. What may
    /// have been in flight when the earlier broker died is given time to come to rest.
    pub fn recover(self: &Arc<Self>) -> Left {
        let (mut leases, mut parents) = (Vec::new(), Vec::new());
        let (mut launches, mut sessions) = (HashSet::new(), HashSet::new());
        for (id, entry) in self.book.entries() {
            let rest = if may_be_in_flight(&entry.state) { REST_AFTER_CRASH } else { Duration::ZERO };
            self.book.begin_end(id, EndReason::Recovered);
            match &entry.what {
                What::Parent { session, .. } => {
                    sessions.insert(*session);
                    parents.push(id);
                    continue;
                }
                What::Lease(facts) => {
                    launches.insert(facts.launch);
                    sessions.insert(facts.session);
                }
                What::Orphan { .. } => {}
            }
            leases.push((id, rest));
        }
        fault::at("recover.begun");
        let left = Left { leases: leases.len(), parents: parents.len() };
        tokio::spawn(Arc::clone(self).settle_left(leases, parents));
        self.tell_ends(launches, sessions);
        left
    }

    async fn settle_left(self: Arc<Self>, leases: Vec<(LeaseId, Duration)>, parents: Vec<LeaseId>) {
        let mut outcomes = self.outcomes();
        let mut open: HashSet<_> = leases.iter().map(|(id, _)| *id).collect();
        for (id, rest) in leases {
            tokio::spawn(Arc::clone(&self).settle(id, rest));
        }
        let settled = async {
            while !open.is_empty() {
                match outcomes.recv().await {
                    Ok((id, _)) => drop(open.remove(&id)),
                    Err(RecvError::Lagged(_)) => open.retain(|id| self.book.get(*id).is_some()),
                    Err(RecvError::Closed) => return,
                }
            }
        };
        // A lease that cannot be ended by itself may still end with what is above it.
        drop(timeout(LEAVES_LIMIT, settled).await);
        fault::at("recover.leaves-done");
        for id in parents {
            tokio::spawn(Arc::clone(&self).settle(id, Duration::ZERO));
        }
        fault::at("recover.parents-begun");
    }

    fn tell_ends(&self, launches: HashSet<LaunchId>, sessions: HashSet<SessionId>) {
        let reason = EndReason::Recovered;
        for launch in launches {
            // Whether its processes are gone is not known: their launcher saw the stream close.
            self.audit.note(Event::LaunchEnded { launch, reason, dead: false });
        }
        for session in sessions {
            let of_session = |entry: &super::book::Entry| match &entry.what {
                What::Lease(facts) => facts.session == session,
                What::Parent { session: owner, .. } => *owner == session,
                What::Orphan { .. } => false,
            };
            let pending = self.book.select(|_, entry| of_session(entry)).len();
            self.audit.note(Event::SessionEnded { session, reason, pending });
        }
    }

    /// Waits until nothing is being ended any more.
    pub async fn endings_settled(&self) {
        let mut outcomes = self.outcomes();
        let ending = |state: &State| matches!(state, State::Ending(_));
        while !self.book.select(|_, entry| ending(&entry.state)).is_empty() {
            if let Err(RecvError::Closed) = outcomes.recv().await {
                return;
            }
        }
    }

    /// Begins to end whatever is alive and that nobody ends, when the broker stops: a parent, say, whose loss was
    /// told and not heard any more.
    pub fn end_the_rest(self: &Arc<Self>, reason: EndReason) {
        self.end(self.book.select(|_, entry| matches!(entry.state, State::Live(_))), reason);
    }

    /// Waits until nothing is being minted or ended any more, or `limit` has passed; then says how many
    /// entries are open still. They are in the journal, and the next start goes on with them.
    pub async fn drain(&self, limit: Duration) -> usize {
        let mut outcomes = self.outcomes();
        let settled = async {
            while self.open() > 0 {
                if let Err(tokio::sync::broadcast::error::RecvError::Closed) = outcomes.recv().await {
                    return;
                }
            }
        };
        // The limit is the answer: what is open after it is counted below.
        drop(tokio::time::timeout(limit, settled).await);
        self.open()
    }

    fn open(&self) -> usize {
        self.book.select(|_, _| true).len()
    }
}

/// Whether it was never known to be issued: then a request for it may still be running.
fn may_be_in_flight(state: &State) -> bool {
    match state {
        State::Intended | State::Prepared(_) => true,
        State::Ending(ending) => ending.revocability.is_none(),
        State::Live(_) | State::Settled => false,
    }
}
