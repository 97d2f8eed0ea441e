//! What the approval record answers in place of a server, so that nothing has to be started for it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use mcp_broker_proto::names::Label;
use mcp_broker_proto::plan::{Lists, Plan, Record, Variant};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::list::MAX_TTL_MS;
use super::{Client, Filter, Lane, List, refusal};
use crate::proxy::message::{Kind, Message, Method};

/// What names an item of the record, as an element of any list.
#[derive(Debug, Default)]
pub(super) struct Named {
    pub(super) name: Option<Box<str>>,
    pub(super) uri: Option<Box<str>>,
    pub(super) template: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    uri: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "uriTemplate")]
    template: Option<Cow<'a, str>>,
}

/// What names the items of a plan's record, by place.
pub(super) fn names(plan: &Plan) -> Vec<Named> {
    let items = plan.record.iter().flat_map(|record| record.items.iter());
    let owned = |text: Option<Cow<'_, str>>| text.map(|text| text.as_ref().into());
    let named = |item: Item<'_>| Named {
        name: owned(item.name),
        uri: owned(item.uri),
        template: owned(item.template),
    };
    // Results of discovery are items too, and have no name.
    items.map(|item| serde_json::from_str(item).map_or_else(|_| Named::default(), named)).collect()
}

/// The tools that a scope's instances listed when the server was approved, to any client.
pub(super) fn tools_of(record: &Record, scope: &Label, names: &[Named]) -> BTreeSet<Box<str>> {
    let lists = record.variants.iter().filter_map(|variant| variant.scopes.get(scope));
    let places = lists.flat_map(|lists| lists.tools.iter().flatten());
    places.filter_map(|place| names.get(*place)?.name.clone()).collect()
}

impl Filter {
    /// The answer to discovery or to a list, as a line; nothing where the record does not know it and a server has
    /// to be asked. `client` is what `initialize` has shown before; a request of the stateless era shows its own.
    #[must_use]
    pub fn recorded(&self, message: &Message<'_>, client: Option<&Client>) -> Option<String> {
        let Kind::Request(id) = message.kind else { return None };
        let own = Client::of(message);
        let opens = matches!(message.method, Method::Initialize | Method::Discover);
        let client = own.as_ref().or(client.filter(|client| !opens && !client.stateless))?;
        let variant = self.variant(client)?;
        let line = match List::of(message.method) {
            Some(_) if message.params.cursor.is_some_and(|cursor| cursor != "null") => {
                refusal::unknown_cursor(id)
            }
            Some(list) => self.union(id, list, variant, client.stateless)?,
            None if opens => {
                let result = self.plan.record.as_ref()?.item(variant.discovery)?;
                let result = if client.stateless { private(result)? } else { result.to_owned() };
                format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
            }
            None => return None,
        };
        // In JSON they are white space, if an item has some; on the wire they end a message.
        let one = memchr::memchr2(b'\n', b'\r', line.as_bytes()).is_none();
        Some(if one { line } else { line.replace(['\n', '\r'], " ") })
    }

    /// The variant that was recorded for such a client. One that offers some of what a client can offer is none of
    /// those that were tried, and is answered only where offering makes no difference.
    fn variant(&self, client: &Client) -> Option<&Variant> {
        let variants = &self.plan.record.as_ref()?.variants;
        let of =
            |capable| variants.iter().find(|one| *one.revision == *client.revision && one.capable == capable);
        match (client.offers.all(), client.offers.none()) {
            (true, _) => of(true),
            (_, true) => of(false),
            _ => of(true).zip(of(false)).and_then(|(one, other)| {
                (one.discovery == other.discovery && one.scopes == other.scopes).then_some(one)
            }),
        }
    }

    /// What all scopes list, in their order, each element only by its own scope, on one page.
    fn union(&self, id: &str, list: List, variant: &Variant, stateless: bool) -> Option<String> {
        let record = self.plan.record.as_ref()?;
        let (mut elements, mut names, mut answers) = (Vec::new(), BTreeSet::new(), false);
        for (lane, scope) in self.plan.scopes.iter().enumerate() {
            let Some(places) = places(variant.scopes.get(&scope.name)?, list) else { continue };
            answers = true;
            for place in places {
                let name = self.names.get(*place).and_then(|named| of(named, list))?;
                if self.lists(list, name) == Some(lane) && names.insert(name) {
                    elements.push(record.item(*place)?);
                }
            }
        }
        if !answers {
            return Some(refusal::unknown_method(id));
        }
        let (member, elements) = (list.member(), elements.join(","));
        let era = match stateless {
            true => format!(r#","resultType":"complete","ttlMs":{MAX_TTL_MS},"cacheScope":"private""#),
            false => String::new(),
        };
        Some(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"{member}":[{elements}]{era}}}}}"#))
    }

    /// The lane that an element of this name is listed for.
    pub(super) fn lists(&self, list: List, name: &str) -> Option<Lane> {
        match list {
            List::Tools => self.tool(name),
            List::Prompts => self.prompt(name),
            List::Resources => self.resource(name),
            List::Templates => self.template(name),
        }
    }
}

fn places(lists: &Lists, list: List) -> Option<&Vec<usize>> {
    match list {
        List::Tools => lists.tools.as_ref(),
        List::Prompts => lists.prompts.as_ref(),
        List::Resources => lists.resources.as_ref(),
        List::Templates => lists.templates.as_ref(),
    }
}

fn of(named: &Named, list: List) -> Option<&str> {
    match list {
        List::Tools | List::Prompts => named.name.as_deref(),
        List::Resources => named.uri.as_deref(),
        List::Templates => named.template.as_deref(),
    }
}

/// A recorded result of `server/discover` under the rules of its era, for this person alone.
fn private(result: &str) -> Option<String> {
    let mut result: Map<String, Value> = serde_json::from_str(result).ok()?;
    result.entry("resultType").or_insert_with(|| "complete".into());
    let ttl = result.get("ttlMs").and_then(Value::as_u64).map_or(MAX_TTL_MS, |ttl| ttl.min(MAX_TTL_MS));
    result.insert("ttlMs".into(), ttl.into());
    result.insert("cacheScope".into(), "private".into());
    Some(Value::Object(result).to_string())
}
