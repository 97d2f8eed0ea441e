//! P1, P2 and a part of P4: what the relay adds to a message, beside two threads that only copy; that it does
//! not deadlock, and that it passes an end of input on.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::measure::{Pinned, Samples, cpu, micros};
use crate::programs::{floor, floor_words};
use crate::table::{Goal, Row, Table};
use crate::world::{World, command, sealed_server};

/// A server behind a relay, or behind none.
struct Talk {
    child: Child,
    to: Option<File>,
    from: File,
}

impl Talk {
    fn start(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let to = File::from(OwnedFd::from(child.stdin.take().expect("piped")));
        let from = File::from(OwnedFd::from(child.stdout.take().expect("piped")));
        Self { child, to: Some(to), from }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.to.as_mut().expect("it is open").write_all(bytes).expect("the relay reads");
    }

    /// Reads until so many bytes have come.
    fn read(&mut self, mut wanted: usize) {
        let mut piece = vec![0; 64 << 10];
        while wanted > 0 {
            let length = self.from.read(&mut piece).expect("a pipe");
            assert!(length > 0, "the relay ended");
            wanted = wanted.checked_sub(length).expect("no more than was asked for");
        }
    }

    /// One message there, one of `answer` bytes back.
    fn round_trip(&mut self, message: &[u8], answer: usize) -> Duration {
        let begin = Instant::now();
        self.write(message);
        self.read(answer);
        begin.elapsed()
    }

    /// One call, and its answer to the line feed; it has to be the server's.
    fn called(&mut self, call: &[u8]) -> Duration {
        let (begin, mut piece, mut length) = (Instant::now(), [0; 4096], 0);
        self.write(call);
        while !piece[..length].ends_with(b"\n") {
            let read = self.from.read(&mut piece[length..]).expect("a pipe");
            assert!(read > 0, "the relay ended");
            length += read;
        }
        let took = begin.elapsed();
        let said = String::from_utf8_lossy(&piece[..length]);
        assert!(said.contains("\"serverInfo\""), "not the server's answer: {said}");
        took
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.to = None;
        // It may have ended by itself.
        self.child.kill().unwrap_or_default();
        self.child.wait().expect("it is our child");
    }
}

/// The three ways to talk to one server: with nothing between, with the floor (twice), with the product.
struct Ways {
    talks: [Talk; 4],
    wall: [Samples; 4],
    cpu: [Samples; 4],
}

const DIRECT: usize = 0;
const PUMP: usize = 1;
const AGAIN: usize = 2;
const PRODUCT: usize = 3;

impl Ways {
    fn start(world: &World, server: &str, words: &[&str]) -> Self {
        let pump = || {
            let mut pump = command(floor());
            pump.arg("pump").arg(floor()).args(words);
            Talk::start(pump)
        };
        let mut direct = command(floor());
        direct.args(words);
        let product = Talk::start(world.launcher(server));
        let talks = [Talk::start(direct), pump(), pump(), product];
        Self { talks, wall: Default::default(), cpu: Default::default() }
    }

    /// Blocks of round trips, the ways in turn.
    fn measure(&mut self, size: usize, answer: usize, blocks: usize, in_block: usize) {
        let message = message(size);
        self.blocks(blocks, in_block, |talk| talk.round_trip(&message, answer));
    }

    /// The same with calls, which the product asks the broker about; their ids are of one length.
    fn measure_calls(&mut self, size: usize, blocks: usize, in_block: usize) {
        let mut id = 1_000_000;
        self.blocks(blocks, in_block, |talk| {
            id += 1;
            talk.called(&call(id, size))
        });
    }

    fn blocks(&mut self, blocks: usize, in_block: usize, mut trip: impl FnMut(&mut Talk) -> Duration) {
        for block in 0..=blocks {
            for way in 0..self.talks.len() {
                let talk = &mut self.talks[way];
                let pid = talk.child.id();
                let before = cpu(pid);
                let mut wall = Samples::default();
                for _ in 0..in_block {
                    wall.push_time(trip(talk));
                }
                // The first block warms up.
                if block > 0 {
                    self.wall[way].extend(wall);
                    self.cpu[way].push((cpu(pid) - before) / in_block as f64);
                }
            }
        }
    }

    /// What a way adds to the direct one.
    fn added(&self, way: usize, at: f64) -> f64 {
        self.wall[way].quantile(at) - self.wall[DIRECT].quantile(at)
    }

