//! Names and patterns of all scopes, to find the lane of a name: whole names by one look-up, patterns after them.

use std::collections::BTreeMap;

use mcp_broker_proto::pattern;

use super::Lane;

/// Names of one kind, and whose they are.
pub(super) struct Names {
    exact: BTreeMap<Box<str>, Lane>,
    patterns: Vec<(Box<str>, Lane)>,
}

impl Names {
    /// Of the lanes in their order. Where two name the same, the first has it.
    pub(super) fn new<'p>(lanes: impl Iterator<Item = &'p [String]>) -> Self {
        let (mut exact, mut patterns) = (BTreeMap::new(), Vec::new());
        for (lane, names) in lanes.enumerate() {
            for name in names {
                if name.contains('*') {
                    patterns.push((name.as_str().into(), lane));
                } else if pattern::matches(name, name) {
                    // What no pattern may match is no name either.
                    exact.entry(name.as_str().into()).or_insert(lane);
                }
            }
        }
        Self { exact, patterns }
    }

    /// Whose a name is.
    pub(super) fn lane(&self, name: &str) -> Option<Lane> {
        let by_pattern = || self.patterns.iter().find(|(pattern, _)| pattern::matches(pattern, name));
        self.exact.get(name).copied().or_else(|| by_pattern().map(|(_, lane)| *lane))
    }
    /// Every pattern with its lane, whole names first.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&str, Lane)> {
        let exact = self.exact.iter().map(|(name, lane)| (name.as_ref(), *lane));
        exact.chain(self.patterns.iter().map(|(pattern, lane)| (pattern.as_ref(), *lane)))
    }
}
