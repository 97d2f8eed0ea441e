//! `kill -9` of the broker at every point of a credential's life: each record of the journal, each call to
//! OpenBao, each step of a refresh below a running server, of an end and of a recovery. What is alive is asked of PostgreSQL (its users) and of OpenBao
//! (every token that it knows). Without a restart nothing may be alive once the dead man's period and 5 s have
//! passed; after a restart everything is settled within 5 s, on top of what a recovery waits on purpose.
//! Each point twice, with `tests/run --full` twenty times.
//!
//! Not proved: the loss of power (the page cache survives a killed process).

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use e2e::accounts::ALICE;
use e2e::bao::ROOT_TOKEN;
use e2e::eventually::{so, within};
use e2e::mcp::Client;
use e2e::parts::repository;
use e2e::{World, rounds};
use serde_json::json;

/// The period of a session's parent here, in seconds.
const DEAD_MAN: u32 = 5;
/// What the specification gives a broker that is dead, and one that has started again.
const GRACE: Duration = Duration::from_secs(5);
/// What a recovery waits on purpose where a request of its predecessor may still be running.
const REST: Duration = Duration::from_secs(3);
/// So many worlds work through the cases at a time: most of a case is waiting.
const WORKERS: usize = 12;

/// What the broker is doing when it passes a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// A launch, its end, and the end of its session.
    Life,
    /// A launch that lives until its credentials are renewed.
    Renewal,
    /// A launch that lives until other credentials take the place of its own below the running server.
    Refresh,
    /// A launch that ends while its lease cannot be revoked.
    Trouble,
    /// A start after a crash.
    Recovery,
    /// A start after a crash that damaged the journal.
    Damage,
    /// A launch during which the broker's own token is renewed.
    OwnToken,
    /// A launch that ends when the broker's own token was revoked.
    NoToken,
    /// A launch whose session is locked, and unlocked again.
    Lock,
}

#[derive(Debug, Clone)]
struct Case {
    point: String,
    passing: u32,
    scene: Scene,
    /// Whether to wait for the dead man before the restart.
    alone: bool,
}

/// The broker's own table of points.
fn points() -> Vec<String> {
    let path = repository().join("broker/src/fault/points.rs");
    let text = fs::read_to_string(path).expect("the table is there");
    let lines = text.lines().map(str::trim);
    lines.filter_map(|line| Some(line.strip_prefix('"')?.strip_suffix("\",")?.to_owned())).collect()
}

/// How a point is reached: the scenes, and how often it is passed before the moment in question.
fn ways(point: &str) -> Vec<(Scene, u32)> {
    use Scene::{Damage, Life, Lock, NoToken, OwnToken, Recovery, Refresh, Renewal, Trouble};
    let name = point.trim_end_matches(".before").trim_end_matches(".after");
    match name {
        // The lease's, then its parent's.
        "journal.intent" | "journal.live" => vec![(Life, 1), (Life, 2)],
        "journal.ending" | "journal.settled" => vec![(Life, 1), (Life, 2), (Recovery, 1), (Recovery, 2)],
        "end.begun" | "end.rested" | "end.revoked" | "end.settled" => {
            vec![(Life, 1), (Life, 2), (Recovery, 1), (Recovery, 2)]
        }
        // A launch that ends as its session does falls with the parent, and needs no revocation of its own.
        "backend.revoke-token" | "backend.look-up-token" => vec![(Life, 1), (Recovery, 1), (Recovery, 2)],
        // What was there before it is revoked, and whether it is gone after it.
        "backend.revoke-lease" => vec![(Life, 1), (Recovery, 1)],
        "backend.look-up-lease" => vec![(Life, 1)],
        "backend.queue-lease" => vec![(Trouble, 1)],
        "backend.renew-parent" => vec![(Renewal, 1), (Renewal, 3)],
        "backend.renew" => vec![(Renewal, 1)],
        "backend.sign-in" | "backend.health" => vec![(Life, 1), (Recovery, 1)],
        "backend.renew-self" => vec![(OwnToken, 1)],
        "backend.look-at-self" => vec![(NoToken, 1)],
        "durable.write" | "durable.sync" => vec![(Life, 3), (Life, 5), (Recovery, 2)],
        "durable.replace-written" | "durable.replace-renamed" => vec![(Damage, 1)],
        _ if name.starts_with("refresh.") => vec![(Refresh, 1), (Refresh, 2)],
        _ if name.starts_with("recover.") => vec![(Recovery, 1)],
        "launch.ticket-sending" | "launch.ticket-sent" => vec![(Life, 1), (Lock, 2)],
        "launch.killed" | "launch.parked" | "session.resumed" => vec![(Lock, 1)],
        _ if name.starts_with("session.") => vec![(Lock, 1), (Life, 1)],
        _ => vec![(Life, 1)],
    }
}

