//! The id of a line that is no message, whatever else is wrong with it: whoever sent it is told under that id. It
//! decides on nothing else.

use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::keys::same_but_for_case;
use super::{Lookup, Word, is_id};

/// The id of a line that is no message, as raw JSON: nothing where it is no JSON object, has none or several, or one
/// that is neither text nor number.
#[must_use]
pub fn id_of(line: &str) -> Option<&str> {
    let ids: Ids<'_> = serde_json::from_str(line).ok()?;
    ids.clear()
}

/// The same, where the line names a method: whoever wrote it waits for an answer.
#[must_use]
pub fn asker(line: &str) -> Option<&str> {
    let ids: Ids<'_> = serde_json::from_str(line).ok()?;
    ids.clear().filter(|_| ids.asks)
}

/// What the names of an object say, each as often as it stands there.
#[derive(Default)]
struct Ids<'a> {
    last: Option<&'a str>,
    count: usize,
    asks: bool,
}

impl<'a> Ids<'a> {
    fn clear(&self) -> Option<&'a str> {
        self.last.filter(|id| self.count == 1 && is_id(id))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Ids<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Ids<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Ids<'de>, A::Error> {
                let mut ids = Ids::default();
                while let Some(name) = map.next_key_seed(Lookup::<Name>::NEW)? {
                    if name == Name::Id {
                        ids.last = Some(map.next_value::<&RawValue>()?.get());
                        ids.count += 1;
                    } else {
                        ids.asks |= name == Name::Method;
                        map.next_value::<IgnoredAny>()?;
                    }
                }
                Ok(ids)
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// What a name is to a reader that does not mind its case.
#[derive(PartialEq, Eq)]
enum Name {
    Id,
    Method,
    Other,
}

impl Word for Name {
    fn of(text: &str) -> Self {
        if same_but_for_case("id", text) {
            Self::Id
        } else if same_but_for_case("method", text) {
            Self::Method
        } else {
            Self::Other
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (line, its id, whether it asks)
    #[test]
    fn table() {
        for (line, id, asks) in [
            (r#"{"id":1,"method":"a","method":"b"}"#, Some("1"), true),
            (r#"{"id":"x","Method":"a","params":{},"params":{}}"#, Some(r#""x""#), true),
            (r#"{"id":1,"result":{},"result":{}}"#, Some("1"), false),
            (r#"{"id":1,"method":"a","result":{}}"#, Some("1"), true),
            (r#"{"id":1,"id":1,"method":"a"}"#, None, true),
            (r#"{"id":1,"ID":2,"method":"a"}"#, None, true),
            (r#"{"id":null,"method":"a"}"#, None, true),
            (r#"{"method":"a"}"#, None, true),
            (r#"{"params":{"id":1,"method":"a"}}"#, None, false),
            (r#"[{"id":1,"method":"a"}]"#, None, false),
            (r#"{"id":1,"method":"a""#, None, false),
        ] {
            assert_eq!(id_of(line), id, "{line}");
            assert_eq!(asker(line), id.filter(|_| asks), "{line}");
        }
    }
}
