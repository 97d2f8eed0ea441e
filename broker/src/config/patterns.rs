//! Reads lists of patterns for tools, resources and prompts: exact names, or `*` for any text.

use std::ops::Range;

use super::reader::Reader;

/// One of the lists of a scope.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    /// Its key.
    pub(super) key: &'static str,
    /// What it names, for messages.
    pub(super) noun: &'static str,
    /// The longest pattern, in bytes.
    longest: usize,
}

/// MCP lets a tool's name have 128 characters (2025-11-25, server/tools, Tool Names).
pub(super) const TOOLS: Kind = Kind { key: "tools", noun: "tool", longest: 128 };
/// No length of URIs is agreed on; this is longer than any that a person writes.
pub(super) const RESOURCES: Kind = Kind { key: "resources", noun: "resource", longest: 1024 };
/// The specification says nothing of a prompt's name.
pub(super) const PROMPTS: Kind = Kind { key: "prompts", noun: "prompt", longest: 256 };

/// A list as far as it could be read.
pub(super) struct Patterns {
    pub(super) kind: Kind,
    /// Whether the key is there, good or bad.
    pub(super) written: bool,
    /// The patterns that are good, each with its place.
    pub(super) list: Vec<(String, Range<usize>)>,
}

/// Reads the list under the kind's key; mistakes are noted.
pub(super) fn patterns(table: &Reader<'_>, kind: Kind) -> Patterns {
    let written = table.has(kind.key);
    let found = if written { table.spanned_texts(kind.key) } else { None };
    match &found {
        Some(all) if all.is_empty() && !table.is_damaged() => {
            let message = format!("`{}` is empty", table.name(kind.key));
            table.error(kind.key, message, format!("name a {}, or remove the key", kind.noun));
        }
        Some(all) if all.len() > MOST => {
            let message = format!("`{}` holds more than {MOST} patterns", table.name(kind.key));
            table.error(kind.key, message, "name several by one pattern with `*`");
        }
        _ => {}
    }
    let good = |(pattern, span): &(String, Range<usize>)| check(table, kind.key, kind, pattern, span);
    let list = found.unwrap_or_default().into_iter().take(MOST).filter(good).collect();
    Patterns { kind, written, list }
}

/// Checks one pattern; says whether it can be used. `key` is where it stands.
pub(super) fn check(table: &Reader<'_>, key: &str, kind: Kind, pattern: &str, span: &Range<usize>) -> bool {
    let (name, noun) = (table.name(key), kind.noun);
    let mistake = if pattern.is_empty() {
        Some((format!("`{name}` holds an empty pattern"), format!("name a {noun}, or write `*` for any")))
    } else if pattern.len() > kind.longest {
        let longest = kind.longest;
        Some((
            format!("`{name}` holds a pattern longer than {longest} bytes"),
            format!("no {noun} has so long a name"),
        ))
    } else if pattern.contains(char::is_control) {
        Some((
            format!("`{name}` holds a control character"),
            "remove it; no name with one is ever allowed".to_owned(),
        ))
    } else if kind.key == RESOURCES.key && !pattern.contains([':', '*']) {
        Some((
            format!("`{name}` holds what is no URI"),
            "begin it with its scheme, such as `file://`".to_owned(),
        ))
    } else {
        None
    };
    if let Some((message, hint)) = mistake {
        table.error_at(span, message, hint);
        return false;
    }
    if kind.key == TOOLS.key && !pattern.chars().all(in_tool_name) {
        let message = format!("`{name}` holds a character that names of tools do not have");
        table.warning_at(span, message, "`*` is the only wildcard, and stands for any text");
    }
    true
}

/// MCP 2025-11-25, server/tools, Tool Names; and a slash, which some servers use.
fn in_tool_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "_-./*".contains(c)
}

/// So many patterns of one list, and no more, are read.
const MOST: usize = 256;
