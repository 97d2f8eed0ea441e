//! The end of a session, or of its credentials while it is locked, as steps that can only be walked in order:
//! [`Fenced`] → [`Killed`] → [`Bare`] → [`Over`]. Each takes the one before it, so that no step can be left out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{Label, LaunchId, LeaseId, SessionId};
use tokio::time::{Instant, timeout_at};

use super::registry::Sessions;
use crate::lease::Parents;

/// Launches are waited for so long: each has half a second to die, and its mint 2 s to settle.
const LAUNCH_LIMIT: Duration = Duration::from_secs(8);

/// The parents' own end is waited for so much longer.
const PARENT_LIMIT: Duration = Duration::from_secs(4);

/// The fence has fallen: nothing is minted or delivered any more, and every launch was told.
#[must_use]
pub(super) struct Fenced {
    /// The launches, and the order that each has to carry out; none for one that has to go.
    pub(super) launches: HashMap<LaunchId, Option<u64>>,
    /// Whose leases end with it: also of launches that are gone already, and whose leases are not.
    pub(super) of: Of,
    pub(super) parents: Parents,
    pub(super) reason: EndReason,
    /// Newer than every lease that was begun before the fence fell: ids sort by time.
    pub(super) before: LeaseId,
    pub(super) deadline: Instant,
}

/// What a fence is around.
pub(super) enum Of {
    /// A session.
    Session(SessionId),
    /// What a session has of one provider.
    Provider(SessionId, Option<Label>),
}

impl Of {
    /// Leases and parents that are not settled.
    fn left(&self, sessions: &Arc<Sessions>, before: LeaseId) -> usize {
        let (session, provider) = self.parts();
        sessions.leases.left(session, provider, before)
    }

    fn parts(&self) -> (SessionId, Option<&Label>) {
        match self {
            Self::Session(session) => (*session, None),
            Self::Provider(session, provider) => (*session, provider.as_ref()),
        }
    }
}

/// No instance is alive, or its launcher was killed.
pub(super) struct Killed(Fenced);

/// No lease is left that has to be ended by itself: what is left is a token below a parent, rid of whatever would
/// outlive that, and ends with it in the next step. Or it could not be ended in time, and is tried further.
pub(super) struct Bare(Fenced);

/// The parents are gone, and with them what was left below them, each looked up; or they are tried further.
pub(super) struct Over {
    /// What is not verified yet.
    pub(super) pending: usize,
}

impl Fenced {
    /// When it has to be over at the latest.
    pub(super) fn deadline() -> Instant {
        Instant::now() + LAUNCH_LIMIT
    }

    /// Waits until the launches have killed what they have. They do it all at once, each on its own.
    pub(super) async fn kill(self, sessions: &Arc<Sessions>) -> Killed {
        sessions.still(&self.launches, self.deadline).await;
        Killed(self)
    }
}

impl Killed {
    /// Waits until the leases that the launches gave back are revoked, verified, or need nothing any more but their
    /// parent's end.
    pub(super) async fn revoke_leaves(self, sessions: &Arc<Sessions>) -> Bare {
        let (session, provider) = self.0.of.parts();
        sessions.leases.shed(session, provider, self.0.before, self.0.deadline).await;
        Bare(self.0)
    }
}

impl Bare {
    /// Ends the parents, and waits until that is verified, of them and of all that was below them.
    pub(super) async fn revoke_parents(self, sessions: &Arc<Sessions>) -> Over {
        sessions.leases.end_parents(&self.0.parents, self.0.reason);
        let deadline = Instant::now() + PARENT_LIMIT;
        // Also those that are still being made.
        let late = sessions.leases.parents_settled(&self.0.parents, deadline).await;
        let mut moves = sessions.leases.moves();
        loop {
            moves.borrow_and_update();
            // What an earlier lock of the session is still ending is pending as well.
            let pending = self.0.of.left(sessions, self.0.before).max(late);
            if pending == 0 || timeout_at(deadline, moves.changed()).await.is_err() {
                return Over { pending };
            }
        }
    }
}
