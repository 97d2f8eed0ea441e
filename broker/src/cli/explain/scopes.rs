//! The part of the answer that is about scopes: which tools each has, what it is minted, how much it may be used.
//! Names credentials and providers; no path of a provider is in it.

use super::Lines;
use super::pins::Pins;
use crate::config::{Config, CredentialSpec, OnLock, Scope, ServerDefinition, nearest, words};
use crate::policy::{limit_words, scope_of};
use crate::provider::sealed;

/// Says what the person gets: by every scope, or of one tool. Answers whether there is that tool.
pub(super) fn explain(
    lines: &mut Lines,
    config: &Config,
    server: &ServerDefinition,
    pins: &Pins,
    tool: Option<&str>,
) -> bool {
    let Some(tool) = tool else {
        for (index, scope) in server.scopes.iter().enumerate() {
            what_it_names(lines, scope, index == 0 && server.scopes.len() > 1);
            what_it_gets(lines, config, scope, None);
        }
        lines.add(&format!("  {}", pins.words()));
        return true;
    };
    if let Some((scope, pattern)) = scope_of(server, tool) {
        let by = if pattern == tool { "by its name".to_owned() } else { format!("by `{pattern}`") };
        lines.add(&format!("  yes scope `{}` names the tool {by}", scope.name));
        what_it_gets(lines, config, scope, Some(tool));
        let (pinned, there) = pins.of_tool(&scope.name, tool);
        if there {
            lines.add(&format!("    {pinned}"));
        } else {
            lines.add(&format!("  no  {pinned}"));
            lines.add(&format!("hint: if the server has it now, run `mcp-broker approve {}`", server.name));
        }
        return there;
    }
    lines.add("  no  no scope names the tool, so for a client it does not exist");
    for scope in &server.scopes {
        lines.add(&format!("    scope `{}` has {}", scope.name, tools_of(scope)));
    }
    let exact = server.scopes.iter().flat_map(|scope| &scope.tools).filter(|pattern| !pattern.contains('*'));
    lines.add(&match nearest(tool, exact.map(String::as_str)) {
        Some(near) => format!("hint: did you mean `{near}`?"),
        None => "hint: add it to `tools` of the scope whose credentials it needs".to_owned(),
    });
    false
}

/// A tool's name from the command line. Control characters of an argument are not passed on to the terminal.
pub(super) fn shown(tool: &str) -> String {
    format!("`{}`", tool.escape_debug())
}

fn what_it_names(lines: &mut Lines, scope: &Scope, first: bool) {
    let rest = if first { ", and answers what belongs to no tool" } else { "" };
    lines.add(&format!("  scope `{}` has {}{rest}", scope.name, tools_of(scope)));
    for (noun, patterns) in [("resources", &scope.resources), ("prompts", &scope.prompts)] {
        if !patterns.is_empty() {
            lines.add(&format!("    {noun} {}", listed(patterns)));
        }
    }
}

fn tools_of(scope: &Scope) -> String {
    match scope.tools.as_slice() {
        [] => "no tool".to_owned(),
        [all] if all == "*" => "every tool of the server".to_owned(),
        tools => format!("tools {}", listed(tools)),
    }
}

fn listed(patterns: &[String]) -> String {
    patterns.iter().map(|pattern| format!("`{pattern}`")).collect::<Vec<_>>().join(", ")
}

fn what_it_gets(lines: &mut Lines, config: &Config, scope: &Scope, tool: Option<&str>) {
    if scope.credentials.is_empty() {
        lines.add("    mints nothing");
    }
    for credential in &scope.credentials {
        lines.add(&format!("    {}", minted(config, credential)));
    }
    for limit in limit_words(scope, tool) {
        lines.add(&format!("    {limit}"));
    }
    lines.add(&format!("    {}", how_it_ends(config, scope)));
}

fn minted(config: &Config, credential: &CredentialSpec) -> String {
    let CredentialSpec { name, provider, ttl, .. } = credential;
    let kind = config.providers.get(provider).map(|section| section.kind);
    if kind == Some(sealed::KIND.reader.name) {
        return format!("hands over `{name}` from provider `{provider}`, does not expire: a static value");
    }
    format!("mints `{name}` from provider `{provider}`, {} s without renewal", ttl.as_secs())
}

/// What ends the scope's instance and its credentials while the launch goes on, and what brings them back.
fn how_it_ends(config: &Config, scope: &Scope) -> String {
    let lock = match config.session.on_lock {
        OnLock::Park => "a lock ends it until the session is unlocked",
        OnLock::End => "a lock ends the launch",
    };
    let idle = words(scope.idle.unwrap_or(config.session.idle));
    format!("ends its instance after {idle} without a request, until the next one; {lock}")
}
