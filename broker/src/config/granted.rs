//! A scope as it was read: what it grants, what that needs, and how the needed reaches an instance.

use std::collections::BTreeSet;
use std::time::Duration;

use mcp_broker_proto::launch::Injection;
use mcp_broker_proto::names::Label;

use super::model::{Confirm, CredentialSpec, Limits, ToolRules};

/// `[scope.NAME]`.
#[derive(Debug, Clone)]
pub struct Scope {
    /// Its name.
    pub name: Label,
    /// Patterns of its tools.
    pub tools: Vec<String>,
    /// Patterns of its resources, by URI.
    pub resources: Vec<String>,
    /// Patterns of its prompts.
    pub prompts: Vec<String>,
    /// Its instance is given up so long after its last request; `None`: as the session says.
    pub idle: Option<Duration>,
    /// How much it may be used.
    pub limits: Limits,
    /// Whether a person is asked before a call.
    pub confirm: Option<Confirm>,
    /// What the arguments of its tools may be.
    pub arguments: Vec<ToolRules>,
    /// Whether the arguments of calls stand in the audit log.
    pub audit_arguments: bool,
    /// What it needs.
    pub credentials: Vec<CredentialSpec>,
    /// How that reaches the instance.
    pub inject: Vec<Injection>,
}

impl Scope {
    /// Whether one of its patterns names the tool.
    #[must_use]
    pub fn names_tool(&self, tool: &str) -> bool {
        self.tools.iter().any(|pattern| mcp_broker_proto::pattern::matches(pattern, tool))
    }

    /// The ways by which a credential reaches the server, each once.
    #[must_use]
    pub fn ways_of(&self, credential: &Label) -> Vec<String> {
        let uses = |way: &&Injection| way.credentials().contains(&credential);
        let mut ways: Vec<_> = self.inject.iter().filter(uses).map(|way| way.way().to_owned()).collect();
        ways.sort_unstable();
        ways.dedup();
        ways
    }

    /// The credentials that are to be renewed together with this one below a running server, itself included: what is
    /// made of several is made anew of all. `None` where one of them reaches the server in a way that does not refresh.
    #[must_use]
    pub fn refreshed_with(&self, credential: &Label) -> Option<BTreeSet<Label>> {
        let (mut group, mut grew, mut used) = (BTreeSet::from([credential.clone()]), true, false);
        while std::mem::take(&mut grew) {
            for way in &self.inject {
                let uses = way.credentials();
                if !uses.iter().any(|name| group.contains(*name)) {
                    continue;
                }
                if !way.refreshes() {
                    return None;
                }
                used = true;
                for name in uses {
                    grew |= group.insert(name.clone());
                }
            }
        }
        used.then_some(group)
    }
}

#[cfg(test)]
impl Scope {
    /// One with all tools and without rules.
    pub(crate) fn of_all(name: Label, credentials: Vec<CredentialSpec>, inject: Vec<Injection>) -> Self {
        Self {
            name,
            tools: vec!["*".to_owned()],
            resources: Vec::new(),
            prompts: Vec::new(),
            idle: None,
            limits: Limits::default(),
            confirm: None,
            arguments: Vec::new(),
            audit_arguments: false,
            credentials,
            inject,
        }
    }
}
