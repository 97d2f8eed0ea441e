//! What a fresh instance has to be told so that it stands where the one before it stood: the client's own
//! handshake, its log level, its subscriptions, its open listen requests.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::id::Id;
use crate::proxy::calls::{self, Reach};
use crate::proxy::message::Method;
use crate::proxy::outbox::Outbox;

/// Resources that a client may be subscribed to; further ones are refused.
const MAX_SUBSCRIPTIONS: usize = 4096;
/// The most bytes of what is kept for them.
const MAX_WEIGHT: usize = 4 << 20;
/// The longest line that is kept to be said again, in bytes.
const MAX_KEPT: usize = 256 << 10;
/// Kinds of lists whose change is told.
pub const LISTS: [&str; 3] = ["tools", "prompts", "resources"];

/// The memory of a conversation.
#[derive(Default)]
pub struct Memory {
    /// The client's `initialize` that is not answered yet.
    opening: Option<Opening>,
    handshake: Option<Handshake>,
    /// The client's last `logging/setLevel` that was answered well.
    level: Option<Box<str>>,
    /// URIs as raw JSON, and the scope of each.
    subscriptions: BTreeMap<Box<str>, usize>,
    listens: BTreeMap<Id, Listen>,
}

/// A handshake that is being made.
struct Opening {
    id: Id,
    line: Box<str>,
    /// It waits for an instance.
    held: bool,
    /// Some clients do not wait for the answer with it.
    initialized: Option<Box<str>>,
}

/// A handshake that was made (MCP 2025-11-25 and before).
struct Handshake {
    id: Id,
    line: Box<str>,
    agreed: Agreed,
    /// Whether the client can ask the person.
    elicits: bool,
    /// The client's `notifications/initialized`, once it has come.
    initialized: Option<Box<str>>,
}

/// What a server answers to `initialize`, as far as the client relies on it.
#[derive(PartialEq, Deserialize)]
struct Agreed {
    #[serde(rename = "protocolVersion")]
    version: Value,
    capabilities: Value,
}

/// An open `subscriptions/listen` (MCP 2026-07-28).
struct Listen {
    line: Box<str>,
    /// The scope whose instance hears it alone; none where all do, and the first one's word counts.
    lane: Option<usize>,
    lists: Vec<&'static str>,
    /// Whether the client has seen the acknowledgement, before which it takes no notification.
    acknowledged: bool,
}

#[derive(Deserialize)]
struct Answer<T> {
    result: T,
}

#[derive(Deserialize)]
struct Asking<T> {
    params: T,
}

#[derive(Deserialize)]
struct ListenParams {
    #[serde(default)]
    notifications: BTreeMap<String, Value>,
}

impl Memory {
    /// The client opens the conversation.
    pub fn open(&mut self, id: Id, line: &str, held: bool) {
        let initialized = self.opening.take().filter(|before| before.id == id).and_then(|o| o.initialized);
        self.opening = Some(Opening { id, line: line.into(), held, initialized });
    }

    /// Its `initialize` was answered.
    pub fn opened(&mut self, id: &Id, answer: &str, failed: bool) {
        let Some(Opening { id, line, initialized, .. }) = self.opening.take_if(|opening| opening.id == *id)
        else {
            return;
        };
        if let (false, Some(agreed)) = (failed, agreed(answer)) {
            let elicits = agreed.version.as_str().is_some_and(|revision| calls::elicits(&line, revision));
            self.handshake = Some(Handshake { id, line, agreed, elicits, initialized });
        }
    }

    /// How the client can be reached: once its handshake is complete.
    #[must_use]
    pub fn reach(&self) -> Reach {
        let complete = self.handshake.as_ref().filter(|handshake| handshake.initialized.is_some());
        complete.map_or_else(Reach::default, |handshake| Reach { elicits: handshake.elicits, told: true })
    }

    /// Its `initialize` will not be answered by a server.
    pub fn not_opened(&mut self, id: &Id) {
        self.opening.take_if(|opening| opening.id == *id);
    }

