//! The life of a launch, event by event.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]

use mcp_broker_proto::channel::{Park, ParkReason};
use mcp_broker_proto::problem::{ErrorCode, Problem};

use super::*;
use crate::proxy::talk::notice::Kind;

const MINUTES: Duration = Duration::from_secs(900);

struct Clock(Instant);

impl Clock {
    fn at(&self, ms: u64) -> Instant {
        self.0 + Duration::from_millis(ms)
    }
}

fn running() -> (Clock, Life) {
    let clock = Clock(Instant::now());
    let mut life = Life::new(clock.at(0));
    assert_eq!(life.ticket(0, MINUTES, clock.at(1)), Some(false));
    assert_eq!(life.ready(0, clock.at(2)), None);
    (clock, life)
}

fn park(reason: ParkReason) -> Park {
    Park { reason, what: "parked".into(), hint: "do".into() }
}

fn problem(code: ErrorCode) -> Problem {
    Problem::new(code, "no", "do")
}

fn crash() -> Notice {
    Notice::new(Kind::Restarting, "ended", "look")
}

fn refuses(life: &Life) -> Option<Kind> {
    match life.otherwise() {
        Otherwise::Refuse(notice) => Some(notice.kind),
        Otherwise::First | Otherwise::Hold => None,
    }
}

#[test]
fn a_lock_waits_for_its_end() {
    let (clock, mut life) = running();
    life.park(&park(ParkReason::Locked), 0, clock.at(10));
    assert_eq!(refuses(&life), Some(Kind::Locked));
    life.asked(clock.at(100_000));
    assert_eq!((life.due(clock.at(200_000), |_| None), life.take_want()), (None, false));
    life.resume(clock.at(200_001));
    assert!(life.take_want() && !life.take_want(), "it is asked once");
    assert_eq!(refuses(&life), None);
    assert_eq!(life.ticket(1, MINUTES, clock.at(200_002)), Some(false));
    assert_eq!(life.ticket(2, MINUTES, clock.at(200_003)), None, "nobody asked for that one");
    // What was to be asked when the lock came is asked after it.
    life.failed(1, &crash(), 0, clock.at(200_003));
    life.park(&park(ParkReason::Locked), 0, clock.at(200_003));
    assert!(!life.take_want());
    life.resume(clock.at(200_003));
    assert!(life.take_want() && life.ticket(3, MINUTES, clock.at(200_003)).is_some());
    // Parked in the middle of the start: it is owed still.
    life.park(&park(ParkReason::Locked), 0, clock.at(200_004));
    life.park(&park(ParkReason::Locked), 0, clock.at(200_005));
    life.resume(clock.at(200_006));
    assert!(life.take_want());
}

#[test]
fn credentials_are_asked_for_again() {
    let (clock, mut life) = running();
    life.park(&park(ParkReason::CredentialUnavailable), 1024, clock.at(0));
    assert_eq!(refuses(&life), Some(Kind::Unavailable));
    life.asked(clock.at(900));
    assert!(!life.take_want(), "it was just tried");
    assert_eq!(life.due(clock.at(1000), |_| None), None);
    assert!(life.take_want());
    assert_eq!(life.refused(&problem(ErrorCode::ProviderBusy), 1024, clock.at(1100)), None);
    assert_eq!(life.due(clock.at(2200), |_| None), None);
    assert!(!life.take_want(), "the pause has doubled");
    life.asked(clock.at(2300));
    assert!(life.take_want(), "a request is worth a try");
    let over = life.refused(&problem(ErrorCode::NoAccess), 0, clock.at(2400)).unwrap();
    assert_eq!(over.exit, 77);
}

