//! How a server is: reachable, unsealed, and set up so that the broker can do its work.

use std::time::Duration;

use serde::Deserialize;

use super::Vault;
use super::calls;
use super::gate::Urgency;
use super::tree::RoleFinding;
use crate::provider::{Blame, Healthy, ProviderError};

/// How long the whole look may take.
const HEALTH_LIMIT: Duration = Duration::from_secs(8);

/// What was found, good or bad, and the boot time at which the look began.
pub(super) struct Seen {
    began: Duration,
    found: Result<Healthy, ProviderError>,
}

/// `sys/health`, as far as it is needed.
#[derive(Deserialize)]
struct State {
    initialized: bool,
    sealed: bool,
    #[serde(default)]
    standby: bool,
    #[serde(default)]
    version: String,
    /// Vault says whether it is the enterprise edition; OpenBao does not have the word.
    enterprise: Option<bool>,
}

impl State {
    fn product(&self) -> &'static str {
        if self.enterprise.is_none() && self.version.starts_with("2.") { "OpenBao" } else { "Vault" }
    }
}

impl Vault {
    /// Looks, within a few seconds. Many who ask at once cost the server one question: they wait for the one
    /// who looks, and take what was found by a look that began after they asked.
    pub(super) async fn look(&self) -> Result<Healthy, ProviderError> {
        let asked = self.clock.boot();
        let looked = tokio::time::timeout(HEALTH_LIMIT, async {
            let mut seen = self.seen.lock().await;
            if let Some(Seen { began, found }) = &*seen
                && *began > asked
            {
                return found.clone();
            }
            let began = self.clock.boot();
            let found = self.look_at_all().await;
            *seen = Some(Seen { began, found: found.clone() });
            found
        });
        looked.await.unwrap_or_else(|_elapsed| Err(self.name.fault(super::fault::Fault::Timeout)))
    }

    async fn look_at_all(&self) -> Result<Healthy, ProviderError> {
        let stranger = self.identity.stranger().await?;
        let sent = stranger.send(calls::health(), None, Urgency::Normal).await;
        let answer = self.identity.sent(sent)?;
        if !answer.is_ok() {
            let cure = "check that `address` is an OpenBao or Vault server";
            return Err(self.name.refusal(answer.status, answer.complaint(), "telling its health", cure));
        }
        let state: State = answer.plain().ok_or_else(|| self.name.unreadable("a look at its health"))?;
        if !state.initialized {
            let hint = "initialise it: `bao operator init`";
            return Err(self.name.error(Blame::Unreachable, "is not initialised", hint));
        }
        if state.sealed {
            return Err(self.name.error(Blame::Unreachable, "is sealed", "unseal it: `bao operator unseal`"));
        }
        let life = self.token_life().await?;
        // The first launch would be refused for it, so this is no mere warning.
        if let Some(RoleFinding { what, hint }) = self.inspect_roles().await? {
            return Err(self.name.error(Blame::Config, &what, hint));
        }
        let role = if state.standby { "standby" } else { "active" };
        let detail = format!("{} {}, unsealed, {role}; {life}", state.product(), state.version);
        Ok(Healthy { detail, warning: None })
    }

    async fn token_life(&self) -> Result<String, ProviderError> {
        #[derive(Deserialize)]
        struct Token {
            ttl: u64,
        }
        let answer = self.identity.call(calls::lookup_self, Urgency::Normal).await?;
        if !answer.is_ok() {
            return Err(self.identity.refusal(&answer, "looking up the broker's own token"));
        }
        let token: Token = answer.data().ok_or_else(|| self.name.unreadable("a token lookup"))?;
        Ok(match token.ttl {
            0 => "the broker's token does not end".to_owned(),
            ttl => format!("the broker's token lives {ttl} s more"),
        })
    }
}
