//! The dead man's switch: a broker that is killed, frozen or cut off renews nothing, so that OpenBao ends everything
//! within the period of the session's token and five seconds; a launcher that hears nothing kills by itself.

use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::fault::Fault;
use e2e::parts::seen;
use e2e::pipe::Pipe;
use e2e::sdk::Sdk;
use e2e::{PATIENCE, World, eventually};
use serde_json::json;

/// The period of a session's token in these tests, seconds.
const PERIOD: u32 = 5;
/// After so long a launcher that hears nothing gives its broker up.
const SILENCE: Duration = Duration::from_secs(15);

fn world() -> World {
    world_of(PERIOD)
}

fn world_of(period: u32) -> World {
    let stateless = [seen::PYTHON_2, "-B", seen::STATELESS];
    World::user().dead_man(period).vault().server("orders-db", &stateless).start()
}

/// A conversation under way that has outlived some periods, as renewals do their work.
fn conversation(world: &World) -> Pipe {
    let mut pipe = world.converse(ALICE, Sdk::Two, "orders-db");
    let user = pipe.must_call("whoami", json!({}));
    std::thread::sleep(Duration::from_secs(2 * u64::from(PERIOD) + 2));
    assert_eq!(pipe.must_call("whoami", json!({})), user, "a healthy session lives on");
    assert_eq!(world.users(), [user]);
    pipe
}

/// The period, what the promise adds to it, and what a loaded machine may need to look.
fn bound(world: &World) -> Duration {
    world.dead_man_and_a_little() + Duration::from_secs(3)
}

#[track_caller]
fn works_again(pipe: &mut Pipe) {
    within(2 * PATIENCE, "a call works again", || {
        let called = pipe.call("whoami", json!({}));
        if called.failed {
            assert!(called.text.contains("executed: "), "{called:?}");
        }
        so(!called.failed && called.text.starts_with("v-"))
    });
}

#[test]
fn a_broker_that_is_killed_leaves_nothing_behind() {
    let mut world = world();
    let mut pipe = conversation(&world);
    world.broker().kill9();
    within(bound(&world), "OpenBao has ended the user", || so(world.users().is_empty()));
    world.assert_dark();
    pipe.call("whoami", json!({})).assert_not_executed(&[]);
    world.restart();
    works_again(&mut pipe);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}

/// Frozen, it holds its connections open: nobody sees by the socket that it is gone.
#[test]
fn a_broker_that_is_frozen_leaves_nothing_behind() {
    let mut world = world();
    let mut pipe = conversation(&world);
    world.broker().process.signal(libc::SIGSTOP);
    within(bound(&world), "OpenBao has ended the user", || so(world.users().is_empty()));
    within(SILENCE + PATIENCE, "the launcher has killed its instance", || so(world.instances().is_empty()));
    pipe.call("whoami", json!({})).assert_not_executed(&[]);
    world.broker().process.signal(libc::SIGCONT);
    works_again(&mut pipe);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}

/// A frozen broker that nobody wakes is killed, and the next one settles what it left.
#[test]
fn a_frozen_broker_can_be_replaced() {
    let mut world = world();
    let mut pipe = conversation(&world);
    world.broker().process.signal(libc::SIGSTOP);
    within(SILENCE + PATIENCE, "the launcher has killed its instance", || so(world.instances().is_empty()));
    world.restart();
    works_again(&mut pipe);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}

/// OpenBao cannot be reached, or takes requests and never answers: parked, and back without a person's help.
#[test]
fn an_openbao_that_is_cut_off_parks_and_resumes_by_itself() {
    for hangs in [false, true] {
        let mut world = world();
        let mut pipe = conversation(&world);
        if hangs {
            world.proxy().always("*", Fault::Delay(Duration::from_secs(600)));
        } else {
            world.proxy().down();
        }
        within(bound(&world), "OpenBao has ended the user", || so(world.users().is_empty()));
        // A server that is left alone with a dead credential is no use: it goes, and the client is told.
        eventually("the instance is gone", || so(world.instances().is_empty()));
        world.assert_parked(1);
        let called = pipe.call("whoami", json!({}));
        called.assert_not_executed(&[]);
        assert!(!world.is_locked(ALICE), "that is no lock");
        world.proxy().heal();
        works_again(&mut pipe);
        assert_eq!(world.users().len(), 1);
        assert_eq!(pipe.finish().code(), 0);
        world.assert_settled();
    }
}

/// A short trouble is no end: renewals are tried again in time.
#[test]
fn an_openbao_that_fails_once_disturbs_nobody() {
    let mut world = world_of(3 * PERIOD);
    let mut pipe = conversation(&world);
    let user = pipe.must_call("whoami", json!({}));
    world.proxy().times(1, "auth/token/renew", Fault::status(503));
    eventually("the faults have happened", || {
        so(world.proxy().seen().iter().any(|seen| seen.caught && seen.path.starts_with("auth/token/renew")))
    });
    std::thread::sleep(Duration::from_secs(4 * u64::from(PERIOD)));
    assert_eq!(pipe.must_call("whoami", json!({})), user);
    assert_eq!(pipe.finish().code(), 0);
    world.assert_settled();
}
