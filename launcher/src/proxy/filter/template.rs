//! Whether a pattern of resources and a template of them meet: there is a text that both name. A template is shown
//! where that is so; whether a resource of it may be read is decided by its URI, when it is.

/// The longest template that is compared; a longer one is not shown.
const MAX_TEMPLATE: usize = 512;

/// Whether some URI that the template can make (RFC 6570: an expression may become any text) is named by the pattern
/// (`*` stands for any text). Takes pattern times template steps.
pub(super) fn meets(pattern: &str, template: &str) -> bool {
    let Some(template) = steps(template).filter(|_| template.len() <= MAX_TEMPLATE) else { return false };
    let pattern = pattern.bytes().map(|byte| if byte == b'*' { Step::Any } else { Step::Byte(byte) });
    // Which beginnings of the template can be made of what was read of the pattern.
    let mut reach = vec![false; template.len() + 1];
    if let Some(first) = reach.first_mut() {
        *first = true;
    }
    skip_any(&mut reach, &template);
    for step in pattern {
        reach = next(&reach, &template, step);
    }
    reach.last().copied().unwrap_or(false)
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Byte(u8),
    Any,
}

/// A template as bytes and expressions; nothing where a brace is not closed, or it holds what no pattern matches.
fn steps(template: &str) -> Option<Vec<Step>> {
    let (mut steps, mut rest) = (Vec::new(), template);
    while let Some((before, after)) = rest.split_once('{') {
        steps.extend(before.bytes().map(Step::Byte));
        steps.push(Step::Any);
        rest = after.split_once('}')?.1;
    }
    steps.extend(rest.bytes().map(Step::Byte));
    (!template.contains(['\0', '\n'])).then_some(steps)
}

/// One more step of the pattern.
fn next(reach: &[bool], template: &[Step], step: Step) -> Vec<bool> {
    let mut after = vec![false; reach.len()];
    let mut before = false;
    for (at, place) in after.iter_mut().enumerate() {
        let here = reach.get(at).copied().unwrap_or(false);
        *place = match step {
            // It takes any piece of the template, also none.
            Step::Any => here || before,
            Step::Byte(byte) => {
                let last = at.checked_sub(1).and_then(|at| template.get(at)).copied();
                let stood = at.checked_sub(1).and_then(|at| reach.get(at)).copied().unwrap_or(false);
                // An expression that was begun goes on, or the byte stands there itself.
                (last == Some(Step::Any) && (stood || here)) || (last == Some(Step::Byte(byte)) && stood)
            }
        };
        before = *place;
    }
    skip_any(&mut after, template);
    after
}

/// An expression may be empty.
fn skip_any(reach: &mut [bool], template: &[Step]) {
    let mut before = false;
    for (at, place) in reach.iter_mut().enumerate() {
        let last = at.checked_sub(1).and_then(|at| template.get(at)).copied();
        *place |= before && last == Some(Step::Any);
        before = *place;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_meets() {
        for (pattern, template, want) in [
            ("file:///*", "file:///{path}", true),
            ("file:///logs/*", "file:///{path}", true),
            ("file:///logs/*", "file:///{dir}/{name}", true),
            ("file:///logs/*", "http://{host}/", false),
            ("file:///a", "file:///b{x}", false),
            ("file:///a", "file:///a{?x}", true),
            ("*", "{+anything}", true),
            ("", "{x}", true),
            ("", "", true),
            ("", "a", false),
            ("a*c", "{x}b{y}", true),
            ("a*c", "b{y}", false),
            ("abc", "a{x}c", true),
            ("abc", "a{x}d", false),
            ("demo://resource/*", "demo://resource/dynamic/text/{id}", true),
            ("demo://text/*", "demo://resource/dynamic/text/{id}", false),
            ("*", "a{b", false),
            ("*", "a\n{b}", false),
        ] {
            assert_eq!(meets(pattern, template), want, "{pattern} {template}");
        }
        assert!(!meets("*", &"a".repeat(MAX_TEMPLATE + 1)));
    }

    /// Against all texts that a short template makes of a small alphabet.
    #[test]
    fn agrees_with_the_patterns() {
        let words = |alphabet: &[char], longest: usize| {
            let (mut all, mut last) = (vec![String::new()], vec![String::new()]);
            for _ in 0..longest {
                last =
                    last.iter().flat_map(|word| alphabet.iter().map(move |c| format!("{word}{c}"))).collect();
                all.extend(last.iter().cloned());
            }
            all
        };
        let texts = words(&['a', 'b'], 6);
        for pattern in words(&['a', 'b', '*'], 3) {
            for template in words(&['a', 'b', '*'], 3) {
                let named = |text: &&String| {
                    mcp_broker_proto::pattern::matches(&pattern, text)
                        && mcp_broker_proto::pattern::matches(&template, text)
                };
                let want = texts.iter().any(|text| named(&text));
                assert_eq!(meets(&pattern, &template.replace('*', "{x}")), want, "{pattern} {template}");
            }
        }
    }
}
