//! Small conversions between values and what people, shells and JSON say for them.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use toml::de::{DeFloat, DeInteger, DeValue};

use super::decimal::Decimal;

const DAY: u64 = 24 * 3600;

/// A length of time in the largest unit that fits it evenly; days where there are several.
#[must_use]
pub(crate) fn words(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        s if s >= 2 * DAY && s.is_multiple_of(DAY) => format!("{}d", s / DAY),
        s if s >= 3600 && s.is_multiple_of(3600) => format!("{}h", s / 3600),
        s if s >= 60 && s.is_multiple_of(60) => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// A length of time as a person writes it, such as `90s`, `1h 30m` or `30d`; a day has 24 hours. `None` where it is
/// none, is negative, or has a unit of the calendar in it that is not always as long.
#[must_use]
pub(crate) fn length_of_time(text: &str) -> Option<Duration> {
    let exact = text.parse::<jiff::SignedDuration>();
    let length = exact.or_else(|_units_of_days| {
        text.parse::<jiff::Span>()?.to_duration(jiff::SpanRelativeTo::days_are_24_hours())
    });
    Duration::try_from(length.ok()?).ok()
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
        DeValue::Integer(number) => integer(number).map_or_else(|| Value::from(number.as_str()), Value::from),
        DeValue::Float(number) => number.as_str().parse::<f64>().map_or(Value::Null, Value::from),
        DeValue::Boolean(truth) => Value::from(*truth),
        DeValue::Datetime(date) => Value::from(date.to_string()),
        DeValue::Array(items) => items.iter().map(|item| to_json(item.get_ref())).collect(),
        DeValue::Table(table) => {
            table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref()))).collect()
        }
    }
}

/// The integer, where it fits.
pub(super) fn integer(number: &DeInteger<'_>) -> Option<i64> {
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The value at `span` as JSON that means exactly the same; else where it does not and why, to follow "holds".
pub(super) fn exact_json(
    value: &DeValue<'_>,
    span: &Range<usize>,
) -> Result<serde_json::Value, (Range<usize>, &'static str)> {
    use serde_json::Value;
    let refused = |why| (span.clone(), why);
    Ok(match value {
        DeValue::Integer(number) => {
            integer(number).ok_or_else(|| refused("an integer of more than 64 bits"))?.into()
        }
        DeValue::Float(number) => Value::Number(exact_float(number).map_err(refused)?),
        DeValue::Datetime(_) => return Err(refused("a date, which would have to be a text")),
        DeValue::Array(items) => {
            let items: Result<_, _> =
                items.iter().map(|item| exact_json(item.get_ref(), &item.span())).collect();
            Value::Array(items?)
        }
        DeValue::Table(table) => {
            let member =
                |(key, value): (&toml::Spanned<std::borrow::Cow<'_, str>>, &toml::Spanned<DeValue<'_>>)| {
                    Ok((key.get_ref().to_string(), exact_json(value.get_ref(), &value.span())?))
                };
            let members: Result<_, _> = table.iter().map(member).collect();
            Value::Object(members?)
        }
        DeValue::String(_) | DeValue::Boolean(_) => to_json(value),
    })
}

fn exact_float(number: &DeFloat<'_>) -> Result<serde_json::Number, &'static str> {
    let text = number.as_str().trim_start_matches('+');
    let float = text.parse().ok().and_then(serde_json::Number::from_f64).ok_or("no finite number")?;
    if Decimal::of(&float) == Decimal::parse(text) { Ok(float) } else { Err("a number with too many digits") }
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
    fn lengths_of_time() {
        let hours = |hours: u64| Some(Duration::from_secs(hours * 3600));
        for (text, want) in [
            ("90s", Some(Duration::from_secs(90))),
            ("1h 30m", Some(Duration::from_secs(5400))),
            ("PT2H", hours(2)),
            ("1d", hours(24)),
            ("30d", hours(720)),
            ("30 days", hours(720)),
            ("1d 12h", hours(36)),
            ("2w", hours(336)),
            ("1 month", None),
            ("1y", None),
            ("-1d", None),
            ("-1s", None),
            ("1", None),
            ("", None),
            ("d", None),
            ("9999999999999999999d", None),
        ] {
            assert_eq!(length_of_time(text), want, "{text}");
        }
        for (seconds, want) in [
            (90, "90s"),
            (5400, "90m"),
            (DAY, "24h"),
            (DAY + 3600, "25h"),
            (2 * DAY, "2d"),
            (366 * DAY, "366d"),
        ] {
            assert_eq!(words(Duration::from_secs(seconds)), want);
            assert_eq!(length_of_time(want), Some(Duration::from_secs(seconds)));
        }
    }

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
