//! Small conversions between values and what people, shells and JSON say for them.

use std::path::Path;
use std::time::Duration;

use toml::de::DeValue;

/// A length of time in the largest unit that fits it evenly.
#[must_use]
pub(crate) fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        s if s >= 3600 && s.is_multiple_of(3600) => format!("{}h", s / 3600),
        s if s >= 60 && s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// The type of a value, for messages.
pub(super) fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) | DeValue::Float(_) => "a number",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// The value as JSON.
pub(super) fn to_json(value: &DeValue<'_>) -> serde_json::Value {
    use serde_json::Value;
    match value {
        DeValue::String(text) => Value::from(text.as_ref()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_too_large| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref()))).collect()
        }
    }
}

/// A path as one word of a shell's command line, so that a hint can be typed as printed.
#[must_use]
pub(crate) fn shell_word(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.into_owned();
    }
    if text.contains(char::is_control) {
        // bash, zsh and ksh read these escapes; a raw one would act on the terminal.
        let octets = text.chars().flat_map(|c| match c {
            '\'' | '\\' => vec!['\\', c],
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)).chars().collect(),
            c => vec![c],
        });
        return format!("$'{}'", octets.collect::<String>());
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_a_shell() {
        for (path, want) in [
            ("/etc/a-b_c.d", "/etc/a-b_c.d"),
            ("/my files/it's", "'/my files/it'\\''s'"),
            ("/$(reboot)", "'/$(reboot)'"),
            ("", "''"),
            ("/a\n\u{1b}'", "$'/a\\u000a\\u001b\\''"),
        ] {
            assert_eq!(shell_word(Path::new(path)), want);
        }
    }
}
