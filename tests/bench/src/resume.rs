//! From an unlock to the first call that a server answers again, below the same pipe; beside it the start of the
//! same server and the mint of the same credential.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::issue::Direct;
use crate::lock::session;
use crate::measure::Samples;
use crate::programs::floor_words;
use crate::running::Running;
use crate::table::{Goal, Row, Table};
use crate::world::{World, command, database_server};

const ROUNDS: usize = 20;
/// What is granted on top of a start and a mint, microseconds.
const GRANTED: f64 = 10_000.0;
/// No resume takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Locks and unlocks; when the first call was answered after the unlock was asked for. `None` where the launch
/// did not outlive the lock.
fn resumed(world: &World, launch: &mut Running) -> Option<Duration> {
    session(world, "lock");
    std::thread::sleep(Duration::from_millis(100));
    if !launch.runs() {
        return None;
    }
    assert!(!launch.call(), "a call was answered while the session is locked");
    let begin = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| session(world, "unlock"));
        while !launch.call() {
            assert!(begin.elapsed() < PATIENCE, "it does not come back");
            std::thread::sleep(Duration::from_micros(500));
        }
        Some(begin.elapsed())
    })
}

/// A server without `mcp-run`, from its start to its first answered call.
fn started() -> Duration {
    let words = floor_words(&["mcp"]);
    let mut server = command(Path::new(&words[0]));
    server.args(&words[1..]);
    let begin = Instant::now();
    let mut server = Running::start(server);
    server.greet();
    server.greeted();
    assert!(server.call(), "the floor answers");
    begin.elapsed()
}

/// Measures.
pub fn resume(table: &mut Table) {
    let world = World::with_bao(&[("db", database_server(&floor_words(&["mcp"])))]);
    let bao = world.bao.as_ref().expect("the world has one");
    let mut direct = Direct::new(bao.port);
    let (mut back, mut start, mut mint, mut again) =
        (Samples::default(), Samples::default(), Samples::default(), Samples::default());
    let mut launch = Running::several(1, || world.launcher("db")).remove(0);
    assert!(launch.call(), "the server answers");
    for _ in 0..ROUNDS {
        for samples in [&mut mint, &mut again] {
            let begin = Instant::now();
            let accessor = direct.issue();
            samples.push_time(begin.elapsed());
            bao.put("auth/token/revoke-accessor", &serde_json::json!({ "accessor": accessor }));
        }
        start.push_time(started());
        match resumed(&world, &mut launch) {
            Some(time) => back.push_time(time),
            None => return table.say("the launch ended with the lock: there is nothing to resume"),
        }
    }
    let floor = start.p50() + mint.p50() + GRANTED;
    table.row(
        Row::new("K", "unlock to the first answered call, p50", "us", back.p50())
            .floor(floor)
            .check(again.p50() / mint.p50())
            .wants(Goal::AtMost(1.0))
            .note(format!(
                "{}; floor: start ({:.0}) + mint ({:.0}) + 10 ms",
                back.spread(),
                start.p50(),
                mint.p50()
            )),
    );
}
