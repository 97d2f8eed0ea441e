//! L1: what one launch costs, beside the least that a static program could do, and how many system calls it
//! makes before the server runs.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use e2e::tempdir::TempDir;

use crate::measure::{Samples, cpu_of_children};
use crate::programs::{floor, floor_words};
use crate::table::{Goal, Row, Table};
use crate::world::{World, command, sealed_server};

/// Launches of each kind.
const ROUNDS: usize = 150;

/// How long a program took until its server spoke, and what it cost until its end.
#[derive(Default)]
pub struct Launches {
    /// Until the server's first byte, microseconds.
    pub wall: Samples,
    /// User and system time of everything that was started, microseconds.
    pub cpu: Samples,
}

impl Launches {
    /// Runs it once.
    ///
    /// # Panics
    /// When it fails.
    pub fn run(&mut self, mut command: Command) {
        let cpu = cpu_of_children();
        let begin = Instant::now();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program starts");
        let mut first = [0];
        let read = child.stdout.as_mut().expect("piped").read(&mut first).expect("a pipe");
        let wall = begin.elapsed();
        if read == 0 {
            let output = child.wait_with_output().expect("it ends");
            panic!("{command:?} said nothing: {}", String::from_utf8_lossy(&output.stderr));
        }
        // The client keeps its end open: the server ends by itself.
        let input = child.stdin.take();
        assert!(child.wait().expect("it ends").success(), "{command:?} failed");
        drop(input);
        self.wall.push_time(wall);
        self.cpu.push(cpu_of_children() - cpu);
    }
}

/// A server that answers whatever comes, as the least that a broker could be.
#[must_use]
pub fn answering(dir: &Path) -> std::path::PathBuf {
    let socket = dir.join("floor.sock");
    let listener = UnixListener::bind(&socket).expect("the directory is ours");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut question = [0; 4096];
            while let Ok(1..) = stream.read(&mut question) {
                if stream.write_all(b"value\n").is_err() {
                    break;
                }
            }
        }
    });
    socket
}

/// `floor launch`.
#[must_use]
pub fn floor_launch(socket: &Path) -> Command {
    let mut least = command(floor());
    least.arg("launch").arg(socket).arg(floor()).arg("noop");
    least
}

/// Measures.
pub fn launch(table: &mut Table) {
    let world = World::in_memory(&[("noop", sealed_server(&floor_words(&["noop"]), 1))]);
    let dir = TempDir::in_memory("floor");
    let socket = answering(dir.path());
    let (mut bare, mut least, mut again, mut product) =
        (Launches::default(), Launches::default(), Launches::default(), Launches::default());
    // The first launch begins the session.
    Launches::default().run(world.launcher("noop"));
    for _ in 0..ROUNDS {
        let mut exec = command(floor());
        exec.arg("noop");
        bare.run(exec);
        least.run(floor_launch(&socket));
        product.run(world.launcher("noop"));
        again.run(floor_launch(&socket));
    }
    let check = again.cpu.p50() / least.cpu.p50();
    let spread =
        |of: &Samples, than: &Samples| format!("p10/50/99 {} against {}", of.spread(), than.spread());
    let row =
        |what: &str, product: f64, floor: f64| Row::new("L1", what, "us", product).floor(floor).check(check);
    table.row(
        row("CPU of a launch, p50", product.cpu.p50(), least.cpu.p50())
            .wants(Goal::AtMost(2.0))
            .note(spread(&product.cpu, &least.cpu)),
    );
    table.row(
        row("time to the server's first byte, p10", product.wall.p10(), least.wall.p10())
            .wants(Goal::AtMost(2.0))
            .note(spread(&product.wall, &least.wall)),
    );
    table.row(row("the same, p50", product.wall.p50(), least.wall.p50()));
    table.row(
        Row::new("L1", "exec of a static program, CPU p50", "us", bare.cpu.p50()).note(bare.wall.spread()),
    );
    let calls = system_calls(&world, dir.path());
    table.row(Row::new("L1", "system calls until the server's exec", "", calls).wants(Goal::Below(130.0)));
}

/// System calls of every process from the exec of `mcp-run` to the exec of the server (strace(1)).
fn system_calls(world: &World, dir: &Path) -> f64 {
    let log = dir.join("strace");
    let run = world.launcher("noop");
    let mut strace = command(Path::new("/usr/bin/strace"));
    strace.args(["-f", "-qq", "-o"]).arg(&log).arg(run.get_program()).args(run.get_args());
    let status = strace.stdin(Stdio::piped()).stdout(Stdio::null()).status();
    assert!(status.expect("strace is installed (apt-get install strace)").success());
    let text = std::fs::read_to_string(&log).expect("strace wrote it");
    let server = format!("execve(\"{}\"", floor().display());
    let calls = text.lines().filter(|line| !line.contains(" resumed>") && !line.contains("--- "));
    let before = calls.skip(1).position(|line| line.contains(&server));
    before.expect("the server is started") as f64
}
