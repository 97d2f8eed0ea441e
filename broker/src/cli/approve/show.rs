//! What an admin is shown before they say yes: what is there, which of it no scope names, what changed. All of it is
//! a server's own words, so nothing of it may act on a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use mcp_broker_proto::approval::ApprovalRequest;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::pattern::matches;

use super::super::report::{counted, printable};
use super::changes::{Became, Keys, Thing, Things, changes, things};
use crate::config::ServerDefinition;

/// So much of a description that was approved before is shown in the list, in characters.
const MAX_LINE: usize = 100;

/// Of what two texts have in common before they differ, so much is shown, in characters.
const CONTEXT: usize = 60;

/// What was found, in words: all of what was not there `before`, and of the rest a line each.
pub(super) fn found(
    server: &ServerDefinition,
    before: &Things,
    now: &Things,
    all_tools: &BTreeMap<Label, BTreeSet<String>>,
    revisions: &BTreeSet<&str>,
) -> String {
    let mut text = format!("server {}\ncommand: {}\n", server.name, printable(&server.command.join(" ")));
    let revisions: Vec<_> = revisions.iter().copied().collect();
    push(&mut text, format_args!("revisions: {}\n", revisions.join(", ")));
    for (thing, keys) in now.iter().filter(|(thing, _)| thing.scope.is_none() && !before.contains_key(thing))
    {
        text.push_str("\nthe server says of itself\n");
        others(&mut text, thing, keys);
    }
    for scope in &server.scopes {
        push(&mut text, format_args!("\nscope {}\n", scope.name));
        let mine: Vec<_> =
            now.iter().filter(|(thing, _)| thing.scope.as_ref() == Some(&scope.name)).collect();
        for (thing, keys) in &mine {
            if before.contains_key(*thing) {
                let line = descriptions(keys).into_iter().next().unwrap_or_default();
                let line = shortened(line.lines().next().unwrap_or_default(), MAX_LINE);
                push(&mut text, format_args!("  {} {}: {line}\n", thing.what, printable(&thing.name)));
            } else {
                whole(&mut text, thing, keys);
            }
        }
        if mine.is_empty() {
            text.push_str("  nothing: its patterns match nothing that the server shows\n");
        }
        for (what, patterns) in
            [("tool", &scope.tools), ("resource", &scope.resources), ("prompt", &scope.prompts)]
        {
            let idle = patterns.iter().filter(|pattern| {
                !mine.iter().any(|(thing, _)| thing.what.starts_with(what) && matches(pattern, &thing.name))
            });
            idle.for_each(|pattern| {
                push(&mut text, format_args!("  pattern `{}` matches no {what}\n", printable(pattern)));
            });
        }
    }
    let unnamed = all_tools.values().flatten().filter(|tool| {
        !server.scopes.iter().any(|scope| scope.tools.iter().any(|pattern| matches(pattern, tool)))
    });
    let unnamed: BTreeSet<_> = unnamed.map(|tool| printable(tool)).collect();
    if !unnamed.is_empty() {
        let unnamed: Vec<_> = unnamed.into_iter().collect();
        push(&mut text, format_args!("\nin no scope, so hidden: {}\n", unnamed.join(", ")));
    }
    text
}

/// What changed since the last approval, in words.
pub(super) fn changed(previous: Option<&ApprovalRequest>, definition: &str, now: &Things) -> String {
    let Some(previous) = previous else { return "\nnot approved before\n".to_owned() };
    let mut text = format!("\nsince it was approved at {}:\n", previous.record.approved_at);
    if previous.definition != definition {
        text.push_str("  the definition is another one\n");
    }
    let changes = changes(&things(&previous.record), now);
    if changes.is_empty() {
        text.push_str("  the server shows the same\n");
    }
    for (thing, became) in &changes {
        let name = name_of(thing);
        match became {
            Became::Added => push(&mut text, format_args!("  added: {name}\n")),
            Became::Missing => push(&mut text, format_args!("  missing: {name}\n")),
            Became::Altered(keys) => {
                let count = counted(keys.len(), "key");
                push(&mut text, format_args!("  altered: {name}, {count}\n"));
                for (key, (before, now)) in keys {
                    let key = printable(key);
                    let (before, now) = from_difference(before, now);
                    push(&mut text, format_args!("    {key} was {}\n", printable(&before)));
                    push(&mut text, format_args!("    {key} is  {}\n", printable(&now)));
                }
            }
        }
    }
    text
}

/// Everything of a thing that nobody has approved: it is what a model reads, to its last line.
fn whole(text: &mut String, thing: &Thing, keys: &Keys) {
    let descriptions = descriptions(keys);
    let mut lines = descriptions.iter().flat_map(|description| description.split('\n'));
    let first = printable(lines.next().unwrap_or_default());
    push(text, format_args!("  {} {}: {first}\n", thing.what, printable(&thing.name)));
    lines.for_each(|line| push(text, format_args!("    | {}\n", printable(line))));
    others(text, thing, keys);
}

