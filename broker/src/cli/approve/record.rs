//! Makes the record of what a trial found: each text once, tools in the form in which launches compare them.

use std::collections::BTreeMap;

use mcp_broker_proto::MAX_RECORD;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::plan::{Lists, Record, Variant};
use serde_json::Value;

use super::look::Shown;
use super::scope::{ByKind, Wrong};
use crate::config::ServerDefinition;
use crate::package::canonical;

/// Texts by their places, each once.
#[derive(Default)]
struct Items {
    texts: Vec<String>,
    places: BTreeMap<String, usize>,
}

impl Items {
    fn place(&mut self, value: &Value) -> usize {
        let text = canonical(value);
        if let Some(place) = self.places.get(&text) {
            return *place;
        }
        let place = self.texts.len();
        self.places.insert(text.clone(), place);
        self.texts.push(text);
        place
    }

    fn lists(&mut self, shown: &Shown) -> Lists {
        let mut list = |entries: &Option<Vec<Value>>| {
            entries.as_ref().map(|entries| entries.iter().map(|entry| self.place(entry)).collect())
        };
        Lists {
            tools: list(&shown.tools),
            resources: list(&shown.resources),
            templates: list(&shown.templates),
            prompts: list(&shown.prompts),
        }
    }
}

/// The record, of kinds of clients that every scope of the server takes.
///
/// # Errors
/// Where scopes disagree on that, an entry is no object, or it is too long.
pub(super) fn record(
    server: &ServerDefinition,
    scopes: &BTreeMap<Label, ByKind>,
    now: String,
) -> Result<Record, Wrong> {
    let mut items = Items::default();
    let mut variants = Vec::new();
    let first = server.scopes.first().and_then(|scope| scopes.get(&scope.name));
    for (kind, shown) in first.into_iter().flatten() {
        let mut lists = BTreeMap::new();
        for (name, by_kind) in scopes {
            let Some(shown) = by_kind.get(kind) else {
                return Err(uneven(server, name, kind.revision));
            };
            lists.insert(name.clone(), items.lists(shown));
        }
        variants.push(Variant {
            revision: kind.revision.to_owned(),
            capable: kind.capable,
            discovery: items.place(&shown.discovery),
            scopes: lists,
        });
    }
    if let Some((name, by_kind)) = scopes.iter().find(|(_, by_kind)| by_kind.len() != variants.len()) {
        let extra = by_kind.keys().next_back().map_or("", |kind| kind.revision);
        return Err(uneven(server, name, extra));
    }
    let record = Record { approved_at: now, items: items.texts, variants };
    let length = serde_json::to_vec(&record).map_or(usize::MAX, |bytes| bytes.len());
    if length > MAX_RECORD {
        return Err(Wrong {
            what: format!(
                "what server `{}` shows takes {length} bytes, and at most {MAX_RECORD} can be kept",
                server.name
            ),
            hint: "name fewer tools, resources and prompts in its scopes".to_owned(),
        });
    }
    Ok(record)
}

fn uneven(server: &ServerDefinition, scope: &Label, revision: &str) -> Wrong {
    Wrong {
        what: format!(
            "server `{}` takes clients of revision {revision} in some scopes only, not in `{scope}` alike",
            server.name
        ),
        hint: "run it again; a server that changes with its credential cannot be pinned".to_owned(),
    }
}