fn cases() -> VecDeque<Case> {
    let mut cases = VecDeque::new();
    let points = points();
    assert!(points.len() >= 24, "the table was not found: {points:?}");
    for point in points {
        let ways = ways(&point);
        let all = rounds(2, 20).max(ways.len());
        for (at, (scene, passing)) in ways.into_iter().cycle().take(all).enumerate() {
            cases.push_back(Case { point: point.clone(), passing, scene, alone: at == 0 });
        }
    }
    // The long ones first, so that none of them is waited for alone at the end.
    cases.make_contiguous().sort_by_key(|case| !case.alone);
    cases
}

/// Three servers: the leases of one live for 15 minutes, those of the second are renewed every few seconds, and those
/// of the third cannot be.
fn world() -> World {
    let world = World::user().dead_man(DEAD_MAN).vault().with_fault_points().probe("orders-db", &[]);
    let (role, brief) = (world.role.clone(), format!("{}b", world.role));
    world.bao().database(world.pg(), &brief, json!({ "default_ttl": "5s" }));
    let path = format!("database/creds/{role}");
    world.bao().policy(&role, &format!(r#"path "{path}*" {{ capabilities = ["read"] }}"#));
    let text =
        world.definition(&[e2e::parts::seen::PROBE]).replace(&path, &format!("database/creds/{brief}"));
    let fixed = format!("{role}f");
    world.bao().database(world.pg(), &fixed, json!({ "default_ttl": "6s", "max_ttl": "6s" }));
    let by_file = world.definition_by_file().replace(&path, &format!("database/creds/{fixed}"));
    world.file("orders-brief", &text).file("orders-file", &by_file)
}

/// Asks a few times a second: many worlds share the machine.
#[track_caller]
fn patiently(limit: Duration, what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < end, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(150));
    }
}

/// Tokens that OpenBao knows, except those of the broker and of the test: the tokens of sessions and launches.
fn tokens(world: &World) -> Vec<String> {
    let list = world.bao().call("LIST", "auth/token/accessors", None);
    let accessors = list["data"]["keys"].as_array().cloned().unwrap_or_default();
    let ours = |accessor: &serde_json::Value| {
        let body = json!({ "accessor": accessor });
        let found = world.bao().try_call("PUT", "auth/token/lookup-accessor", Some(&body), ROOT_TOKEN)?;
        // One that ended since it was listed is not known any more.
        let policies = (found.status == 200).then(|| found.json()["data"]["policies"].to_string())?;
        (!policies.contains("root") && !policies.contains("mcp-broker")).then_some(policies)
    };
    accessors.iter().filter_map(ours).collect()
}

fn nothing_alive(world: &World) -> bool {
    world.users().is_empty() && tokens(world).is_empty()
}

/// Starts a broker that is told where to die, and waits until it is ready or dead.
fn start_told(mut world: World, order: &str) -> World {
    world.set_variable("MCP_BROKER_FAULT", Some(order.to_owned()));
    let mut world = world.start_anyway();
    within(Duration::from_secs(20), "it is ready or dead", || {
        so(!world.broker().printed().is_empty() || !world.broker().process.running())
    });
    world
}

fn start_untold(mut world: World) -> World {
    world.set_variable("MCP_BROKER_FAULT", None);
    world.start()
}

/// What a broker that dies leaves: a launch with its credential.
fn leave_a_launch(world: World) -> World {
    let mut world = start_untold(world);
    let mut client = world.launch(ALICE, "orders-db");
    world.broker().kill9();
    client.process.kill9();
    world
}