    /// The client has said `notifications/initialized`. Whether that belongs to a handshake that is not waiting
    /// itself, and will be said to the next instance.
    pub fn initialized(&mut self, line: &str) -> bool {
        let held = self.opening.as_ref().is_some_and(|opening| opening.held);
        let opening = self.opening.as_mut().map(|opening| &mut opening.initialized);
        let place = opening.or(self.handshake.as_mut().map(|handshake| &mut handshake.initialized));
        place.map(|initialized| *initialized = Some(line.into())).is_some() && !held
    }

    /// Begins the replay: the client's own `initialize`, and the id under which it is answered. One that is not
    /// answered yet is replayed to another scope than the first.
    #[must_use]
    pub fn greeting(&self, other: bool) -> Option<(&str, Id)> {
        let opening = self.opening.as_ref().filter(|_| other).map(|one| (one.line.as_ref(), one.id.clone()));
        let made = self.handshake.as_ref().map(|one| (one.line.as_ref(), one.id.clone()));
        made.or(opening)
    }

    /// Whether an instance answers the client's `initialize` as the one before it did; that of another scope than
    /// the first only has to talk the same revision.
    #[must_use]
    pub fn agrees(&self, answer: &str, other: bool) -> bool {
        let Some(answered) = agreed(answer) else { return false };
        match &self.handshake {
            Some(handshake) if other => answered.version == handshake.agreed.version,
            Some(handshake) => answered == handshake.agreed,
            None => other,
        }
    }

    /// The log level was set.
    pub fn set_level(&mut self, line: Box<str>) {
        self.level = Some(line);
    }

    /// Whether one more subscription of so many bytes can be remembered.
    #[must_use]
    pub fn has_room(&self, more: usize) -> bool {
        let listens = self.listens.iter().map(|(id, listen)| id.weight() + listen.line.len());
        let weight: usize = self.subscriptions.keys().map(|uri| uri.len()).chain(listens).sum();
        self.subscriptions.len() + self.listens.len() < MAX_SUBSCRIPTIONS && weight + more <= MAX_WEIGHT
    }

    /// A resource was subscribed to.
    pub fn subscribe(&mut self, uri: Box<str>, lane: usize) {
        self.subscriptions.insert(uri, lane);
    }

    /// Where each scope was before.
    pub fn plan(&mut self, before: &[Option<usize>]) {
        let now = |lane: usize| before.iter().position(|place| *place == Some(lane));
        for listen in self.listens.values_mut() {
            listen.lane = listen.lane.map(|lane| now(lane).unwrap_or(usize::MAX));
        }
        self.subscriptions.retain(|_, lane| now(*lane).map(|place| *lane = place).is_some());
    }

    /// A subscription was given up.
    pub fn unsubscribe(&mut self, uri: &str) {
        self.subscriptions.remove(uri);
    }

    /// The client listens.
    pub fn listen(&mut self, id: Id, line: &str, lane: Option<usize>) {
        let asked: Option<Asking<ListenParams>> = serde_json::from_str(line).ok();
        let wanted = asked.map(|asked| asked.params.notifications).unwrap_or_default();
        let wants = |list: &&str| wanted.get(&format!("{list}ListChanged")) == Some(&Value::Bool(true));
        let lists = LISTS.into_iter().filter(wants).collect();
        self.listens.insert(id, Listen { line: line.into(), lane, lists, acknowledged: false });
    }

    /// The client saw the acknowledgement of a listen request.
    pub fn acknowledged(&mut self, id: &Id) {
        if let Some(listen) = self.listens.get_mut(id) {
            listen.acknowledged = true;
        }
    }

    /// A listen request is over. Whether every scope's instance had heard it.
    pub fn unlisten(&mut self, id: &Id) -> bool {
        self.listens.remove(id).is_some_and(|listen| listen.lane.is_none())
    }

