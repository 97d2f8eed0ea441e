//! What a [`Reader`] notes besides wrong types: absent keys, keys of later parts, keys that nobody knows, and
//! whatever else its caller finds. Reads no values.

use std::ops::Range;

use super::nearest::nearest;
use super::reader::Reader;

impl Reader<'_> {
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

    /// Notes an error about the absence of something at `key`. Silent in a file whose syntax is broken.
    pub fn error_unless_damaged(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        if !self.sink.is_damaged() {
            self.error(key, message, hint);
        }
    }

    /// Notes a warning in the same way.
    pub fn warning_unless_damaged(&self, key: &str, message: impl Into<String>, hint: impl Into<String>) {
        if !self.sink.is_damaged() {
            self.warning(key, message, hint);
        }
    }

    /// Notes an error at `span`.
    pub fn error_at(&self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.sink.error(span, message, hint);
    }

    /// Notes a warning at `span`.
    pub fn warning_at(&self, span: &Range<usize>, message: impl Into<String>, hint: impl Into<String>) {
        self.sink.warning(span, message, hint);
    }

    /// Notes that `key` must be there. Silent in a file whose syntax is broken: it may be there.
    pub fn missing(&self, key: &str) {
        if self.sink.is_damaged() {
            return;
        }
        let message = format!("`{}` is missing", self.name(key));
        self.sink.error(&self.span, message, format!("add `{key} = …`; `mcp-broker schema` describes it"));
    }

    /// Counts `key` as known, though it is never suggested.
    pub fn known(&self, key: &str) {
        self.refused.borrow_mut().push(key.to_owned());
    }

    /// Refuses `key` where it is written, because it belongs to another table; `hint` says to which.
    pub(super) fn belongs_elsewhere(&self, key: &str, hint: &str) {
        self.known(key);
        if let Some((key, _)) = self.table.get_key_value(key) {
            self.sink.error(
                &key.span(),
                format!("`{}` does not belong here", self.name(key.get_ref())),
                hint,
            );
        }
    }

    /// Whether the file's syntax is broken, so that nothing can be told from what is absent.
    pub(super) fn is_damaged(&self) -> bool {
        self.sink.is_damaged()
    }

    /// Refuses `key` where it is written, because what it asks for is not built yet.
    pub fn not_built(&self, key: &str, reason: &str) {
        self.known(key);
        if let Some((key, _)) = self.table.get_key_value(key) {
            let message = format!("`{}` is not supported yet: {reason}", self.name(key.get_ref()));
            self.sink.error(&key.span(), message, NOT_BUILT_HINT);
        }
    }

    /// Refuses the value `word` of `key` in the same way; says whether it did.
    pub fn not_built_value(&self, key: &str, word: &str, reason: &str) -> bool {
        self.not_built_word(key, word, reason, NOT_BUILT_HINT)
    }

    /// The same with a cure of its own, where removing the key is none.
    pub fn not_built_word(&self, key: &str, word: &str, reason: &str, hint: &str) -> bool {
        let refused = self.value(key).is_some_and(|(value, _)| value.as_str() == Some(word));
        if refused {
            let message = format!("`{} = \"{word}\"` is not supported yet: {reason}", self.name(key));
            self.error(key, message, hint);
        }
        refused
    }

    /// After a kind's own reader gave up on the table: notes an error if it did not, and counts `keys` as
    /// asked for, because it may have stopped before it came to them.
    pub(super) fn given_up(&self, keys: impl IntoIterator<Item = String>) {
        if !self.sink.has_errors() {
            let message = format!("`{}` cannot be used", self.path);
            self.sink.error(&self.span, message, "compare it with `mcp-broker schema`");
        }
        self.asked.borrow_mut().extend(keys);
    }

    /// Reports the keys that nobody asked for.
    pub fn finish(self) {
        let asked = self.asked.borrow();
        let refused = self.refused.borrow();
        for (key, _) in self.table.iter() {
            let name: &str = key.get_ref();
            if asked.iter().chain(refused.iter()).any(|known| known == name) {
                continue;
            }
            let hint = match nearest(name, asked.iter().map(String::as_str)) {
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
}

const NOT_BUILT_HINT: &str = "remove it; it is refused so that nothing is weaker than it was written";
