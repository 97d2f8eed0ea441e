//! What the account of calls asks for, done: lines to the client, calls to their instances, frames to the broker,
//! words to the person.

use std::time::Instant;

use mcp_broker_proto::call::CallOutcome;

use super::Relay;
use crate::proxy::calls::{Acts, Allowed};
use crate::proxy::filter::Route;
use crate::proxy::message::{Kind, Message};
use crate::proxy::talk::News;
use crate::proxy::talk::id::Id;

impl Relay {
    /// Does what has to be done.
    pub(super) fn act(&mut self, mut acts: Acts, now: Instant) {
        if !acts.to_broker.is_empty() && !self.link.is_up() {
            acts.to_broker.clear();
            acts.add(self.calls.lost());
        }
        for line in acts.to_client {
            self.talk.to_client.push(line.as_bytes());
        }
        for allowed in acts.forward {
            self.forward(&allowed, now);
        }
        for frame in acts.to_broker {
            self.send(&frame);
        }
        for note in acts.notes {
            self.say(&note);
        }
    }

    /// A call that may go on. Where it belongs is looked at once more: what its instance shows, or the plan, may
    /// have changed since it was asked about.
    fn forward(&mut self, allowed: &Allowed, now: Instant) {
        let (line, Some(filter)) = (&allowed.line, &self.filter) else { return };
        let Ok(message) = Message::parse(line) else { return };
        let sent = match filter.route(&message) {
            Route::Call(call) => {
                self.life.asked(call.lane, now);
                let otherwise = self.life.otherwise(call.lane);
                self.talk.client_line(line, &message, call.lane, otherwise).is_ok()
            }
            Route::Refused(answer) => {
                self.talk.to_client.push(answer.as_bytes());
                false
            }
            _ => false,
        };
        if let (false, Kind::Request(id)) = (sent, message.kind) {
            self.talk.news.push(News::Ended(Id::of(id), CallOutcome::NotSent, 0));
        }
    }

    /// Notes what became of calls, and tells the broker.
    pub(super) fn report_calls(&mut self, now: Instant) {
        if self.talk.news.is_empty() {
            return;
        }
        for news in std::mem::take(&mut self.talk.news) {
            match news {
                News::Sent(id, number) => {
                    if let Some(backend) = self.backends.iter().find(|backend| backend.number == number) {
                        self.calls.sent(&id, backend.wire);
                    }
                }
                News::Ended(id, outcome, size) => {
                    let report = self.calls.ended(&id, outcome, size, now);
                    report.iter().for_each(|frame| self.send(frame));
                }
            }
        }
    }

    /// Gives up what has waited too long for a decision.
    pub(super) fn give_up_calls(&mut self, now: Instant) {
        if self.calls.next_due().is_some_and(|at| now >= at) {
            let acts = self.calls.due(now);
            self.act(acts, now);
        }
    }
}
