//! Patterns for arguments and for names of tools, prompts and resources: `*` stands for any text, everything else
//! for itself. No other wildcard, so that an admin can read a pattern at a glance.

/// Whether `pattern` matches the whole of `argument`. One with a NUL or a line feed is never matched: no
/// program can be given the first (execve(2)), and the second hides what follows from whoever reads a log.
///
/// Takes at most `pattern.len() * argument.len()` steps.
#[must_use]
pub fn matches(pattern: &str, argument: &str) -> bool {
    if argument.contains(['\0', '\n']) {
        return false;
    }
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or("");
    let Some(mut rest) = argument.strip_prefix(first) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    // The leftmost place of each middle piece leaves the most room for the others.
    for piece in pieces {
        match rest.split_once(piece) {
            _ if piece.is_empty() => {}
            Some((_, after)) => rest = after,
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        for (pattern, argument, want) in [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("a", "ba", false),
            ("*", "", true),
            ("*", "anything --at all", true),
            ("a*", "a", true),
            ("a*", "ba", false),
            ("*a", "ba", true),
            ("*a", "ab", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "acb", false),
            ("a**c", "ac", true),
            ("*ab*ab*", "abab", true),
            ("*ab*ab*", "aba", false),
            ("*aa*a", "aaa", true),
            ("*aa*aa", "aaa", false),
            ("--ü=*", "--ü=ß", true),
            ("?", "a", false),
            ("[a]", "a", false),
            ("*", "a\0", false),
            ("*", "a\nb", false),
            ("a\nb", "a\nb", false),
            ("*", "a\tb", true),
        ] {
            assert_eq!(matches(pattern, argument), want, "{pattern:?} {argument:?}");
        }
    }

    /// Against the definition itself, for every short pattern and argument.
    #[test]
    fn agrees_with_the_definition() {
        fn defined(pattern: &[u8], argument: &[u8]) -> bool {
            match (pattern.split_first(), argument.split_first()) {
                (None, _) => argument.is_empty(),
                (Some((b'*', rest)), None) => defined(rest, argument),
                (Some((b'*', rest)), Some((_, tail))) => defined(rest, argument) || defined(pattern, tail),
                (Some((p, rest)), Some((a, tail))) => p == a && defined(rest, tail),
                (Some(_), None) => false,
            }
        }
        fn words(alphabet: &[char], longest: u32) -> Vec<String> {
            let mut all = vec![String::new()];
            let mut last = all.clone();
            for _ in 0..longest {
                last =
                    last.iter().flat_map(|word| alphabet.iter().map(move |c| format!("{word}{c}"))).collect();
                all.extend(last.iter().cloned());
            }
            all
        }
        for pattern in words(&['a', 'b', '*'], 5) {
            for argument in words(&['a', 'b'], 5) {
                let want = defined(pattern.as_bytes(), argument.as_bytes());
                assert_eq!(matches(&pattern, &argument), want, "{pattern:?} {argument:?}");
            }
        }
    }
}
