//! The parameters of a message as far as the relay decides by them: each as it stands in the line. Whatever
//! else is there is only checked.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::keys::{Key, Place, Seen};

/// The parameters by which the relay decides, as raw JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    /// `name`: the tool of a call, the prompt.
    pub name: Option<&'a str>,
    /// `arguments` of a call or a prompt. No name stands twice at their top level.
    pub arguments: Option<&'a str>,
    /// `requestId` of a cancellation.
    pub request_id: Option<&'a str>,
    /// `uri` of a resource.
    pub uri: Option<&'a str>,
    /// What a completion is about.
    pub reference: Reference<'a>,
    /// `cursor` of a list.
    pub cursor: Option<&'a str>,
    /// `protocolVersion` of `initialize`.
    pub revision: Option<&'a str>,
    /// `capabilities` of `initialize`.
    pub capabilities: Option<&'a str>,
    /// What the client of a request of the stateless era can do.
    pub client_capabilities: Option<&'a str>,
    /// What a listen request asks to be told.
    pub notifications: Option<&'a str>,
    /// The revision of a request of the stateless era.
    pub version: Option<&'a str>,
    /// The listen request that a notification belongs to.
    pub subscription: Option<&'a str>,
    /// `taskId` of a request about a task.
    pub task: Option<&'a str>,
    /// `progressToken`: what a request wants to be told its progress under, or the progress that is told.
    pub token: Option<&'a str>,
}

impl<'a> Params<'a> {
    /// Takes over what stands in `_meta`.
    pub(super) fn of_meta(&mut self, meta: &Self) {
        (self.version, self.subscription) = (meta.version, meta.subscription);
        self.client_capabilities = meta.client_capabilities;
        self.token = self.token.or(meta.token);
    }
}

/// `ref` of a completion, as raw JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reference<'a> {
    /// Its `type`: `ref/prompt` or `ref/resource`.
    pub kind: Option<&'a str>,
    /// The prompt.
    pub name: Option<&'a str>,
    /// The resource, or the template of resources.
    pub uri: Option<&'a str>,
}

/// What a JSON string says; nothing where it is none, or no text (a lone surrogate).
#[must_use]
pub fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    // Names are short: a searcher would cost more than it saves.
    if !inner.bytes().any(|byte| byte == b'\\') {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str(raw).ok().map(Cow::Owned)
}

