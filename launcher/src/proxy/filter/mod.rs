//! What may pass between the client and the instances of its server: which lane a request belongs to, what a list
//! may show, what the approval record answers. Pure: it holds no I/O and no clock, and decides on no single call.

use std::collections::{BTreeMap, BTreeSet};

use mcp_broker_proto::call::Change;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::plan::Plan;

use names::Names;
use record::Named;

pub use client::{Client, Offers};
pub use list::{List, Listed};
pub use listing::{Listing, Took, Tool};
pub use route::{Call, Route};
pub use server::Said;

pub mod client;
pub mod list;
pub mod listing;
mod names;
mod page;
pub mod pins;
pub mod record;
pub mod refusal;
pub mod route;
pub mod server;
mod template;

/// A scope by its place in the plan. Lane 0 answers what belongs to no tool, prompt or resource.
pub type Lane = usize;

/// What a launch lets pass, as its plan says and as its instances have shown themselves.
pub struct Filter {
    plan: Plan,
    tools: Names,
    prompts: Names,
    resources: Names,
    /// What names the items of the record.
    names: Vec<Named>,
    /// The tools that the record holds, by lane; nothing where there is no record.
    approved: Option<Vec<BTreeSet<Box<str>>>>,
    /// What an instance of the lane listed last, and what is wrong with it; by lane.
    shown: Vec<Shown>,
}

/// What the last instance of a lane has shown.
#[derive(Default)]
struct Shown {
    /// Its tools as it lists them; nothing while it has not listed them.
    tools: Option<Vec<Tool>>,
    /// Tools that are hidden.
    changed: BTreeMap<String, Change>,
}

impl Filter {
    /// By a plan, before any instance has shown its tools.
    #[must_use]
    pub fn new(plan: &Plan) -> Self {
        let scopes = || plan.scopes.iter();
        let names = record::names(plan);
        Self {
            approved: plan
                .record
                .as_ref()
                .map(|record| scopes().map(|scope| record::tools_of(record, &scope.name, &names)).collect()),
            names,
            tools: Names::new(scopes().map(|scope| scope.tools.as_slice())),
            prompts: Names::new(scopes().map(|scope| scope.prompts.as_slice())),
            resources: Names::new(scopes().map(|scope| scope.resources.as_slice())),
            shown: scopes().map(|_| Shown::default()).collect(),
            plan: plan.clone(),
        }
    }

    /// By a plan that takes the place of the one before. Scopes are known again by name, so what their instances
    /// have shown stays; whether it is as approved is looked at anew: see [`Filter::changed`].
    #[must_use]
    pub fn replaced(mut self, plan: &Plan, client: Option<&Client>) -> Self {
        let mut next = Self::new(plan);
        for lane in 0..next.lanes() {
            let before = next.label(lane).and_then(|label| self.lane_of(label));
            let tools = before.and_then(|before| self.shown.get_mut(before)?.tools.take());
            if let Some(tools) = tools {
                next.heard(lane, tools, client);
            }
        }
        next
    }

    /// How many lanes there are.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.plan.scopes.len()
    }

    /// The scope of a lane.
    #[must_use]
    pub fn label(&self, lane: Lane) -> Option<&Label> {
        self.plan.scopes.get(lane).map(|scope| &scope.name)
    }

    /// The lane of a scope.
    #[must_use]
    pub fn lane_of(&self, scope: &Label) -> Option<Lane> {
        self.plan.scopes.iter().position(|one| one.name == *scope)
    }

    /// The plan that it was made of.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The lane of a tool, where it exists: some scope names it, and it is not hidden.
    #[must_use]
    pub fn tool(&self, name: &str) -> Option<Lane> {
        self.tools.lane(name).filter(|lane| self.approved(*lane, name) && !self.hides(*lane, name))
    }

    /// Whether a tool of the lane was there when the server was approved; all are where it was not. One that came up
    /// after an instance had listed is in no listing, and yet is not to be called.
    fn approved(&self, lane: Lane, name: &str) -> bool {
        let Some(approved) = &self.approved else { return true };
        approved.get(lane).is_some_and(|tools| tools.contains(name))
    }

    /// The lane of a prompt.
    #[must_use]
    pub fn prompt(&self, name: &str) -> Option<Lane> {
        self.prompts.lane(name)
    }

    /// The lane of a resource.
    #[must_use]
    pub fn resource(&self, uri: &str) -> Option<Lane> {
        let lane = self.resources.lane(uri)?;
        // Whoever reads it may go up from where the pattern leads.
        (self.resources.is_exact(uri) || !names::climbs(uri)).then_some(lane)
    }

    /// Whether an instance has to list its tools when it comes up: something depends on what it shows.
    #[must_use]
    pub fn wants_listing(&self) -> bool {
        self.plan.record.is_some() || self.lanes() > 1
    }

    /// What is hidden of a lane, and why: the whole of what `Changed` says of its scope.
    #[must_use]
    pub fn changed(&self, lane: Lane) -> Option<&BTreeMap<String, Change>> {
        self.shown.get(lane).map(|shown| &shown.changed)
    }

    fn hides(&self, lane: Lane, name: &str) -> bool {
        self.shown.get(lane).is_some_and(|shown| shown.changed.contains_key(name))
    }
}

#[cfg(any(test, fuzzing))]
pub mod checks;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
