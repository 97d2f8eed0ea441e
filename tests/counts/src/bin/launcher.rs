//! The launcher's hot functions: a line through the relay in both directions, a frame of the launch channel,
//! a template filled in. What moves the bytes, the kernel, is not in the counts.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use counts::{Call, Case, answer, request};
use mcp_broker_proto::Secret;
use mcp_broker_proto::channel::{ToBroker, ToLauncher};
use mcp_broker_proto::template::Template;
use mcp_run::client::LaunchChannel;
use mcp_run::proxy::flow::{Flow, PIECE};
use mcp_run::proxy::rule::{MAX_MESSAGE, Rule};

const CASES: &[Case] = &[
    Case { name: "relay-to-server-200", calls: 100, prepare: || relay(CLIENT, request(200)) },
    Case { name: "relay-to-server-4k", calls: 100, prepare: || relay(CLIENT, request(4 << 10)) },
    Case { name: "relay-to-server-1m", calls: 10, prepare: || relay(CLIENT, request(1 << 20)) },
    Case { name: "relay-to-client-200", calls: 100, prepare: || relay(SERVER, answer(200)) },
    Case { name: "relay-to-client-4k", calls: 100, prepare: || relay(SERVER, answer(4 << 10)) },
    Case { name: "relay-to-client-1m", calls: 10, prepare: || relay(SERVER, answer(1 << 20)) },
    Case { name: "relay-diagnostics-200", calls: 100, prepare: || relay(DIAGNOSTICS, vec![b'x'; 200]) },
    Case { name: "channel-ticket", calls: 100, prepare: ticket },
    Case { name: "channel-beat-out", calls: 100, prepare: beat },
    Case { name: "template-render", calls: 100, prepare: render },
];

const CLIENT: Rule = Rule::FromClient { max_line: MAX_MESSAGE };
const SERVER: Rule = Rule::FromServer { max_line: MAX_MESSAGE };
const DIAGNOSTICS: Rule = Rule::Diagnostics { max_line: 64 << 10 };

fn main() -> ExitCode {
    counts::main(CASES)
}

/// One line through a direction, in the pieces in which a pipe gives it.
fn relay(rule: Rule, mut line: Vec<u8>) -> Call {
    line.push(b'\n');
    let mut flow = Flow::new(rule);
    Box::new(move || {
        let mut passed = 0;
        for piece in line.chunks(PIECE) {
            flow.room().extend_from_slice(piece);
            flow.judge();
            passed += black_box(flow.waiting()).len();
            flow.sent(flow.waiting().len());
        }
        assert_eq!(passed, line.len(), "the line passes whole");
    })
}

/// A ticket as the broker sends it, from the socket to the parsed frame.
fn ticket() -> Call {
    let (mut broker, launcher) = UnixStream::pair().expect("a pair of sockets");
    launcher.set_nonblocking(true).expect("a socket");
    let until = Instant::now() + Duration::from_secs(3600);
    let mut channel = LaunchChannel::over(launcher.into(), b"", until);
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
    let mut channel = LaunchChannel::over(launcher.into(), b"", Instant::now());
    Box::new(move || {
        let _open = &broker;
        channel.send(&ToBroker::Beat).expect("there is room");
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
    r#"{"type":"ticket","kind":"secrets","launch":"019ab000-0000-7000-8000-000000000001","server":"orders-db","#,
    r#""scope":"read","command":["/usr/bin/node","/opt/mcp/dbhub/dist/index.js","--transport","stdio"],"#,
    r#""env":{"NODE_ENV":"production"},"cwd":"/home/alice","credentials":{"db":{"#,
    r#""lease":"019ab000-0000-7000-8000-000000000002","fields":{"username":"v-mcp-orders-ro-5xT2v9","#,
    r#""password":"aB3/x+9=Zq-17 k_Lm0"},"expires_at":"2026-11-24T10:15:00Z","#,
    r#""revocability":"immediate"}},"inject":[{"way":"env","name":"DSN","#,
    r#""value":"postgres://{db.username|url}:{db.password|url}@db.internal:5432/orders"}]}"#,
    "\n"
);
