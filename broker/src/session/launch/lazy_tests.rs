//! Servers that were approved: nothing is minted before a request needs it, and a locked session parks such a launch
//! instead of refusing it.

use std::sync::Arc;

use mcp_broker_proto::channel::{End, EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::session::{LaunchState, LockCause};

use crate::config::{OnLock, Start};
use crate::session::lock::Notice;
use crate::session::testing::{Client, World, login, world};

async fn lazy() -> World {
    let world = world();
    world.redefine(|server| server.start = Start::Lazy);
    world.approve().await;
    world
}

/// Nothing but what was asked for is said: a scope that is not there is refused at once.
async fn is_silent(client: &mut Client) {
    client.want("nonsense").await;
    let next = client.hear().await;
    assert!(
        matches!(&next, Some(ToLauncher::Refused { scope, .. }) if scope.as_str() == "nonsense"),
        "{next:?}"
    );
}

#[tokio::test]
async fn an_approved_server_waits_for_a_request() {
    let world = lazy().await;
    let (_login, _session, mut client) = world.launched(1, true).await;
    let record = client.plan.record.clone().unwrap();
    assert!(client.plan.lazy && record.approved_at.parse::<jiff::Timestamp>().is_ok());
    assert_eq!(record.variants[0].scopes.len(), 2);
    is_silent(&mut client).await;
    let shown = world.shown(client.launch);
    assert_eq!((shown.state, shown.approved), (LaunchState::Idle, Some(record.approved_at)));
    assert!(world.leases.infos().is_empty() && world.backend.made.lock().unwrap().is_empty());
    client.want("more").await;
    assert_eq!(client.ticket().await.scope.as_str(), "more");
    let leases = world.leases.infos();
    assert_eq!((leases.len(), leases[0].scope.as_str()), (1, "more"));
}

#[tokio::test]
async fn an_eager_one_starts_at_once() {
    let world = lazy().await;
    world.redefine(|server| server.start = Start::Eager);
    let (_login, _session, mut client) = world.launched(2, true).await;
    assert!(!client.plan.lazy && client.plan.record.is_some());
    assert_eq!(client.ticket().await.scope.as_str(), "all");
}

#[tokio::test]
async fn what_is_not_approved_starts_at_once() {
    let world = world();
    world.redefine(|server| server.start = Start::Lazy);
    let (_login, _session, mut client) = world.launched(3, true).await;
    assert_eq!((client.plan.lazy, client.plan.record.is_none()), (false, true));
    client.ticket().await;
    assert_eq!(world.shown(client.launch).approved, None);
    // Approved meanwhile: the plan says so before the next thing, and nothing is minted again.
    world.approve().await;
    client.want("more").await;
    let next = client.hear().await;
    assert!(matches!(&next, Some(ToLauncher::Plan(plan)) if plan.lazy && plan.record.is_some()), "{next:?}");
    assert_eq!(client.ticket().await.scope.as_str(), "more");
    assert!(world.shown(client.launch).approved.is_some());
    // Defined otherwise: the approval does not hold for that.
    world.redefine(|server| server.command.push("--more".to_owned()));
    let next = client.hear().await;
    assert!(matches!(&next, Some(ToLauncher::Plan(plan)) if !plan.lazy && plan.record.is_none()), "{next:?}");
}

#[tokio::test]
async fn a_locked_session_parks_it_and_an_unlock_brings_it_back() {
    let world = lazy().await;
    let login = Arc::new(login(4));
    let session = world.sessions.sign_in(&world.asking(&login)).await.unwrap();
    let lock = |cause| world.sessions.notice(session, Notice::Lock(cause), None);
    lock(LockCause::Command).await;

    let mut client = Client::of(world.connect(&login, true).await.unwrap()).await;
    assert!(client.plan.lazy);
    let next = client.hear().await;
    let Some(ToLauncher::Park(park)) = next else { panic!("not parked but {next:?}") };
    assert!(park.what.contains("locked") && park.hint.contains("unlock"), "{park:?}");
    assert_eq!(world.shown(client.launch).state, LaunchState::Parked);
    client.say(&ToBroker::Dead).await;
    client.want("all").await;
    let next = client.hear().await;
    assert!(matches!(&next, Some(ToLauncher::Refused { .. })), "{next:?}");
    // Another lock finds it parked, and one unlock is enough.
    drop(lock(LockCause::Sleep));
    for notice in [Notice::Awake, Notice::Unlock] {
        drop(world.sessions.notice(session, notice, None));
    }
    let next = client.hear().await;
    assert!(matches!(&next, Some(ToLauncher::Resume)), "{next:?}");
    client.want("more").await;
    assert_eq!(client.ticket().await.scope.as_str(), "more");
    assert_eq!(world.backend.alive_in(session), 2, "the scope's credential and the parent");
}

#[tokio::test]
async fn a_locked_session_refuses_what_needs_credentials_at_once() {
    let world = lazy().await;
    let login = Arc::new(login(5));
    let session = world.sessions.sign_in(&world.asking(&login)).await.unwrap();
    world.sessions.notice(session, Notice::Lock(LockCause::Command), None).await;
    world.redefine(|server| server.start = Start::Eager);
    assert!(world.connect(&login, true).await.is_none());
    world.redefine(|server| server.start = Start::Lazy);
    world.reconfigure(|config| config.session.on_lock = OnLock::End);
    assert!(world.connect(&login, true).await.is_none(), "a lock ends launches here");
    world.reconfigure(|_| {});
    let mut client = Client::of(world.connect(&login, true).await.unwrap()).await;
    client.hear().await;
    client.say(&ToBroker::Dead).await;
    // It ends with its session like any other.
    drop(world.sessions.end_session(session, EndReason::LoggedOut));
    let next = client.hear().await;
    assert!(matches!(&next, Some(ToLauncher::End(End { reason: EndReason::LoggedOut, .. }))), "{next:?}");
}

#[tokio::test]
async fn people_see_what_was_approved_of_what_they_may_use() {
    let world = lazy().await;
    let asking = world.asking(&Arc::new(login(6)));
    let shown = world.sessions.servers(&asking);
    let scopes = |at: usize| (shown[0].scopes[at].name.as_str(), shown[0].scopes[at].tools.clone());
    assert!(shown[0].allowed && shown[0].approved.is_some());
    assert_eq!([scopes(0), scopes(1)], [("all", vec!["a_all".into()]), ("more", vec!["a_more".into()])]);
    world.redefine(|server| server.cwd = "/tmp".to_owned());
    let shown = world.sessions.servers(&asking);
    assert_eq!((&shown[0].approved, &shown[0].scopes[1].tools), (&None, &vec!["*_more".to_owned()]));
    world.redefine(|server| server.access.users.clear());
    assert!(world.sessions.servers(&asking)[0].scopes.is_empty());
}
