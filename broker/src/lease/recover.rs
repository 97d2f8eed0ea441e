//! What a broker does at start about credentials that an earlier one left: it ends all of them. A restart is
//! a logout; nothing is resumed.

use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;

use super::Leases;
use super::record::What;
use super::state::State;
use crate::provider::REST;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Left {
    /// Credentials that are being ended.
    pub leases: usize,
    /// Parents that are being ended.
    pub parents: usize,
}

impl Leases {
    /// Begins to end everything in the book. An intent that was never settled may still be in flight at the
    /// backend, so it is left to come to rest first; parents wait for that too, as their end takes the rest along.
    pub fn recover(self: &Arc<Self>) -> Left {
        let mut left = Left::default();
        let entries = self.book.entries();
        let unsettled = |state: &State| matches!(state, State::Intended | State::Prepared(_));
        let in_flight = entries.iter().any(|(_, entry)| unsettled(&entry.state));
        for (id, entry) in entries {
            let is_parent = matches!(entry.what, What::Parent { .. });
            *(if is_parent { &mut left.parents } else { &mut left.leases }) += 1;
            let rest = unsettled(&entry.state) || (is_parent && in_flight);
            self.book.begin_end(id, EndReason::Recovered);
            let rest = if rest { REST } else { Duration::ZERO };
            self.tasks.spawn(Arc::clone(self).settle(id, rest));
        }
        left
    }

    /// Waits until nothing is being minted or ended any more, or `limit` has passed; then says how many
    /// entries are open still. They are in the journal, and the next start goes on with them.
    pub async fn drain(&self, limit: Duration) -> usize {
        let mut outcomes = self.outcomes();
        let settled = async {
            while !self.book.entries().is_empty() {
                if let Err(tokio::sync::broadcast::error::RecvError::Closed) = outcomes.recv().await {
                    return;
                }
            }
        };
        // The limit is the answer: what is open after it is counted below.
        drop(tokio::time::timeout(limit, settled).await);
        self.book.entries().len()
    }
}
