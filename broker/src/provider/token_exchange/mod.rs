//! Access tokens of an OAuth 2.0 authorization server: by the broker's own credentials as a client (RFC 6749 section
//! 4.4), or in exchange for a token that says who the person is (RFC 8693). They are ended by RFC 7009 revocation, and
//! called revoked only where RFC 7662 introspection knew the token before and calls it inactive afterwards.
//!
//! Only the token itself can be named to the server, and a token is never written down: it is kept in memory, by
//! lease. A broker that dies with it can tell no more than until when it lives.
//! In reading order: `settings`, `credential`, `endpoints`; `form`, `client`, `fault`, `answer`; `kept`, `request`, `mint`,
//! `calls`, `end`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::session::Revocability;

use super::held::Held;
use super::http::Http;
use super::{
    BuildDeps, Handle, Healthy, Issued, Kind, MintRequest, Parent, Peers, Prepared, Provider, ProviderError,
    Renewed, Revocation, own,
};
use crate::clock::Clock;
use crate::config::{CredentialSpec, KindReader, ProviderConfig};

mod answer;
mod calls;
mod client;
mod credential;
mod end;
mod endpoints;
mod fault;
mod form;
mod kept;
mod mint;
mod request;
mod settings;

/// The kind.
pub const KIND: Kind = Kind {
    reader: KindReader {
        name: "token-exchange",
        provider: settings::read,
        credential: credential::read,
        default_ttl: Duration::from_secs(15 * 60),
        provider_schema: include_str!("provider.schema.json"),
        credential_schema: include_str!("credential.schema.json"),
    },
    build,
};

/// One client of one authorization server.
struct TokenExchange {
    settings: settings::Settings,
    clock: Arc<dyn Clock>,
    peers: Peers,
    http: Http,
    found: endpoints::Found,
    held: Arc<Held<kept::Kept>>,
}

fn build(config: &dyn ProviderConfig, deps: &BuildDeps) -> Result<Arc<dyn Provider>, ProviderError> {
    let settings: &settings::Settings = own::keys(config, &deps.name)?;
    Ok(Arc::new(Arc::new(TokenExchange {
        settings: settings.clone(),
        clock: Arc::clone(&deps.clock),
        peers: deps.peers.clone(),
        http: Http::new(deps.name.to_string(), settings.ca_file.clone()),
        found: endpoints::Found::default(),
        held: Arc::default(),
    })))
}

#[async_trait]
impl Provider for Arc<TokenExchange> {
    fn revocability(&self, spec: &CredentialSpec) -> Revocability {
        self.outlook(spec)
    }

    async fn prepare(&self, request: &MintRequest, _: Option<&Parent>) -> Result<Prepared, ProviderError> {
        Ok(Prepared { handle: self.intent(request), opener: None })
    }

    async fn issue(&self, request: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError> {
        self.make_token(request, &prepared).await
    }

    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        self.end_token(handle).await
    }

    /// The token lives on its own; what is lengthened is how long the launch has it.
    async fn renew(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        self.lengthen(handle, ttl)
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        self.look().await
    }
}

#[cfg(test)]
mod tests;
