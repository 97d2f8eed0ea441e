//! L2 and B2: credentials from a real OpenBao and PostgreSQL through the broker, beside the same calls made
//! directly: a child token, a read of `database/creds`, a renewal, on kept connections.

use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::bao::{Bao, ROOT_TOKEN};
use e2e::eventually::{so, within};
use serde_json::json;

use crate::http::Kept;
use crate::launch::Launches;
use crate::measure::{Samples, cpu};
use crate::programs::floor_words;
use crate::table::{Goal, Row, Table};
use crate::world::{Launch, ROLE, World, database_server, sealed_server};

/// Launches one after the other.
const ALONE: usize = 60;
/// Credentials of a block.
const IN_BLOCK: usize = 128;
/// Blocks of each kind.
const BLOCKS: usize = 3;

/// One client of OpenBao's own.
pub struct Direct {
    parent: Kept<TcpStream>,
    child: Kept<TcpStream>,
}

impl Direct {
    /// Connects.
    #[must_use]
    pub fn new(port: u16) -> Self {
        let mut parent = Kept::tcp(port);
        parent.headers = format!("X-Vault-Token: {ROOT_TOKEN}\r\n");
        Self { parent, child: Kept::tcp(port) }
    }

    /// What the broker does for one credential; answers with the child's accessor.
    pub fn issue(&mut self) -> String {
        let body = json!({ "policies": [ROLE], "ttl": "10h", "no_default_policy": true }).to_string();
        let token = self.parent.json("POST", "/v1/auth/token/create/mcp-launch", &body);
        let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
        self.child.headers = format!("X-Vault-Token: {}\r\n", text(&token["auth"]["client_token"]));
        let creds = self.child.json("GET", "/v1/database/creds/bench", "");
        let lease = json!({ "lease_id": creds["lease_id"], "increment": 900 }).to_string();
        self.parent.json("PUT", "/v1/sys/leases/renew", &lease);
        text(&token["auth"]["accessor"])
    }
}

/// How fast credentials came, and what that cost.
#[derive(Default)]
struct Load {
    rate: Samples,
    wall: Samples,
    /// CPU of the broker and of OpenBao for one credential.
    cpu: [Samples; 2],
}

impl Load {
    /// `clients` at once until the block is done. `issue` makes one credential.
    fn block<C>(
        &mut self,
        clients: usize,
        pids: [u32; 2],
        client: impl Fn() -> C + Sync,
        issue: impl Fn(&mut C) + Sync,
    ) {
        let left = AtomicUsize::new(IN_BLOCK);
        let (begin, before) = (Instant::now(), pids.map(cpu));
        let work = || {
            let mut client = client();
            let mut wall = Samples::default();
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
                let begin = Instant::now();
                issue(&mut client);
                wall.push_time(begin.elapsed());
            }
            wall
        };
        let walls = std::thread::scope(|scope| {
            let all: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
            all.into_iter().map(|one| one.join().expect("no client fails")).collect::<Vec<_>>()
        });
        self.rate.push(IN_BLOCK as f64 / begin.elapsed().as_secs_f64());
        for (samples, (pid, before)) in self.cpu.iter_mut().zip(pids.into_iter().zip(before)) {
            samples.push((cpu(pid) - before) / IN_BLOCK as f64);
        }
        walls.into_iter().for_each(|wall| self.wall.extend(wall));
    }
}

/// The server's process: the one that was told this port.
fn process_of(bao: &Bao) -> u32 {
    let mark = format!("-dev-listen-address=127.0.0.1:{}", bao.port);
    let told = |pid: &u32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).any(|word| word == mark.as_bytes())
    };
    e2e::process::pids().find(told).expect("it runs")
}

/// Waits until nothing of a block is left: the next one must not pay for it.
fn settle(bao: &Bao) {
    let path = format!("database/creds/{ROLE}");
    within(Duration::from_secs(120), "the leases are gone", || so(bao.leases(&path).is_empty()));
}

