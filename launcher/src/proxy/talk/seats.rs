//! How instances come and go below a conversation: the greeting and what follows it, the end with its answers.

use std::collections::BTreeSet;

use mcp_broker_proto::call::CallOutcome;

use super::id::Id;
use super::lost::Doubts;
use super::memory::LISTS;
use super::notice::{Executed, Notice};
use super::{News, Otherwise, Seat, Talk};
use crate::proxy::message::{Kind, Message};
use crate::proxy::outbox::Outbox;
use crate::proxy::rule::Drop;

/// A client that has left so many bytes unread is not read itself: what it asks is partly answered by us.
const MAX_UNREAD: usize = 1 << 20;

impl Talk {
    /// An instance runs. Whether it is ready at once; else it has been greeted, and its answer decides. A quiet
    /// one takes the place of another, which the client is not to notice.
    pub fn join(&mut self, lane: usize, number: u32, quiet: bool) -> bool {
        let mut seat = Seat {
            number,
            lane,
            inbox: Outbox::default(),
            greeted: None,
            quiet,
            leaving: false,
            swallow: BTreeSet::new(),
            acknowledgements: BTreeSet::new(),
            prepared: false,
            doubts: Doubts::default(),
        };
        let greeting = self.memory.greeting(lane > 0);
        if let Some((line, id)) = greeting {
            seat.inbox.push(line.as_bytes());
            seat.greeted = Some(id);
        }
        let ready = seat.greeted.is_none();
        self.seats.push(seat);
        ready
    }

