//! The decision on a call against the rule in other words, for every combination of what it depends on, and the
//! words that a person gets.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests may")]

use std::collections::BTreeMap;
use std::time::Duration;

use mcp_broker_proto::call::{Ask, CallReason};
use serde_json::json;

use super::testing::server_of;
use super::{CallDecision, CallDenial, Usage, decide_call};
use crate::config::{ArgumentRule, Confirm, Limits, ServerDefinition, ToolRules};

/// What a decision depends on. Each of its parts can only speak against the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Case {
    scope: &'static str,
    tool: &'static str,
    changed: bool,
    size: u64,
    argument: Option<&'static str>,
    last_minute: u32,
    at_once: u32,
    confirm: Option<Confirm>,
    optional: bool,
    limited: bool,
}

const MINUTES: Confirm = Confirm::For(Duration::from_secs(600));

/// Scope `read` has `get_*` with a rule for `db` on `get_row` and `get_t*`, scope `write` has `put`.
fn definition(case: &Case) -> ServerDefinition {
    let mut definition = server_of(&[("read", &["get_*"]), ("write", &["put"])]);
    let rule = ArgumentRule {
        one_of: Some(vec![json!("a"), json!(1)]),
        optional: case.optional,
        ..ArgumentRule::default()
    };
    let rules =
        |tools: &str| ToolRules { tools: tools.into(), rules: BTreeMap::from([("db".into(), rule.clone())]) };
    let most = |most: u32| case.limited.then_some(most);
    for scope in &mut definition.scopes {
        scope.limits = Limits {
            calls_per_minute: most(3),
            concurrent_calls: most(2),
            argument_size: 10,
            ..Limits::default()
        };
        scope.confirm = case.confirm;
        scope.arguments = vec![rules("get_t*"), rules("get_row")];
    }
    definition
}

fn ask(case: &Case) -> Ask {
    Ask {
        revision: 1,
        call: 1,
        scope: case.scope.parse().unwrap(),
        tool: case.tool.into(),
        size: case.size,
        sha256: String::new(),
        named: case.argument.map(|text| ("db".into(), text.into())).into_iter().collect(),
        whole: None,
        elicits: false,
    }
}

fn decide(case: &Case) -> CallDecision {
    let usage = Usage { last_minute: case.last_minute, at_once: case.at_once };
    decide_call(&definition(case), &ask(case), &usage, case.changed)
}

fn every_case() -> Vec<Case> {
    let mut cases = Vec::new();
    for scope in ["read", "write", "gone"] {
        for tool in ["get_row", "get_all", "put", "get_\n", ""] {
            for argument in [None, Some("\"a\""), Some("1.0"), Some("\"b\""), Some("\"a")] {
                for (last_minute, at_once) in [(0, 0), (2, 1), (3, 0), (0, 2), (u32::MAX, u32::MAX)] {
                    for bits in 0..16 {
                        let bit = |place: u32| bits & (1 << place) != 0;
                        let (changed, optional, limited) = (bit(0), bit(1), bit(2));
                        let size = if bit(3) { 10 } else { 11 };
                        for confirm in [None, Some(Confirm::Each), Some(MINUTES)] {
                            cases.push(Case {
                                scope,
                                tool,
                                changed,
                                size,
                                argument,
                                last_minute,
                                at_once,
                                confirm,
                                optional,
                                limited,
                            });
                        }
                    }
                }
            }
        }
    }
    cases
}

/// The rule in other words: the first of these that holds.
fn expected(case: &Case) -> Option<CallReason> {
    let named =
        [("read", "get_row"), ("read", "get_all"), ("write", "put")].contains(&(case.scope, case.tool));
    let refused = case.tool == "get_row"
        && match case.argument {
            None => !case.optional,
            Some(text) => text != "\"a\"" && text != "1.0",
        };
    let steps = [
        (!named, CallReason::NotInScope),
        (case.changed, CallReason::Changed),
        (case.size == 11, CallReason::ArgumentsTooLong),
        (refused, CallReason::ArgumentRefused),
        (case.limited && case.last_minute >= 3, CallReason::TooManyPerMinute),
        (case.limited && case.at_once >= 2, CallReason::TooManyAtOnce),
    ];
    steps.into_iter().find_map(|(holds, reason)| holds.then_some(reason))
}

#[test]
fn allowed_only_where_every_step_agrees() {
    let (mut allowed, mut asked) = (0, 0);
    for case in every_case() {
        match (decide(&case), expected(&case)) {
            (CallDecision::Deny(denial), Some(reason)) => assert_eq!(denial.reason, reason, "{case:?}"),
            (CallDecision::Allow, None) => {
                assert_eq!(case.confirm, None, "{case:?}");
                allowed += 1;
            }
            (CallDecision::Confirm(confirm), None) => {
                assert_eq!(Some(confirm), case.confirm, "{case:?}");
                asked += 1;
            }
            (got, want) => panic!("{case:?}: {got:?}, not {want:?}"),
        }
    }
    assert!(allowed > 100 && asked == 2 * allowed, "{allowed} {asked}");
}

