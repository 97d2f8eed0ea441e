//! How calls end: answered, taken back, too late, without a broker. Each call that was allowed is reported once.

use std::time::Instant;

use mcp_broker_proto::call::{Answered, CallOutcome, Verdict};
use mcp_broker_proto::channel::ToBroker;

use super::{Acts, CROWDED, Calls, MAX_WEIGHT, Stage, answer};
use crate::proxy::message::Message;
use crate::proxy::talk::id::Id;
use crate::proxy::talk::notice::{self, Notice};

impl Calls {
    /// Notes the instance, by the broker's number, that an allowed call was sent to.
    pub fn sent(&mut self, id: &Id, instance: u32) {
        let call = self.by_id.get(id).and_then(|number| self.open.get_mut(number));
        if let Some(Stage::Allowed { instance: to, .. }) = call.map(|call| &mut call.stage) {
            *to = Some(instance);
        }
    }

    /// Notes the answer to a call, as the client gets it: what it says, of so many bytes, and how many secrets were
    /// masked in it. Nothing is to be said where it answers no call.
    pub fn answered(
        &mut self,
        id: &Id,
        answer: &Message<'_>,
        [size, masked]: [u64; 2],
        now: Instant,
    ) -> Option<ToBroker> {
        self.report(id, answer::outcome(answer), [size, masked], now)
    }

    /// Notes that the answer to a call, of so many bytes, was too long and did not reach the client.
    pub fn withheld(&mut self, id: &Id, size: u64, masked: u64, now: Instant) -> Option<ToBroker> {
        self.report(id, CallOutcome::ResultTooLong, [size, masked], now)
    }

    /// Notes that an allowed call ended without an answer of a server that could pass: it was never sent, its instance
    /// ended, or what it answered, of so many bytes, was dropped.
    pub fn ended(&mut self, id: &Id, outcome: CallOutcome, size: u64, now: Instant) -> Option<ToBroker> {
        self.report(id, outcome, [size, 0], now)
    }

    /// The client takes a request back. Whether it was a call that waited here, so that no server has heard of it;
    /// and what has to be done.
    pub fn cancelled(&mut self, id: &Id, now: Instant) -> (bool, Acts) {
        let waits = |number: &u64| self.open.get(number).is_some_and(super::Call::waits);
        let Some(number) = self.by_id.get(id).copied().filter(waits) else {
            let report = self.report(id, CallOutcome::Cancelled, [0, 0], now);
            return (false, Acts { to_broker: report.into_iter().collect(), ..Acts::default() });
        };
        let mut acts = Acts { to_client: self.withdraw(number).into_iter().collect(), ..Acts::default() };
        self.by_id.remove(id);
        let until = self.open.get(&number).and_then(|call| call.stage.until());
        let pending = self.open.get(&number).is_some_and(|call| matches!(call.stage, Stage::Pending { .. }));
        self.take_line(number);
        if pending {
            acts.to_broker.push(ToBroker::Confirmed { call: number, yes: false });
        }
        if let (Some(call), Some(until)) = (self.open.get_mut(&number), until) {
            call.stage = Stage::TakenBack { until };
        }
        (true, acts)
    }

    /// Gives up what has waited too long; to be called when [`Self::next_due`] is reached.
    pub fn due(&mut self, now: Instant) -> Acts {
        let late = |stage: &Stage| stage.until().is_some_and(|until| now >= until);
        let numbers: Vec<_> =
            self.open.iter().filter(|(_, call)| late(&call.stage)).map(|(n, _)| *n).collect();
        let mut all = Acts::default();
        for number in numbers {
            let asked = self.open.get(&number).is_some_and(|c| matches!(c.stage, Stage::Pending { .. }));
            let notice =
                if asked { not_confirmed() } else { no_decision("the broker did not decide in time") };
            all.add(self.refuse(number, &notice));
            // What was taken back has no line.
            self.forget(number);
        }
        all
    }

