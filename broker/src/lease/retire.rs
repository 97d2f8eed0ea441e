//! The end of a credential that its server does not live on any more, as another one has taken its place, or that is
//! served until its own end. Nobody is told and nothing is killed: it is ended at its time, verified as any other.

use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::GRACE_SECS;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::Revocability;

use super::Leases;
use super::state::State;
use super::wake::Roused;

/// A credential that can be revoked lives on for so long after another one has taken its place: whoever asked for it
/// last was told that it may be kept, and a request over a connection that was opened with it is not to be cut off.
const GRACE: Duration = Duration::from_secs(GRACE_SECS);

impl Leases {
    /// Others have taken the place of these. Each is not renewed any more and ends by itself; one that can be
    /// revoked is ended after a grace, if that is sooner.
    pub fn retire(self: &Arc<Self>, ids: impl IntoIterator<Item = LeaseId>) {
        for id in ids {
            let ends = self.backings.retire(id);
            if let Some(revocability) = self.revocability(id) {
                let at = ended_at(revocability, ends, self.clock.boot());
                tokio::spawn(Arc::clone(self).end_at(id, at, EndReason::Replaced));
            }
        }
    }

    /// These are served until they end by themselves, and then ended.
    pub fn run_out(self: &Arc<Self>, ids: impl IntoIterator<Item = LeaseId>) {
        for id in ids {
            if let Some(ends) = self.backings.ends(id) {
                tokio::spawn(Arc::clone(self).end_at(id, ends, EndReason::CredentialEnded));
            }
        }
    }

    /// Whether it is there and not being ended.
    #[must_use]
    pub fn is_open(&self, id: LeaseId) -> bool {
        self.revocability(id).is_some()
    }

    /// How long it lives from now, where it ends at all; nothing is left of one that is not there.
    #[must_use]
    pub fn left_of(&self, id: LeaseId) -> Option<Duration> {
        if !self.is_open(id) {
            return Some(Duration::ZERO);
        }
        self.backings.ends(id).map(|ends| ends.saturating_sub(self.clock.boot()))
    }

    fn revocability(&self, id: LeaseId) -> Option<Revocability> {
        match self.book.get(id)?.state {
            State::Live(alive) => Some(alive.revocability),
            _ => None,
        }
    }

    /// Ends it at that time of the boot clock, which goes on in sleep. Whoever ends it sooner is not held up.
    async fn end_at(self: Arc<Self>, id: LeaseId, at: Duration, reason: EndReason) {
        let mut sleeper = self.wake.sleeper();
        loop {
            sleeper.awakening();
            let roused = sleeper.sleep(at.saturating_sub(self.clock.boot())).await;
            if !self.is_open(id) {
                return;
            }
            if roused == Roused::ByTime {
                return self.end([id], reason);
            }
        }
    }
}

/// When a credential that ends at `ends` is ended after another one has taken its place.
fn ended_at(revocability: Revocability, ends: Option<Duration>, now: Duration) -> Duration {
    match (revocability, ends) {
        (Revocability::Immediate, Some(ends)) => ends.min(now + GRACE),
        (_, Some(ends)) => ends,
        // It has no end of its own, and is withheld.
        (_, None) => now + GRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever was told just before that it may be kept can keep it for so long.
    #[test]
    fn what_was_replaced_lives_on_for_as_long_as_it_may_be_kept() {
        let at = Duration::from_secs;
        let (now, keep) = (at(1000), at(mcp_broker_proto::KEEP_SECS));
        let bounded = Revocability::Bounded { seconds: 3600 };
        for (revocability, ends, want) in [
            (Revocability::Immediate, Some(at(4600)), now + GRACE),
            (Revocability::Immediate, Some(at(1020)), at(1020)),
            (Revocability::Immediate, None, now + GRACE),
            (bounded, Some(at(4600)), at(4600)),
            (bounded, Some(at(1020)), at(1020)),
            (Revocability::None, None, now + GRACE),
        ] {
            let ended = ended_at(revocability, ends, now);
            assert_eq!(ended, want, "{revocability:?} {ends:?}");
            assert!(ended >= ends.unwrap_or(Duration::MAX).min(now + keep), "{revocability:?} {ends:?}");
        }
    }
}
