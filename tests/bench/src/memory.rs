//! M1, M2 and G1: memory of launchers and broker, and what grows with the number of leases.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use e2e::tempdir::TempDir;
use mcp_broker::audit;
use mcp_broker::lease::journal;

use crate::measure::{Memory, Samples, cpu, memory, tree};
use crate::programs::{floor, floor_words};
use crate::running::Running;
use crate::table::{Goal, Row, Table};
use crate::world::{Held, World, sealed_server, three_scopes};

/// Servers that really run.
const LIVE: usize = 20;
/// Credentials of each, so that there are 1,000 leases.
const EACH: usize = 50;
/// Credentials of a launch that only fills the book.
const MANY: usize = 400;
/// How many such launches: one account may have 256 in all.
const FILLING: usize = 225;
/// Issues that are timed.
const TIMED: usize = 200;

/// A launcher with its server.
struct Live(Child);

impl Live {
    fn start(world: &World, server: &str) -> Self {
        let mut run = world.launcher(server);
        run.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut live = Self(run.spawn().expect("it starts"));
        live.talk(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n");
        live
    }

    fn talk(&mut self, message: &[u8]) {
        let mut to = self.0.stdin.take().expect("piped");
        let from = self.0.stdout.as_mut().expect("piped");
        std::thread::scope(|scope| {
            scope.spawn(|| to.write_all(message).expect("it reads"));
            let mut back = vec![0; message.len()];
            from.read_exact(&mut back).expect("the echo answers");
        });
        self.0.stdin = Some(to);
    }

    /// The launcher and its keeper, without the server.
    fn memory(&self) -> Memory {
        let server = floor().canonicalize().expect("it was built");
        let ours = |pid: &u32| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe != server);
        let all = tree(self.0.id()).into_iter().filter(ours).map(memory);
        all.fold(Memory::default(), |sum, one| Memory { rss: sum.rss + one.rss, pss: sum.pss + one.pss })
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.0.kill().unwrap_or_default();
        self.0.wait().expect("it is our child");
    }
}

