//! The least of a configuration, for tests everywhere: a server, a credential, and a broker around them. A test says
//! with struct update syntax in what its own differ.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Access, BrokerSection, Config, CredentialSpec, LogindUse, Mode, OnLeak, OnLock, Resume, Scope,
    ServerDefinition, SessionSection, Start, Tier,
};

/// A server of that name with one scope of every tool and no credential; nobody may launch it.
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
        start: Start::Eager,
        on_leak: OnLeak::Mask,
        client_requests: BTreeSet::new(),
    }
}

/// A credential of that name from the provider `bao`, for a minute, without settings.
pub(crate) fn credential(name: &str) -> CredentialSpec {
    CredentialSpec {
        name: name.parse().unwrap(),
        provider: "bao".parse().unwrap(),
        ttl: Duration::from_secs(60),
        settings: Arc::new(()),
    }
}

/// A broker of one person with that server; its sockets and its state are all at `place`.
pub(crate) fn config(place: &Path, server: ServerDefinition) -> Config {
    Config {
        mode: Mode::User,
        broker: BrokerSection { socket: place.into(), admin_socket: place.into(), state_dir: place.into() },
        session: SessionSection {
            max_age: Duration::from_secs(36_000),
            idle: Duration::from_secs(900),
            on_lock: OnLock::Park,
            logind: LogindUse::Optional,
            resume: Resume::Unlock,
            mints_per_minute: 1_000_000,
        },
        providers: BTreeMap::new(),
        servers: BTreeMap::from([(server.name.clone(), Arc::new(server))]),
        warnings: Vec::new(),
    }
}
