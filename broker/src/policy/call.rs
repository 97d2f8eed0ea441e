//! May this call of a tool go on, as far as the definition says: pure, no clock, no state. Whether the session is
//! alive and whether a person said yes is for others to know; the words for every answer are here.

use mcp_broker_proto::call::{Ask, CallReason};
use mcp_broker_proto::pattern;

use super::arguments;
use super::rule_words::rule_words;
use super::usage::Usage;
use crate::config::{ArgumentRule, Confirm, Scope, ServerDefinition};

/// The answer to one call.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallDecision {
    /// It may go on.
    Allow,
    /// It may go on where a person says yes, or did lately in the sense of [`Confirm::For`].
    Confirm(Confirm),
    /// No.
    Deny(CallDenial),
}

/// Why a call may not go on, or not yet: for programs and for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallDenial {
    /// Why.
    pub reason: CallReason,
    /// What happened: lower case, no full stop. Names arguments, never their values.
    pub what: String,
    /// What the person can do.
    pub hint: String,
}

impl CallDenial {
    /// The words for `reason` about this call; for an argument that is refused, [`decide_call`] has better ones.
    #[must_use]
    pub fn of(reason: CallReason, definition: &ServerDefinition, ask: &Ask) -> Self {
        let (what, hint) = words(reason, definition, ask);
        Self { reason, what, hint }
    }
}

/// Decides on a call by the definition. `usage` is that of its scope without this call; `changed` says whether the
/// server shows the tool otherwise than it was approved. The first step that denies is the one that is told, and no
/// later step can undo it.
pub fn decide_call(definition: &ServerDefinition, ask: &Ask, usage: &Usage, changed: bool) -> CallDecision {
    let deny = |reason| CallDecision::Deny(CallDenial::of(reason, definition, ask));
    let Some(scope) = definition.scope(&ask.scope).filter(|scope| scope.names_tool(&ask.tool)) else {
        return deny(CallReason::NotInScope);
    };
    if changed {
        return deny(CallReason::Changed);
    }
    if ask.size > scope.limits.argument_size {
        return deny(CallReason::ArgumentsTooLong);
    }
    if let Some((name, rule)) = broken_rule(scope, ask) {
        return CallDecision::Deny(CallDenial {
            reason: CallReason::ArgumentRefused,
            what: format!(
                "argument `{name}` of {} is not what scope `{}` allows",
                tool_of(definition, ask),
                scope.name
            ),
            hint: format!("call it with `{name}` {}", rule_words(rule)),
        });
    }
    let reached = |limit: Option<u32>, used: u32| limit.is_some_and(|limit| used >= limit);
    if reached(scope.limits.calls_per_minute, usage.last_minute) {
        return deny(CallReason::TooManyPerMinute);
    }
    if reached(scope.limits.concurrent_calls, usage.at_once) {
        return deny(CallReason::TooManyAtOnce);
    }
    scope.confirm.map_or(CallDecision::Allow, CallDecision::Confirm)
}

/// The rules for a tool: of every pattern that names it.
pub(super) fn rules_for<'a>(
    scope: &'a Scope,
    tool: &'a str,
) -> impl Iterator<Item = (&'a String, &'a ArgumentRule)> {
    let of_tool = scope.arguments.iter().filter(move |rules| pattern::matches(&rules.tools, tool));
    of_tool.flat_map(|rules| &rules.rules)
}

/// The first rule that the call does not keep.
fn broken_rule<'a>(scope: &'a Scope, ask: &'a Ask) -> Option<(&'a String, &'a ArgumentRule)> {
    rules_for(scope, &ask.tool).find(|(name, rule)| match ask.named.get(*name) {
        Some(text) => !arguments::keeps(rule, text),
        None => !rule.optional,
    })
}

fn words(reason: CallReason, definition: &ServerDefinition, ask: &Ask) -> (String, String) {
    let (tool, scope, server) = (tool_of(definition, ask), &ask.scope, &definition.name);
    let limits = definition.scope(scope).map(|scope| scope.limits).unwrap_or_default();
    let at_most = |limit: Option<u32>, when: &str| match limit {
        Some(limit) => format!("scope `{scope}` allows {limit} calls {when}"),
        None => format!("there are too many calls {when}"),
    };
    let (what, hint) = match reason {
        CallReason::Allowed | CallReason::Confirmed => (String::new(), String::new()),
        CallReason::AwaitsConfirmation => (
            format!("{tool} waits for a person's yes"),
            "answer the question, or run `mcp-run approve ID`".to_owned(),
        ),
        CallReason::Declined => {
            (format!("the person said no to {tool}"), "ask the person what to do instead".to_owned())
        }
        CallReason::NotConfirmed => {
            let seconds = mcp_broker_proto::CONFIRM_SECS;
            (format!("nobody said yes to {tool} within {seconds} seconds"), CONFIRM_HINT.to_owned())
        }
        CallReason::SessionLocked => ("the session is locked".to_owned(), LOCKED_HINT.to_owned()),
        CallReason::SessionOver => {
            ("the session is over".to_owned(), "restart the server in the client".to_owned())
        }
        CallReason::AccessLost => (
            format!("server `{server}` may not be used any more"),
            format!("`mcp-run servers` says why; {ADMIN_ACCESS}"),
        ),
        CallReason::PlanChanged => (
            format!("the definition of server `{server}` has just changed"),
            "call again: the new one is in force".to_owned(),
        ),
        CallReason::NotInScope => {
            (format!("no scope allows {tool}"), format!("`mcp-run servers` lists the tools of `{server}`"))
        }
        CallReason::Changed => (
            format!("the server shows {tool} otherwise than it was approved"),
            format!("ask the admin to look at it and run `mcp-broker approve {server}`"),
        ),
        CallReason::TooManyPerMinute => (
            format!("{tool} was not called: {}", at_most(limits.calls_per_minute, "a minute")),
            "wait a minute, then call again".to_owned(),
        ),
        CallReason::TooManyAtOnce => (
            format!("{tool} was not called: {}", at_most(limits.concurrent_calls, "at once")),
            "wait for the answers to the others, then call again".to_owned(),
        ),
        CallReason::ArgumentsTooLong => (
            format!("the arguments of {tool} are longer than {} bytes of JSON", limits.argument_size),
            "send less at once".to_owned(),
        ),
        CallReason::ArgumentRefused => (
            format!("an argument of {tool} is not what scope `{scope}` allows"),
            format!("`mcp-run servers` shows the rules of `{server}`"),
        ),
        CallReason::AuditUnavailable => {
            (format!("{tool} was not called, as the audit log cannot be written"), AUDIT_HINT.to_owned())
        }
    };
    (what, hint)
}

/// The tool for people. Its name came from the client, so it is cut and no control character of it is passed on.
fn tool_of(definition: &ServerDefinition, ask: &Ask) -> String {
    let shown: String = ask.tool.chars().take(LONGEST_NAME).collect();
    let more = if shown.len() < ask.tool.len() { "…" } else { "" };
    format!("tool `{}{more}` of server `{}`", shown.escape_debug(), definition.name)
}

/// As many characters as MCP lets a tool's name have (2025-11-25, server/tools, Tool Names).
const LONGEST_NAME: usize = 128;
const CONFIRM_HINT: &str =
    "call again with the person at hand, who answers the question or runs `mcp-run approve ID`";
const LOCKED_HINT: &str = "unlock the session; `mcp-run status` says how";
const ADMIN_ACCESS: &str = "ask the admin for access";
const AUDIT_HINT: &str = "ask the admin to look at the broker's disk; `mcp-run doctor` says more";
