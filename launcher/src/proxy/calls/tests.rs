//! The calls of a launch, event by event.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may stop at the first surprise"
)]

use mcp_broker_proto::call::Ask;
use serde_json::{Value, json};

use super::*;
use crate::proxy::talk::notice;

struct World {
    calls: Calls,
    scope: ScopePlan,
    reach: Reach,
    now: Instant,
}

const TOLD: Reach = Reach { elicits: false, told: true };
const ELICITS: Reach = Reach { elicits: true, told: true };

fn world(reach: Reach) -> World {
    let scope = r#"{"name":"write","revision":1,"tools":["*"],"resources":[],"prompts":[],"result_bytes":1,"argument_bytes":100,
        "named":{},"whole_arguments":false}"#;
    let scope = serde_json::from_str(scope).unwrap();
    World { calls: Calls::default(), scope, reach, now: Instant::now() }
}

fn call(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"write_row"}}}}"#)
}

impl World {
    fn ask(&mut self, line: &str) -> Acts {
        let message = Message::parse(line).unwrap();
        self.calls.ask(line, &message, (1, &self.scope), self.reach, self.now)
    }

    /// Asks, and answers the number of the call.
    #[track_caller]
    fn asked(&mut self, id: &str) -> u64 {
        let acts = self.ask(&call(id));
        match &acts.to_broker[..] {
            [ToBroker::Ask(Ask { call, .. })] if acts.to_client.is_empty() => *call,
            _ => panic!("not asked: {acts:?}"),
        }
    }

    fn answered(&mut self, id: &Id, line: &str, masked: u64) -> Option<ToBroker> {
        let answer = Message::parse(line).unwrap();
        self.calls.answered(id, &answer, [line.len() as u64, masked], self.now)
    }

    fn decide(&mut self, call: u64, verdict: &str, reason: &str) -> Acts {
        let text = format!(
            r#"{{"call":{call},"id":"0199f3a8-0000-7000-8000-000000000009","verdict":"{verdict}","reason":"{reason}",
            "what":"no such luck","hint":"ask the owner"}}"#
        );
        self.calls.decided(&serde_json::from_str(&text).unwrap(), self.now)
    }

    fn allow(&mut self, call: u64) -> Acts {
        self.decide(call, "allow", "allowed")
    }

    fn deny(&mut self, call: u64) -> Acts {
        self.decide(call, "deny", "argument_refused")
    }

    fn pend(&mut self, call: u64) -> Acts {
        self.decide(call, "pending", "awaits_confirmation")
    }

    fn wait(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn confirmed(&mut self, call: u64, answer: &str) -> Acts {
        let id = format!(r#""mcp-run:confirm:{call}""#);
        let line = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{answer}}}"#);
        self.calls.confirmed(&id, &line, self.now)
    }
}

const YES: &str = r#"{"action":"accept","content":{"approve":true}}"#;

