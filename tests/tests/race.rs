//! A lock or a logout against mints in flight, at random moments: nothing is delivered after the fence, nothing is
//! alive after the end, and PostgreSQL's own list of roles is the judge. The specification's 500 rounds run with
//! `tests/run --full`, 50 otherwise.
//!
//! Not proved: that every interleaving was met; a model of the fence beside the code walks those.

use std::collections::{BTreeMap, BTreeSet};
use std::thread::sleep;
use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::logind::Kind;
use e2e::mcp::Client;
use e2e::{World, eventually, rounds};
use serde_json::{Value, json};

/// A number below `bound` that no seed repeats.
fn random(bound: u64) -> u64 {
    let bytes = *uuid::Uuid::new_v4().as_bytes();
    u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], 0, 0]) % bound
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    ScreenLock,
    Hint,
    Command,
    LogoutCommand,
    SessionRemoved,
    LeaderExits,
    Sleep,
}

const ENDS: [End; 7] = [
    End::ScreenLock,
    End::Hint,
    End::Command,
    End::LogoutCommand,
    End::SessionRemoved,
    End::LeaderExits,
    End::Sleep,
];

impl End {
    fn happens(self, world: &World, session: &str) {
        match self {
            Self::ScreenLock => world.logind().lock(session),
            Self::Hint => world.logind().hint(session, true),
            Self::Command => drop(world.person(ALICE, "lock")),
            Self::LogoutCommand => drop(world.person(ALICE, "logout")),
            Self::SessionRemoved => world.logind().remove(session),
            Self::LeaderExits => world.logind().leader_exits(session),
            Self::Sleep => world.logind().sleep(true),
        }
    }

    /// The next round is another login, so that none has to wait until a lock has lasted.
    fn is_over(self, world: &World, session: &str, next: &str) {
        if self == Self::Sleep {
            world.logind().sleep(false);
        }
        if self != Self::SessionRemoved {
            world.logind().remove(session);
        }
        world.logind().log_in(next, ALICE, Kind::Desktop);
    }
}

fn begin(world: &World) -> Client {
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {} });
    let mut client = world.run(ALICE, &["orders-db"]);
    client.message(&json!({ "jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params }));
    client
}

/// Launches under way, an end at a random moment, and nothing may be alive after it, whatever the launches do.
fn round(world: &World, number: usize, end: End, window_ms: u64) -> usize {
    let (session, next) = (format!("{number}"), format!("{}", number + 1));
    // Some have been there for a while, some are in the middle of it.
    let mut clients: Vec<Client> = (0..random(3)).map(|_| world.launch(ALICE, "orders-db")).collect();
    clients.extend((0..3).map(|_| begin(world)));
    if [End::Command, End::LogoutCommand].contains(&end) {
        // A command finds no session before a launch has begun one, and one that asks after a logout begins
        // another, which is nobody's fault.
        eventually("all launches are admitted", || so(world.launches().len() == clients.len()));
    }
    sleep(Duration::from_millis(random(window_ms)));
    let minted = world.users().len();
    end.happens(world, &session);
    eventually(&format!("round {number}: nothing is left after {end:?}"), || {
        so(world.users().is_empty() && world.instances().is_empty() && world.leases().is_empty())
    });
    // Nothing comes late either: a mint that was in flight would have its user by now.
    sleep(Duration::from_millis(100 + random(200)));
    let late = (world.users(), world.instances());
    assert_eq!(late, (Vec::new(), Vec::new()), "round {number}: alive after {end:?}");
    drop(clients);
    end.is_over(world, &session, &next);
    eventually("no launch is left", || so(world.launches().is_empty()));
    minted
}

/// After a session was locked nothing is delivered to it until it is unlocked, and nothing ever after it has ended.
#[track_caller]
fn assert_fenced(audit: &[Value]) {
    let (mut closed, mut owner) = (BTreeSet::new(), BTreeMap::new());
    let word = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
    let mut delivered = 0;
    for event in audit {
        match event["event"].as_str().unwrap_or_default() {
            "session_locked" | "session_ended" => drop(closed.insert(word(event, "session"))),
            "session_unlocked" => drop(closed.remove(&word(event, "session"))),
            "credential_intended" => drop(owner.insert(word(event, "lease"), word(event, "session"))),
            "credential_delivered" => {
                let session = owner.get(&word(event, "lease")).expect("an intent came before it");
                assert!(!closed.contains(session), "delivered behind the fence: {event}");
                delivered += 1;
            }
            _ => {}
        }
    }
    println!("{delivered} deliveries, {} fences", closed.len());
    assert!(!closed.is_empty(), "no session was ever locked or ended");
}

fn play(mut world: World, window_ms: u64, count: usize) {
    let mut caught = 0;
    for (number, end) in ENDS.into_iter().cycle().take(count).enumerate() {
        caught += round(&world, number + 1, end, window_ms);
    }
    println!("{count} rounds: {caught} users were alive at an end");
    assert_fenced(&world.audit());
    world.assert_settled();
}

fn world(options: Value) -> World {
    World::user().with_logind().vault_with(options).probe("orders-db", &[]).start()
}

#[test]
fn an_end_at_any_moment_of_a_mint_leaves_nothing() {
    play(world(json!({})), 150, rounds(50, 500));
}

/// OpenBao is in the middle of making the users when the session ends.
#[test]
fn an_end_while_users_are_being_made_leaves_nothing() {
    let slow = json!({ "creation_statements": [
        "SELECT pg_sleep(0.4)",
        r#"CREATE ROLE "{{name}}" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}' IN ROLE app_ro"#,
    ] });
    play(world(slow), 700, rounds(14, 140));
}

/// The users are made, and the answers on their way.
#[test]
fn an_end_while_the_answer_is_on_its_way_leaves_nothing() {
    let world = world(json!({}));
    world.proxy().always("database/creds/", e2e::fault::Fault::DelayAnswer(Duration::from_millis(400)));
    play(world, 700, rounds(14, 140));
}

/// The control: the judge of the audit log sees a delivery behind the fence.
#[test]
fn a_delivery_behind_the_fence_would_be_seen() {
    let event = |event: &str, key: &str, value: &str| json!({ "event": event, key: value, "session": "s", "lease": "l" });
    let (locked, unlocked) = (event("session_locked", "a", ""), event("session_unlocked", "a", ""));
    let (intended, delivered) =
        (event("credential_intended", "a", ""), event("credential_delivered", "a", ""));
    assert_fenced(&[intended.clone(), delivered.clone(), locked.clone()]);
    let bad = [intended.clone(), locked.clone(), delivered.clone()];
    assert!(std::panic::catch_unwind(|| assert_fenced(&bad)).is_err());
    assert_fenced(&[intended, locked.clone(), unlocked, delivered, locked]);
}
