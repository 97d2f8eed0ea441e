//! Credentials from HashiCorp Vault or OpenBao.
use super::Kind;
use std::time::Duration;
/// The kind.
pub const KIND: Kind = Kind {
    reader: crate::config::KindReader {
        name: "vault",
        provider: |_, _| None,
        credential: |_| None,
        default_ttl: Duration::from_secs(900),
        provider_schema: "{}",
        credential_schema: "{}",
    },
    build: |_, _| Err(super::ProviderError::new(super::Blame::Config, "", "")),
};
