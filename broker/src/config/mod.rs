//! Configuration: `broker.toml` and `servers.d/*.toml`. Files become the types of [`model`] or are refused
//! with every mistake named; nothing is half accepted.

pub mod diagnostic;
mod kinds;
mod model;
mod reader;

pub use kinds::{CredentialKeys, KindReader, ProviderConfig};
pub use model::{
    Access, BrokerSection, Config, CredentialSpec, Mode, ProviderSection, Scope, ServerDefinition,
    SessionSection, Tier,
};
pub use reader::Reader;