fn direct_block(load: &mut Load, world: &World, clients: usize, pids: [u32; 2]) {
    let bao = world.bao.as_ref().expect("the world has one");
    let accessors = Mutex::new(Vec::new());
    load.block(
        clients,
        pids,
        || Direct::new(bao.port),
        |direct| {
            let accessor = direct.issue();
            accessors.lock().expect("no client fails").push(accessor);
        },
    );
    for accessor in accessors.into_inner().expect("no client fails") {
        bao.put("auth/token/revoke-accessor", &json!({ "accessor": accessor }));
    }
    settle(bao);
}

fn broker_block(load: &mut Load, world: &World, clients: usize, pids: [u32; 2]) {
    let held = Mutex::new(Vec::new());
    let socket = world.socket();
    load.block(
        clients,
        pids,
        || (),
        |()| {
            let launch = Launch::open(&socket, "db");
            held.lock().expect("no client fails").push(launch);
        },
    );
    drop(held);
    settle(world.bao.as_ref().expect("the world has one"));
}

/// Measures.
pub fn issue(table: &mut Table) {
    let noop = floor_words(&["noop"]);
    let world = World::with_bao(&[("db", database_server(&noop)), ("noop", sealed_server(&noop, 1))]);
    let pids = [world.pid(), process_of(world.bao.as_ref().expect("it has one"))];
    alone(table, &world);
    for clients in [1, 4, 16, 64] {
        let (mut direct, mut again, mut product) = (Load::default(), Load::default(), Load::default());
        for _ in 0..BLOCKS {
            direct_block(&mut direct, &world, clients, pids);
            broker_block(&mut product, &world, clients, pids);
            direct_block(&mut again, &world, clients, pids);
        }
        let check = again.rate.p50() / direct.rate.p50();
        let row = |what: &str, unit, product: f64, floor: f64| {
            Row::new("B2", format!("{what}, {clients} at once"), unit, product).floor(floor).check(check)
        };
        table.row(row("issued", "1/s", product.rate.p50(), direct.rate.p50()).wants(Goal::AtLeast(0.85)));
        let p99 = row("p99 of an issue", "us", product.wall.p99(), direct.wall.p99());
        let p99 = p99.wants(if clients == 64 { Goal::AtMost(0.5) } else { Goal::None });
        table.row(p99.note(format!("{} against {}", product.wall.spread(), direct.wall.spread())));
        table.row(
            row("CPU of the broker against OpenBao's", "us", product.cpu[0].p50(), product.cpu[1].p50())
                .wants(Goal::AtMost(0.25))
                .note(format!("OpenBao, asked directly: {:.0}", direct.cpu[1].p50())),
        );
    }
}

/// One launch after the other, with a mint in it, beside the mint alone and a launch without one.
fn alone(table: &mut Table, world: &World) {
    let bao = world.bao.as_ref().expect("the world has one");
    let mut direct = Direct::new(bao.port);
    let (mut mint, mut again) = (Samples::default(), Samples::default());
    let (mut minted, mut ready) = (Launches::default(), Launches::default());
    Launches::default().run(world.launcher("db"));
    for _ in 0..ALONE {
        for samples in [&mut mint, &mut again] {
            let begin = Instant::now();
            let accessor = direct.issue();
            samples.push_time(begin.elapsed());
            bao.put("auth/token/revoke-accessor", &json!({ "accessor": accessor }));
        }
        minted.run(world.launcher("db"));
        settle(bao);
        ready.run(world.launcher("noop"));
    }
    let most = mint.p50() * 1.25 + ready.wall.p50();
    table.row(
        Row::new("L2", "time to the first byte with a mint, p50", "us", minted.wall.p50())
            .floor(most)
            .check(again.p50() / mint.p50())
            .wants(Goal::AtMost(1.0))
            .note(format!(
                "floor: 1.25 x what OpenBao takes ({}) + a launch without a mint ({})",
                mint.spread(),
                ready.wall.spread()
            )),
    );
    table.row(Row::new("L2", "what OpenBao and PostgreSQL take of it, p50", "us", mint.p50()));
}
