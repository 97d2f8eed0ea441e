//! What a lease's terms are worth: when it truly ends, whether that is as short as was written, and whether
//! revoking it ends what was issued. Asks the server nothing.

use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::session::Revocability;
use serde::{Deserialize, Serialize};

use super::Vault;
use super::answer::LeaseTerms;
use super::engine::Engine;
use super::handle::{Held, Kind};
use crate::provider::{Blame, ProviderError, Renewed};

/// How much longer than asked for a lease may be: rounding, and the way of the answer.
const MARGIN: Duration = Duration::from_secs(5);

/// What becomes of what was issued when its lease is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Fate {
    /// It ends.
    #[default]
    Ends,
    /// It may work on until then, or nobody knows how long, whatever the server says of the lease.
    LivesUntil(Option<Timestamp>),
}

impl Fate {
    /// By the engine, where it is certain, else by how the lease was born: engines whose revocation does nothing mark
    /// their leases as not renewable.
    pub(super) fn of(engine: Engine, lease: &LeaseTerms, end: Timestamp) -> Self {
        if !engine.outlives_revocation().unwrap_or(!lease.renewable) {
            return Self::Ends;
        }
        Self::LivesUntil((!lease.life.is_zero()).then_some(end))
    }

    /// Whether there is nothing to say of it in a handle.
    pub(super) fn is_usual(&self) -> bool {
        *self == Self::Ends
    }

    /// The same for people, for a lease that lives so long from now.
    pub(super) fn revocability(self, life: Duration) -> Revocability {
        match self {
            Self::Ends => Revocability::Immediate,
            Self::LivesUntil(Some(_)) => Revocability::Bounded { seconds: life.as_secs() },
            Self::LivesUntil(None) => Revocability::None,
        }
    }
}

/// Whether a lease lives longer than `most`. 0 is what some engines say where they do not know.
pub(super) fn is_longer(life: Duration, most: Duration) -> bool {
    life.is_zero() || life > most
}

impl Vault {
    /// The truth about an end: a lease dies with the token it hangs under, whatever its own terms say.
    pub(super) fn terms(&self, life: Duration, renewable: bool, left: Duration) -> Renewed {
        let life = if life.is_zero() { left } else { life.min(left) };
        // Increments are whole seconds, so the last second of the token is not to be had.
        let room = left.saturating_sub(life) > Duration::from_secs(1);
        Renewed { expires_at: self.after(life), renewable: renewable && room }
    }

    /// What is left of the token that a handle names.
    pub(super) fn left(&self, held: &Held) -> Duration {
        let Kind::Child { until, .. } = &held.kind else { return Duration::ZERO };
        let by_wall = || Duration::try_from(until.duration_since(self.clock.now())).unwrap_or(Duration::ZERO);
        self.ends.left(&held.accessor).unwrap_or_else(by_wall)
    }

    /// Refuses a lease that stayed longer than the credential's `ttl`, and one that cannot be revoked and
    /// outlives the session, of which so much is `left`.
    pub(super) fn require_short(
        &self,
        life: Duration,
        ttl: Duration,
        left: Duration,
        fate: Fate,
    ) -> Result<(), ProviderError> {
        let lives = match life.as_secs() {
            0 => "without an end".to_owned(),
            seconds => format!("of {seconds} s"),
        };
        if is_longer(life, ttl.saturating_add(MARGIN)) {
            let what = format!(
                "grants a lease {lives}, longer than the credential's ttl of {} s, and does not shorten it",
                ttl.as_secs()
            );
            let cure = "pass a shorter `ttl` in the credential's `data`, where the engine takes one, or raise the \
                        credential's `ttl`";
            return Err(self.name.error(Blame::Config, &what, cure));
        }
        if !fate.is_usual() && life > left.saturating_add(MARGIN) {
            let left = left.as_secs();
            let what = format!(
                "grants what cannot be revoked and lives {lives}, longer than the session ({left} s)"
            );
            let cure = "begin a new session, or pass a shorter `ttl` in the credential's `data`";
            return Err(self.name.error(Blame::Refused, &what, cure));
        }
        Ok(())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::engine::place;
    use super::*;

    fn check(path: &str, renewable: bool, life: u64, want: Revocability) {
        let lease = LeaseTerms { id: "x".into(), life: Duration::from_secs(life), renewable };
        let engine = place(&path.parse().unwrap(), None).engine;
        let fate = Fate::of(engine, &lease, Timestamp::UNIX_EPOCH);
        assert_eq!(fate.revocability(lease.life), want, "{path} {renewable} {life}");
    }

    #[test]
    fn what_a_revocation_is_worth() {
        check("database/creds/x", true, 60, Revocability::Immediate);
        check("database/creds/x", false, 60, Revocability::Immediate);
        check("ssh/creds/x", false, 60, Revocability::Immediate);
        check("rabbitmq/creds/x", true, 60, Revocability::Immediate);
        check("aws/sts/x", false, 900, Revocability::Bounded { seconds: 900 });
        check("gcp/token/x", false, 3600, Revocability::Bounded { seconds: 3600 });
        check("kubernetes/creds/x", false, 600, Revocability::Bounded { seconds: 600 });
        check("pg/creds/x", false, 60, Revocability::Bounded { seconds: 60 });
        check("aws/database/x", false, 60, Revocability::Bounded { seconds: 60 });
        check("aws/sts/x", false, 0, Revocability::None);
        check("aws/sts/x", true, 900, Revocability::Bounded { seconds: 900 });
        check("aws/creds/x", true, 900, Revocability::Immediate);
        check("gcp/key/x", true, 900, Revocability::Immediate);
        check("azure/creds/x", true, 900, Revocability::Immediate);
        check("pki/issue/x", true, 900, Revocability::Bounded { seconds: 900 });
    }

    #[test]
    fn a_life_that_is_not_known_is_longer_than_any() {
        let seconds = Duration::from_secs;
        assert!(is_longer(seconds(0), seconds(900)) && is_longer(seconds(901), seconds(900)));
        assert!(!is_longer(seconds(900), seconds(900)));
    }
}
