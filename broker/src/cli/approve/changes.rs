//! What an approval would change: what the server shows now against what was approved, thing by thing, by the keys
//! in which they differ.

use std::collections::{BTreeMap, BTreeSet};

use mcp_broker_proto::names::Label;
use mcp_broker_proto::plan::Record;
use serde_json::Value;

/// Something that a server shows: where, what kind of thing, and its name. The first scope's discovery has none.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Thing {
    pub(super) scope: Option<Label>,
    pub(super) what: &'static str,
    pub(super) name: String,
}

/// The values of a thing's keys, of all kinds of clients.
pub(super) type Keys = BTreeMap<String, BTreeSet<String>>;

/// Everything in a record.
pub(super) type Things = BTreeMap<Thing, Keys>;

/// What became of a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Became {
    /// It was not there.
    Added,
    /// It is not there any more.
    Missing,
    /// These keys are others now: the values before and now.
    Altered(BTreeMap<String, (String, String)>),
}

/// Takes a record apart.
pub(super) fn things(record: &Record) -> Things {
    let mut things = Things::new();
    let mut note = |scope: Option<&Label>, what: &'static str, key: Option<&str>, place: usize| {
        let item = record.item(place).and_then(|text| serde_json::from_str::<Value>(text).ok());
        let Some(Value::Object(item)) = item else { return };
        let name = key.and_then(|key| item.get(key)).and_then(Value::as_str).unwrap_or_default().to_owned();
        let keys = things.entry(Thing { scope: scope.cloned(), what, name }).or_default();
        for (key, value) in item {
            keys.entry(key).or_default().insert(value.to_string());
        }
    };
    for variant in &record.variants {
        note(None, "discovery", None, variant.discovery);
        for (scope, lists) in &variant.scopes {
            for (what, key, list) in [
                ("tool", "name", &lists.tools),
                ("resource", "uri", &lists.resources),
                ("resource template", "uriTemplate", &lists.templates),
                ("prompt", "name", &lists.prompts),
            ] {
                list.iter().flatten().for_each(|place| note(Some(scope), what, Some(key), *place));
            }
        }
    }
    things
}

/// What became of each thing that is not what it was.
pub(super) fn changes(before: &Things, now: &Things) -> BTreeMap<Thing, Became> {
    let mut changes = BTreeMap::new();
    for (thing, keys) in now {
        match before.get(thing) {
            None => drop(changes.insert(thing.clone(), Became::Added)),
            Some(was) if was != keys => {
                drop(changes.insert(thing.clone(), Became::Altered(altered(was, keys))))
            }
            Some(_) => {}
        }
    }
    let gone = before.keys().filter(|thing| !now.contains_key(thing));
    changes.extend(gone.map(|thing| (thing.clone(), Became::Missing)));
    changes
}

fn altered(before: &Keys, now: &Keys) -> BTreeMap<String, (String, String)> {
    let keys: BTreeSet<_> = before.keys().chain(now.keys()).collect();
    let text = |keys: &Keys, key: &String| {
        let values = keys.get(key).map(|values| values.iter().cloned().collect::<Vec<_>>());
        values.map_or_else(|| "nothing".to_owned(), |values| values.join(" or "))
    };
    let differing = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
    differing.map(|key| (key.clone(), (text(before, key), text(now, key)))).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]
mod tests {
    use mcp_broker_proto::plan::{Lists, Variant};

    use super::*;

    fn record(tools: &[&str]) -> Record {
        let mut items = vec![r#"{"instructions":"be nice"}"#.to_owned()];
        items.extend(tools.iter().map(|tool| (*tool).to_owned()));
        let lists = Lists { tools: Some((1..items.len()).collect()), ..Lists::default() };
        let variant = Variant {
            revision: "2025-11-25".to_owned(),
            capable: false,
            discovery: 0,
            scopes: [("all".parse().unwrap(), lists)].into(),
        };
        Record { approved_at: String::new(), items, variants: vec![variant] }
    }

    #[test]
    fn what_became_of_each() {
        let before = things(&record(&[
            r#"{"description":"x","name":"a"}"#,
            r#"{"name":"gone"}"#,
            r#"{"name":"same"}"#,
        ]));
        let now = things(&record(&[
            r#"{"annotations":{},"description":"y","name":"a"}"#,
            r#"{"name":"new"}"#,
            r#"{"name":"same"}"#,
        ]));
        assert_eq!(changes(&before, &before), BTreeMap::new());
        let changes = changes(&before, &now);
        let of = |name: &str| {
            let thing = Thing { scope: Some("all".parse().unwrap()), what: "tool", name: name.to_owned() };
            changes.get(&thing).cloned()
        };
        assert_eq!((of("new"), of("gone"), of("same")), (Some(Became::Added), Some(Became::Missing), None));
        let Some(Became::Altered(keys)) = of("a") else { unreachable!("it was altered") };
        assert_eq!(keys["description"], ("\"x\"".to_owned(), "\"y\"".to_owned()));
        assert_eq!(keys["annotations"], ("nothing".to_owned(), "{}".to_owned()));
        assert_eq!(keys.len(), 2);
    }
}
