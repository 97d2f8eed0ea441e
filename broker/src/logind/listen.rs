//! Hears logind: one subscription over a connection of its own, taken before anything is asked over that
//! connection, so that nothing can happen between an answer and the first signal that is heard.
//!
//! A match rule keeps other senders' broadcasts away, but a signal that is addressed to this connection comes
//! through without any rule. So the sender of each is compared with the owner of logind's name, as the bus,
//! which fills in senders itself, reports it in the same stream.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use zbus::export::futures_core::Stream;
use zbus::fdo::DBusProxy;
use zbus::message::Type;
use zbus::names::{BusName, OwnedUniqueName};
use zbus::proxy::CacheProperties;
use zbus::{Connection, MatchRule, Message, MessageStream};

use super::bus::{self, Calls};
use super::signal::{self, Event};
use super::{Hearing, lock};

const BUS: &str = "org.freedesktop.DBus";

/// Why nobody can be heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deaf {
    /// There is no bus, or nobody on it who is logind or could be started as such.
    Nobody,
    /// Something else; it may pass.
    Now,
}

/// The ear. While it is there, calls to logind are possible; when it is dropped they are not.
pub struct Listener {
    hearing: Arc<Mutex<Hearing>>,
    stream: MessageStream,
    calls: Calls,
    /// Who has logind's name.
    owner: Option<OwnedUniqueName>,
    ready: VecDeque<Event>,
}

impl Listener {
    pub(super) async fn open(address: Option<&str>, hearing: &Arc<Mutex<Hearing>>) -> Result<Self, Deaf> {
        let connection = bus::open(address).await.map_err(|error| deaf(&error))?;
        // From here on everything that comes is kept in order, replies included.
        let stream = MessageStream::from(&connection);
        let owner = subscribe(&connection).await?;
        let calls = Calls(connection);
        let listener = Self { hearing: Arc::clone(hearing), stream, calls, owner, ready: VecDeque::new() };
        listener.publish();
        Ok(listener)
    }

    /// Whether somebody has logind's name.
    #[must_use]
    pub fn has_logind(&self) -> bool {
        self.owner.is_some()
    }

    /// What happens next; `None` when the bus is lost.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            // A message that cannot be read ends the connection: what it said is lost, which counts as deaf.
            let message = poll_fn(|context| Pin::new(&mut self.stream).poll_next(context)).await?.ok()?;
            if message.message_type() == Type::Signal {
                self.take(&message);
            }
        }
    }

    fn take(&mut self, message: &Message) {
        let header = message.header();
        let Some(sender) = header.sender() else { return };
        if sender.as_str() == BUS {
            self.name_changed(message);
        } else if self.owner.as_ref().is_some_and(|owner| owner.as_str() == sender.as_str()) {
            self.ready.extend(signal::events(message));
        }
    }

    /// logind left the bus, or came back to it.
    fn name_changed(&mut self, message: &Message) {
        let body = message.body();
        let changed = message.header().member().is_some_and(|member| member.as_str() == "NameOwnerChanged");
        let Ok((name, _, new)) = body.deserialize::<(&str, &str, &str)>() else { return };
        if !changed || name != bus::NAME {
            return;
        }
        let owner = OwnedUniqueName::try_from(new).ok();
        // What was said before the subscription was complete is in the stream as well.
        if owner.as_ref().map(|owner| owner.as_str()) == self.owner.as_ref().map(|owner| owner.as_str()) {
            return;
        }
        self.ready.extend(self.owner.is_some().then_some(Event::Gone));
        self.ready.extend(owner.is_some().then_some(Event::Back));
        self.owner = owner;
        self.publish();
    }

    /// What was read over an earlier subscription, or from an earlier logind, is no longer of this one.
    fn publish(&self) {
        let hearing = self.owner.is_some().then(|| self.calls.clone());
        lock(&self.hearing).replace(hearing);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        lock(&self.hearing).replace(None);
    }
}

impl Hearing {
    fn replace(&mut self, calls: Option<Calls>) {
        self.number += 1;
        self.calls = calls;
    }
}

/// First what tells of logind's comings and goings, then all that it says, then who it is now.
async fn subscribe(connection: &Connection) -> Result<Option<OwnedUniqueName>, Deaf> {
    let bus = DBusProxy::builder(connection)
        .cache_properties(CacheProperties::No)
        .build()
        .await
        .map_err(passing)?;
    let comings = MatchRule::builder().msg_type(Type::Signal).sender(BUS).path("/org/freedesktop/DBus");
    let comings = comings.interface(BUS).member("NameOwnerChanged").add_arg(bus::NAME);
    let sayings = MatchRule::builder().msg_type(Type::Signal).sender(bus::NAME);
    for rule in [comings, sayings] {
        bus.add_match_rule(rule.build().map_err(passing)?).await.map_err(passing)?;
    }
    if let Some(owner) = owner(&bus).await? {
        return Ok(Some(owner));
    }
    // Not running now; the bus may be able to start it, which a call does.
    match Calls(connection.clone()).ping().await {
        Ok(()) => owner(&bus).await,
        Err(_cannot_be_started) => Ok(None),
    }
}

async fn owner(bus: &DBusProxy<'_>) -> Result<Option<OwnedUniqueName>, Deaf> {
    let name = BusName::try_from(bus::NAME).map_err(passing)?;
    match bus.get_name_owner(name).await {
        Ok(owner) => Ok(Some(owner)),
        Err(zbus::fdo::Error::NameHasNoOwner(_)) => Ok(None),
        Err(other) => Err(passing(other)),
    }
}

fn passing<E>(_error: E) -> Deaf {
    Deaf::Now
}

/// A socket that is not there or that nobody listens at is no bus; anything else may pass.
fn deaf(error: &zbus::Error) -> Deaf {
    use std::io::ErrorKind;
    let kind = match error {
        zbus::Error::InputOutput(error) | zbus::Error::Connection(error, _) => Some(error.kind()),
        _ => None,
    };
    match kind {
        Some(ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Deaf::Nobody,
        _ => Deaf::Now,
    }
}
