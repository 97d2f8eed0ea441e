//! What the launch is: its plan as it is first said, and as it is said again where the definition has changed.

use std::time::Instant;

use mcp_broker_proto::channel::{GoneReason, ToBroker};
use mcp_broker_proto::plan::Plan;

use super::Relay;
use super::wait::MAX_LANES;
use crate::failure::{CONFIG, Failure};
use crate::proxy::filter::Filter;
use crate::proxy::talk::notice::{Kind, Notice};

impl Relay {
    /// Takes a plan. Scopes are known again by their names.
    pub(super) fn take_plan(&mut self, plan: &Plan, now: Instant) {
        if plan.scopes.is_empty() || plan.scopes.len() > MAX_LANES {
            let what = format!("the server has {} scopes, and at most {MAX_LANES} can be", plan.scopes.len());
            let hint = "ask the owner of the server to merge some in its definition";
            return self.end_with(Failure::new(CONFIG, what, hint), now);
        }
        let before: Vec<_> = match &self.filter {
            Some(filter) => plan.scopes.iter().map(|scope| filter.lane_of(&scope.name)).collect(),
            None => (0..plan.scopes.len()).map(|lane| (lane == 0).then_some(0)).collect(),
        };
        self.give_up_lanes(&before, now);
        self.life.plan(&before, plan.lazy, now);
        self.talk.plan(&before, plan.record.is_some());
        let differs = self.filter.as_ref().is_some_and(|filter| {
            let before = filter.plan();
            before.scopes != plan.scopes || before.record != plan.record
        });
        self.filter = Some(match self.filter.take() {
            Some(filter) => filter.replaced(plan, self.shown.as_ref()),
            None => Filter::new(plan),
        });
        self.planned = true;
        self.tell_plan(differs);
        // The keeper for a ticket that may follow at once.
        self.send_wants(now);
    }

    /// What is hidden is looked at anew with a plan, and whoever sent it may not know of it.
    fn tell_plan(&mut self, differs: bool) {
        for lane in 0..self.life.count() {
            let report = self.filter.as_ref().and_then(|filter| filter.report(lane));
            if let Some(report) = report.filter(|report| !report.tools.is_empty()) {
                self.send(&ToBroker::Changed(report));
            }
            self.sieve(lane);
        }
        if differs {
            self.talk.tell_tools_changed();
        }
    }

    /// Scopes that are in the plan no more: their instances end, and what waits for them is answered.
    fn give_up_lanes(&mut self, before: &[Option<usize>], now: Instant) {
        let hint = "start the server again from its client";
        let what = "the definition of the server has changed, and has no place for this any more";
        let notice = Notice::new(Kind::Refused, what, hint);
        for lane in (0..self.life.count()).filter(|lane| !before.contains(&Some(*lane))) {
            for backend in &mut self.backends {
                if self.talk.lane_of(backend.number) != Some(lane) {
                    continue;
                }
                if backend.alive() {
                    backend.retire(GoneReason::Replaced, notice.clone(), now);
                }
                self.talk.leave(backend.number);
            }
            let lost = self.talk.refuse_held(lane, &notice);
            self.client.lost(lost);
        }
    }
}
