//! Launches step by step, each over the real register: what is minted for which scope, and who is told what.

use std::time::Duration;

use mcp_broker_proto::channel::{Containment, GoneReason, ToBroker, ToLauncher};
use mcp_broker_proto::problem::ErrorCode;
use mcp_broker_proto::session::LaunchState;

use crate::config::Scope;
use crate::session::testing::{Client, world};

fn started(instance: u32, scope: &str) -> ToBroker {
    let scope = scope.parse().unwrap();
    ToBroker::Started { instance, scope, pid: 4000 + instance, containment: Containment::SubReaper }
}

async fn refused(client: &mut Client) -> (String, ErrorCode) {
    match client.hear().await {
        Some(ToLauncher::Refused { scope, problem }) => (scope.to_string(), problem.code),
        other => panic!("no refusal but {other:?}"),
    }
}

#[tokio::test]
async fn scopes_are_minted_for_at_once_and_numbered_together() {
    let world = world();
    world.redefine(|server| server.scopes[1].idle = Some(Duration::from_secs(77)));
    let (_login, _session, mut client) = world.launched(1, true).await;
    client.want("more").await;
    // One request of a scope is open already.
    client.want("all").await;
    let mut tickets = [client.ticket().await, client.ticket().await];
    tickets.sort_by_key(|ticket| ticket.instance);
    let told = tickets.each_ref().map(|one| (one.instance, one.scope.as_str(), one.idle_secs));
    assert_eq!(told, [(0, "all", 900), (1, "more", 77)]);
    assert_eq!((tickets[0].credentials.len(), tickets[1].credentials.len()), (2, 1));
    let leases: Vec<_> = world.leases.infos().into_iter().map(|lease| lease.scope.to_string()).collect();
    assert_eq!(leases.iter().filter(|scope| *scope == "more").count(), 1, "{leases:?}");

    client.say(&started(1, "more")).await;
    client.say(&started(0, "all")).await;
    client.want("nonsense").await;
    assert_eq!(refused(&mut client).await, ("nonsense".to_owned(), ErrorCode::NoAccess));
    let shown = world.shown(client.launch);
    let running: Vec<_> =
        shown.running.iter().map(|one| (one.instance, one.scope.as_str(), one.pid)).collect();
    assert_eq!((shown.state, running), (LaunchState::Running, vec![(0, "all", 4000), (1, "more", 4001)]));

    // One is given up: its credentials end, the other scope's stay.
    client.say(&ToBroker::Gone { instance: 1, reason: GoneReason::Idle }).await;
    let audited = world.audited(|events| events.iter().any(|one| one["event"] == "instance_gone")).await;
    let gone = audited.iter().find(|one| one["event"] == "instance_gone").unwrap();
    assert_eq!((gone["scope"].as_str(), gone["reason"].as_str()), (Some("more"), Some("idle")));
    assert_eq!(world.shown(client.launch).running.len(), 1);
}

#[tokio::test]
async fn a_scope_has_four_instances_at_most() {
    let world = world();
    let (_login, _session, mut client) = world.launched(2, false).await;
    for number in 0..4 {
        client.want("all").await;
        assert_eq!(client.ticket().await.instance, number);
    }
    client.want("all").await;
    assert_eq!(refused(&mut client).await, ("all".to_owned(), ErrorCode::TooMany));
    client.want("more").await;
    assert_eq!(client.ticket().await.scope.as_str(), "more");
}

#[tokio::test]
async fn another_definition_is_told_and_held_to() {
    let world = world();
    let (_login, _session, mut client) = world.launched(3, false).await;
    assert_eq!(client.plan.scopes.len(), 2);
    // A reload that changes nothing of the server says nothing.
    world.redefine(|_| {});
    world.redefine(|server| drop(server.scopes.pop()));
    let Some(ToLauncher::Plan(plan)) = client.hear().await else { panic!("no plan") };
    assert_eq!((plan.launch, plan.scopes.len()), (client.launch, 1));
    client.want("more").await;
    assert_eq!(refused(&mut client).await.1, ErrorCode::NoAccess);

    world.redefine(|server| server.access.users.clear());
    client.want("all").await;
    assert_eq!(refused(&mut client).await, ("all".to_owned(), ErrorCode::NoAccess));
    assert_eq!(world.shown(client.launch).state, LaunchState::Parked);
}

#[tokio::test]
async fn what_one_scope_loses_does_not_park_the_others() {
    let world = world();
    let (_login, _session, mut client) = world.launched(4, true).await;
    let first = client.ticket().await;
    client.want("more").await;
    let more = client.ticket().await;
    let lease = more.credentials.values().next().unwrap().lease;
    world.sessions.lost_credential(client.launch, lease);
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Replace { instance: 1, within_secs: 0 })), "{told:?}");
    client.say(&ToBroker::Gone { instance: 1, reason: GoneReason::Replaced }).await;
    client.want("nonsense").await;
    refused(&mut client).await;
    let lease = first.credentials.values().next().unwrap().lease;
    world.sessions.lost_credential(client.launch, lease);
    let told = client.hear().await;
    assert!(matches!(told, Some(ToLauncher::Park(_))), "nothing else is there: {told:?}");
}

#[tokio::test]
async fn scopes_that_are_being_minted_for_count() {
    let world = world();
    world.redefine(|server| {
        let scope = |number: usize| {
            Scope::of_all(
                format!("s{number}").parse().unwrap(),
                server.scopes[0].credentials.clone(),
                Vec::new(),
            )
        };
        server.scopes = (0..20).map(scope).collect();
    });
    let (_login, _session, mut client) = world.launched(5, false).await;
    for number in 0..20 {
        client.want(&format!("s{number}")).await;
    }
    let (mut tickets, mut refusals) = (0, 0);
    for _ in 0..20 {
        match client.hear().await {
            Some(ToLauncher::Ticket(_)) => tickets += 1,
            Some(ToLauncher::Refused { problem, .. }) if problem.code == ErrorCode::TooMany => refusals += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((tickets, refusals), (16, 4));
}
