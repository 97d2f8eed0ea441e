//! One page of a list, in an answer as it stands: where its elements begin and end, and what else a filter has to
//! know or change. Read once, as a list may be long; what is no clean list is an error.

use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::proxy::message::{Seen, place, trimmed};

mod quick;

/// The names that count in an answer.
const ANSWER: &[&str] = &["result", "error", "id"];

/// What is looked for.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    /// The names that count in the result: the list first.
    pub(super) members: &'static [&'static str],
    /// What names an element: one name.
    pub(super) name: &'static [&'static str],
}

/// An answer with a list.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Page<'a> {
    /// Its elements in order.
    pub(super) elements: Vec<Element<'a>>,
    /// Where they stand, without the brackets.
    pub(super) inside: Range<usize>,
    /// What is asked for next, as raw JSON.
    pub(super) next: Option<&'a str>,
    /// The same, also where it is `null`.
    pub(super) cursor: Option<&'a str>,
    /// `ttlMs` and `cacheScope`, as raw JSON.
    pub(super) ttl: Option<&'a str>,
    pub(super) scope: Option<&'a str>,
}

/// An element of a list.
#[derive(Debug)]
#[cfg_attr(test, derive(PartialEq))]
pub(super) struct Element<'a> {
    /// What names it, as raw JSON.
    pub(super) name: &'a str,
    /// The whole of it.
    pub(super) text: &'a str,
}

impl<'a> Page<'a> {
    /// Reads the answer in a line; nothing where it has no result.
    pub(super) fn read(line: &'a str, shape: Shape) -> Result<Option<Self>, serde_json::Error> {
        quick::page(line, shape).map_or_else(|| Self::carefully(line, shape), Ok)
    }

    /// By the parser whose word counts.
    fn carefully(line: &'a str, shape: Shape) -> Result<Option<Self>, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(line);
        let page = Answer { line, shape }.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(page)
    }

    /// Where a member of the result beside its list is kept, as it stands there.
    fn field(&mut self, name: &str) -> Option<&mut Option<&'a str>> {
        match name {
            "nextCursor" => Some(&mut self.cursor),
            "ttlMs" => Some(&mut self.ttl),
            "cacheScope" => Some(&mut self.scope),
            _ => None,
        }
    }

    /// With what is asked for next.
    fn with_next(self) -> Self {
        Self { next: self.cursor.filter(|next| *next != "null"), ..self }
    }
}

/// Objects and arrays are read by visitors that know the line, as the parser does not say where it stands.
macro_rules! reader {
    ($name:ident, $value:ty, $method:ident, $what:literal) => {
        impl<'a> DeserializeSeed<'a> for $name<'a> {
            type Value = $value;

            fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<$value, D::Error> {
                deserializer.$method(self)
            }
        }
        impl<'a> $name<'a> {
            fn expected(f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($what)
            }
        }
    };
}

