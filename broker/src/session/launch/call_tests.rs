//! Calls over the real register: each reason for a decision, who may answer for a person, and what stands in the log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::call::{
    Answered, Ask, CallOutcome, CallReason as Reason, Change, Changed, Decision, Verdict,
};
use mcp_broker_proto::channel::{End, EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::problem::ErrorCode;
use mcp_broker_proto::session::LockCause;
use serde_json::{Value, json};

use crate::config::{ArgumentRule, Confirm, OnLeak, ServerDefinition, ToolRules};
use crate::session::lock::Notice;
use crate::session::testing::{self, Client, World, world};

fn call(number: u64, scope: &str, tool: &str) -> Ask {
    Ask {
        revision: 1,
        call: number,
        scope: scope.parse().unwrap(),
        tool: tool.to_owned(),
        size: 2,
        sha256: "ab".repeat(32),
        named: BTreeMap::new(),
        whole: None,
        elicits: true,
    }
}

async fn decision(client: &mut Client) -> Decision {
    match client.hear().await {
        Some(ToLauncher::Decision(decision)) => decision,
        other => panic!("no decision but {other:?}"),
    }
}

async fn decide(client: &mut Client, ask: Ask) -> Decision {
    let number = ask.call;
    client.say(&ToBroker::Ask(ask)).await;
    let told = decision(client).await;
    assert_eq!(told.call, number);
    let words = !told.what.is_empty() && !told.hint.is_empty();
    assert_eq!(words, told.verdict != Verdict::Allow, "{told:?}");
    told
}

async fn verdict(client: &mut Client, ask: Ask) -> (Verdict, Reason) {
    let told = decide(client, ask).await;
    (told.verdict, told.reason)
}

fn answer(call: u64) -> ToBroker {
    let outcome = CallOutcome::Result;
    ToBroker::Answered(Answered { call, outcome, instance: Some(0), size: 9, millis: 3, masked: 1 })
}

fn of_kind<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|one| one["event"] == kind).collect()
}

async fn kind(world: &World, kind: &str, count: usize) -> Vec<Value> {
    let events = world.audited(|events| of_kind(events, kind).len() >= count).await;
    of_kind(&events, kind).into_iter().cloned().collect()
}

const ALLOWED: (Verdict, Reason) = (Verdict::Allow, Reason::Allowed);
const PENDING: (Verdict, Reason) = (Verdict::Pending, Reason::AwaitsConfirmation);
const CONFIRMED: (Verdict, Reason) = (Verdict::Allow, Reason::Confirmed);

fn denied(reason: Reason) -> (Verdict, Reason) {
    (Verdict::Deny, reason)
}

#[tokio::test]
async fn an_allowed_call_is_audited_once_with_its_end() {
    let world = world();
    world.redefine(|server| server.scopes[1].audit_arguments = true);
    let (_login, _session, mut client) = world.launched(1, false).await;
    let mut whole = call(1, "all", "a_all");
    whole.whole = Some("{\"canary\":1}".to_owned());
    let first = decide(&mut client, whole.clone()).await;
    assert_eq!((first.verdict, first.reason), ALLOWED);
    // The same number again is out of turn, and so is a digest that is none: neither is answered.
    client.say(&ToBroker::Ask(whole)).await;
    client.say(&ToBroker::Ask(Ask { sha256: "ab".to_owned(), ..call(7, "all", "a_all") })).await;
    let mut audited = call(2, "more", "a_more");
    audited.whole = Some("{\"shown\":1}".to_owned());
    let second = decide(&mut client, audited).await;
    for _ in 0..2 {
        client.say(&answer(1)).await;
        client.say(&answer(99)).await;
    }
    // Answered and over: the number may come again.
    assert_eq!(verdict(&mut client, call(1, "all", "b_all")).await, ALLOWED);
    let decided = kind(&world, "call_decided", 3).await;
    let answered = kind(&world, "call_answered", 1).await;
    assert_eq!((decided.len(), answered.len()), (3, 1));
    let digest = decided[0]["digest"].as_str().unwrap();
    assert_eq!((digest.len(), digest == "ab".repeat(32)), (64, false));
    assert_eq!(decided[0]["digest"], decided[1]["digest"], "equal arguments, equal digests");
    let told = json!([first.id, client.launch, "all", "a_all", "allow", "allowed", 2, null]);
    let fields = ["call", "launch", "scope", "tool", "verdict", "reason", "size", "arguments"];
    assert_eq!(json!(fields.map(|field| &decided[0][field])), told);
    assert_eq!((&decided[1]["call"], &decided[1]["arguments"]), (&json!(second.id), &json!("{\"shown\":1}")));
    let fields = ["call", "outcome", "instance", "size", "millis", "masked"];
    assert_eq!(json!(fields.map(|field| &answered[0][field])), json!([first.id, "result", 0, 9, 3, 1]));
}

