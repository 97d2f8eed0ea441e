//! What instances say, and where it goes: answers to who asked, requests under an id that is free at the client.

use std::time::Instant;

use mcp_broker_proto::channel::ToBroker;

use super::asked::{Asked, What};
use super::id::Id;
use super::notice::{self, Executed, Notice};
use super::{Heard, Seat, Talk, respelled, spliced};
use crate::proxy::calls::Calls;
use crate::proxy::filter::{self, Filter, Listed, Said};
use crate::proxy::message::{Message, Method};
use crate::proxy::rule::Drop;

/// How the raw ids of list requests of our own begin.
const OWN_LIST: &str = "\"mcp-run:list:";

/// The most requests of our own that an instance may leave unanswered.
const MAX_SWALLOWED: usize = 8192;

/// What decides on the lines of an instance, and who hears of them.
pub struct Ears<'a> {
    /// What may pass.
    pub filter: &'a Filter,
    /// The calls that are open.
    pub calls: &'a mut Calls,
    /// What the broker hears.
    pub to_broker: &'a mut Vec<ToBroker>,
    /// Secrets that were masked in the line.
    pub masked: u64,
    /// The time.
    pub now: Instant,
}

impl Talk {
    /// Takes a line of an instance.
    ///
    /// # Errors
    /// Where it answers what it was not asked, or is nothing that may pass.
    pub fn server_line(
        &mut self,
        number: u32,
        line: &str,
        message: &Message<'_>,
        ears: &mut Ears<'_>,
    ) -> Result<Heard, Drop> {
        match ears.filter.said(message) {
            Said::Answer(id) => self.server_answer(number, line, message, id, ears),
            Said::Asks(id) | Said::Ping(id) => self.server_request(number, line, message, id),
            Said::Tells => self.server_notice(number, line, message, ears.now),
            Said::Refused(answer) => {
                let inbox = &mut self.seat(number).ok_or(Drop::Undelivered)?.inbox;
                // One that floods and does not read is not told, as that would only fill the memory.
                let room = inbox.has_room();
                if room {
                    inbox.push(answer.as_bytes());
                }
                if room { Ok(Heard::Taken) } else { Err(Drop::Undelivered) }
            }
            Said::Nothing(why) => Err(why),
        }
    }

    fn server_notice(
        &mut self,
        number: u32,
        line: &str,
        message: &Message<'_>,
        now: Instant,
    ) -> Result<Heard, Drop> {
        let params = &message.params;
        let mut heard = Heard::Taken;
        match message.method {
            Method::Acknowledged => {
                let id = params.subscription.map(Id::of);
                let seat = self.seat(number).ok_or(Drop::Undelivered)?;
                if id.as_ref().is_some_and(|id| seat.acknowledgements.remove(id)) {
                    return Ok(Heard::Taken);
                }
                id.into_iter().for_each(|id| self.memory.acknowledged(&id));
            }
            Method::Cancelled => {
                if let Some(raw) = params.request_id {
                    return self.server_cancels(number, line, raw);
                }
            }
            // One instance tells nothing of what another one was asked. What nobody knows may be of a task.
            Method::Progress => {
                let token = params.token.map(Id::of);
                let other = |token| self.seats.len() > 1 && self.of_client.is_other_s(token, number);
                if token.as_ref().is_some_and(other) {
                    return Err(Drop::Undelivered);
                }
                token.iter().for_each(|token| self.is_worked_on(number, token, now));
            }
            Method::ToolsChanged => heard = Heard::ToolsChanged,
            _ => {}
        }
        self.say(number, line);
        Ok(heard)
    }

