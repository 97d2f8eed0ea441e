//! Two scopes that name the same tool, resource or prompt: a mistake, as a call must have one scope. Found from the
//! patterns alone, with a name that both match.

use mcp_broker_proto::pattern::matches;

use super::patterns::Patterns;
use super::reader::Reader;

/// What one scope names.
pub(super) struct Claims {
    /// Dotted path of the scope.
    path: String,
    lists: [Patterns; 3],
}

impl Claims {
    /// Of the scope in `table`: its tools, resources and prompts.
    pub(super) fn new(table: &Reader<'_>, lists: [Patterns; 3]) -> Self {
        Self { path: table.path_of_table().to_owned(), lists }
    }

    pub(super) fn lists(&self) -> impl Iterator<Item = &Patterns> {
        self.lists.iter()
    }

    pub(super) fn tools(&self) -> &Patterns {
        let [tools, _, _] = &self.lists;
        tools
    }

    /// The patterns of each list.
    pub(super) fn names(&self) -> [Vec<String>; 3] {
        self.lists.each_ref().map(|list| list.list.iter().map(|(pattern, _)| pattern.clone()).collect())
    }
}

/// Notes an error at each pattern that can name what an earlier scope names.
pub(super) fn no_overlaps(tables: &Reader<'_>, claims: &[Claims]) {
    for (index, later) in claims.iter().enumerate() {
        for list in later.lists() {
            for (pattern, span) in &list.list {
                let mut earlier = claims.iter().take(index);
                let Some((path, name)) =
                    earlier.find_map(|claims| Some((&claims.path, shared(claims, list, pattern)?)))
                else {
                    continue;
                };
                let (key, noun) = (list.kind.key, list.kind.noun);
                let message = format!("`{path}.{key}` and `{}.{key}` both name `{name}`", later.path);
                tables.error_at(
                    span,
                    message,
                    format!("a {noun} belongs to one scope: make one of the patterns narrower"),
                );
            }
        }
    }
}

/// A name that `pattern` of `list` matches, and a pattern of the same list of `claims` too.
fn shared(claims: &Claims, list: &Patterns, pattern: &str) -> Option<String> {
    let same_kind = claims.lists().find(|other| other.kind.key == list.kind.key)?;
    same_kind.list.iter().find_map(|(other, _)| common(other, pattern))
}

/// A text that both patterns match, where there is one.
///
/// Where both hold a `*`, there is one exactly if the text before the first `*` of one begins with that of the other,
/// and the text after the last `*` ends alike: everything else fits one after the other in between.
pub(super) fn common(a: &str, b: &str) -> Option<String> {
    let (Some((a_first, a_rest)), Some((b_first, b_rest))) = (a.split_once('*'), b.split_once('*')) else {
        let (exact, other) = if a.contains('*') { (b, a) } else { (a, b) };
        return matches(other, exact).then(|| exact.to_owned());
    };
    let (a_middle, a_last) = a_rest.rsplit_once('*').unwrap_or(("", a_rest));
    let (b_middle, b_last) = b_rest.rsplit_once('*').unwrap_or(("", b_rest));
    let first = longer(a_first, b_first, |long, short| long.starts_with(short))?;
    let last = longer(a_last, b_last, |long, short| long.ends_with(short))?;
    let between = format!("{a_middle}{b_middle}").replace('*', "");
    let plain = format!("{first}{between}{last}");
    // The ends may share text, which makes a name that looks more like one.
    let cuts = (1..=last.len()).rev().filter(|cut| last.is_char_boundary(*cut));
    let shorter = cuts.filter_map(|cut| {
        let (shared, rest) = last.split_at_checked(cut)?;
        first.ends_with(shared).then(|| format!("{first}{rest}"))
    });
    Some(shorter.into_iter().find(|name| matches(a, name) && matches(b, name)).unwrap_or(plain))
}

fn longer<'t>(a: &'t str, b: &'t str, fits: fn(&str, &str) -> bool) -> Option<&'t str> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    fits(long, short).then_some(long)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples() {
        for (a, b, want) in [
            ("get", "get", Some("get")),
            ("get", "put", None),
            ("get_*", "get_user", Some("get_user")),
            ("get_*", "*_user", Some("get_user")),
            ("get_*", "put_*", None),
            ("*_a", "*_b", None),
            ("*", "*", Some("")),
            ("*", "x", Some("x")),
            ("a*c", "*b*", Some("abc")),
            ("aa*", "*aa", Some("aa")),
            ("*b*", "*a*", Some("ba")),
        ] {
            assert_eq!(common(a, b).as_deref(), want, "{a} {b}");
        }
    }

    /// Every two short patterns against every text that is long enough to tell them apart.
    #[test]
    fn agrees_with_trying_every_text() {
        fn texts(alphabet: &[char], longest: usize) -> Vec<String> {
            let (mut all, mut last) = (vec![String::new()], vec![String::new()]);
            for _ in 0..longest {
                last =
                    last.iter().flat_map(|text| alphabet.iter().map(move |c| format!("{text}{c}"))).collect();
                all.extend(last.iter().cloned());
            }
            all
        }
        // A shortest common text of two patterns is never longer than their letters together.
        let (patterns, names) = (texts(&['a', 'b', '*'], 4), texts(&['a', 'b'], 8));
        let mut found = 0;
        let matched: Vec<Vec<bool>> = patterns
            .iter()
            .map(|pattern| names.iter().map(|name| matches(pattern, name)).collect())
            .collect();
        for (a, in_a) in patterns.iter().zip(&matched) {
            for (b, in_b) in patterns.iter().zip(&matched) {
                let exists = in_a.iter().zip(in_b).any(|(a, b)| *a && *b);
                match common(a, b) {
                    Some(name) => assert!(matches(a, &name) && matches(b, &name), "{a} {b} {name}"),
                    None => assert!(!exists, "{a} {b}"),
                }
                found += usize::from(exists);
            }
        }
        assert!(found > 1000, "{found}");
    }
}
