//! The launcher's hot functions: a line through the relay in both directions, a frame of the launch channel,
//! a template filled in. What moves the bytes, the kernel, is not in the counts.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Instant;

use counts::{Call, Case, answer, request};
use mcp_broker_proto::Secret;
use mcp_broker_proto::call::Decision;
use mcp_broker_proto::channel::{ToBroker, ToLauncher};
use mcp_broker_proto::plan::{Lists, Plan, Record, ScopePlan, Variant};
use mcp_broker_proto::template::Template;
use mcp_run::client::LaunchChannel;
use mcp_run::proxy::calls::{Calls, Reach};
use mcp_run::proxy::filter::{Client, Filter, List, Listed, Route};
use mcp_run::proxy::lines::{Lines, Long, PIECE};
use mcp_run::proxy::message::Message;
use mcp_run::proxy::outbox::Outbox;
use mcp_run::proxy::redact::{Redactor, Secrets};
use mcp_run::proxy::rule::{self, MAX_DIAGNOSTIC, MAX_MESSAGE};
use mcp_run::proxy::talk::id::Id;
use mcp_run::proxy::talk::servers::Ears;
use mcp_run::proxy::talk::{Otherwise, Talk};

const CASES: &[Case] = &[
    Case { name: "relay-to-server-200", calls: 100, prepare: || to_server(200) },
    Case { name: "relay-to-server-4k", calls: 100, prepare: || to_server(4 << 10) },
    Case { name: "relay-to-server-1m", calls: 10, prepare: || to_server(1 << 20) },
    Case { name: "relay-to-client-200", calls: 100, prepare: || to_client(200) },
    Case { name: "relay-to-client-4k", calls: 100, prepare: || to_client(4 << 10) },
    Case { name: "relay-to-client-1m", calls: 10, prepare: || to_client(1 << 20) },
    Case { name: "relay-diagnostics-200", calls: 100, prepare: diagnostics },
    Case { name: "redact-1m", calls: 10, prepare: redact },
    Case { name: "filter-call-200", calls: 100, prepare: || inspect(200) },
    Case { name: "filter-call-1m", calls: 10, prepare: || inspect(1 << 20) },
    Case { name: "calls-decided-200", calls: 100, prepare: decided },
    Case { name: "filter-pass-tools-100", calls: 10, prepare: || pass_tools(100) },
    Case { name: "filter-pass-tools-1000", calls: 4, prepare: || pass_tools(1000) },
    Case { name: "filter-tools-100", calls: 10, prepare: || filter_tools(100) },
    Case { name: "filter-tools-1000", calls: 4, prepare: || filter_tools(1000) },
    Case { name: "filter-record-tools-1000", calls: 4, prepare: || record_tools(1000) },
    Case { name: "channel-ticket", calls: 100, prepare: ticket },
    Case { name: "channel-beat-out", calls: 100, prepare: beat },
    Case { name: "template-render", calls: 100, prepare: render },
];

fn main() -> ExitCode {
    counts::main(CASES)
}

/// A conversation with an instance that is ready, and what decides on its lines.
struct Scene {
    talk: Talk,
    filter: Filter,
    calls: Calls,
    to_broker: Vec<ToBroker>,
    now: Instant,
}

impl Scene {
    fn new() -> Self {
        let mut talk = Talk::default();
        assert!(talk.join(0, 0, false), "nothing has to be replayed");
        talk.settle(0);
        let (filter, calls) = (Filter::new(&plan(None)), Calls::default());
        Self { talk, filter, calls, to_broker: Vec::new(), now: Instant::now() }
    }

    fn answer(&mut self, text: &str, message: &Message<'_>) {
        let Self { talk, filter, calls, to_broker, now } = self;
        let mut ears = Ears { filter, calls, to_broker, masked: 0, now: *now };
        talk.server_line(0, text, message, &mut ears).expect("it passes");
    }
}

/// A call through the relay, in the pieces in which a pipe gives it, as if it was decided already. A short answer
/// follows, so that as much is remembered after it as before.
fn to_server(length: usize) -> Call {
    const ANSWER: &str = r#"{"id":7,"result":{}}"#;
    let answer = Message::parse(ANSWER).expect("a message");
    let mut scene = Scene::new();
    let (line, mut lines) = (terminated(request(length)), Lines::new(MAX_MESSAGE, Long::Drop));
    Box::new(move || {
        through(&mut lines, &line, |line| {
            let (text, message) = rule::from_client(line).expect("a message");
            assert!(matches!(scene.filter.route(&message), Route::Call(_)));
            scene.talk.client_line(text, &message, 0, Otherwise::Hold).expect("it passes");
        });
        passes(scene.talk.inbox(0).expect("its inbox"), line.len());
        scene.answer(ANSWER, &answer);
        passes(&mut scene.talk.to_client, ANSWER.len() + 1);
        scene.talk.news.clear();
    })
}

