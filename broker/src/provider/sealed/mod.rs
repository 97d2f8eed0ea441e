//! Static values from an encrypted file on this machine: the embedded default.
use super::Kind;
use std::time::Duration;
/// The kind.
pub const KIND: Kind = Kind {
    reader: crate::config::KindReader {
        name: "sealed",
        provider: |_, _| None,
        credential: |_| None,
        default_ttl: Duration::from_secs(900),
        provider_schema: "{}",
        credential_schema: "{}",
    },
    build: |_, _| Err(super::ProviderError::new(super::Blame::Config, "", "")),
};
