//! B1: the broker's socket, beside an axum server that answers a constant on a socket of its own.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode};
use std::time::Instant;

use e2e::eventually::{eventually, so};
use e2e::tempdir::TempDir;

use crate::http::Kept;
use crate::measure::{Samples, cpu};
use crate::programs::floor_words;
use crate::table::{Goal, Row, Table};
use crate::world::{World, sealed_server};

/// Clients at once.
const CLIENTS: usize = 16;
/// Requests of each client in a block.
const IN_BLOCK: usize = 2000;
/// Blocks of each kind.
const BLOCKS: usize = 5;
/// Requests on a connection of their own.
const FRESH: usize = 1000;

/// What this program does when it is started as the floor: a trivial handler on `socket`.
#[must_use]
pub fn serve(socket: &Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let app =
            axum::Router::new().route("/v1/health", axum::routing::get(|| async { "{\"status\":\"ok\"}" }));
        let listener = tokio::net::UnixListener::bind(socket).expect("the directory is ours");
        axum::serve(listener, app).await.expect("it serves");
    });
    ExitCode::SUCCESS
}

struct Floor(Child);

impl Floor {
    fn start(socket: &Path) -> Self {
        let bench = std::env::current_exe().expect("a program has a path");
        let child = Command::new(bench).arg("--serve").arg(socket).spawn().expect("it starts");
        eventually("the floor listens", || so(Kept::unix(socket).is_ok()));
        Self(child)
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().expect("it is our child");
    }
}

#[derive(Default)]
struct Load {
    rate: Samples,
    wall: Samples,
    cpu: Samples,
    fresh: Samples,
}

impl Load {
    /// One block: all clients at once, each on its kept connection.
    fn block(&mut self, socket: &Path, path: &str, pid: u32) {
        let (begin, before) = (Instant::now(), cpu(pid));
        let client = || {
            let mut http = Kept::unix(socket).expect("it listens");
            let mut wall = Samples::default();
            for _ in 0..IN_BLOCK {
                let begin = Instant::now();
                let (status, _) = http.ask("GET", path, "").expect("it answers");
                wall.push_time(begin.elapsed());
                assert_eq!(status, 200, "{path}");
            }
            wall
        };
        let walls = std::thread::scope(|scope| {
            let all: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(client)).collect();
            all.into_iter().map(|one| one.join().expect("no client fails")).collect::<Vec<_>>()
        });
        let requests = (CLIENTS * IN_BLOCK) as f64;
        self.rate.push(requests / begin.elapsed().as_secs_f64());
        self.cpu.push((cpu(pid) - before) / requests);
        walls.into_iter().for_each(|wall| self.wall.extend(wall));
    }

    fn fresh(&mut self, socket: &Path, path: &str) {
        for _ in 0..FRESH / BLOCKS {
            let begin = Instant::now();
            let answer = Kept::unix(socket).and_then(|mut http| http.ask("GET", path, ""));
            self.fresh.push_time(begin.elapsed());
            assert_eq!(answer.expect("it answers").0, 200);
        }
    }
}

/// Measures.
pub fn broker(table: &mut Table) {
    let world = World::in_memory(&[("noop", sealed_server(&floor_words(&["noop"]), 1))]);
    let dir = TempDir::in_memory("floor");
    let least: PathBuf = dir.path().join("floor.sock");
    let floor = Floor::start(&least);
    drop(world.launch("noop"));
    let (mut trivial, mut again, mut health, mut session) =
        (Load::default(), Load::default(), Load::default(), Load::default());
    for _ in 0..BLOCKS {
        for (load, socket, path, pid) in [
            (&mut trivial, &least, "/v1/health", floor.0.id()),
            (&mut health, &world.socket(), "/v1/health", world.pid()),
            (&mut again, &least, "/v1/health", floor.0.id()),
            (&mut session, &world.socket(), "/v1/session", world.pid()),
        ] {
            load.block(socket, path, pid);
            load.fresh(socket, path);
        }
    }
    let check = again.rate.p50() / trivial.rate.p50();
    for (load, name) in [(&health, "health"), (&session, "status of the session")] {
        let goals = if name == "health" { [Goal::AtLeast(0.5), Goal::AtMost(2.0)] } else { [Goal::None; 2] };
        let row = |what: &str, unit, product: f64, floor: f64| {
            Row::new("B1", format!("{name}: {what}"), unit, product).floor(floor).check(check)
        };
        table.row(row("rate, 16 clients", "1/s", load.rate.p50(), trivial.rate.p50()).wants(goals[0]));
        table.row(
            row("p99, 16 clients", "us", load.wall.p99(), trivial.wall.p99()).wants(goals[1]).note(format!(
                "{} against {}",
                load.wall.spread(),
                trivial.wall.spread()
            )),
        );
        table.row(
            row("connection a request, p50", "us", load.fresh.p50(), trivial.fresh.p50()).wants(goals[1]),
        );
        table.row(row("CPU of a request", "us", load.cpu.p50(), trivial.cpu.p50()));
    }
}
