//! The broker's pure functions: the journal's lines and their replay, the audit log's chain, a decision, the
//! example configuration, a frame of the launch channel.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, Permissions};
use std::hint::black_box;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use counts::{Call, Case};
use mcp_broker::audit::{self, Event};
use mcp_broker::config::{self, Config, KindReader, Mode, Places};
use mcp_broker::lease::journal;
use mcp_broker::policy::{Decision, Subject, decide};
use mcp_broker::provider::KINDS;
use mcp_broker_proto::channel::ToBroker;
use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::Revocability;

const CASES: &[Case] = &[
    Case { name: "journal-encode-1000", calls: 4, prepare: journal_encode },
    Case { name: "journal-replay-1000", calls: 4, prepare: journal_replay },
    Case { name: "audit-encode-and-hash", calls: 100, prepare: audit_encode },
    Case { name: "policy-granted", calls: 100, prepare: || policy("alice", true) },
    Case { name: "policy-denied", calls: 100, prepare: || policy("mallory", false) },
    Case { name: "config-examples", calls: 20, prepare: config_examples },
    Case { name: "channel-beat-in", calls: 100, prepare: beat_in },
];

fn main() -> ExitCode {
    counts::main(CASES)
}

/// A lease's life as the journal tells it, so often that there are 1,000 records.
fn journal_text() -> Vec<u8> {
    let mut text = Vec::new();
    for number in 0..250 {
        let id = format!("019ab000-0000-7000-8000-{number:012x}");
        let other = format!("019ab000-0000-7000-9000-{number:012x}");
        let handle =
            format!(r#"{{"lease_id":"database/creds/orders-ro/{number:024}","accessor":"{number:024}"}}"#);
        for json in [
            format!(
                r#"{{"step":"intent","id":"{id}","what":{{"kind":"lease","launch":"{other}","session":"{other}","user":"alice","server":"orders-db","scope":"read","credential":"db","provider":"bao","revocability":"immediate"}}}}"#
            ),
            format!(r#"{{"step":"prepared","id":"{id}","provider":"bao","handle":{handle}}}"#),
            format!(
                r#"{{"step":"live","id":"{id}","provider":"bao","handle":{handle},"expires_at":"2026-11-24T10:15:00Z","revocability":"immediate"}}"#
            ),
            format!(r#"{{"step":"settled","id":"{id}"}}"#),
        ] {
            text.extend_from_slice(format!("{:08x} {json}\n", crc32fast::hash(json.as_bytes())).as_bytes());
        }
    }
    text
}

fn journal_encode() -> Call {
    let text = journal_text();
    let (records, ..) = journal::replay(&text);
    assert_eq!(records.len(), 1000);
    let mut out = Vec::with_capacity(text.len() * 2);
    Box::new(move || {
        out.clear();
        for record in black_box(&records) {
            journal::encode(record, &mut out);
        }
        assert!(black_box(&out).len() > 100_000);
    })
}

fn journal_replay() -> Call {
    let text = journal_text();
    Box::new(move || {
        let (records, length, bad) = journal::replay(black_box(&text));
        assert_eq!((records.len(), length, bad), (1000, text.len() as u64, 0));
    })
}

fn audit_encode() -> Call {
    let lease: LeaseId = "019ab000-0000-7000-8000-000000000001".parse().expect("an id");
    let other = "019ab000-0000-7000-8000-000000000002".parse().expect("an id");
    let events = [
        Event::CredentialIssued {
            lease,
            expires_at: Some("2026-11-24T10:15:00Z".into()),
            revocability: Revocability::Immediate,
            detail: None,
        },
        Event::InstanceExited {
            launch: other,
            instance: 0,
            scope: "read".parse().expect("a name"),
            status: 0,
        },
    ];
    Box::new(move || {
        let lines = audit::encoded(black_box(&events), "2026-11-24T10:00:00.123456789Z");
        assert_eq!(black_box(lines).iter().filter(|byte| **byte == b'\n').count(), events.len());
    })
}

/// The examples in a directory of the size of this program's own, as the loader judges owner and mode.
struct Examples {
    folder: PathBuf,
    places: Places,
    kinds: Vec<&'static KindReader>,
}

impl Examples {
    fn copy() -> Self {
        // The path's length is in the counts, so it must not depend on the machine.
        let folder = PathBuf::from(format!("/tmp/counts-{:010}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&folder);
        made.unwrap_or_else(|error| panic!("cannot make {}: {error}", folder.display()));
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/examples");
        DirBuilder::new().mode(0o700).create(folder.join("servers.d")).expect("the folder is new");
        for name in ["broker.toml", "servers.d/orders-db.toml", "servers.d/everything.toml"] {
            fs::copy(from.join(name), folder.join(name)).expect("the example is there");
            fs::set_permissions(folder.join(name), Permissions::from_mode(0o600)).expect("it is ours");
        }
        let places = Places::new(rustix::process::geteuid().as_raw(), |_| None);
        Self { folder, places, kinds: KINDS.iter().map(|kind| &kind.reader).collect() }
    }

    fn load(&self) -> Config {
        config::load(&self.folder, Mode::System, &self.places, &self.kinds)
            .unwrap_or_else(|found| panic!("the examples are refused: {found:?}"))
    }
}

impl Drop for Examples {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.folder).unwrap_or_default();
    }
}

fn config_examples() -> Call {
    let examples = Examples::copy();
    Box::new(move || assert_eq!(black_box(examples.load()).servers.len(), 2))
}

fn policy(user: &str, allowed: bool) -> Call {
    let servers = Examples::copy().load().servers;
    let group = if allowed { "data" } else { "guests" };
    let groups = [user, "users", "audio", group].map(str::to_owned).to_vec();
    let subject = Subject { user: user.into(), groups };
    let server = "orders-db".parse().expect("a name");
    Box::new(move || {
        let decision = decide(black_box(&servers), black_box(&server), black_box(&subject), &[]);
        assert_eq!(matches!(black_box(decision), Decision::Grant(_)), allowed);
    })
}

fn beat_in() -> Call {
    let frames: BTreeMap<&str, &[u8]> = BTreeMap::from([
        ("beat", br#"{"type":"beat"}"#.as_slice()),
        ("exited", br#"{"type":"exited","instance":0,"status":0}"#.as_slice()),
    ]);
    Box::new(move || {
        for line in frames.values() {
            let frame: ToBroker = serde_json::from_slice(black_box(line)).expect("a frame");
            black_box(frame);
        }
    })
}