/// An answer through the relay, searched for no secret, to a call that is noted without having been read.
fn to_client(length: usize) -> Call {
    let (mut scene, redactor) = (Scene::new(), Redactor::default());
    let (line, mut lines) = (terminated(answer(length)), Lines::new(MAX_MESSAGE, Long::Drop));
    const CALL: &str = r#"{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"q"}}"#;
    let call = Message::parse(CALL).expect("a message");
    Box::new(move || {
        scene.talk.client_line(CALL, &call, 0, Otherwise::Hold).expect("it passes");
        passes(scene.talk.inbox(0).expect("its inbox"), CALL.len() + 1);
        through(&mut lines, &line, |line| {
            assert_eq!(redactor.message(line).count, 0);
            let (text, message) = rule::from_server(line).expect("a message");
            scene.answer(text, &message);
        });
        passes(&mut scene.talk.to_client, line.len());
        scene.talk.news.clear();
    })
}

/// An answer that holds no secret, searched for the three of an instance.
fn redact() -> Call {
    let (mut redactor, mut secrets) = (Redactor::default(), Secrets::default());
    for secret in
        ["v-mcp-orders-ro-5xT2v9", "aB3/x+9=Zq-17 k_Lm0", "postgres://v:aB3%2Fx@db.internal:5432/orders"]
    {
        secrets.add(secret.as_bytes());
    }
    redactor.learn(0, secrets);
    let line = answer(1 << 20);
    Box::new(move || assert_eq!(black_box(redactor.message(black_box(&line))).count, 0))
}

/// A server with two scopes, the tools of the first by name.
fn plan(record: Option<Record>) -> Plan {
    let scope = |name: &str, tools: &[&str]| ScopePlan {
        name: name.parse().expect("a name"),
        revision: 1,
        tools: tools.iter().map(|tool| (*tool).to_owned()).collect(),
        resources: Vec::new(),
        prompts: Vec::new(),
        result_bytes: 16 << 20,
        argument_bytes: 16 << 20,
        named: BTreeMap::new(),
        whole_arguments: false,
    };
    Plan {
        launch: "019ab000-0000-7000-8000-000000000001".parse().expect("an id"),
        server: "orders-db".parse().expect("a name"),
        scopes: vec![
            scope("read", &["search_objects", "execute_sql", "tool_*0"]),
            scope("write", &["write_*"]),
        ],
        client_requests: Vec::new(),
        lazy: false,
        record,
    }
}

/// A call as far as it is decided where it goes: what the relay has to look at, and no copy of it.
fn inspect(length: usize) -> Call {
    let (filter, mut line) = (Filter::new(&plan(None)), request(length));
    Box::new(move || {
        let (_, message) = rule::from_client(black_box(&mut line)).expect("a message");
        assert!(matches!(black_box(filter.route(&message)), Route::Call(_)));
    })
}

/// A call from its question to the word about its answer: what being decided on adds to it, without the frames' way
/// through the kernel.
fn decided() -> Call {
    let (plan, mut calls, now) = (plan(None), Calls::default(), Instant::now());
    let lines = [request(200), answer(200)].map(|line| String::from_utf8(line).expect("text"));
    let mut number = 0;
    Box::new(move || {
        let [call, answer] = lines.each_ref().map(|line| Message::parse(line).expect("a message"));
        number += 1;
        let scope = plan.scopes.first().expect("it has one");
        let mut acts = calls.ask(&lines[0], &call, (0, scope), Reach::default(), now);
        let ask = serde_json::to_vec(&acts.to_broker).expect("a frame");
        assert!(black_box(ask).len() > 200);
        let text = format!(
            r#"{{"call":{number},"id":"019ab000-0000-7000-8000-000000000003","verdict":"allow","reason":"allowed","what":"","hint":""}}"#
        );
        let decision: Decision = serde_json::from_str(&text).expect("a decision");
        acts = calls.decided(&decision, now);
        assert_eq!(acts.forward.len(), 1, "it goes on");
        let report = calls.answered(&Id::of("7"), &answer, [200, 0], now).expect("a report");
        assert!(black_box(serde_json::to_vec(&report).expect("a frame")).len() > 50);
    })
}

/// Tools as servers define them: some hundred bytes each, a tenth of them allowed.
fn tools(count: usize) -> Vec<String> {
    let schema = r#"{"type":"object","properties":{"sql":{"type":"string","description":"The statement, one only"},"limit":{"type":"integer","minimum":1,"default":100}},"required":["sql"]}"#;
    let tool = |n| {
        format!(
            r#"{{"name":"tool_{n}","description":"Runs a statement and answers its rows.","inputSchema":{schema},"annotations":{{"readOnlyHint":true}}}}"#
        )
    };
    (0..count).map(tool).collect()
}

