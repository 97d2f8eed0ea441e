//! Lists of a server, and what of them the client may see: allowed elements byte for byte, and the rest of the
//! result as it is. What is no clean list does not pass at all.

use super::page::{Element, Page, Shape};
use super::pins::Pins;
use super::{Filter, template};
use crate::proxy::message::{Method, place, text};

/// A filtered list is fresh for so many milliseconds at most: what may be seen can change under it.
pub(super) const MAX_TTL_MS: u64 = 60_000;

/// The most elements of a page that are compared with the record, or with patterns as templates: that takes longer
/// than to look a name up.
const MAX_COMPARED: usize = 1024;

/// The lists of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum List {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

/// What becomes of a server's answer to a list request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub enum Listed {
    /// It passes as it is: everything in it is allowed, or it is an error.
    Same,
    /// This line passes in its place.
    Line(String),
    /// It does not pass; the client gets [`super::refusal::unclear_list`].
    Unclear,
}

impl List {
    /// The list that a method asks for.
    #[must_use]
    pub fn of(method: Method) -> Option<Self> {
        match method {
            Method::Tools => Some(Self::Tools),
            Method::Prompts => Some(Self::Prompts),
            Method::Resources => Some(Self::Resources),
            Method::Templates => Some(Self::Templates),
            _ => None,
        }
    }

    /// Where the elements stand in a result.
    #[must_use]
    pub fn member(self) -> &'static str {
        self.shape().members.first().copied().unwrap_or_default()
    }

    pub(super) fn shape(self) -> Shape {
        match self {
            Self::Tools => {
                Shape { members: &["tools", "nextCursor", "ttlMs", "cacheScope"], name: &["name"] }
            }
            Self::Prompts => {
                Shape { members: &["prompts", "nextCursor", "ttlMs", "cacheScope"], name: &["name"] }
            }
            Self::Resources => {
                Shape { members: &["resources", "nextCursor", "ttlMs", "cacheScope"], name: &["uri"] }
            }
            Self::Templates => Shape {
                members: &["resourceTemplates", "nextCursor", "ttlMs", "cacheScope"],
                name: &["uriTemplate"],
            },
        }
    }
}

impl Filter {
    /// What of an answer of lane 0 to a list request of the client passes: on the last page with what other lanes
    /// list of their own tools. `line` is a response that [`crate::proxy::rule::from_server`] took; an error passes.
    pub fn list(&self, list: List, line: &str) -> Listed {
        let page = match Page::read(line, list.shape()) {
            Ok(Some(page)) => page,
            Ok(None) => return Listed::Same,
            Err(_) => return Listed::Unclear,
        };
        let pins = self.pins().filter(|_| list == List::Tools);
        if page.elements.len() > MAX_COMPARED && (pins.is_some() || list == List::Templates) {
            return Listed::Unclear;
        }
        let keep = |element: &Element<'_>| {
            text(element.name).is_some_and(|name| self.shows(list, &name, element, pins.as_ref()))
        };
        let added = if list == List::Tools && page.next.is_none() { self.of_others() } else { Vec::new() };
        rewritten(line, &page, keep, &added)
    }

    /// Whether the client may see an element of lane 0's list.
    fn shows(&self, list: List, name: &str, element: &Element<'_>, pins: Option<&Pins<'_>>) -> bool {
        match list {
            List::Tools => {
                // Where the tool's own lane has listed, what it says counts.
                let own = |lane| {
                    lane == 0 || self.shown.get(lane).is_none_or(|shown: &super::Shown| shown.tools.is_none())
                };
                // Another moment may show it otherwise than the last listing did.
                let as_approved = |lane| pins.is_none_or(|pins| pins.has(lane, name, element.text));
                self.tool(name).is_some_and(|lane| own(lane) && as_approved(lane))
            }
            _ => self.lists(list, name).is_some(),
        }
    }

    /// The lane of a template: some URI that it can make is named by a pattern.
    #[must_use]
    pub fn template(&self, template: &str) -> Option<usize> {
        let mut patterns = self.resources.patterns();
        patterns.find(|(pattern, _)| template::meets(pattern, template)).map(|(_, lane)| lane)
    }

    /// The tools that other lanes list and have.
    fn of_others(&self) -> Vec<&str> {
        let others = self.shown.iter().enumerate().skip(1);
        let theirs = others.flat_map(|(lane, shown)| {
            let mut names = std::collections::BTreeSet::new();
            let tools = shown.tools.iter().flatten();
            tools.filter(move |tool| self.tool(&tool.name) == Some(lane) && names.insert(tool.name.as_ref()))
        });
        theirs.map(|tool| tool.text.as_ref()).collect()
    }
}

