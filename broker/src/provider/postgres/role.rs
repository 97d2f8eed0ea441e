//! What names a role to the provider that made it. Nothing in it opens anything.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::credential::Credential;
use super::{Postgres, password};
use crate::provider::{Blame, Handle, MintRequest, ProviderError, own};

/// A role that is or was, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Role {
    /// Its name.
    pub(super) role: String,
    /// The server and database.
    pub(super) place: String,
    /// It is not lengthened beyond this.
    pub(super) horizon: Timestamp,
    /// The statements that drop it, as they were when it was made; empty: the broker's own way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) drop: Vec<String>,
}

/// Held in the transaction that makes a role and in the one that drops it, so that whoever drops finds what was still
/// being made. `pg_advisory_xact_lock` of the name's hash.
pub(super) const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";

impl Role {
    pub(super) fn to_handle(&self) -> Handle {
        Handle(serde_json::to_value(self).unwrap_or_default())
    }
}

impl Postgres {
    /// A name that no other role has: `mcp_LAUNCH_RANDOM`, 53 bytes of the 63 that there may be.
    pub(super) fn name_a_role(&self, request: &MintRequest) -> Result<Role, ProviderError> {
        let credential: &Credential = own::credential(&request.spec)?;
        let tail = password::tail().ok_or_else(|| self.no_randomness())?;
        let launch: String = request.launch.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
        Ok(Role {
            role: format!("mcp_{}_{tail}", launch.to_ascii_lowercase()),
            place: self.settings.place(),
            horizon: self.after(request.horizon),
            drop: credential.drop.iter().map(|statement| statement.text.clone()).collect(),
        })
    }

    /// Reads a handle.
    pub(super) fn role(&self, handle: &Handle) -> Result<Role, ProviderError> {
        let role: Option<Role> = serde_json::from_value(handle.0.clone()).ok();
        let role = role.ok_or_else(|| {
            self.name.error(Blame::Broken, "was given a handle of another kind", own::REPORT)
        })?;
        if role.place != self.settings.place() {
            let what = format!(
                "is at {}, but role `{}` was made at {}",
                self.settings.place(),
                role.role,
                role.place
            );
            return Err(self.name.error(
                Blame::Config,
                &what,
                "put `host`, `port` and `database` back, so that it can be dropped",
            ));
        }
        Ok(role)
    }

    pub(super) fn no_randomness(&self) -> ProviderError {
        self.name.error(Blame::Broken, "gets no randomness from the system", "see random(4)")
    }

    pub(super) fn after(&self, life: Duration) -> Timestamp {
        let span = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        self.clock.now().checked_add(span).unwrap_or(Timestamp::MAX)
    }
}
