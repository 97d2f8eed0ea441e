//! Does an argument of a call keep its rule. Decided on the parsed value of the JSON text, and without keeping it:
//! what cannot be read in one way only keeps no rule.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::config::{ArgumentRule, Decimal};

/// Whether the argument with the JSON text `text` keeps every part of `rule`. A rule without parts is kept by none.
pub(super) fn keeps(rule: &ArgumentRule, text: &str) -> bool {
    let Ok(value) = serde_json::from_str::<&RawValue>(text) else { return false };
    let ArgumentRule { equals, glob, one_of, max, optional: _ } = rule;
    let parts = [
        equals.as_ref().map(|wanted| same(wanted, value)),
        glob.as_ref().map(|pattern| text_of(value).is_some_and(|text| fits(pattern, &text))),
        one_of.as_ref().map(|wanted| wanted.iter().any(|wanted| same(wanted, value))),
        max.as_ref().map(|most| Decimal::parse(value.get()).is_some_and(|number| at_most(&number, most))),
    ];
    parts.iter().any(Option::is_some) && parts.iter().flatten().all(|kept| *kept)
}

/// Whether `value` is what the configuration says. Goes no deeper than that does, whatever the value holds.
fn same(wanted: &Value, value: &RawValue) -> bool {
    let text = value.get();
    match wanted {
        Value::Null => text == "null",
        Value::Bool(truth) => text == if *truth { "true" } else { "false" },
        Value::Number(number) => Decimal::parse(text)
            .is_some_and(|value| Decimal::of(number).is_some_and(|wanted| wanted == value)),
        Value::String(wanted) => text_of(value).is_some_and(|text| text == *wanted),
        Value::Array(wanted) => serde_json::from_str::<Vec<&RawValue>>(text).is_ok_and(|items| {
            items.len() == wanted.len() && wanted.iter().zip(items).all(|(wanted, item)| same(wanted, item))
        }),
        Value::Object(wanted) => serde_json::from_str::<Members<'_>>(text).is_ok_and(|Members(members)| {
            members.len() == wanted.len()
                && wanted
                    .iter()
                    .all(|(name, wanted)| members.get(name).is_some_and(|value| same(wanted, value)))
        }),
    }
}

/// The text where it is one. Half a surrogate pair is none: programs read it differently.
fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn fits(pattern: &str, text: &str) -> bool {
    mcp_broker_proto::pattern::matches(pattern, text)
}

fn at_most(number: &Decimal, most: &serde_json::Number) -> bool {
    Decimal::of(most).is_some_and(|most| *number <= most)
}

