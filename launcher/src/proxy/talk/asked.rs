//! Requests that are open: who was asked, and what has to be known when the answer comes or never comes.

use std::collections::BTreeMap;

use super::id::Id;
use super::notice::Question;
use super::tasks::About;
use crate::proxy::filter::List;
use crate::proxy::message::{Message, Method};

/// The most requests that are open in one direction.
const MAX_OPEN: usize = 16 << 10;
/// The most memory that they hold beside themselves, in bytes.
const MAX_WEIGHT: usize = 4 << 20;
/// The most requests of dead instances whose answers are still watched for.
const MAX_DEAD: usize = 1024;

/// What a request is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A tool call, with the tool's name as raw JSON.
    Call(Box<str>),
    /// `initialize`.
    Initialize,
    /// `logging/setLevel`: its line.
    SetLevel(Box<str>),
    /// `resources/subscribe`: the URI as raw JSON.
    Subscribe(Box<str>),
    /// `resources/unsubscribe`: the same.
    Unsubscribe(Box<str>),
    /// `subscriptions/listen`.
    Listen,
    /// A list.
    List(List),
    /// `tasks/list`.
    Tasks,
    /// Something about a task of this id.
    Task(Id, About),
    /// A request of an instance which the client knows under another id than this.
    Renamed(Id),
    /// Anything else.
    Other,
}

impl What {
    /// Memory that it holds beside itself, in bytes.
    fn weight(&self) -> usize {
        match self {
            Self::Call(text) | Self::SetLevel(text) | Self::Subscribe(text) | Self::Unsubscribe(text) => {
                text.len()
            }
            Self::Renamed(id) | Self::Task(id, _) => id.weight(),
            Self::Initialize | Self::Listen | Self::List(_) | Self::Tasks | Self::Other => 0,
        }
    }

    /// What a request of the client is about.
    #[must_use]
    pub fn of(line: &str, message: &Message<'_>) -> Self {
        let uri = || message.params.uri.map(Box::from);
        let task = |about| message.params.task.map_or(Self::Other, |raw| Self::Task(Id::of(raw), about));
        match message.method {
            Method::Call => Self::Call(message.params.name.unwrap_or_default().into()),
            Method::Initialize => Self::Initialize,
            Method::SetLevel => Self::SetLevel(line.into()),
            Method::Subscribe => uri().map_or(Self::Other, Self::Subscribe),
            Method::Unsubscribe => uri().map_or(Self::Other, Self::Unsubscribe),
            Method::Listen => Self::Listen,
            Method::TaskResult => task(About::Result),
            Method::Task => task(About::State),
            Method::TaskList => Self::Tasks,
            method => List::of(method).map_or(Self::Other, Self::List),
        }
    }
}

/// An open request.
#[derive(Debug)]
pub struct Asked {
    /// The instance at its server's end, while there is one.
    pub instance: Option<u32>,
    /// What it is about.
    pub what: What,
    /// Whether it is of the stateless era.
    pub modern: bool,
    /// What its progress is told under.
    pub token: Option<Id>,
    /// What its server calls that, where it is something else.
    pub original: Option<Id>,
    /// Nobody waits for its answer.
    pub cancelled: bool,
}

impl Asked {
    /// Asked just now.
    #[must_use]
    pub fn new(instance: u32, what: What, modern: bool) -> Self {
        Self { instance: Some(instance), what, modern, token: None, original: None, cancelled: false }
    }

    /// The same, with what its progress is told under.
    #[must_use]
    pub fn with_token(self, token: Option<Id>, original: Option<Id>) -> Self {
        Self { token, original, ..self }
    }

    fn weight(&self) -> usize {
        let tokens = self.token.iter().chain(&self.original).map(Id::weight);
        self.what.weight() + tokens.sum::<usize>()
    }

    /// What an answer of ours needs to know.
    #[must_use]
    pub fn question<'a>(&'a self, id: &'a str) -> Question<'a> {
        let call = match &self.what {
            What::Call(tool) => Some(tool.as_ref()),
            _ => None,
        };
        Question { id, call, modern: self.modern }
    }
}

/// The open requests of one direction.
#[derive(Default)]
pub struct Questions {
    open: BTreeMap<Id, Asked>,
    weight: usize,
    /// Requests of instances that are gone.
    dead: usize,
    /// Some of those were forgotten: what is not known here may be an answer to one of them.
    forgetful: bool,
}

