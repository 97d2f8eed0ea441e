//! What the tests of approvals and of their command share: a definition of one scope that names every tool.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{Access, OnLeak, Scope, ServerDefinition, Start, Tier};

/// A server of that name, without credentials.
pub(crate) fn server(name: &str) -> ServerDefinition {
    ServerDefinition {
        name: name.parse().unwrap(),
        description: String::new(),
        owner: String::new(),
        tier: Tier::Development,
        command: vec!["/bin/true".to_owned()],
        extra_args: Vec::new(),
        env: BTreeMap::new(),
        cwd: "/".to_owned(),
        access: Access::default(),
        scopes: vec![Scope::of_all("all".parse().unwrap(), Vec::new(), Vec::new())],
        start: Start::Lazy,
        on_leak: OnLeak::Mask,
        client_requests: BTreeSet::new(),
    }
}