/// What of an answer to `tasks/list` passes: the tasks that are known (raw ids), with another cursor (raw JSON, as the
/// one that it has) where `next` has one. Otherwise as [`Filter::list`].
pub fn tasks(
    line: &str,
    known: &dyn Fn(&str) -> bool,
    next: &dyn Fn(Option<&str>) -> Option<String>,
) -> Listed {
    let shape = Shape { members: &["tasks", "nextCursor", "ttlMs", "cacheScope"], name: &["taskId"] };
    let page = match Page::read(line, shape) {
        Ok(Some(page)) => page,
        Ok(None) => return Listed::Same,
        Err(_) => return Listed::Unclear,
    };
    let Some(cursor) = next(page.next) else {
        return rewritten(line, &page, |element| known(element.name), &[]);
    };
    let behind = || {
        let at = page.inside.end + line.get(page.inside.end..)?.find(']')? + 1;
        Some((at..at, format!(r#","nextCursor":{cursor}"#)))
    };
    let change = page.cursor.map_or_else(behind, |raw| edit(line, raw, cursor.clone()));
    let Some(line) = change.and_then(|change| replaced(line, vec![change])) else { return Listed::Unclear };
    match tasks(&line, known, &|_| None) {
        Listed::Same => Listed::Line(line),
        listed => listed,
    }
}

/// The line with only some of the elements, and others after them.
fn rewritten<'a>(
    line: &'a str,
    page: &Page<'a>,
    keep: impl Fn(&Element<'a>) -> bool,
    added: &[&str],
) -> Listed {
    let kept: Vec<&str> = page.elements.iter().filter(|one| keep(one)).map(|one| one.text).collect();
    if kept.len() == page.elements.len() && added.is_empty() {
        return Listed::Same;
    }
    let elements: Vec<&str> = kept.iter().chain(added).copied().collect();
    let elements = elements.join(",");
    let ttl = page.ttl.filter(|raw| raw.parse::<u64>().map_or(true, |ttl| ttl > MAX_TTL_MS));
    let edits = [
        Some((page.inside.clone(), elements)),
        page.scope.and_then(|raw| edit(line, raw, r#""private""#.into())),
        ttl.and_then(|raw| edit(line, raw, MAX_TTL_MS.to_string())),
    ];
    replaced(line, edits.into_iter().flatten().collect()).map_or(Listed::Unclear, Listed::Line)
}

type Edit = (std::ops::Range<usize>, String);

fn edit(line: &str, part: &str, with: String) -> Option<Edit> {
    place(line, part).map(|at| (at..at + part.len(), with))
}

fn replaced(line: &str, mut edits: Vec<Edit>) -> Option<String> {
    edits.sort_by_key(|(range, _)| range.start);
    let length = edits.iter().map(|(_, with)| with.len()).sum::<usize>() + line.len();
    let gone = edits.iter().map(|(range, _)| range.len()).sum();
    let (mut whole, mut at) = (String::with_capacity(length.saturating_sub(gone)), 0);
    for (range, with) in edits {
        whole.push_str(line.get(at..range.start)?);
        whole.push_str(&with);
        at = range.end;
    }
    whole.push_str(line.get(at..)?);
    Some(whole)
}