#[tokio::test]
async fn every_rule_of_the_definition_is_asked() {
    let world = world();
    let rule = ArgumentRule { equals: Some(json!("x")), ..ArgumentRule::default() };
    world.redefine(|server| {
        server.scopes[0].limits.argument_size = 10;
        server.scopes[0].limits.calls_per_minute = Some(2);
        server.scopes[1].limits.concurrent_calls = Some(1);
        server.scopes[1].arguments =
            vec![ToolRules { tools: "db_*".into(), rules: BTreeMap::from([("name".to_owned(), rule)]) }];
    });
    let (_login, _session, mut client) = world.launched(2, false).await;
    assert_eq!(verdict(&mut client, call(1, "all", "a_more")).await, denied(Reason::NotInScope));
    assert_eq!(verdict(&mut client, call(2, "none", "a_all")).await, denied(Reason::NotInScope));
    let no_name = call(3, "all", "a\u{7}_all");
    assert_eq!(verdict(&mut client, no_name).await, denied(Reason::NotInScope));
    let long = Ask { size: 11, ..call(4, "all", "a_all") };
    assert_eq!(verdict(&mut client, long).await, denied(Reason::ArgumentsTooLong));
    assert_eq!(verdict(&mut client, call(5, "more", "db_more")).await, denied(Reason::ArgumentRefused));
    let named = BTreeMap::from([("name".to_owned(), "\"x\"".to_owned())]);
    assert_eq!(verdict(&mut client, Ask { named, ..call(6, "more", "db_more") }).await, ALLOWED);
    assert_eq!(verdict(&mut client, call(7, "more", "a_more")).await, denied(Reason::TooManyAtOnce));
    client.say(&answer(6)).await;
    assert_eq!(verdict(&mut client, call(8, "more", "a_more")).await, ALLOWED);
    // What is denied does not count.
    assert_eq!(verdict(&mut client, call(9, "all", "a_all")).await, ALLOWED);
    assert_eq!(verdict(&mut client, call(10, "all", "a_all")).await, ALLOWED);
    assert_eq!(verdict(&mut client, call(11, "all", "a_all")).await, denied(Reason::TooManyPerMinute));
    let decided = kind(&world, "call_decided", 11).await;
    assert_eq!((decided.len(), &decided[2]["tool"]), (11, &Value::Null));
}

#[tokio::test]
async fn who_lost_access_loses_the_launch_with_the_next_call() {
    let world = world();
    let (_login, _session, mut client) = world.launched(3, true).await;
    client.ticket().await;
    world.redefine(|server| server.access.users.clear());
    assert_eq!(verdict(&mut client, call(1, "all", "a_all")).await, denied(Reason::AccessLost));
    assert!(matches!(client.hear().await, Some(ToLauncher::End(End { reason: EndReason::Revoked, .. }))));
}

#[tokio::test]
async fn another_definition_holds_for_the_next_call() {
    let world = world();
    let (_login, _session, mut client) = world.launched(4, false).await;
    assert_eq!(verdict(&mut client, call(1, "more", "a_more")).await, ALLOWED);
    world.redefine(|server| server.scopes[1].tools = vec!["b_more".to_owned()]);
    client.say(&ToBroker::Ask(call(2, "more", "a_more"))).await;
    // The plan that says so comes first, and what was asked by the old one is not looked at further.
    let Some(ToLauncher::Plan(plan)) = client.hear().await else { panic!("no plan") };
    assert_eq!(plan.scopes[1].revision, 2);
    assert_eq!(decision(&mut client).await.reason, Reason::PlanChanged);
    let by_the_new_one = Ask { revision: 2, ..call(3, "more", "a_more") };
    assert_eq!(verdict(&mut client, by_the_new_one).await, denied(Reason::NotInScope));
}