#[track_caller]
fn json_of(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

/// What the one answer of these acts says, and that nothing else is done.
#[track_caller]
fn refusal(acts: &Acts) -> Value {
    assert!(acts.forward.is_empty() && acts.notes.is_empty(), "{acts:?}");
    assert_eq!(acts.to_client.len(), 1, "{acts:?}");
    json_of(&acts.to_client[0])
}

#[track_caller]
fn nothing(acts: &Acts) {
    assert!(acts.to_client.is_empty() && acts.forward.is_empty(), "{acts:?}");
    assert!(acts.to_broker.is_empty() && acts.notes.is_empty(), "{acts:?}");
}

#[track_caller]
fn report(frame: Option<ToBroker>) -> (u64, CallOutcome, Option<u32>, u64, u64, u64) {
    match frame {
        Some(ToBroker::Answered(a)) => (a.call, a.outcome, a.instance, a.size, a.millis, a.masked),
        other => panic!("no report: {other:?}"),
    }
}

#[test]
fn an_allowed_call_goes_on_and_is_reported_once() {
    let mut world = world(TOLD);
    let number = world.asked("1");
    let acts = world.allow(number);
    let line = call("1").into_boxed_str();
    assert_eq!(acts.forward, [Allowed { call: number, lane: 1, line }]);
    assert!(acts.to_client.is_empty() && acts.to_broker.is_empty() && acts.notes.is_empty());
    nothing(&world.allow(number));
    nothing(&world.deny(number));
    assert_eq!(world.calls.next_due(), None, "nobody waits for it");
    let id = Id::of("1");
    world.calls.sent(&id, 5);
    world.wait(2);
    let answer = r#"{"jsonrpc":"2.0","id":1,"result":{"isError":true}}"#;
    let got = report(world.answered(&id, answer, 3));
    assert_eq!(got, (number, CallOutcome::ToolError, Some(5), answer.len() as u64, 2000, 3));
    assert_eq!(world.answered(&id, answer, 0), None);
    assert_eq!(world.calls.ended(&id, CallOutcome::Unknown, 0, world.now), None);
}

#[test]
fn every_other_end() {
    type End = fn(&mut Calls, &Id, Instant) -> Option<ToBroker>;
    let ends: [(End, CallOutcome, u64); 4] = [
        (|calls, id, now| calls.ended(id, CallOutcome::Unknown, 5, now), CallOutcome::Unknown, 5),
        (|calls, id, now| calls.ended(id, CallOutcome::NotSent, 0, now), CallOutcome::NotSent, 0),
        (|calls, id, now| calls.withheld(id, 77, 0, now), CallOutcome::ResultTooLong, 77),
        (|calls, id, now| calls.cancelled(id, now).1.to_broker.pop(), CallOutcome::Cancelled, 0),
    ];
    for (end, outcome, size) in ends {
        let mut world = world(TOLD);
        let number = world.asked("\"a\"");
        let id = Id::of("\"a\"");
        assert_eq!(world.calls.ended(&id, outcome, 0, world.now), None, "it is not allowed yet");
        world.allow(number);
        let got = report(end(&mut world.calls, &id, world.now));
        assert_eq!(got, (number, outcome, None, size, 0, 0));
        assert_eq!(end(&mut world.calls, &id, world.now), None);
        world.asked("\"a\"");
    }
}

#[test]
fn a_denied_call_is_a_result_that_says_why() {
    for (reason, code) in [("argument_refused", 1002), ("session_locked", 1001)] {
        let mut world = world(TOLD);
        let number = world.asked("\"x\"");
        let got = refusal(&world.decide(number, "deny", reason));
        assert_eq!((&got["id"], &got["result"]["isError"]), (&json!("x"), &json!(true)));
        let meta = &got["result"]["_meta"];
        assert_eq!((&meta["mcp-run/reason"], &meta["mcp-run/code"]), (&json!(reason), &json!(code)));
        assert_eq!(meta["mcp-run/decision"], "0199f3a8-0000-7000-8000-000000000009");
        assert_eq!(
            (&meta["mcp-run/executed"], &meta["mcp-run/hint"]),
            (&json!("no"), &json!("ask the owner"))
        );
        let text = got["result"]["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with("no such luck\nhint: ask the owner\nexecuted: no"), "{text}");
        assert_eq!(got["result"].get("resultType"), None);
        nothing(&world.allow(number + 1000));
    }
}

#[test]
fn the_stateless_era_gets_its_result_type_and_no_messages() {
    let mut world = world(Reach::default());
    let line = r#"{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{"name":"t",
        "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    assert_eq!(world.ask(line).to_broker.len(), 1);
    let acts = world.pend(1);
    assert!(acts.to_client.is_empty() && acts.notes.len() == 1, "{acts:?}");
    assert_eq!(refusal(&world.deny(1))["result"]["resultType"], "complete");
}

#[test]
fn without_a_decision_it_fails_closed() {
    let mut world = world(TOLD);
    let number = world.asked("1");
    assert_eq!(world.calls.next_due(), Some(world.now + Duration::from_secs(1)));
    nothing(&world.calls.due(world.now));
    world.wait(1);
    let got = refusal(&world.calls.due(world.now));
    assert_eq!(got["result"]["_meta"]["mcp-run/reason"], "no_decision");
    assert_eq!(world.calls.next_due(), None);
    // Whoever decides on it after all hears how it ended.
    let late = world.allow(number);
    assert!(late.forward.is_empty() && late.to_client.is_empty());
    assert_eq!(report(late.to_broker.into_iter().next()).1, CallOutcome::NotSent);
    let late = world.pend(number);
    assert_eq!(late.to_broker, [ToBroker::Confirmed { call: number, yes: false }]);
    nothing(&world.deny(number));
}

#[test]
fn a_client_that_elicits_asks_the_person() {
    let mut world = world(ELICITS);
    let number = world.asked("1");
    let acts = world.pend(number);
    assert!(acts.notes.is_empty() && acts.to_broker.is_empty() && acts.forward.is_empty());
    assert_eq!(json_of(&acts.to_client[0])["id"], format!("mcp-run:confirm:{number}"));
    nothing(&world.pend(number));
    world.wait(40);
    nothing(&world.calls.due(world.now));
    let acts = world.confirmed(number, YES);
    assert_eq!(acts.to_broker, [ToBroker::Confirmed { call: number, yes: true }]);
    assert!(acts.forward.is_empty(), "the broker decides");
    nothing(&world.confirmed(number, YES));
    let acts = world.decide(number, "allow", "confirmed");
    assert!(acts.to_client.is_empty(), "what was answered is not taken back: {acts:?}");
    assert_eq!(acts.forward.len(), 1);
}

#[test]
fn a_no_of_the_person() {
    let mut world = world(ELICITS);
    let number = world.asked("1");
    world.pend(number);
    let acts = world.confirmed(number, r#"{"action":"decline"}"#);
    assert_eq!(acts.to_broker, [ToBroker::Confirmed { call: number, yes: false }]);
    let got = refusal(&world.decide(number, "deny", "declined"));
    assert_eq!(got["result"]["_meta"]["mcp-run/reason"], "declined");
}

#[test]
fn an_elicitation_is_taken_back_when_others_decide() {
    for verdict in ["allow", "deny"] {
        let mut world = world(ELICITS);
        let number = world.asked("1");
        world.pend(number);
        let acts = world.decide(number, verdict, "confirmed");
        let first = json_of(&acts.to_client[0]);
        assert_eq!(first["method"], "notifications/cancelled");
        assert_eq!(first["params"]["requestId"], format!("mcp-run:confirm:{number}"));
        assert_eq!(acts.forward.len(), usize::from(verdict == "allow"));
        nothing(&world.confirmed(number, YES));
    }
}

#[test]
fn a_client_that_does_not_elicit_is_told_the_command() {
    for (reach, lines) in [(TOLD, 1), (Reach::default(), 0)] {
        let mut world = world(reach);
        let number = world.asked("1");
        let acts = world.pend(number);
        assert_eq!((acts.to_client.len(), acts.notes.len()), (lines, 1));
        assert!(acts.notes[0].contains("`mcp-run approve 0199f3a8-0000-7000-8000-000000000009`"));
        nothing(&world.confirmed(number, YES));
        assert_eq!(world.decide(number, "allow", "confirmed").forward.len(), 1);
    }
}

#[test]
fn nobody_answers() {
    let mut world = world(ELICITS);
    let number = world.asked("1");
    world.wait(1);
    world.pend(number);
    assert_eq!(world.calls.next_due(), Some(world.now + Duration::from_secs(47)));
    world.wait(47);
    let acts = world.calls.due(world.now);
    assert_eq!(acts.to_client.len(), 2, "the elicitation is taken back as well");
    let got = json_of(&acts.to_client[1]);
    assert_eq!(got["result"]["_meta"]["mcp-run/reason"], "not_confirmed");
    // A yes that the broker does not answer is no yes.
    let number = world.asked("2");
    world.pend(number);
    world.confirmed(number, YES);
    world.wait(1);
    assert_eq!(refusal(&world.calls.due(world.now))["id"], 2);
}

#[test]
fn a_call_that_is_taken_back_while_it_waits() {
    let id = Id::of("1");
    for (verdict, outcome) in [("allow", Some(CallOutcome::Cancelled)), ("deny", None), ("pending", None)] {
        let mut world = world(ELICITS);
        let number = world.asked("1");
        let (waited, acts) = world.calls.cancelled(&id, world.now);
        assert!(waited, "no server is to hear of it");
        nothing(&acts);
        assert!(!world.calls.waits());
        // The id is free, and what comes for the old call is not for the new one.
        let next = world.asked("1");
        let acts = world.decide(number, verdict, "allowed");
        assert!(acts.to_client.is_empty() && acts.forward.is_empty(), "{acts:?}");
        let said = acts.to_broker.into_iter().next();
        match outcome {
            Some(outcome) => assert_eq!(report(said).1, outcome),
            None => assert_eq!(said.is_some(), verdict == "pending"),
        }
        assert_eq!(world.allow(next).forward.len(), 1);
    }
    let mut world = world(ELICITS);
    let number = world.asked("1");
    world.pend(number);
    let (waited, acts) = world.calls.cancelled(&id, world.now);
    assert!(waited);
    assert_eq!(json_of(&acts.to_client[0])["method"], "notifications/cancelled");
    assert_eq!(acts.to_broker, [ToBroker::Confirmed { call: number, yes: false }]);
    world.wait(60);
    nothing(&world.calls.due(world.now));
    assert_eq!(world.calls.next_due(), None, "it is forgotten");
    let (waited, acts) = world.calls.cancelled(&id, world.now);
    assert!(!waited);
    nothing(&acts);
}

#[test]
fn ids_are_used_once_at_a_time() {
    let mut world = world(TOLD);
    let number = world.asked("1");
    let got = refusal(&world.ask(&call("1.0")));
    assert_eq!((&got["error"]["code"], &got["id"]), (&json!(-32600), &json!(1.0)));
    world.allow(number);
    assert_eq!(refusal(&world.ask(&call("1")))["error"]["code"], -32600);
    world.answered(&Id::of("1"), "{}", 0);
    world.asked("1");
    nothing(&world.ask(r#"{"jsonrpc":"2.0","method":"tools/call","params":{"name":"x"}}"#));
}

#[test]
fn without_a_broker_nothing_goes_on() {
    let mut world = world(ELICITS);
    let (one, two, three) = (world.asked("1"), world.asked("2"), world.asked("3"));
    world.allow(one);
    world.pend(two);
    let acts = world.calls.lost();
    let answered: Vec<_> = acts.to_client.iter().map(|line| json_of(line)["id"].clone()).collect();
    assert_eq!(answered, [Value::Null, json!(2), json!(3)], "an elicitation is taken back");
    assert!(acts.forward.is_empty() && acts.to_broker.is_empty());
    assert!(!world.calls.waits() && world.calls.next_due().is_none());
    // The next broker knows nothing of the call that still runs.
    assert_eq!(world.answered(&Id::of("1"), "{}", 0), None);
    assert!(world.asked("4") > three, "numbers are not used again");
}

#[test]
fn everything_is_refused_at_an_end() {
    let mut world = world(TOLD);
    let (one, two) = (world.asked("1"), world.asked("2"));
    world.allow(one);
    let notice = Notice::new(notice::Kind::Locked, "the session is locked", "unlock it");
    assert_eq!(refusal(&world.calls.refuse_all(&notice))["id"], 2);
    assert_eq!(report(world.allow(two).to_broker.pop()).1, CallOutcome::NotSent);
    assert_eq!(report(world.calls.ended(&Id::of("1"), CallOutcome::Unknown, 0, world.now)).0, one);
}

#[test]
fn what_waits_is_bounded() {
    let mut world = world(TOLD);
    for id in 0..MAX_WAITING {
        assert_eq!(world.calls.has_room(), id < CROWDED, "{id}");
        world.asked(&id.to_string());
    }
    let got = refusal(&world.ask(&call("\"more\"")));
    assert_eq!(got["result"]["_meta"]["mcp-run/reason"], "too_many_waiting");
    // Calls that wait for a person do not keep the others from being read.
    let mut world = self::world(TOLD);
    let pending: Vec<_> = (0..MAX_PENDING).map(|id| world.asked(&id.to_string())).collect();
    for number in pending {
        assert_eq!(world.pend(number).notes.len(), 1);
    }
    let number = world.asked("\"more\"");
    let acts = world.pend(number);
    assert_eq!(acts.to_broker, [ToBroker::Confirmed { call: number, yes: false }]);
    assert_eq!(json_of(&acts.to_client[0])["result"]["_meta"]["mcp-run/reason"], "too_many_waiting");
    world.deny(1);
    let number = world.asked("\"again\"");
    assert_eq!(world.pend(number).notes.len(), 1);
    // Long lines count by their length.
    let mut world = self::world(TOLD);
    let padding = " ".repeat(MAX_WEIGHT);
    assert_eq!(world.ask(&(call("1") + &padding)).to_broker.len(), 1);
    assert!(!world.calls.has_room());
    refusal(&world.ask(&call("2")));
    world.deny(1);
    assert!(world.calls.has_room());
    world.asked("2");
}

/// What the broker and the client know of one call in [`whatever_happens`].
#[derive(Debug, Default)]
struct Account {
    id: u32,
    allowed: bool,
    forwarded: u32,
    answered: u32,
    taken_back: bool,
    reported: u32,
}

/// A broker and a client that keep account of what they saw.
struct Crowd {
    world: World,
    accounts: BTreeMap<u64, Account>,
    /// Where chance stands (a linear congruential generator, so that a run can be repeated).
    chance: u64,
    ids: u32,
}

impl Crowd {
    fn roll(&mut self, sides: u64) -> u64 {
        self.chance =
            self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.chance >> 33) % sides
    }

    /// One of the calls so far.
    fn any(&mut self) -> Option<u64> {
        let many = self.accounts.len() as u64;
        if many == 0 { None } else { Some(self.roll(many) + 1) }
    }

    fn see(&mut self, acts: Acts) {
        for line in &acts.to_client {
            let line = json_of(line);
            let id = line["id"].as_u64().filter(|_| line.get("method").is_none());
            let of_it = self.accounts.values_mut().filter(|one| id == Some(u64::from(one.id)));
            of_it.for_each(|one| one.answered += 1);
        }
        for allowed in acts.forward {
            self.accounts.get_mut(&allowed.call).unwrap().forwarded += 1;
        }
        for frame in acts.to_broker {
            match frame {
                ToBroker::Ask(ask) => {
                    self.accounts.insert(ask.call, Account { id: self.ids, ..Account::default() });
                }
                ToBroker::Answered(answered) => {
                    self.accounts.get_mut(&answered.call).unwrap().reported += 1;
                }
                _ => {}
            }
        }
    }

    fn step(&mut self) {
        let id = |crowd: &Self, call: u64| Id::of(&crowd.accounts[&call].id.to_string());
        let acts = match (self.roll(12), self.any()) {
            (0..=2, _) | (_, None) => {
                self.ids += 1;
                let line = call(&self.ids.to_string());
                self.world.ask(&line)
            }
            (3..=5, Some(call)) => {
                let words = [("allow", "allowed"), ("deny", "declined"), ("pending", "awaits_confirmation")];
                let (verdict, reason) = words[usize::try_from(self.roll(3)).unwrap()];
                // A broker allows once.
                let account = self.accounts.get_mut(&call).unwrap();
                if account.allowed {
                    return;
                }
                account.allowed = verdict == "allow";
                self.world.decide(call, verdict, reason)
            }
            (6, Some(call)) => self.world.confirmed(call, YES),
            (7, Some(call)) => {
                let (waited, acts) = self.world.calls.cancelled(&id(self, call), self.world.now);
                self.accounts.get_mut(&call).unwrap().taken_back |= waited;
                acts
            }
            (8, Some(call)) => {
                let id = id(self, call);
                let frame = self.world.answered(&id, "{}", 0);
                Acts { to_broker: frame.into_iter().collect(), ..Acts::default() }
            }
            (9, Some(call)) => {
                let frame = self.world.calls.ended(&id(self, call), CallOutcome::Unknown, 0, self.world.now);
                Acts { to_broker: frame.into_iter().collect(), ..Acts::default() }
            }
            _ => {
                let pause = self.roll(700);
                self.world.now += Duration::from_millis(pause);
                self.world.calls.due(self.world.now)
            }
        };
        self.see(acts);
    }
}

/// Nothing is forwarded that was not allowed, each call is answered here or goes on or is taken back, and what was
/// allowed is reported once, in whatever order things happen.
#[test]
fn whatever_happens() {
    for seed in 0..60 {
        let reach = if seed % 2 == 0 { ELICITS } else { TOLD };
        let mut crowd = Crowd { world: world(reach), accounts: BTreeMap::new(), chance: seed, ids: 0 };
        for _ in 0..300 {
            crowd.step();
        }
        crowd.world.wait(100);
        let acts = crowd.world.calls.due(crowd.world.now);
        crowd.see(acts);
        let calls = &mut crowd.world.calls;
        assert!((calls.waiting, calls.weight, calls.pending) == (0, 0, 0) && calls.next_due().is_none());
        for call in crowd.accounts.keys().copied().collect::<Vec<_>>() {
            let id = Id::of(&crowd.accounts[&call].id.to_string());
            let frame = crowd.world.calls.ended(&id, CallOutcome::Unknown, 0, crowd.world.now);
            crowd.see(Acts { to_broker: frame.into_iter().collect(), ..Acts::default() });
        }
        assert!(crowd.world.calls.open.is_empty() && crowd.world.calls.by_id.is_empty());
        for (call, one) in &crowd.accounts {
            assert!(one.forwarded <= u32::from(one.allowed), "{seed} {call}: {one:?}");
            assert_eq!(one.forwarded + one.answered + u32::from(one.taken_back), 1, "{seed} {call}: {one:?}");
            assert_eq!(one.reported, u32::from(one.allowed), "{seed} {call}: {one:?}");
        }
    }
}
