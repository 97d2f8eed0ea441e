//! What the tests of this module share: a definition with the scopes that a test needs, and nothing else in it.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Access, OnLeak, Scope, ServerDefinition, Start, Tier};

/// Server `s` with scopes of these names and patterns of tools.
pub(crate) fn server_of(scopes: &[(&str, &[&str])]) -> ServerDefinition {
    let scope = |(name, tools): &(&str, &[&str])| Scope {
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        ..Scope::of_all(name.parse().unwrap(), Vec::new(), Vec::new())
    };
    ServerDefinition {
        name: "s".parse().unwrap(),
        description: String::new(),
        owner: String::new(),
        tier: Tier::Development,
        command: vec!["/bin/true".to_owned()],
        extra_args: Vec::new(),
        env: BTreeMap::new(),
        cwd: "/".to_owned(),
        access: Access::default(),
        scopes: scopes.iter().map(scope).collect(),
        start: Start::Eager,
        on_leak: OnLeak::Mask,
        client_requests: BTreeSet::new(),
    }
}
