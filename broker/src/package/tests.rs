//! Tests of approvals: what is kept, what is refused, and what damage does to them.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use mcp_broker_proto::approval::ApprovalRequest;
use mcp_broker_proto::names::ServerName;
use mcp_broker_proto::plan::{Lists, Record, Variant};
use mcp_broker_proto::problem::ErrorCode;
use serde_json::json;
use tokio::sync::watch;

use super::check::Checked;
use super::*;
use crate::audit::{AuditLog, ByWhom};
use crate::clock::SystemClock;
use crate::config::plain::{self, server};
use crate::config::testing::TempDir;
use crate::config::{Config, ServerDefinition};

fn config(servers: Vec<ServerDefinition>) -> Arc<Config> {
    let servers = servers.into_iter().map(|server| (server.name.clone(), Arc::new(server))).collect();
    Arc::new(Config { servers, ..plain::config(Path::new("/s"), plain::server("other")) })
}

fn tool(name: &str, description: &str) -> String {
    canonical(&json!({ "name": name, "description": description, "inputSchema": { "type": "object" } }))
}

fn record() -> Record {
    let lists = Lists { tools: Some(vec![1, 2]), resources: Some(vec![]), ..Lists::default() };
    let variant = |revision: &str, lists: &Lists| Variant {
        revision: revision.to_owned(),
        capable: false,
        discovery: 0,
        scopes: [("all".parse().unwrap(), lists.clone())].into(),
    };
    let other = Lists { tools: Some(vec![1, 3]), ..Lists::default() };
    Record {
        approved_at: "2026-11-24T12:00:00Z".to_owned(),
        items: vec![
            canonical(&json!({ "protocolVersion": "2025-11-25" })),
            tool("read", "reads"),
            tool("write", "writes"),
            tool("write", "writes, as newer clients see it"),
        ],
        variants: vec![variant("2025-06-18", &lists), variant("2025-11-25", &other)],
    }
}

struct World {
    dir: TempDir,
    sender: watch::Sender<Arc<Config>>,
    audit: AuditLog,
}

impl World {
    fn new() -> Self {
        let dir = TempDir::new();
        let (audit, _) = AuditLog::open(dir.path(), Arc::new(SystemClock)).unwrap();
        Self { dir, sender: watch::Sender::new(config(vec![server("x")])), audit }
    }

    fn open(&self) -> Arc<Approvals> {
        Approvals::open(self.dir.path(), self.audit.clone(), Arc::new(SystemClock), self.sender.subscribe())
    }

    fn file(&self) -> std::path::PathBuf {
        self.dir.path().join("approvals/x.json")
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("audit.jsonl")).unwrap()
    }
}

fn request(server: &ServerDefinition, record: Record) -> ApprovalRequest {
    ApprovalRequest { server: server.name.clone(), definition: definition_digest(server), record }
}

fn by() -> ByWhom {
    ByWhom { uid: 7, pid: None }
}