/// The members of an object, none of them twice: of two with one name, programs take one or the other.
struct Members<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a rule that cannot be written must fail the test")]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(rule: &ArgumentRule, cases: &[(&str, bool)]) {
        for (text, want) in cases {
            assert_eq!(keeps(rule, text), *want, "{rule:?} {text}");
        }
    }

    fn equals(value: Value) -> ArgumentRule {
        ArgumentRule { equals: Some(value), ..ArgumentRule::default() }
    }

    #[test]
    fn equal_texts_and_words() {
        check(
            &equals(json!("a")),
            &[(r#""a""#, true), (r#""\u0061""#, true), (r#""A""#, false), ("a", false), ("", false)],
        );
        check(&equals(json!("1")), &[("1", false), (r#""1""#, true)]);
        check(
            &equals(json!(true)),
            &[("true", true), (" true ", true), ("false", false), ("1", false), (r#""true""#, false)],
        );
        check(&equals(json!(null)), &[("null", true), ("0", false), (r#""""#, false), ("{}", false)]);
        check(&equals(json!("\u{fffd}")), &[(r#""\ud800""#, false), (r#""\ufffd""#, true)]);
    }

    #[test]
    fn numbers_are_equal_by_value_and_exactly() {
        check(
            &equals(json!(1)),
            &[("1", true), ("1.0", true), ("10e-1", true), ("1.00000000000000001", false), ("true", false)],
        );
        check(&equals(json!(1.0)), &[("1", true), ("1.0", true), ("2", false)]);
        check(&equals(json!(0.1)), &[("0.1", true), ("1e-1", true), ("0.10000000000000001", false)]);
        let beyond = 9_007_199_254_740_993_i64;
        check(
            &equals(json!(beyond)),
            &[("9007199254740993", true), ("9007199254740992", false), ("9007199254740993.0", true)],
        );
        check(&equals(json!(0)), &[("-0", true), ("-0.0", true), ("1e-400", false)]);
    }

    #[test]
    fn maximum() {
        let most = |number: Value| {
            let Value::Number(number) = number else { unreachable!() };
            ArgumentRule { max: Some(number), ..ArgumentRule::default() }
        };
        check(
            &most(json!(100)),
            &[
                ("100", true),
                ("100.0", true),
                ("-5", true),
                ("100.00000000000000001", false),
                ("101", false),
                ("1e3", false),
            ],
        );
        check(
            &most(json!(100)),
            &[
                (r#""50""#, false),
                ("null", false),
                ("[1]", false),
                ("50 50", false),
                ("0x10", false),
                ("Infinity", false),
                ("NaN", false),
            ],
        );
        check(
            &most(json!(9_007_199_254_740_992_i64)),
            &[("9007199254740992", true), ("9007199254740993", false), ("9007199254740992.5", false)],
        );
        check(&most(json!(2.5)), &[("2.5", true), ("2.50000000000000000001", false)]);
        check(&most(json!(-1)), &[("-1", true), ("-0.5", false), ("0", false)]);
    }

    #[test]
    fn patterns_are_for_texts() {
        let rule = ArgumentRule { glob: Some("SELECT *".into()), ..ArgumentRule::default() };
        check(
            &rule,
            &[
                (r#""SELECT 1""#, true),
                (r#""SELECT ""#, true),
                (r#""select 1""#, false),
                (r#""DROP; SELECT 1""#, false),
            ],
        );
        check(
            &rule,
            &[
                (r#""SELECT 1\n; DROP""#, false),
                (r#""SELECT \u0000""#, false),
                (r#"["SELECT 1"]"#, false),
                ("1", false),
            ],
        );
        let any = ArgumentRule { glob: Some("*".into()), ..ArgumentRule::default() };
        check(&any, &[(r#""""#, true), ("1", false), ("null", false)]);
    }

    #[test]
    fn one_of_several() {
        let rule = ArgumentRule {
            one_of: Some(vec![json!("a"), json!(2), json!([1, {"b": 1.5}])]),
            ..ArgumentRule::default()
        };
        check(
            &rule,
            &[
                (r#""a""#, true),
                ("2.0", true),
                (r#"[1.0, {"b": 15e-1}]"#, true),
                (r#""b""#, false),
                ("[]", false),
            ],
        );
        check(
            &rule,
            &[
                (r#"[1, {"b": 1.5}, 2]"#, false),
                (r#"[1, {"b": 1.5, "c": 1}]"#, false),
                (r#"[1, {"b": 1, "b": 1.5}]"#, false),
            ],
        );
        let none = ArgumentRule { one_of: Some(Vec::new()), ..ArgumentRule::default() };
        check(&none, &[("1", false)]);
    }

    #[test]
    fn every_part_must_hold() {
        let rule = ArgumentRule {
            glob: Some("a*".into()),
            one_of: Some(vec![json!("ab"), json!("b")]),
            ..ArgumentRule::default()
        };
        check(&rule, &[(r#""ab""#, true), (r#""b""#, false), (r#""ac""#, false)]);
        check(
            &ArgumentRule { optional: true, ..ArgumentRule::default() },
            &[("1", false), (r#""x""#, false)],
        );
    }

    /// Depth is the sender's to choose; the rule's depth is what is looked at.
    #[test]
    fn depth_costs_nothing() {
        let deep = format!("{}{}", "[".repeat(500_000), "]".repeat(500_000));
        check(&equals(json!([[1]])), &[(&deep, false), (deep.get(1..).unwrap(), false)]);
    }
}
