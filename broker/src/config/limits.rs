//! Reads how much a scope may be used: `limits` and `confirm`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::de::DeValue;

use super::model::{Confirm, LONGEST_MESSAGE, Limits};
use super::reader::Reader;
use super::value::integer;

/// The longest arguments of a scope with rules for them, in bytes: the broker has to see what it decides on, in a
/// frame ([`mcp_broker_proto::MAX_FRAME`]) that writes a character as two bytes at most.
pub(super) const LONGEST_JUDGED: u64 = 256 << 10;

/// Reads `limits` of the scope in `table`; mistakes are noted. `judged` says whether it has rules for arguments.
pub(super) fn limits(table: &Reader<'_>, judged: bool) -> Limits {
    let longest = if judged { LONGEST_JUDGED } else { LONGEST_MESSAGE };
    let absent = Limits { argument_size: longest, ..Limits::default() };
    let Some(given) = table.table("limits") else { return absent };
    let limits = Limits {
        calls_per_minute: number(&given, "calls_per_minute", MOST_PER_MINUTE),
        concurrent_calls: number(&given, "concurrent_calls", MOST_AT_ONCE),
        result_size: size(&given, "result_size", LEAST_RESULT..=LONGEST_MESSAGE)
            .unwrap_or(absent.result_size),
        argument_size: size(&given, "argument_size", LEAST_ARGUMENTS..=longest).unwrap_or(longest),
    };
    given.finish();
    limits
}

/// Reads `confirm` of the scope in `table`; mistakes are noted.
pub(super) fn confirm(table: &Reader<'_>) -> Option<Confirm> {
    let (value, _) = table.value("confirm")?;
    if value.as_str() == Some("each") {
        return Some(Confirm::Each);
    }
    if value.as_str().is_some_and(|text| !text.starts_with(|c: char| c.is_ascii_digit()))
        || value.as_bool().is_some()
    {
        let message = format!("`{}` has a value that is not known", table.name("confirm"));
        table.error("confirm", message, "write \"each\", or for how long a yes holds, such as \"10m\"");
        return None;
    }
    table.duration_within("confirm", CONFIRM, *CONFIRM.start()).map(Confirm::For)
}

/// A whole number from 1 to `most`.
pub(super) fn number(table: &Reader<'_>, key: &str, most: u32) -> Option<u32> {
    let (value, span) = table.value(key)?;
    let Some(number) = value.as_integer() else {
        table.wrong_type(key, &span, value, "a whole number");
        return None;
    };
    let number = integer(number).and_then(|number| u32::try_from(number).ok());
    let good = number.filter(|number| (1..=most).contains(number));
    if good.is_none() {
        let message = format!("`{}` is out of range", table.name(key));
        table.error(key, message, format!("write a whole number from 1 to {most}"));
    }
    good
}

/// A number of bytes, or a text with a unit.
fn size(table: &Reader<'_>, key: &str, range: RangeInclusive<u64>) -> Option<u64> {
    let (value, span) = table.value(key)?;
    let bytes = match value {
        DeValue::Integer(number) => integer(number).map(|number| u64::try_from(number).unwrap_or(0)),
        DeValue::String(text) => match bytes_of(text) {
            Some(bytes) => bytes,
            None => {
                let message = format!("`{}` is not a size", table.name(key));
                table.error(
                    key,
                    message,
                    "write a whole number with its unit, B, KiB or MiB, such as \"64KiB\"",
                );
                return None;
            }
        },
        _ => {
            table.wrong_type(key, &span, value, "a size such as \"64KiB\"");
            return None;
        }
    };
    let good = bytes.filter(|bytes| range.contains(bytes));
    if good.is_none() {
        let message = format!("`{}` is out of range", table.name(key));
        table.error(key, message, format!("write a size from {} to {} bytes", range.start(), range.end()));
    }
    good
}

/// The size that a text says: nothing where it is none, and nothing within where it is beyond every range.
fn bytes_of(text: &str) -> Option<Option<u64>> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit = text.get(digits.len()..)?;
    let bytes = match unit.strip_prefix(' ').unwrap_or(unit) {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        _ => return None,
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse::<u64>().ok().and_then(|number| number.checked_mul(bytes)))
}

/// More would be no limit: a call takes about a millisecond.
const MOST_PER_MINUTE: u32 = 60_000;
const MOST_AT_ONCE: u32 = 1_000;
/// Less would not hold the answer that says so.
const LEAST_RESULT: u64 = 1 << 10;
/// `{}`.
const LEAST_ARGUMENTS: u64 = 2;
/// A yes that holds longer than a working day was given by somebody who has gone home.
const CONFIRM: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(12 * 3600);
