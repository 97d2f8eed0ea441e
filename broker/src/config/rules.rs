//! Reads `arguments` of a scope: what the arguments of its tools may be.

use std::collections::BTreeMap;

use serde_json::{Number, Value};

use super::model::{ArgumentRule, ToolRules};
use super::overlap::common;
use super::patterns::{Patterns, TOOLS, check};
use super::reader::Reader;
use super::value::exact_json;

/// Reads `arguments."PATTERN".NAME = { … }` of the scope in `table`, whose tools are `tools`; mistakes are noted.
pub(super) fn rules(table: &Reader<'_>, tools: &Patterns) -> Vec<ToolRules> {
    let Some(all) = table.table("arguments") else { return Vec::new() };
    let mut found = Vec::new();
    for (pattern, span) in all.keys() {
        let good = check(table, "arguments", TOOLS, &pattern, &span);
        let names_one = tools.list.iter().any(|(tool, _)| common(tool, &pattern).is_some());
        if good && !names_one {
            let message = format!("`{}` names no tool of the scope", all.name(&pattern));
            all.error_at(&span, message, "write it as it stands in `tools`, or add it there");
        }
        let Some(of_tool) = all.table(&pattern) else { continue };
        let rules = of_arguments(&of_tool);
        if of_tool.keys().is_empty() {
            let message = format!("`{}` has no rule", of_tool.path_of_table());
            of_tool.error_at(&span, message, RULE_HINT);
        }
        found.push(ToolRules { tools: pattern, rules });
    }
    found
}

fn of_arguments(of_tool: &Reader<'_>) -> BTreeMap<String, ArgumentRule> {
    let mut rules = BTreeMap::new();
    for (name, span) in of_tool.keys() {
        if name.is_empty() || name.len() > LONGEST_NAME || name.contains(char::is_control) {
            let message = format!("`{}` is no name of an argument", of_tool.name(&name));
            of_tool.error_at(&span, message, "write the name as the tool's input schema has it");
        }
        if let Some(rule) = of_tool.table(&name).map(rule) {
            rules.insert(name, rule);
        }
    }
    rules
}

fn rule(table: Reader<'_>) -> ArgumentRule {
    let rule = ArgumentRule {
        equals: value(&table, "equals"),
        glob: glob(&table),
        one_of: one_of(&table),
        max: max(&table),
        optional: table.boolean("optional").unwrap_or(false),
    };
    if !["equals", "glob", "one_of", "max"].iter().any(|key| table.holds(key)) {
        table.error_at(&table.span(), format!("`{}` has no rule", table.path_of_table()), RULE_HINT);
    }
    table.finish();
    rule
}

fn value(table: &Reader<'_>, key: &str) -> Option<Value> {
    let (value, span) = table.value(key)?;
    match exact_json(value, &span) {
        Ok(value) => Some(value),
        Err((span, why)) => {
            let message = format!("`{}` holds {why}", table.name(key));
            table.error_at(&span, message, "write a value that JSON has a form for");
            None
        }
    }
}

fn glob(table: &Reader<'_>) -> Option<String> {
    let pattern = table.text("glob")?;
    if pattern.contains(['\0', '\n']) {
        let message = format!("`{}` holds a NUL or a line feed", table.name("glob"));
        table.error("glob", message, "remove it; no text with one is ever allowed");
    }
    if !pattern.is_empty() && pattern.chars().all(|c| c == '*') {
        let message = format!("`{}` allows every text without a line feed", table.name("glob"));
        table.warning("glob", message, "begin it with what the argument must begin with");
    }
    Some(pattern)
}

fn one_of(table: &Reader<'_>) -> Option<Vec<Value>> {
    let (list, span) = table.value("one_of")?;
    let Some(items) = list.as_array() else {
        table.wrong_type("one_of", &span, list, "a list");
        return None;
    };
    if items.is_empty() || items.len() > MOST_VALUES {
        let message = format!("`{}` holds no value, or more than {MOST_VALUES}", table.name("one_of"));
        table.error("one_of", message, "name the values that are allowed, or a pattern with `glob`");
    }
    match value(table, "one_of") {
        Some(Value::Array(values)) => Some(values),
        _ => None,
    }
}

fn max(table: &Reader<'_>) -> Option<Number> {
    let (most, span) = table.value("max")?;
    if most.as_integer().is_none() && most.as_float().is_none() {
        table.wrong_type("max", &span, most, "a number");
        return None;
    }
    match value(table, "max") {
        Some(Value::Number(number)) => Some(number),
        _ => None,
    }
}

/// Longer than any that a program has.
const LONGEST_NAME: usize = 128;
const MOST_VALUES: usize = 256;
const RULE_HINT: &str = "give at least one of `equals`, `glob`, `one_of` and `max`, such as `{ equals = 1 }`";
