//! Names of members: which of them count, and that none stands there twice. Peers disagree on which of two counts,
//! and some read a name whatever its case, so neither is guessed.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

/// Where a request of the stateless era names its revision (MCP 2026-07-28, `_meta`).
pub(super) const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// What its client can do.
pub(super) const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// What the notifications of a `subscriptions/listen` bear.
pub(super) const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

/// The most members of one of the objects that are looked into.
pub const MAX_MEMBERS: usize = 4096;
const TWICE: &str = "a name stands there twice";
/// So many names are kept without an allocation.
const FEW: usize = 6;

/// Names that count somewhere.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    JsonRpc,
    Id,
    Method,
    Params,
    Result,
    Error,
    Name,
    Arguments,
    RequestId,
    Uri,
    Ref,
    Type,
    Cursor,
    Revision,
    Capabilities,
    Notifications,
    Meta,
    Version,
    ClientCapabilities,
    Subscription,
    Token,
    Task,
    Other,
}

impl Key {
    fn of(text: &str) -> Self {
        match text {
            "jsonrpc" => Self::JsonRpc,
            "id" => Self::Id,
            "method" => Self::Method,
            "params" => Self::Params,
            "result" => Self::Result,
            "error" => Self::Error,
            "name" => Self::Name,
            "arguments" => Self::Arguments,
            "requestId" => Self::RequestId,
            "uri" => Self::Uri,
            "ref" => Self::Ref,
            "type" => Self::Type,
            "cursor" => Self::Cursor,
            "protocolVersion" => Self::Revision,
            "capabilities" => Self::Capabilities,
            "notifications" => Self::Notifications,
            "_meta" => Self::Meta,
            VERSION => Self::Version,
            CAPABILITIES => Self::ClientCapabilities,
            SUBSCRIPTION => Self::Subscription,
            "progressToken" => Self::Token,
            "taskId" => Self::Task,
            _ => Self::Other,
        }
    }
}

/// Where an object stands, and so which of its names count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The message itself.
    Message,
    /// Its `params`.
    Params,
    /// `_meta` of these.
    Meta,
    /// `ref` of these.
    Reference,
    /// `arguments` of these: their names are the tool's.
    Arguments,
}

impl Place {
    /// The names that count here.
    pub(super) fn names(self) -> &'static [&'static str] {
        match self {
            Self::Message => &["jsonrpc", "id", "method", "params", "result", "error"],
            Self::Params => &[
                "name",
                "arguments",
                "requestId",
                "uri",
                "ref",
                "cursor",
                "protocolVersion",
                "capabilities",
                "notifications",
                "_meta",
                "progressToken",
                "taskId",
            ],
            Self::Meta => &[VERSION, CAPABILITIES, SUBSCRIPTION, "progressToken"],
            Self::Reference => &["type", "name", "uri"],
            Self::Arguments => &[],
        }
    }
}

/// The names of one object that were read so far.
pub struct Seen<'de> {
    counting: &'static [&'static str],
    known: u32,
    few: [&'de str; FEW],
    count: usize,
    many: Option<BTreeSet<Cow<'de, str>>>,
}

impl<'de> Seen<'de> {
    /// Of an object that begins, and in which these names count (ASCII).
    #[must_use]
    pub fn new(counting: &'static [&'static str]) -> Self {
        Self { counting, known: 0, few: [""; FEW], count: 0, many: None }
    }

    /// The next name, and where it stands in the line where it has no escapes.
    ///
    /// # Errors
    /// Where it stands there twice, is one that counts in another case, or is one too many.
    pub(super) fn next<A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
    ) -> Result<Option<(Key, Option<&'de str>)>, A::Error> {
        let Some(name) = map.next_key_seed(NameSeed)? else { return Ok(None) };
        let place = match name {
            Cow::Borrowed(name) => Some(name),
            Cow::Owned(_) => None,
        };
        let key = self.known(name).map_err(A::Error::custom)?;
        Ok(Some((key, place)))
    }

    /// The next name, which has no escapes; nothing where [`Self::next`] would find it wrong.
    pub(super) fn take(&mut self, name: &'de str) -> Option<Key> {
        self.known(Cow::Borrowed(name)).ok()
    }

    /// The same, whichever it is.
    #[must_use]
    pub fn note_plain(&mut self, name: &'de str) -> Option<()> {
        self.note(Cow::Borrowed(name)).ok().filter(|new| *new).map(|_| ())
    }

    fn known(&mut self, name: Cow<'de, str>) -> Result<Key, &'static str> {
        let key = Key::of(&name);
        let bit = 1_u32 << key as u32;
        let first = if key == Key::Other { self.note(name)? } else { self.known & bit == 0 };
        self.known |= bit;
        if first { Ok(key) } else { Err(TWICE) }
    }

    /// The next name, whichever it is.
    ///
    /// # Errors
    /// Where it stands there twice, is one that counts in another case, or is one too many.
    pub fn name<A: MapAccess<'de>>(&mut self, map: &mut A) -> Result<Option<Cow<'de, str>>, A::Error> {
        let Some(name) = map.next_key_seed(NameSeed)? else { return Ok(None) };
        let copy = name.clone();
        let new = self.note(name).map_err(A::Error::custom)?;
        if new { Ok(Some(copy)) } else { Err(A::Error::custom(TWICE)) }
    }

    /// Notes a name; whether it is new.
    fn note(&mut self, name: Cow<'de, str>) -> Result<bool, &'static str> {
        let ascii = name.is_ascii();
        let alike = |known: &&str| {
            (known.len() == name.len() || !ascii) && *known != name && same_but_for_case(known, &name)
        };
        if self.counting.iter().any(alike) {
            return Err("a name that counts, in another case");
        }
        let known = self.few.get(..self.count).unwrap_or_default();
        if known.iter().any(|one| *one == name) || self.many.as_ref().is_some_and(|many| many.contains(&name))
        {
            return Ok(false);
        }
        match (name, self.few.get_mut(self.count)) {
            (Cow::Borrowed(name), Some(place)) => {
                *place = name;
                self.count += 1;
            }
            (name, _) => {
                let many = self.many.get_or_insert_default();
                many.insert(name);
                if many.len() > MAX_MEMBERS {
                    return Err("too many names");
                }
            }
        }
        Ok(true)
    }
}

/// Whether a reader that does not mind the case takes one for the other (encoding/json of Go, JsonSerializer of
/// .NET): `ſ` and the sign for kelvin are letters to them.
#[must_use]
pub fn same_but_for_case(one: &str, other: &str) -> bool {
    if one.eq_ignore_ascii_case(other) {
        return true;
    }
    if one.is_ascii() && other.is_ascii() {
        return false;
    }
    let folded = |text: &str| {
        text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect::<String>()
    };
    // The longest spelling of an ASCII letter has three bytes.
    let near = |one: &str, other: &str| other.len() <= one.len().saturating_mul(3);
    near(one, other) && near(other, one) && folded(one) == folded(other)
}

/// A name as text, without a copy where it has no escapes.
pub(super) struct NameSeed;

impl<'de> DeserializeSeed<'de> for NameSeed {
    type Value = Cow<'de, str>;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for NameSeed {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    #[inline]
    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }
}
