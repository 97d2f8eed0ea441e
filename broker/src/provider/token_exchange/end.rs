//! The end of a token: what can be done about it, its revocation, and the truth about that.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::Revocability;
use serde::{Deserialize, Serialize};

use super::TokenExchange;
use super::kept::Kept;
use super::settings::TokenForm;
use crate::config::CredentialSpec;
use crate::provider::held::Known;
use crate::provider::{Blame, Denier, Handle, MintRequest, Proof, ProviderError, Renewed, Revocation, own};

/// To ask again for a token that is on its way.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// For the time that a request takes.
pub(super) const MARGIN: Duration = Duration::from_secs(60);

/// What names a token to the provider that made it.
#[derive(Serialize, Deserialize)]
pub(super) struct Named {
    pub(super) lease: LeaseId,
    /// It lives so long at most.
    pub(super) until: Timestamp,
}

impl TokenExchange {
    /// The handle of a token that is not made yet: it cannot live longer than this.
    pub(super) fn intent(&self, request: &MintRequest) -> Handle {
        Named { lease: request.lease, until: self.after(self.settings.longest_life + MARGIN) }.to_handle()
    }

    /// What can be done about a token, as far as that is known before it is there.
    pub(super) fn outlook(&self, spec: &CredentialSpec) -> Revocability {
        let known = self.known_endpoints().is_some_and(|known| known.lack().is_none());
        match known && self.settings.access_tokens != Some(TokenForm::Jwt) {
            true => Revocability::Immediate,
            false => Revocability::Bounded { seconds: spec.ttl.as_secs() },
        }
    }

    /// What revoking it will do, and why it is not more.
    pub(super) fn verdict(&self, kept: &Kept, until: Timestamp) -> (Revocability, Option<&'static str>) {
        let why = match () {
            () if kept.endpoints.revocation.is_none() => "the server revokes no tokens",
            () if !kept.asked_about => {
                "it is checked without asking the server, so that revoking it ends nothing"
            }
            () if !kept.seen_active => "the server does not tell whether it is active",
            () => return (Revocability::Immediate, None),
        };
        let left = until.duration_since(self.clock.now()).as_secs();
        (Revocability::Bounded { seconds: u64::try_from(left).unwrap_or_default() }, Some(why))
    }

    pub(super) fn lengthen(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        let named = self.named(handle)?;
        let expires_at = self.after(ttl).min(named.until);
        Ok(Renewed { expires_at, renewable: expires_at < named.until })
    }

    pub(super) async fn end_token(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        let named = self.named(handle)?;
        let mut kept = match self.held.get(named.lease) {
            Some(Known::Token(kept)) => kept,
            Some(Known::None) => {
                self.held.forget(named.lease);
                return Ok(Revocation::NeverMade);
            }
            Some(Known::InFlight) => {
                let what = "is still being asked for the token that is to be revoked";
                return Err(self.http.error(Blame::Busy(Some(SOON)), what, "it is revoked when it is there"));
            }
            // It was lost with the process or the connection that had it.
            None => return Ok(Revocation::ExpiresAt(Some(named.until))),
        };
        if kept.refresh.is_some() {
            self.drop_refresh(&mut kept).await?;
            self.held.put(named.lease, Known::Token(kept.clone()));
        }
        let revoked = self.revoked(&kept.endpoints, &kept.token, "access_token").await?;
        let truth = match revoked {
            false => Revocation::ExpiresAt(Some(named.until)),
            true if kept.seen_active && kept.asked_about => {
                self.see_it_inactive(&kept).await?;
                Revocation::Revoked(Proof::Token)
            }
            // Its own end has come before.
            true if named.until <= self.clock.now() => Revocation::ExpiresAt(Some(named.until)),
            true => Revocation::Denied { until: named.until, by: Denier::Server },
        };
        self.held.forget(named.lease);
        Ok(truth)
    }

    /// Whether it could be revoked; it is not kept either way.
    pub(super) async fn drop_refresh(&self, kept: &mut Kept) -> Result<bool, ProviderError> {
        let Some(refresh) = kept.refresh.clone() else { return Ok(false) };
        let done = self.revoked(&kept.endpoints, &refresh, "refresh_token").await?;
        kept.refresh = None;
        Ok(done)
    }

    pub(super) fn named(&self, handle: &Handle) -> Result<Named, ProviderError> {
        let named = serde_json::from_value(handle.0.clone());
        named.map_err(|_foreign| {
            self.http.error(Blame::Broken, "was given a handle of another kind", own::REPORT)
        })
    }

    pub(super) fn after(&self, life: Duration) -> Timestamp {
        later(self.clock.now(), life)
    }
}

impl Named {
    pub(super) fn to_handle(&self) -> Handle {
        Handle(serde_json::to_value(self).unwrap_or_default())
    }
}

pub(super) fn later(than: Timestamp, by: Duration) -> Timestamp {
    let span = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
    than.checked_add(span).unwrap_or(Timestamp::MAX)
}
