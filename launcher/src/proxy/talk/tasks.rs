//! Tasks that instances run for the client after they answered its call (MCP 2025-11-25, and the extension of
//! 2026-07-28): whose they are, what the client calls them, and when they are over. Two instances may call a task
//! the same: then the client gets another name for the later one. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::id::Id;
use super::respelled;
use crate::proxy::message::{Reply, text};

/// The most tasks that are known; of further ones nobody is kept awake, and they are asked about where all is.
const MAX_TASKS: usize = 4096;
/// The most bytes of their ids.
const MAX_WEIGHT: usize = 1 << 20;

/// What the client asks about a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// Its result, after which it is over.
    Result,
    /// How it stands, or anything else.
    State,
}

/// The tasks that are not over, by the client's name.
#[derive(Default)]
pub struct Tasks {
    open: BTreeMap<Id, Task>,
    weight: usize,
    /// Names that were given so far.
    named: u64,
}

/// A task that is not over.
struct Task {
    instance: u32,
    /// What its instance calls it, where the client has another name for it.
    original: Option<Id>,
}

#[derive(Deserialize)]
struct Answer {
    result: Body,
}

#[derive(Deserialize)]
struct Body {
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Named<'a> {
    #[serde(borrow, rename = "taskId")]
    id: &'a RawValue,
}

/// Every place of a message where a task may be named.
#[derive(Deserialize)]
struct Names<'a> {
    #[serde(borrow)]
    params: Option<Places<'a>>,
    #[serde(borrow)]
    result: Option<Places<'a>>,
}

#[derive(Deserialize)]
struct Places<'a> {
    #[serde(borrow, rename = "taskId")]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    task: Option<Maybe<'a>>,
    /// A list of them, if it is one.
    #[serde(borrow)]
    tasks: Option<&'a RawValue>,
    #[serde(borrow, rename = "_meta")]
    meta: Option<Meta<'a>>,
}

#[derive(Deserialize)]
struct Maybe<'a> {
    #[serde(borrow, rename = "taskId")]
    id: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Meta<'a> {
    #[serde(borrow, rename = "io.modelcontextprotocol/related-task")]
    related: Option<Maybe<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Status {
    Completed,
    Failed,
    Cancelled,
    #[serde(other)]
    Other,
}

impl Tasks {
    /// An instance has answered a call: with a task, perhaps.
    pub fn called(&mut self, number: u32, answer: &Reply<'_>) {
        let named = answer.task.and_then(|raw| serde_json::from_str::<Named<'_>>(raw).ok());
        let is_task = answer.kind.and_then(text).is_some_and(|kind| kind == "task");
        let plain = answer.task_id.filter(|_| is_task);
        let Some(raw) = named.map(|task| task.id.get()).or(plain) else { return };
        let id = Id::of(raw);
        if self.open.len() >= MAX_TASKS || self.weight >= MAX_WEIGHT {
            return;
        }
        let taken = self.open.get(&id).is_some_and(|task| task.instance != number);
        let known =
            self.open.values().any(|task| task.instance == number && task.original.as_ref() == Some(&id));
        if known {
            return;
        }
        let (name, original) = if taken {
            self.named += 1;
            (Id::of(&format!("\"mcp-run:task:{}\"", self.named)), Some(id))
        } else {
            (id, None)
        };
        self.weight += weight(&name, original.as_ref());
        if let Some(before) = self.open.insert(name.clone(), Task { instance: number, original }) {
            self.weight = self.weight.saturating_sub(weight(&name, before.original.as_ref()));
        }
    }

    /// The instance that runs a task.
    #[must_use]
    pub fn instance(&self, task: &Id) -> Option<u32> {
        self.open.get(task).map(|task| task.instance)
    }

    /// Whether an instance runs a task that it calls so.
    #[must_use]
    pub fn runs(&self, number: u32, id: &Id) -> bool {
        let called = |(name, task): (&Id, &Task)| task.original.as_ref().unwrap_or(name) == id;
        self.open.iter().any(|(name, task)| task.instance == number && called((name, task)))
    }

    /// A line of an instance with the client's names for its tasks, where one of them has another name.
    #[must_use]
    pub fn to_client(&self, number: u32, line: &str) -> Option<String> {
        let named = self.open.iter().filter(|(_, task)| task.instance == number && task.original.is_some());
        self.respell(line, named.map(|(name, task)| (task.original.as_ref(), name)))
    }

    /// A line of the client with the instance's names for its tasks, where one of them has another name.
    #[must_use]
    pub fn to_server(&self, number: u32, line: &str) -> Option<String> {
        let named = self.open.iter().filter(|(_, task)| task.instance == number);
        self.respell(line, named.filter_map(|(name, task)| Some((Some(name), task.original.as_ref()?))))
    }

    fn respell<'i>(
        &self,
        line: &str,
        names: impl Iterator<Item = (Option<&'i Id>, &'i Id)>,
    ) -> Option<String> {
        if self.named == 0 {
            return None;
        }
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            return None;
        }
        let found: Names<'_> = serde_json::from_str(line).ok()?;
        let places = found.params.into_iter().chain(found.result);
        let ids = places.flat_map(|places| {
            let related = places.meta.and_then(|meta| meta.related).and_then(|task| task.id);
            let list = places.tasks.and_then(|raw| serde_json::from_str::<Vec<Maybe<'_>>>(raw.get()).ok());
            let listed = list.unwrap_or_default().into_iter().map(|task| task.id);
            listed.chain([places.id, places.task.and_then(|task| task.id), related])
        });
        let changes = ids.flatten().filter_map(|raw| {
            let id = Id::of(raw.get());
            let (_, name) = names.iter().find(|(before, _)| *before == Some(&id))?;
            Some((raw.get(), name.raw()))
        });
        let changes: Vec<_> = changes.collect();
        let mut changes: Vec<_> = changes.iter().map(|(raw, name)| (*raw, name.as_ref())).collect();
        (!changes.is_empty()).then(|| respelled(line, &mut changes))
    }

    /// What the client asked about a task was answered. In the older era a task that is done is over when its
    /// result was fetched, in the newer one its state brings the result along.
    pub fn answered(&mut self, task: &Id, about: About, answer: &str, modern: bool, failed: bool) {
        let status = || serde_json::from_str::<Answer>(answer).ok().and_then(|answer| answer.result.status);
        let over = failed
            || about == About::Result
            || match status() {
                Some(Status::Cancelled) => true,
                Some(Status::Completed | Status::Failed) => modern,
                Some(Status::Other) | None => false,
            };
        if over && let Some(gone) = self.open.remove(task) {
            self.weight = self.weight.saturating_sub(weight(task, gone.original.as_ref()));
        }
    }

    /// An instance is gone, and its tasks with it.
    pub fn gone(&mut self, number: u32) {
        self.open.retain(|_, task| task.instance != number);
        self.weight = self.open.iter().map(|(name, task)| weight(name, task.original.as_ref())).sum();
    }

    /// Whether an instance runs one.
    #[must_use]
    pub fn busy(&self, number: u32) -> bool {
        self.open.values().any(|task| task.instance == number)
    }
}

fn weight(name: &Id, original: Option<&Id>) -> usize {
    name.weight() + original.map_or(0, Id::weight)
}
