//! The calls of a launch, from the client's line to the word about what became of them: what is asked, what waits
//! for a decision or a person, what was allowed and is not over. Pure and told the time; it moves no byte, and
//! without a decision nothing goes on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mcp_broker_proto::call::{CallOutcome, Decision, Verdict};
use mcp_broker_proto::channel::ToBroker;
use mcp_broker_proto::plan::ScopePlan;
use mcp_broker_proto::{CONFIRM_SECS, DECISION_SECS};

use super::message::{Kind, Message};
use super::talk::id::Id;
use super::talk::notice::{Executed, Notice, Question};
use arguments::Asked;
use over::{crowd, refuse_late};

mod answer;
mod arguments;
mod confirm;
mod over;
#[cfg(test)]
mod tests;

pub use confirm::{elicits, is_confirmation};

/// The most calls that wait for a decision or a person.
const MAX_WAITING: usize = 4096;
/// Above this the client had better not be read on: one read can bring many calls.
const CROWDED: usize = 1024;
/// The bytes of waiting lines above which no further one is taken.
const MAX_WEIGHT: usize = 4 << 20;
/// The most calls that wait for a person.
const MAX_PENDING: usize = 64;
/// The most calls that are not over.
const MAX_OPEN: usize = 16 << 10;
/// What the broker's own limit for a person may be late.
const CONFIRM_GRACE: Duration = Duration::from_secs(2);

/// How the client can be reached beside its requests, at the time of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reach {
    /// It asks the person itself: a client of a handshake revision since 2025-06-18 that offered elicitation in
    /// form mode ([`elicits`]), whose handshake is complete.
    pub elicits: bool,
    /// It can be told things: its revision has a handshake, and that is complete.
    pub told: bool,
}

/// What has to be done now, in the order of the fields.
#[derive(Debug, Default)]
pub struct Acts {
    /// Lines for the client, without their line feeds.
    pub to_client: Vec<String>,
    /// Calls that go on, to an instance of their scope.
    pub forward: Vec<Allowed>,
    /// Frames for the broker.
    pub to_broker: Vec<ToBroker>,
    /// Lines for the person on standard error.
    pub notes: Vec<String>,
}

/// A call that may go on. It is over with one of [`Calls::answered`], [`Calls::withheld`], [`Calls::ended`] and
/// [`Calls::cancelled`].
#[derive(Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Its number.
    pub call: u64,
    /// Its scope: a place in the plan, as it was when the call was asked about.
    pub lane: usize,
    /// Its line, as the client wrote it.
    pub line: Box<str>,
}

/// The calls of a launch.
#[derive(Default)]
pub struct Calls {
    open: BTreeMap<u64, Call>,
    by_id: BTreeMap<Id, u64>,
    /// The number of the last call: they go on over a change of the broker.
    last: u64,
    /// Calls that wait, and the bytes of their lines.
    waiting: usize,
    weight: usize,
    /// Calls that wait for a person.
    pending: usize,
}

/// One call that is not over.
struct Call {
    id: Id,
    /// Its id as the client wrote it.
    raw: Box<str>,
    /// The tool, as raw JSON.
    tool: Box<str>,
    modern: bool,
    reach: Reach,
    lane: usize,
    stage: Stage,
}

enum Stage {
    /// The broker is asked.
    Deciding { line: Box<str>, until: Instant },
    /// A person is asked; `shown` while an elicitation about it is open at the client.
    Pending { line: Box<str>, until: Instant, shown: bool },
    /// The client took it back before the broker had decided.
    TakenBack { until: Instant },
    /// It may go on, and was handed out.
    Allowed { at: Instant, instance: Option<u32> },
}

impl Acts {
    fn answer(line: String) -> Self {
        Self { to_client: vec![line], ..Self::default() }
    }

    fn tell_broker(frame: ToBroker) -> Self {
        Self { to_broker: vec![frame], ..Self::default() }
    }
}

impl Call {
    fn answer(&self, notice: &Notice) -> String {
        let question = Question { id: &self.raw, call: Some(&self.tool), modern: self.modern };
        notice.answer(question, Executed::No)
    }

    fn waits(&self) -> bool {
        matches!(self.stage, Stage::Deciding { .. } | Stage::Pending { .. })
    }
}

impl Calls {
    /// Takes a `tools/call` of the client whose tool is named by the scope at the place `lane` of the plan: keeps
    /// its line and asks the broker, or answers it where it cannot be kept or not be decided on. Where there is no
    /// broker, [`Self::lost`] has to follow at once.
    pub fn ask(
        &mut self,
        line: &str,
        message: &Message<'_>,
        (lane, scope): (usize, &ScopePlan),
        reach: Reach,
        now: Instant,
    ) -> Acts {
        // A notification that looks like a call asks for nothing, and nobody is to answer it.
        let Kind::Request(raw) = message.kind else { return Acts::default() };
        let id = Id::of(raw);
        if self.by_id.contains_key(&id) {
            return Acts::answer(rpc_error(raw, -32600, "a request of this id is open"));
        }
        let tool = message.params.name.unwrap_or_default();
        let modern = message.params.version.is_some();
        let full = self.waiting >= MAX_WAITING || self.weight >= MAX_WEIGHT;
        if full || self.open.len() >= MAX_OPEN {
            let question = Question { id: raw, call: Some(tool), modern };
            return Acts::answer(crowd("calls").answer(question, Executed::No));
        }
        let asked = match Asked::of(message, scope) {
            Ok(asked) => asked,
            Err(words) => return Acts::answer(rpc_error(raw, -32602, &words)),
        };
        self.last += 1;
        let ask = asked.frame(self.last, reach.elicits);
        let stage = Stage::Deciding { line: line.into(), until: now + Duration::from_secs(DECISION_SECS) };
        self.by_id.insert(id.clone(), self.last);
        self.waiting += 1;
        self.weight += line.len();
        let call = Call { id, raw: raw.into(), tool: tool.into(), modern, reach, lane, stage };
        self.open.insert(self.last, call);
        Acts::tell_broker(ToBroker::Ask(ask))
    }