/// The keys that are neither the name nor a description of it; texts by their lines.
fn others(text: &mut String, thing: &Thing, keys: &Keys) {
    for (key, values) in keys {
        for value in values {
            let words = serde_json::from_str::<String>(value);
            let label = printable(key);
            match (words, key.as_str()) {
                (Ok(_), "description") => {}
                (Ok(name), "name" | "uri" | "uriTemplate") if name == thing.name => {}
                (Ok(words), "instructions") => {
                    push(text, format_args!("    {label}:\n"));
                    words
                        .split('\n')
                        .for_each(|line| push(text, format_args!("    | {}\n", printable(line))));
                }
                _ => push(text, format_args!("    {label}: {}\n", printable(value))),
            }
        }
    }
}

/// What clients of all kinds are told that it is.
fn descriptions(keys: &Keys) -> Vec<String> {
    let values = keys.get("description").into_iter().flatten();
    values.filter_map(|value| serde_json::from_str(value).ok()).collect()
}

/// Two texts from a little before the first character in which they differ, each to its end.
fn from_difference(before: &str, now: &str) -> (String, String) {
    let same = before.chars().zip(now.chars()).take_while(|(before, now)| before == now).count();
    let skipped = same.saturating_sub(CONTEXT);
    let rest = |text: &str| {
        let rest = text.chars().skip(skipped);
        if skipped > 0 { std::iter::once('…').chain(rest).collect() } else { rest.collect::<String>() }
    };
    (rest(before), rest(now))
}

fn name_of(thing: &Thing) -> String {
    match &thing.scope {
        Some(scope) => format!("{} {} of scope {scope}", thing.what, printable(&thing.name)),
        None => "what the server says of itself".to_owned(),
    }
}

fn shortened(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    printable(&short)
}

fn push(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    // Writing into a String cannot fail.
    text.write_fmt(arguments).unwrap_or_default();
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::config::plain::server;

    fn thing(what: &'static str, name: &str, keys: &Value) -> (Thing, Keys) {
        let scope = (what == "tool").then(|| server("x").scopes.first().unwrap().name.clone());
        let keys = keys.as_object().unwrap().iter();
        let keys = keys.map(|(key, value)| (key.clone(), BTreeSet::from([value.to_string()])));
        (Thing { scope, what, name: name.to_owned() }, keys.collect())
    }

    #[test]
    fn what_nobody_approved_is_shown_whole() {
        let long = format!("reads\n{}\n\u{202e}then sends it on", "x".repeat(1000));
        let schema = json!({ "type": "object", "properties": { "a": { "description": "b\u{200b}c" } } });
        let keys = json!({ "name": "read", "description": long, "inputSchema": schema, "title": "R" });
        let now = Things::from([
            thing("tool", "read", &keys),
            thing(
                "discovery",
                "",
                &json!({ "instructions": "be nice\nor not", "capabilities": { "tools": {} } }),
            ),
        ]);
        let said = found(&server("x"), &Things::new(), &now, &BTreeMap::new(), &BTreeSet::new());
        for line in [
            "  tool read: reads",
            &format!("    | {}", "x".repeat(1000)),
            "    | \\u{202e}then sends it on",
            r#"    inputSchema: {"properties":{"a":{"description":"b\u{200b}c"}},"type":"object"}"#,
            "    title: \"R\"",
            "    | be nice",
            "    | or not",
            "    capabilities: {\"tools\":{}}",
        ] {
            assert!(said.lines().any(|one| one == line), "`{line}` is not in:\n{said}");
        }
        let said = found(&server("x"), &now, &now, &BTreeMap::new(), &BTreeSet::new());
        assert!(said.contains("  tool read: reads\n") && !said.contains("inputSchema"), "{said}");
    }

    #[test]
    fn texts_are_shown_from_where_they_differ_to_their_ends() {
        let both = |before: &str, now: &str| from_difference(before, now);
        assert_eq!(both("abc", "abd and more"), ("abc".to_owned(), "abd and more".to_owned()));
        let (same, tail) = ("x".repeat(5000), "y".repeat(5000));
        let (before, now) = both(&format!("{same}1{tail}"), &format!("{same}2{tail}"));
        let shown = |digit: &str| format!("…{}{digit}{tail}", "x".repeat(CONTEXT));
        assert_eq!((before, now), (shown("1"), shown("2")));
        assert_eq!(both(&same, &format!("{same}z")).1.chars().next_back(), Some('z'));
    }
}
