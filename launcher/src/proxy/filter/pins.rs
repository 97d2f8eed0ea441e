//! Whether an instance shows the tools that were approved: each definition as canonical text, compared with the
//! record of its scope.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;

use mcp_broker_proto::MAX_CHANGED;
use mcp_broker_proto::call::{Change, Changed};
use mcp_broker_proto::plan::{Record, Variant};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::{Client, Filter, Lane, Tool};

/// The longest name of a tool that the broker is told, in bytes.
const MAX_NAME: usize = 256;

/// The canonical text of a tool's definition: its members sorted, one spelling of each value. Nothing where it is no
/// JSON, names a member twice anywhere, or is nested deeper than 127 levels.
#[must_use]
pub fn canonical(definition: &str) -> Option<String> {
    serde_json::from_str::<Strict>(definition).ok().map(|Strict(value)| value.to_string())
}

/// The tools that were approved, by lane and name: their places in the record. Made when it is needed, as most
/// launches only show the record.
pub(super) struct Pins<'f> {
    record: &'f Record,
    /// The canonical texts of those that were looked at, by place: a list may name one tool many times.
    texts: RefCell<BTreeMap<usize, Option<Rc<str>>>>,
    lanes: Vec<BTreeMap<&'f str, BTreeSet<usize>>>,
}

impl Pins<'_> {
    /// Whether this definition of a tool was approved.
    pub(super) fn has(&self, lane: Lane, name: &str, definition: &str) -> bool {
        let Some(shown) = canonical(definition) else { return false };
        let mut places = self.of(lane, name).into_iter().flatten();
        places.any(|place| self.text(*place).is_some_and(|approved| *approved == *shown))
    }

    fn text(&self, place: usize) -> Option<Rc<str>> {
        let make = || self.record.item(place).and_then(canonical).map(Rc::from);
        self.texts.borrow_mut().entry(place).or_insert_with(make).clone()
    }

    fn of(&self, lane: Lane, name: &str) -> Option<&BTreeSet<usize>> {
        self.lanes.get(lane)?.get(name)
    }
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
        let changed = self.compared(lane, &tools, client);
        let Some(shown) = self.shown.get_mut(lane) else { return &NONE };
        shown.tools = Some(tools);
        shown.changed = changed;
        &shown.changed
    }

    /// No instance of a lane is there, nor on its way: what the last one listed is listed no more, though it can be
    /// called, which starts another. With a record nothing changes: what is listed is in there, and what is hidden
    /// stays hidden.
    pub fn gone(&mut self, lane: Lane) {
        let recorded = self.plan.record.is_some();
        self.shown.get_mut(lane).filter(|_| !recorded).into_iter().for_each(|shown| shown.tools = None);
    }

    /// Whether an instance of a lane has listed its tools, and is not gone.
    #[must_use]
    pub fn has_shown(&self, lane: Lane) -> bool {
        self.shown.get(lane).is_some_and(|shown| shown.tools.is_some())
    }

    /// What the broker is told of a lane: [`Filter::changed`] as far as it fits.
    #[must_use]
    pub fn report(&self, lane: Lane) -> Option<Changed> {
        let (scope, changed) = (self.label(lane)?.clone(), self.changed(lane)?);
        // A name that fits no frame is hidden all the same.
        let named = changed.iter().filter(|(name, _)| name.len() <= MAX_NAME);
        let tools = named.take(MAX_CHANGED).map(|(name, change)| (name.clone(), *change));
        Some(Changed { scope, tools: tools.collect() })
    }

    /// What was approved; nothing where nothing was.
    pub(super) fn pins(&self) -> Option<Pins<'_>> {
        let record = self.plan.record.as_ref()?;
        let lanes = self.plan.scopes.iter().map(|scope| {
            let mut tools: BTreeMap<&str, BTreeSet<usize>> = BTreeMap::new();
            let lists = record.variants.iter().filter_map(|variant| variant.scopes.get(&scope.name));
            for place in lists.flat_map(|lists| lists.tools.iter().flatten()) {
                if let Some(name) = self.names.get(*place).and_then(|named| named.name.as_deref()) {
                    tools.entry(name).or_default().insert(*place);
                }
            }
            tools
        });
        Some(Pins { record, texts: RefCell::default(), lanes: lanes.collect() })
    }

    fn compared(&self, lane: Lane, tools: &[Tool], client: Option<&Client>) -> BTreeMap<String, Change> {
        let Some(pins) = self.pins() else { return BTreeMap::new() };
        let (mut changed, mut listed) = (BTreeMap::new(), BTreeSet::new());
        let ours = |name: &str| self.tools.lane(name) == Some(lane);
        for tool in tools.iter().filter(|tool| ours(&tool.name)) {
            listed.insert(tool.name.as_ref());
            if !pins.has(lane, &tool.name, &tool.text) {
                let change = pins.of(lane, &tool.name).map_or(Change::Added, |_| Change::Altered);
                changed.insert(tool.name.to_string(), change);
            }
        }
        let expected = self.expected(lane, client);
        for name in expected.into_iter().filter(|name| ours(name) && !listed.contains(name)) {
            changed.insert(name.to_owned(), Change::Missing);
        }
        changed
    }

    /// The tools that an instance must show to this client: those that it showed to every kind of client that this
    /// one may be.
    fn expected(&self, lane: Lane, client: Option<&Client>) -> BTreeSet<&str> {
        let (Some(record), Some(label)) = (&self.plan.record, self.label(lane)) else {
            return BTreeSet::new();
        };
        let fits = |variant: &&Variant| {
            client.is_none_or(|client| {
                *variant.revision == *client.revision
                    && if variant.capable { !client.offers.none() } else { !client.offers.all() }
            })
        };
        let names = |variant: &Variant| -> BTreeSet<&str> {
            let places = variant.scopes.get(label).and_then(|lists| lists.tools.as_ref());
            let named = places.into_iter().flatten().filter_map(|place| self.names.get(*place));
            named.filter_map(|named| named.name.as_deref()).collect()
        };
        let all = record.variants.iter().filter(fits).map(names);
        all.reduce(|all, these| &all & &these).unwrap_or_default()
    }
}

/// A value whose objects name each member once.
struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Once.deserialize(deserializer).map(Self)
    }
}

#[derive(Clone, Copy)]
struct Once;

impl<'de> DeserializeSeed<'de> for Once {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Once {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Self)?;
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a name stands there twice"));
            }
        }
        Ok(Value::Object(members))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(Self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Value, E> {
        Ok(number.into())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Value, E> {
        Number::from_f64(number).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}
