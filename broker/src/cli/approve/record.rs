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

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]
mod tests {
    use serde_json::json;

    use super::super::talk::Kind;
    use super::*;
    use crate::config::plain::server;

    fn shown(tools: Value) -> Shown {
        let tools = Some(tools.as_array().unwrap().clone());
        Shown { discovery: json!({}), tools, resources: None, templates: Some(Vec::new()), prompts: None }
    }

    const OLD: Kind = Kind { revision: "2025-06-18", capable: false };
    const NEW: Kind = Kind { revision: "2025-11-25", capable: true };

    #[test]
    fn each_text_is_kept_once() {
        let tool: Value = serde_json::from_str(r#"{"name":"a","inputSchema":{}}"#).unwrap();
        let kinds: ByKind =
            [(OLD, shown(json!([tool]))), (NEW, shown(json!([tool, { "name": "b" }])))].into();
        let scopes = BTreeMap::from([("all".parse().unwrap(), kinds)]);
        let record = record(&server("x"), &scopes, String::new()).ok().unwrap();
        assert_eq!(record.items.len(), 3);
        let lists = &record.variants[1].scopes[&"all".parse().unwrap()];
        let names = lists.tools.as_ref().unwrap().iter().map(|place| record.item(*place).unwrap());
        assert_eq!(names.collect::<Vec<_>>(), [r#"{"inputSchema":{},"name":"a"}"#, r#"{"name":"b"}"#]);
        assert_eq!((lists.resources.clone(), lists.templates.clone()), (None, Some(Vec::new())));
        assert_eq!((record.variants[0].revision.as_str(), record.variants[1].capable), ("2025-06-18", true));
    }

    #[test]
    fn scopes_that_take_other_clients_cannot_be_recorded() {
        let mut server = server("x");
        let second = crate::config::Scope { name: "b".parse().unwrap(), ..server.scopes[0].clone() };
        server.scopes.push(second);
        let one: ByKind = [(OLD, shown(json!([])))].into();
        let two: ByKind = [(OLD, shown(json!([]))), (NEW, shown(json!([])))].into();
        for (a, b) in [(&one, &two), (&two, &one)] {
            let scopes =
                BTreeMap::from([("all".parse().unwrap(), a.clone()), ("b".parse().unwrap(), b.clone())]);
            let wrong = record(&server, &scopes, String::new()).err().unwrap();
            assert!(wrong.what.contains("2025-11-25"), "{}", wrong.what);
        }
    }

    #[test]
    fn what_is_too_long_says_what_to_do() {
        let long = json!([{ "name": "a", "description": "x".repeat(MAX_RECORD) }]);
        let scopes = BTreeMap::from([("all".parse().unwrap(), ByKind::from([(OLD, shown(long))]))]);
        let wrong = record(&server("x"), &scopes, String::new()).err().unwrap();
        assert!(wrong.hint.contains("fewer"), "{}", wrong.hint);
    }
}
