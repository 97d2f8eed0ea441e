//! What the client says, and where that goes: to the instance that it is for, or back as an answer of ours.

use std::time::Instant;

use super::wait::Ready;
use super::{Closing, Relay};
use crate::proxy::calls::{self, Acts, Calls, Reach};
use crate::proxy::filter::{self, Filter, Route, refusal};
use crate::proxy::life::Life;
use crate::proxy::message::{Kind, Message, Method};
use crate::proxy::rule::{self, Drop};
use crate::proxy::source::Read;
use crate::proxy::talk::id::Id;
use crate::proxy::talk::pages::Where;
use crate::proxy::talk::{self, Talk, memory};

impl Relay {
    /// Whether the client may be read on.
    pub(super) fn client_wanted(&self) -> bool {
        self.filter.is_some() && self.calls.has_room() && self.talk.has_room(self.life.is_first())
    }

    /// The client's three streams.
    pub(super) fn move_client(&mut self, ready: &Ready, now: Instant) {
        let [input, output, error] = ready.client;
        // Where a call went is known before the client can take it back.
        self.report_calls(now);
        let wrote = self.out.ready(output, &mut self.talk.to_client);
        self.note_write(wrote, now);
        self.err.ready(error, &mut self.words);
        let wanted = self.client_wanted();
        let too_long = self.client.lines().too_long_count();
        let (mut acts, mut greets, mut lists) = (Acts::default(), false, false);
        let Self { client, talk, life, calls, filter, shown, .. } = self;
        let read = client.ready(input, wanted, |line| {
            let Some(filter) = filter else { return Err(Drop::Undelivered) };
            let taken = rule::from_client(line).and_then(|(text, message)| {
                lists |= message.method == Method::Tools;
                let greets = &mut greets;
                let mut desk = Desk { talk, life, calls, filter, shown, greets, acts: &mut acts };
                desk.take(text, &message, now)
            });
            taken.inspect_err(|why| {
                let answer = rule::answer(line, *why);
                answer.into_iter().for_each(|answer| talk.to_client.push(answer.as_bytes()));
            })
        });
        if lists {
            self.note_list();
        }
        if greets {
            self.list_again();
        }
        self.act(acts, now);
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
    calls: &'a mut Calls,
    filter: &'a Filter,
    shown: &'a mut Option<filter::Client>,
    /// The client has sent an instance its handshake.
    greets: &'a mut bool,
    /// What has to be done when all that was read is sorted.
    acts: &'a mut Acts,
}

impl Desk<'_> {
    fn take(&mut self, line: &str, message: &Message<'_>, now: Instant) -> Result<(), Drop> {
        if let Kind::Request(raw) = message.kind
            && raw.starts_with('"')
            && Id::of(raw).is_own()
        {
            self.talk.to_client.push(refusal::id_in_use(raw).as_bytes());
            return Ok(());
        }
        if memory::is_too_long(line, message.method) {
            let Kind::Request(raw) = message.kind else { return Err(Drop::NotKept) };
            let what = "the message is longer than the 256 KiB that are kept for the server's next start";
            self.talk.to_client.push(refusal::invalid_params(raw, what).as_bytes());
            return Ok(());
        }
        match self.filter.route(message) {
            Route::Call(call) => {
                self.call(line, message, call.lane, now);
                Ok(())
            }
            Route::Lane(lane) => self.pass(line, message, lane, now),
            Route::Discovery | Route::List(_) => {
                self.look(message);
                if self.recorded(line, message) {
                    return Ok(());
                }
                if message.method == Method::Initialize {
                    *self.greets = true;
                }
                self.pass(line, message, 0, now)
            }
            Route::Every => self.pass(line, message, 0, now),
            Route::Tasks => self.tasks(line, message, now),
            Route::Task(raw) => self.task(line, message, raw, now),
            Route::Cancel(raw) => self.cancel(line, message, raw, now),
            Route::Answer(id) if calls::is_confirmation(id) => {
                self.acts.add(self.calls.confirmed(id, line, now));
                Ok(())
            }
            Route::Ping | Route::Progress(_) | Route::Answer(_) => {
                self.talk.client_line(line, message, 0, self.life.otherwise(0))
            }
            Route::Refused(answer) => {
                self.talk.to_client.push(answer.as_bytes());
                Ok(())
            }
            Route::Nowhere(why) => Err(why),
        }
    }

