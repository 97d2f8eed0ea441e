//! The wall clock is set while a credential is alive: by a day and by ten years, forwards and backwards. Nothing
//! lives longer for it, nothing is ended early by it, and what is minted after it ends in time as well. OpenBao and
//! PostgreSQL keep the machine's own clock: only the broker's is moved.
//!
//! Not proved: a leap second, and a backend whose clock is set too.

use std::fs;
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use e2e::World;
use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::process::alive;
use e2e::tempdir::write;
use serde_json::json;

const DAY: i64 = 86_400;
const TEN_YEARS: i64 = 3_653 * DAY;

/// What OpenBao gives a lease at first, and by renewals in all; seconds.
const TTL: u64 = 8;
const MAX_TTL: u64 = 24;

fn world() -> World {
    let options = json!({ "default_ttl": format!("{TTL}s"), "max_ttl": format!("{MAX_TTL}s") });
    let mut world = World::user().vault_with(options).with_fault_points().probe("orders-db", &[]);
    let file = world.path().join("clock");
    write(&file, "0 0", 0o644, ALICE.uid, ALICE.uid);
    world.set_variable("MCP_BROKER_FAULT_CLOCK", Some(file.display().to_string()));
    world.start()
}

/// Sets the broker's wall clock. The file is replaced: the broker never reads half of it.
fn set_wall_clock(world: &World, seconds: i64) {
    let (new, file) = (world.path().join("clock.new"), world.path().join("clock"));
    write(&new, &format!("{seconds} 0"), 0o644, ALICE.uid, ALICE.uid);
    fs::rename(new, file).expect("both are ours");
}

fn a_lease_through_a_jump(seconds: i64) {
    let mut world = world();
    let mut client = world.launch(ALICE, "orders-db");
    let minted = Instant::now();
    let [user] = &world.users()[..] else { panic!("{seconds}: one user is minted") };
    let user = user.clone();
    set_wall_clock(&world, seconds);

    // Past what it was given at first: it was renewed, and the launch goes on.
    sleep(Duration::from_secs(TTL + 4).saturating_sub(minted.elapsed()));
    assert_eq!(world.users(), std::slice::from_ref(&user), "{seconds}: it is not ended by the jump");
    assert_eq!(client.call("echo", json!({})), "{}", "{seconds}: the launch goes on");
    assert!(world.proxy().count("sys/leases/renew") > 0);

    // The launch ends before its credential does, by the clock that nobody can set.
    let instances = world.instances();
    let left = Duration::from_secs(MAX_TTL).saturating_sub(minted.elapsed());
    within(left + Duration::from_secs(1), "the instance is gone when its credential is", || {
        so(instances.iter().all(|pid| !alive(*pid)))
    });
    client.process.kill9();
    within(Duration::from_secs(5), "and so is the user", || so(!world.users().contains(&user)));

    // What is minted under the moved clock has a life as long as any.
    let mut after = world.launch(ALICE, "orders-db");
    assert_eq!(world.users().len(), 1, "{seconds}");
    assert_eq!(after.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn a_clock_that_is_set_changes_no_life() {
    scope(|scope| {
        for seconds in [DAY, -DAY, TEN_YEARS, -TEN_YEARS] {
            scope.spawn(move || a_lease_through_a_jump(seconds));
        }
    });
}

/// OpenBao is away while the clock is set forwards: what is owed has not expired by that, and is not forgotten.
#[test]
fn a_debt_does_not_expire_by_a_clock_that_is_set() {
    let mut world = world();
    let mut client = world.launch(ALICE, "orders-db");
    world.proxy().down();
    assert_eq!(client.finish().code(), 0);
    set_wall_clock(&world, TEN_YEARS);
    let tries = world.broker().log().matches("a revocation failed").count();
    within(Duration::from_secs(20), "it is tried again under the new clock", || {
        so(world.broker().log().matches("a revocation failed").count() > tries + 1)
    });
    assert_eq!(world.leases().len(), 1, "it is still owed");
    world.proxy().heal();
    world.assert_settled();
    let expired = world.audit().iter().any(|event| event.to_string().contains("credential_expired"));
    assert!(!expired, "its end was proved");
}
