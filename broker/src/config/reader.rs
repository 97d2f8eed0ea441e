//! Reads one TOML table key by key into parsed values and notes every mistake with its place.
//! A key that nobody asked for is a mistake: `finish` reports it, with the nearest known key.

use std::cell::RefCell;
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::diagnostic::Sink;
use super::value::{kind_of, length_of_time, to_json, words};

/// A table of a configuration file, being read.
pub struct Reader<'a> {
    pub(super) sink: &'a Sink,
    pub(super) table: &'a DeTable<'a>,
    /// Where the table stands, for findings about what is missing.
    pub(super) span: Range<usize>,
    /// Dotted path of the table, for messages; empty at the top.
    pub(super) path: String,
    pub(super) asked: RefCell<Vec<String>>,
    /// Keys of later parts: known, but never suggested.
    pub(super) refused: RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    /// Reads `table`, which stands at `span` and is called `path` in messages.
    #[must_use]
    pub fn new(sink: &'a Sink, table: &'a DeTable<'a>, span: Range<usize>, path: String) -> Self {
        Self { sink, table, span, path, asked: RefCell::default(), refused: RefCell::default() }
    }

    /// Dotted path of `key`, for messages.
    #[must_use]
    pub fn name(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// The dotted path of the table itself; empty at the top.
    #[must_use]
    pub fn path_of_table(&self) -> &str {
        &self.path
    }

    /// Whether the key is there; counts as asking for it.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether the key is there, without asking for it.
    #[must_use]
    pub fn holds(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// The keys of the table and where each stands, in file order.
    #[must_use]
    pub fn keys(&self) -> Vec<(String, Range<usize>)> {
        let mut keys: Vec<_> =
            self.table.iter().map(|(key, _)| (key.get_ref().to_string(), key.span())).collect();
        keys.sort_by_key(|(_, span)| span.start);
        keys
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

    /// A length of time as text, such as `90s`, `15m`, `1h 30m`, `30d`; not negative.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        let (text, span) = self.text_like(key, "a text such as \"10h\"")?;
        let parsed = length_of_time(&text);
        if parsed.is_none() {
            let message = format!("`{}` is not a length of time", self.name(key));
            self.sink.error(
                &span,
                message,
                "write a number with its unit, such as \"90s\", \"15m\", \"10h\" or \"30d\"",
            );
        }
        parsed
    }

    /// A length of time within `range`; `default` where the key is not there.
    pub fn duration_within(
        &self,
        key: &str,
        range: RangeInclusive<Duration>,
        default: Duration,
    ) -> Option<Duration> {
        if !self.has(key) {
            return Some(default);
        }
        let value = self.duration(key)?;
        if range.contains(&value) {
            return Some(value);
        }
        let message = format!("`{}` is out of range", self.name(key));
        let (least, most) = (words(*range.start()), words(*range.end()));
        self.error(key, message, format!("write a length of time between {least} and {most}"));
        None
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
        Some(self.spanned_texts(key)?.into_iter().map(|(text, _)| text).collect())
    }

    /// A list of texts, each with its place.
    pub fn spanned_texts(&self, key: &str) -> Option<Vec<(String, Range<usize>)>> {
        let (value, span) = self.value(key)?;
        let Some(items) = value.as_array() else {
            self.wrong_type(key, &span, value, "a list of texts");
            return None;
        };
        let mut texts = Vec::new();
        for item in items.iter() {
            match item.get_ref().as_str() {
                Some(text) => texts.push((text.to_owned(), item.span())),
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

    fn text_at(&self, key: &str) -> Option<(String, Range<usize>)> {
        self.text_like(key, "a text")
    }

    /// A text; `wanted` says what for, where it is something else.
    fn text_like(&self, key: &str, wanted: &str) -> Option<(String, Range<usize>)> {
        let (value, span) = self.value(key)?;
        match value.as_str() {
            Some(text) => Some((text.to_owned(), span)),
            None => {
                self.wrong_type(key, &span, value, wanted);
                None
            }
        }
    }

    pub(super) fn value(&self, key: &str) -> Option<(&'a DeValue<'a>, Range<usize>)> {
        self.asked.borrow_mut().push(key.to_owned());
        #[cfg(test)]
        self.sink.record(&self.path, key);
        self.table.get(key).map(|value| (value.get_ref(), value.span()))
    }

    /// Notes that `key` is of another type; `wanted` says what was expected.
    pub(super) fn wrong_type(&self, key: &str, span: &Range<usize>, value: &DeValue<'_>, wanted: &str) {
        let message = format!("`{}` is {}, not {wanted}", self.name(key), kind_of(value));
        self.sink.error(span, message, format!("write {wanted}"));
    }
}
