//! What a signal of logind means (org.freedesktop.login1(5)). Who sent it is checked before: see `listen`.

use std::collections::HashMap;

use zbus::{Message, ObjectPath, Variant};

use crate::session::login::Sighting;

/// Sessions are objects below this one, which is the manager.
const MANAGER: &str = "/org/freedesktop/login1";
const SESSIONS: &str = "/org/freedesktop/login1/session/";

const MANAGER_INTERFACE: &str = "org.freedesktop.login1.Manager";
const SESSION_INTERFACE: &str = "org.freedesktop.login1.Session";
const PROPERTIES_INTERFACE: &str = "org.freedesktop.DBus.Properties";

/// Something that logind said, or that happened to logind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Something was seen to happen to a login session.
    Sighted {
        /// Its object.
        path: String,
        /// What.
        sighting: Sighting,
    },
    /// Something about a login session changed, and the signal did not say to what: it has to be read.
    Changed {
        /// Its object.
        path: String,
    },
    /// The last login session of a user is over.
    UserRemoved(u32),
    /// The machine goes to sleep; or it woke, or did not sleep after all.
    Sleep(bool),
    /// The machine goes down; or it does not after all.
    Shutdown(bool),
    /// Nobody has logind's name any more.
    Gone,
    /// Somebody has it again.
    Back,
}

/// What the signal says; nothing where it is about something else.
pub(super) fn events(message: &Message) -> Vec<Event> {
    let header = message.header();
    let (Some(path), Some(interface), Some(member)) = (header.path(), header.interface(), header.member())
    else {
        return Vec::new();
    };
    let path = path.as_str();
    match (interface.as_str(), member.as_str()) {
        (MANAGER_INTERFACE, member) if path == MANAGER => of_manager(message, member).into_iter().collect(),
        (SESSION_INTERFACE, "Lock") => sighted(path, [Sighting::Lock]),
        (SESSION_INTERFACE, "Unlock") => sighted(path, [Sighting::Unlock]),
        (PROPERTIES_INTERFACE, "PropertiesChanged") if path.starts_with(SESSIONS) => changed(message, path),
        _ => Vec::new(),
    }
}