fn damage_the_journal(world: &World) {
    let path = world.state_dir().join("journal");
    let mut bytes = fs::read(&path).expect("there is a journal");
    // In the first line, with whole ones behind it.
    bytes[20] ^= 1;
    fs::write(&path, bytes).expect("it is ours");
}

/// Brings a broker to where it dies. Answers with the clients that were connected to it.
fn play(world: World, case: &Case) -> (World, Vec<Client>) {
    let order = format!("{}:{}", case.point, case.passing);
    if matches!(case.scene, Scene::Recovery | Scene::Damage) {
        let world = leave_a_launch(world);
        if case.scene == Scene::Damage {
            damage_the_journal(&world);
        }
        return (start_told(world, &order), Vec::new());
    }
    let period = if case.scene == Scene::OwnToken { "3s" } else { "1h" };
    world.bao().put("auth/approle/role/mcp-broker", &json!({ "token_period": period }));
    let mut world = start_told(world, &order);
    let server = match case.scene {
        Scene::Renewal => "orders-brief",
        Scene::Refresh => "orders-file",
        _ => "orders-db",
    };
    let mut client = world.run(ALICE, &[server]);
    let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {} });
    let answered = client.try_request("initialize", params).is_some();
    match case.scene {
        Scene::Trouble => {
            world.proxy().times(1, "sys/leases/revoke", e2e::fault::Fault::status(500));
        }
        Scene::NoToken => {
            let seen = world.proxy().seen();
            let make = seen.iter().rev().find(|seen| seen.path.starts_with("auth/token/create/mcp-session"));
            let token = make.and_then(|seen| seen.token.clone()).expect("its own token makes the parent");
            world.bao().put("auth/token/revoke", &json!({ "token": token }));
        }
        _ => {}
    }
    if case.scene == Scene::Lock {
        // Whichever of them the broker does not live to answer.
        let _ = world.run_to_end(ALICE, &["lock"]);
        let _ = world.run_to_end(ALICE, &["unlock"]);
        return (world, vec![client]);
    }
    if answered && !matches!(case.scene, Scene::Renewal | Scene::Refresh | Scene::OwnToken) {
        client.close();
        let mut logout = world.run(ALICE, &["logout"]);
        if world.broker().process.running() {
            logout.close();
        }
        return (world, vec![client, logout]);
    }
    (world, vec![client])
}

fn run(world: World, case: &Case) -> World {
    let (mut world, clients) = play(world, case);
    let exit = world.broker().process.wait();
    assert_eq!(exit.code(), 137, "it dies where it was told to: {}", last_lines(&world));
    let died = Instant::now();
    for mut client in clients {
        client.process.kill9();
    }
    world.proxy().heal();
    if case.alone {
        let limit = Duration::from_secs(DEAD_MAN.into()) + GRACE;
        patiently(limit, "nothing is alive without a restart", || nothing_alive(&world));
        println!("{case:?}: dead {:?} after the broker", died.elapsed());
    }
    let mut world = start_untold(world);
    if case.scene == Scene::Lock {
        // What was locked is locked still, and the next case is not about that.
        world.run_to_end(ALICE, &["unlock"]).assert_code(0);
    }
    let started = Instant::now();
    patiently(GRACE + REST, "nothing is alive, nothing is owed", || {
        nothing_alive(&world) && world.leases().is_empty()
    });
    println!("{case:?}: settled {:?} after the start", started.elapsed());
    world.broker().kill9();
    world.admin(&["audit", "verify"]).assert_code(0);
    world
}

fn last_lines(world: &World) -> String {
    let log = fs::read_to_string(world.log_path()).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter(|line| !line.contains("hyper")).collect();
    lines[lines.len().saturating_sub(60)..].join("\n")
}

/// Works through the cases in worlds of its own; a world in which a case failed is not used again.
fn work(queue: &Mutex<VecDeque<Case>>, failures: &Mutex<BTreeMap<String, String>>) {
    let mut kept = None;
    loop {
        let Some(case) = queue.lock().unwrap().pop_front() else { return };
        let world = kept.take().unwrap_or_else(world);
        match catch_unwind(AssertUnwindSafe(|| run(world, &case))) {
            Ok(world) => kept = Some(world),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
                failures.lock().unwrap().insert(format!("{case:?}"), text);
            }
        }
    }
}

