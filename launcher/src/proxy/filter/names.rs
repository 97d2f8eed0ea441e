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
    /// Whether it is one of the whole names.
    pub(super) fn is_exact(&self, name: &str) -> bool {
        self.exact.contains_key(name)
    }

    /// Every pattern with its lane, whole names first.
    pub(super) fn patterns(&self) -> impl Iterator<Item = (&str, Lane)> {
        let exact = self.exact.iter().map(|(name, lane)| (name.as_ref(), *lane));
        exact.chain(self.patterns.iter().map(|(pattern, lane)| (pattern.as_ref(), *lane)))
    }
}

/// Whether a URI has a segment that leads upwards (RFC 3986 section 5.2.4), also percent-encoded, more than once, or
/// between backslashes.
pub(super) fn climbs(uri: &str) -> bool {
    let mut text = uri.to_ascii_lowercase();
    while let Some(at) = text.find("%25") {
        text.replace_range(at..at + 3, "%");
    }
    let text = text.replace("%2e", ".").replace("%2f", "/").replace("%5c", "/").replace('\\', "/");
    text.split(['/', '?', '#']).any(|segment| segment == "..")
}

#[cfg(test)]
mod tests {
    use super::climbs;

    #[test]
    fn what_leads_upwards() {
        for up in ["file:///a/../b", "file:///a/%2e%2E/b", "f:/a/..", "a/%252e%252e/b", "a\\..\\b", "a/..?x"]
        {
            assert!(climbs(up), "{up}");
        }
        for straight in ["file:///a/b", "note://..x", "a/.b/c..", "a...b", "%2e"] {
            assert!(!climbs(straight), "{straight}");
        }
    }
}
