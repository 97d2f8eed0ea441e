//! What the tests of this module share: a definition with the scopes that a test needs, and nothing else in it.

use crate::config::{Scope, ServerDefinition, plain};

/// Server `s` with scopes of these names and patterns of tools.
pub(crate) fn server_of(scopes: &[(&str, &[&str])]) -> ServerDefinition {
    let scope = |(name, tools): &(&str, &[&str])| Scope {
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        ..Scope::of_all(name.parse().unwrap(), Vec::new(), Vec::new())
    };
    ServerDefinition { scopes: scopes.iter().map(scope).collect(), ..plain::server("s") }
}
