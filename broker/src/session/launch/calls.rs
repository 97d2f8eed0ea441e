//! Each call of a tool is decided here at the time of the call: the session, access, the definition, what the server
//! shows, the audit log, and a person where the definition asks for one. A decision is noted before it is told, and
//! nobody waits for the disk: a log that does not keep up, or failed last, lets no call through.

use mcp_broker_proto::call::{Answered, Ask, CallOutcome, CallReason, Decision, Verdict};
use mcp_broker_proto::channel::{EndReason, ToLauncher};
use mcp_broker_proto::names::CallId;
use mcp_broker_proto::problem::{ErrorCode, Problem};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Launch;
use super::book::Noted;
use crate::audit::{Arguments, Event, PlainDigest, ToolName};
use crate::config::Confirm;
use crate::policy::{CallDecision, CallDenial, decide_call};

/// What is said to a call.
pub(super) enum Judged {
    /// It may go on.
    Goes(CallReason),
    /// A person is to be asked.
    Asks,
    /// It may not.
    Denied(CallDenial),
    /// It may not, and the launch is over: policy does not allow it any more.
    Lost(CallDenial),
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// Decides on a call, and says so. A number that is under way already, and a digest that is none, are out of turn:
    /// they are not answered, so that the call fails closed.
    pub(super) async fn ask(&mut self, mut ask: Ask) -> Result<(), EndReason> {
        if self.book.has(ask.call) || PlainDigest::parse(&ask.sha256).is_none() {
            return Ok(());
        }
        self.look_at_policy().await?;
        let id = CallId::fresh();
        let arguments = self.arguments(&mut ask);
        match self.judge(&ask, false) {
            Judged::Goes(reason) => self.let_go(ask, id, reason, arguments).await,
            Judged::Asks => self.ask_person(ask, id, arguments).await,
            Judged::Denied(denial) => self.deny(&ask, id, denial, arguments).await,
            Judged::Lost(denial) => {
                self.deny(&ask, id, denial, arguments).await?;
                Err(EndReason::Revoked)
            }
        }
    }

    /// What became of a call. Said of none that is under way, it is out of turn.
    pub(super) fn answered(&mut self, answered: &Answered) {
        let Answered { call, outcome, instance, size, millis, masked } = *answered;
        if let Some(known) = self.book.over(call) {
            if known.asked.is_some() {
                self.seat.waits_no_more(known.id);
            }
            let call = known.id;
            self.sessions.audit.note(Event::CallAnswered { call, outcome, instance, size, millis, masked });
        }
    }

    /// The launch is over: nobody knows what became of the calls that went on.
    pub(super) fn abandon_calls(&mut self) {
        for call in self.book.all_over() {
            let outcome = if call.asked.is_some() { CallOutcome::NotSent } else { CallOutcome::Unknown };
            let (instance, size, millis, masked) = (None, 0, 0, 0);
            let call = call.id;
            self.sessions.audit.note(Event::CallAnswered { call, outcome, instance, size, millis, masked });
        }
    }

    /// The steps in their order; the first that denies is the one that is told. `confirmed`: a person said yes to
    /// this call, which is under way already.
    pub(super) fn judge(&mut self, ask: &Ask, confirmed: bool) -> Judged {
        if let Err(problem) = self.seat.lets(|_| {}) {
            return Judged::Denied(closed(&problem));
        }
        let grant = match &self.asked.standing {
            Ok(grant) => grant,
            Err(problem) => return Judged::Lost(denied(CallReason::AccessLost, problem)),
        };
        let now = self.sessions.clock.boot();
        let mut usage = self.seat.uses.usage(&ask.scope, now);
        if confirmed {
            usage.at_once = usage.at_once.saturating_sub(1);
            usage.last_minute = usage.last_minute.saturating_sub(1);
        }
        let definition = grant.server();
        if ask.revision != self.asked.revision {
            return Judged::Denied(CallDenial::of(CallReason::PlanChanged, definition, ask));
        }
        let changed = self.told.is_changed(&ask.scope, &ask.tool);
        let deny = |reason| Judged::Denied(CallDenial::of(reason, definition, ask));
        let confirm = match decide_call(definition, ask, &usage, changed) {
            CallDecision::Deny(denial) => return Judged::Denied(denial),
            CallDecision::Allow => None,
            CallDecision::Confirm(confirm) => Some(confirm),
        };
        if ToolName::parse(&ask.tool).is_none() {
            return deny(CallReason::NotInScope);
        }
        if !self.sessions.audit.takes_calls() {
            return deny(CallReason::AuditUnavailable);
        }
        if !confirmed && !self.book.has_room() {
            return deny(CallReason::TooManyAtOnce);
        }
        match confirm {
            None => Judged::Goes(CallReason::Allowed),
            Some(_) if confirmed => Judged::Goes(CallReason::Confirmed),
            Some(Confirm::For(_)) if self.seat.uses.remembers_yes(&ask.scope, now, definition) => {
                Judged::Goes(CallReason::Confirmed)
            }
            Some(_) if self.book.has_room_to_wait() => Judged::Asks,
            Some(_) => deny(CallReason::TooManyAtOnce),
        }
    }

