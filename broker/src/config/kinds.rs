//! What the configuration must know of a provider kind to read its keys: a table of functions that the
//! provider layer fills in, so that nothing here imports upwards.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::Mode;
use super::needs::Misfit;
use super::reader::Reader;

/// How one provider kind reads its tables.
pub struct KindReader {
    /// The word after `kind =`.
    pub name: &'static str,
    /// Reads the keys of `[provider.NAME]` other than `kind`. `None` when a mistake was noted.
    pub provider: fn(&Reader<'_>, Mode) -> Option<Arc<dyn ProviderConfig>>,
    /// Reads the keys of a credential other than `provider` and `ttl`. `None` when a mistake was noted.
    pub credential: fn(&Reader<'_>) -> Option<CredentialKeys>,
    /// The life of a credential whose `ttl` is not written.
    pub default_ttl: Duration,
    /// JSON Schema (draft 2020-12) properties of `[provider.NAME]`, as a JSON object of `{key: schema}`.
    pub provider_schema: &'static str,
    /// The same of a credential.
    pub credential_schema: &'static str,
}

/// The parsed keys of `[provider.NAME]`. The provider layer knows the type behind it.
pub trait ProviderConfig: Any + Send + Sync {
    /// For the provider layer to get at its own type.
    fn as_any(&self) -> &(dyn Any + Send + Sync);

    /// What is wrong with a secret that another provider is to read here, by what its path and field say alone;
    /// `None` for a kind that keeps no secrets.
    fn judge_secret(&self, path: &str, field: Option<&str>) -> Option<Result<(), Misfit>> {
        let _ = (path, field);
        None
    }

    /// Whether this provider can mint a credential with these settings, of its own kind.
    ///
    /// # Errors
    /// With the credential's key that does not fit.
    fn judge_credential(&self, settings: &(dyn Any + Send + Sync)) -> Result<(), Misfit> {
        let _ = settings;
        Ok(())
    }
}

/// The parsed keys of one credential.
pub struct CredentialKeys {
    /// The kind's own type.
    pub settings: Arc<dyn Any + Send + Sync>,
    /// The fields that the credential will have, where the kind knows them before it mints.
    pub fields: Option<Vec<String>>,
}
