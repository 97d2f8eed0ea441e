//! Refreshes step by step, each over the real register: what is minted when, who is told what, and what is left.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mcp_broker_proto::channel::{Containment, ToBroker, ToLauncher};
use mcp_broker_proto::launch::{AwsWay, Content, Injection, Refresh, SecretsTicket};
use mcp_broker_proto::names::{Label, LeaseId};
use mcp_broker_proto::problem::ErrorCode;
use mcp_broker_proto::session::{LaunchState, LockCause};

use crate::provider::Blame;
use crate::session::lock::Notice;
use crate::session::testing::{Client, World, world};

/// A file that the server reads again, with these credentials in it.
fn file(name: &str, credentials: &[&str]) -> Injection {
    let line = |name: &&str| ((*name).to_owned(), format!("{{{name}.value}}").parse().unwrap());
    let content = Content::Json(credentials.iter().map(line).collect());
    Injection::File { name: name.to_owned(), content, reread: true, signal: None }
}

/// A world whose first scope is refreshed, `a` and `b` together, and whose credentials live for a minute.
fn refreshing() -> World {
    let world = world();
    world.redefine(|server| {
        server.scopes[0].inject = vec![file("BOTH", &["a", "b"])];
        server.scopes[1].inject =
            vec![Injection::Env { name: "C".to_owned(), value: "{c.value}".parse().unwrap() }];
    });
    *world.backend.life.lock().unwrap() = Some(Duration::from_secs(60));
    world
}

async fn running(world: &World, number: u64) -> (mcp_broker_proto::names::SessionId, Client, SecretsTicket) {
    let (_login, session, mut client) = world.launched(number, true).await;
    let ticket = client.ticket().await;
    let (instance, scope) = (ticket.instance, ticket.scope.clone());
    client.say(&ToBroker::Started { instance, scope, pid: 4000, containment: Containment::SubReaper }).await;
    (session, client, ticket)
}

fn lease(credentials: &BTreeMap<Label, mcp_broker_proto::launch::IssuedCredential>, name: &str) -> LeaseId {
    credentials[&name.parse::<Label>().unwrap()].lease
}

async fn refresh(client: &mut Client) -> Refresh {
    match client.hear().await {
        Some(ToLauncher::Refresh(refresh)) => *refresh,
        other => panic!("no refresh but {other:?}"),
    }
}

fn answer(refresh: &Refresh, failed: Option<&str>) -> ToBroker {
    let leases = refresh.credentials.values().map(|one| one.lease).collect();
    ToBroker::Refreshed { instance: refresh.instance, leases, failed: failed.map(str::to_owned) }
}

/// Waits until everything that was said so far was heard: a scope that is not there is refused.
async fn heard(client: &mut Client) {
    client.want("nonsense").await;
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Refused { .. })), "{told:?}");
}

fn lose(world: &World, client: &Client, lease: LeaseId) {
    world.sessions.losing_credential(client.launch, lease, Duration::from_secs(20));
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    for _ in 0..5_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("{what}");
}

#[tokio::test]
async fn an_instance_is_refreshed_with_all_that_belongs_together() {
    let world = refreshing();
    let (_session, mut client, ticket) = running(&world, 1).await;
    let (a, b) = (lease(&ticket.credentials, "a"), lease(&ticket.credentials, "b"));
    // Both end, and each is said twice: one refresh.
    for old in [a, b, a, b] {
        lose(&world, &client, old);
    }
    let first = refresh(&mut client).await;
    assert_eq!((first.instance, first.credentials.len()), (ticket.instance, 2));
    // What was not asked is passed over, and what was sent is not in place yet.
    client.say(&ToBroker::Refreshed { instance: first.instance, leases: vec![a], failed: None }).await;
    client.say(&ToBroker::Refreshed { instance: 9, leases: Vec::new(), failed: Some(String::new()) }).await;
    heard(&mut client).await;
    assert!(
        world.leases.infos().iter().all(|lease| lease.state == mcp_broker_proto::session::LeaseState::Live)
    );
    client.say(&answer(&first, None)).await;
    client.say(&answer(&first, Some("said once"))).await;
    heard(&mut client).await;
    // The old ones live on for a grace, and nothing is done for them any more.
    assert_eq!(world.leases.infos().len(), 4);
    lose(&world, &client, a);
    world.sessions.lost_credential(client.launch, b);
    heard(&mut client).await;
    lose(&world, &client, lease(&first.credentials, "b"));
    let second = refresh(&mut client).await;
    assert_eq!(second.credentials.len(), 2);
    client.say(&answer(&second, None)).await;
    heard(&mut client).await;
    let audited =
        world.audited(|events| events.iter().filter(|one| one["event"] == "instance_refreshed").count() == 2);
    let audited = audited.await;
    let refreshed: Vec<_> = audited.iter().filter(|one| one["event"] == "instance_refreshed").collect();
    assert!(refreshed.len() == 2 && refreshed.iter().all(|one| one.get("failed").is_none()), "{refreshed:?}");
    assert_eq!(audited.iter().filter(|one| one["event"] == "credential_delivered").count(), 6);
    // What is retired ends with its instance.
    client.say(&ToBroker::Dead).await;
    until("all of it is ended", || world.leases.infos().is_empty()).await;
}

