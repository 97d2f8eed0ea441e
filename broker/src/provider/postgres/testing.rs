//! What the tests of this kind share: reading a text as one of its tables.

use std::path::Path;

use toml::de::DeTable;

use crate::config::Reader;
use crate::config::diagnostic::Sink;

/// Reads `text` as the table `t`; answers what was read, and the findings as text.
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(super) fn read_text<T>(
    text: &str,
    read: impl FnOnce(&Reader<'_>) -> Option<T>,
) -> (Option<T>, Vec<String>) {
    let sink = Sink::new(Path::new("x.toml"), text.to_owned());
    let table = DeTable::parse(text).unwrap();
    let reader = Reader::new(&sink, table.get_ref(), 0..text.len(), "t".to_owned());
    let value = read(&reader);
    let finished = value.is_some();
    if finished {
        reader.finish();
    }
    (value, sink.into_found().iter().map(ToString::to_string).collect())
}
