//! What instances say, and where it goes: answers to who asked, requests under an id that is free at the client.

use super::asked::{Asked, What};
use super::id::Id;
use super::{Heard, Talk, respelled, spliced};
use crate::proxy::message::{Kind, Message, Method};
use crate::proxy::rule::Drop;

impl Talk {
    /// Takes a line of an instance.
    ///
    /// # Errors
    /// Where it answers what it was not asked.
    pub fn server_line(&mut self, number: u32, line: &str, message: &Message<'_>) -> Result<Heard, Drop> {
        match message.kind {
            Kind::Response(id) => return self.server_answer(number, line, message, id),
            Kind::Request(id) => return self.server_request(number, line, message, id),
            Kind::Notification => match (message.method, message.params) {
                (Method::Acknowledged, params) => {
                    let id = params.subscription.map(Id::of);
                    let seat = self.seat(number).ok_or(Drop::Undelivered)?;
                    if id.as_ref().is_some_and(|id| seat.acknowledgements.remove(id)) {
                        return Ok(Heard::Taken);
                    }
                    id.into_iter().for_each(|id| self.memory.acknowledged(&id));
                }
                (Method::Cancelled, params) => {
                    if let Some(raw) = params.request_id {
                        return self.server_cancels(number, line, raw);
                    }
                }
                _ => {}
            },
            Kind::Other => {}
        }
        self.say(number, line);
        Ok(Heard::Taken)
    }

    fn server_answer(
        &mut self,
        number: u32,
        line: &str,
        message: &Message<'_>,
        raw: &str,
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
        let leaving = seat.leaving;
        let Some(asked) = self.of_client.get(&id) else {
            self.to_client.push(line.as_bytes());
            return Ok(Heard::Taken);
        };
        let theirs = asked.instance == Some(number);
        if asked.what == What::Listen && (leaving || !theirs) {
            // It says goodbye because we end it; the subscription goes on.
            return Ok(Heard::Taken);
        }
        if !theirs {
            return Err(Drop::Undelivered);
        }
        if let Some(asked) = self.of_client.remove(&id) {
            self.learn(&id, asked, line, message.failed);
        }
        self.answered |= !message.failed;
        self.say(number, line);
        Ok(Heard::Answer)
    }

    fn learn(&mut self, id: &Id, asked: Asked, line: &str, failed: bool) {
        match asked.what {
            What::Call(_) if !failed => {
                asked.instance.into_iter().for_each(|number| self.tasks.called(number, line));
            }
            What::Task(task, about) => self.tasks.answered(&task, about, line, asked.modern, failed),
            What::Initialize => self.memory.opened(id, line, failed),
            What::Listen => self.memory.unlisten(id),
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
        let others: Vec<_> = self.lanes.iter().skip(1).filter_map(|lane| lane.current).collect();
        for number in others {
            let Some(seat) = self.seats.iter_mut().find(|seat| seat.number == number) else { continue };
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
        let taken = self.of_servers.get(&id).is_some_and(|asked| asked.instance != Some(number));
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
        if let Some(asked) = self.of_client.get(&id).filter(listens) {
            let theirs = asked.instance == Some(number);
            if !theirs || self.seat(number).is_some_and(|seat| seat.leaving) {
                // It says goodbye because we end it; the subscription goes on.
                return Ok(Heard::Taken);
            }
            self.of_client.remove(&id);
            self.memory.unlisten(&id);
        }
        match self.of_servers.cancelled(number, &id) {
            Some(name) => self.to_client.push_parts(&spliced(line, raw, &name.raw()).map(str::as_bytes)),
            None => self.to_client.push(line.as_bytes()),
        }
        Ok(Heard::Taken)
    }
}
