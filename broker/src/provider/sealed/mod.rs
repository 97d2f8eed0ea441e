//! Static values from an encrypted file on this machine: the embedded default. It mints nothing: a value is
//! handed out while its launch lives and can be withheld afterwards, not revoked, and every answer says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::Secret;
use mcp_broker_proto::session::Revocability;
use serde_json::json;

use super::{
    Blame, BuildDeps, Handle, Healthy, Issued, Kind, MintRequest, Parent, Prepared, Provider, ProviderError,
    Renewed, Revocation, own,
};
use crate::config::{CredentialSpec, KindReader, ProviderConfig};

mod entries;
mod format;
mod key;
mod name;
mod settings;
mod state_dir;
mod store;

pub use entries::{Entries, Entry, Full, MAX_VALUE};
pub use key::{Source, Surroundings};
pub use name::{NotASecretName, SecretName};
pub use settings::{SealedConfig, SealedCredential};
pub use store::{Opened, Store};

/// The kind.
pub const KIND: Kind = Kind {
    reader: KindReader {
        name: "sealed",
        provider: settings::provider,
        credential: settings::credential,
        // A static value has no end of its own, so this length of time bounds nothing.
        default_ttl: Duration::from_secs(900),
        provider_schema: settings::PROVIDER_SCHEMA,
        credential_schema: settings::CREDENTIAL_SCHEMA,
    },
    build,
};

fn build(config: &dyn ProviderConfig, deps: &BuildDeps) -> Result<Arc<dyn Provider>, ProviderError> {
    let config: &SealedConfig = own::keys(config, &deps.name)?;
    let store = Store::new(&deps.state_dir, *config, Surroundings::of_process(config.mode));
    Ok(Arc::new(Sealed { store }))
}

struct Sealed {
    store: Store,
}

#[async_trait]
impl Provider for Sealed {
    fn revocability(&self, _: &CredentialSpec) -> Revocability {
        Revocability::None
    }

    async fn prepare(&self, request: &MintRequest, _: Option<&Parent>) -> Result<Prepared, ProviderError> {
        let name = &wanted(request)?.secret;
        Ok(Prepared { handle: Handle(json!({ "secret": name.as_str() })), opener: None })
    }

    async fn issue(&self, request: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError> {
        let name = &wanted(request)?.secret;
        let opened = self.store.read().await?;
        let value =
            opened.and_then(|opened| opened.entries.take(name)).ok_or_else(|| self.store.missing(name))?;
        Ok(Issued {
            handle: prepared.handle,
            fields: BTreeMap::from([(settings::FIELD.to_owned(), value)]),
            plain: &[],
            expires_at: None,
            valid_until: None,
            detail: None,
            renewable: false,
            revocability: Revocability::None,
        })
    }

    async fn revoke(&self, _: &Handle) -> Result<Revocation, ProviderError> {
        Ok(Revocation::ExpiresAt(None))
    }

    async fn renew(&self, _: &Handle, _: Duration) -> Result<Renewed, ProviderError> {
        let what = "a sealed value has no end, so it cannot be renewed";
        Err(ProviderError::new(Blame::Config, what, own::REPORT))
    }

    async fn look_up(&self, path: &str) -> Result<BTreeMap<String, Secret>, ProviderError> {
        let name: SecretName = path.parse().map_err(|_error| {
            let what = format!("`{path}` cannot be the name of a sealed value");
            ProviderError::new(
                Blame::Config,
                what,
                "write the name that `mcp-broker secret set NAME` was given",
            )
        })?;
        let opened = self.store.read().await?;
        let value = opened.and_then(|opened| opened.entries.take(&name));
        value
            .map(|value| BTreeMap::from([(settings::FIELD.to_owned(), value)]))
            .ok_or_else(|| self.store.missing(&name))
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        let Some(opened) = self.store.read().await? else {
            let warning = Some(("no value is sealed yet".to_owned(), self.store.cure("NAME")));
            return Ok(Healthy { detail: "empty".to_owned(), warning });
        };
        let count = opened.entries.count();
        let plural = if count == 1 { "" } else { "s" };
        let detail = format!("{count} value{plural}, key from {}", opened.source.describe());
        Ok(Healthy { detail, warning: self.store.weakness(opened.source) })
    }
}

fn wanted(request: &MintRequest) -> Result<&SealedCredential, ProviderError> {
    own::credential(&request.spec)
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
