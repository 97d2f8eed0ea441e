//! Reads one file of `servers.d`: what the server is, how it is started, who may use it. Its scopes are read
//! beside this.

use std::collections::{BTreeMap, BTreeSet};

use mcp_broker_proto::names::ServerName;
use mcp_broker_proto::plan::ClientRequest;

use super::broker_toml::Providers;
use super::kinds::KindReader;
use super::model::{Access, OnLeak, ServerDefinition, Start, Tier};
use super::nearest::nearest;
use super::reader::Reader;
use super::scope::{self, SCOPE_KEYS};
use super::shapes::secret_shape;
use super::variables::check_variable;

/// Reads the whole file; `None` when a mistake was noted.
pub(super) fn read(
    top: Reader<'_>,
    name: ServerName,
    providers: &Providers,
    kinds: &[&KindReader],
) -> Option<ServerDefinition> {
    let description = top.text("description").unwrap_or_default();
    let owner = top.text("owner").unwrap_or_default();
    let tier = tier(&top);
    let command = command(&top);
    let extra_args = extra_args(&top);
    let env = top.table("env").map(|table| env(&table)).unwrap_or_default();
    let cwd = cwd(&top);
    let access = top.table("access").map(access);
    if access.as_ref().is_none_or(|access| access.users.is_empty() && access.groups.is_empty()) {
        top.warning_unless_damaged("access", "nobody may use this server", ACCESS_HINT);
    }
    let start = top.word("start", &[("lazy", Start::Lazy), ("eager", Start::Eager)]);
    let on_leak = top.word("on_leak", &[("mask", OnLeak::Mask), ("end", OnLeak::End)]);
    let client_requests = client_requests(&top);
    let scopes = scope::read_all(&top, &scope::Context { env: &env, providers, kinds });
    not_built(&top);
    for key in SCOPE_KEYS {
        top.belongs_elsewhere(key, "move it into a scope, below `[scope.NAME]`");
    }
    top.finish();
    Some(ServerDefinition {
        name,
        description,
        owner,
        tier: tier?,
        command: command?,
        extra_args,
        env,
        cwd: cwd?,
        access: access.unwrap_or_default(),
        scopes: scopes?,
        start: start.unwrap_or(Start::Lazy),
        on_leak: on_leak.unwrap_or(OnLeak::Mask),
        client_requests,
    })
}

fn not_built(top: &Reader<'_>) {
    top.not_built("package", "packages are neither pinned nor verified, so `command` names a program");
    top.not_built("sandbox", "nothing enforces a sandbox");
}

fn client_requests(top: &Reader<'_>) -> BTreeSet<ClientRequest> {
    let mut allowed = BTreeSet::new();
    for (word, span) in top.spanned_texts("client_requests").unwrap_or_default() {
        match CLIENT_REQUESTS.iter().find(|(known, _)| *known == word) {
            Some((_, request)) => {
                allowed.insert(*request);
            }
            None => {
                let known = CLIENT_REQUESTS.iter().map(|(known, _)| *known);
                let hint = match nearest(&word, known) {
                    Some(near) => format!("did you mean \"{near}\"?"),
                    None => "write \"sampling\", \"elicitation\" or \"roots\"".to_owned(),
                };
                top.error_at(&span, "`client_requests` holds a word that is not known", hint);
            }
        }
    }
    allowed
}

fn tier(top: &Reader<'_>) -> Option<Tier> {
    if !top.has("tier") {
        top.missing("tier");
    }
    for higher in ["sensitive", "regulated"] {
        if top.not_built_word("tier", higher, TIER_REASON, TIER_HINT) {
            return None;
        }
    }
    top.word("tier", &[(Tier::Development.as_str(), Tier::Development)])
}

fn command(top: &Reader<'_>) -> Option<Vec<String>> {
    if !top.has("command") {
        top.missing("command");
    }
    let parts = top.spanned_texts("command")?;
    match parts.first() {
        None => top.error("command", "`command` is empty", COMMAND_HINT),
        Some((program, _)) if program.starts_with('/') => {}
        Some((_, span)) => {
            top.error_at(span, "the program in `command` is not an absolute path", COMMAND_HINT)
        }
    }
    for (part, span) in &parts {
        no_nul(top, "command", part, span);
        if let Some(kind) = secret_shape(part) {
            let message = format!("`command` seems to hold {kind}, and every process can read arguments");
            top.error_at(span, message, CREDENTIAL_HINT);
        }
    }
    Some(parts.into_iter().map(|(part, _)| part).collect())
}