/// The members of an object in their order, by the text of their names; nothing where it is no object, a name stands
/// there twice, or one of those that count (ASCII) stands there in another case.
#[must_use]
pub fn members<'a>(
    object: &'a str,
    counting: &'static [&'static str],
) -> Option<Vec<(Cow<'a, str>, &'a str)>> {
    struct Object(&'static [&'static str]);
    impl<'a> Visitor<'a> for Object {
        type Value = Vec<(Cow<'a, str>, &'a str)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let (mut seen, mut members) = (Seen::new(self.0), Vec::new());
            while let Some(name) = seen.name(&mut map)? {
                members.push((name, map.next_value::<&'a RawValue>()?.get()));
            }
            Ok(members)
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(Object(counting)).ok()
}

/// Reads `params`, or an object of them; what is no object has no members.
pub(super) struct Members<'p, 'a> {
    /// What is being read.
    pub(super) line: &'a str,
    pub(super) place: Place,
    /// Where the parameters are put that are found.
    pub(super) into: &'p mut Params<'a>,
}

impl<'a> DeserializeSeed<'a> for Members<'_, 'a> {
    type Value = ();

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for Members<'_, 'a> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { line, place, into } = self;
        let mut seen = Seen::new(place.names());
        while let Some((key, name)) = seen.next(&mut map)? {
            match (place, key) {
                (Place::Params, Key::Meta) => {
                    let mut meta = Params::default();
                    map.next_value_seed(Members { line, place: Place::Meta, into: &mut meta })?;
                    into.of_meta(&meta);
                }
                (Place::Params, Key::Ref) => {
                    map.next_value_seed(Members { line, place: Place::Reference, into })?;
                }
                (Place::Params, Key::Arguments) => into.arguments = Some(arguments(&mut map, line, name)?),
                (place, key) => match field(into, place, key) {
                    Some(field) => *field = Some(map.next_value::<&'a RawValue>()?.get()),
                    None => drop(map.next_value::<IgnoredAny>()?),
                },
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

/// Where a value belongs that is kept as it stands there.
pub(super) fn field<'p, 'a>(
    params: &'p mut Params<'a>,
    place: Place,
    key: Key,
) -> Option<&'p mut Option<&'a str>> {
    match (place, key) {
        (Place::Params, Key::Name) => Some(&mut params.name),
        (Place::Params, Key::RequestId) => Some(&mut params.request_id),
        (Place::Params, Key::Uri) => Some(&mut params.uri),
        (Place::Params, Key::Cursor) => Some(&mut params.cursor),
        (Place::Params, Key::Revision) => Some(&mut params.revision),
        (Place::Params, Key::Capabilities) => Some(&mut params.capabilities),
        (Place::Meta, Key::ClientCapabilities) => Some(&mut params.client_capabilities),
        (Place::Params, Key::Notifications) => Some(&mut params.notifications),
        (Place::Params, Key::Task) => Some(&mut params.task),
        (Place::Params | Place::Meta, Key::Token) => Some(&mut params.token),
        (Place::Meta, Key::Version) => Some(&mut params.version),
        (Place::Meta, Key::Subscription) => Some(&mut params.subscription),
        (Place::Reference, Key::Type) => Some(&mut params.reference.kind),
        (Place::Reference, Key::Name) => Some(&mut params.reference.name),
        (Place::Reference, Key::Uri) => Some(&mut params.reference.uri),
        _ => None,
    }
}

/// The value of `arguments` as it stands there, with its names looked at. It may be as long as the line, so it is
/// read once: where it begins is seen from the name before it, where it ends from its last value.
fn arguments<'a, A: MapAccess<'a>>(
    map: &mut A,
    line: &'a str,
    name: Option<&'a str>,
) -> Result<&'a str, A::Error> {
    if let Some(start) = name.and_then(|name| object_after(line, name)) {
        let end = map.next_value_seed(Arguments { line, start })?;
        return line.get(start..end).ok_or_else(|| A::Error::custom("arguments that end nowhere"));
    }
    // No object, or a name with escapes.
    let raw = map.next_value::<&'a RawValue>()?.get();
    if raw.starts_with('{') {
        let mut again = serde_json::Deserializer::from_str(raw);
        Arguments { line: raw, start: 0 }.deserialize(&mut again).map_err(A::Error::custom)?;
    }
    Ok(raw)
}

/// Where the object begins that is the value of a member, by the text of its name.
fn object_after(line: &str, name: &str) -> Option<usize> {
    let after = place(line, name)? + name.len();
    let colon = trimmed(line.get(after..)?.strip_prefix('"')?).strip_prefix(':')?;
    let value = trimmed(colon);
    value.starts_with('{').then(|| line.len() - value.len())
}

/// Where a part of a line begins in it.
#[must_use]
pub fn place(line: &str, part: &str) -> Option<usize> {
    let at = (part.as_ptr() as usize).checked_sub(line.as_ptr() as usize)?;
    (at.checked_add(part.len())? <= line.len()).then_some(at)
}

/// Without the white space that JSON has (RFC 8259 section 2) at its beginning.
#[must_use]
pub fn trimmed(text: &str) -> &str {
    let blank = |byte: u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let first = text.bytes().position(|byte| !blank(byte)).unwrap_or(text.len());
    text.get(first..).unwrap_or_default()
}

/// Reads an object that begins at `start`, and answers where it ends.
struct Arguments<'a> {
    line: &'a str,
    start: usize,
}

impl<'a> DeserializeSeed<'a> for Arguments<'a> {
    type Value = usize;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<usize, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'a> Visitor<'a> for Arguments<'a> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<usize, A::Error> {
        let mut seen = Seen::new(Place::Arguments.names());
        let mut end = self.start + 1;
        while seen.next(&mut map)?.is_some() {
            let value = map.next_value::<&'a RawValue>()?.get();
            end = place(self.line, value).unwrap_or_default() + value.len();
        }
        let rest = self.line.get(end..).map(trimmed);
        let closes = rest.is_some_and(|rest| rest.starts_with('}'));
        let rest = rest.filter(|_| closes).ok_or_else(|| A::Error::custom("arguments that end nowhere"))?;
        Ok(self.line.len() - rest.len() + 1)
    }
}
