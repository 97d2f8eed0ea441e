//! The body of the request for a token (RFC 6749 section 4.4.2, RFC 8693 section 2.1), with the tokens that are shown.

use super::TokenExchange;
use super::credential::{Credential, Exchange, From, Grant, Shown};
use super::endpoints::Endpoints;
use super::form::Form;
use super::settings::Auth;
use crate::provider::{Blame, MintRequest, ProviderError};

/// The registered name of the grant (RFC 8693 section 2.1).
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

impl TokenExchange {
    /// Fetches what it needs; asks the server nothing.
    pub(super) async fn body(
        &self,
        request: &MintRequest,
        asked: &Credential,
        endpoints: &Endpoints,
    ) -> Result<Form, ProviderError> {
        let mut form = Form::new();
        match &asked.grant {
            Grant::ClientCredentials if matches!(self.settings.auth, Auth::None) => {
                let what = "is to give a token to a client that does not say who it is";
                let hint = "choose another `token_endpoint_auth_method`, or the grant `token-exchange`";
                return Err(self.http.error(Blame::Config, what, hint));
            }
            Grant::ClientCredentials => form.put("grant_type", "client_credentials"),
            Grant::Exchange(exchange) => {
                let Exchange { subject, actor, requested } = &**exchange;
                form.put("grant_type", EXCHANGE);
                self.show(&mut form, "subject_token", subject, request, endpoints).await?;
                if let Some(actor) = actor {
                    self.show(&mut form, "actor_token", actor, request, endpoints).await?;
                }
                if let Some(requested) = requested {
                    form.put("requested_token_type", requested);
                }
            }
        }
        if !asked.scopes.is_empty() {
            form.put("scope", &asked.scopes.iter().map(String::as_str).collect::<Vec<_>>().join(" "));
        }
        for (name, value) in [("audience", &asked.audience), ("resource", &asked.resource)] {
            if let Some(value) = value {
                form.put(name, value);
            }
        }
        Ok(form)
    }

    async fn show(
        &self,
        form: &mut Form,
        name: &str,
        shown: &Shown,
        request: &MintRequest,
        endpoints: &Endpoints,
    ) -> Result<(), ProviderError> {
        let token = match &shown.from {
            From::Kept(source) => source.fetch(&self.peers).await?,
            From::Signed { by, audience } => {
                let audience = audience.as_deref().unwrap_or(endpoints.audience());
                self.peers.vouch(by, request, audience).await?
            }
        };
        form.put_secret(name, &token);
        form.put(&format!("{name}_type"), &shown.kind);
        Ok(())
    }
}