    fn server_answer(
        &mut self,
        number: u32,
        line: &str,
        message: &Message<'_>,
        raw: &str,
        ears: &mut Ears<'_>,
    ) -> Result<Heard, Drop> {
        let id = Id::of(raw);
        let seat = self.seat(number).ok_or(Drop::Undelivered)?;
        if seat.greeted.as_ref() == Some(&id) {
            seat.greeted = None;
            let other = seat.lane > 0;
            return Ok(if self.memory.agrees(line, other) { Heard::Agreed } else { Heard::Differs });
        }
        if seat.swallow.remove(&id) {
            return Ok(Heard::Taken);
        }
        let (leaving, lane) = (seat.leaving, seat.lane);
        let Some(asked) = self.of_client.get(&id) else {
            // What nobody waits for may be a list that was called off: it is not sorted, and does not pass.
            return if raw.starts_with(OWN_LIST) { Ok(Heard::Listed) } else { Err(Drop::Undelivered) };
        };
        let (theirs, cancelled) = (asked.instance == Some(number), asked.cancelled);
        if asked.what == What::Listen && (leaving || !theirs) {
            // It says goodbye because we end it; the subscription goes on.
            return Ok(Heard::Taken);
        }
        if theirs && cancelled {
            self.of_client.remove(&id);
        }
        if !theirs || cancelled {
            return Err(Drop::Undelivered);
        }
        if let Some(asked) = self.of_client.remove(&id) {
            self.answered |= !message.failed;
            self.pass_answer((number, lane), (line, raw, message), (&id, asked), ears);
            self.settle_doubts(number, ears.now);
        }
        Ok(Heard::Answer)
    }

