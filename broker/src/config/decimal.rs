//! Numbers as JSON writes them (RFC 8259 section 6), compared by their exact value. A binary float would take
//! 9007199254740993 for the number before it, so nothing that is decided goes through one.

use std::cmp::Ordering;

/// A decimal number of any length.
///
/// Its value is `0.DIGITS` times ten to the exponent, with no zero at either end of the digits; so each value has
/// one form, and zero is the one without digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// From the text of a JSON number; `None` where it is none, or its exponent is beyond any use.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, unsigned) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power_of_ten(power)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = match mantissa.split_once('.') {
            Some((whole, fraction)) if all_digits(fraction) => (whole, fraction),
            Some(_) => return None,
            None => (mantissa, ""),
        };
        if !all_digits(whole) || (whole.len() > 1 && whole.starts_with('0')) {
            return None;
        }
        let written = format!("{whole}{fraction}");
        let digits = written.trim_start_matches('0');
        let zeros = i64::try_from(written.len() - digits.len()).ok()?;
        let digits = digits.trim_end_matches('0');
        if digits.is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let point = i64::try_from(whole.len()).ok()?.checked_sub(zeros)?;
        Some(Self { negative, digits: digits.to_owned(), exponent: power.checked_add(point)? })
    }

    /// From a number of the configuration: what is printed for it is the shortest text that means it, and the reader
    /// takes no number that was written otherwise.
    #[must_use]
    pub fn of(number: &serde_json::Number) -> Option<Self> {
        Self::parse(&number.to_string())
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |number: &Self| match (number.digits.is_empty(), number.negative) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        };
        let size = || (self.exponent, &self.digits).cmp(&(other.exponent, &other.digits));
        match (sign(self), sign(other)) {
            (1, 1) => size(),
            (-1, -1) => size().reverse(),
            (mine, others) => mine.cmp(&others),
        }
    }
}

fn all_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn power_of_ten(text: &str) -> Option<i64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if all_digits(unsigned) { text.parse().ok() } else { None }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a number that does not parse must fail the test")]
mod tests {
    use super::*;

    /// In rising order; what stands in one row is one number.
    const ORDER: &[&[&str]] = &[
        &["-1e400"],
        &["-9007199254740993", "-9007199254740993.000"],
        &["-9007199254740992"],
        &["-2"],
        &["-1", "-1.0", "-10e-1"],
        &["-0.1"],
        &["-1e-400"],
        &["0", "-0", "0.000", "0e99", "-0.0e-7"],
        &["1e-400"],
        &["0.1", "1e-1", "0.10", "100E-3"],
        &["0.1000000000000000055511151231257827"],
        &["0.11"],
        &["1", "1.0", "1e0", "1e+0", "0.1e1"],
        &["1.0000000000000000000000000000000001"],
        &["2"],
        &["10", "1e1", "0.001e4"],
        &["12", "1.2e1"],
        &["123"],
        &["9007199254740992"],
        &["9007199254740992.5"],
        &["9007199254740993", "9007199254740993.0", "9.007199254740993e15"],
        &["18446744073709551616"],
        &["1e400", "10e399"],
    ];

    #[test]
    fn order() {
        let all: Vec<_> =
            ORDER.iter().enumerate().flat_map(|(row, texts)| texts.iter().map(move |t| (row, t))).collect();
        for (row, text) in &all {
            for (other_row, other) in &all {
                let (a, b) = (Decimal::parse(text).unwrap(), Decimal::parse(other).unwrap());
                assert_eq!(a.cmp(&b), row.cmp(other_row), "{text} {other}");
                assert_eq!(a == b, row == other_row, "{text} {other}");
            }
        }
    }

    #[test]
    fn what_is_no_number() {
        for text in [
            "", "-", "+1", "01", "-01", ".5", "1.", "1e", "1e+", "1e1.5", "0x1", "1_0", "inf", "NaN", " 1",
            "1 ", "--1", "1e--1", "١",
        ] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
        assert_eq!(Decimal::parse("1e99999999999999999999"), None);
        assert_eq!(Decimal::parse("10e9223372036854775807"), None);
    }

    #[test]
    fn numbers_of_the_configuration() {
        for (number, text) in [
            (serde_json::Number::from(i64::MAX), "9223372036854775807"),
            (serde_json::Number::from_f64(0.1).unwrap(), "0.1"),
            (serde_json::Number::from_f64(1e300).unwrap(), "1e300"),
            (serde_json::Number::from_f64(-2.5e-10).unwrap(), "-0.00000000025"),
        ] {
            assert_eq!(Decimal::of(&number), Decimal::parse(text), "{text}");
        }
    }
}
