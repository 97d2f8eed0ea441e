//! What the server is asked about a token that is there: to revoke it, whether it is active, and whether it would take
//! the broker as its client.

use std::time::Duration;

use mcp_broker_proto::Secret;

use super::answer::Look;
use super::endpoints::Endpoints;
use super::form::Form;
use super::kept::Kept;
use super::settings::{Auth, TokenForm};
use super::{TokenExchange, fault};
use crate::provider::{Blame, Healthy, ProviderError};

/// A revoked token is looked for so often, so long after each other.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);
/// A token that no server has made. To revoke or to introspect it is no error (RFC 7009 section 2.2, RFC 7662
/// section 2.2).
const NO_TOKEN: &str = "mcp-broker-health";

impl TokenExchange {
    /// Asks the server to revoke a token (RFC 7009 section 2.1): whether it says that it did.
    pub(super) async fn revoked(
        &self,
        endpoints: &Endpoints,
        token: &Secret,
        hint: &str,
    ) -> Result<bool, ProviderError> {
        let Some(url) = &endpoints.revocation else { return Ok(false) };
        let mut form = Form::new();
        form.put_secret("token", token);
        form.put("token_type_hint", hint);
        let ready = self.ready(form, endpoints).await?;
        let answer = self.post(url, ready).await.map_err(|unanswered| unanswered.error)?;
        match answer.status {
            200 | 204 => Ok(true),
            _ if fault::is_not_revocable(&answer) => Ok(false),
            _ => Err(self.refusal(&answer, false)),
        }
    }

    /// What the server says of a token (RFC 7662 section 2.1), where it can be asked.
    pub(super) async fn introspected(&self, kept: &Kept) -> Result<Option<Look>, ProviderError> {
        let Some(url) = &kept.endpoints.introspection else { return Ok(None) };
        let mut form = Form::new();
        form.put_secret("token", &kept.token);
        form.put("token_type_hint", "access_token");
        let ready = self.ready(form, &kept.endpoints).await?;
        let answer = self.post(url, ready).await.map_err(|unanswered| unanswered.error)?;
        if answer.status != 200 {
            return Err(self.refusal(&answer, false));
        }
        let unclear = || {
            let hint = "check its introspection endpoint";
            self.http.error(Blame::Broken, "says of a token what is not understood", hint)
        };
        answer.json().ok_or_else(unclear).map(Some)
    }

    /// The proof: introspection, which knew the token, calls it inactive.
    pub(super) async fn see_it_inactive(&self, kept: &Kept) -> Result<(), ProviderError> {
        for _ in 0..LOOKS {
            if self.introspected(kept).await?.is_some_and(|look| !look.active) {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Err(self.http.error(Blame::Broken, "still takes a token that it revoked", "it is tried again"))
    }

    /// Whether the server is there and takes the broker as its client, which is shown by a token that is none.
    pub(super) async fn look(&self) -> Result<Healthy, ProviderError> {
        let endpoints = self.endpoints().await?;
        let asked = endpoints.introspection.as_ref().or(endpoints.revocation.as_ref());
        let detail = match asked.filter(|_| !matches!(self.settings.auth, Auth::None)) {
            Some(url) => {
                let mut form = Form::new();
                form.put("token", NO_TOKEN);
                let ready = self.ready(form, &endpoints).await?;
                let answer = self.post(url, ready).await.map_err(|unanswered| unanswered.error)?;
                let refusal = self.refusal(&answer, false);
                if answer.status >= 500 || refusal.blame == Blame::Identity && answer.status != 200 {
                    return Err(refusal);
                }
                format!("client {}", self.settings.client_id)
            }
            None => {
                let url = endpoints.token.clone();
                let answer = self.http.send(|client| client.get(url)).await?;
                if answer.status >= 500 {
                    return Err(self.refusal(&answer, false));
                }
                "answers; the first token shows whether it takes this client".to_owned()
            }
        };
        let warning = match self.settings.access_tokens {
            // Said by the admin: nothing that could be mended here.
            Some(TokenForm::Jwt) => None,
            _ => endpoints.lack().map(|(what, hint)| (what.to_owned(), hint.to_owned())),
        };
        Ok(Healthy { detail, warning })
    }
}