/// Whatever is made worse about a call, a denial stays one, and what was asked of a person is not waved through.
#[test]
fn a_reason_to_deny_never_grants() {
    let worse: [fn(&mut Case); 9] = [
        |case| case.scope = "gone",
        |case| case.tool = "delete",
        |case| case.changed = true,
        |case| case.size = u64::MAX,
        |case| case.argument = Some("{"),
        |case| case.optional = false,
        |case| case.last_minute = u32::MAX,
        |case| case.limited = true,
        |case| case.confirm = case.confirm.or(Some(Confirm::Each)),
    ];
    let rank = |decision: &CallDecision| match decision {
        CallDecision::Allow => 2,
        CallDecision::Confirm(_) => 1,
        CallDecision::Deny(_) => 0,
    };
    let mut turned = 0;
    for case in every_case() {
        let before = rank(&decide(&case));
        for change in worse {
            let mut after = case;
            change(&mut after);
            let now = rank(&decide(&after));
            assert!(now <= before, "{case:?} {after:?}");
            turned += u32::from(now < before);
        }
    }
    assert!(turned > 1000, "{turned}");
}

const GOOD: Case = Case {
    scope: "read",
    tool: "get_row",
    changed: false,
    size: 2,
    argument: Some("1"),
    last_minute: 0,
    at_once: 0,
    confirm: None,
    optional: false,
    limited: true,
};

fn denial(case: &Case) -> (String, String) {
    let CallDecision::Deny(CallDenial { what, hint, .. }) = decide(case) else { panic!("{case:?}") };
    (what, hint)
}

#[test]
fn words_for_people() {
    for (case, what, hint) in [
        (
            Case { scope: "write", ..GOOD },
            "no scope allows tool `get_row` of server `s`",
            "`mcp-run servers` lists the tools of `s`",
        ),
        (
            Case { changed: true, ..GOOD },
            "the server shows tool `get_row` of server `s` otherwise than it was approved",
            "ask the admin to look at it and run `mcp-broker approve s`",
        ),
        (
            Case { size: 11, ..GOOD },
            "the arguments of tool `get_row` of server `s` are longer than 10 bytes of JSON",
            "send less at once",
        ),
        (
            Case { argument: Some("\"canary\""), ..GOOD },
            "argument `db` of tool `get_row` of server `s` is not what scope `read` allows",
            "call it with `db` one of \"a\", 1",
        ),
        (
            Case { last_minute: 3, ..GOOD },
            "tool `get_row` of server `s` was not called: scope `read` allows 3 calls a minute",
            "wait a minute, then call again",
        ),
        (
            Case { at_once: 2, ..GOOD },
            "tool `get_row` of server `s` was not called: scope `read` allows 2 calls at once",
            "wait for the answers to the others, then call again",
        ),
    ] {
        assert_eq!(denial(&case), (what.to_owned(), hint.to_owned()));
    }
}

/// A tool's name is the client's text: it is cut, and nothing of it acts on a terminal.
#[test]
fn a_tool_of_any_name_is_shown_safely() {
    let (what, _) = denial(&Case { tool: "\u{1b}[2J`\n", ..GOOD });
    assert_eq!(what, "no scope allows tool `\\u{1b}[2J`\\n` of server `s`");
    let long: &'static str = "ä".repeat(129).leak();
    let (what, _) = denial(&Case { tool: long, ..GOOD });
    assert_eq!(what, format!("no scope allows tool `{}…` of server `s`", "ä".repeat(128)));
}

#[test]
fn every_reason_has_words() {
    use CallReason as R;
    let (definition, ask) = (definition(&GOOD), ask(&GOOD));
    for reason in [
        R::AwaitsConfirmation,
        R::Declined,
        R::NotConfirmed,
        R::SessionLocked,
        R::SessionOver,
        R::AccessLost,
        R::PlanChanged,
        R::NotInScope,
        R::Changed,
        R::TooManyPerMinute,
        R::TooManyAtOnce,
        R::ArgumentsTooLong,
        R::ArgumentRefused,
        R::AuditUnavailable,
    ] {
        let denial = CallDenial::of(reason, &definition, &ask);
        assert_eq!(denial.reason, reason);
        for words in [&denial.what, &denial.hint] {
            assert!(
                words.len() > 8 && !words.ends_with('.') && !words.starts_with(char::is_uppercase),
                "{words}"
            );
        }
    }
    for reason in [R::Allowed, R::Confirmed] {
        let denial = CallDenial::of(reason, &definition, &ask);
        assert_eq!((denial.what.as_str(), denial.hint.as_str()), ("", ""));
    }
}

/// Two patterns that name one tool: the rules of both count.
#[test]
fn rules_of_every_pattern_count() {
    let mut definition = definition(&GOOD);
    let most = ArgumentRule { max: Some(5.into()), ..ArgumentRule::default() };
    definition.scopes[0]
        .arguments
        .push(ToolRules { tools: "*".into(), rules: BTreeMap::from([("n".into(), most)]) });
    let mut call = ask(&GOOD);
    let decide =
        |call: &Ask| matches!(decide_call(&definition, call, &Usage::default(), false), CallDecision::Allow);
    assert!(!decide(&call));
    call.named.insert("n".into(), "5".into());
    assert!(decide(&call));
    call.named.insert("n".into(), "6".into());
    assert!(!decide(&call));
    call.named.insert("n".into(), "5".into());
    call.named.insert("db".into(), "2".into());
    assert!(!decide(&call));
    // What no rule is about is free.
    call.named.insert("db".into(), "1".into());
    call.named.insert("other".into(), "{".into());
    assert!(decide(&call));
}
