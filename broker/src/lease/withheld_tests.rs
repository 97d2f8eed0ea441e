//! What is said of credentials that were ended and cannot be revoked: that they live, and until when; through restarts
//! of the broker, and no longer than they do.

use super::*;

use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::{LeaseInfo, LeaseState};

use crate::clock::shown;

/// A world whose credentials live until that many seconds from now, whatever is done.
fn bounded(name: &str, seconds: i64) -> World {
    let until = SystemClock.now() + jiff::SignedDuration::from_secs(seconds);
    world(name, Scripted { bounded: Some(until), ..Scripted::default() })
}

/// So many are minted, ended and settled.
async fn ended(world: &World, count: usize) -> Vec<LeaseId> {
    let minted = world.leases.mint(&grant(count), &tag(SessionId::fresh(), &CancellationToken::new())).await;
    let mut ids: Vec<_> = minted.unwrap().iter().map(|one| one.lease).collect();
    world.leases.end(ids.iter().copied(), EndReason::Locked);
    while !world.leases.infos().is_empty() {
        tokio::task::yield_now().await;
    }
    ids.sort();
    ids
}

fn assert_told(told: &[LeaseInfo], ids: &[LeaseId], until: jiff::Timestamp) {
    let mut of: Vec<_> = told.iter().map(|lease| lease.id).collect();
    of.sort();
    assert_eq!(of, ids);
    for lease in told {
        assert_eq!((lease.state, lease.withheld), (LeaseState::RevocationPending, true));
        assert_eq!(lease.expires_at.as_deref(), Some(shown(until).as_str()));
        assert_eq!((lease.user.as_str(), lease.server.as_str()), ("alice", "orders"));
        assert_eq!(lease.revocability, Revocability::Bounded { seconds: 900 });
        assert_eq!(lease.detail.as_deref(), Some("its name"));
        assert!(lease.delivered.is_empty() && lease.renews_at.is_none() && lease.trouble.is_none());
    }
}

/// Every record is on the disk once a later one is.
async fn on_disk(world: &World) {
    let id = LeaseId::fresh();
    let what = super::super::record::What::Orphan { provider: "bao".parse().unwrap() };
    world.leases.book.intend(id, what).durable().await.unwrap();
    world.leases.book.step(super::super::record::Record::Settled { id }).unwrap().durable().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_revoked_is_told_until_its_end_and_is_waited_for_by_nobody() {
    let world = bounded("withheld", 600);
    let until = world.truth.bounded.unwrap();
    let ids = ended(&world, 2).await;
    assert_told(&world.leases.withheld(), &ids, until);
    world.leases.end(ids.iter().copied(), EndReason::Revoked);
    assert_eq!(world.truth.asked.load(Ordering::Relaxed), 2, "nothing more is done about them");
    // The parent is a credential that can be revoked; nothing is left to wait for behind it.
    world.leases.end_the_rest(EndReason::BrokerStopping);
    assert_eq!(world.leases.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(world.leases.withheld().len(), 2);
}

/// Also by a broker that was killed, and by one after that.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_brokers_tell_of_them_as_well() {
    let mut world = bounded("withheld-restart", 600);
    let until = world.truth.bounded.unwrap();
    let ids = ended(&world, 2).await;
    on_disk(&world).await;
    for _ in 0..2 {
        let asked = world.truth.asked.load(Ordering::Relaxed);
        world = reopen(world.directory.clone(), Arc::clone(&world.truth));
        assert_told(&world.leases.withheld(), &ids, until);
        assert_eq!(world.leases.recover().leases, 0, "they are settled");
        assert_eq!(world.leases.drain(Duration::from_secs(20)).await, 0);
        let asked = world.truth.asked.load(Ordering::Relaxed) - asked;
        assert!(asked <= 1, "the parent is revoked, and they are not");
        assert_told(&world.leases.withheld(), &ids, until);
    }
    world.truth.clock.0.store(601, Ordering::Relaxed);
    let third = reopen(world.directory.clone(), Arc::clone(&world.truth));
    assert!(third.leases.withheld().is_empty(), "they have ended");
}

/// A broker that was killed while they were alive: its successor finds out that they cannot be revoked.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_crash_left_alive_is_told_after_the_restart() {
    let first = bounded("withheld-crash", 600);
    let until = first.truth.bounded.unwrap();
    let minted = first.leases.mint(&grant(2), &tag(SessionId::fresh(), &CancellationToken::new())).await;
    let mut ids: Vec<_> = minted.unwrap().iter().map(|one| one.lease).collect();
    ids.sort();
    on_disk(&first).await;
    let second = reopen(first.directory.clone(), Arc::clone(&first.truth));
    assert!(second.leases.withheld().is_empty(), "nothing is known yet");
    assert_eq!(second.leases.recover().leases, 2);
    assert_eq!(second.leases.drain(Duration::from_secs(20)).await, 0);
    assert_told(&second.leases.withheld(), &ids, until);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_by_itself_is_not_told() {
    let world = bounded("withheld-over", -1);
    ended(&world, 1).await;
    assert!(world.leases.withheld().is_empty());
}