    /// Hears what the broker decided on a call.
    pub fn decided(&mut self, decision: &Decision, now: Instant) -> Acts {
        let (number, verdict) = (decision.call, decision.verdict);
        let Some(call) = self.open.get(&number) else {
            // Where it was given up here, whoever decided on it still has to learn how it ended.
            let known = (1..=self.last).contains(&number);
            let late = || refuse_late(number, verdict, CallOutcome::NotSent);
            return if known { late() } else { Acts::default() };
        };
        match (&call.stage, verdict) {
            (Stage::Allowed { .. }, _) | (Stage::Pending { .. }, Verdict::Pending) => Acts::default(),
            (Stage::TakenBack { .. }, _) => {
                self.open.remove(&number);
                refuse_late(number, verdict, CallOutcome::Cancelled)
            }
            (Stage::Deciding { .. }, Verdict::Pending) => self.confirm(decision, now),
            (_, Verdict::Allow) => self.allow(number, now),
            (_, Verdict::Deny) => self.refuse(number, &Notice::from(decision)),
        }
    }

    fn allow(&mut self, number: u64, now: Instant) -> Acts {
        let mut acts = Acts { to_client: self.withdraw(number).into_iter().collect(), ..Acts::default() };
        let Some((lane, line)) = self.take_line(number) else { return acts };
        if let Some(call) = self.open.get_mut(&number) {
            call.stage = Stage::Allowed { at: now, instance: None };
        }
        acts.forward.push(Allowed { call: number, lane, line });
        acts
    }

    /// A person is to say whether the call may go on: the client asks, or says how to answer.
    fn confirm(&mut self, decision: &Decision, now: Instant) -> Acts {
        let number = decision.call;
        if self.pending >= MAX_PENDING {
            let mut acts = self.refuse(number, &crowd("calls that wait for a person"));
            acts.to_broker.push(ToBroker::Confirmed { call: number, yes: false });
            return acts;
        }
        let Some(call) = self.open.get_mut(&number) else { return Acts::default() };
        let Stage::Deciding { line, .. } = &mut call.stage else { return Acts::default() };
        let line = std::mem::take(line);
        let question = confirm::Confirm::of(decision, &call.tool, &line);
        let mut acts = Acts::default();
        if call.reach.elicits {
            acts.to_client.push(question.elicitation(number));
        } else {
            acts.to_client.extend(call.reach.told.then(|| question.log_message()));
            acts.notes.push(question.note());
        }
        let until = now + Duration::from_secs(CONFIRM_SECS) + CONFIRM_GRACE;
        call.stage = Stage::Pending { line, until, shown: call.reach.elicits };
        self.pending += 1;
        acts
    }

    /// Hears what the client's person said to an elicitation of ours ([`is_confirmation`]): everything but a clear
    /// yes is a no. The call waits on for the broker's word.
    pub fn confirmed(&mut self, raw_id: &str, line: &str, now: Instant) -> Acts {
        let Some(number) = confirm::call_of(raw_id) else { return Acts::default() };
        let stage = self.open.get_mut(&number).map(|call| &mut call.stage);
        let Some(Stage::Pending { until, shown: shown @ true, .. }) = stage else { return Acts::default() };
        *shown = false;
        *until = (*until).min(now + Duration::from_secs(DECISION_SECS));
        Acts::tell_broker(ToBroker::Confirmed { call: number, yes: confirm::is_yes(line) })
    }

    /// Answers a call that waits, and forgets it.
    fn refuse(&mut self, number: u64, notice: &Notice) -> Acts {
        let mut acts = Acts { to_client: self.withdraw(number).into_iter().collect(), ..Acts::default() };
        if self.take_line(number).is_some()
            && let Some(call) = self.forget(number)
        {
            acts.to_client.push(call.answer(notice));
        }
        acts
    }

    /// The line that takes back an elicitation which is open at the client.
    fn withdraw(&self, number: u64) -> Option<String> {
        let shown = matches!(self.open.get(&number)?.stage, Stage::Pending { shown: true, .. });
        shown.then(|| confirm::withdrawal(number))
    }

    /// The line of a call that waits: it does not any more.
    fn take_line(&mut self, number: u64) -> Option<(usize, Box<str>)> {
        let call = self.open.get_mut(&number)?;
        let pending = matches!(call.stage, Stage::Pending { .. });
        let (Stage::Deciding { line, .. } | Stage::Pending { line, .. }) = &mut call.stage else {
            return None;
        };
        let line = std::mem::take(line);
        self.waiting = self.waiting.saturating_sub(1);
        self.weight = self.weight.saturating_sub(line.len());
        self.pending = self.pending.saturating_sub(usize::from(pending));
        Some((call.lane, line))
    }

    fn forget(&mut self, number: u64) -> Option<Call> {
        let call = self.open.remove(&number)?;
        if self.by_id.get(&call.id) == Some(&number) {
            self.by_id.remove(&call.id);
        }
        Some(call)
    }
}

fn rpc_error(raw: &str, code: i32, words: &str) -> String {
    let error = serde_json::json!({ "code": code, "message": words });
    format!(r#"{{"jsonrpc":"2.0","id":{raw},"error":{error}}}"#)
}