#[test]
fn a_kill_at_every_point_leaves_nothing() {
    let queue = Mutex::new(cases());
    let count = queue.lock().unwrap().len();
    let (failures, began) = (Mutex::default(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| work(&queue, &failures));
        }
    });
    println!("{count} kills at {} points took {:?}", points().len(), began.elapsed());
    let failures: BTreeMap<String, String> = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{} of {count} failed: {failures:#?}", failures.len());
}

/// Where a recovery is killed in a way that leaves something to the next one.
const DURING_RECOVERY: &[&str] = &[
    "recover.begun",
    "end.begun",
    "backend.sign-in.after",
    "end.rested",
    "backend.look-up-lease.before",
    "backend.revoke-lease.before",
    "backend.revoke-lease.after",
    "backend.revoke-token.after",
    "end.revoked",
    "journal.settled.before",
];

/// The restarted broker dies again and again while it recovers: each goes on where the last one was, and the
/// journal does not grow by it.
#[test]
fn recoveries_that_are_killed_ten_times_converge() {
    let mut world = leave_a_launch(world());
    let size = |world: &World| fs::metadata(world.state_dir().join("journal")).expect("it is there").len();
    let (before, mut sizes) = (size(&world), Vec::new());
    for point in DURING_RECOVERY {
        world = start_told(world, point);
        assert_eq!(world.broker().process.wait().code(), 137, "at {point}: {}", last_lines(&world));
        sizes.push(size(&world));
    }
    // That the lease and its parent are to be ended is written once, whoever wrote it.
    assert!(sizes[9] <= before + 2 * 128, "the journal grows: {before}, {sizes:?}");
    let mut world = start_untold(world);
    patiently(GRACE + REST, "all is settled", || nothing_alive(&world) && world.leases().is_empty());
    world.assert_settled();
}

/// A panic is a defect of ours: it costs the launch that met it, and nothing that was made for it stays.
#[test]
fn a_panic_on_the_way_of_a_mint_costs_that_mint() {
    let mut world = world();
    for point in
        ["mint.begun", "mint.parent-known", "mint.prepared", "mint.durable", "mint.issued", "mint.done"]
    {
        world = start_told(world, &format!("{point}=panic"));
        // Which asks once more, and ends well.
        world.run_to_end(ALICE, &["orders-db"]).assert_code(0);
        world.broker().wait_log(&format!("told to panic at `{point}`"));
        assert!(world.broker().process.running(), "{point}: the broker goes on");
        patiently(GRACE + REST, "the user is gone, and nothing is owed", || {
            world.users().is_empty() && world.leases().is_empty()
        });
        assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0, "{point}: and so do launches");
        assert_eq!(world.run_to_end(ALICE, &["logout"]).code, 0);
        patiently(GRACE + REST, point, || nothing_alive(&world));
        world.broker().kill9();
    }
}

/// A broker that stops in the middle of things, for longer than the dead man waits: nothing is alive then. When
/// it goes on, it delivers nothing of what has ended.
#[test]
fn a_stop_at_a_point_leaves_nothing() {
    let stop = |point: &str, server: &str| {
        let mut world = start_told(world(), &format!("{point}=stop"));
        let mut client = world.run(ALICE, &[server]);
        world.broker().wait_log("told so by MCP_BROKER_FAULT");
        let limit = Duration::from_secs(DEAD_MAN.into()) + GRACE;
        patiently(limit, "nothing is alive while it is stopped", || nothing_alive(&world));
        client.process.kill9();
        world.broker().process.signal(libc::SIGCONT);
        patiently(GRACE + REST, point, || nothing_alive(&world) && world.leases().is_empty());
        assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0, "{point}: it works on");
    };
    std::thread::scope(|scope| {
        for point in ["mint.parent-known", "mint.durable", "backend.issue.after", "mint.issued", "mint.done"]
        {
            scope.spawn(move || stop(point, "orders-db"));
        }
        scope.spawn(move || stop("backend.renew-parent.before", "orders-brief"));
    });
}
