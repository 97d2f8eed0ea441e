//! Locks, unlocks, logouts and revocations against mints in flight, in thousands of random interleavings of the
//! real register over a scripted backend that knows the truth. The backend and the launchers are doubles, because
//! real ones cannot be made to meet at the worst moment so often; `tests/` does the same with the real ones.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::channel::{EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::names::{Label, SessionId};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{LockCause, Revocability};
use mcp_broker_proto::{PROTOCOL, Secret};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::admit::Asking;
use super::launch::{PeerWatch, run};
use super::lock::Notice;
use super::login::{Caller, Leader, Login, Logins, Look, Sighting};
use super::marks::Marks;
use super::registry::{Needs, Sessions};
use super::sign_in::Person;
use crate::audit::{AuditLog, ByWhom};
use crate::clock::{Clock, Slept, SystemClock};
use crate::config::testing::{TempDir, places};
use crate::config::{
    Access, BrokerSection, Config, CredentialSpec, LogindUse, Mode, OnLock, Resume, Scope, ServerDefinition,
    SessionSection, Tier,
};
use crate::lease::{Book, Leases, Providers, journal};
use crate::provider::{
    Handle, Healthy, Issued, MintRequest, Parent, Prepared, Proof, Provider, ProviderError, Renewed,
    Revocation, SessionTag,
};

/// So many sessions are raced.
const ROUNDS: u64 = 10_000;

/// So many of them at once.
const AT_ONCE: usize = 48;

/// The longest that the backend and a launcher take for anything, in microseconds.
const SLOWEST: u64 = 1_500;

/// Random numbers that a seed repeats (xorshift64).
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    async fn pause(&mut self) {
        match self.below(4) {
            0 => tokio::task::yield_now().await,
            _ => sleep(Duration::from_micros(self.below(SLOWEST))).await,
        }
    }
}

/// A backend that knows what is alive in each session.
#[derive(Default)]
struct Backend {
    alive: Mutex<HashMap<u64, SessionId>>,
    made: Mutex<HashMap<u64, SessionId>>,
    next: AtomicU64,
}

impl Backend {
    async fn take_time(&self) {
        let drawn = self.next.fetch_add(7919, Ordering::Relaxed).wrapping_mul(2_654_435_761) % SLOWEST;
        sleep(Duration::from_micros(drawn)).await;
    }

    fn make(&self, session: SessionId) -> Handle {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.made.lock().unwrap().insert(id, session);
        Handle(serde_json::json!({ "id": id }))
    }

    fn open(&self, handle: &Handle) {
        let id = handle.0["id"].as_u64().unwrap();
        let session = self.made.lock().unwrap()[&id];
        self.alive.lock().unwrap().insert(id, session);
    }

    fn alive_in(&self, session: SessionId) -> usize {
        self.alive.lock().unwrap().values().filter(|owner| **owner == session).count()
    }
}

#[async_trait]
impl Provider for Backend {
    fn revocability(&self, _: &CredentialSpec) -> Revocability {
        Revocability::Immediate
    }

    async fn prepare(&self, request: &MintRequest, _: Option<&Parent>) -> Result<Prepared, ProviderError> {
        self.take_time().await;
        Ok(Prepared { handle: self.make(request.session), opener: None })
    }

    async fn issue(&self, _: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError> {
        self.take_time().await;
        self.open(&prepared.handle);
        self.take_time().await;
        Ok(Issued {
            handle: prepared.handle,
            fields: BTreeMap::from([("value".to_owned(), Secret::new("s".to_owned()))]),
            expires_at: None,
            renewable: false,
            revocability: Revocability::Immediate,
        })
    }

    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        self.take_time().await;
        let id = handle.0["id"].as_u64().unwrap();
        self.alive.lock().unwrap().remove(&id);
        Ok(Revocation::Revoked(Proof::Object))
    }

    async fn renew(&self, _: &Handle, _: Duration) -> Result<Renewed, ProviderError> {
        Ok(Renewed { expires_at: SystemClock.now(), renewable: false })
    }

    async fn open_session(&self, tag: &SessionTag) -> Result<Option<Parent>, ProviderError> {
        self.take_time().await;
        let handle = self.make(tag.session);
        self.open(&handle);
        Ok(Some(Parent { handle, token: Secret::new("t".to_owned()), period: Duration::from_secs(600) }))
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        Ok(Healthy { detail: String::new(), warning: None })
    }
}

/// Every login session is well, and its leader is this process.
struct AllWell;

#[async_trait]
impl Logins for AllWell {
    async fn login_of(&self, _: &Caller) -> Result<Option<Login>, Problem> {
        Ok(None)
    }

    async fn look(&self, _: &Login) -> Result<Option<Look>, Problem> {
        tokio::task::yield_now().await;
        Ok(Some(Look { locked_hint: false, active: true, closing: false }))
    }
}

