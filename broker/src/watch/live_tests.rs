//! Each source on its own, against a real bus and a double of logind: what it tells of, and what it must not.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and starts the real parts"
)]

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mcp_broker_proto::session::LockCause;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use zbus::{ObjectPath, Variant};

use super::live_world::{Told, World};
use super::{Watched, Watcher, bus};
use crate::clock::Clock;
use crate::logind::double::{Double, emit, eventually};
use crate::session::login::{Leader, Login, Sighting};

fn on(is: bool) -> Variant<'static> {
    Variant::from(is)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signal_says_one_thing() {
    let world = World::new().await;
    let (double, path) = (world.double(), world.path.as_str());
    let object = || ObjectPath::try_from(path).unwrap();
    let check = async |expected: Vec<Told>| {
        world.heard().await;
        let mut told = world.book.told();
        assert_eq!(told.pop(), Some(Told::UserRemoved(99)));
        assert_eq!(told, expected);
        world.book.forget();
    };
    let sighted = |sighting| vec![Told::Sighted(path.to_owned(), sighting)];
    double.session(path, "Lock").await;
    check(sighted(Sighting::Lock)).await;
    double.session(path, "Unlock").await;
    check(sighted(Sighting::Unlock)).await;
    for is in [true, false] {
        double.changed(path, &[("LockedHint", on(is))], &[]).await;
        check(sighted(Sighting::Hint(is))).await;
        double.changed(path, &[("Active", on(is)), ("IdleHint", on(is))], &[]).await;
        check(sighted(Sighting::Active(is))).await;
    }
    double.changed(path, &[("State", "closing".into())], &[]).await;
    check(sighted(Sighting::Closed)).await;
    double.changed(path, &[("State", "active".into())], &["IdleHint"]).await;
    check(vec![]).await;
    double.manager("SessionRemoved", &("4", object())).await;
    check(sighted(Sighting::Closed)).await;
    double.manager("UserRemoved", &(1000u32, object())).await;
    check(vec![Told::UserRemoved(1000)]).await;
    double.manager("SessionNew", &("4", object())).await;
    check(vec![]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_signal_leaves_out_is_read() {
    let world = World::new().await;
    let (double, path) = (world.double(), world.path.as_str());
    let told = async || {
        world.heard().await;
        let mut told = world.book.told();
        told.pop();
        world.book.forget();
        told.into_iter().map(|told| match told {
            Told::Sighted(_, sighting) => sighting,
            other => unreachable!("{other:?}"),
        })
    };
    double.state().sessions[0].locked = true;
    double.changed(path, &[], &["LockedHint"]).await;
    assert!(told().await.eq([Sighting::Hint(true), Sighting::Active(true)]));
    double.state().sessions[0].state = "closing";
    double.changed(path, &[], &["State"]).await;
    assert!(told().await.eq([Sighting::Closed]));
    double.state().sessions.clear();
    double.changed(path, &[], &["Active"]).await;
    assert!(told().await.eq([Sighting::Closed]));
    double.state().hangs = true;
    double.changed(path, &[], &["LockedHint"]).await;
    assert!(told().await.eq([Sighting::Lock]), "what cannot be read locks");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_logind_itself_is_believed() {
    let world = World::new().await;
    let path = world.path.as_str();
    let forger = world.bus.connect().await;
    forger.request_name("org.freedesktop.login2").await.unwrap();
    let (session, manager) = ("org.freedesktop.login1.Session", "org.freedesktop.login1.Manager");
    let to_us = world.logind.bus_name();
    // To everybody, which the match keeps away, and to this connection, which no match does.
    for to in [None, Some(to_us.as_str())] {
        emit(&forger, to, path, session, "Lock", &()).await;
        emit(&forger, to, path, session, "Unlock", &()).await;
        emit(&forger, to, "/org/freedesktop/login1", manager, "PrepareForSleep", &true).await;
        emit(&forger, to, "/org/freedesktop/login1", manager, "PrepareForShutdown", &true).await;
        let removed = (1000u32, ObjectPath::try_from("/x").unwrap());
        emit(&forger, to, "/org/freedesktop/login1", manager, "UserRemoved", &removed).await;
        let taken = ("org.freedesktop.login1", "", forger.unique_name().unwrap().as_str());
        emit(&forger, to, "/org/freedesktop/DBus", "org.freedesktop.DBus", "NameOwnerChanged", &taken).await;
        emit(&forger, to, path, session, "Unlock", &()).await;
    }
    // A real one of each kind comes after them.
    world.heard().await;
    world.double().manager("PrepareForSleep", &false).await;
    world.book.hears(Told::Woke).await;
    assert_eq!(world.book.told(), [Told::UserRemoved(99), Told::Woke]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_that_flaps_arrives_in_order_and_completely() {
    let world = World::new().await;
    let path = world.path.as_str();
    for at in 0..1000 {
        world.double().changed(path, &[("LockedHint", on(at % 2 == 0))], &[]).await;
    }
    world.heard().await;
    let expected = (0..1000).map(|at| Told::Sighted(path.to_owned(), Sighting::Hint(at % 2 == 0)));
    assert!(world.book.told().into_iter().eq(expected.chain([Told::UserRemoved(99)])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_logind_is_passed_over_and_everything_read_again() {
    let mut world = World::new().await;
    let state = world.double.take().unwrap().stop().await;
    eventually("a warning", || !world.watch.warnings().is_empty()).await;
    let looks = world.book.count(&Told::LookAgain);
    world.double = Some(Double::with(&world.bus, state).await);
    eventually("a look", || world.book.count(&Told::LookAgain) > looks).await;
    eventually("a new inhibitor", || world.double().inhibitors() == (2, 1)).await;
    // The new one is listened to, and the time of the old one's absence does not run on.
    world.double().session(&world.path, "Lock").await;
    world.book.hears(Told::Sighted(world.path.clone(), Sighting::Lock)).await;
    tokio::time::sleep(bus::PATIENCE + Duration::from_millis(500)).await;
    assert_eq!(world.book.told(), [Told::Sighted(world.path.clone(), Sighting::Lock)]);
    assert_eq!(world.watch.warnings(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logind_that_stays_away_locks() {
    let mut world = World::new().await;
    let gone = Instant::now();
    let state = world.double.take().unwrap().stop().await;
    world.book.hears(Told::LockBound(LockCause::BusLost)).await;
    assert!(gone.elapsed() >= bus::PATIENCE - Duration::from_millis(100), "{:?}", gone.elapsed());
    assert!(world.watch.warnings().iter().any(|warning| warning.contains("not heard since")));
    // It lasts, so whoever unlocks by hand is locked again.
    eventually("again", || world.book.count(&Told::LockBound(LockCause::BusLost)) == 2).await;
    world.book.forget();
    world.double = Some(Double::with(&world.bus, state).await);
    world.book.hears(Told::LookAgain).await;
    eventually("no warning", || world.watch.warnings().is_empty()).await;
    assert_eq!(world.book.told(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bus_that_is_lost_locks_and_is_found_again() {
    let mut world = World::new().await;
    world.bus.kill();
    world.book.hears(Told::LockBound(LockCause::BusLost)).await;
    world.book.forget();
    world.bus.restart().await;
    let state = Arc::clone(&world.double().state);
    world.double = Some(Double::with(&world.bus, state).await);
    world.book.hears(Told::LookAgain).await;
    world.double().session(&world.path, "Lock").await;
    world.book.hears(Told::Sighted(world.path.clone(), Sighting::Lock)).await;
    eventually("no warning", || world.watch.warnings().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logind_that_hangs_locks() {
    let world = World::new().await;
    world.double().state().hangs = true;
    world.book.hears(Told::LockBound(LockCause::BusLost)).await;
    world.double().state().hangs = false;
    eventually("no warning", || world.watch.warnings().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_end_is_seen_once_and_without_a_bus() {
    let mut world = World::new().await;
    let mut child = Command::new("sleep").arg("600").spawn().unwrap();
    let login = || {
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
        Arc::new(Login {
            id: "4".into(),
            path: "/its/path".into(),
            uid: 1000,
            since: 1,
            seat: None,
            remote: true,
            leader: Leader { pid: child.id(), started: 7, pidfd },
        })
    };
    world.book.births.send(login()).unwrap();
    world.book.births.send(login()).unwrap();
    world.bus.kill();
    world.heard_nothing_of("/its/path");
    child.kill().unwrap();
    let closed = Told::Sighted("/its/path".into(), Sighting::Closed);
    world.book.hears(closed.clone()).await;
    child.wait().unwrap();
    // A leader that had exited before anybody was bound: seen at once, and after all that came before.
    let mut other = Command::new("true").spawn().unwrap();
    let pid = Pid::from_raw(i32::try_from(other.id()).unwrap()).unwrap();
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).unwrap();
    other.wait().unwrap();
    let leader = Leader { pid: other.id(), started: 8, pidfd };
    let (id, path, seat) = ("5".into(), "/other".into(), None);
    world
        .book
        .births
        .send(Arc::new(Login { id, path, uid: 1000, since: 1, seat, remote: false, leader }))
        .unwrap();
    world.book.hears(Told::Sighted("/other".into(), Sighting::Closed)).await;
    assert_eq!(world.book.count(&closed), 1);
}

impl World {
    fn heard_nothing_of(&self, wanted: &str) {
        let of = |told: &Told| matches!(told, Told::Sighted(path, _) if path == wanted);
        assert!(!self.book.told().iter().any(of));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_sessions_are_looked_at_again_and_again() {
    let world = World::new().await;
    eventually("further looks", || world.book.count(&Told::LookAgain) >= 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sleep_that_nobody_announced_locks() {
    let world = World::new().await;
    world.hand.sleep(Duration::from_secs(3));
    assert!(world.slept.unaccounted().is_some(), "whoever is about to admit something knows at once");
    world.book.hears(Told::Woke).await;
    assert_eq!(world.book.told(), [Told::LockAll(LockCause::ClockJump), Told::Woke]);
    assert_eq!(world.slept.unaccounted(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_logind_a_sleep_is_still_seen() {
    let world = World::new().await;
    let (book, hand) = (super::live_world::Book::new(), Arc::clone(&world.hand));
    let clock = Arc::clone(&hand) as Arc<dyn Clock>;
    let slept = Arc::new(crate::clock::Slept::new(Arc::clone(&clock)));
    let sessions = Arc::clone(&book) as Arc<dyn Watcher>;
    let watch = Watched { sessions, logind: None, clock, slept }.start();
    assert!(watch.warnings().iter().any(|warning| warning.contains("no logind")));
    hand.sleep(Duration::from_secs(60));
    book.hears(Told::Woke).await;
    assert_eq!(book.told(), [Told::LockAll(LockCause::ClockJump), Told::Woke]);
    assert_eq!(book.count(&Told::LookAgain), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_ends_locks_everything() {
    let world = World::new().await;
    let (book, notes) = (super::live_world::Book::new(), Arc::new(super::notes::Notes::default()));
    let watched = Watched {
        sessions: Arc::clone(&book) as Arc<dyn Watcher>,
        logind: None,
        clock: Arc::clone(&world.hand) as Arc<dyn Clock>,
        slept: Arc::clone(&world.slept),
    };
    let broken = Box::pin(async { unreachable!("on purpose") });
    let guarded = super::guarded(&super::signals::KIND, Arc::new(watched), Arc::clone(&notes), broken);
    let guarded = tokio::spawn(guarded);
    book.hears(Told::LockAll(LockCause::BusLost)).await;
    assert!(notes.all().iter().any(|warning| warning.contains("`signals` ended")));
    guarded.abort();
}
