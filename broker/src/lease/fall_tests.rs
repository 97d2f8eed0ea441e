//! Credentials that end with the parent above them, and every way in which that may not come true.

use super::*;

use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::LeaseState;
use tokio::time::Instant;

use crate::lease::Parents;

/// A session whose fence has fallen, and whose three credentials are being ended.
struct Fallen {
    world: World,
    session: SessionId,
    ids: Vec<LeaseId>,
    parents: Parents,
}

async fn fallen(name: &str, truth: Scripted) -> Fallen {
    let world = world(name, truth);
    let (session, fence) = (SessionId::fresh(), CancellationToken::new());
    let minted = world.leases.mint(&grant(3), &tag(session, &fence)).await.unwrap();
    let ids: Vec<_> = minted.iter().map(|one| one.lease).collect();
    fence.cancel();
    let parents = world.leases.take_parents(session);
    world.leases.end(ids.iter().copied(), EndReason::Locked);
    Fallen { world, session, ids, parents }
}

impl Fallen {
    /// Waits until nothing has to be ended by itself.
    async fn shed(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        self.world.leases.shed(self.session, None, LeaseId::fresh(), deadline).await;
        assert!(Instant::now() < deadline);
    }

    async fn end_parents(&self) -> usize {
        self.world.leases.end_parents(&self.parents, EndReason::Locked);
        let settled = self.world.leases.drain(Duration::from_secs(20)).await;
        assert_eq!((settled, self.world.truth.alive()), (0, 0), "whatever happened, all is gone");
        self.asked()
    }

    /// How many revocations were asked for.
    fn asked(&self) -> usize {
        self.world.truth.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_revocation_ends_all_that_hangs_below() {
    let fallen = fallen("below", Scripted { falls: Falls::Yes, ..Scripted::default() }).await;
    let mut outcomes = fallen.world.leases.outcomes();
    fallen.shed().await;
    let states: Vec<_> = fallen.world.leases.infos().iter().map(|lease| lease.state).collect();
    assert_eq!(states, [LeaseState::RevocationPending; 3], "nothing is claimed before it is proved");
    assert_eq!((fallen.asked(), fallen.world.truth.alive()), (0, 4));
    assert_eq!(fallen.end_parents().await, 1);
    let mut verified = Vec::new();
    while let Ok((id, outcome)) = outcomes.try_recv() {
        assert_eq!(outcome, super::super::Outcome::Verified);
        verified.push(id);
    }
    assert!(fallen.ids.iter().all(|id| verified.contains(id)), "{verified:?}");
}

/// It is looked at, and not concluded: what lives on is revoked by itself.
#[tokio::test(flavor = "multi_thread")]
async fn what_survives_its_parent_is_ended_by_itself() {
    let fallen = fallen("survives", Scripted { falls: Falls::Survives, ..Scripted::default() }).await;
    fallen.shed().await;
    assert_eq!(fallen.end_parents().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_does_not_fall_holds_nothing_up() {
    let come_back = Some(Duration::from_secs(3));
    let truth =
        Scripted { falls: Falls::Yes, failing_revocations: 1.into(), come_back, ..Scripted::default() };
    let fallen = fallen("stuck", truth).await;
    fallen.shed().await;
    let begun = Instant::now();
    fallen.world.leases.end_parents(&fallen.parents, EndReason::Locked);
    until(|| fallen.world.leases.infos().is_empty()).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "before the parent was tried again");
    assert_eq!(fallen.asked(), 4);
    assert_eq!(fallen.end_parents().await, 5);
}

/// The launch of another credential does not die, or nobody is there who would end the parent.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_whose_end_does_not_begin_is_not_waited_for() {
    let fallen = fallen("doomed", Scripted { falls: Falls::Yes, ..Scripted::default() }).await;
    fallen.shed().await;
    until(|| fallen.world.leases.infos().is_empty()).await;
    assert_eq!((fallen.asked(), fallen.world.truth.alive()), (3, 1));
    assert_eq!(fallen.end_parents().await, 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_left_to_its_parent_is_ended_by_itself() {
    for (name, falls) in [("own", Falls::No), ("cannot", Falls::CannotShed)] {
        let fallen = fallen(name, Scripted { falls, ..Scripted::default() }).await;
        fallen.shed().await;
        assert_eq!((fallen.asked(), fallen.world.truth.alive()), (3, 1), "before the parent");
        assert_eq!(fallen.end_parents().await, 4);
    }
}

/// In a session that goes on, and for one that ends later than its parent.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_that_stands_or_is_gone_is_not_waited_for() {
    let world = world("stands", Scripted { falls: Falls::Yes, ..Scripted::default() });
    let session = SessionId::fresh();
    let minted = world.leases.mint(&grant(2), &tag(session, &CancellationToken::new())).await.unwrap();
    world.leases.end([minted[0].lease], EndReason::Idle);
    until(|| world.leases.infos().len() == 1).await;
    assert_eq!((world.truth.asked.load(Ordering::Relaxed), world.truth.alive()), (1, 2));
    let parents = world.leases.take_parents(session);
    world.leases.end_parents(&parents, EndReason::Locked);
    until(|| world.truth.alive() == 0).await;
    until(|| world.leases.unlisted_pending() == 0).await;
    world.leases.end([minted[1].lease], EndReason::Locked);
    assert_eq!(world.leases.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(world.truth.asked.load(Ordering::Relaxed), 2, "a look was enough");
}