#[test]
fn the_first_start_is_not_waited_for_long() {
    let clock = Clock(Instant::now());
    let mut life = Life::new(clock.at(0));
    assert_eq!(life.refused(&problem(ErrorCode::ProviderBusy), 0, clock.at(100)), None);
    assert!(matches!(life.otherwise(), Otherwise::First), "nothing is answered before a server could");
    assert_eq!(life.due(clock.at(700), |_| None), None);
    assert!(life.take_want());
    assert_eq!(life.refused(&problem(ErrorCode::SessionLocked), 0, clock.at(800)), None);
    assert_eq!(life.next(), Some(clock.at(3100)));
    let Some(Due::Over(failure)) = life.due(clock.at(3100), |_| None) else { panic!("it is over") };
    assert_eq!(failure.exit, 77);
    // One that comes up in time knows nothing of that any more.
    let mut life = Life::new(clock.at(0));
    life.refused(&problem(ErrorCode::ProviderBusy), 0, clock.at(100));
    life.due(clock.at(700), |_| None);
    life.ticket(0, MINUTES, clock.at(800)).unwrap();
    life.ready(0, clock.at(900));
    assert_eq!(life.due(clock.at(3200), |_| None), None);
    let mut life = Life::new(clock.at(0));
    assert_eq!(life.due(clock.at(20_000), |_| None), Some(Due::Unheard));
    assert!(life.first_failure().is_none());
}

#[test]
fn crashes_are_bounded() {
    let (clock, mut life) = running();
    let mut number = 0;
    for (crash_at, again_at) in [(1_000, 1_000), (2_000, 3_000), (4_000, 8_000)] {
        life.failed(number, &crash(), 0, clock.at(crash_at));
        assert_eq!(refuses(&life), None, "requests wait");
        life.due(clock.at(again_at - 1), |_| None);
        assert_eq!(life.take_want(), crash_at == again_at);
        life.due(clock.at(again_at), |_| None);
        assert_eq!(life.take_want(), crash_at != again_at);
        number += 1;
        life.ticket(number, MINUTES, clock.at(again_at)).unwrap();
        life.ready(number, clock.at(again_at));
    }
    life.failed(number, &crash(), 0, clock.at(9_000));
    assert_eq!(refuses(&life), Some(Kind::Restarting));
    life.asked(clock.at(68_000));
    assert!(!life.take_want());
    life.asked(clock.at(69_000));
    assert!(life.take_want());
}

#[test]
fn idle() {
    let (clock, mut life) = running();
    life.asked(clock.at(1_000));
    assert_eq!(life.next(), Some(clock.at(901_000)));
    assert_eq!(life.due(clock.at(900_999), |_| None), None);
    assert_eq!(life.due(clock.at(901_000), |_| Some(clock.at(900_000))), None);
    life.used(clock.at(902_000));
    assert_eq!(life.due(clock.at(1_802_000), |_| None), Some(Due::Idle(0)));
    life.rest();
    assert_eq!(life.next(), None);
    // Parked and resumed, and without a broker for a while: it waits for a request.
    life.park(&park(ParkReason::Locked), 0, clock.at(1_900_000));
    life.resume(clock.at(1_900_001));
    life.lost(crash());
    assert!(!life.owed());
    life.back(false, clock.at(1_900_002));
    assert!(!life.take_want());
    life.asked(clock.at(1_900_003));
    assert!(life.take_want());
    // Zero means never.
    life.ticket(1, Duration::ZERO, clock.at(1_900_004)).unwrap();
    life.ready(1, clock.at(1_900_005));
    assert_eq!(life.next(), None);
}

#[test]
fn a_broker_that_comes_back() {
    let (clock, mut life) = running();
    life.lost(crash());
    assert!(life.owed());
    life.back(true, clock.at(10));
    assert!(!life.take_want(), "it was asked with the connection");
    assert!(life.ticket(1, MINUTES, clock.at(11)).is_some());
    life.ready(1, clock.at(12));
    life.rest();
    life.lost(crash());
    life.asked(clock.at(20));
    life.back(false, clock.at(30));
    assert!(life.take_want(), "a request came in between");
}

