//! What an admin is shown before they say yes: what is there, which of it no scope names, what changed. All of it is
//! a server's own words, so nothing of it may act on a terminal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use mcp_broker_proto::names::Label;
use mcp_broker_proto::pattern::matches;
use mcp_broker_proto::session::ApprovalRequest;

use super::super::report::{counted, printable};
use super::changes::{Became, Thing, Things, changes, things};
use crate::config::ServerDefinition;

/// So much of one value is shown, in characters.
const MAX_VALUE: usize = 600;

/// So much of a description is shown in the list, in characters.
const MAX_LINE: usize = 100;

/// What was found, in words.
pub(super) fn found(
    server: &ServerDefinition,
    now: &Things,
    all_tools: &BTreeMap<Label, BTreeSet<String>>,
    revisions: &BTreeSet<&str>,
) -> String {
    let mut text = format!("server {}\ncommand: {}\n", server.name, printable(&server.command.join(" ")));
    let revisions: Vec<_> = revisions.iter().copied().collect();
    push(&mut text, format_args!("revisions: {}\n", revisions.join(", ")));
    for scope in &server.scopes {
        push(&mut text, format_args!("\nscope {}\n", scope.name));
        let mine: Vec<_> =
            now.iter().filter(|(thing, _)| thing.scope.as_ref() == Some(&scope.name)).collect();
        for (thing, keys) in &mine {
            let description = keys.get("description").and_then(|texts| texts.iter().next_back());
            let description = description.and_then(|text| serde_json::from_str::<String>(text).ok());
            let line = description.unwrap_or_default();
            let line = shortened(line.lines().next().unwrap_or_default(), MAX_LINE);
            push(&mut text, format_args!("  {} {}: {line}\n", thing.what, printable(&thing.name)));
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
                    push(&mut text, format_args!("    {key} was {}\n", shortened(before, MAX_VALUE)));
                    push(&mut text, format_args!("    {key} is  {}\n", shortened(now, MAX_VALUE)));
                }
            }
        }
    }
    text
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
