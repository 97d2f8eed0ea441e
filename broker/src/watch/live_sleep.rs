//! Sleep and shutdown against a double of logind: the inhibitor is let go when everything is wound up, or when
//! its time is over, and never before.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and starts the real parts")]

use std::time::{Duration, Instant};

use mcp_broker_proto::session::LockCause;

use super::live_world::{Told, World};
use crate::logind::double::{Double, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn sleep_waits_until_everything_is_wound_up() {
    let world = World::new().await;
    assert_eq!(world.double().inhibitors(), (1, 1));
    world.book.wound_up.send_replace(false);
    world.double().manager("PrepareForSleep", &true).await;
    world.book.hears(Told::LockAll(LockCause::Sleep)).await;
    // Other signals are heard meanwhile, and the inhibitor is kept.
    world.heard().await;
    assert_eq!(world.double().inhibitors(), (1, 1));
    world.book.wound_up.send_replace(true);
    eventually("let go", || world.double().inhibitors() == (1, 0)).await;

    world.hand.sleep(Duration::from_secs(600));
    world.double().manager("PrepareForSleep", &false).await;
    world.book.hears(Told::Woke).await;
    assert_eq!(world.double().inhibitors(), (2, 1), "the next one comes first");
    // Locked for this sleep by whoever saw it first, and by nobody after that.
    assert_eq!(world.slept.unaccounted(), None);
    let locks = [Told::LockAll(LockCause::Sleep), Told::LockAll(LockCause::ClockJump)];
    assert!(locks.iter().map(|lock| world.book.count(lock)).sum::<usize>() >= 2, "{:?}", world.book.told());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_winding_up_that_hangs_does_not_hold_up_sleep() {
    let world = World::with(|double| double.state().delay_max = Duration::from_millis(1200)).await;
    world.book.wound_up.send_replace(false);
    let announced = Instant::now();
    world.double().manager("PrepareForSleep", &true).await;
    eventually("let go", || world.double().inhibitors() == (1, 0)).await;
    assert!(announced.elapsed() >= Duration::from_millis(550), "{:?}", announced.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_ends_everything_first() {
    let world = World::new().await;
    world.book.wound_up.send_replace(false);
    world.double().manager("PrepareForShutdown", &true).await;
    world.book.hears(Told::ShutDown).await;
    world.heard().await;
    assert_eq!(world.double().inhibitors(), (1, 1));
    world.book.wound_up.send_replace(true);
    eventually("let go", || world.double().inhibitors() == (1, 0)).await;
    world.double().manager("PrepareForShutdown", &false).await;
    eventually("taken again", || world.double().inhibitors() == (2, 1)).await;
    assert_eq!(world.book.count(&Told::Woke), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_inhibitor_is_said_and_sleep_still_locks() {
    let mut world = World::with(|double| double.state().refuses = true).await;
    assert!(
        world.watch.warnings().iter().any(|warning| warning.contains("refuses")),
        "{:?}",
        world.watch.warnings()
    );
    world.double().manager("PrepareForSleep", &true).await;
    world.book.hears(Told::LockAll(LockCause::Sleep)).await;
    let state = world.double.take().unwrap().stop().await;
    state.lock().unwrap().refuses = false;
    world.double = Some(Double::with(&world.bus, state).await);
    eventually("taken", || world.double().inhibitors() == (1, 1)).await;
    eventually("no warning", || world.watch.warnings().is_empty()).await;
    // That the sleep is over was never said: it counts as over with the logind that announced it.
    world.book.hears(Told::Woke).await;
}