    /// Tells an instance that has answered the handshake, or needs none, what it has to know.
    pub fn prepare(&mut self, number: u32) {
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.number == number) else { return };
        if std::mem::replace(&mut seat.prepared, true) {
            return;
        }
        let replay = self.memory.replay(seat.lane, &mut seat.inbox);
        (seat.swallow, seat.acknowledgements) = (replay.answers, replay.acknowledgements);
        replay.listens.iter().for_each(|id| self.of_client.move_to(id, number));
    }

    /// Hands the conversation to an instance that is ready: what it has to know, then what was held. Lines that
    /// reached nobody after all are counted.
    pub fn settle(&mut self, number: u32) -> u64 {
        self.prepare(number);
        let Some(seat) = self.seats.iter().find(|seat| seat.number == number) else { return 0 };
        let lane = seat.lane;
        let Some(place) = self.lanes.get_mut(lane) else { return 0 };
        let again = std::mem::replace(&mut place.ran, true) && !self.pinned;
        if lane == 0 && again && !seat.quiet {
            self.memory.tell_changes(&LISTS, &mut self.to_client);
        }
        place.current = Some(number);
        self.let_go(lane, None)
    }

    /// No new request goes to this instance.
    pub fn leave(&mut self, number: u32) {
        if let Some(seat) = self.seat(number) {
            seat.leaving = true;
        }
        if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.current == Some(number)) {
            lane.current = None;
        }
    }

    /// An instance is gone, and has said everything: its open requests are answered with the notice, and the
    /// client's work for it is called off. Lines of the client that it never got are counted.
    pub fn gone(&mut self, number: u32, notice: Option<&Notice>) -> u64 {
        self.leave(number);
        let Some(at) = self.seats.iter().position(|seat| seat.number == number) else { return 0 };
        let (unread, lost) = unread(self.seats.remove(at).inbox.waiting());
        self.tasks.gone(number);
        let (asked, asking) = (self.of_client.end_at(number), self.of_servers.end_of(number));
        let Some(notice) = notice else { return lost };
        for (id, asked) in asked {
            let how = match unread.contains(&id) {
                true => (Executed::No, CallOutcome::NotSent),
                false => (Executed::Unknown, CallOutcome::Unknown),
            };
            self.unanswered(&id, &asked, notice, (how.0, how.1, 0));
        }
        for id in asking {
            let method = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"#;
            let parts = [method, &id.raw(), r#","reason":"the server that asked is gone"}}"#];
            self.to_client.push_parts(&parts.map(str::as_bytes));
        }
        lost
    }

    /// Answers what was held for a scope, as no instance will come for it. Lines without an answer are counted.
    pub fn refuse_held(&mut self, lane: usize, notice: &Notice) -> u64 {
        self.let_go(lane, Some(notice))
    }

    fn let_go(&mut self, lane: usize, notice: Option<&Notice>) -> u64 {
        let otherwise = notice.map_or(Otherwise::First, Otherwise::Refuse);
        let mut lost = 0;
        let count = self.lanes.get(lane).map_or(0, |lane| lane.held.len());
        for _ in 0..count {
            let Some(waiting) = self.lanes.get_mut(lane).and_then(|lane| lane.held.take()) else { break };
            let line = waiting.line;
            let taken = match Message::parse(&line) {
                Ok(message) if matches!(message.kind, Kind::Request(_)) => {
                    self.client_line(&line, &message, lane, otherwise)
                }
                // Whoever else is to hear of it has heard it when it came.
                Ok(_) => self.tell(&line, otherwise),
                Err(_) => Err(Drop::NotMessage),
            };
            lost += u64::from(taken.is_err());
        }
        lost
    }

    /// Calls of a scope wait until it is opened again: what its instance shows is not known.
    pub fn seal(&mut self, lane: usize) {
        self.lanes.get_mut(lane).into_iter().for_each(|lane| lane.sealed = true);
    }

    /// They go on, where an instance is there. Lines that reached nobody after all are counted.
    pub fn unseal(&mut self, lane: usize) -> u64 {
        let Some(place) = self.lanes.get_mut(lane) else { return 0 };
        let sealed = std::mem::take(&mut place.sealed);
        if sealed && place.current.is_some() { self.let_go(lane, None) } else { 0 }
    }

    /// Whether a call waits for what the instance shows.
    #[must_use]
    pub fn sealed_waits(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.sealed && !lane.held.is_empty())
    }

    /// Answers those lines that wait for a scope for which `refuse` has an answer.
    pub fn sieve(&mut self, lane: usize, refuse: impl Fn(&Message<'_>) -> Option<String>) {
        let Some(place) = self.lanes.get_mut(lane) else { return };
        for _ in 0..place.held.len() {
            let Some(waiting) = place.held.take() else { return };
            let message = Message::parse(&waiting.line).ok();
            let answer = message.as_ref().and_then(&refuse);
            if let (Some(answer), Some(Message { kind: Kind::Request(id), .. })) = (&answer, message) {
                self.news.push(News::Ended(Id::of(id), CallOutcome::NotSent, 0));
                self.to_client.push(answer.as_bytes());
            } else {
                place.held.put_back(waiting);
            }
        }
    }

    /// Whether the handshake was replayed to an instance when it came up.
    #[must_use]
    pub fn is_greeted(&self) -> bool {
        self.memory.greeting(false).is_some()
    }

    /// Whether any instance is there.
    #[must_use]
    pub fn has_seats(&self) -> bool {
        !self.seats.is_empty()
    }

    /// A handshake that was answered without any instance is remembered as one that a server answered.
    pub fn greeted_without(&mut self, line: &str, raw: &str, answer: &str) {
        let id = Id::of(raw);
        self.memory.open(id.clone(), line, false);
        self.memory.opened(&id, answer, false);
    }

    /// The client got an answer of a server, or one that stands for it.
    pub fn was_answered(&mut self) {
        self.answered = true;
    }

    /// Tells the client, where it listens for that, that the tools are others now.
    pub fn tell_tools_changed(&mut self) {
        self.memory.tell_changes(&["tools"], &mut self.to_client);
    }

    /// Whether an instance owes the client an answer, waits for one, or runs a task.
    #[must_use]
    pub fn busy(&self, number: u32) -> bool {
        self.of_client.busy(number) || self.of_servers.busy(number) || self.tasks.busy(number)
    }

    /// Whether a request of the client waits for an instance of a scope.
    #[must_use]
    pub fn holds(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| !lane.held.is_empty())
    }

    /// Whether what waits is more than notifications, for which nothing is started.
    #[must_use]
    pub fn holds_request(&self, lane: usize) -> bool {
        self.lanes.get(lane).is_some_and(|lane| lane.held.has_request())
    }

    /// Who gets the client's requests of a scope.
    #[must_use]
    pub fn current(&self, lane: usize) -> Option<u32> {
        self.lanes.get(lane)?.current
    }

    /// The scope of an instance.
    #[must_use]
    pub fn lane_of(&self, number: u32) -> Option<usize> {
        self.seats.iter().find(|seat| seat.number == number).map(|seat| seat.lane)
    }

    /// The scope of the instance that runs a task (raw JSON).
    #[must_use]
    pub fn lane_of_task(&self, raw: &str) -> Option<usize> {
        self.lane_of(self.tasks.instance(&Id::of(raw))?)
    }

    /// The launch has these scopes now: where each of them was before, if it was; and whether what they list was
    /// approved, so that another instance lists nothing else. What those that are gone held has
    /// to be refused before.
    pub fn plan(&mut self, before: &[Option<usize>], pinned: bool) {
        self.pinned = pinned;
        let mut old: Vec<_> = std::mem::take(&mut self.lanes).into_iter().map(Some).collect();
        let take = |place: &Option<usize>| place.and_then(|place| old.get_mut(place)?.take());
        self.lanes = before.iter().map(take).map(Option::unwrap_or_default).collect();
        for seat in &mut self.seats {
            let now = before.iter().position(|place| *place == Some(seat.lane));
            seat.lane = now.unwrap_or(usize::MAX);
        }
        self.memory.plan(before);
    }

    /// Whether the client ever got a good answer from a server.
    #[must_use]
    pub fn answered(&self) -> bool {
        self.answered
    }

    /// Whether the client may be read on.
    #[must_use]
    pub fn has_room(&self, first: bool) -> bool {
        let seat = self.seats.iter().find(|seat| Some(seat.number) == self.current(0));
        let comfortable = || self.lanes.first().is_none_or(|lane| lane.held.comfortable());
        match seat {
            Some(seat) => seat.inbox.has_room() && self.to_client.waiting().len() < MAX_UNREAD,
            None => self.to_client.has_room() && (!first || comfortable()),
        }
    }

    /// What an instance is going to read.
    #[must_use]
    pub fn inbox(&mut self, number: u32) -> Option<&mut Outbox> {
        self.seat(number).map(|seat| &mut seat.inbox)
    }

    /// The same, to look at.
    #[must_use]
    pub fn waiting_for(&self, number: u32) -> Option<&Outbox> {
        self.seats.iter().find(|seat| seat.number == number).map(|seat| &seat.inbox)
    }

    /// Every buffer, for its memory.
    pub fn outboxes(&mut self) -> impl Iterator<Item = &mut Outbox> {
        self.seats.iter_mut().map(|seat| &mut seat.inbox).chain([&mut self.to_client])
    }

    /// Whether an idle buffer holds memory.
    #[must_use]
    pub fn holds_memory(&self) -> bool {
        self.to_client.holds_memory() || self.seats.iter().any(|seat| seat.inbox.holds_memory())
    }
}

/// What an instance never got whole: requests by id, and how many lines that are none. A line that has gone in
/// part is no JSON any more, and counts as read.
fn unread(waiting: &[u8]) -> (BTreeSet<Id>, u64) {
    let mut requests = BTreeSet::new();
    let mut lost = 0;
    for line in waiting.split(|byte| *byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok()) {
        match Message::parse(line).map(|message| message.kind) {
            Ok(Kind::Request(id)) => drop(requests.insert(Id::of(id))),
            Ok(_) => lost += 1,
            Err(_) => {}
        }
    }
    (requests, lost)
}
