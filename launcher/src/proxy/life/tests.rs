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
    assert_eq!(life.ticket(0, 0, MINUTES, clock.at(1)), Some(false));
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

fn want(life: &mut Life) -> bool {
    life.take_want().is_some()
}

fn due(life: &mut Life, now: Instant, busy: impl Fn(u32) -> Option<Instant>) -> Option<Due> {
    life.due(now, busy).map(|(_, due)| due)
}

fn refuses(life: &Life) -> Option<Kind> {
    match life.otherwise(0) {
        Otherwise::Refuse(notice) => Some(notice.kind),
        Otherwise::First | Otherwise::Hold => None,
    }
}

#[test]
fn a_lock_waits_for_its_end() {
    let (clock, mut life) = running();
    life.park(&park(ParkReason::Locked), 0, clock.at(10));
    assert_eq!(refuses(&life), Some(Kind::Locked));
    life.asked(0, clock.at(100_000));
    assert_eq!((due(&mut life, clock.at(200_000), |_| None), want(&mut life)), (None, false));
    life.resume(clock.at(200_001));
    assert!(want(&mut life) && !want(&mut life), "it is asked once");
    assert_eq!(refuses(&life), None);
    assert_eq!(life.ticket(0, 1, MINUTES, clock.at(200_002)), Some(false));
    assert_eq!(life.ticket(0, 2, MINUTES, clock.at(200_003)), None, "nobody asked for that one");
    // What was to be asked when the lock came is asked after it.
    life.failed(1, &crash(), 0, clock.at(200_003));
    life.park(&park(ParkReason::Locked), 0, clock.at(200_003));
    assert!(!want(&mut life));
    life.resume(clock.at(200_003));
    assert!(want(&mut life) && life.ticket(0, 3, MINUTES, clock.at(200_003)).is_some());
    // Parked in the middle of the start: it is owed still.
    life.park(&park(ParkReason::Locked), 0, clock.at(200_004));
    life.park(&park(ParkReason::Locked), 0, clock.at(200_005));
    life.resume(clock.at(200_006));
    assert!(want(&mut life));
}

#[test]
fn credentials_are_asked_for_again() {
    let (clock, mut life) = running();
    life.park(&park(ParkReason::CredentialUnavailable), 1024, clock.at(0));
    assert_eq!(refuses(&life), Some(Kind::Unavailable));
    life.asked(0, clock.at(900));
    assert!(!want(&mut life), "it was just tried");
    assert_eq!(due(&mut life, clock.at(1000), |_| None), None);
    assert!(want(&mut life));
    assert_eq!(life.refused(0, &problem(ErrorCode::ProviderBusy), 1024, clock.at(1100)), None);
    assert_eq!(due(&mut life, clock.at(2200), |_| None), None);
    assert!(!want(&mut life), "the pause has doubled");
    life.asked(0, clock.at(2300));
    assert!(want(&mut life), "a request is worth a try");
    let over = life.refused(0, &problem(ErrorCode::NoAccess), 0, clock.at(2400)).unwrap();
    assert_eq!(over.exit, 77);
}

#[test]
fn the_first_start_is_not_waited_for_long() {
    let clock = Clock(Instant::now());
    let mut life = Life::new(clock.at(0));
    assert_eq!(life.refused(0, &problem(ErrorCode::ProviderBusy), 0, clock.at(100)), None);
    assert!(matches!(life.otherwise(0), Otherwise::First), "nothing is answered before a server could");
    assert_eq!(due(&mut life, clock.at(700), |_| None), None);
    assert!(want(&mut life));
    assert_eq!(life.refused(0, &problem(ErrorCode::SessionLocked), 0, clock.at(800)), None);
    assert_eq!(life.next(), Some(clock.at(3100)));
    let Some(Due::Over(failure)) = due(&mut life, clock.at(3100), |_| None) else { panic!("it is over") };
    assert_eq!(failure.exit, 77);
    // One that comes up in time knows nothing of that any more.
    let mut life = Life::new(clock.at(0));
    life.refused(0, &problem(ErrorCode::ProviderBusy), 0, clock.at(100));
    due(&mut life, clock.at(700), |_| None);
    life.ticket(0, 0, MINUTES, clock.at(800)).unwrap();
    life.ready(0, clock.at(900));
    assert_eq!(due(&mut life, clock.at(3200), |_| None), None);
    let mut life = Life::new(clock.at(0));
    assert_eq!(due(&mut life, clock.at(20_000), |_| None), Some(Due::Unheard));
    assert!(life.first_failure().is_none());
}

