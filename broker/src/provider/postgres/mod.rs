//! PostgreSQL roles that the broker makes itself, for people without a Vault: a role a launch, made in one
//! transaction, dropped and looked for in `pg_roles` afterwards. Keeps no password: the server gets a SCRAM verifier.
//!
//! `VALID UNTIL` stops logins by password and nothing else: who is connected stays so. Therefore the end of a
//! credential here is always its revocation, which first forbids the login and ends the sessions. There is no dead
//! man's switch: while the broker is down nothing ends a session that is open.
//! In reading order: `settings`, `credential`, `statement`; `reach`, `login`, `tls`, `connect`, `fault`; `password`,
//! `role`, `issue`, `revoke`, `health`.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::session::Revocability;
use tokio::sync::Semaphore;

use super::{
    BuildDeps, Handle, Healthy, Issued, Kind, MintRequest, Parent, Peers, Prepared, Provider, ProviderError,
    Renewed, Revocation, own,
};
use crate::clock::Clock;
use crate::config::{CredentialSpec, KindReader, ProviderConfig};

mod connect;
mod credential;
mod fault;
mod health;
mod issue;
mod login;
mod password;
mod reach;
mod revoke;
mod role;
mod settings;
mod statement;
mod tls;

/// The kind.
pub const KIND: Kind = Kind {
    reader: KindReader {
        name: "postgres",
        provider: settings::read,
        credential: credential::read,
        default_ttl: Duration::from_secs(15 * 60),
        provider_schema: include_str!("provider.schema.json"),
        credential_schema: include_str!("credential.schema.json"),
    },
    build,
};

/// So many connections for mints, and as many for ends, which must not wait behind them.
const AT_ONCE: usize = 4;

/// One database.
struct Postgres {
    name: fault::Name,
    settings: settings::Settings,
    clock: Arc<dyn Clock>,
    peers: Peers,
    mints: Semaphore,
    ends: Semaphore,
}

fn build(config: &dyn ProviderConfig, deps: &BuildDeps) -> Result<Arc<dyn Provider>, ProviderError> {
    let settings: &settings::Settings = own::keys(config, &deps.name)?;
    Ok(Arc::new(Postgres {
        name: fault::Name(deps.name.to_string()),
        settings: settings.clone(),
        clock: Arc::clone(&deps.clock),
        peers: deps.peers.clone(),
        mints: Semaphore::new(AT_ONCE),
        ends: Semaphore::new(AT_ONCE),
    }))
}

#[async_trait]
impl Provider for Postgres {
    fn revocability(&self, _: &CredentialSpec) -> Revocability {
        Revocability::Immediate
    }

    async fn prepare(&self, request: &MintRequest, _: Option<&Parent>) -> Result<Prepared, ProviderError> {
        let handle = self.name_a_role(request)?.to_handle();
        Ok(Prepared { handle, opener: None })
    }

    async fn issue(&self, request: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError> {
        self.make_role(request, prepared).await
    }

    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        self.drop_role(handle).await
    }

    async fn renew(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        self.lengthen(handle, ttl).await
    }

    /// `VALID UNTIL` ends logins by password; the role and its open sessions stay (CREATE ROLE).
    fn lingers(&self, _: &Handle) -> bool {
        true
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        self.look().await
    }
}