    /// What the client shows of itself: with its handshake, or with any request of the stateless era.
    fn look(&mut self, message: &Message<'_>) {
        if let Some(client) = filter::Client::of(message) {
            *self.shown = Some(client);
        }
    }

    /// Answers from the record what can be answered from it. A handshake that an instance has to make itself is not;
    /// nor is any discovery of a launch whose server starts at once (`start = "eager"`): what the running server says
    /// of itself counts there, and one that was told of a handshake it did not make would have to agree with it later.
    /// Its lists are answered from the record all the same.
    fn recorded(&mut self, line: &str, message: &Message<'_>) -> bool {
        let opens = message.method == Method::Initialize;
        let discovers = opens || message.method == Method::Discover;
        if (discovers && !self.filter.plan().lazy) || (opens && self.talk.has_seats()) {
            return false;
        }
        let Some(answer) = self.filter.recorded(message, self.shown.as_ref()) else {
            return message.method == Method::Discover && self.knows_no_discovery(message);
        };
        if let (true, Kind::Request(id)) = (opens, message.kind) {
            self.talk.greeted_without(line, id, &answer);
        }
        self.talk.was_answered();
        self.talk.to_client.push(answer.as_bytes());
        true
    }

    /// A server whose record has nothing but handshakes answers discovery with an error, upon which the client makes
    /// one: nothing has to be started to learn that.
    fn knows_no_discovery(&mut self, message: &Message<'_>) -> bool {
        let (Some(record), Kind::Request(id)) = (&self.filter.plan().record, message.kind) else {
            return false;
        };
        let handshakes =
            record.variants.iter().all(|variant| variant.revision.as_str() < filter::client::STATELESS);
        if handshakes && !record.variants.is_empty() {
            self.talk.to_client.push(refusal::no_discovery(id).as_bytes());
        }
        handshakes && !record.variants.is_empty()
    }

    /// A call is asked about. Where nothing can run it is answered with the reason for that, which says more.
    fn call(&mut self, line: &str, message: &Message<'_>, lane: usize, now: Instant) {
        let modern = message.params.version.is_some();
        if modern && self.shown.is_none() {
            self.look(message);
        }
        match (self.life.refuses(lane, now), message.kind) {
            (Some(notice), Kind::Request(id)) => self.talk.refuse(notice, talk::question(message, id)),
            _ => {
                let Some(scope) = self.filter.plan().scopes.get(lane) else { return };
                let reach = if modern { Reach::default() } else { self.talk.reach() };
                self.acts.add(self.calls.ask(line, message, (lane, scope), reach, now));
            }
        }
    }

    fn cancel(&mut self, line: &str, message: &Message<'_>, raw: &str, now: Instant) -> Result<(), Drop> {
        let (waited, acts) = self.calls.cancelled(&Id::of(raw), now);
        self.acts.add(acts);
        if waited { Ok(()) } else { self.talk.client_line(line, message, 0, self.life.otherwise(0)) }
    }

    fn pass(&mut self, line: &str, message: &Message<'_>, lane: usize, now: Instant) -> Result<(), Drop> {
        if matches!(message.kind, Kind::Request(_)) {
            self.life.asked(lane, now);
        }
        self.talk.client_line(line, message, lane, self.life.otherwise(lane))
    }

    /// A page of the tasks of all instances.
    fn tasks(&mut self, line: &str, message: &Message<'_>, now: Instant) -> Result<(), Drop> {
        let Kind::Request(raw) = message.kind else { return Err(Drop::Ambiguous) };
        let lane = match self.talk.page_of_tasks(message) {
            Where::First => return self.pass(line, message, 0, now),
            Where::At(number) => self.talk.lane_of(number).unwrap_or_default(),
            Where::Nowhere => {
                self.talk.to_client.push(refusal::unknown_cursor(raw).as_bytes());
                return Ok(());
            }
        };
        self.life.used(lane, now);
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