fn extra_args(top: &Reader<'_>) -> Vec<String> {
    let patterns = top.spanned_texts("extra_args").unwrap_or_default();
    for (pattern, span) in &patterns {
        if pattern.contains(['\0', '\n']) {
            let message = "a pattern of `extra_args` holds a NUL or a line feed";
            top.error_at(span, message, "remove it; no argument with one is ever allowed");
        }
        if !pattern.is_empty() && pattern.chars().all(|c| c == '*') {
            let message = "a pattern of `extra_args` allows every argument, options too";
            top.warning_at(span, message, "begin it with what the argument must begin with");
        }
    }
    patterns.into_iter().map(|(pattern, _)| pattern).collect()
}

fn env(table: &Reader<'_>) -> BTreeMap<String, String> {
    let mut env = BTreeMap::new();
    for (key, span) in table.keys() {
        if let Err(bad) = check_variable(&key) {
            table.error_at(&span, format!("`{}` {}", table.name(&key), bad.message()), bad.hint());
        }
        let Some(value) = table.text(&key) else { continue };
        no_nul(table, &key, &value, &table.span_of(&key));
        if let Some(kind) = secret_shape(&value) {
            let message = format!("`{}` seems to hold {kind}", table.name(&key));
            table.error(&key, message, CREDENTIAL_HINT);
        }
        env.insert(key, value);
    }
    env
}

fn cwd(top: &Reader<'_>) -> Option<String> {
    if !top.has("cwd") {
        return Some(HOME.to_owned());
    }
    let cwd = top.text("cwd")?;
    let below_home = cwd.strip_prefix(HOME).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if !below_home && !cwd.starts_with('/') {
        top.error("cwd", "`cwd` is neither absolute nor below `{home}`", "begin it with `/` or `{home}`");
        return None;
    }
    if cwd.split('/').any(|component| component == "..") || cwd.contains('\0') {
        top.error("cwd", "`cwd` holds `..` or a NUL", "write the directory itself");
        return None;
    }
    Some(cwd)
}

fn access(table: Reader<'_>) -> Access {
    let users = names(&table, "users");
    let groups = names(&table, "groups");
    table.finish();
    Access { users, groups }
}

fn names(table: &Reader<'_>, key: &str) -> Vec<String> {
    let names = table.spanned_texts(key).unwrap_or_default();
    for (name, span) in &names {
        if name.is_empty() || name.contains(char::is_control) {
            let message = format!("`{}` holds an empty name or one with control characters", table.name(key));
            table.error_at(span, message, "write names as `id` prints them");
        } else if name.contains('*') {
            let message = format!("`{}` holds a `*`, which is no pattern here", table.name(key));
            table.error_at(span, message, "name each one, or a group that all of them are in");
        }
    }
    names.into_iter().map(|(name, _)| name).collect()
}

fn no_nul(reader: &Reader<'_>, key: &str, text: &str, span: &std::ops::Range<usize>) {
    if text.contains('\0') {
        let message = format!("`{}` holds a NUL", reader.name(key));
        reader.error_at(span, message, "remove it; a program cannot be given one (execve(2))");
    }
}

const CLIENT_REQUESTS: &[(&str, ClientRequest)] = &[
    ("sampling", ClientRequest::Sampling),
    ("elicitation", ClientRequest::Elicitation),
    ("roots", ClientRequest::Roots),
];
const HOME: &str = "{home}";
const TIER_REASON: &str = "only a privileged helper could keep its secrets from the person's other programs";
const TIER_HINT: &str =
    "write `tier = \"development\"`; the other tiers need that helper, which does not exist yet";
const COMMAND_HINT: &str = "begin it with the program's full path, as `command -v` prints it";
const ACCESS_HINT: &str = "name people in [access]: `users = [\"…\"]` or `groups = [\"…\"]`";
pub(super) const CREDENTIAL_HINT: &str =
    "put it into a provider, add a `credential` to the scope and hand it over with `inject`";