struct Answer<'a> {
    line: &'a str,
    shape: Shape,
}
reader!(Answer, Option<Page<'a>>, deserialize_map, "an answer");

impl<'a> Visitor<'a> for Answer<'a> {
    type Value = Option<Page<'a>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::expected(f)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut seen, mut page) = (Seen::new(ANSWER), None);
        while let Some(name) = seen.name(&mut map)? {
            if name == "result" {
                page = Some(map.next_value_seed(Body { line: self.line, shape: self.shape })?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(page)
    }
}

struct Body<'a> {
    line: &'a str,
    shape: Shape,
}
reader!(Body, Page<'a>, deserialize_map, "a result");

impl<'a> Visitor<'a> for Body<'a> {
    type Value = Page<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::expected(f)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Page<'a>, A::Error> {
        let (mut seen, mut page, mut has_list) = (Seen::new(self.shape.members), Page::default(), false);
        let list = self.shape.members.first().copied().unwrap_or_default();
        while let Some(name) = seen.name(&mut map)? {
            match name.as_ref() {
                found if found == list => {
                    let start = value_of(self.line, &name, '[');
                    let start = start.ok_or_else(|| A::Error::custom("no list"))?;
                    let array = Array { line: self.line, start: start + 1, shape: self.shape };
                    (page.elements, page.inside) = map.next_value_seed(array)?;
                    has_list = true;
                }
                name => match page.field(name) {
                    Some(field) => *field = Some(map.next_value::<&'a RawValue>()?.get()),
                    None => drop(map.next_value::<IgnoredAny>()?),
                },
            }
        }
        if has_list { Ok(page.with_next()) } else { Err(A::Error::custom("no list")) }
    }
}

/// Where the value of a member begins, by its name in the line; it must begin with this.
fn value_of(line: &str, name: &str, first: char) -> Option<usize> {
    // One with escapes was copied and is not in the line; no server writes these names so.
    let after = place(line, name)? + name.len();
    let rest = line.get(after..)?.strip_prefix('"')?;
    let value = trimmed(trimmed(rest).strip_prefix(':')?);
    value.starts_with(first).then(|| line.len() - value.len())
}

struct Array<'a> {
    line: &'a str,
    /// Behind its bracket.
    start: usize,
    shape: Shape,
}
reader!(Array, (Vec<Element<'a>>, Range<usize>), deserialize_seq, "an array");

impl<'a> Visitor<'a> for Array<'a> {
    type Value = (Vec<Element<'a>>, Range<usize>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::expected(f)
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let lost = || A::Error::custom("an element that ends nowhere");
        let mut elements: Vec<Element<'a>> = Vec::new();
        // Where each begins is seen from its first name, where it ends from the one that follows.
        while let Some(element) = seq.next_element_seed(Item { line: self.line, shape: self.shape })? {
            if let Some(last) = elements.last_mut() {
                let upto = last.text.len().checked_sub(element.text.len());
                let before = upto
                    .and_then(|upto| last.text.get(..upto))
                    .and_then(|text| text.trim_end_matches(BLANKS).strip_suffix(','));
                last.text = before.ok_or_else(lost)?.trim_end_matches(BLANKS);
            }
            elements.push(element);
        }
        let mut end = self.start;
        if let Some(last) = elements.last_mut() {
            let mut values = serde_json::Deserializer::from_str(last.text).into_iter::<IgnoredAny>();
            values.next().and_then(Result::ok).ok_or_else(lost)?;
            last.text = last.text.get(..values.byte_offset()).ok_or_else(lost)?;
            end = place(self.line, last.text).ok_or_else(lost)? + last.text.len();
        }
        Ok((elements, self.start..end))
    }
}

struct Item<'a> {
    line: &'a str,
    shape: Shape,
}
reader!(Item, Element<'a>, deserialize_map, "an object");

impl<'a> Visitor<'a> for Item<'a> {
    type Value = Element<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Self::expected(f)
    }

    /// Answers the element with all that follows it in the line.
    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Element<'a>, A::Error> {
        let mut seen = Seen::new(self.shape.name);
        let (mut name, mut text) = (None, None);
        while let Some(member) = seen.name(&mut map)? {
            if text.is_none() {
                text = Some(
                    object_of(self.line, &member).ok_or_else(|| A::Error::custom("a name with escapes"))?,
                );
            }
            if self.shape.name.first().is_some_and(|wanted| *wanted == member) {
                name = Some(map.next_value::<&'a RawValue>()?.get());
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        name.zip(text)
            .map(|(name, text)| Element { name, text })
            .ok_or_else(|| A::Error::custom("an element without a name"))
    }
}

/// What begins with the object whose first name this is.
fn object_of<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    let before = line.get(..place(line, name)?)?.strip_suffix('"')?.trim_end_matches(BLANKS);
    line.get(before.strip_suffix('{')?.len()..)
}

/// The white space of JSON (RFC 8259 section 2).
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];