#[test]
fn crashes_are_bounded() {
    let (clock, mut life) = running();
    let mut number = 0;
    for (crash_at, again_at) in [(1_000, 1_000), (2_000, 3_000), (4_000, 8_000)] {
        life.failed(number, &crash(), 0, clock.at(crash_at));
        assert_eq!(refuses(&life), None, "requests wait");
        due(&mut life, clock.at(again_at - 1), |_| None);
        assert_eq!(want(&mut life), crash_at == again_at);
        due(&mut life, clock.at(again_at), |_| None);
        assert_eq!(want(&mut life), crash_at != again_at);
        number += 1;
        life.ticket(0, number, MINUTES, clock.at(again_at)).unwrap();
        life.ready(number, clock.at(again_at));
    }
    life.failed(number, &crash(), 0, clock.at(9_000));
    assert_eq!(refuses(&life), Some(Kind::Restarting));
    life.asked(0, clock.at(68_000));
    assert!(!want(&mut life));
    life.asked(0, clock.at(69_000));
    assert!(want(&mut life));
}

#[test]
fn idle() {
    let (clock, mut life) = running();
    life.asked(0, clock.at(1_000));
    assert_eq!(life.next(), Some(clock.at(901_000)));
    assert_eq!(due(&mut life, clock.at(900_999), |_| None), None);
    assert_eq!(due(&mut life, clock.at(901_000), |_| Some(clock.at(900_000))), None);
    life.used(0, clock.at(902_000));
    assert_eq!(due(&mut life, clock.at(1_802_000), |_| None), Some(Due::Idle(0)));
    life.rest(0);
    assert_eq!(life.next(), None);
    // Parked and resumed, and without a broker for a while: it waits for a request.
    life.park(&park(ParkReason::Locked), 0, clock.at(1_900_000));
    life.resume(clock.at(1_900_001));
    life.lost(&crash());
    life.back(clock.at(1_900_002));
    assert!(!want(&mut life));
    life.asked(0, clock.at(1_900_003));
    assert!(want(&mut life));
    // Zero means never.
    life.ticket(0, 1, Duration::ZERO, clock.at(1_900_004)).unwrap();
    life.ready(1, clock.at(1_900_005));
    assert_eq!(life.next(), None);
}

#[test]
fn a_broker_that_comes_back() {
    let (clock, mut life) = running();
    life.lost(&crash());
    life.back(clock.at(10));
    assert!(want(&mut life) && !want(&mut life), "one was there");
    assert!(life.ticket(0, 1, MINUTES, clock.at(11)).is_some());
    life.ready(1, clock.at(12));
    life.rest(0);
    life.lost(&crash());
    life.asked(0, clock.at(20));
    life.back(clock.at(30));
    assert!(want(&mut life), "a request came in between");
}

#[test]
fn a_swap() {
    let (clock, mut life) = running();
    life.replace(7, clock.at(0));
    assert!(!want(&mut life), "there is no such instance");
    life.replace(0, clock.at(0));
    assert!(want(&mut life));
    assert_eq!(life.refused(0, &problem(ErrorCode::ProviderBusy), 0, clock.at(10)), None);
    assert_eq!(life.state(0), &State::Running { number: 0 }, "the old one works on");
    due(&mut life, clock.at(510), |_| None);
    assert!(want(&mut life));
    assert_eq!(life.ticket(0, 1, MINUTES, clock.at(520)), Some(true));
    // It does not come up; another is asked for.
    life.failed(1, &crash(), 0, clock.at(530));
    due(&mut life, clock.at(5_000), |_| None);
    assert!(want(&mut life));
    assert_eq!(life.ticket(0, 2, MINUTES, clock.at(5_001)), Some(true));
    assert_eq!(life.ready(2, clock.at(5_002)), Some(0));
    // The old one dies in the middle: the new one is what is waited for.
    life.replace(2, clock.at(6_000));
    want(&mut life);
    life.failed(2, &crash(), 0, clock.at(6_001));
    assert!(matches!(life.state(0), State::Asking { .. }) && !want(&mut life));
    life.ticket(0, 3, MINUTES, clock.at(6_002)).unwrap();
    assert_eq!(due(&mut life, clock.at(36_002), |_| None), Some(Due::Unready(3)));
}