    /// The product's addition beside the floor's, at a quantile.
    fn row(&self, goal: &'static str, what: &str, at: f64) -> Row {
        let check = self.added(AGAIN, at) / self.added(PUMP, at);
        let row =
            Row::new(goal, what, "us", self.added(PRODUCT, at)).floor(self.added(PUMP, at)).check(check);
        let [direct, pump, _, product] = &self.wall;
        row.note(format!("round trips {} / {} / {}", direct.spread(), pump.spread(), product.spread()))
    }

    fn cpu_row(&self, goal: &'static str, what: &str) -> Row {
        let check = self.cpu[AGAIN].p50() / self.cpu[PUMP].p50();
        Row::new(goal, what, "us", self.cpu[PRODUCT].p50()).floor(self.cpu[PUMP].p50()).check(check)
    }
}

/// A notification of `size` bytes, its line feed among them: it passes both ways without anybody being asked.
fn message(size: usize) -> Vec<u8> {
    let head = r#"{"jsonrpc":"2.0","method":"notifications/bench","params":{"sql":""#;
    filled(head, "\"}}\n", size)
}

/// A call of `size` bytes.
fn call(id: usize, size: usize) -> Vec<u8> {
    let head = format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"execute_sql","arguments":{{"sql":""#
    );
    filled(&head, "\"}}}\n", size)
}

fn filled(head: &str, tail: &str, size: usize) -> Vec<u8> {
    let text = "select o.id, o.total from orders o where o.day > now() - 7;\\n";
    let mut fill = text.repeat(size / text.len() + 1);
    fill.truncate((size - head.len() - tail.len()) / text.len() * text.len());
    let rest = "x".repeat(size - head.len() - tail.len() - fill.len());
    format!("{head}{fill}{rest}{tail}").into_bytes()
}

/// Measures.
pub fn proxy(table: &mut Table) {
    let reply = (1 << 20).to_string();
    let world = World::in_memory(&[
        ("echo", sealed_server(&floor_words(&["echo"]), 1)),
        ("bulk", sealed_server(&floor_words(&["reply", &reply]), 1)),
        ("calls", sealed_server(&floor_words(&["mcp"]), 1)),
        ("flood", sealed_server(&floor_words(&["flood", "64", &reply]), 1)),
    ]);
    {
        let _pinned = Pinned::new();
        for (size, name) in [(200, "200 B"), (4 << 10, "4 KiB")] {
            let mut ways = Ways::start(&world, "echo", &["echo"]);
            ways.measure(size, size, 20, 250);
            table.row(
                ways.row("P1", &format!("added to a round trip, {name}, pinned, p50"), 0.5)
                    .wants(Goal::AtMost(1.4)),
            );
            table.row(ways.row("P1", &format!("the same, p10, {name}"), 0.1));
            table.row(
                ways.cpu_row("P1", &format!("CPU of a round trip, {name}, pinned")).wants(Goal::AtMost(1.4)),
            );
            let wall = &ways.wall;
            let check = wall[AGAIN].p99() / wall[PUMP].p99();
            table.row(
                Row::new("P1", format!("round trip, {name}, pinned, p99"), "us", wall[PRODUCT].p99())
                    .floor(wall[PUMP].p99())
                    .check(check)
                    .wants(Goal::AtMost(1.5)),
            );
        }
        let mut ways = Ways::start(&world, "echo", &["echo"]);
        ways.measure(1 << 20, 1 << 20, 12, 5);
        table.row(
            ways.row("P2", "added to a round trip of 1 MiB both ways, p50", 0.5).wants(Goal::AtMost(2.3)),
        );
        table.row(ways.cpu_row("P2", "CPU of it"));
        let mut ways = Ways::start(&world, "bulk", &["reply", &reply]);
        ways.measure(200, 1 << 20, 12, 5);
        table.row(ways.row("P2", "added to an answer of 1 MiB, p50", 0.5).wants(Goal::AtMost(1.7)));
    }
    decided(table, &world);
    let mut ways = Ways::start(&world, "echo", &["echo"]);
    ways.measure(200, 200, 20, 250);
    table.row(ways.row("P1", "added to a round trip, 200 B, free, p50", 0.5).wants(Goal::AtMost(1.6)));
    for (size, name, least) in [(200, "200 B", 0.7), (4 << 10, "4 KiB", 0.8), (1 << 20, "1 MiB", 0.8)] {
        throughput(table, &world, size, name, least);
    }
    deadlock(table, &world);
    end_of_input(table, &world);
}

/// A call, with the broker's decision on it: one round trip more, on the launch's held stream. What the bare copy
/// adds is taken off, as the goal is for what stands above it.
fn decided(table: &mut Table, world: &World) {
    let mut ways = Ways::start(world, "calls", &["mcp"]);
    ways.measure_calls(200, 20, 100);
    let above = |at: f64| ways.wall[PRODUCT].quantile(at) - ways.wall[PUMP].quantile(at);
    let note = format!("p10 {:.1}, p99 {:.1}", above(0.1), above(0.99));
    table.row(
        Row::new("P1", "a decided call of 200 B above the bare copy, p50", "us", above(0.5))
            .wants(Goal::Below(60.0))
            .note(note),
    );
    table.row(ways.cpu_row("P1", "CPU of a decided call, 200 B, without the broker's"));
}

/// A stream of messages through the echo, each in a write of its own as clients do, in megabytes a second.
fn throughput(table: &mut Table, world: &World, size: usize, name: &str, least: f64) {
    let bytes: usize = if size < 1024 { 8 << 20 } else { 64 << 20 };
    let (message, count) = (message(size), bytes / size);
    let mut ways = Ways::start(world, "echo", &["echo"]);
    let mut rates: [Samples; 4] = Default::default();
    for _ in 0..5 {
        for (talk, rates) in ways.talks.iter_mut().zip(&mut rates) {
            let mut to = talk.to.take().expect("it is open");
            let begin = Instant::now();
            std::thread::scope(|scope| {
                let writer =
                    scope.spawn(|| (0..count).for_each(|_| to.write_all(&message).expect("it reads")));
                talk.read(count * size);
                writer.join().expect("it wrote all");
            });
            rates.push((count * size) as f64 / micros(begin.elapsed()));
            talk.to = Some(to);
        }
    }
    table.row(
        Row::new("P2", format!("stream through an echo, {name}"), "MB/s", rates[PRODUCT].p50())
            .floor(rates[PUMP].p50())
            .check(rates[AGAIN].p50() / rates[PUMP].p50())
            .wants(Goal::AtLeast(least))
            .note(format!("direct {:.0}", rates[DIRECT].p50())),
    );
}

/// 64 messages of 1 MiB on their way in each direction, and nobody waits for the other.
fn deadlock(table: &mut Table, world: &World) {
    let size = 1 << 20;
    let message = message(size);
    let begin = Instant::now();
    let mut talk = Talk::start(world.launcher("flood"));
    let mut to = talk.to.take().expect("it is open");
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || (0..64).for_each(|_| to.write_all(&message).expect("it reads")));
        talk.read(64 * size);
        writer.join().expect("it wrote all");
    });
    let mut end = String::new();
    talk.from.read_to_string(&mut end).expect("text");
    assert_eq!(
        end,
        format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/end/{}\"}}\n", 64 * size),
        "every byte came to the server"
    );
    let took = begin.elapsed().as_secs_f64();
    table.row(Row::new("P4", "64 x 1 MiB in flight both ways", "s", took).note("all arrived, no deadlock"));
}

/// From closing the server's input to what it says then.
fn end_of_input(table: &mut Table, world: &World) {
    let (mut passed, mut gone) = (Samples::default(), Samples::default());
    for _ in 0..20 {
        let mut talk = Talk::start(world.launcher("echo"));
        let message = message(200);
        talk.round_trip(&message, message.len());
        let begin = Instant::now();
        talk.to = None;
        let mut end = String::new();
        let mut first = [0];
        talk.from.read_exact(&mut first).expect("the server says that its input ended");
        passed.push(begin.elapsed().as_secs_f64() * 1e3);
        talk.from.read_to_string(&mut end).expect("text");
        assert!(talk.child.wait().expect("our child").success());
        gone.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    table.row(
        Row::new("P4", "end of input to the server's word, max", "ms", passed.quantile(1.0))
            .wants(Goal::Below(50.0))
            .note(format!("p50 {:.2}; mcp-run gone after p50 {:.2}", passed.p50(), gone.p50())),
    );
}
