//! How commands write: aligned columns, and JSON that a program can read. No colour, ever.

use serde::Serialize;

use crate::failure::Failure;

/// Rows as aligned columns; the first row is the heading.
#[must_use]
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |i: usize| rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count()).max();
    let widths: Vec<_> = (0..count).map(|i| width(i).unwrap_or(0)).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// A heading row.
#[must_use]
pub(super) fn heading(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Words of somebody else, fit for a terminal: what does not print is escaped.
#[must_use]
pub(super) fn fit(text: &str) -> String {
    let escaped = |c: char| match c {
        '"' | '\'' | '\\' => c.to_string(),
        _ => c.escape_debug().to_string(),
    };
    text.chars().map(escaped).collect()
}

/// Prints `value` as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<u8, Failure> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|error| Failure::system("write JSON", std::io::Error::from(error)))?;
    text.push('\n');
    crate::say::answer(&text);
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fit_for_a_terminal() {
        assert_eq!(fit("it's \"x\" \\ é\u{1b}[2J\u{202e}\n"), r#"it's "x" \ é\u{1b}[2J\u{202e}\n"#);
    }

    #[test]
    fn aligned() {
        let rows = [heading(&["A", "LONG"]), vec!["äbc".into(), "x".into(), "y".into()], vec!["d".into()]];
        assert_eq!(columns(&rows), "A    LONG\näbc  x     y\nd\n");
        assert_eq!(columns(&[]), "");
    }
}
