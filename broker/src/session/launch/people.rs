//! Calls that a person is asked about: `pending` at once, then an answer, over the launch where its client can ask or
//! by command, or nobody's within the time, which is a no. A yes is never remembered beyond its session, nor a lock.

use mcp_broker_proto::call::{Ask, CallReason, Verdict};
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::CallId;
use mcp_broker_proto::session::ConfirmationInfo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Launch;
use super::book::Asked;
use super::calls::{Judged, closed, words_of};
use crate::audit::{Answer, Arguments, ByWhom, Event};
use crate::clock::shown;
use crate::config::Confirm;
use crate::policy::{CallDenial, Grant};

/// Who answered whether a call may go on.
enum Answerer {
    /// The client's person, over the launch itself.
    Client,
    /// Somebody with `mcp-run approve`.
    Command(ByWhom),
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// Puts a call before a person.
    pub(super) async fn ask_person(
        &mut self,
        ask: Ask,
        id: CallId,
        arguments: Option<Arguments>,
    ) -> Result<(), EndReason> {
        let reason = CallReason::AwaitsConfirmation;
        let limit = self.sessions.confirm_limit;
        let until = self.sessions.clock.now().saturating_add(limit);
        let info = ConfirmationInfo {
            id,
            launch: self.seat.launch,
            server: self.asked.request.server.clone(),
            scope: ask.scope.clone(),
            tool: ask.tool.clone(),
            until: shown(until.unwrap_or(self.sessions.clock.now())),
        };
        let words = self.words(reason, &ask);
        let Some(event) = self.event(&ask, id, (Verdict::Pending, reason), arguments) else { return Ok(()) };
        if let Err(problem) = self.seat.waits(info, |audit| audit.note(event)) {
            return self.deny(&ask, id, closed(&problem), None).await;
        }
        let (number, now) = (ask.call, self.sessions.clock.boot());
        self.book.waits(id, Asked { ask, until: Instant::now() + limit }, now);
        let hint = format!("answer the question, or run `mcp-run approve {id}` (`--no` refuses it)");
        self.tell(number, id, Verdict::Pending, CallDenial { hint, ..words }).await
    }

    /// A person, or the client for them, said whether a call may go on. Without elicitation a launcher can say no
    /// (the client took the call back), and never yes.
    pub(super) async fn confirmed(&mut self, number: u64, yes: bool) -> Result<(), EndReason> {
        let Some((id, asked)) = self.book.waiting(number) else { return Ok(()) };
        // Where somebody else has answered already, that stands.
        if (yes && !asked.ask.elicits) || !self.seat.waits_no_more(id) {
            return Ok(());
        }
        self.answer(number, yes, Answerer::Client).await
    }

    /// The same, by command.
    pub(super) async fn confirmed_by(
        &mut self,
        call: CallId,
        yes: bool,
        by: ByWhom,
    ) -> Result<(), EndReason> {
        match self.book.waiting_as(call) {
            Some(number) => self.answer(number, yes, Answerer::Command(by)).await,
            None => Ok(()),
        }
    }

    /// Nobody said yes in time.
    pub(super) async fn nobody_confirmed(&mut self, number: u64) -> Result<(), EndReason> {
        match self.book.waiting(number) {
            Some((id, _)) if self.seat.waits_no_more(id) => {
                self.drop_waiting(number, CallReason::NotConfirmed).await
            }
            // Its answer is on its way, and comes first.
            _ => Ok(()),
        }
    }

    /// The session was locked: what waits for a person goes on for nobody, and no yes holds any more.
    pub(super) async fn drop_all_waiting(&mut self) -> Result<(), EndReason> {
        for number in self.book.all_waiting() {
            self.drop_waiting(number, CallReason::SessionLocked).await?;
        }
        Ok(())
    }

    /// Somebody answered. A yes is decided on once more, as much may have happened since.
    async fn answer(&mut self, number: u64, yes: bool, who: Answerer) -> Result<(), EndReason> {
        let Some((call, _)) = self.book.waiting(number) else { return Ok(()) };
        let (how, by) = match who {
            Answerer::Client => (Answer::Elicitation, None),
            Answerer::Command(by) => (Answer::Command, Some(by)),
        };
        let user = self.asked.person.user.clone();
        self.sessions.audit.note(Event::CallConfirmed { call, user, yes, how, by });
        if !yes {
            return self.drop_waiting(number, CallReason::Declined).await;
        }
        self.look_at_policy().await?;
        let Some(asked) = self.book.goes_on(number) else { return Ok(()) };
        match self.judge(&asked.ask, true) {
            Judged::Goes(reason) => self.let_confirmed_go(asked.ask, call, reason).await,
            Judged::Denied(denial) => self.deny_confirmed(&asked.ask, call, denial).await,
            Judged::Lost(denial) => {
                self.deny_confirmed(&asked.ask, call, denial).await?;
                Err(EndReason::Revoked)
            }
            // Not said of a call that was confirmed.
            Judged::Asks => {
                self.deny_confirmed(&asked.ask, call, self.words(CallReason::NotConfirmed, &asked.ask)).await
            }
        }
    }

    async fn let_confirmed_go(&mut self, ask: Ask, id: CallId, reason: CallReason) -> Result<(), EndReason> {
        let Some(event) = self.event(&ask, id, (Verdict::Allow, reason), None) else { return Ok(()) };
        if let Err(problem) = self.seat.lets(|audit| audit.note(event)) {
            return self.deny_confirmed(&ask, id, closed(&problem)).await;
        }
        let server = self.asked.standing.as_ref().ok().map(Grant::server);
        let confirm = server.and_then(|server| Some((server, server.scope(&ask.scope)?.confirm?)));
        if let Some((server, Confirm::For(time))) = confirm {
            self.seat.remember_yes(&ask.scope, time, server);
        }
        self.tell(ask.call, id, Verdict::Allow, words_of(reason)).await
    }

    async fn deny_confirmed(&mut self, ask: &Ask, id: CallId, denial: CallDenial) -> Result<(), EndReason> {
        self.book.over(ask.call);
        self.deny(ask, id, denial, None).await
    }

    async fn drop_waiting(&mut self, number: u64, reason: CallReason) -> Result<(), EndReason> {
        let Some(call) = self.book.over(number) else { return Ok(()) };
        let Some(asked) = call.asked else { return Ok(()) };
        let denial = self.words(reason, &asked.ask);
        self.deny(&asked.ask, call.id, denial, None).await
    }
}
