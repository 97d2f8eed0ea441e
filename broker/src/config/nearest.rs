//! Which known word a mistyped one was probably meant to be: for hints only, nothing is decided by it.

/// The candidate within two edits of `word`, the nearest first, where there is one.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = candidates.into_iter().map(|candidate| (distance(candidate, word), candidate));
    scored.min().filter(|(edits, _)| *edits <= MAX_EDITS).map(|(_, candidate)| candidate)
}

/// Farther words are another word, not a slip.
const MAX_EDITS: usize = 2;

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut last = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let here = (last + usize::from(x != y)).min(left + 1).min(*cell + 1);
            last = *cell;
            *cell = here;
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, want) in [("", "", 0), ("ttl", "tll", 1), ("env", "", 3), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), want, "{a} {b}");
        }
    }

    #[test]
    fn only_slips_have_a_nearest() {
        let known = ["socket", "state_dir"];
        assert_eq!(nearest("sokcet", known), Some("socket"));
        assert_eq!(nearest("journal", known), None);
    }
}
