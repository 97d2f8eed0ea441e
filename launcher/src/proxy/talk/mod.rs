//! The conversation as a whole, above the instances that come and go below it: who was asked what, what has
//! to be said again, and what is answered where nobody is there. Pure: lines in, lines into outboxes.

use std::collections::BTreeSet;

use mcp_broker_proto::call::CallOutcome;

use super::calls::Reach;
use super::message::{Kind, Message, Method};
use super::outbox::Outbox;
use super::rule::Drop;
use asked::{Asked, Questions, What};
use held::Held;
use id::Id;
use memory::Memory;
use notice::{Executed, Notice, Question};
use tasks::Tasks;

pub mod asked;
pub mod held;
pub mod id;
pub mod memory;
pub mod notice;
pub mod seats;
pub mod servers;
pub mod tasks;

/// An instance of another scope than the first that has left so many bytes unread gets no further requests: one
/// that does not read must not keep the others from being served.
const MAX_UNREAD: usize = 4 << 20;

/// What happens to a line of the client while no instance can take it.
#[derive(Debug, Clone, Copy)]
pub enum Otherwise<'a> {
    /// The first instance is coming up: everything waits.
    First,
    /// An instance is coming up: what it has to do waits.
    Hold,
    /// None will be there: requests are answered with this.
    Refuse(&'a Notice),
}

/// What came of a line of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// It was passed on, or was ours to take.
    Taken,
    /// It answers one of the client's requests.
    Answer,
    /// The instance has answered the client's handshake as the one before it.
    Agreed,
    /// The instance has answered it otherwise.
    Differs,
    /// It answers a list request of our own.
    Listed,
    /// It says that its tools are others now; that was passed on.
    ToolsChanged,
}

/// What became of a call beside its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It went to this instance.
    Sent(Id, u32),
    /// It ended without an answer of a server.
    Ended(Id, CallOutcome),
}

/// The conversation.
pub struct Talk {
    /// What the client is going to read.
    pub to_client: Outbox,
    /// What became of calls, for whoever keeps account of them.
    pub news: Vec<News>,
    seats: Vec<Seat>,
    /// The scopes of the launch; never none.
    lanes: Vec<Lane>,
    of_client: Questions,
    of_servers: Questions,
    memory: Memory,
    tasks: Tasks,
    /// Whether the client got a good answer from a server.
    answered: bool,
    /// Requests of servers whose id was taken, so far.
    renamed: u64,
    /// Times that a log level was handed on, so far.
    levels: u64,
}

/// One scope as the conversation knows it.
#[derive(Default)]
struct Lane {
    /// Who gets the client's requests.
    current: Option<u32>,
    /// What waits for an instance.
    held: Held,
    /// Whether an instance of it ever worked.
    ran: bool,
    /// Calls wait: what the instance shows is not known yet.
    sealed: bool,
}

/// An instance as the conversation knows it.
struct Seat {
    number: u32,
    lane: usize,
    inbox: Outbox,
    /// The id of the client's `initialize`, while its answer is waited for.
    greeted: Option<Id>,
    /// Whether it only takes the place of another one, which the client is not to notice.
    quiet: bool,
    /// No new request goes there, and it ends no subscription any more.
    leaving: bool,
    swallow: BTreeSet<Id>,
    acknowledgements: BTreeSet<Id>,
    /// It knows what it has to know, and hears what everybody hears.
    prepared: bool,
}

impl Default for Talk {
    fn default() -> Self {
        Self {
            to_client: Outbox::default(),
            news: Vec::new(),
            seats: Vec::new(),
            lanes: vec![Lane::default()],
            of_client: Questions::default(),
            of_servers: Questions::default(),
            memory: Memory::default(),
            tasks: Tasks::default(),
            answered: false,
            renamed: 0,
            levels: 0,
        }
    }
}

impl Talk {
    /// Takes a line of the client that belongs to a scope.
    ///
    /// # Errors
    /// Where nobody is there for a line that cannot be answered.
    pub fn client_line(
        &mut self,
        line: &str,
        message: &Message<'_>,
        lane: usize,
        otherwise: Otherwise<'_>,
    ) -> Result<(), Drop> {
        match (message.kind, message.method) {
            (Kind::Request(id), _) => self.request(line, message, id, lane, otherwise),
            (Kind::Response(id), _) => self.response(line, id),
            (Kind::Notification, Method::Cancelled) => self.cancel(line, message, otherwise),
            (Kind::Notification, Method::Progress) => self.progress(line, message, otherwise),
            (Kind::Notification, Method::Initialized) => {
                self.share(line);
                // What is remembered is replayed to the next instance, and is not kept for it as well.
                let remembered = self.memory.initialized(line);
                if self.current(0).is_none() && remembered { Ok(()) } else { self.tell(line, otherwise) }
            }
            (Kind::Notification, Method::RootsChanged) => {
                self.share(line);
                // Whoever comes later asks for the roots as they are then.
                let held = self.current(0).is_some() || matches!(otherwise, Otherwise::First);
                if held { self.tell(line, otherwise) } else { Ok(()) }
            }
            (Kind::Notification | Kind::Other, _) => self.tell(line, otherwise),
        }
    }