    /// When something has waited too long, if nothing is heard until then.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        if self.waiting == 0 && self.by_id.len() == self.open.len() {
            return None;
        }
        self.open.values().filter_map(|call| call.stage.until()).min()
    }

    /// There is no broker: nothing that waits goes on, and nobody waits for a report. What was allowed goes on.
    pub fn lost(&mut self) -> Acts {
        let acts = self.refuse_all(&no_decision("the broker is gone, and nobody else decides on calls"));
        self.open.clear();
        self.by_id.clear();
        acts
    }

    /// Answers everything that waits: nothing of it goes on.
    pub fn refuse_all(&mut self, notice: &Notice) -> Acts {
        let numbers: Vec<_> = self.open.iter().filter(|(_, call)| call.waits()).map(|(n, _)| *n).collect();
        let mut all = Acts::default();
        for number in numbers {
            all.add(self.refuse(number, notice));
        }
        all
    }

    /// Whether a call waits for a decision or a person.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.waiting > 0
    }

    /// Whether the client may be read on: calls that wait for the broker are few, as it decides soon. A person may
    /// take long, and nobody waits for that.
    #[must_use]
    pub fn has_room(&self) -> bool {
        let crowded = self.waiting - self.pending.min(self.waiting) >= CROWDED;
        // Looked at one by one only where they weigh much at all.
        !crowded && (self.weight < MAX_WEIGHT || self.undecided_weight() < MAX_WEIGHT)
    }

    fn undecided_weight(&self) -> usize {
        let weight = |call: &super::Call| match &call.stage {
            Stage::Deciding { line, .. } => line.len(),
            _ => 0,
        };
        self.open.values().map(weight).sum()
    }

    fn report(
        &mut self,
        id: &Id,
        outcome: CallOutcome,
        [size, masked]: [u64; 2],
        now: Instant,
    ) -> Option<ToBroker> {
        let number = *self.by_id.get(id)?;
        let Stage::Allowed { at, instance } = self.open.get(&number)?.stage else { return None };
        self.forget(number);
        let millis = u64::try_from(now.saturating_duration_since(at).as_millis()).unwrap_or(u64::MAX);
        Some(ToBroker::Answered(Answered { call: number, outcome, instance, size, millis, masked }))
    }
}

impl Stage {
    fn until(&self) -> Option<Instant> {
        match self {
            Self::Deciding { until, .. } | Self::Pending { until, .. } | Self::TakenBack { until } => {
                Some(*until)
            }
            Self::Allowed { .. } => None,
        }
    }
}

impl Acts {
    /// Appends what else has to be done.
    pub fn add(&mut self, more: Self) {
        self.to_client.extend(more.to_client);
        self.forward.extend(more.forward);
        self.to_broker.extend(more.to_broker);
        self.notes.extend(more.notes);
    }
}

/// What whoever decided has to hear of a call that does not wait for it any more.
pub(super) fn refuse_late(call: u64, verdict: Verdict, outcome: CallOutcome) -> Acts {
    match verdict {
        Verdict::Deny => Acts::default(),
        Verdict::Pending => Acts::tell_broker(ToBroker::Confirmed { call, yes: false }),
        Verdict::Allow => {
            let answered = Answered { call, outcome, instance: None, size: 0, millis: 0, masked: 0 };
            Acts::tell_broker(ToBroker::Answered(answered))
        }
    }
}

pub(super) fn crowd(of_what: &str) -> Notice {
    let what = format!("there are too many {of_what}");
    Notice::new(notice::Kind::Refused, what, "wait for answers before you call more")
        .because("too_many_waiting")
}

fn no_decision(what: &str) -> Notice {
    let hint = "call again in a few seconds; if that does not help, run `mcp-run doctor`";
    Notice::new(notice::Kind::Refused, what, hint).because("no_decision")
}

fn not_confirmed() -> Notice {
    let hint = "call again, and confirm it when you are asked";
    Notice::new(notice::Kind::Refused, "nobody confirmed the call in time", hint).because("not_confirmed")
}