#[tokio::test]
async fn no_call_of_a_locked_session_goes_on() {
    let world = world();
    let (_login, session, mut client) = world.launched(5, false).await;
    assert_eq!(verdict(&mut client, call(1, "all", "a_all")).await, ALLOWED);
    drop(world.sessions.notice(session, Notice::Lock(LockCause::Command), None));
    assert!(matches!(client.hear().await, Some(ToLauncher::Park(_))));
    // What was under way is reported also while the launch is being parked.
    client.say(&answer(1)).await;
    client.say(&ToBroker::Dead).await;
    assert_eq!(verdict(&mut client, call(2, "all", "a_all")).await, denied(Reason::SessionLocked));
    drop(world.sessions.notice(session, Notice::Unlock, None));
    assert!(matches!(client.hear().await, Some(ToLauncher::Resume)));
    assert_eq!(verdict(&mut client, call(3, "all", "a_all")).await, ALLOWED);
    drop(world.sessions.end_session(session, EndReason::LoggedOut));
    assert!(matches!(client.hear().await, Some(ToLauncher::End(_))));
    client.say(&ToBroker::Dead).await;
    let answered = kind(&world, "call_answered", 2).await;
    let outcomes: Vec<_> = answered.iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    assert_eq!(outcomes, ["result", "unknown"]);
}

#[tokio::test]
async fn a_launcher_that_went_away_leaves_its_calls_unknown() {
    let world = world();
    world.redefine(|server| server.scopes[1].confirm = Some(Confirm::Each));
    let (_login, _session, mut client) = world.launched(6, false).await;
    assert_eq!(verdict(&mut client, call(1, "all", "a_all")).await, ALLOWED);
    assert_eq!(verdict(&mut client, call(2, "more", "a_more")).await, PENDING);
    drop(client);
    let answered = kind(&world, "call_answered", 2).await;
    let mut outcomes: Vec<_> = answered.iter().map(|one| one["outcome"].as_str().unwrap()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["not_sent", "unknown"]);
}

