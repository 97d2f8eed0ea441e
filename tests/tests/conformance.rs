//! The protocol's own conformance checks, made by others, say the same of a server behind `mcp-run` as of that server
//! itself: in both eras, whether it starts with the launch or is answered for from its approval record. The checks
//! speak HTTP, so a bridge made by others stands in front of both.
//!
//! Every server scenario of the two revisions runs. Left out: those of extensions, which the suite runs by name only,
//! and those of clients and of authorization servers, as a launcher is neither. Not proved: what the bridge repairs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::parts::{node_22, seen};
use e2e::pg::free_port;
use e2e::process::{Collected, Process, spawn};
use e2e::world::Scope;
use e2e::{World, eventually};
use serde_json::Value;

/// The checks of each scenario, in order: which one, how it ended, and what it said.
type Checks = BTreeMap<String, Vec<(String, String, String)>>;

const SERVER: [&str; 4] = ["/usr/bin/python3", "-I", "-S", seen::CONFORMS];
/// How the suite writes the time at the end of a folder's name.
const TIME: &str = "-2026-07-28T00-00-00-000Z";
/// What a run of the suite may take.
const LONG: Duration = Duration::from_secs(240);

fn world() -> World {
    let scope = || Scope::of("all", &["*"]).line("resources = [\"*\"]\nprompts = [\"*\"]");
    let requests = r#"client_requests = ["sampling", "elicitation", "roots"]"#;
    let eager = format!("{requests}\nstart = \"eager\"");
    World::user()
        .scoped("eager", &SERVER, &eager, &[scope()])
        .scoped("lazy", &SERVER, requests, &[scope()])
        .start()
}

/// The bridge in front of a command, on that port.
fn bridge(world: &World, stdio: &str, port: u16) -> Process {
    let mut command = world.command(ALICE, node_22().to_str().expect("text"));
    command.args([seen::BRIDGE, "--stdio", stdio, "--outputTransport", "streamableHttp", "--stateful"]);
    command.args(["--logLevel", "none", "--port", &port.to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let process = spawn(command, world.view(ALICE));
    eventually("the bridge listens", || so(TcpStream::connect(("127.0.0.1", port)).is_ok()));
    process
}

/// What the suite says of a command that speaks MCP on its standard streams.
fn checks(world: &World, name: &str, stdio: &str, revision: &str) -> Checks {
    let port = free_port();
    let mut bridge = bridge(world, stdio, port);
    let results = ALICE.home(world.path()).join(format!("checks-{name}"));
    let mut command = world.command(ALICE, node_22().to_str().expect("text"));
    command.args([seen::CONFORMANCE, "server", "--suite", "all", "--spec-version", revision]);
    command.args(["--url", &format!("http://127.0.0.1:{port}/mcp")]).arg("-o").arg(&results);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut suite = spawn(command, world.view(ALICE));
    let said = Collected::from(suite.child.stdout.take().expect("it is piped"));
    let _ = Collected::from(suite.child.stderr.take().expect("it is piped"));
    // Its exit code tells whether everything passed, and not all of it is about the server.
    let _ = suite.wait_within(LONG);
    bridge.signal(libc::SIGTERM);
    let _ = bridge.wait();
    let found = read(&results);
    assert!(!found.is_empty(), "{name}: the suite did not run: {}", said.text());
    found
}

/// The files of a run: one folder a scenario, with the time in its name.
fn read(results: &std::path::Path) -> Checks {
    let mut all = Checks::new();
    for entry in fs::read_dir(results).into_iter().flatten().flatten() {
        let folder = entry.file_name().to_string_lossy().into_owned();
        let scenario = folder[..folder.len().saturating_sub(TIME.len())].to_owned();
        let text = fs::read(entry.path().join("checks.json")).expect("each scenario has its checks");
        let checks: Vec<Value> = serde_json::from_slice(&text).expect("the suite writes JSON");
        let word = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        let told = checks.iter().map(|c| (word(c, "id"), word(c, "status"), word(c, "errorMessage")));
        all.entry(scenario).or_default().extend(told);
    }
    all
}

#[track_caller]
fn assert_same(name: &str, bare: &Checks, through: &Checks) {
    let lines = |checks: &Checks| -> BTreeSet<String> {
        let told = checks.iter().flat_map(|(scenario, all)| {
            all.iter().enumerate().map(move |(at, check)| format!("{scenario} {at}: {check:?}"))
        });
        told.collect()
    };
    let (bare, through) = (lines(bare), lines(through));
    let different: Vec<_> = bare.symmetric_difference(&through).collect();
    assert!(different.is_empty(), "{name}: {different:#?}");
}

/// Bare, eager and from the record; `least` checks pass at all, so that equality says something.
fn the_checks_are_the_same(revision: &str, least: usize) {
    let mut world = world();
    world.approve("lazy", &[]).assert_code(0);
    let bare = checks(&world, "bare", &SERVER.join(" "), revision);
    let passed = bare.values().flatten().filter(|(_, status, _)| status == "SUCCESS").count();
    assert!(passed >= least, "{passed} checks pass without the launcher: {bare:#?}");
    for name in ["eager", "lazy"] {
        let through = checks(&world, name, &format!("{} {name}", seen::LAUNCHER), revision);
        assert_same(name, &bare, &through);
    }
    world.assert_settled();
}

#[test]
fn the_checks_of_the_handshake_era_are_the_same() {
    the_checks_are_the_same("2025-11-25", 75);
}

#[test]
fn the_checks_of_the_stateless_era_are_the_same() {
    the_checks_are_the_same("2026-07-28", 130);
}