    /// What follows the answer to `initialize`. The ids of what was sent, whose answers and acknowledgements
    /// are nobody's but ours.
    pub fn replay(&self, lane: usize, into: &mut Outbox) -> Replay {
        let mut replay = Replay::default();
        let opening = self.opening.as_ref().filter(|_| lane > 0).and_then(|one| one.initialized.as_ref());
        let made = self.handshake.as_ref().and_then(|handshake| handshake.initialized.as_ref());
        if let Some(line) = made.or(opening) {
            into.push(line.as_bytes());
        }
        let mut ask = |method: &str, params: &str| {
            let id = format!("\"mcp-run:replay:{}\"", replay.answers.len());
            into.push(
                format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{params}}}"#).as_bytes(),
            );
            replay.answers.insert(Id::of(&id));
        };
        let level = self.level.as_ref().and_then(|line| serde_json::from_str::<Asking<&RawValue>>(line).ok());
        if let Some(level) = level {
            ask("logging/setLevel", level.params.get());
        }
        for (uri, _) in self.subscriptions.iter().filter(|(_, owner)| **owner == lane) {
            ask("resources/subscribe", &format!(r#"{{"uri":{uri}}}"#));
        }
        for (id, listen) in self.listens.iter().filter(|(_, one)| one.lane.is_none_or(|own| own == lane)) {
            into.push(listen.line.as_bytes());
            let own = listen.lane.unwrap_or(0) == lane;
            if own {
                replay.listens.push(id.clone());
            }
            if listen.acknowledged || !own {
                replay.acknowledgements.insert(id.clone());
            }
        }
        replay
    }

    /// Sets the log level of one more instance, where the client has set one.
    pub fn tell_level(&self, id: &str, into: &mut Outbox) -> bool {
        let level = self.level.as_ref().and_then(|line| serde_json::from_str::<Asking<&RawValue>>(line).ok());
        let Some(params) = level.map(|level| level.params.get()) else { return false };
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"logging/setLevel","params":{params}}}"#);
        into.push(line.as_bytes());
        true
    }

    /// Tells the client, where it listens for that, that the lists may have changed.
    pub fn tell_changes(&self, which: &[&str], to_client: &mut Outbox) {
        if let Some(Handshake { agreed, initialized: Some(_), .. }) = &self.handshake {
            let declared = |list: &&str| {
                let capability = agreed.capabilities.get(list);
                capability.and_then(|one| one.get("listChanged")) == Some(&Value::Bool(true))
            };
            for list in which.iter().filter(|list| declared(list)) {
                let line = format!(r#"{{"jsonrpc":"2.0","method":"notifications/{list}/list_changed"}}"#);
                to_client.push(line.as_bytes());
            }
        }
        for (id, listen) in self.listens.iter().filter(|(_, listen)| listen.acknowledged) {
            let meta = format!(r#"{{"_meta":{{"io.modelcontextprotocol/subscriptionId":{}}}}}"#, id.raw());
            for list in listen.lists.iter().filter(|list| which.contains(list)) {
                let method = format!("notifications/{list}/list_changed");
                let line = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{meta}}}"#);
                to_client.push(line.as_bytes());
            }
        }
    }
}

/// What was sent to an instance on our own account.
#[derive(Default)]
pub struct Replay {
    /// Requests whose answers are swallowed.
    pub answers: BTreeSet<Id>,
    /// The client's listen requests that were sent again.
    pub listens: Vec<Id>,
    /// Those of them whose acknowledgement the client has seen before.
    pub acknowledgements: BTreeSet<Id>,
}

/// Whether a line would have to be kept to be said again, and is too long for that.
#[must_use]
pub fn is_too_long(line: &str, method: Method) -> bool {
    line.len() > MAX_KEPT && matches!(method, Method::Initialize | Method::Initialized | Method::SetLevel)
}

fn agreed(answer: &str) -> Option<Agreed> {
    serde_json::from_str::<Answer<Agreed>>(answer).ok().map(|answer| answer.result)
}
