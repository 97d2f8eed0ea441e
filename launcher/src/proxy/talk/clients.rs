//! What the client says, and which instance hears it: requests by their scope, everything else by what it is about.

use mcp_broker_proto::call::CallOutcome;

use super::asked::{Asked, What};
use super::id::Id;
use super::notice::{self, Notice, Question};
use super::pages::Where;
use super::{News, Otherwise, Seat, Talk, question, spliced};
use crate::proxy::filter::refusal;
use crate::proxy::message::{Kind, Message, Method, members};
use crate::proxy::rule::Drop;

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
                let shared = self.share(line);
                // What is remembered is replayed to the next instance, and is not kept for it as well.
                let remembered = self.memory.initialized(line);
                let told = self.current(0).is_none() && remembered;
                if told { shared } else { self.tell(line, otherwise).and(shared) }
            }
            (Kind::Notification, Method::RootsChanged) => {
                let shared = self.share(line);
                // Whoever comes later asks for the roots as they are then.
                let held = self.current(0).is_some() || matches!(otherwise, Otherwise::First);
                if held { self.tell(line, otherwise).and(shared) } else { shared }
            }
            (Kind::Notification | Kind::Other, _) => self.tell(line, otherwise),
        }
    }

    /// Tells every instance but the one that the first scope's requests go to. One that is only coming up hears it
    /// after the handshake that is replayed to it.
    fn share(&mut self, line: &str) -> Result<(), Drop> {
        let mut all = Ok(());
        for seat in self.others() {
            match seat.stuffed() {
                true => all = Err(Drop::NotKept),
                false => seat.inbox.push(line.as_bytes()),
            }
        }
        all
    }

    pub(super) fn others(&mut self) -> impl Iterator<Item = &mut Seat> {
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

    fn request(
        &mut self,
        line: &str,
        message: &Message<'_>,
        raw: &str,
        lane: usize,
        otherwise: Otherwise<'_>,
    ) -> Result<(), Drop> {
        let question = question(message, raw);
        // A task is known to the instance that runs it, and to no other. Whatever else names one does not get there.
        let about = matches!(message.method, Method::Task | Method::TaskResult);
        let task = message.params.task.filter(|_| about);
        let page = match self.page_of_tasks(message) {
            Where::At(number) => Some(number),
            Where::First | Where::Nowhere => None,
        };
        let runs = task.and_then(|raw| self.tasks.instance(&Id::of(raw))).or(page);
        let call = message.method == Method::Call;
        let sealed = call && self.lanes.get(lane).is_some_and(|lane| lane.sealed);
        let current = self.current(lane).filter(|_| !sealed);
        let Some(number) = runs.or(current) else {
            self.wait(line, message, lane, otherwise, question);
            return Ok(());
        };
        let subscribes = matches!(message.method, Method::Subscribe | Method::Listen);
        let first = self.current(0) == Some(number);
        let stuffed = !first && self.seat(number).is_some_and(|seat| seat.stuffed());
        if stuffed || !self.of_client.has_room() || (subscribes && !self.memory.has_room(line.len())) {
            self.refuse(&too_many(), question);
            return Ok(());
        }
        let id = Id::of(raw);
        if self.of_client.knows(&id) {
            if call {
                self.news.push(News::Ended(id, CallOutcome::NotSent, 0));
            }
            self.to_client.push(refusal::id_in_use(raw).as_bytes());
            return Ok(());
        }
        match message.method {
            Method::Initialize => self.memory.open(id.clone(), line, false),
            Method::Listen => {
                // Resources are of one scope; lists are of all.
                let shared = lane == 0 && !of_resources(message.params.notifications);
                self.memory.listen(id.clone(), line, (!shared).then_some(lane));
                if shared {
                    self.listen_too(&id, line);
                }
            }
            Method::Call => self.news.push(News::Sent(id.clone(), number)),
            _ => {}
        }
        let what = What::of(line, message);
        self.seat(number).into_iter().for_each(|seat| seat.doubts.forget(&id));
        let asked = Asked::new(number, what, message.params.version.is_some());
        self.of_client.insert(id, asked.with_token(message.params.token.map(Id::of), None));
        match self.tasks.to_server(number, line).or_else(|| self.page_request(number, line, message)) {
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
            Otherwise::First => held.keep(line, Some(Id::of(question.id)), false),
            _ if message.method == Method::Ping => return self.pong(question.id),
            Otherwise::Hold => held.keep(line, Some(Id::of(question.id)), true),
            Otherwise::Refuse(notice) => {
                self.memory.not_opened(&Id::of(question.id));
                return self.refuse(notice, question);
            }
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
        for seat in self.others().filter(|seat| !seat.stuffed()) {
            seat.acknowledgements.insert(id.clone());
            seat.inbox.push(line.as_bytes());
        }
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
            self.memory.not_opened(&id);
            return Ok(());
        }
        let Some((instance, listens)) = self.of_client.take_back(&id) else {
            // What we have asked ourselves is not the client's to take back.
            return if id.is_own() { Err(Drop::Undelivered) } else { self.tell(line, otherwise) };
        };
        let everybody = listens && self.memory.unlisten(&id);
        let shared = if everybody { self.share(line) } else { Ok(()) };
        // A listen request that no instance has is over with that.
        instance.map_or(Ok(()), |number| self.push(number, line)).and(shared)
    }

    pub(super) fn tell(&mut self, line: &str, otherwise: Otherwise<'_>) -> Result<(), Drop> {
        match (self.current(0), otherwise) {
            (Some(number), _) => self.push(number, line),
            (None, Otherwise::First | Otherwise::Hold) => {
                let bounded = matches!(otherwise, Otherwise::Hold);
                let kept = self.lanes.first_mut().is_some_and(|lane| lane.held.keep(line, None, bounded));
                if kept { Ok(()) } else { Err(Drop::Undelivered) }
            }
            (None, Otherwise::Refuse(_)) => Err(Drop::Undelivered),
        }
    }
}

/// Whether a listen request is about resources, in whatever way that is spelled.
fn of_resources(notifications: Option<&str>) -> bool {
    const NAME: &str = "resourceSubscriptions";
    let wanted = notifications.and_then(|raw| members(raw, &[NAME])).unwrap_or_default();
    wanted.iter().any(|(name, _)| name == NAME)
}

fn too_many() -> Notice {
    let hint = "wait for answers before you send more";
    Notice::new(notice::Kind::Restarting, "more is asked than can be kept", hint)
}
