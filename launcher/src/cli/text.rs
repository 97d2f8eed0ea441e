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
    fn aligned() {
        let rows = [heading(&["A", "LONG"]), vec!["äbc".into(), "x".into(), "y".into()], vec!["d".into()]];
        assert_eq!(columns(&rows), "A    LONG\näbc  x     y\nd\n");
        assert_eq!(columns(&[]), "");
    }
}