fn tools_answer(count: usize) -> Vec<u8> {
    format!(r#"{{"jsonrpc":"2.0","id":7,"result":{{"tools":[{}]}}}}"#, tools(count).join(",")).into_bytes()
}

/// A list that passes as it is: what filtering is compared with.
fn pass_tools(count: usize) -> Call {
    let mut line = tools_answer(count);
    Box::new(move || {
        let (text, _message) = rule::from_server(black_box(&mut line)).expect("a message");
        drop(black_box(text.to_owned()));
    })
}

fn filter_tools(count: usize) -> Call {
    let (filter, mut line) = (Filter::new(&plan(None)), tools_answer(count));
    Box::new(move || {
        let (text, _message) = rule::from_server(black_box(&mut line)).expect("a message");
        assert!(matches!(black_box(filter.list(List::Tools, text)), Listed::Line(_)));
    })
}

/// The same list from the record.
fn record_tools(count: usize) -> Call {
    let discovery = r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}}}"#.to_owned();
    let lists = Lists { tools: Some((1..=count).collect()), ..Lists::default() };
    let variant = Variant {
        revision: "2025-11-25".to_owned(),
        capable: false,
        discovery: 0,
        scopes: ["read", "write"].map(|name| (name.parse().expect("a name"), lists.clone())).into(),
    };
    let items = std::iter::once(discovery).chain(tools(count)).collect();
    let record = Record { approved_at: String::new(), items, variants: vec![variant] };
    let filter = Filter::new(&plan(Some(record)));
    let hello =
        r#"{"id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{}}}"#;
    let client = Client::of(&Message::parse(hello).expect("a message")).expect("a client");
    let ask = Message::parse(r#"{"jsonrpc":"2.0","id":7,"method":"tools/list"}"#).expect("a message");
    Box::new(move || drop(black_box(filter.recorded(black_box(&ask), Some(&client)).expect("an answer"))))
}

fn terminated(mut line: Vec<u8>) -> Vec<u8> {
    line.push(b'\n');
    line
}

fn diagnostics() -> Call {
    let line = terminated(vec![b'x'; 200]);
    let (mut lines, mut words) = (Lines::new(MAX_DIAGNOSTIC, Long::Split), Outbox::default());
    Box::new(move || {
        through(&mut lines, &line, |line| words.push(line));
        passes(&mut words, line.len());
    })
}

fn through(lines: &mut Lines, bytes: &[u8], mut take: impl FnMut(&mut [u8])) {
    for piece in bytes.chunks(PIECE) {
        lines.room().extend_from_slice(piece);
        lines.each(&mut take);
    }
}

fn passes(outbox: &mut Outbox, length: usize) {
    let passed = black_box(outbox.waiting()).len();
    assert_eq!(passed, length, "the line passes whole");
    outbox.sent(passed);
}

/// A ticket as the broker sends it, from the socket to the parsed frame.
fn ticket() -> Call {
    let (mut broker, launcher) = UnixStream::pair().expect("a pair of sockets");
    launcher.set_nonblocking(true).expect("a socket");
    let mut channel = LaunchChannel::over(launcher.into(), b"");
    Box::new(move || {
        broker.write_all(TICKET.as_bytes()).expect("there is room");
        assert!(channel.read().expect("it was written"));
        let frame = channel.next_frame().expect("a frame");
        assert!(matches!(black_box(frame), Some(ToLauncher::Ticket(_))));
    })
}

fn beat() -> Call {
    let (broker, launcher) = UnixStream::pair().expect("a pair of sockets");
    launcher.set_nonblocking(true).expect("a socket");
    let mut channel = LaunchChannel::over(launcher.into(), b"");
    Box::new(move || {
        let _open = &broker;
        channel.queue(&ToBroker::Beat).and_then(|()| channel.flush()).expect("there is room");
    })
}

fn render() -> Call {
    let template: Template =
        "postgres://{db.username|url}:{db.password|url}@db.internal:5432/orders".parse().expect("a template");
    let fields = [("username", "v-mcp-orders-ro-5xT2v9"), ("password", "aB3/x+9=Zq-17 k_Lm0")]
        .map(|(name, value)| (name.to_owned(), Secret::new(value.to_owned())));
    let credentials = BTreeMap::from([("db".parse().expect("a name"), BTreeMap::from(fields))]);
    Box::new(move || drop(black_box(template.render(black_box(&credentials)).expect("every field is there"))))
}

const TICKET: &str = concat!(
    r#"{"type":"ticket","kind":"secrets","launch":"019ab000-0000-7000-8000-000000000001","instance":0,"idle_secs":900,"server":"orders-db","#,
    r#""scope":"read","command":["/usr/bin/node","/opt/mcp/dbhub/dist/index.js","--transport","stdio"],"#,
    r#""env":{"NODE_ENV":"production"},"cwd":"/home/alice","credentials":{"db":{"#,
    r#""lease":"019ab000-0000-7000-8000-000000000002","fields":{"username":"v-mcp-orders-ro-5xT2v9","#,
    r#""password":"aB3/x+9=Zq-17 k_Lm0"},"expires_at":"2026-11-24T10:15:00Z","#,
    r#""revocability":"immediate"}},"inject":[{"way":"env","name":"DSN","#,
    r#""value":"postgres://{db.username|url}:{db.password|url}@db.internal:5432/orders"}]}"#,
    "\n"
);
