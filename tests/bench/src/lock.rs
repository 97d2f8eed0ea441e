//! K1 and K2: the lock drill. A session with many launches is locked; stamps say when the next launch is refused,
//! when the last process is reaped, when the broker says that all is revoked, and when nothing is left by
//! the backend's own word. Beside it, in turns: the same processes killed by their groups, and the same tokens
//! and leases ended by OpenBao's own calls.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Kept;
use crate::measure::{Samples, micros};
use crate::programs::{floor, floor_words};
use crate::running::{Running, Watched, kill_and_reap};
use crate::table::{Goal, Row, Table};
use crate::tree::{Ended, Tree};
use crate::truth::{Truth, Users, What};
use crate::world::{LEASED, Launch, World, command, database_server, sealed_server, token_server};

/// How many launches, and how many rounds of each.
const SIZES: &[(usize, usize)] = &[(1, 10), (20, 5), (100, 3)];
/// So many servers that take longer to die, and rounds of them.
const NODE: (usize, usize) = (20, 3);
/// What K1 grants on top of 1.3 times the floor, microseconds.
const GRANTED: f64 = 10_000.0;

/// When things happened after the lock was asked for.
struct Stamps {
    refused: Duration,
    reaped: Duration,
    answered: Duration,
    verified: Duration,
}

/// All rounds of one size.
#[derive(Default)]
struct Rounds {
    refused: Samples,
    reaped: Samples,
    answered: Samples,
    verified: Samples,
    killed: [Samples; 2],
    accepted: [Samples; 2],
    ended: [Samples; 2],
}

/// A server as it is launched, and what it leaves to be revoked.
struct Kind {
    name: &'static str,
    program: PathBuf,
    words: Vec<String>,
    /// The path that a launch reads at OpenBao, and what is left of it; none for a static value.
    minted: Option<(&'static str, What)>,
}

fn kinds() -> [Kind; 3] {
    let node = e2e::parts::node();
    let everything =
        e2e::parts::folder().join("npm/node_modules/@modelcontextprotocol/server-everything/dist/index.js");
    let words = vec![node.display().to_string(), everything.display().to_string()];
    let floor_server = |name, minted| Kind {
        name,
        program: floor().to_owned(),
        words: floor_words(&["mcp"]),
        minted: Some(minted),
    };
    [
        floor_server("token", (LEASED, What::Tokens)),
        floor_server("db", ("database/creds/bench", What::Users)),
        Kind { name: "node", program: node, words, minted: None },
    ]
}

/// The world of the drill; one launch was locked and ended in it, so that nothing is for the first time.
fn world(kinds: &[Kind; 3]) -> World {
    let [token, db, node] = kinds;
    let world = World::with_bao(&[
        (token.name, token_server(&token.words)),
        (db.name, database_server(&db.words)),
        (node.name, sealed_server(&node.words, 1)),
        ("next", sealed_server(&floor_words(&["mcp"]), 1)),
    ]);
    for kind in [token, db] {
        drop(Running::several(1, || world.launcher(kind.name)));
        session(&world, "lock");
        session(&world, "unlock");
    }
    // The session's own tokens are ended behind the answer: they must not count as there at first.
    std::thread::sleep(Duration::from_secs(1));
    world
}

/// Asks for a change of the session, and waits for the answer.
pub fn session(world: &World, what: &str) -> Value {
    let mut http = Kept::unix(&world.socket()).expect("the broker listens");
    http.json("POST", &format!("/v1/session/{what}"), "")
}

/// The first launch that is refused; one that came before the lock is given back.
fn refused(socket: &Path) -> Instant {
    loop {
        match Launch::try_open(socket, "next") {
            Ok(early) => drop(early),
            Err(said) => {
                let at = Instant::now();
                assert!(said.contains("locked"), "refused for another reason: {said}");
                return at;
            }
        }
    }
}

/// Waits until the broker lists no credential any more: it lists what is not verified.
fn settled(http: &mut Kept<std::os::unix::net::UnixStream>, mut status: Value) -> Instant {
    while status["leases"].as_array().is_some_and(|leases| !leases.is_empty()) {
        std::thread::sleep(Duration::from_millis(1));
        status = http.json("GET", "/v1/session", "");
    }
    Instant::now()
}

/// Locks the session with these launches in it.
fn lock_all(world: &World, launches: &[Running], kind: &Kind, truth: Option<&Truth<'_>>) -> Stamps {
    let watched = Watched::new(launches.iter().flat_map(|launch| launch.servers(&kind.program)));
    assert_eq!(watched.len(), launches.len(), "each launch runs one server");
    if let Some(truth) = truth {
        let alive = truth.alive();
        assert!(alive >= launches.len(), "{alive} of {} are there to be revoked", launches.len());
    }
    let socket = world.socket();
    let mut http = Kept::unix(&socket).expect("the broker listens");
    std::thread::scope(|scope| {
        let begin = Instant::now();
        http.send("POST", "/v1/session/lock", "").expect("the broker listens");
        let reaped = scope.spawn(|| watched.gone());
        let verified = scope.spawn(|| truth.map(Truth::gone));
        let refused = refused(&socket).duration_since(begin);
        let status = http.answered("lock");
        let answered = settled(&mut http, status).duration_since(begin);
        let reaped = reaped.join().expect("the processes end").duration_since(begin);
        let verified = verified.join().expect("nothing stays");
        let verified = verified.map_or(answered, |at| at.duration_since(begin));
        Stamps { refused, reaped, answered, verified }
    })
}

impl Rounds {
    fn product(&mut self, world: &World, kind: &Kind, count: usize, truth: Option<&Truth<'_>>) {
        let launches = Running::several(count, || world.launcher(kind.name));
        let stamps = lock_all(world, &launches, kind, truth);
        self.refused.push_time(stamps.refused);
        self.reaped.push_time(stamps.reaped);
        self.answered.push_time(stamps.answered);
        self.verified.push_time(stamps.verified);
        // What is parked ends with its launcher; only then may the session mint again.
        drop(launches);
        let gone = Instant::now();
        while !session_is_empty(world) {
            assert!(gone.elapsed() < Duration::from_secs(30), "launches stay");
            std::thread::sleep(Duration::from_millis(5));
        }
        session(world, "unlock");
    }

