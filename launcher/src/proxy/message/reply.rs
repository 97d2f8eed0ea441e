//! What a result says of itself at its top, as it stands there. It is kept for those who count calls and tasks, and
//! decides on nothing: a name that stands there twice counts as it is said last.

use std::fmt;

use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::keys::NameSeed;
use super::skim::Skim;

/// The members of a result that count, as raw JSON; none where it is no object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reply<'a> {
    /// `isError`: the tool has failed.
    pub is_error: Option<&'a str>,
    /// `resultType`: whether it is complete (MCP 2026-07-28).
    pub kind: Option<&'a str>,
    /// `task`: what goes on instead (MCP 2025-11-25, tasks).
    pub task: Option<&'a str>,
    /// `taskId`: the same (MCP 2026-07-28, the extension for tasks).
    pub task_id: Option<&'a str>,
}

impl<'a> Reply<'a> {
    fn field(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        match name {
            "isError" => Some(&mut self.is_error),
            "resultType" => Some(&mut self.kind),
            "task" => Some(&mut self.task),
            "taskId" => Some(&mut self.task_id),
            _ => None,
        }
    }

    /// Of a result, as most peers write it; nothing where it has to be read carefully.
    pub(super) fn quick(skim: &mut Skim<'a>) -> Option<Self> {
        let mut reply = Self::default();
        if skim.peek()? != b'{' {
            skim.value()?;
            return Some(reply);
        }
        skim.object(|skim, name| {
            let value = skim.value()?;
            if let Some(field) = reply.field(name) {
                *field = Some(value);
            }
            Some(())
        })?;
        Some(reply)
    }

    /// Of a result that is JSON.
    pub(super) fn carefully(result: &'a str) -> Self {
        let mut members = serde_json::Deserializer::from_str(result);
        members.deserialize_map(Object).unwrap_or_default()
    }
}

struct Object;

impl<'a> Visitor<'a> for Object {
    type Value = Reply<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a result")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Reply<'a>, A::Error> {
        let mut reply = Reply::default();
        while let Some(name) = map.next_key_seed(NameSeed)? {
            match reply.field(&name) {
                Some(field) => *field = Some(map.next_value::<&'a RawValue>()?.get()),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(reply)
    }
}
