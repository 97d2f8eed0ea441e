//! Credentials from HashiCorp Vault or OpenBao, under a tree of tokens: the broker's own (verifies, renews,
//! revokes), a periodic parent a session (makes children, reads nothing), a child a launch (reads its
//! credential). Leases hang under children, so that ending a parent ends everything below it.
//!
//! A path whose answer has no lease (KV, or a credential engine that grants none) can be withheld, not
//! revoked: its child is revoked after the read, and `revoke` answers that the value lives on. So it does for
//! a lease whose revocation proves nothing about what was issued. A certificate is put on its issuer's list besides.
//! In reading order: `settings`, `credential`, `path`, `engine`; `login`, `identity`; `tree`, `issue`, `terms`,
//! `lookup`, `revoke`, `fall`, `follow`, `flights`, `ends`; `calls`, `answer`, `fault`; `client`, `transport`, `gate`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use mcp_broker_proto::Secret;
use mcp_broker_proto::session::Revocability;
use tokio::sync::{Mutex, OnceCell};

use super::{
    BuildDeps, Handle, Healthy, Issued, Kind, MintRequest, Parent, Prepared, Provider, ProviderError,
    Renewed, Revocation, SessionTag, own,
};
use crate::clock::Clock;
use crate::config::{CredentialSpec, KindReader, ProviderConfig};

mod answer;
mod calls;
mod client;
mod credential;
mod ends;
mod engine;
mod fall;
mod fault;
mod files;
mod flights;
mod follow;
mod gate;
mod handle;
mod health;
mod identity;
mod issue;
#[cfg(test)]
#[path = "live_tests.rs"]
mod live;
mod login;
mod lookup;
mod path;
mod revoke;
mod settings;
mod terms;
mod transport;
mod tree;

/// The kind.
pub const KIND: Kind = Kind {
    reader: KindReader {
        name: "vault",
        provider: settings::read,
        credential: credential::read,
        default_ttl: Duration::from_secs(15 * 60),
        provider_schema: include_str!("provider.schema.json"),
        credential_schema: include_str!("credential.schema.json"),
    },
    build,
};

/// One server.
pub(crate) struct Vault {
    name: fault::ServerName,
    settings: Arc<settings::ServerSettings>,
    clock: Arc<dyn Clock>,
    identity: Arc<identity::Identity>,
    flights: Arc<flights::Flights>,
    ends: ends::Ends,
    /// Set once the token roles were found to be right.
    roles: OnceCell<()>,
    /// What the last look at the server's health found; held while looking.
    seen: Mutex<Option<health::Seen>>,
}

fn build(config: &dyn ProviderConfig, deps: &BuildDeps) -> Result<Arc<dyn Provider>, ProviderError> {
    let settings: &settings::ServerSettings = own::keys(config, &deps.name)?;
    Ok(Arc::new(Vault::new(settings.clone(), deps)))
}

impl Vault {
    fn new(settings: settings::ServerSettings, deps: &BuildDeps) -> Self {
        let name =
            fault::ServerName { provider: deps.name.to_string(), address: settings.address.to_string() };
        let settings = Arc::new(settings);
        let clock = Arc::clone(&deps.clock);
        let gate = gate::Gate::new(gate::LIMITS);
        let identity = identity::Identity::new(name.clone(), Arc::clone(&settings), gate, Arc::clone(&clock));
        let flights = flights::Flights::new(Arc::clone(&clock));
        let ends = ends::Ends::new(Arc::clone(&clock));
        Self {
            name,
            settings,
            clock,
            identity,
            flights,
            ends,
            roles: OnceCell::new(),
            seen: Mutex::default(),
        }
    }

    fn after(&self, life: Duration) -> Timestamp {
        after(&*self.clock, life)
    }
}

fn after(clock: &dyn Clock, life: Duration) -> Timestamp {
    let span = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
    clock.now().checked_add(span).unwrap_or(Timestamp::MAX)
}

#[async_trait]
impl Provider for Vault {
    /// By the path's shape, before anything was asked: KV version 2 has no leases, other paths usually do.
    fn revocability(&self, spec: &CredentialSpec) -> Revocability {
        let settings = spec.settings.downcast_ref::<credential::CredentialSettings>();
        let Some(engine) = settings.map(|settings| settings.place.engine) else { return Revocability::None };
        match engine.outlives_revocation() {
            _ if engine == engine::Engine::Kv2 => Revocability::None,
            Some(true) => Revocability::Bounded { seconds: spec.ttl.as_secs() },
            _ => Revocability::Immediate,
        }
    }

    async fn prepare(
        &self,
        request: &MintRequest,
        parent: Option<&Parent>,
    ) -> Result<Prepared, ProviderError> {
        self.make_child(request, parent).await
    }

    async fn issue(&self, request: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError> {
        self.read_credential(request, prepared).await
    }

    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        self.end(handle).await
    }

    async fn shed(&self, handle: &Handle, parent: &Handle) -> Result<bool, ProviderError> {
        self.unload(handle, parent).await
    }

    async fn fallen(&self, handle: &Handle, parent: &Revocation) -> Result<Revocation, ProviderError> {
        self.verify_fallen(handle, parent).await
    }

    async fn renew(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        self.extend(handle, ttl).await
    }

    async fn open_session(&self, session: &SessionTag) -> Result<Option<Parent>, ProviderError> {
        self.make_parent(session).await.map(Some)
    }

    async fn renew_session(&self, parent: &Parent) -> Result<Duration, ProviderError> {
        self.keep_parent(parent).await
    }

    /// Only its own handle names a certificate that has no lease.
    fn hangs_on(&self, handle: &Handle) -> bool {
        let held = handle::Held::read(handle, &self.name);
        held.is_ok_and(|held| matches!(held.kind, handle::Kind::Bounded { certificate: Some(_), .. }))
    }

    fn lingers(&self, handle: &Handle) -> bool {
        let held = handle::Held::read(handle, &self.name);
        held.is_ok_and(|held| held.lingers())
    }

    async fn look_up(&self, path: &str) -> Result<BTreeMap<String, Secret>, ProviderError> {
        self.own_secret(path).await
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        self.look().await
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// The schema and the reader must know the same keys.
    #[test]
    fn schemas_name_the_keys() {
        let keys = |text: &str| -> Vec<String> {
            let schema: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
            schema.into_iter().map(|(key, _)| key).collect()
        };
        let provider = keys(KIND.reader.provider_schema);
        assert_eq!(
            provider,
            ["address", "auth", "ca_file", "dead_man", "launch_role", "namespace", "session_role"]
        );
        assert_eq!(
            keys(KIND.reader.credential_schema),
            ["data", "engine", "method", "path", "policies", "wrap"]
        );
    }
}