fn login(number: u64) -> Login {
    let pid = rustix::process::getpid();
    let pidfd: OwnedFd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    Login {
        id: number.to_string(),
        path: format!("/session/{number}"),
        uid: 0,
        since: number,
        seat: None,
        remote: false,
        leader: Leader { pid: 1, started: number, pidfd },
    }
}

struct Peer(AtomicUsize);

#[async_trait]
impl PeerWatch for Peer {
    fn alive(&self) -> bool {
        true
    }

    async fn exited(&self) {
        std::future::pending().await
    }

    fn kill(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn config() -> Config {
    let spec = |name: &str| CredentialSpec {
        name: name.parse().unwrap(),
        provider: "bao".parse().unwrap(),
        ttl: Duration::from_secs(60),
        settings: Arc::new(()),
    };
    let scope = |name: &str, tools: &str, credentials| {
        let all = Scope::of_all(name.parse().unwrap(), credentials, Vec::new());
        Scope { tools: vec![tools.to_owned()], ..all }
    };
    let server = ServerDefinition {
        name: "orders".parse().unwrap(),
        description: String::new(),
        owner: String::new(),
        tier: Tier::Development,
        command: vec!["/bin/true".to_owned()],
        extra_args: Vec::new(),
        env: BTreeMap::new(),
        cwd: "/".to_owned(),
        access: Access { users: vec!["root".to_owned()], groups: Vec::new() },
        scopes: vec![
            scope("all", "*_all", vec![spec("a"), spec("b")]),
            scope("more", "*_more", vec![spec("c")]),
        ],
        start: crate::config::Start::Eager,
        on_leak: crate::config::OnLeak::Mask,
        client_requests: std::collections::BTreeSet::new(),
    };
    let nowhere = places().uid.to_string();
    Config {
        mode: Mode::User,
        broker: BrokerSection {
            socket: (&nowhere).into(),
            admin_socket: (&nowhere).into(),
            state_dir: (&nowhere).into(),
        },
        session: SessionSection {
            max_age: Duration::from_secs(36_000),
            idle: Duration::from_secs(900),
            on_lock: OnLock::Park,
            logind: LogindUse::Optional,
            resume: Resume::Unlock,
        },
        providers: BTreeMap::new(),
        servers: BTreeMap::from([(server.name.clone(), Arc::new(server))]),
        warnings: Vec::new(),
    }
}

struct World {
    sessions: Arc<Sessions>,
    leases: Arc<Leases>,
    backend: Arc<Backend>,
    peer: Arc<Peer>,
    _config: watch::Sender<Arc<Config>>,
    _dir: TempDir,
}

fn world() -> World {
    let dir = TempDir::new();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (audit, _) = AuditLog::open(dir.path(), Arc::clone(&clock)).unwrap();
    let book = Book::open(journal::open(dir.path()).unwrap()).unwrap();
    let backend = Arc::new(Backend::default());
    let provider: Arc<dyn Provider> = Arc::<Backend>::clone(&backend);
    let providers = Providers::from([("bao".parse().unwrap(), provider)]);
    let (lost, _) = mpsc::unbounded_channel();
    let leases = Leases::new(book, audit.clone(), Arc::clone(&clock), providers, lost);
    let (sender, config) = watch::channel(Arc::new(config()));
    let sessions = Sessions::new(Needs {
        leases: Arc::clone(&leases),
        audit,
        slept: Arc::new(Slept::new(Arc::clone(&clock))),
        clock,
        logins: Arc::new(AllWell),
        config,
        marks: Marks::nowhere(),
    });
    World { sessions, leases, backend, peer: Arc::new(Peer(AtomicUsize::new(0))), _config: sender, _dir: dir }
}

/// A launcher that does as it is told, and what it was told last.
async fn launcher(stream: DuplexStream, mut dice: Dice) -> Result<(), String> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    let scope = |name: &str| -> Label { name.parse().unwrap() };
    let mut parked = false;
    let mut wanting = HashSet::from([scope("all")]);
    while let Ok(Some(line)) = lines.next_line().await {
        let frame: ToLauncher = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let mut say = Vec::new();
        let mut want = |scope: Label, wanting: &mut HashSet<Label>| {
            if wanting.insert(scope.clone()) {
                say.push(ToBroker::Want { scope });
            }
        };
        match frame {
            ToLauncher::Ticket(ticket) => {
                let mcp_broker_proto::launch::LaunchTicket::Secrets(ticket) = *ticket else {
                    return Err("another kind of ticket".into());
                };
                if parked || !wanting.remove(&ticket.scope) {
                    return Err(format!("a ticket while parked ({parked}) or unasked ({})", ticket.scope));
                }
                let more = scope("more");
                if ticket.scope != more && dice.below(2) == 0 {
                    want(more, &mut wanting);
                }
                if dice.below(3) == 0 {
                    let reason = mcp_broker_proto::channel::GoneReason::Idle;
                    say.push(ToBroker::Gone { instance: ticket.instance, reason });
                }
            }
            ToLauncher::Park(_) => {
                parked = true;
                wanting.clear();
                dice.pause().await;
                say.push(ToBroker::Dead);
            }
            ToLauncher::Resume => {
                parked = false;
                want(scope("all"), &mut wanting);
                if dice.below(2) == 0 {
                    want(scope("more"), &mut wanting);
                }
            }
            ToLauncher::Refused { scope, .. } => drop(wanting.remove(&scope)),
            ToLauncher::End(_) => {
                dice.pause().await;
                say.push(ToBroker::Dead);
            }
            ToLauncher::Plan(_) if dice.below(2) == 0 => want(scope("more"), &mut wanting),
            ToLauncher::Beat | ToLauncher::Replace { .. } | ToLauncher::Plan(_) | ToLauncher::Decision(_) => {
            }
        }
        for frame in say {
            let line = serde_json::to_string(&frame).unwrap() + "\n";
            if write.write_all(line.as_bytes()).await.is_err() {
                return Ok(());
            }
        }
        if dice.below(40) == 0 {
            // Killed.
            return Ok(());
        }
    }
    Ok(())
}

impl World {
    fn asking(&self, login: &Arc<Login>) -> Asking {
        Asking {
            by: ByWhom { uid: 0, pid: None },
            person: Person { uid: 0, user: "root".into(), groups: Vec::new(), home: "/".into() },
            login: Some(Arc::clone(login)),
        }
    }

