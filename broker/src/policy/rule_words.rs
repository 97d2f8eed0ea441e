//! Limits and rules of a scope in words, for people who call its tools. The values are the admin's, from the
//! configuration; nothing of a call is in them.

use mcp_broker_proto::pattern;

use crate::config::{ArgumentRule, Confirm, LONGEST_MESSAGE, Limits, Scope, words};

/// A rule, to follow the argument's name.
pub(super) fn rule_words(rule: &ArgumentRule) -> String {
    let ArgumentRule { equals, glob, one_of, max, optional } = rule;
    let parts = [
        equals.as_ref().map(|value| format!("equal to {}", short(value))),
        glob.as_ref().map(|pattern| format!("like {}", short(&pattern.as_str().into()))),
        one_of.as_ref().map(|values| match values.as_slice() {
            [one] => format!("equal to {}", short(one)),
            values => format!("one of {}", several(values)),
        }),
        max.as_ref().map(|most| format!("at most {most}")),
    ];
    let said: Vec<_> = parts.into_iter().flatten().collect();
    let last = if *optional { ", or without it" } else { "" };
    format!("{}{last}", said.join(" and "))
}

/// The limits and rules of a scope, each in words; of rules those for `tool` only, where one is named.
#[must_use]
pub fn limit_words(scope: &Scope, tool: Option<&str>) -> Vec<String> {
    let Limits { calls_per_minute, concurrent_calls, result_size, argument_size } = scope.limits;
    let mut said = Vec::new();
    said.extend(calls_per_minute.map(|most| format!("at most {most} calls a minute")));
    said.extend(concurrent_calls.map(|most| format!("at most {most} calls at once")));
    let size = |bytes: u64| (bytes < LONGEST_MESSAGE).then(|| size_words(bytes));
    said.extend(size(argument_size).map(|size| format!("arguments of at most {size}")));
    said.extend(size(result_size).map(|size| format!("answers of at most {size}")));
    let concerned = |pattern: &str| tool.is_none_or(|tool| pattern::matches(pattern, tool));
    for rules in scope.arguments.iter().filter(|rules| concerned(&rules.tools)) {
        for (name, rule) in &rules.rules {
            said.push(format!("`{}` with `{name}` {}", rules.tools, rule_words(rule)));
        }
    }
    said.extend(scope.confirm.map(confirm_words));
    if scope.audit_arguments {
        said.push("the arguments of calls stand in the audit log".to_owned());
    }
    said
}

fn confirm_words(confirm: Confirm) -> String {
    match confirm {
        Confirm::Each => "a person is asked before each call".to_owned(),
        Confirm::For(time) => format!("a person is asked before a call, whose yes holds for {}", words(time)),
    }
}

/// A size in the largest unit that fits it evenly.
fn size_words(bytes: u64) -> String {
    match bytes {
        b if b >= 1 << 20 && b.is_multiple_of(1 << 20) => format!("{} MiB", b >> 20),
        b if b >= 1 << 10 && b.is_multiple_of(1 << 10) => format!("{} KiB", b >> 10),
        b => format!("{b} bytes"),
    }
}

fn several(values: &[serde_json::Value]) -> String {
    let mut shown: Vec<_> = values.iter().take(SHOWN).map(short).collect();
    if values.len() > SHOWN {
        shown.push(format!("{} others", values.len() - SHOWN));
    }
    shown.join(", ")
}

/// A value as JSON, cut where it is long.
fn short(value: &serde_json::Value) -> String {
    let text = value.to_string();
    let shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() { format!("{shown}…") } else { text }
}

const SHOWN: usize = 8;
const LONGEST: usize = 80;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a name that does not parse must fail the test")]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::config::ToolRules;

    #[test]
    fn rules() {
        let rule = ArgumentRule::default;
        for (rule, want) in [
            (ArgumentRule { equals: Some(json!("a\u{1b}")), ..rule() }, r#"equal to "a\u001b""#),
            (
                ArgumentRule { glob: Some("SELECT *".into()), optional: true, ..rule() },
                r#"like "SELECT *", or without it"#,
            ),
            (ArgumentRule { one_of: Some(vec![json!(1)]), ..rule() }, "equal to 1"),
            (
                ArgumentRule {
                    one_of: Some((0..10).map(|n| json!(n)).collect()),
                    max: Some(5.into()),
                    ..rule()
                },
                "one of 0, 1, 2, 3, 4, 5, 6, 7, 2 others and at most 5",
            ),
        ] {
            assert_eq!(rule_words(&rule), want);
        }
        let long = ArgumentRule { equals: Some(json!("ä".repeat(100))), ..rule() };
        assert!(rule_words(&long).ends_with("ä…"));
    }

    #[test]
    fn limits() {
        let mut scope = Scope::of_all("all".parse().unwrap(), Vec::new(), Vec::new());
        assert_eq!(limit_words(&scope, None), Vec::<String>::new());
        scope.limits = Limits {
            calls_per_minute: Some(30),
            concurrent_calls: Some(2),
            result_size: 3 << 20,
            argument_size: 1025,
        };
        let rule = ArgumentRule { equals: Some(json!(1)), ..ArgumentRule::default() };
        scope.arguments =
            vec![ToolRules { tools: "q*".into(), rules: BTreeMap::from([("db".into(), rule)]) }];
        scope.confirm = Some(Confirm::For(Duration::from_secs(600)));
        scope.audit_arguments = true;
        assert_eq!(
            limit_words(&scope, None),
            [
                "at most 30 calls a minute",
                "at most 2 calls at once",
                "arguments of at most 1025 bytes",
                "answers of at most 3 MiB",
                "`q*` with `db` equal to 1",
                "a person is asked before a call, whose yes holds for 10m",
                "the arguments of calls stand in the audit log",
            ]
        );
        assert!(limit_words(&scope, Some("query")).contains(&"`q*` with `db` equal to 1".to_owned()));
        assert_eq!(limit_words(&scope, Some("list")).len(), 6);
        scope.confirm = Some(Confirm::Each);
        assert!(limit_words(&scope, None).contains(&"a person is asked before each call".to_owned()));
    }
}