    pub(super) async fn let_go(
        &mut self,
        ask: Ask,
        id: CallId,
        reason: CallReason,
        arguments: Option<Arguments>,
    ) -> Result<(), EndReason> {
        let Some(event) = self.event(&ask, id, (Verdict::Allow, reason), arguments) else { return Ok(()) };
        if let Err(problem) = self.seat.lets(|audit| audit.note(event)) {
            return self.deny(&ask, id, closed(&problem), None).await;
        }
        let now = self.sessions.clock.boot();
        self.book.goes(ask.call, id, ask.scope, now);
        self.tell(ask.call, id, Verdict::Allow, words_of(reason)).await
    }

    pub(super) async fn deny(
        &mut self,
        ask: &Ask,
        id: CallId,
        denial: CallDenial,
        arguments: Option<Arguments>,
    ) -> Result<(), EndReason> {
        match self.book.denies(self.sessions.clock.boot()) {
            Noted::Each => {
                if let Some(event) = self.event(ask, id, (Verdict::Deny, denial.reason), arguments) {
                    self.sessions.audit.note_unless_behind(event);
                }
            }
            Noted::Last => {
                let launch = self.seat.launch;
                self.sessions.audit.note_unless_behind(Event::DenialsNotWritten { launch });
            }
            Noted::No => {}
        }
        self.tell(ask.call, id, Verdict::Deny, denial).await
    }

    pub(super) async fn tell(
        &mut self,
        call: u64,
        id: CallId,
        verdict: Verdict,
        words: CallDenial,
    ) -> Result<(), EndReason> {
        let CallDenial { reason, what, hint } = words;
        self.send(&ToLauncher::Decision(Decision { call, id, verdict, reason, what, hint })).await
    }

    /// The arguments as they may be written down, taken out of the call: nothing else needs them.
    fn arguments(&self, ask: &mut Ask) -> Option<Arguments> {
        let whole = ask.whole.take();
        let scope = self.asked.server.scope(&ask.scope)?;
        whole.filter(|_| scope.audit_arguments).and_then(Arguments::parse)
    }

    pub(super) fn event(
        &self,
        ask: &Ask,
        call: CallId,
        (verdict, reason): (Verdict, CallReason),
        arguments: Option<Arguments>,
    ) -> Option<Event> {
        let digest = self.sessions.audit.digest(&PlainDigest::parse(&ask.sha256)?);
        let (launch, scope, size) = (self.seat.launch, ask.scope.clone(), ask.size);
        let tool = ToolName::parse(&ask.tool);
        Some(Event::CallDecided { call, launch, scope, tool, verdict, reason, size, digest, arguments })
    }

    pub(super) fn words(&self, reason: CallReason, ask: &Ask) -> CallDenial {
        CallDenial::of(reason, &self.asked.server, ask)
    }
}

/// A call that may go on needs no words.
pub(super) fn words_of(reason: CallReason) -> CallDenial {
    CallDenial { reason, what: String::new(), hint: String::new() }
}

/// No call goes on while the session or the launch is not open.
pub(super) fn closed(problem: &Problem) -> CallDenial {
    let locked = problem.code == ErrorCode::SessionLocked;
    denied(if locked { CallReason::SessionLocked } else { CallReason::SessionOver }, problem)
}

fn denied(reason: CallReason, problem: &Problem) -> CallDenial {
    CallDenial { reason, what: problem.title.clone(), hint: problem.hint.clone() }
}
