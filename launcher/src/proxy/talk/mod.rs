//! The conversation as a whole, above the instances that come and go below it: who was asked what, what has
//! to be said again, and what is answered where nobody is there. Pure: lines in, lines into outboxes.

use std::collections::BTreeSet;

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
}

/// The conversation.
#[derive(Default)]
pub struct Talk {
    /// What the client is going to read.
    pub to_client: Outbox,
    seats: Vec<Seat>,
    /// Who gets the client's requests.
    current: Option<u32>,
    of_client: Questions,
    of_servers: Questions,
    memory: Memory,
    tasks: Tasks,
    held: Held,
    /// Whether the client got a good answer from a server.
    answered: bool,
    /// Requests of servers whose id was taken, so far.
    renamed: u64,
}

/// An instance as the conversation knows it.
struct Seat {
    number: u32,
    inbox: Outbox,
    /// The id of the client's `initialize`, while its answer is waited for.
    greeted: Option<Id>,
    /// Whether it only takes the place of another one, which the client is not to notice.
    quiet: bool,
    /// No new request goes there, and it ends no subscription any more.
    leaving: bool,
    swallow: BTreeSet<Id>,
    acknowledgements: BTreeSet<Id>,
}

impl Talk {
    /// Takes a line of the client.
    ///
    /// # Errors
    /// Where nobody is there for a line that cannot be answered.
    pub fn client_line(
        &mut self,
        line: &str,
        message: &Message<'_>,
        otherwise: Otherwise<'_>,
    ) -> Result<(), Drop> {
        match message.kind {
            Kind::Request(id) => self.request(line, message, id, otherwise),
            Kind::Response(id) => self.response(line, id),
            Kind::Notification if message.method == Method::Cancelled => {
                self.cancel(line, message, otherwise)
            }
            Kind::Notification if message.method == Method::Progress => {
                let asked = message.params.token.and_then(|raw| self.of_servers.told_under(&Id::of(raw)));
                match asked {
                    Some(who) => who.map_or(Err(Drop::Undelivered), |number| self.push(number, line)),
                    None => self.tell(line, otherwise),
                }
            }
            Kind::Notification if message.method == Method::Initialized => {
                // What is remembered is replayed to the next instance, and is not kept for it as well.
                let remembered = self.memory.initialized(line);
                if self.current.is_none() && remembered { Ok(()) } else { self.tell(line, otherwise) }
            }
            Kind::Notification | Kind::Other => self.tell(line, otherwise),
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
        otherwise: Otherwise<'_>,
    ) -> Result<(), Drop> {
        let question = question(message, raw);
        // A task is known to the instance that runs it, and to no other.
        let runs = message.params.task.and_then(|raw| self.tasks.instance(&Id::of(raw)));
        let Some(number) = runs.or(self.current) else {
            match otherwise {
                Otherwise::First => drop(self.held.keep(line, false)),
                _ if message.method == Method::Ping => self.pong(raw),
                Otherwise::Hold if self.held.keep(line, true) => {}
                Otherwise::Hold => self.answer(&too_many(), question),
                Otherwise::Refuse(notice) => self.answer(notice, question),
            }
            return Ok(());
        };
        let subscribes = matches!(message.method, Method::Subscribe | Method::Listen);
        if !self.of_client.has_room() || (subscribes && !self.memory.has_room()) {
            self.answer(&too_many(), question);
            return Ok(());
        }
        let id = Id::of(raw);
        match message.method {
            Method::Initialize => self.memory.open(id.clone(), line),
            Method::Listen => self.memory.listen(id.clone(), line),
            _ => {}
        }
        let what = What::of(line, message);
        self.of_client.insert(id, Asked::new(number, what, message.params.version.is_some()));
        self.push(number, line)
    }

    fn answer(&mut self, notice: &Notice, question: Question<'_>) {
        self.to_client.push(notice.answer(question, Executed::No).as_bytes());
    }

    fn pong(&mut self, raw: &str) {
        let parts = [r#"{"jsonrpc":"2.0","id":"#, raw, r#","result":{}}"#].map(str::as_bytes);
        self.to_client.push_parts(&parts);
    }

    /// An answer of the client goes to who asked, and to nobody else.
    fn response(&mut self, line: &str, raw: &str) -> Result<(), Drop> {
        let Some(asked) = self.of_servers.remove(&Id::of(raw)) else {
            let forgotten = self.of_servers.forgetful();
            return self
                .current
                .filter(|_| !forgotten)
                .map_or(Err(Drop::Undelivered), |n| self.push(n, line));
        };
        let number = asked.instance.ok_or(Drop::Undelivered)?;
        match asked.what {
            What::Renamed(original) => {
                let seat = self.seat(number).ok_or(Drop::Undelivered)?;
                seat.inbox.push_parts(&spliced(line, raw, &original.raw()).map(str::as_bytes));
            }
            _ => self.push(number, line)?,
        }
        Ok(())
    }

    fn cancel(&mut self, line: &str, message: &Message<'_>, otherwise: Otherwise<'_>) -> Result<(), Drop> {
        let id = message.params.request_id.map(Id::of);
        let Some(id) = id else { return self.tell(line, otherwise) };
        if self.held.cancel(&id) {
            return Ok(());
        }
        let Some(asked) = self.of_client.remove(&id) else { return self.tell(line, otherwise) };
        self.memory.unlisten(&id);
        // A listen request that no instance has is over with that.
        asked.instance.map_or(Ok(()), |number| self.push(number, line))
    }

    fn tell(&mut self, line: &str, otherwise: Otherwise<'_>) -> Result<(), Drop> {
        match (self.current, otherwise) {
            (Some(number), _) => self.push(number, line),
            (None, Otherwise::First | Otherwise::Hold) => {
                let bounded = matches!(otherwise, Otherwise::Hold);
                if self.held.keep(line, bounded) { Ok(()) } else { Err(Drop::Undelivered) }
            }
            (None, Otherwise::Refuse(_)) => Err(Drop::Undelivered),
        }
    }

    fn push(&mut self, number: u32, line: &str) -> Result<(), Drop> {
        self.seat(number).map(|seat| seat.inbox.push(line.as_bytes())).ok_or(Drop::Undelivered)
    }

    fn seat(&mut self, number: u32) -> Option<&mut Seat> {
        self.seats.iter_mut().find(|seat| seat.number == number)
    }
}

/// What is known of a request that is answered at once.
fn question<'a>(message: &Message<'a>, id: &'a str) -> Question<'a> {
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

#[cfg(test)]
mod tests;
