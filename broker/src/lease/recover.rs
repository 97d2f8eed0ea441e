//! What a broker does at start about credentials that an earlier one left: it ends all of them. A restart is
//! a logout; nothing is resumed.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;

use super::Leases;
use super::record::What;
use crate::audit::Event;
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
    /// Begins to end everything in the book, after the backends had time to finish what an earlier broker had
    /// in flight: the journal cannot say of any entry that nothing was.
    pub fn recover(self: &Arc<Self>) -> Left {
        let mut left = Left::default();
        let (mut launches, mut sessions) = (HashSet::new(), HashSet::new());
        for (id, entry) in self.book.entries() {
            match &entry.what {
                What::Lease(facts) => {
                    launches.insert(facts.launch);
                    sessions.insert(facts.session);
                }
                What::Parent { session, .. } => {
                    sessions.insert(*session);
                }
                What::Orphan { .. } => {}
            }
            let is_parent = matches!(entry.what, What::Parent { .. });
            *(if is_parent { &mut left.parents } else { &mut left.leases }) += 1;
            self.book.begin_end(id, EndReason::Recovered);
            tokio::spawn(Arc::clone(self).settle(id, REST));
        }
        let reason = EndReason::Recovered;
        for launch in launches {
            // Whether its processes are gone is not known: their launcher saw the broker's end of the stream close.
            self.audit.note(Event::LaunchEnded { launch, reason, dead: false });
        }
        for session in sessions {
            self.audit.note(Event::SessionEnded { session, reason });
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