#[test]
fn a_swap() {
    let (clock, mut life) = running();
    life.replace(7, clock.at(0));
    assert!(!life.take_want(), "there is no such instance");
    life.replace(0, clock.at(0));
    assert!(life.take_want());
    assert_eq!(life.refused(&problem(ErrorCode::ProviderBusy), 0, clock.at(10)), None);
    assert_eq!(life.state(), &State::Running { number: 0 }, "the old one works on");
    life.due(clock.at(510), |_| None);
    assert!(life.take_want());
    assert_eq!(life.ticket(1, MINUTES, clock.at(520)), Some(true));
    // It does not come up; another is asked for.
    life.failed(1, &crash(), 0, clock.at(530));
    life.due(clock.at(5_000), |_| None);
    assert!(life.take_want());
    assert_eq!(life.ticket(2, MINUTES, clock.at(5_001)), Some(true));
    assert_eq!(life.ready(2, clock.at(5_002)), Some(0));
    // The old one dies in the middle: the new one is what is waited for.
    life.replace(2, clock.at(6_000));
    life.take_want();
    life.failed(2, &crash(), 0, clock.at(6_001));
    assert!(matches!(life.state(), State::Asking { .. }) && !life.take_want());
    life.ticket(3, MINUTES, clock.at(6_002)).unwrap();
    assert_eq!(life.due(clock.at(36_002), |_| None), Some(Due::Unready(3)));
}

#[test]
fn only_what_is_waited_for_comes_up() {
    let (clock, mut life) = running();
    life.park(&park(ParkReason::Locked), 0, clock.at(10));
    assert_eq!(life.ready(0, clock.at(11)), None);
    assert_eq!(refuses(&life), Some(Kind::Locked), "a late word of the dead changes nothing");
    life.resume(clock.at(12));
    life.ready(0, clock.at(13));
    assert!(life.take_want() && matches!(life.state(), State::Asking { .. }));
}

#[test]
fn credentials_that_end_before_a_swap_came_about() {
    let (clock, mut life) = running();
    life.replace(0, clock.at(0));
    assert!(life.take_want());
    life.refused(&problem(ErrorCode::ProviderBusy), 1024, clock.at(10));
    life.expired(7, clock.at(20));
    assert_eq!(life.state(), &State::Running { number: 0 });
    life.expired(0, clock.at(20));
    assert!(life.take_want() && refuses(&life).is_none(), "what is asked meanwhile waits");
    assert_eq!(life.ticket(1, MINUTES, clock.at(30)), Some(false));
    life.ready(1, clock.at(40));
    // In the middle of a swap what is on its way is enough.
    life.replace(1, clock.at(50));
    life.take_want();
    life.expired(1, clock.at(60));
    assert!(matches!(life.state(), State::Asking { .. }) && !life.take_want());
}

#[test]
fn a_replacement_is_asked_for_the_one_it_is_about() {
    let (clock, mut life) = running();
    life.replace(0, clock.at(0));
    life.take_want();
    life.refused(&problem(ErrorCode::ProviderBusy), 1024, clock.at(0));
    life.rest();
    life.asked(clock.at(10));
    life.take_want();
    life.ticket(1, MINUTES, clock.at(20));
    life.ready(1, clock.at(30));
    assert_eq!(life.due(clock.at(5_000), |_| None), None);
    assert!(!life.take_want(), "what was wanted of the one that rests is forgotten");
    // The one that takes another's place is to be replaced itself.
    life.replace(1, clock.at(5_000));
    life.take_want();
    life.ticket(2, MINUTES, clock.at(5_001));
    life.replace(2, clock.at(5_002));
    life.ready(2, clock.at(5_003));
    life.due(clock.at(5_004), |_| None);
    assert!(life.take_want());
}

#[test]
fn what_will_not_be_answered_keeps_nobody_awake() {
    let (clock, mut life) = running();
    life.asked(clock.at(0));
    let moved = |_| Some(clock.at(100_000));
    assert_eq!(life.due(clock.at(900_000), moved), None, "it said something a while ago");
    assert_eq!(life.due(clock.at(1_800_000), moved), Some(Due::Idle(0)));
}
