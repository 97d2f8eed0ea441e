//! The parameters of a message as far as the relay decides by them: each as it stands in the line. Whatever
//! else is there is only checked.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{Key, Lookup, once, raw};

/// The parameters by which the relay decides, as raw JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    /// `name`: the tool of a call, the prompt.
    pub name: Option<&'a str>,
    /// `arguments` of a call or a prompt.
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
    /// What the client can do: `capabilities` of `initialize`, else what a request of the stateless era says.
    pub capabilities: Option<&'a str>,
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
    if inner.contains('\\') {
        serde_json::from_str(raw).ok().map(Cow::Owned)
    } else {
        Some(Cow::Borrowed(inner))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Params<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Members { meta: false })
    }
}

/// The members of `params`, or of its `_meta`. Whatever is no object has none.
struct Members {
    meta: bool,
}

impl<'de> Visitor<'de> for Members {
    type Value = Params<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut params = Params::default();
        let (mut has_meta, mut in_meta) = (false, None);
        while let Some(key) = map.next_key_seed(Lookup::<Key>::NEW)? {
            match key {
                Key::Token => raw(&mut map, &mut params.token, "progressToken")?,
                Key::Task if !self.meta => raw(&mut map, &mut params.task, "taskId")?,
                Key::Name if !self.meta => raw(&mut map, &mut params.name, "name")?,
                Key::RequestId if !self.meta => raw(&mut map, &mut params.request_id, "requestId")?,
                Key::Uri if !self.meta => raw(&mut map, &mut params.uri, "uri")?,
                Key::Version if self.meta => raw(&mut map, &mut params.version, super::VERSION)?,
                Key::Subscription if self.meta => {
                    raw(&mut map, &mut params.subscription, super::SUBSCRIPTION)?
                }
                Key::Meta if !self.meta => {
                    once(!std::mem::replace(&mut has_meta, true), "_meta")?;
                    let meta: Meta<'de> = map.next_value()?;
                    (params.version, params.subscription) = (meta.0.version, meta.0.subscription);
                    in_meta = meta.0.token;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        params.token = params.token.or(in_meta);
        Ok(params)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Params::default())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Params::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Params::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Params::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Params::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Params::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Params::default())
    }
}

struct Meta<'a>(Params<'a>);

impl<'de: 'a, 'a> Deserialize<'de> for Meta<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Members { meta: true }).map(Self)
    }
}