    async fn launch(&self, login: &Arc<Login>, dice: &Dice) -> Option<JoinHandle<Result<(), String>>> {
        let request = LaunchRequest {
            protocol: PROTOCOL,
            server: "orders".parse().unwrap(),
            args: Vec::new(),
            want: true,
        };
        let admitted = self.sessions.admit_as(self.asking(login), request).await.ok()?;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let peer: Arc<dyn PeerWatch> = Arc::<Peer>::clone(&self.peer);
        tokio::spawn(run(Arc::clone(&self.sessions), admitted, peer, ours));
        Some(tokio::spawn(launcher(theirs, dice.clone())))
    }

    /// One session from its first launch to its end, with everything at once.
    async fn round(&self, number: u64) {
        let mut dice = Dice::new(number);
        let login = Arc::new(login(number));
        let session = self.sessions.sign_in(&self.asking(&login)).await.unwrap();
        let mut launchers = Vec::new();
        for _ in 0..3 + dice.below(4) {
            match dice.below(8) {
                0 | 1 => launchers.extend(self.launch(&login, &dice).await),
                2 => self.sessions.sighted(&login.path, Sighting::Lock),
                3 => drop(self.sessions.notice(session, Notice::Unlock, None)),
                4 => {
                    let lock = Notice::Lock(LockCause::Command);
                    if let Some(fenced) = self.sessions.turn(session, lock, None) {
                        self.sessions.wind_up(fenced, Some(session), None).await;
                        // What was open is over when its lock says so.
                        assert_eq!(self.backend.alive_in(session), 0, "round {number}: alive though locked");
                    }
                }
                5 => drop(self.sessions.notice(session, Notice::Lock(LockCause::Sleep), None)),
                6 => drop(self.sessions.notice(session, Notice::Awake, None)),
                _ => launchers.extend(self.launch(&login, &dice).await),
            }
            dice.pause().await;
        }
        match dice.below(3) {
            0 => self.sessions.sighted(&login.path, Sighting::Closed),
            1 => self.sessions.end_session(session, EndReason::LoggedOut).await,
            _ => drop(self.sessions.end_session(session, EndReason::Revoked)),
        }
        for launcher in launchers {
            launcher.await.unwrap().unwrap_or_else(|error| panic!("round {number}: {error}"));
        }
        while self.leases.infos().iter().any(|lease| lease.session == session) {
            sleep(Duration::from_millis(1)).await;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.backend.alive_in(session) > 0 {
            assert!(Instant::now() < deadline, "round {number}: something is alive that nobody ends");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_delivered_or_left_after_a_fence() {
    let world = Arc::new(world());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut rounds = tokio::task::JoinSet::new();
    for number in 1..=ROUNDS {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let world = Arc::clone(&world);
        rounds.spawn(async move {
            world.round(number).await;
            drop(place);
        });
        while let Some(done) = rounds.try_join_next() {
            done.unwrap();
        }
    }
    while let Some(done) = rounds.join_next().await {
        done.unwrap();
    }
    assert!(world.backend.alive.lock().unwrap().is_empty());
    assert_eq!(world.leases.drain(Duration::from_secs(20)).await, 0);
    let minted = world.backend.made.lock().unwrap().len();
    assert!(
        minted > usize::try_from(ROUNDS).unwrap(),
        "only {minted} were made: the races did not take place"
    );
    drop(world);
}
