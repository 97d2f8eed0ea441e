//! What the client says, and where that goes: to the instance that it is for, or back as an answer of ours.

use std::time::Instant;

use super::wait::Ready;
use super::{Closing, Relay};
use crate::proxy::filter::{Filter, Route, refusal};
use crate::proxy::life::Life;
use crate::proxy::message::{Kind, Message};
use crate::proxy::rule::{self, Drop};
use crate::proxy::source::Read;
use crate::proxy::talk::Talk;

impl Relay {
    /// Whether the client may be read on.
    pub(super) fn client_wanted(&self) -> bool {
        self.filter.is_some() && self.talk.has_room(self.life.is_first())
    }

    /// The client's three streams.
    pub(super) fn move_client(&mut self, ready: &Ready, now: Instant) {
        let [input, output, error] = ready.client;
        let wrote = self.out.ready(output, &mut self.talk.to_client);
        self.note_write(wrote, now);
        self.err.ready(error, &mut self.words);
        let wanted = self.client_wanted();
        let too_long = self.client.lines().too_long_count();
        let Self { client, talk, life, filter, .. } = self;
        let read = client.ready(input, wanted, |line| {
            let Some(filter) = filter else { return Err(Drop::Undelivered) };
            let parsed = rule::from_client(line);
            let (text, message) = parsed.inspect_err(|why| talk.misunderstood(*why))?;
            Desk { talk, life, filter }.take(text, &message, now)
        });
        for _ in too_long..self.client.lines().too_long_count() {
            self.talk.misunderstood(Drop::TooLong);
        }
        match read {
            Read::Nothing => {}
            Read::Bytes => self.moved_at = now,
            Read::Ended | Read::HungUp => {
                self.closing.get_or_insert(Closing::Client);
            }
        }
    }

    /// The client reads no more: the servers hear it as a broken pipe, and have to end.
    pub(super) fn client_deaf(&mut self, now: Instant) {
        self.client.close();
        self.closing.get_or_insert(Closing::Client);
        for backend in self.backends.iter_mut().filter(|backend| backend.alive()) {
            backend.stdout.close();
            backend.stdin.close();
            backend.shutdown.client_left(now);
        }
    }
}

/// Where the client's messages are sorted.
struct Desk<'a> {
    talk: &'a mut Talk,
    life: &'a mut Life,
    filter: &'a Filter,
}

impl Desk<'_> {
    fn take(&mut self, line: &str, message: &Message<'_>, now: Instant) -> Result<(), Drop> {
        match self.filter.route(message) {
            Route::Call(call) => self.pass(line, message, call.lane, now),
            Route::Lane(lane) => self.pass(line, message, lane, now),
            Route::Discovery | Route::List(_) | Route::Tasks | Route::Every => {
                self.pass(line, message, 0, now)
            }
            Route::Task(raw) => self.task(line, message, raw, now),
            Route::Ping | Route::Cancel(_) | Route::Progress(_) | Route::Answer(_) => {
                self.talk.client_line(line, message, 0, self.life.otherwise(0))
            }
            Route::Refused(answer) => {
                self.talk.to_client.push(answer.as_bytes());
                Ok(())
            }
            Route::Nowhere(why) => Err(why),
        }
    }

    fn pass(&mut self, line: &str, message: &Message<'_>, lane: usize, now: Instant) -> Result<(), Drop> {
        if matches!(message.kind, Kind::Request(_)) {
            self.life.asked(lane, now);
        }
        self.talk.client_line(line, message, lane, self.life.otherwise(lane))
    }

    fn task(&mut self, line: &str, message: &Message<'_>, task: &str, now: Instant) -> Result<(), Drop> {
        match (self.talk.lane_of_task(task), message.kind) {
            (Some(lane), _) => {
                self.life.used(lane, now);
                self.talk.client_line(line, message, lane, self.life.otherwise(lane))
            }
            (None, Kind::Request(id)) => {
                self.talk.to_client.push(refusal::unknown_task(id).as_bytes());
                Ok(())
            }
            (None, _) => Err(Drop::Undelivered),
        }
    }
}