#[test]
fn only_what_is_waited_for_comes_up() {
    let (clock, mut life) = running();
    life.park(&park(ParkReason::Locked), 0, clock.at(10));
    assert_eq!(life.ready(0, clock.at(11)), None);
    assert_eq!(refuses(&life), Some(Kind::Locked), "a late word of the dead changes nothing");
    life.resume(clock.at(12));
    life.ready(0, clock.at(13));
    assert!(want(&mut life) && matches!(life.state(0), State::Asking { .. }));
}

#[test]
fn credentials_that_end_before_a_swap_came_about() {
    let (clock, mut life) = running();
    life.replace(0, clock.at(0));
    assert!(want(&mut life));
    life.refused(0, &problem(ErrorCode::ProviderBusy), 1024, clock.at(10));
    life.expired(7, clock.at(20));
    assert_eq!(life.state(0), &State::Running { number: 0 });
    life.expired(0, clock.at(20));
    assert!(want(&mut life) && refuses(&life).is_none(), "what is asked meanwhile waits");
    assert_eq!(life.ticket(0, 1, MINUTES, clock.at(30)), Some(false));
    life.ready(1, clock.at(40));
    // In the middle of a swap what is on its way is enough.
    life.replace(1, clock.at(50));
    want(&mut life);
    life.expired(1, clock.at(60));
    assert!(matches!(life.state(0), State::Asking { .. }) && !want(&mut life));
}

#[test]
fn a_replacement_is_asked_for_the_one_it_is_about() {
    let (clock, mut life) = running();
    life.replace(0, clock.at(0));
    want(&mut life);
    life.refused(0, &problem(ErrorCode::ProviderBusy), 1024, clock.at(0));
    life.rest(0);
    life.asked(0, clock.at(10));
    want(&mut life);
    life.ticket(0, 1, MINUTES, clock.at(20));
    life.ready(1, clock.at(30));
    assert_eq!(due(&mut life, clock.at(5_000), |_| None), None);
    assert!(!want(&mut life), "what was wanted of the one that rests is forgotten");
    // The one that takes another's place is to be replaced itself.
    life.replace(1, clock.at(5_000));
    want(&mut life);
    life.ticket(0, 2, MINUTES, clock.at(5_001));
    life.replace(2, clock.at(5_002));
    life.ready(2, clock.at(5_003));
    due(&mut life, clock.at(5_004), |_| None);
    assert!(want(&mut life));
}

#[test]
fn what_will_not_be_answered_keeps_nobody_awake() {
    let (clock, mut life) = running();
    life.asked(0, clock.at(0));
    let moved = |_| Some(clock.at(100_000));
    assert_eq!(due(&mut life, clock.at(900_000), moved), None, "it said something a while ago");
    assert_eq!(due(&mut life, clock.at(1_800_000), moved), Some(Due::Idle(0)));
}

/// With a second scope beside the one that has to be there.
fn two() -> (Clock, Life) {
    let (clock, mut life) = running();
    life.plan(&[Some(0), None], false, clock.at(3));
    (clock, life)
}

#[test]
fn another_scope_starts_when_it_is_asked_and_rests_for_itself() {
    let (clock, mut life) = two();
    assert_eq!((life.take_want(), life.state(0)), (None, &State::Running { number: 0 }));
    life.asked(1, clock.at(10));
    assert_eq!((life.take_want(), life.take_want()), (Some(1), None));
    assert_eq!(life.ticket(0, 1, MINUTES, clock.at(20)), None, "that scope has not asked");
    assert_eq!(life.ticket(1, 1, Duration::from_secs(1), clock.at(20)), Some(false));
    life.ready(1, clock.at(30));
    assert_eq!(life.due(clock.at(1_030), |_| None), Some((1, Due::Idle(1))));
    life.rest(1);
    assert_eq!((life.state(0), life.state(1)), (&State::Running { number: 0 }, &State::Idle));
    // One that crashes waits for the next request, and is not started too often.
    for (number, asked_at, again_at) in [(2, 2_000, 2_000), (3, 3_000, 4_000), (4, 5_000, 9_000)] {
        life.asked(1, clock.at(asked_at));
        life.due(clock.at(again_at), |_| None);
        assert_eq!(life.take_want(), Some(1), "{number}");
        life.ticket(1, number, MINUTES, clock.at(again_at)).unwrap();
        life.ready(number, clock.at(again_at));
        life.failed(number, &crash(), 0, clock.at(again_at));
        assert_eq!(life.take_want(), None, "{number}");
    }
    life.due(clock.at(13_000), |_| None);
    life.asked(1, clock.at(13_000));
    life.ticket(1, 5, MINUTES, clock.at(13_000)).unwrap();
    life.ready(5, clock.at(13_000));
    life.failed(5, &crash(), 0, clock.at(13_000));
    assert!(matches!(life.otherwise(1), Otherwise::Refuse(_)), "it has ended too often");
    assert_eq!(life.state(0), &State::Running { number: 0 });
}

