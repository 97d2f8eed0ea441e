//! Reads one TOML table key by key into parsed values and notes every mistake with its place.
//! A key that nobody asked for is a mistake: `finish` reports it, with the nearest known key.

use std::cell::RefCell;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::diagnostic::Sink;

/// A table of a configuration file, being read.
pub struct Reader<'a> {
    sink: &'a Sink,
    table: &'a DeTable<'a>,
    /// Where the table stands, for findings about what is missing.
    span: Range<usize>,
    /// Dotted path of the table, for messages; empty at the top.
    path: String,
    asked: RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    /// Reads `table`, which stands at `span` and is called `path` in messages.
    #[must_use]
    pub fn new(sink: &'a Sink, table: &'a DeTable<'a>, span: Range<usize>, path: String) -> Self {
        Self { sink, table, span, path, asked: RefCell::default() }
    }

    /// Dotted path of `key`, for messages.
    #[must_use]
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Whether the key is there; counts as asking for it.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// The keys of the table, in file order of their names.
    #[must_use]
    pub fn keys(&self) -> Vec<(String, Range<usize>)> {
        self.table.iter().map(|(key, _)| (key.get_ref().to_string(), key.span())).collect()
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<String> {
        self.text_at(key).map(|(text, _)| text)
    }

    /// A text that must be there.
    pub fn required_text(&self, key: &str) -> Option<String> {
        if !self.has(key) {
            self.missing(key);
        }
        self.text(key)
    }

    /// A text that parses into `T`; `what` says what was expected.
    pub fn parsed<T: FromStr<Err: std::fmt::Display>>(&self, key: &str, hint: &str) -> Option<T> {
        let (text, span) = self.text_at(key)?;
        match text.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.sink.error(&span, format!("`{}` {error}", self.name(key)), hint);
                None
            }
        }
    }

    /// One of a closed set of words.
    pub fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let (text, span) = self.text_at(key)?;
        let known = words.iter().find(|(word, _)| *word == text);
        if known.is_none() {
            let list: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let message = format!("`{}` has a value that is not known", self.name(key));
            self.sink.error(&span, message, format!("write {}", list.join(" or ")));
        }
        known.map(|(_, value)| *value)
    }

    /// A length of time as text, such as `90s`, `15m`, `1h 30m`; not negative.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        let (text, span) = self.text_at(key)?;
        let parsed = text.parse::<jiff::SignedDuration>().ok().and_then(|d| Duration::try_from(d).ok());
        if parsed.is_none() {
            let message = format!("`{}` is not a length of time", self.name(key));
            self.sink.error(
                &span,
                message,
                "write a number with its unit, such as \"90s\", \"15m\" or \"10h\"",
            );
        }
        parsed
    }

    /// A truth value.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        let (value, span) = self.value(key)?;
        let found = value.as_bool();
        if found.is_none() {
            self.wrong_type(key, &span, value, "true or false");
        }
        found
    }

    /// An absolute path.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        let (text, span) = self.text_at(key)?;
        if text.starts_with('/') {
            return Some(PathBuf::from(text));
        }
        self.sink.error(&span, format!("`{}` is not an absolute path", self.name(key)), "begin it with `/`");
        None
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Option<Vec<String>> {
        let (value, span) = self.value(key)?;
        let Some(items) = value.as_array() else {
            self.wrong_type(key, &span, value, "a list of texts");
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push(text.to_owned()),
                None => self.wrong_type(key, &item.span(), item.get_ref(), "a text in this list"),
            }
        }
        Some(texts)
    }

    /// A table below this one.
    pub fn table(&self, key: &str) -> Option<Reader<'a>> {
        let (value, span) = self.value(key)?;
        match value.as_table() {
            Some(table) => Some(Reader::new(self.sink, table, span, self.name(key))),
            None => {
                self.wrong_type(key, &span, value, "a table");
                None
            }
        }
    }

    /// A list of tables, inline or as `[[key]]`.
    pub fn tables(&self, key: &str) -> Vec<Reader<'a>> {
        let Some((value, span)) = self.value(key) else { return Vec::new() };
        let Some(items) = value.as_array() else {
            self.wrong_type(key, &span, value, "a list of tables");
            return Vec::new();
        };
        let mut readers = Vec::new();
        for (index, item) in items.iter().enumerate() {
            match item.get_ref().as_table() {
                Some(table) => {
                    let path = format!("{}[{index}]", self.name(key));
                    readers.push(Reader::new(self.sink, table, item.span(), path));
                }
                None => self.wrong_type(key, &item.span(), item.get_ref(), "a table in this list"),
            }
        }
        readers
    }

    /// Anything, as JSON: for data that is handed on as it is.
    pub fn json(&self, key: &str) -> Option<serde_json::Value> {
        self.value(key).map(|(value, _)| to_json(value))
    }

    /// Where the table stands.
    #[must_use]
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }

    /// Where the value of `key` stands, or the table if it has none.
    #[must_use]
    pub fn span_of(&self, key: &str) -> Range<usize> {
        self.table.get(key).map_or_else(|| self.span.clone(), toml::Spanned::span)
    }

    /// Notes an error at the value of `key`.
    pub fn error(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.sink.error(&self.span_of(key), message, hint);
    }

    /// Notes a warning at the value of `key`.
    pub fn warning(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        self.sink.warning(&self.span_of(key), message, hint);
    }

    /// Notes that `key` must be there.
    pub fn missing(&self, key: &str) {
        let message = format!("`{}` is missing", self.name(key));
        self.sink.error(&self.span, message, format!("add `{key} = …`; `mcp-broker schema` describes it"));
    }

    /// Refuses `key` where it is written, because what it asks for is not built yet.
    pub fn not_built(&self, key: &str, reason: &str) {
        if self.has(key) {
            let message = format!("`{}` is not supported yet: {reason}", self.name(key));
            self.error(
                key,
                message,
                "remove it; it is refused so that nothing is weaker than it was written",
            );
        }
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if asked.iter().any(|known| known == name) {
                continue;
            }
            let nearest = asked.iter().min_by_key(|known| distance(known, name));
            let hint = match nearest.filter(|known| distance(known, name) <= 2) {
                Some(known) => format!("did you mean `{known}`?"),
                None => {
                    let mut known: Vec<_> = asked.iter().map(|key| format!("`{key}`")).collect();
                    known.sort();
                    known.dedup();
                    format!("known keys here: {}", known.join(", "))
                }
            };
            self.sink.error(&key.span(), format!("unknown key `{}`", self.name(name)), hint);
        }
    }

    fn text_at(&self, key: &str) -> Option<(String, Range<usize>)> {
        let (value, span) = self.value(key)?;
        match value.as_str() {
            Some(text) => Some((text.to_owned(), span)),
            None => {
                self.wrong_type(key, &span, value, "a text");
                None
            }
        }
    }

    fn value(&self, key: &str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        self.asked.borrow_mut().push(key.to_owned());
        self.table.get(key).map(|value| (value.get_ref(), value.span()))
    }

    fn wrong_type(&self, key: &str, span: &Range<usize>, value: &DeValue<'_>, wanted: &str) {
        let message = format!("`{}` is {}, not {wanted}", self.name(key), kind_of(value));
        self.sink.error(span, message, format!("write {wanted}"));
    }
}

fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

fn to_json(value: &DeValue<'_>) -> serde_json::Value {
    use serde_json::Value;
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_too_large| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref()))).collect()
        }
    }
}

/// Levenshtein distance, for suggestions.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut last = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let here = (last + usize::from(x != y)).min(left + 1).min(*cell + 1);
            last = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in [("", "", 0), ("ttl", "tll", 1), ("env", "", 3), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }
}
