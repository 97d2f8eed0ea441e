//! The conversation as a whole, above the instances that come and go below it: who was asked what, what has
//! to be said again, and what is answered where nobody is there. Pure: lines in, lines into outboxes.

use std::collections::BTreeSet;

use mcp_broker_proto::call::CallOutcome;

use super::calls::Reach;
use super::message::{Message, Method};
use super::outbox::Outbox;
use super::rule::Drop;
use asked::Questions;
use held::Held;
use id::Id;
use lost::Doubts;
use memory::Memory;
use notice::{Executed, Notice, Question};
use tasks::Tasks;

pub mod asked;
mod clients;
pub mod clue;
pub mod held;
pub mod id;
pub mod lost;
pub mod memory;
pub mod notice;
pub mod pages;
pub mod seats;
pub mod servers;
pub mod tasks;

/// An instance that has left so many bytes unread gets nothing further, whatever it is: one that does not read must
/// not keep the others from being served. Only for the one that the first scope's requests go to the client is left
/// unread instead. An inbox holds bytes and nothing else, so that their number bounds that of the lines as well.
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
    /// It ended without an answer of a server that could pass, with the length of one that could not, in bytes.
    Ended(Id, CallOutcome, u64),
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
    /// What instances list was approved, and does not change with them.
    pinned: bool,
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
    /// Its requests that may have been answered by what was dropped.
    doubts: Doubts,
}

impl Seat {
    /// Whether it does not read what it was sent.
    fn stuffed(&self) -> bool {
        self.inbox.waiting().len() > MAX_UNREAD
    }
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
            pinned: false,
            renamed: 0,
            levels: 0,
        }
    }
}

impl Talk {
    /// Answers a line of the client that is no message: nobody knows what its id was.
    pub fn misunderstood(&mut self, why: Drop) {
        if let Some((code, words)) = why.error() {
            let error = serde_json::json!({ "code": code, "message": words });
            let line = format!(r#"{{"jsonrpc":"2.0","id":null,"error":{error}}}"#);
            self.to_client.push(line.as_bytes());
        }
    }

    /// Answers a request that reaches no instance, with the reason why.
    pub fn refuse(&mut self, notice: &Notice, question: Question<'_>) {
        if question.call.is_some() {
            self.news.push(News::Ended(Id::of(question.id), CallOutcome::NotSent, 0));
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

    fn push(&mut self, number: u32, line: &str) -> Result<(), Drop> {
        self.push_parts(number, &[line, "", ""])
    }

    fn push_parts(&mut self, number: u32, parts: &[&str; 3]) -> Result<(), Drop> {
        let first = self.current(0) == Some(number);
        let seat = self.seat(number).ok_or(Drop::Undelivered)?;
        if !first && seat.stuffed() {
            return Err(Drop::NotKept);
        }
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