#[test]
fn a_first_start_of_another_scope_is_not_waited_for_long() {
    let (clock, mut life) = two();
    life.asked(1, clock.at(0));
    life.take_want();
    life.ticket(1, 1, MINUTES, clock.at(15_000)).unwrap();
    assert_eq!(life.due(clock.at(19_999), |_| None), None);
    assert_eq!(life.due(clock.at(20_000), |_| None), Some((1, Due::Late)));
    assert_eq!(life.due(clock.at(20_000), |_| None), None, "it comes up all the same");
    life.ready(1, clock.at(21_000));
    // A broker that does not answer for it loses nothing but its calls.
    let (clock, mut life) = two();
    life.asked(1, clock.at(0));
    life.take_want();
    assert_eq!(life.due(clock.at(20_000), |_| None), Some((1, Due::Late)));
    assert_eq!(life.due(clock.at(20_000), |_| None), Some((1, Due::Late)));
    assert_eq!(life.due(clock.at(39_000), |_| None), None);
    assert_eq!(life.ticket(1, 1, MINUTES, clock.at(39_000)), Some(false));
}

#[test]
fn a_lock_concerns_all_scopes_and_only_the_first_comes_back_by_itself() {
    let (clock, mut life) = two();
    life.asked(1, clock.at(0));
    life.take_want();
    life.ticket(1, 1, MINUTES, clock.at(1)).unwrap();
    life.ready(1, clock.at(2));
    life.park(&park(ParkReason::Locked), 0, clock.at(3));
    assert!(life.refuses(0, clock.at(4)).is_some() && life.refuses(1, clock.at(4)).is_some());
    life.resume(clock.at(5));
    assert_eq!((life.take_want(), life.take_want()), (Some(0), None));
    life.asked(1, clock.at(6));
    assert_eq!(life.take_want(), Some(1));
    // What is refused to one is no matter of the other.
    assert_eq!(life.refused(1, &problem(ErrorCode::NoAccess), 0, clock.at(7)), None);
    assert_eq!(life.refuses(1, clock.at(8)).map(|notice| notice.kind), Some(Kind::Refused));
    assert!(life.refuses(0, clock.at(8)).is_none());
    assert!(life.refuses(1, clock.at(1_007)).is_none(), "a request is worth a try");
    assert!(life.refused(0, &problem(ErrorCode::NoAccess), 0, clock.at(9)).is_some());
}

#[test]
fn nothing_stands_by() {
    let clock = Clock(Instant::now());
    let mut life = Life::new(clock.at(0));
    life.plan(&[Some(0), None], true, clock.at(1));
    assert_eq!((life.wanted().count(), life.is_first(), life.next()), (0, false, None));
    // Parked from the beginning, and for as long as it takes.
    life.park(&park(ParkReason::CredentialUnavailable), 0, clock.at(2));
    assert_eq!((life.next(), life.take_want()), (None, None));
    life.asked(0, clock.at(10));
    assert_eq!(refuses(&life), Some(Kind::Unavailable));
    life.resume(clock.at(20));
    assert_eq!((life.next(), life.take_want()), (None, None));
    life.asked(0, clock.at(30));
    assert_eq!(life.take_want(), Some(0));
    life.ticket(0, 0, MINUTES, clock.at(31)).unwrap();
    life.ready(0, clock.at(32));
    life.lost(&crash());
    life.back(clock.at(40));
    assert_eq!(life.take_want(), None, "nobody asks");
}

#[test]
fn another_plan_keeps_what_stays() {
    let (clock, mut life) = two();
    life.asked(1, clock.at(0));
    life.take_want();
    life.ticket(1, 7, MINUTES, clock.at(1)).unwrap();
    life.ready(7, clock.at(2));
    life.plan(&[Some(0), None, Some(1)], false, clock.at(3));
    let states = [0, 1, 2].map(|lane| matches!(life.state(lane), State::Running { .. }));
    assert_eq!(states, [true, false, true]);
}
