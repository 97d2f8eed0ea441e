//! Reads the way `file`: what the private file holds, and whether new credentials are put into it.

use std::collections::BTreeMap;

use mcp_broker_proto::launch::{Content, Injection};
use mcp_broker_proto::template::Template;
use rustix::process::Signal;
use toml::de::DeValue;

use super::value::{only, template, warn_of_no_use};
use super::{Scene, WAYS};
use crate::config::credential::Credential;
use crate::config::reader::Reader;
use crate::config::variables::check_variable;

/// `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Raw,
    Template,
    Dotenv,
    Json,
}

const FORMATS: &[(&str, Format)] = &[
    ("raw", Format::Raw),
    ("template", Format::Template),
    ("dotenv", Format::Dotenv),
    ("json", Format::Json),
];

/// Signals that programs take for "read it again"; those that end one are none of them.
const SIGNALS: &[(&str, Signal)] = &[("HUP", Signal::HUP), ("USR1", Signal::USR1), ("USR2", Signal::USR2)];

/// The most names of one file.
const MOST_VALUES: usize = 256;
/// The longest name in a JSON file, in bytes.
const LONGEST_NAME: usize = 255;

/// Reads the whole way.
pub(super) fn file(one: &Reader<'_>, scene: &mut Scene<'_>) -> Option<Injection> {
    let name = scene.variable(one, "file");
    let content = content(one, scene.credentials);
    let reread = one.boolean("reread").unwrap_or(true);
    let signal = signal(one);
    if signal.is_some() && !reread {
        let message =
            format!("`{}` is sent after a replacement, and nothing is replaced", one.name("signal"));
        one.error("signal", message, "remove it, or `reread = false`");
    }
    Some(Injection::File { name: name?, content: content?, reread, signal })
}

fn signal(one: &Reader<'_>) -> Option<u8> {
    let written = one.value("signal").and_then(|(value, _)| value.as_str()).unwrap_or_default();
    let short = written.strip_prefix("SIG");
    if let Some((word, _)) = SIGNALS.iter().find(|(word, _)| Some(*word) == short) {
        let message = format!("`{}` has a value that is not known", one.name("signal"));
        one.error("signal", message, format!("write \"{word}\", without SIG"));
        return None;
    }
    one.word("signal", SIGNALS).and_then(|signal| u8::try_from(signal.as_raw()).ok())
}

fn content(one: &Reader<'_>, credentials: &[Credential]) -> Option<Content> {
    let several = one.has("values");
    let written = one.has("format");
    let format = one.word("format", FORMATS);
    if written && format.is_none() {
        // What it would hold is not known, so neither is what it may not.
        WAYS.iter().flat_map(|way| way.takes).for_each(|key| one.known(key));
        return None;
    }
    match (format, several) {
        (None, true) => {
            let message = format!("`{}` needs a `format` to be written in", one.name("values"));
            one.error("values", message, "add `format = \"dotenv\"` or `format = \"json\"`");
            None
        }
        (None | Some(Format::Template), false) => only(one, credentials).map(Content::Text),
        (Some(Format::Raw), false) => raw(one, credentials).map(Content::Text),
        (Some(Format::Dotenv), true) => {
            no_value(one).and(values(one, credentials, dotenv_name)).map(Content::Dotenv)
        }
        (Some(Format::Json), true) => {
            no_value(one).and(values(one, credentials, json_name)).map(Content::Json)
        }
        (Some(Format::Dotenv | Format::Json), false) => {
            let message = format!("`{}` takes `values`", one.name("format"));
            one.error("format", message, VALUES_HINT);
            one.known("value");
            None
        }
        (Some(Format::Raw | Format::Template), true) => {
            let message = format!("`{}` takes `value`, and no `values`", one.name("format"));
            one.error("format", message, "write `value = \"…\"`, or another format");
            one.known("value");
            None
        }
    }
}

/// Only `values` is there, not `value` besides.
fn no_value(one: &Reader<'_>) -> Option<()> {
    if !one.holds("value") {
        return Some(());
    }
    one.known("value");
    one.error("value", format!("`{}` stands beside `values`", one.name("value")), "remove one of the two");
    None
}

/// A template that is nothing but one field.
fn raw(one: &Reader<'_>, credentials: &[Credential]) -> Option<Template> {
    if !one.has("value") {
        one.missing("value");
    }
    let template = template(one, "value", credentials)?;
    if template.fields().count() == 1 && template.texts().next().is_none() {
        return Some(template);
    }
    let message = format!("`{}` is more than one placeholder, or none", one.name("value"));
    one.error("value", message, "write `{credential.field}` and nothing else, or `format = \"template\"`");
    None
}

fn values(
    one: &Reader<'_>,
    credentials: &[Credential],
    check: fn(&str) -> Result<(), (&'static str, &'static str)>,
) -> Option<BTreeMap<String, Template>> {
    if !matches!(one.value("values"), Some((DeValue::Table(_), _))) {
        // Notes the wrong type.
        return one.table("values").and(None);
    }
    let table = one.table("values")?;
    let keys = table.keys();
    if keys.is_empty() {
        one.error("values", format!("`{}` is empty", one.name("values")), VALUES_HINT);
    }
    if let Some((_, span)) = keys.get(MOST_VALUES) {
        let message = format!("`{}` holds more than {MOST_VALUES} names", one.name("values"));
        one.error_at(span, message, "hand them over in several files");
    }
    let mut values = BTreeMap::new();
    for (key, span) in &keys {
        if let Err((what, hint)) = check(key) {
            table.error_at(span, format!("`{}` {what}", table.name(key)), hint);
        }
        values.extend(template(&table, key, credentials).map(|value| (key.clone(), value)));
    }
    let whole = values.len() == keys.len();
    if whole && !keys.is_empty() && values.values().all(|value| value.fields().next().is_none()) {
        warn_of_no_use(one, "values");
    }
    (whole && !keys.is_empty()).then_some(values)
}

/// Readers of such files make variables of the names.
fn dotenv_name(name: &str) -> Result<(), (&'static str, &'static str)> {
    check_variable(name).map_err(|bad| (bad.message(), bad.hint()))
}

fn json_name(name: &str) -> Result<(), (&'static str, &'static str)> {
    let fits = !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_control);
    let what = "is empty, too long, or holds a control character";
    fits.then_some(()).ok_or((what, "choose another name, of at most 255 bytes"))
}

const VALUES_HINT: &str = "write `values = { NAME = \"{credential.field}\" }`";