    /// Tells every instance but the one that the first scope's requests go to. One that is only coming up hears it
    /// after the handshake that is replayed to it.
    fn share(&mut self, line: &str) {
        self.others().for_each(|seat| seat.inbox.push(line.as_bytes()));
    }

    fn others(&mut self) -> impl Iterator<Item = &mut Seat> {
        let first = self.current(0);
        let others = self.seats.iter_mut().filter(|seat| seat.prepared && !seat.leaving);
        others.filter(move |seat| Some(seat.number) != first)
    }

    fn progress(&mut self, line: &str, message: &Message<'_>, otherwise: Otherwise<'_>) -> Result<(), Drop> {
        let Some(raw) = message.params.token else { return self.tell(line, otherwise) };
        let Some((who, original)) = self.of_servers.told_under(&Id::of(raw)) else {
            return self.tell(line, otherwise);
        };
        let (number, original) = (who.ok_or(Drop::Undelivered)?, original.map(|id| id.raw().into_owned()));
        match original {
            None => self.push(number, line),
            Some(name) => self.push_parts(number, &spliced(line, raw, &name)),
        }
    }

    /// Answers a line of the client that is no message: nobody knows what its id was.
    pub fn misunderstood(&mut self, why: Drop) {
        if let Some((code, words)) = why.error() {
            let error = serde_json::json!({ "code": code, "message": words });
            let line = format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#);
            self.to_client.push(line.as_bytes());
        }
    }

    fn request(
        &mut self,
        line: &str,
        message: &Message<'_>,
        raw: &str,
        lane: usize,
        otherwise: Otherwise<'_>,
    ) -> Result<(), Drop> {
        let question = question(message, raw);
        // A task is known to the instance that runs it, and to no other.
        let runs = message.params.task.and_then(|raw| self.tasks.instance(&Id::of(raw)));
        let call = message.method == Method::Call;
        let sealed = call && self.lanes.get(lane).is_some_and(|lane| lane.sealed);
        let current = self.current(lane).filter(|_| !sealed);
        let Some(number) = runs.or(current) else {
            self.wait(line, message, lane, otherwise, question);
            return Ok(());
        };
        let subscribes = matches!(message.method, Method::Subscribe | Method::Listen);
        let stuffed =
            lane > 0 && self.seat(number).is_some_and(|seat| seat.inbox.waiting().len() > MAX_UNREAD);
        if stuffed || !self.of_client.has_room() || (subscribes && !self.memory.has_room()) {
            self.refuse(&too_many(), question);
            return Ok(());
        }
        let id = Id::of(raw);
        match message.method {
            Method::Initialize => self.memory.open(id.clone(), line, false),
            Method::Listen => {
                // Resources are of one scope; lists are of all.
                let shared = lane == 0 && !line.contains("resourceSubscriptions");
                self.memory.listen(id.clone(), line, (!shared).then_some(lane));
                if shared {
                    self.listen_too(&id, line);
                }
            }
            Method::Call => self.news.push(News::Sent(id.clone(), number)),
            _ => {}
        }
        let what = What::of(line, message);
        self.of_client.insert(id, Asked::new(number, what, message.params.version.is_some()));
        match self.tasks.to_server(number, line) {
            Some(respelled) => self.push(number, &respelled),
            None => self.push(number, line),
        }
    }

    /// What becomes of a request that no instance can take now.
    fn wait(
        &mut self,
        line: &str,
        message: &Message<'_>,
        lane: usize,
        otherwise: Otherwise<'_>,
        question: Question<'_>,
    ) {
        let Some(held) = self.lanes.get_mut(lane).map(|lane| &mut lane.held) else {
            return self.refuse(&too_many(), question);
        };
        let kept = match otherwise {
            Otherwise::First => held.keep(line, false),
            _ if message.method == Method::Ping => return self.pong(question.id),
            Otherwise::Hold => held.keep(line, true),
            Otherwise::Refuse(notice) => return self.refuse(notice, question),
        };
        if !kept {
            return self.refuse(&too_many(), question);
        }
        if message.method == Method::Initialize {
            // Another scope's instance may be up before it has reached its own.
            self.memory.open(Id::of(question.id), line, true);
        }
    }

    /// The other scopes' instances hear a listen request as well: what the client listens for may be theirs. That
    /// it began, and that it ended, is the first one's word.
    fn listen_too(&mut self, id: &Id, line: &str) {
        for seat in self.others() {
            seat.acknowledgements.insert(id.clone());
            seat.inbox.push(line.as_bytes());
        }
    }