    /// Passes the answer to a request of the client on: lists as far as they may be seen, results as far as they
    /// are not too long.
    fn pass_answer(
        &mut self,
        (number, lane): (u32, usize),
        (line, raw, message): (&str, &str, &Message<'_>),
        (id, asked): (&Id, Asked),
        ears: &mut Ears<'_>,
    ) {
        let listed = match &asked.what {
            What::List(list) => ears.filter.list(*list, line),
            What::Tasks => {
                let runs = |raw: &str| self.tasks.runs(number, &Id::of(raw));
                filter::list::tasks(line, &runs, &|cursor| self.next_page(number, cursor))
            }
            What::Call(_) | What::Task(..) => {
                let most = ears.filter.plan().scopes.get(lane).map_or(u64::MAX, |scope| scope.result_bytes);
                let size = line.len() as u64;
                let call = matches!(asked.what, What::Call(_));
                if size > most {
                    let answer = too_long(size, most).answer(asked.question(raw), Executed::Yes);
                    self.to_client.push(answer.as_bytes());
                    let report = call.then(|| ears.calls.withheld(id, size, ears.masked, ears.now));
                    return ears.to_broker.extend(report.flatten());
                }
                if call {
                    let report = ears.calls.answered(id, message, [size, ears.masked], ears.now);
                    ears.to_broker.extend(report);
                }
                Listed::Same
            }
            _ => Listed::Same,
        };
        self.learn(id, asked, line, message);
        match listed {
            Listed::Same => self.say(number, line),
            Listed::Line(line) => self.say(number, &line),
            Listed::Unclear => self.to_client.push(filter::refusal::unclear_list(raw).as_bytes()),
        }
    }

    fn learn(&mut self, id: &Id, asked: Asked, line: &str, message: &Message<'_>) {
        let failed = message.failed;
        match asked.what {
            What::Call(_) if !failed => {
                asked.instance.into_iter().for_each(|number| self.tasks.called(number, &message.reply));
            }
            What::Task(task, about) => self.tasks.answered(&task, about, line, asked.modern, failed),
            What::Initialize => self.memory.opened(id, line, failed),
            What::Listen => {
                self.memory.unlisten(id);
            }
            What::SetLevel(line) if !failed => self.set_level(line),
            What::Subscribe(uri) if !failed => {
                let lane = asked.instance.and_then(|number| self.lane_of(number)).unwrap_or_default();
                self.memory.subscribe(uri, lane);
            }
            What::Unsubscribe(uri) if !failed => self.memory.unsubscribe(&uri),
            _ => {}
        }
    }

    /// The level that the first scope's instance has taken is everybody's.
    fn set_level(&mut self, line: Box<str>) {
        self.memory.set_level(line);
        let first = self.current(0);
        let hears = |seat: &&mut Seat| {
            seat.prepared && !seat.leaving && !seat.stuffed() && seat.swallow.len() < MAX_SWALLOWED
        };
        let others = self.seats.iter_mut().filter(hears);
        for seat in others.filter(|seat| Some(seat.number) != first) {
            self.levels += 1;
            let id = format!("\"mcp-run:level:{}\"", self.levels);
            if self.memory.tell_level(&id, &mut seat.inbox) {
                seat.swallow.insert(Id::of(&id));
            }
        }
    }

    /// Says a line of an instance to the client.
    fn say(&mut self, number: u32, line: &str) {
        match self.tasks.to_client(number, line) {
            Some(respelled) => self.to_client.push(respelled.as_bytes()),
            None => self.to_client.push(line.as_bytes()),
        }
    }

    /// A request of an instance: its id is the client's only where no other instance has it open there.
    fn server_request(
        &mut self,
        number: u32,
        line: &str,
        message: &Message<'_>,
        raw: &str,
    ) -> Result<Heard, Drop> {
        if !self.of_servers.has_room() {
            let inbox = &mut self.seat(number).ok_or(Drop::Undelivered)?.inbox;
            if !inbox.has_room() {
                // One that floods and does not read is not told, as that would only fill the memory.
                return Err(Drop::Undelivered);
            }
            let error = r#","error":{"code":1002,"message":"too many requests to the client are open"}}"#;
            let parts = [r#"{"jsonrpc":"2.0","id":"#, raw, error].map(str::as_bytes);
            inbox.push_parts(&parts);
            return Ok(Heard::Taken);
        }
        let id = Id::of(raw);
        // One that passes for ours would get the answer to a question of ours.
        let taken =
            id.is_own() || self.of_servers.get(&id).is_some_and(|asked| asked.instance != Some(number));
        let token = message.params.token.map(|raw| (raw, Id::of(raw)));
        let used = token.as_ref().is_some_and(|(_, token)| self.of_servers.uses(token, number));
        if !taken && !used && !self.of_servers.forgetful() {
            let asked =
                Asked::new(number, What::Other, false).with_token(token.map(|(_, token)| token), None);
            self.of_servers.insert(id, asked);
            self.say(number, line);
            return Ok(Heard::Taken);
        }
        self.renamed += 1;
        let name = format!("\"mcp-run:request:{}\"", self.renamed);
        let mut asked = Asked::new(number, What::Renamed(id), false);
        let mut changes = vec![(raw, name.as_str())];
        if let Some((raw, original)) = token {
            asked = asked.with_token(Some(Id::of(&name)), Some(original));
            changes.push((raw, name.as_str()));
        }
        self.of_servers.insert(Id::of(&name), asked);
        let line = respelled(line, &mut changes);
        self.say(number, &line);
        Ok(Heard::Taken)
    }

    /// An instance takes a request of its own back, or ends a listen request.
    fn server_cancels(&mut self, number: u32, line: &str, raw: &str) -> Result<Heard, Drop> {
        let id = Id::of(raw);
        let listens = |asked: &&Asked| asked.what == What::Listen;
        let mut ended = false;
        if let Some(asked) = self.of_client.get(&id).filter(listens) {
            let theirs = asked.instance == Some(number);
            if !theirs || self.seat(number).is_some_and(|seat| seat.leaving) {
                // It says goodbye because we end it; the subscription goes on.
                return Ok(Heard::Taken);
            }
            self.of_client.remove(&id);
            self.memory.unlisten(&id);
            ended = true;
        }
        if let Some(name) = self.of_servers.cancelled(number, &id) {
            let other = name.raw();
            let parts = if name == id { [line, "", ""] } else { spliced(line, raw, &other) };
            self.to_client.push_parts(&parts.map(str::as_bytes));
            return Ok(Heard::Taken);
        }
        // What it has not asked is not its own to take back.
        if ended {
            self.to_client.push(line.as_bytes())
        }
        if ended { Ok(Heard::Taken) } else { Err(Drop::Undelivered) }
    }
}

fn too_long(size: u64, most: u64) -> Notice {
    let what = format!("the answer of {size} bytes is longer than the {most} bytes that are allowed");
    let hint = "ask for less at once; the limit is result_size in the server's definition";
    Notice::new(notice::Kind::Refused, what, hint).because("result_too_long")
}
