//! Tasks that instances run for the client after they answered its call (MCP 2025-11-25, and the extension of
//! 2026-07-28): whose they are, and when they are over. Pure.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::id::Id;

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

/// The tasks that are not over, and their instances.
#[derive(Default)]
pub struct Tasks {
    open: BTreeMap<Id, u32>,
    weight: usize,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    result: Body<'a>,
}

#[derive(Deserialize)]
struct Body<'a> {
    #[serde(borrow)]
    task: Option<Task<'a>>,
    #[serde(borrow, rename = "taskId")]
    id: Option<&'a RawValue>,
    #[serde(rename = "resultType")]
    kind: Option<Kind>,
    status: Option<Status>,
}

#[derive(Deserialize)]
struct Task<'a> {
    #[serde(borrow, rename = "taskId")]
    id: &'a RawValue,
}

#[derive(Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Task,
    #[serde(other)]
    Other,
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
    pub fn called(&mut self, number: u32, answer: &str) {
        // Most answers are long and name none.
        if memchr::memmem::find(answer.as_bytes(), b"\"taskId\"").is_none() {
            return;
        }
        let Ok(Answer { result }) = serde_json::from_str::<Answer<'_>>(answer) else { return };
        let plain = result.id.filter(|_| result.kind == Some(Kind::Task));
        let Some(raw) = result.task.map(|task| task.id).or(plain) else { return };
        let id = Id::of(raw.get());
        if self.open.len() < MAX_TASKS && self.weight < MAX_WEIGHT {
            self.weight += id.weight();
            if let Some(_before) = self.open.insert(id.clone(), number) {
                self.weight -= id.weight();
            }
        }
    }

    /// The instance that runs a task.
    #[must_use]
    pub fn instance(&self, task: &Id) -> Option<u32> {
        self.open.get(task).copied()
    }

    /// What the client asked about a task was answered. In the older era a task that is done is over when its
    /// result was fetched, in the newer one its state brings the result along.
    pub fn answered(&mut self, task: &Id, about: About, answer: &str, modern: bool, failed: bool) {
        let status =
            || serde_json::from_str::<Answer<'_>>(answer).ok().and_then(|answer| answer.result.status);
        let over = failed
            || about == About::Result
            || match status() {
                Some(Status::Cancelled) => true,
                Some(Status::Completed | Status::Failed) => modern,
                Some(Status::Other) | None => false,
            };
        if over && self.open.remove(task).is_some() {
            self.weight -= task.weight();
        }
    }

    /// An instance is gone, and its tasks with it.
    pub fn gone(&mut self, number: u32) {
        self.open.retain(|_, instance| *instance != number);
        self.weight = self.open.keys().map(Id::weight).sum();
    }

    /// Whether an instance runs one.
    #[must_use]
    pub fn busy(&self, number: u32) -> bool {
        self.open.values().any(|instance| *instance == number)
    }
}
