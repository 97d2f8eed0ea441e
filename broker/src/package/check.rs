//! Checks a record before it is kept, and again when it is read: after that its places can be followed and its
//! texts are what they are taken for. Whether the server showed the truth is not for this file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mcp_broker_proto::MAX_RECORD;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::plan::{Lists, Record, Variant};
use serde_json::Value;

use super::digest::{canonical, tool_digest};

/// Digests of tools by scope and name. More than one where clients of several kinds are shown several ones.
pub type ToolDigests = BTreeMap<Label, BTreeMap<String, Vec<String>>>;

/// The most kinds of clients that a record distinguishes.
const MAX_VARIANTS: usize = 32;

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// It is longer than [`MAX_RECORD`].
    #[error("it is longer than {MAX_RECORD} bytes")]
    TooLong,
    /// The time in it is none.
    #[error("its time cannot be read")]
    Time,
    /// It says nothing, or too much.
    #[error("it has {0} variants")]
    Variants(usize),
    /// Two variants are for the same clients.
    #[error("it has two variants for revision {0}")]
    Twice(String),
    /// An item is no JSON object.
    #[error("item {0} is no JSON object")]
    NoObject(usize),
    /// A tool is not in its canonical form.
    #[error("item {0} is not in its canonical form")]
    NotCanonical(usize),
    /// A place is outside the list of items.
    #[error("it names item {0}, which it does not have")]
    NoItem(usize),
    /// What a list names has no name, or no URI.
    #[error("item {0} has no `{1}`")]
    Nameless(usize, &'static str),
    /// A list names two things alike.
    #[error("a list of scope `{0}` has `{1}` twice")]
    Alike(Label, String),
    /// Its scopes are not those of the definition.
    #[error("it is about other scopes than the definition has")]
    Scopes,
}

/// A record whose every place and text was looked at.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) record: Arc<Record>,
    pub(super) tools: ToolDigests,
}

impl Checked {
    /// Looks at a whole record that is about `scopes`.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub(super) fn new(record: Record, scopes: &BTreeSet<Label>) -> Result<Self, Flaw> {
        // Serialising these types into memory cannot fail.
        if serde_json::to_vec(&record).map_or(usize::MAX, |bytes| bytes.len()) > MAX_RECORD {
            return Err(Flaw::TooLong);
        }
        if record.approved_at.parse::<jiff::Timestamp>().is_err() {
            return Err(Flaw::Time);
        }
        if record.variants.is_empty() || record.variants.len() > MAX_VARIANTS {
            return Err(Flaw::Variants(record.variants.len()));
        }
        let items = Items::parse(&record.items)?;
        let mut seen = BTreeSet::new();
        let mut tools = ToolDigests::new();
        for variant in &record.variants {
            if !seen.insert((variant.revision.as_str(), variant.capable)) {
                return Err(Flaw::Twice(variant.revision.clone()));
            }
            items.variant(variant, scopes, &mut tools)?;
        }
        Ok(Self { record: Arc::new(record), tools })
    }
}

struct Items<'a> {
    texts: &'a [String],
    values: Vec<Value>,
}

impl<'a> Items<'a> {
    fn parse(texts: &'a [String]) -> Result<Self, Flaw> {
        let value = |(place, text): (usize, &String)| {
            let value = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
            value.ok_or(Flaw::NoObject(place))
        };
        Ok(Self { texts, values: texts.iter().enumerate().map(value).collect::<Result<_, _>>()? })
    }

    fn variant(
        &self,
        variant: &Variant,
        scopes: &BTreeSet<Label>,
        tools: &mut ToolDigests,
    ) -> Result<(), Flaw> {
        if variant.discovery >= self.values.len() {
            return Err(Flaw::NoItem(variant.discovery));
        }
        if !variant.scopes.keys().eq(scopes) {
            return Err(Flaw::Scopes);
        }
        for (scope, Lists { tools: shown, resources, templates, prompts }) in &variant.scopes {
            for (name, digest) in self.tools(scope, shown.as_deref().unwrap_or_default())? {
                let digests = tools.entry(scope.clone()).or_default().entry(name).or_default();
                if !digests.contains(&digest) {
                    digests.push(digest);
                }
            }
            for (list, key) in [(resources, "uri"), (templates, "uriTemplate"), (prompts, "name")] {
                self.names(scope, list.as_deref().unwrap_or_default(), key)?;
            }
        }
        Ok(())
    }

    fn tools(&self, scope: &Label, places: &[usize]) -> Result<Vec<(String, String)>, Flaw> {
        let names = self.names(scope, places, "name")?;
        let mut found = Vec::new();
        for (name, place) in names.into_iter().zip(places) {
            let (Some(text), Some(value)) = (self.texts.get(*place), self.values.get(*place)) else {
                return Err(Flaw::NoItem(*place));
            };
            if canonical(value) != *text {
                return Err(Flaw::NotCanonical(*place));
            }
            found.push((name.to_owned(), tool_digest(text)));
        }
        Ok(found)
    }

    /// The names in the order of the list, each once.
    fn names(&self, scope: &Label, places: &[usize], key: &'static str) -> Result<Vec<&str>, Flaw> {
        let mut seen = BTreeSet::new();
        let mut names = Vec::new();
        for place in places {
            let value = self.values.get(*place).ok_or(Flaw::NoItem(*place))?;
            let name = value.get(key).and_then(Value::as_str).ok_or(Flaw::Nameless(*place, key))?;
            if !seen.insert(name) {
                return Err(Flaw::Alike(scope.clone(), name.to_owned()));
            }
            names.push(name);
        }
        Ok(names)
    }
}