#[tokio::test]
async fn what_is_approved_is_in_force_until_the_definition_changes() {
    let world = World::new();
    let approvals = world.open();
    let mut defined = server("x");
    assert!(approvals.record_of(&defined).is_none());
    assert_eq!(approvals.standing(&defined), Standing::None);
    let info = approvals.approve(request(&defined, record()), by()).await.unwrap();
    assert_ne!(info.approved_at, record().approved_at, "the broker's own clock says when");
    let write = &info.tools[&"all".parse().unwrap()]["write"];
    assert_eq!(write.len(), 2, "two kinds of clients see it differently");
    assert!(world.log().contains(r#""event":"server_approved","server":"x","by":{"uid":7,"pid":null}"#));

    for approvals in [&approvals, &world.open()] {
        assert_eq!(approvals.warnings(), Vec::<String>::new());
        assert_eq!(approvals.record_of(&defined).unwrap().items, record().items);
        assert_eq!(approvals.list(), std::slice::from_ref(&info));
    }
    let meta = std::fs::metadata(world.file()).unwrap();
    assert_eq!(meta.mode() & 0o7777, 0o600);
    assert!(!world.dir.path().join("approvals/x.json.new").exists());

    defined.env.insert("A".to_owned(), "b".to_owned());
    world.sender.send_replace(config(vec![defined.clone()]));
    assert!(approvals.record_of(&defined).is_none());
    assert_eq!(approvals.standing(&defined), Standing::Outdated);
    assert!(!approvals.list()[0].current);
}

#[tokio::test]
async fn what_was_not_tried_is_not_approved() {
    let world = World::new();
    let approvals = world.open();
    let mut other = server("x");
    other.command.push("--more".to_owned());
    let code = |approvals: Arc<Approvals>, request| async move {
        approvals.approve(request, by()).await.unwrap_err().code
    };
    let approvals_of = || Arc::clone(&approvals);
    assert_eq!(code(approvals_of(), request(&other, record())).await, ErrorCode::ConfigError);
    assert_eq!(code(approvals_of(), request(&server("y"), record())).await, ErrorCode::UnknownServer);
    let empty = Record { variants: Vec::new(), ..record() };
    assert_eq!(code(approvals_of(), request(&server("x"), empty)).await, ErrorCode::BadRequest);
    assert!(!world.file().exists());
    assert!(!world.log().contains("server_approved"));
}

#[tokio::test]
async fn without_an_audit_log_nothing_is_approved() {
    let world = World::new();
    let audit = AuditLog::unusable(world.dir.path(), Arc::new(SystemClock));
    let clock = Arc::new(SystemClock);
    let approvals = Approvals::open(world.dir.path(), audit, clock, world.sender.subscribe());
    let refused = approvals.approve(request(&server("x"), record()), by()).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::StorageUnavailable);
    assert!(approvals.record_of(&server("x")).is_none());
    assert!(world.open().record_of(&server("x")).is_none());
    assert_eq!(std::fs::read_dir(world.dir.path().join("approvals")).unwrap().count(), 0);
}

#[tokio::test]
async fn damage_is_no_approval_and_no_crash() {
    let world = World::new();
    world.open().approve(request(&server("x"), record()), by()).await.unwrap();
    let good = std::fs::read_to_string(world.file()).unwrap();
    let unreadable = |text: &str, mode: u32| {
        std::fs::remove_file(world.file()).unwrap();
        world.dir.write("approvals/x.json", text);
        std::fs::set_permissions(world.file(), std::fs::Permissions::from_mode(mode)).unwrap();
        let approvals = world.open();
        assert!(approvals.record_of(&server("x")).is_none(), "{text}");
        assert_eq!(approvals.list(), []);
        assert!(approvals.unusable(&"x".parse().unwrap()).is_some(), "{text}");
        assert!(approvals.unusable(&"y".parse().unwrap()).is_none(), "of others nothing is known");
        let warnings = approvals.warnings();
        assert_eq!(warnings.len(), 1, "{text}");
        assert!(
            warnings[0].contains("x.json") && warnings[0].contains("mcp-broker approve x"),
            "{warnings:?}"
        );
        approvals
    };
    for (from, to) in [
        ("\"server\":\"x\"", "\"server\":\"y\""),
        ("{\"server\"", "{\"new\":1,\"server\""),
        ("\"discovery\":0", "\"discovery\":4"),
        ("\"tools\":[1,2]", "\"tools\":[1,9]"),
        ("\"tools\":[1,2]", "\"tools\":[1,1]"),
        ("\"capable\":false", "\"capable\":false,\"more\":0"),
        ("\"scopes\":[\"all\"]", "\"scopes\":[\"some\"]"),
        ("2025-11-25", "2025-06-18"),
    ] {
        let bad = if from == "2025-11-25" {
            good.replace("\"revision\":\"2025-11-25\"", &format!("\"revision\":\"{to}\""))
        } else {
            good.replacen(from, to, 1)
        };
        assert_ne!(bad, good, "{from}");
        unreadable(&bad, 0o600);
    }
    for cut in [0, 1, good.len() / 2, good.len() - 1] {
        unreadable(&good[..cut], 0o600);
    }
    unreadable(&good, 0o644);
    unreadable(&format!("{good}{}", " ".repeat(600 << 10)), 0o600);

    let approvals = unreadable("", 0o600);
    approvals.approve(request(&server("x"), record()), by()).await.unwrap();
    assert_eq!(approvals.warnings(), Vec::<String>::new(), "approved again");
    assert!(approvals.unusable(&"x".parse().unwrap()).is_none());
    assert!(approvals.record_of(&server("x")).is_some());
}

/// A digest that fits must not be enough: the file could have been changed below it.
#[tokio::test]
async fn a_record_about_other_scopes_is_not_used() {
    let world = World::new();
    world.open().approve(request(&server("x"), record()), by()).await.unwrap();
    let other = std::fs::read_to_string(world.file()).unwrap().replace("\"all\"", "\"other\"");
    world.dir.write("approvals/x.json", &other);
    let approvals = world.open();
    assert_eq!(approvals.warnings(), Vec::<String>::new());
    assert!(approvals.record_of(&server("x")).is_none());
}

#[test]
fn flaws_of_records() {
    let scopes = BTreeSet::from(["all".parse().unwrap()]);
    let flaw = |change: &dyn Fn(&mut Record)| {
        let mut record = record();
        change(&mut record);
        Checked::new(record, &scopes).err()
    };
    assert_eq!(flaw(&|_| {}), None);
    assert_eq!(flaw(&|record| record.approved_at.clear()), Some(Flaw::Time));
    assert_eq!(flaw(&|record| record.items[3] = "[]".to_owned()), Some(Flaw::NoObject(3)));
    assert_eq!(flaw(&|record| record.items[1] = "{}".to_owned()), Some(Flaw::Nameless(1, "name")));
    assert_eq!(
        flaw(&|record| record.items[1] = record.items[1].replace(':', ": ")),
        Some(Flaw::NotCanonical(1))
    );
    assert_eq!(flaw(&|record| record.items.truncate(3)), Some(Flaw::NoItem(3)));
    assert_eq!(flaw(&|record| record.variants[0].scopes.clear()), Some(Flaw::Scopes));
    assert_eq!(
        flaw(&|record| record.items.push(format!("{{\"a\":\"{}\"}}", "x".repeat(512 << 10)))),
        Some(Flaw::TooLong)
    );
}

#[test]
fn the_digest_of_a_definition_is_of_what_is_run_and_shown() {
    let plain = definition_digest(&server("x"));
    let changed = |change: &dyn Fn(&mut ServerDefinition)| {
        let mut server = server("x");
        change(&mut server);
        definition_digest(&server) != plain
    };
    assert!(changed(&|server| server.command.push("-v".to_owned())));
    assert!(changed(&|server| server.extra_args.push("*".to_owned())));
    assert!(changed(&|server| server.cwd = "/tmp".to_owned()));
    assert!(changed(&|server| drop(server.env.insert("A".to_owned(), String::new()))));
    assert!(changed(&|server| server.scopes[0].name = "b".parse().unwrap()));
    assert!(changed(&|server| server.scopes[0].tools.clear()));
    assert!(changed(&|server| server.scopes[0].resources.push("*".to_owned())));
    assert!(changed(&|server| server.scopes[0].prompts.push("*".to_owned())));
    assert!(!changed(&|server| server.description = "other words".to_owned()));
    assert!(!changed(&|server| server.access.users.push("alice".to_owned())));
    assert!(!changed(&|server| server.scopes[0].limits.calls_per_minute = Some(1)));
    let name: ServerName = "y".parse().unwrap();
    assert!(!changed(&|server| server.name = name.clone()));
}

#[test]
fn the_canonical_form_sorts_keys() {
    let value: serde_json::Value = serde_json::from_str(r#"{"b":[{"z":1,"a":2}],"a":{}}"#).unwrap();
    assert_eq!(canonical(&value), r#"{"a":{},"b":[{"a":2,"z":1}]}"#);
}