fn servers() -> [(&'static str, String); 4] {
    let echo = floor_words(&["echo"]);
    [
        ("echo", sealed_server(&echo, EACH)),
        ("one", sealed_server(&echo, 1)),
        ("many", sealed_server(&echo, MANY)),
        ("three", three_scopes(&floor_words(&["mcp"]))),
    ]
}

/// A launcher whose three scopes all run, after a time without a call.
fn scopes(table: &mut Table, world: &World) {
    let mut all = Running::several(1, || world.launcher("three"));
    let one = &mut all[0];
    assert!(["a", "b", "c"].into_iter().all(|tool| one.call_of(tool)), "a server answers in each scope");
    std::thread::sleep(Duration::from_secs(12));
    let used = memory(one.pid());
    table.row(
        Row::new("M1", "an idle launcher with three scopes, RSS", "MiB", used.rss / 1024.0)
            .wants(Goal::Below(3.0))
            .note(format!("PSS {:.2}", used.pss / 1024.0)),
    );
}

/// Measures M1 and M2.
pub fn mem(table: &mut Table) {
    let world = World::in_memory(&servers());
    let idle = memory(world.pid());
    let mut live: Vec<Live> = (0..LIVE).map(|_| Live::start(&world, "echo")).collect();
    std::thread::sleep(Duration::from_secs(12));
    let mib = |kib: f64| kib / 1024.0;
    let parent = memory(live[0].0.id());
    let both = live[0].memory();
    table.row(Row::new("M1", "an idle launcher, RSS", "MiB", mib(parent.rss)).wants(Goal::Below(1.5)).note(
        format!(
            "PSS {:.2}; with its keeper RSS {:.2}, PSS {:.2}",
            mib(parent.pss),
            mib(both.rss),
            mib(both.pss)
        ),
    ));
    scopes(table, &world);
    let sum: f64 = live.iter().map(|one| one.memory().pss).sum();
    table
        .row(Row::new("M1", "20 launchers with their keepers, PSS", "MiB", mib(sum)).wants(Goal::Below(8.0)));
    let broker = memory(world.pid());
    table.row(
        Row::new("M2", "broker with 1,000 leases and 20 servers, RSS", "MiB", mib(broker.rss))
            .wants(Goal::Below(16.0))
            .note(format!("idle {:.1}; PSS {:.1}", mib(idle.rss), mib(broker.pss))),
    );
    let head = br#"{"jsonrpc":"2.0","method":"notifications/bench","params":{"x":""#;
    let message = [head.as_slice(), &vec![b'x'; 1 << 20], b"\"}}\n"].concat();
    for _ in 0..10 {
        live[0].talk(&message);
    }
    let busy = memory(live[0].0.id());
    table.row(Row::new("M1", "after messages of 1 MiB, RSS", "MiB", mib(busy.rss)).wants(Goal::Below(4.0)));
    std::thread::sleep(Duration::from_secs(12));
    let after = memory(live[0].0.id());
    table.row(Row::new("M1", "the same 12 s later, RSS", "MiB", mib(after.rss)).wants(Goal::Below(2.0)));
}

/// Opens launches with one credential each: how long until the ticket, and what it costs the broker.
fn timed(world: &World) -> [Samples; 2] {
    let (mut wall, mut costs) = (Samples::default(), Samples::default());
    for _ in 0..TIMED {
        let (begin, before) = (Instant::now(), cpu(world.pid()));
        let launch = world.launch("one");
        wall.push_time(begin.elapsed());
        costs.push(cpu(world.pid()) - before);
        drop(launch);
        // Its end must not be in the next one's costs.
        std::thread::sleep(Duration::from_millis(5));
    }
    [wall, costs]
}

/// Measures G1, and the rest of M2.
pub fn growth(table: &mut Table) {
    let world = World::in_memory(&servers());
    let held = Held::new();
    held.push(world.launch("echo"));
    held.push(world.launch("echo"));
    let [_, _] = timed(&world);
    let few = memory(world.pid());
    let [wall, costs] = timed(&world);
    let [wall_again, _] = timed(&world);
    let begin = Instant::now();
    for _ in 0..FILLING {
        held.push(world.launch("many"));
    }
    let leases = FILLING * MANY;
    let filled = begin.elapsed();
    std::thread::sleep(Duration::from_secs(2));
    let many = memory(world.pid());
    let [wall_many, costs_many] = timed(&world);
    let check = wall_again.p50() / wall.p50();
    table.row(
        Row::new(
            "M2",
            format!("RSS for each of {leases} further leases"),
            "KiB",
            (many.rss - few.rss) / leases as f64,
        )
        .wants(Goal::Below(1.5))
        .note(format!(
            "{:.1} MiB -> {:.1} MiB, opened in {:.1} s",
            few.rss / 1024.0,
            many.rss / 1024.0,
            filled.as_secs_f64()
        )),
    );
    table.row(
        Row::new("G1", format!("issue with {leases} leases against 100, p50"), "us", wall_many.p50())
            .floor(wall.p50())
            .check(check)
            .wants(Goal::AtMost(1.3))
            .note(format!("{} against {}", wall_many.spread(), wall.spread())),
    );
    table.row(
        Row::new("G1", "broker's CPU of it, p50", "us", costs_many.p50())
            .floor(costs.p50())
            .check(check)
            .wants(Goal::AtMost(1.3)),
    );
    // The launches before the broker that holds them.
    held.end();
    drop(world);
    files(table);
}

/// The journal's replay and the audit log's verification, called in this process.
fn files(table: &mut Table) {
    let mut text = Vec::new();
    let sample =
        "{\"kind\":\"parent\",\"session\":\"019ab000-0000-7000-8000-000000000001\",\"provider\":\"bao\"}";
    let dir = TempDir::in_memory("replay");
    let book = mcp_broker::lease::Book::open(journal::open(dir.path()).expect("ours")).expect("a thread");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let step = || {
        book.intend(
            mcp_broker_proto::names::LeaseId::fresh(),
            serde_json::from_str(sample).expect("an entry"),
        )
    };
    runtime.block_on(async { step().durable().await }).expect("written");
    let line = std::fs::read(dir.path().join(journal::FILE_NAME)).expect("it was written");
    let lines = 200_000;
    for _ in 0..lines {
        text.extend_from_slice(&line);
    }
    let mut rates = Samples::default();
    for _ in 0..5 {
        let begin = Instant::now();
        let (records, ..) = journal::replay(&text);
        rates.push(f64::from(lines) / begin.elapsed().as_secs_f64());
        assert_eq!(records.len(), lines as usize);
    }
    table.row(Row::new("G1", "records replayed (library)", "1/s", rates.p50()).wants(Goal::Above(200_000.0)));
    let mut per_line = [Samples::default(), Samples::default()];
    for (lines, samples) in [10_000, 100_000].into_iter().zip(&mut per_line) {
        let events = vec![audit::Event::ConfigReloaded { servers: 1 }; lines];
        let file = dir.path().join(audit::FILE_NAME);
        std::fs::write(&file, audit::encoded(&events, "2026-11-24T10:00:00Z")).expect("there is room");
        for _ in 0..5 {
            let begin = Instant::now();
            let verdict = audit::verify(&file, None).expect("readable");
            samples.push(begin.elapsed().as_secs_f64() * 1e6 / lines as f64);
            assert!(matches!(verdict, audit::Verdict::Intact { .. }));
        }
    }
    table.row(
        Row::new("G1", "verify, a line of 100,000 against of 10,000", "us", per_line[1].p50())
            .floor(per_line[0].p50())
            .wants(Goal::AtMost(1.2)),
    );
}
