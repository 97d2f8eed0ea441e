//! Configuration: `broker.toml` and `servers.d/*.toml`. Files become a [`Config`] or are refused with
//! every mistake named; nothing is half accepted.
#![forbid(unsafe_code)]

mod broker_toml;
mod credential;
mod decimal;
pub mod diagnostic;
mod files;
mod findings;
mod granted;
mod inject;
mod kinds;
mod limits;
mod load;
mod model;
mod nearest;
mod needs;
mod overlap;
mod patterns;
mod places;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a name that is none must fail the test")]
pub(crate) mod plain;
mod reader;
mod rules;
mod schema;
mod scope;
#[cfg(test)]
mod scope_tests;
mod sections;
mod server;
mod session;
mod shapes;
#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
pub(crate) mod testing;
mod value;
mod variables;

pub use decimal::Decimal;
pub use granted::Scope;
pub use kinds::{CredentialKeys, KindReader, ProviderConfig};
pub use load::load;
pub use model::{
    Access, ArgumentRule, Config, Confirm, CredentialSpec, LONGEST_MESSAGE, Limits, Mode, OnLeak,
    ServerDefinition, Start, Tier, ToolRules,
};
pub(crate) use nearest::nearest;
pub use needs::Misfit;
pub use places::Places;
pub use reader::Reader;
pub use schema::schema;
pub use sections::{BrokerSection, LogindUse, OnLock, ProviderSection, Resume, SessionSection};
pub(crate) use value::{length_of_time, shell_word, words};
