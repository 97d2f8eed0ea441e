//! Reads the scopes of a server file: the tools, resources and prompts of each, how much they may be used, the
//! credentials they need and how those reach the instance.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use mcp_broker_proto::names::Label;

use super::broker_toml::Providers;
use super::credential::{Credential, credentials};
use super::granted::Scope;
use super::inject::inject;
use super::kinds::KindReader;
use super::limits::{confirm, limits};
use super::overlap::{Claims, no_overlaps};
use super::patterns::{PROMPTS, Patterns, RESOURCES, TOOLS, patterns};
use super::reader::Reader;
use super::rules::rules;

/// What every scope of a file is read with.
pub(super) struct Context<'a> {
    pub(super) env: &'a BTreeMap<String, String>,
    pub(super) providers: &'a Providers,
    pub(super) kinds: &'a [&'a KindReader],
}

/// Keys that a scope has and the server has not.
pub(super) const SCOPE_KEYS: &[&str] = &[
    "tools",
    "resources",
    "prompts",
    "idle",
    "limits",
    "arguments",
    "confirm",
    "audit_arguments",
    "credential",
    "inject",
];

/// Reads `[scope.*]` in the order of the file; `None` when a mistake was noted.
pub(super) fn read_all(top: &Reader<'_>, context: &Context<'_>) -> Option<Vec<Scope>> {
    let tables = top.table("scope");
    let keys = tables.as_ref().map(Reader::keys).unwrap_or_default();
    let Some(tables) = tables.filter(|_| !keys.is_empty()) else {
        top.error_unless_damaged("scope", "there is no scope, so no tool exists", SCOPE_HINT);
        return None;
    };
    if let Some((_, span)) = keys.get(MOST_SCOPES) {
        let message = format!("there are more than {MOST_SCOPES} scopes");
        tables.error_at(span, message, "make two servers of it, each with a file of its own");
    }
    let (mut scopes, mut claims) = (Vec::new(), Vec::new());
    for (index, (key, span)) in keys.iter().enumerate() {
        let name = key.parse::<Label>();
        if let Err(error) = &name {
            tables.error_at(span, format!("`{}` {error}", tables.name(key)), "choose another name");
        }
        let Some(table) = tables.table(key) else { continue };
        let (scope, claimed) = read(table, name.ok(), index == 0, context);
        scopes.extend(scope);
        claims.push(claimed);
    }
    no_overlaps(&tables, &claims);
    (scopes.len() == keys.len()).then_some(scopes)
}

/// Reads one scope.
fn read(
    table: Reader<'_>,
    name: Option<Label>,
    first: bool,
    context: &Context<'_>,
) -> (Option<Scope>, Claims) {
    let claims = Claims::new(&table, [TOOLS, RESOURCES, PROMPTS].map(|kind| patterns(&table, kind)));
    if !claims.lists().any(|list| list.written) {
        table.missing(TOOLS.key);
    }
    let idle = idle(&table, first);
    let arguments = rules(&table, claims.tools());
    let limits = limits(&table, !arguments.is_empty());
    let confirm = confirm(&table);
    let audit_arguments = table.boolean("audit_arguments").unwrap_or(false);
    of_no_use(&table, claims.tools());
    let credentials = table
        .table("credential")
        .map(|all| credentials(&all, context.providers, context.kinds))
        .unwrap_or_default();
    let inject = inject(&table, context.env, &credentials);
    not_injected(&table, &inject, &credentials);
    for key in SERVER_KEYS {
        table.belongs_elsewhere(key, "move it to the top of the file, above the first `[`");
    }
    table.finish();
    let [tools, resources, prompts] = claims.names();
    let credentials = credentials.into_iter().filter_map(|credential| credential.spec).collect();
    let scope = name.map(|name| Scope {
        name,
        tools,
        resources,
        prompts,
        idle,
        limits,
        confirm,
        arguments,
        audit_arguments,
        credentials,
        inject,
    });
    (scope, claims)
}

/// Later scopes may be given up sooner; the first one is what the launch itself runs on.
fn idle(table: &Reader<'_>, first: bool) -> Option<Duration> {
    if !first {
        let given = table.has("idle");
        return table.duration_within("idle", IDLE, *IDLE.end()).filter(|_| given);
    }
    table.known("idle");
    if table.holds("idle") {
        let message = format!(
            "`{}` is set on the first scope, whose instance has no time of its own",
            table.name("idle")
        );
        table.error("idle", message, "remove it, and set `idle` in [session] of broker.toml");
    }
    None
}

/// Warns of what acts on calls of tools where the scope has none.
fn of_no_use(table: &Reader<'_>, tools: &Patterns) {
    if tools.written {
        return;
    }
    for key in ["limits", "confirm", "audit_arguments"] {
        if table.holds(key) {
            let message = format!("`{}` acts on calls of tools, and the scope has none", table.name(key));
            table.warning(key, message, "remove it, or add `tools`");
        }
    }
}

fn not_injected(
    table: &Reader<'_>,
    inject: &[mcp_broker_proto::launch::Injection],
    credentials: &[Credential],
) {
    for credential in credentials {
        let mut used = inject.iter().flat_map(mcp_broker_proto::launch::Injection::credentials);
        if !used.any(|name| name.as_str() == credential.key) {
            let message = format!("credential `{}` is minted but nothing injects it", credential.key);
            table.warning_at(&credential.span, message, "use it in `inject`, or remove it");
        }
    }
}

/// So many instances of one launch, and no more, are looked after.
const MOST_SCOPES: usize = 16;

/// As the idle time of a session, which is cut by `max_age` besides.
const IDLE: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 3600);

/// Keys of the server that are easily written below the header of a scope.
const SERVER_KEYS: &[&str] = &["start", "on_leak", "client_requests", "access", "env", "cwd"];

const SCOPE_HINT: &str = "add a table such as [scope.all] with `tools = [\"*\"]`";