#[tokio::test]
async fn no_call_goes_on_while_the_log_cannot_be_written() {
    let world = world();
    let (_login, _session, mut client) = world.launched(7, false).await;
    let path = world.dir.path().join(crate::audit::FILE_NAME);
    let away = path.with_extension("away");
    let mut number = 0;
    let mut until = async |want| loop {
        number += 1;
        let got = verdict(&mut client, call(number, "all", "a_all")).await;
        if got == want {
            break;
        }
        assert!([ALLOWED, denied(Reason::AuditUnavailable)].contains(&got), "{got:?}");
        assert!(number < 10_000, "{want:?} does not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    until(ALLOWED).await;
    std::fs::rename(&path, &away).unwrap();
    until(denied(Reason::AuditUnavailable)).await;
    std::fs::rename(&away, &path).unwrap();
    until(ALLOWED).await;
}

fn confirm(way: Confirm) -> impl FnOnce(&mut ServerDefinition) {
    move |server| server.scopes[1].confirm = Some(way)
}

#[tokio::test]
async fn a_client_answers_where_it_can_ask() {
    let world = world();
    world.redefine(confirm(Confirm::Each));
    let (_login, _session, mut client) = world.launched(8, false).await;
    for (number, yes, want) in [(1, true, CONFIRMED), (2, false, denied(Reason::Declined))] {
        let pending = decide(&mut client, call(number, "more", "a_more")).await;
        assert_eq!((pending.verdict, pending.reason), PENDING);
        assert!(pending.hint.contains(&format!("mcp-run approve {}", pending.id)), "{}", pending.hint);
        client.say(&ToBroker::Confirmed { call: number, yes }).await;
        let told = decision(&mut client).await;
        assert_eq!((told.call, told.id, (told.verdict, told.reason)), (number, pending.id, want));
        // Once.
        client.say(&ToBroker::Confirmed { call: number, yes: true }).await;
    }
    // One that said that its client cannot ask can say no, and not yes.
    let mute = Ask { elicits: false, ..call(3, "more", "a_more") };
    assert_eq!(verdict(&mut client, mute).await, PENDING);
    client.say(&ToBroker::Confirmed { call: 3, yes: true }).await;
    client.say(&ToBroker::Confirmed { call: 3, yes: false }).await;
    assert_eq!(decision(&mut client).await.reason, Reason::Declined);
    let decided = kind(&world, "call_decided", 6).await;
    assert_eq!(decided.len(), 6);
    let answers = kind(&world, "call_confirmed", 3).await;
    let shown: Vec<_> = answers.iter().map(|one| (one["yes"].clone(), one["how"].clone())).collect();
    let elicited = json!("elicitation");
    assert_eq!(
        shown,
        [(json!(true), elicited.clone()), (json!(false), elicited.clone()), (json!(false), elicited)]
    );
}

#[tokio::test]
async fn only_the_session_of_the_launch_answers_by_command() {
    let world = world();
    world.redefine(confirm(Confirm::Each));
    let (login, session, mut client) = world.launched(9, false).await;
    let (other, _, mut other_client) = world.launched(10, false).await;
    let pending = decide(&mut client, call(1, "more", "a_more")).await;
    let asking = world.asking(&login);
    let shown = world.sessions.status(&asking.person, asking.login.as_deref()).confirmations;
    assert_eq!((shown.len(), shown[0].id, shown[0].tool.as_str()), (1, pending.id, "a_more"));
    let stranger = world.asking(&other);
    assert!(world.sessions.status(&stranger.person, stranger.login.as_deref()).confirmations.is_empty());

    let code = |done: Result<(), mcp_broker_proto::problem::Problem>| done.unwrap_err().code;
    assert_eq!(code(world.sessions.confirm(&stranger, pending.id, true)), ErrorCode::NothingThere);
    let nobody = world.asking(&Arc::new(testing::login(11)));
    assert_eq!(code(world.sessions.confirm(&nobody, pending.id, true)), ErrorCode::NothingThere);
    let unknown = mcp_broker_proto::names::CallId::fresh();
    assert_eq!(code(world.sessions.confirm(&asking, unknown, true)), ErrorCode::NothingThere);

    world.sessions.confirm(&asking, pending.id, true).unwrap();
    assert_eq!(code(world.sessions.confirm(&asking, pending.id, false)), ErrorCode::NothingThere);
    // Nor does the client undo it.
    client.say(&ToBroker::Confirmed { call: 1, yes: false }).await;
    let told = decision(&mut client).await;
    assert_eq!((told.id, (told.verdict, told.reason)), (pending.id, CONFIRMED));
    let answers = kind(&world, "call_confirmed", 1).await;
    assert_eq!((&answers[0]["how"], &answers[0]["by"]["uid"]), (&json!("command"), &json!(0)));

    // A lock drops what waits, and takes no answer.
    let waits = decide(&mut client, call(2, "more", "a_more")).await;
    assert_eq!(verdict(&mut other_client, call(1, "more", "a_more")).await, PENDING);
    drop(world.sessions.notice(session, Notice::Lock(LockCause::Command), None));
    assert_eq!(code(world.sessions.confirm(&asking, waits.id, true)), ErrorCode::SessionLocked);
    assert!(matches!(client.hear().await, Some(ToLauncher::Park(_))));
    client.say(&ToBroker::Dead).await;
    let dropped = decision(&mut client).await;
    assert_eq!((dropped.id, dropped.reason), (waits.id, Reason::SessionLocked));
    drop(world.sessions.notice(session, Notice::Unlock, None));
    assert_eq!(code(world.sessions.confirm(&asking, waits.id, true)), ErrorCode::NothingThere);
    // The other session is not touched by that.
    client.hear().await;
    other_client.say(&ToBroker::Confirmed { call: 1, yes: true }).await;
    assert_eq!(decision(&mut other_client).await.reason, Reason::Confirmed);
}

#[tokio::test]
async fn a_yes_holds_for_its_scope_and_session_until_a_lock() {
    let world = world();
    world.redefine(|server| {
        server
            .scopes
            .iter_mut()
            .for_each(|scope| scope.confirm = Some(Confirm::For(Duration::from_secs(600))));
    });
    let (login, session, mut client) = world.launched(12, false).await;
    assert_eq!(verdict(&mut client, call(1, "more", "a_more")).await, PENDING);
    client.say(&ToBroker::Confirmed { call: 1, yes: true }).await;
    assert_eq!(decision(&mut client).await.reason, Reason::Confirmed);
    assert_eq!(verdict(&mut client, call(2, "more", "b_more")).await, CONFIRMED);
    assert_eq!(verdict(&mut client, call(3, "all", "a_all")).await, PENDING, "another scope");
    let mut second = Client::of(world.connect(&login, false).await.unwrap()).await;
    assert_eq!(verdict(&mut second, call(1, "more", "a_more")).await, CONFIRMED, "another launch");
    let (_, _, mut elsewhere) = world.launched(14, false).await;
    assert_eq!(verdict(&mut elsewhere, call(1, "more", "a_more")).await, PENDING, "another session");
    // What another configuration was in force for is not that to which a person said yes.
    world.redefine(|_| {});
    assert_eq!(verdict(&mut second, call(2, "more", "a_more")).await, PENDING);
    client.say(&ToBroker::Confirmed { call: 2, yes: true }).await;
    assert_eq!(verdict(&mut second, call(3, "more", "a_more")).await, PENDING, "of another launch");
    second.say(&ToBroker::Confirmed { call: 3, yes: true }).await;
    assert_eq!(decision(&mut second).await.reason, Reason::Confirmed);
    assert_eq!(verdict(&mut client, call(6, "more", "a_more")).await, CONFIRMED);
    drop(world.sessions.notice(session, Notice::Lock(LockCause::Command), None));
    assert!(matches!(client.hear().await, Some(ToLauncher::Park(_))));
    client.say(&ToBroker::Dead).await;
    assert_eq!(decision(&mut client).await.reason, Reason::SessionLocked);
    drop(world.sessions.notice(session, Notice::Unlock, None));
    assert!(matches!(client.hear().await, Some(ToLauncher::Resume)));
    assert_eq!(verdict(&mut client, call(4, "more", "a_more")).await, PENDING, "after a lock");
}

#[tokio::test]
async fn a_yes_is_decided_on_once_more() {
    let world = world();
    world.redefine(|server| {
        server.scopes[1].confirm = Some(Confirm::Each);
        server.scopes[1].limits.concurrent_calls = Some(1);
    });
    let (_login, _session, mut client) = world.launched(13, false).await;
    assert_eq!(verdict(&mut client, call(1, "more", "a_more")).await, PENDING);
    assert_eq!(verdict(&mut client, call(2, "more", "a_more")).await, denied(Reason::TooManyAtOnce));
    client.say(&ToBroker::Confirmed { call: 1, yes: true }).await;
    assert_eq!(decision(&mut client).await.reason, Reason::Confirmed, "it does not stand in its own way");
    client.say(&answer(1)).await;
    assert_eq!(verdict(&mut client, call(3, "more", "a_more")).await, PENDING);
    let tools = BTreeMap::from([("a_more".to_owned(), Change::Altered)]);
    client.say(&ToBroker::Changed(Changed { scope: "more".parse().unwrap(), tools })).await;
    client.say(&ToBroker::Confirmed { call: 3, yes: true }).await;
    assert_eq!(decision(&mut client).await.reason, Reason::Changed);
    assert_eq!(verdict(&mut client, call(4, "more", "b_more")).await, PENDING, "nothing is left of it");
}

#[tokio::test]
async fn no_answer_is_a_no() {
    let mut world = world();
    let limit = Duration::from_millis(50);
    Arc::get_mut(&mut world.sessions).unwrap().confirm_limit = limit;
    world.redefine(confirm(Confirm::Each));
    let (login, _session, mut client) = world.launched(14, false).await;
    let asked = tokio::time::Instant::now();
    let pending = decide(&mut client, call(1, "more", "a_more")).await;
    let told = decision(&mut client).await;
    assert_eq!((told.id, (told.verdict, told.reason)), (pending.id, denied(Reason::NotConfirmed)));
    assert!(asked.elapsed() >= limit);
    let late = world.sessions.confirm(&world.asking(&login), pending.id, true);
    assert_eq!(late.unwrap_err().code, ErrorCode::NothingThere);
}

#[tokio::test]
async fn what_a_server_shows_otherwise_is_said_and_denied() {
    let world = world();
    let (_login, _session, mut client) = world.launched(15, false).await;
    let changed = |scope: &str, tools: &[(&str, Change)]| {
        let tools = tools.iter().map(|(tool, change)| ((*tool).to_owned(), *change)).collect();
        ToBroker::Changed(Changed { scope: scope.parse().unwrap(), tools })
    };
    for frame in [
        changed("all", &[("a_all", Change::Altered), ("b\n", Change::Added)]),
        changed("all", &[("a_all", Change::Altered)]),
        changed("none", &[("a_all", Change::Altered)]),
    ] {
        client.say(&frame).await;
    }
    assert_eq!(verdict(&mut client, call(1, "all", "a_all")).await, denied(Reason::Changed));
    assert_eq!(verdict(&mut client, call(2, "all", "b_all")).await, ALLOWED);
    let shown = world.shown(client.launch).changed;
    assert_eq!((shown.len(), shown[0].tools.len()), (1, 1));
    client.say(&changed("all", &[])).await;
    assert_eq!(verdict(&mut client, call(3, "all", "a_all")).await, ALLOWED);
    assert!(world.shown(client.launch).changed.is_empty());
    let told = kind(&world, "tools_changed", 2).await;
    let tools: Vec<_> = told.iter().map(|one| one["tools"].clone()).collect();
    assert_eq!(tools, [json!({ "a_all": "altered" }), json!({})]);
}

#[tokio::test]
async fn a_leak_is_said_and_ends_the_launch_where_the_definition_says_so() {
    let world = world();
    let (_login, _session, mut client) = world.launched(16, true).await;
    assert_eq!(client.ticket().await.instance, 0);
    client.say(&ToBroker::Leaked { instance: 0, count: 2 }).await;
    client.say(&ToBroker::Leaked { instance: 9, count: 1 }).await;
    assert_eq!(verdict(&mut client, call(1, "all", "a_all")).await, ALLOWED);
    world.redefine(|server| server.on_leak = OnLeak::End);
    client.say(&ToBroker::Ask(call(2, "all", "a_all"))).await;
    assert_eq!(decision(&mut client).await.reason, Reason::Allowed);
    client.say(&ToBroker::Leaked { instance: 0, count: 1 }).await;
    assert!(matches!(
        client.hear().await,
        Some(ToLauncher::End(End { reason: EndReason::SecretLeaked, .. }))
    ));
    let masked = kind(&world, "secrets_masked", 2).await;
    assert_eq!((masked.len(), &masked[0]["count"], &masked[0]["scope"]), (2, &json!(2), &json!("all")));
}

/// A limit that begins anew with each launch would be none.
#[tokio::test]
async fn limits_are_the_session_s_and_outlive_a_launch() {
    let world = world();
    world.redefine(|server| {
        server.scopes[0].limits.calls_per_minute = Some(2);
        server.scopes[1].limits.concurrent_calls = Some(1);
    });
    let (login, _session, mut first) = world.launched(30, false).await;
    let mut second = Client::of(world.connect(&login, false).await.unwrap()).await;
    assert_eq!(verdict(&mut first, call(1, "all", "a_all")).await, ALLOWED);
    assert_eq!(verdict(&mut second, call(1, "all", "a_all")).await, ALLOWED);
    assert_eq!(verdict(&mut first, call(2, "more", "a_more")).await, ALLOWED);
    assert_eq!(verdict(&mut second, call(2, "more", "a_more")).await, denied(Reason::TooManyAtOnce));
    let (_, _, mut elsewhere) = world.launched(31, false).await;
    assert_eq!(verdict(&mut elsewhere, call(1, "all", "a_all")).await, ALLOWED, "another session");
    drop((first, second));
    kind(&world, "launch_ended", 2).await;
    let mut third = Client::of(world.connect(&login, false).await.unwrap()).await;
    // What was under way is over with its launch; what was called stays called.
    assert_eq!(verdict(&mut third, call(1, "more", "a_more")).await, ALLOWED);
    assert_eq!(verdict(&mut third, call(2, "all", "a_all")).await, denied(Reason::TooManyPerMinute));
}