impl Questions {
    /// Whether one more can be remembered.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.open.len() < MAX_OPEN && self.weight < MAX_WEIGHT
    }

    /// Remembers one.
    pub fn insert(&mut self, id: Id, asked: Asked) {
        // The peer's id may be in use, against the rules.
        self.remove(&id);
        self.weight += id.weight() + asked.weight();
        self.open.insert(id, asked);
    }

    /// One that is open.
    #[must_use]
    pub fn get(&self, id: &Id) -> Option<&Asked> {
        self.open.get(id)
    }

    /// Whether one is open under that id, or under one that a reader of floats takes for the same.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "that is the question")]
    pub fn knows(&self, id: &Id) -> bool {
        let Id::Number(number) = *id else { return self.open.contains_key(id) };
        // Rounding keeps the order, so only the nearest ones can be the same.
        let before = self.open.range(..=id.clone()).next_back();
        let after = self.open.range(id.clone()..).next();
        let twin =
            |(known, _): (&Id, &Asked)| matches!(known, Id::Number(known) if *known as f64 == number as f64);
        before.is_some_and(twin) || after.is_some_and(twin)
    }

    /// Forgets one.
    pub fn remove(&mut self, id: &Id) -> Option<Asked> {
        let asked = self.open.remove(id)?;
        self.weight = self.weight.saturating_sub(id.weight() + asked.weight());
        self.dead = self.dead.saturating_sub(usize::from(asked.instance.is_none() && asked.cancelled));
        Some(asked)
    }

    /// The client takes a request back: it is forgotten, but for a list. What answers that would pass for the answer
    /// to another request of the same id, which is not filtered.
    pub fn take_back(&mut self, id: &Id) -> Option<(Option<u32>, bool)> {
        let asked = self.open.get_mut(id).filter(|asked| !asked.cancelled)?;
        let found = (asked.instance, asked.what == What::Listen);
        if matches!(asked.what, What::List(_) | What::Tasks) && asked.instance.is_some() {
            asked.cancelled = true;
        } else {
            self.remove(id);
        }
        Some(found)
    }

    /// Whether answers to forgotten requests may still come.
    #[must_use]
    pub fn forgetful(&self) -> bool {
        self.forgetful
    }

    /// Whether an instance owes or waits for an answer; an open listen request does not count.
    #[must_use]
    pub fn busy(&self, number: u32) -> bool {
        let waits = |asked: &Asked| asked.instance == Some(number) && asked.what != What::Listen;
        self.open.values().any(|asked| waits(asked) && !asked.cancelled)
    }

    /// The requests that an instance has to answer; those that stay open are not among them.
    #[must_use]
    pub fn owed_by(&self, number: u32) -> Vec<Id> {
        let owed = |asked: &Asked| asked.instance == Some(number) && asked.what != What::Listen;
        self.open.iter().filter(|(_, asked)| owed(asked)).map(|(id, _)| id.clone()).collect()
    }

    /// Who is told the progress of the request that named this token, and what that one calls it: nobody knows of
    /// one, or it is this instance, or nobody, where that is gone.
    #[must_use]
    pub fn told_under(&self, token: &Id) -> Option<(Option<u32>, Option<&Id>)> {
        let asked = self.open.values().find(|asked| asked.token.as_ref() == Some(token))?;
        Some((asked.instance, asked.original.as_ref()))
    }

    /// Whether a request of another instance than this names the same token.
    #[must_use]
    pub fn uses(&self, token: &Id, number: u32) -> bool {
        let named = |asked: &Asked| asked.token.as_ref() == Some(token);
        self.open.values().any(|asked| named(asked) && asked.instance != Some(number))
    }

    /// Whether this token was named in requests to other instances, and in none to this one.
    #[must_use]
    pub fn is_other_s(&self, token: &Id, number: u32) -> bool {
        let mut named = self.open.values().filter(|asked| asked.token.as_ref() == Some(token)).peekable();
        named.peek().is_some() && named.all(|asked| asked.instance != Some(number))
    }

    /// Hands a listen request to another instance.
    pub fn move_to(&mut self, id: &Id, number: u32) {
        if let Some(asked) = self.open.get_mut(id) {
            asked.instance = Some(number);
        }
    }

    /// The requests of the client that die with an instance; listen requests stay, without one.
    pub fn end_at(&mut self, number: u32) -> Vec<(Id, Asked)> {
        let mut ended = Vec::new();
        for id in self.of(number) {
            match self.open.get_mut(&id) {
                Some(asked) if asked.what == What::Listen => asked.instance = None,
                Some(asked) if asked.cancelled => drop(self.remove(&id)),
                _ => ended.extend(self.remove(&id).map(|asked| (id, asked))),
            }
        }
        ended
    }

    /// The requests of an instance that died: as the client knows them, and not taken back before. Answers to
    /// them are still expected, and are nobody's.
    pub fn end_of(&mut self, number: u32) -> Vec<Id> {
        let mut open = Vec::new();
        for id in self.of(number) {
            let Some(asked) = self.open.get_mut(&id) else { continue };
            asked.instance = None;
            self.dead += 1;
            if !std::mem::replace(&mut asked.cancelled, true) {
                open.push(id);
            }
        }
        if self.dead > MAX_DEAD {
            self.forgetful = true;
            self.dead = 0;
            self.open.retain(|_, asked| asked.instance.is_some());
            self.weight = self.open.iter().map(|(id, asked)| id.weight() + asked.weight()).sum();
        }
        open
    }

    /// An instance takes a request of its own back: the client's name for it, where it is open.
    pub fn cancelled(&mut self, number: u32, id: &Id) -> Option<Id> {
        let plain =
            |asked: &&mut Asked| asked.instance == Some(number) && !matches!(asked.what, What::Renamed(_));
        if let Some(asked) = self.open.get_mut(id).filter(plain) {
            asked.cancelled = true;
            return Some(id.clone());
        }
        let (name, asked) = self.open.iter_mut().find(|(_, asked)| {
            asked.instance == Some(number) && matches!(&asked.what, What::Renamed(original) if original == id)
        })?;
        asked.cancelled = true;
        Some(name.clone())
    }

    fn of(&self, number: u32) -> Vec<Id> {
        let theirs = self.open.iter().filter(|(_, asked)| asked.instance == Some(number));
        theirs.map(|(id, _)| id.clone()).collect()
    }
}
