//! Installation tokens of a GitHub app: narrowed to repositories and permissions, checked to be no wider than that,
//! and revoked at the end of the launch.
//!
//! Only the token itself can revoke itself, and a token is never written down: it is kept in memory, by lease. Whoever
//! asked for one may have gone when it comes: it is kept all the same, so that it can be revoked. A broker that dies
//! with it can tell no more than until when it lives, which is one hour at most.
//! In reading order: `settings`, `narrow`, `calls`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::Secret;
use mcp_broker_proto::session::Revocability;

use super::held::Held;
use super::http::Http;
use super::{
    BuildDeps, Handle, Healthy, Issued, Kind, MintRequest, Parent, Peers, Prepared, Provider, ProviderError,
    Renewed, Revocation, own,
};
use crate::clock::Clock;
use crate::config::{CredentialSpec, KindReader, ProviderConfig};

mod calls;
mod narrow;
mod settings;

/// The kind.
pub const KIND: Kind = Kind {
    reader: KindReader {
        name: "github-app",
        provider: settings::read,
        credential: settings::credential,
        default_ttl: Duration::from_secs(15 * 60),
        provider_schema: include_str!("provider.schema.json"),
        credential_schema: include_str!("credential.schema.json"),
    },
    build,
};

/// One installation of one app.
struct GithubApp {
    settings: settings::Settings,
    clock: Arc<dyn Clock>,
    peers: Peers,
    http: Arc<Http>,
    held: Arc<Held<Arc<Secret>>>,
}

fn build(config: &dyn ProviderConfig, deps: &BuildDeps) -> Result<Arc<dyn Provider>, ProviderError> {
    let settings: &settings::Settings = own::keys(config, &deps.name)?;
    Ok(Arc::new(GithubApp {
        settings: settings.clone(),
        clock: Arc::clone(&deps.clock),
        peers: deps.peers.clone(),
        http: Arc::new(Http::new(deps.name.to_string(), settings.ca_file.clone())),
        held: Arc::default(),
    }))
}

#[async_trait]
impl Provider for GithubApp {
    fn revocability(&self, _: &CredentialSpec) -> Revocability {
        Revocability::Immediate
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

    /// The token lives on its own for an hour; what is lengthened is how long the launch has it.
    async fn renew(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        self.lengthen(handle, ttl)
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        self.look().await
    }
}