/// A launcher that says until when a credential may be kept hears of each renewal; for one in a file nobody says that.
#[tokio::test]
async fn who_asks_for_a_credential_is_told_that_it_lives_longer() {
    let world = world();
    world.redefine(|server| {
        let credential = "a".parse().unwrap();
        server.scopes[0].inject =
            vec![Injection::Aws { credential, by: AwsWay::Endpoint }, file("B", &["b"])];
    });
    let (_session, mut client, ticket) = running(&world, 11).await;
    let until: jiff::Timestamp = "2026-11-24T06:00:00.25Z".parse().unwrap();
    for name in ["b", "a"] {
        world.sessions.renewed_credential(client.launch, lease(&ticket.credentials, name), until);
    }
    // Refused behind it, so that a word that does not come is missed.
    client.want("nonsense").await;
    match client.hear().await {
        Some(ToLauncher::Renewed { lease: told, expires_at }) => {
            assert_eq!((told, expires_at), (lease(&ticket.credentials, "a"), until.to_string()));
        }
        other => panic!("{other:?}"),
    }
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Refused { .. })), "{told:?}");
}

#[tokio::test]
async fn what_is_in_the_environment_is_replaced_as_before() {
    let world = refreshing();
    let (_session, mut client, _) = running(&world, 2).await;
    client.want("more").await;
    let more = client.ticket().await;
    lose(&world, &client, lease(&more.credentials, "c"));
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Replace { instance: 1, within_secs: 20 })), "{told:?}");
}

/// The provider is down past the end of the credential: nothing is killed or parked, and the refresh comes later.
#[tokio::test]
async fn a_provider_that_is_down_is_tried_again() {
    let world = refreshing();
    *world.backend.life.lock().unwrap() = Some(Duration::from_secs(1));
    let (_session, mut client, ticket) = running(&world, 3).await;
    *world.backend.refuses.lock().unwrap() = Some(Blame::Unreachable);
    for name in ["a", "b"] {
        lose(&world, &client, lease(&ticket.credentials, name));
        world.sessions.lost_credential(client.launch, lease(&ticket.credentials, name));
    }
    heard(&mut client).await;
    until("they run out", || world.leases.infos().is_empty()).await;
    assert_eq!(world.shown(client.launch).state, LaunchState::Running);
    *world.backend.refuses.lock().unwrap() = None;
    let late = refresh(&mut client).await;
    client.say(&answer(&late, None)).await;
    heard(&mut client).await;
    assert_eq!(world.shown(client.launch).running.len(), 1);
}

#[tokio::test]
async fn what_is_refused_for_good_is_replaced() {
    let world = refreshing();
    let (_session, mut client, ticket) = running(&world, 4).await;
    *world.backend.refuses.lock().unwrap() = Some(Blame::Refused);
    for name in ["a", "b", "a"] {
        lose(&world, &client, lease(&ticket.credentials, name));
    }
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Replace { instance: 0, within_secs: 50.. })), "{told:?}");
    // It is said once, and what comes of it is the launcher's.
    lose(&world, &client, lease(&ticket.credentials, "a"));
    heard(&mut client).await;
    client.want("all").await;
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Refused { .. })), "{told:?}");
    world.sessions.lost_credential(client.launch, lease(&ticket.credentials, "a"));
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Park(_))), "{told:?}");
}