fn of_manager(message: &Message, member: &str) -> Option<Event> {
    let body = message.body();
    let event = match member {
        "SessionRemoved" => body
            .deserialize::<(&str, ObjectPath<'_>)>()
            .map(|(_, path)| Event::Sighted { path: path.as_str().to_owned(), sighting: Sighting::Closed }),
        "UserRemoved" => body.deserialize::<(u32, ObjectPath<'_>)>().map(|(uid, _)| Event::UserRemoved(uid)),
        "PrepareForSleep" => body.deserialize().map(Event::Sleep),
        "PrepareForShutdown" => body.deserialize().map(Event::Shutdown),
        _ => return None,
    };
    if event.is_err() {
        tracing::warn!(member, "a signal of logind cannot be read");
    }
    event.ok()
}

fn changed(message: &Message, path: &str) -> Vec<Event> {
    let body = message.body();
    let read = body.deserialize::<(&str, HashMap<&str, Variant<'_>>, Vec<&str>)>();
    let Ok((interface, values, invalidated)) = read else {
        return vec![Event::Changed { path: path.to_owned() }];
    };
    if interface != SESSION_INTERFACE {
        return Vec::new();
    }
    let watched = ["LockedHint", "Active", "State"];
    let mut unread = invalidated.iter().any(|name| watched.contains(name));
    let mut sightings = Vec::new();
    for name in watched {
        let Some(value) = values.get(name) else { continue };
        match (name, value) {
            ("LockedHint", Variant::Bool(on)) => sightings.push(Sighting::Hint(*on)),
            ("Active", Variant::Bool(on)) => sightings.push(Sighting::Active(*on)),
            ("State", Variant::Str(state)) => {
                sightings.extend((state.as_str() == "closing").then_some(Sighting::Closed));
            }
            _ => unread = true,
        }
    }
    let mut events = sighted(path, sightings);
    events.extend(unread.then(|| Event::Changed { path: path.to_owned() }));
    events
}

fn sighted(path: &str, sightings: impl IntoIterator<Item = Sighting>) -> Vec<Event> {
    let event = |sighting| Event::Sighted { path: path.to_owned(), sighting };
    if path.starts_with(SESSIONS) { sightings.into_iter().map(event).collect() } else { Vec::new() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const PATH: &str = "/org/freedesktop/login1/session/_34";

    fn signal<B: serde::Serialize + zbus::DynamicType>(
        path: &str,
        interface: &str,
        member: &str,
        body: B,
    ) -> Vec<Event> {
        events(&Message::signal(path, interface, member).build(&body).unwrap())
    }

    fn seen(sighting: Sighting) -> Event {
        Event::Sighted { path: PATH.to_owned(), sighting }
    }

    #[test]
    fn each_signal_says_what_it_says() {
        let object = |path| ObjectPath::try_from(path).unwrap();
        assert_eq!(signal(PATH, SESSION_INTERFACE, "Lock", ()), [seen(Sighting::Lock)]);
        assert_eq!(signal(PATH, SESSION_INTERFACE, "Unlock", ()), [seen(Sighting::Unlock)]);
        assert_eq!(signal(PATH, SESSION_INTERFACE, "PauseDevice", (1u32, 2u32, "x")), []);
        assert_eq!(signal("/x", SESSION_INTERFACE, "Lock", ()), []);
        let manager = |member, body| signal(MANAGER, MANAGER_INTERFACE, member, body);
        assert_eq!(manager("PrepareForSleep", true), [Event::Sleep(true)]);
        assert_eq!(manager("PrepareForSleep", false), [Event::Sleep(false)]);
        assert_eq!(manager("PrepareForShutdown", true), [Event::Shutdown(true)]);
        assert_eq!(manager("Elsewhere", true), []);
        assert_eq!(signal(PATH, MANAGER_INTERFACE, "PrepareForSleep", true), []);
        assert_eq!(signal(MANAGER, MANAGER_INTERFACE, "PrepareForSleep", "yes"), []);
        let removed = ("4", object(PATH));
        assert_eq!(signal(MANAGER, MANAGER_INTERFACE, "SessionRemoved", removed), [seen(Sighting::Closed)]);
        let removed = (1000u32, object("/org/freedesktop/login1/user/_1000"));
        assert_eq!(signal(MANAGER, MANAGER_INTERFACE, "UserRemoved", removed), [Event::UserRemoved(1000)]);
    }

    #[test]
    fn properties_are_taken_from_the_signal_or_left_to_be_read() {
        let changed = |interface: &str, values: &[(&str, Variant<'static>)], invalidated: &[&str]| {
            let values: HashMap<&str, Variant<'_>> =
                values.iter().map(|(name, value)| (*name, value.try_clone().unwrap())).collect();
            signal(PATH, PROPERTIES_INTERFACE, "PropertiesChanged", (interface, values, invalidated.to_vec()))
        };
        let on = || Variant::Bool(true);
        let reread = || Event::Changed { path: PATH.to_owned() };
        let session = SESSION_INTERFACE;
        assert_eq!(changed(session, &[("LockedHint", on())], &[]), [seen(Sighting::Hint(true))]);
        assert_eq!(
            changed(
                session,
                &[("Active", Variant::Bool(false)), ("LockedHint", on()), ("IdleHint", on())],
                &[]
            ),
            [seen(Sighting::Hint(true)), seen(Sighting::Active(false))]
        );
        assert_eq!(changed(session, &[("State", "closing".into())], &[]), [seen(Sighting::Closed)]);
        assert_eq!(changed(session, &[("State", "online".into())], &[]), []);
        assert_eq!(changed(session, &[], &["LockedHint"]), [reread()]);
        assert_eq!(changed(session, &[], &["IdleHint"]), []);
        assert_eq!(changed(session, &[("LockedHint", "yes".into())], &[]), [reread()]);
        assert_eq!(changed("org.freedesktop.login1.User", &[("LockedHint", on())], &["Active"]), []);
        assert_eq!(signal(PATH, PROPERTIES_INTERFACE, "PropertiesChanged", "torn"), [reread()]);
    }
}