    fn floors(&mut self, world: &World, kind: &Kind, count: usize, truth: Option<&Truth<'_>>, turn: usize) {
        let alone = Running::several(count, || {
            let mut server = command(Path::new(&kind.words[0]));
            server.args(&kind.words[1..]);
            server
        });
        self.killed[turn].push_time(kill_and_reap(alone));
        let (Some((path, what)), Some(truth)) = (kind.minted, truth) else { return };
        let tree = Tree::grow(world.bao.as_ref().expect("the world has one"), count, path);
        assert!(truth.alive() >= count, "there is nothing to revoke");
        let Ended { accepted, verified } = match what {
            What::Tokens => tree.end_by_parent(truth),
            What::Users => tree.end_by_leases(truth),
        };
        self.accepted[turn].push_time(accepted);
        self.ended[turn].push_time(verified);
    }

    fn rows(&self, table: &mut Table, kind: &Kind, count: usize) {
        let what = |words: &str| format!("lock of {count} x {}: {words}", kind.name);
        let check = |pair: &[Samples; 2]| pair[1].p50() / pair[0].p50();
        table.row(
            Row::new("K1", what("refused, p99"), "us", self.refused.p99())
                .wants(Goal::Below(5000.0))
                .note(self.refused.spread()),
        );
        let killed = self.killed[0].p50();
        table.row(
            Row::new("K1", what("last process reaped, p50"), "us", self.reaped.p50())
                .floor(1.3 * killed + GRANTED)
                .check(check(&self.killed))
                .wants(Goal::AtMost(1.0))
                .note(format!("{}; floor: 1.3 x kill and reap ({killed:.0}) + 10 ms", self.reaped.spread())),
        );
        let Some((_, left)) = kind.minted else { return };
        table.row(
            Row::new("K2", what("revoked by its word, p50"), "us", self.answered.p50())
                .floor(self.accepted[0].p50())
                .check(check(&self.accepted))
                .wants(if count == 100 { Goal::AtMost(1.5) } else { Goal::None })
                .note(match left {
                    What::Tokens => "floor: OpenBao's call that revokes the parent",
                    What::Users => "floor: sync revoke of each, 8 at once, then the parent",
                }),
        );
        table.row(
            Row::new("K2", what("verified gone, p50"), "us", self.verified.p50())
                .floor(self.ended[0].p50())
                .check(check(&self.ended))
                .wants(if count == 100 { Goal::AtMost(1.2) } else { Goal::None })
                .note(format!("{} against {}", self.verified.spread(), self.ended[0].spread())),
        );
    }
}

fn session_is_empty(world: &World) -> bool {
    let status = Kept::unix(&world.socket()).expect("the broker listens").json("GET", "/v1/session", "");
    ["launches", "leases"].iter().all(|list| status[list].as_array().is_none_or(Vec::is_empty))
}

/// Measures.
pub fn lock(table: &mut Table) {
    let kinds = kinds();
    let world = world(&kinds);
    let users = Users::connect();
    let bao = world.bao.as_ref().expect("the world has one");
    let began = Instant::now();
    for kind in &kinds {
        let truth = kind.minted.map(|(_, what)| Truth::new(what, bao, &users));
        let sizes = if kind.minted.is_some() { SIZES } else { &[NODE] };
        for (count, rounds) in sizes {
            let mut all = Rounds::default();
            for _ in 0..*rounds {
                all.floors(&world, kind, *count, truth.as_ref(), 0);
                all.product(&world, kind, *count, truth.as_ref());
                all.floors(&world, kind, *count, truth.as_ref(), 1);
            }
            all.rows(table, kind, *count);
        }
    }
    table.say(&format!("the drill took {:.0} s", micros(began.elapsed()) / 1e6));
}
