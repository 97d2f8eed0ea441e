//! What a launcher tells of its server: tools that are hidden as they are not what was approved, and secrets that
//! were masked. It stands in the status and in the audit log, and may end the launch.

use std::collections::BTreeMap;

use mcp_broker_proto::MAX_CHANGED;
use mcp_broker_proto::call::{Change, Changed};
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::Label;
use tokio::io::{AsyncRead, AsyncWrite};

use super::Launch;
use crate::audit::{Event, ToolName};
use crate::config::OnLeak;

/// So many reports of one launch are written down; a server that shows something else each time would fill the disk.
const MAX_REPORTS: u32 = 1000;

/// What was told of the server of one launch.
#[derive(Default)]
pub(super) struct Told {
    changed: BTreeMap<Label, BTreeMap<String, Change>>,
    reports: u32,
}

impl Told {
    /// Whether the server shows a tool of the scope otherwise than it was approved.
    pub(super) fn is_changed(&self, scope: &Label, tool: &str) -> bool {
        self.changed.get(scope).is_some_and(|tools| tools.contains_key(tool))
    }

    /// All of it, for people.
    fn shown(&self) -> Vec<Changed> {
        let shown = |(scope, tools): (&Label, &BTreeMap<String, Change>)| Changed {
            scope: scope.clone(),
            tools: tools.clone(),
        };
        self.changed.iter().map(shown).collect()
    }

    /// Replaces what was told of a scope; whether that is something else.
    fn replace(&mut self, changed: Changed) -> bool {
        let Changed { scope, mut tools } = changed;
        // More are not reported, and a name that is none cannot be shown: such a tool is denied by its name.
        tools.retain(|tool, _| ToolName::parse(tool).is_some());
        while tools.len() > MAX_CHANGED {
            tools.pop_last();
        }
        if tools.is_empty() {
            return self.changed.remove(&scope).is_some();
        }
        let news = self.changed.get(&scope) != Some(&tools);
        if news {
            self.changed.insert(scope, tools);
        }
        news
    }

    /// Whether one more report may be written down.
    fn reports(&mut self) -> bool {
        self.reports += 1;
        self.reports <= MAX_REPORTS
    }
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// An instance shows tools otherwise than they were approved.
    pub(super) fn changed(&mut self, changed: Changed) -> Result<(), EndReason> {
        let scope = changed.scope.clone();
        if !self.knows(&scope) || !self.told.replace(changed) {
            return Ok(());
        }
        let shown = self.told.shown();
        self.seat.show(|info| info.changed = shown);
        let tools = self.told.changed.get(&scope).into_iter().flatten();
        let tools: BTreeMap<_, _> =
            tools.filter_map(|(tool, change)| Some((ToolName::parse(tool)?, *change))).collect();
        let refuses = !tools.is_empty() && self.asked.server.tier.refuses_changed_tools();
        if self.told.reports() {
            self.sessions.audit.note(Event::ToolsChanged { launch: self.seat.launch, scope, tools });
        }
        if refuses { Err(EndReason::DefinitionChanged) } else { Ok(()) }
    }

    /// Secrets were masked in what an instance said.
    pub(super) fn leaked(&mut self, instance: u32, count: u64) -> Result<(), EndReason> {
        let Some(scope) = self.instances.scope_of(instance).cloned() else { return Ok(()) };
        if self.told.reports() {
            let launch = self.seat.launch;
            self.sessions.audit.note(Event::SecretsMasked { launch, instance, scope, count });
        }
        match self.asked.server.on_leak {
            OnLeak::Mask => Ok(()),
            OnLeak::End => Err(EndReason::SecretLeaked),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a name that is none must fail the test")]
mod tests {
    use super::*;

    fn changed(scope: &str, tools: &[(&str, Change)]) -> Changed {
        let tools = tools.iter().map(|(tool, change)| ((*tool).to_owned(), *change)).collect();
        Changed { scope: scope.parse().unwrap(), tools }
    }

    #[test]
    fn only_news_are_told() {
        let mut told = Told::default();
        let (read, write) = ("read".parse().unwrap(), "write".parse().unwrap());
        assert!(!told.replace(changed("read", &[])));
        assert!(told.replace(changed("read", &[("a", Change::Added)])));
        assert!(!told.replace(changed("read", &[("a", Change::Added)])));
        assert!(told.replace(changed("read", &[("a", Change::Altered)])));
        assert!(told.replace(changed("write", &[("a", Change::Added), ("b", Change::Missing)])));
        assert!(told.is_changed(&read, "a") && told.is_changed(&write, "b") && !told.is_changed(&read, "b"));
        assert_eq!(told.shown().len(), 2);
        assert!(told.replace(changed("write", &[])));
        assert!(!told.is_changed(&write, "a"));
    }

    #[test]
    fn bounds() {
        let mut told = Told::default();
        let tools: Vec<_> = (0..MAX_CHANGED * 2).map(|number| number.to_string()).collect();
        let tools: Vec<_> = tools.iter().map(|tool| (tool.as_str(), Change::Added)).collect();
        assert!(told.replace(changed("read", &tools)));
        assert_eq!(told.changed.values().next().unwrap().len(), MAX_CHANGED);
        assert!(told.replace(changed("read", &[("a\n", Change::Added)])), "what was told is gone");
        assert!(told.changed.is_empty(), "what is no name is not kept");
        let written = (0..MAX_REPORTS * 2).filter(|_| told.reports()).count();
        assert_eq!(written, MAX_REPORTS as usize);
    }
}