#[tokio::test]
async fn what_could_not_be_put_in_place_is_ended_and_replaced() {
    let world = refreshing();
    let (_session, mut client, ticket) = running(&world, 5).await;
    lose(&world, &client, lease(&ticket.credentials, "a"));
    let new = refresh(&mut client).await;
    client.say(&answer(&new, Some("the directory is full"))).await;
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Replace { instance: 0, within_secs: 50.. })), "{told:?}");
    until("the new ones are ended", || world.leases.infos().len() == 2).await;
    let old: Vec<_> = world.leases.infos().into_iter().map(|lease| lease.id).collect();
    assert!(ticket.credentials.values().all(|one| old.contains(&one.lease)));
    let failed = world.audited(|events| events.iter().any(|one| one["event"] == "instance_refreshed")).await;
    assert!(failed.iter().any(|one| one["event"] == "instance_refreshed" && one["failed"] == true));
}

#[tokio::test]
async fn another_definition_is_another_instance() {
    for (number, change) in [(6, "command"), (7, "credential"), (8, "nothing")] {
        let world = refreshing();
        let (_session, mut client, ticket) = running(&world, number).await;
        world.redefine(|server| match change {
            "command" => server.command.push("--new".to_owned()),
            "credential" => drop(server.scopes[0].credentials.pop()),
            _ => {}
        });
        lose(&world, &client, lease(&ticket.credentials, "a"));
        let told = client.hear().await;
        match change {
            "nothing" => assert!(matches!(told, Some(ToLauncher::Refresh(_))), "{told:?}"),
            _ => assert!(matches!(told, Some(ToLauncher::Replace { instance: 0, .. })), "{change}: {told:?}"),
        }
    }
}

#[tokio::test]
async fn a_lock_during_a_refresh_leaves_nothing() {
    let world = refreshing();
    let (session, mut client, ticket) = running(&world, 9).await;
    lose(&world, &client, lease(&ticket.credentials, "a"));
    let sent = refresh(&mut client).await;
    drop(world.sessions.notice(session, Notice::Lock(LockCause::Command), None));
    assert!(matches!(client.hear().await, Some(ToLauncher::Park(_))));
    client.say(&answer(&sent, None)).await;
    client.say(&ToBroker::Dead).await;
    until("all is ended", || world.backend.alive_in(session) == 0).await;
    assert!(world.leases.infos().is_empty());

    // One that is being minted when the lock comes is not delivered.
    drop(world.sessions.notice(session, Notice::Unlock, None));
    assert!(matches!(client.hear().await, Some(ToLauncher::Resume)));
    client.want("all").await;
    let ticket = client.ticket().await;
    world.backend.slow.store(200, Ordering::Relaxed);
    lose(&world, &client, lease(&ticket.credentials, "a"));
    until("it is being minted", || world.leases.infos().len() == 4).await;
    drop(world.sessions.notice(session, Notice::Lock(LockCause::Command), None));
    assert!(matches!(client.hear().await, Some(ToLauncher::Park(_))));
    client.say(&ToBroker::Dead).await;
    until("all is ended", || world.backend.alive_in(session) == 0).await;
    heard(&mut client).await;
}

/// Access that is lost while something is minted keeps that from being delivered, the first time and later.
#[tokio::test]
async fn nothing_is_delivered_after_access_was_lost() {
    let world = refreshing();
    world.backend.slow.store(200, Ordering::Relaxed);
    let (_login, session, mut client) = world.launched(10, true).await;
    until("it is being minted", || !world.leases.infos().is_empty()).await;
    let users = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        world.redefine(|server| server.access.users = names);
    };
    users(&[]);
    match client.hear().await {
        Some(ToLauncher::Refused { problem, .. }) => assert_eq!(problem.code, ErrorCode::NoAccess),
        other => panic!("{other:?}"),
    }
    until("it is ended", || world.leases.infos().is_empty()).await;
    users(&["root"]);
    tokio::time::sleep(Duration::from_millis(600)).await;
    client.want("all").await;
    let ticket = client.ticket().await;
    lose(&world, &client, lease(&ticket.credentials, "a"));
    until("it is being minted", || world.leases.infos().len() == 4).await;
    users(&[]);
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Replace { instance: 1, .. })), "{told:?}");
    until("the new ones are ended", || world.leases.infos().len() == 2).await;
    // The parent is alive as well.
    assert_eq!(world.backend.alive_in(session), 3);
}