    /// Answers a request that reaches no instance, with the reason why.
    pub fn refuse(&mut self, notice: &Notice, question: Question<'_>) {
        if question.call.is_some() {
            self.news.push(News::Ended(Id::of(question.id), CallOutcome::NotSent));
        }
        self.to_client.push(notice.answer(question, Executed::No).as_bytes());
    }

    /// How the client can be reached beside its requests.
    #[must_use]
    pub fn reach(&self) -> Reach {
        self.memory.reach()
    }

    fn pong(&mut self, raw: &str) {
        let parts = [r#"{"jsonrpc":"2.0","id":"#, raw, r#","result":{}}"#].map(str::as_bytes);
        self.to_client.push_parts(&parts);
    }

    /// An answer of the client goes to who asked, and to nobody else.
    fn response(&mut self, line: &str, raw: &str) -> Result<(), Drop> {
        let Some(asked) = self.of_servers.remove(&Id::of(raw)) else {
            // With several servers nobody knows whose answer that would be.
            let known = self.of_servers.forgetful() || self.lanes.len() > 1;
            return self
                .current(0)
                .filter(|_| !known)
                .map_or(Err(Drop::Undelivered), |number| self.push(number, line));
        };
        let number = asked.instance.ok_or(Drop::Undelivered)?;
        match asked.what {
            What::Renamed(original) => self.push_parts(number, &spliced(line, raw, &original.raw())),
            _ => self.push(number, line),
        }
    }

    fn cancel(&mut self, line: &str, message: &Message<'_>, otherwise: Otherwise<'_>) -> Result<(), Drop> {
        let id = message.params.request_id.map(Id::of);
        let Some(id) = id else { return self.tell(line, otherwise) };
        if self.lanes.iter_mut().any(|lane| lane.held.cancel(&id)) {
            return Ok(());
        }
        let Some(asked) = self.of_client.remove(&id) else { return self.tell(line, otherwise) };
        if asked.what == What::Listen {
            if self.memory.unlisten(&id) {
                self.share(line);
            }
        }
        // A listen request that no instance has is over with that.
        asked.instance.map_or(Ok(()), |number| self.push(number, line))
    }

    fn tell(&mut self, line: &str, otherwise: Otherwise<'_>) -> Result<(), Drop> {
        match (self.current(0), otherwise) {
            (Some(number), _) => self.push(number, line),
            (None, Otherwise::First | Otherwise::Hold) => {
                let bounded = matches!(otherwise, Otherwise::Hold);
                let kept = self.lanes.first_mut().is_some_and(|lane| lane.held.keep(line, bounded));
                if kept { Ok(()) } else { Err(Drop::Undelivered) }
            }
            (None, Otherwise::Refuse(_)) => Err(Drop::Undelivered),
        }
    }

    fn push(&mut self, number: u32, line: &str) -> Result<(), Drop> {
        self.seat(number).map(|seat| seat.inbox.push(line.as_bytes())).ok_or(Drop::Undelivered)
    }

    fn push_parts(&mut self, number: u32, parts: &[&str; 3]) -> Result<(), Drop> {
        let seat = self.seat(number).ok_or(Drop::Undelivered)?;
        seat.inbox.push_parts(&parts.map(str::as_bytes));
        Ok(())
    }

    fn seat(&mut self, number: u32) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.number == number)
    }
}

/// What is known of a request that is answered at once.
#[must_use]
pub fn question<'a>(message: &Message<'a>, id: &'a str) -> Question<'a> {
    let call = (message.method == Method::Call).then(|| message.params.name.unwrap_or_default());
    Question { id, call, modern: message.params.version.is_some() }
}

fn too_many() -> Notice {
    let hint = "wait for answers before you send more";
    Notice::new(notice::Kind::Restarting, "more is asked than can be kept", hint)
}

/// A line with a part of it replaced. The part must be a slice of the line.
fn spliced<'a>(line: &'a str, part: &str, with: &'a str) -> [&'a str; 3] {
    let at = (part.as_ptr() as usize).wrapping_sub(line.as_ptr() as usize);
    match (line.get(..at), line.get(at.wrapping_add(part.len())..)) {
        (Some(before), Some(after)) => [before, with, after],
        _ => [line, "", ""],
    }
}

/// A line with several parts of it replaced. The parts must be slices of the line that do not overlap.
fn respelled(line: &str, changes: &mut [(&str, &str)]) -> String {
    let place = |part: &str| (part.as_ptr() as usize).wrapping_sub(line.as_ptr() as usize);
    changes.sort_by_key(|(part, _)| place(part));
    let (mut out, mut from) = (String::with_capacity(line.len() + 64), 0);
    for (part, with) in changes {
        if let Some(before) = line.get(from..place(part)) {
            out.push_str(before);
            out.push_str(with);
            from = place(part) + part.len();
        }
    }
    out.push_str(line.get(from..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests;
