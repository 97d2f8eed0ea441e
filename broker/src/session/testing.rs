//! What tests of sessions share: the real register over a scripted backend that knows the truth, and the other end
//! of a launch's stream. The backend is a double, because a real one cannot be made to meet at the worst moment so
//! often.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::approval::ApprovalRequest;
use mcp_broker_proto::channel::{ToBroker, ToLauncher};
use mcp_broker_proto::launch::{LaunchRequest, LaunchTicket, SecretsTicket};
use mcp_broker_proto::names::{LaunchId, SessionId};
use mcp_broker_proto::plan::{Lists, Record, Variant};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{LaunchInfo, Revocability};
use mcp_broker_proto::{PROTOCOL, Secret};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines, ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

use super::admit::Asking;
use super::launch::{PeerWatch, run};
use super::login::{Caller, Leader, Login, Logins, Look};
use super::marks::Marks;
use super::registry::{Needs, Sessions};
use super::sign_in::Person;
use crate::audit::{AuditLog, ByWhom};
use crate::clock::{Clock, Slept, SystemClock};
use crate::config::plain;
use crate::config::testing::{TempDir, places};
use crate::config::{Access, Config, CredentialSpec, Scope, ServerDefinition};
use crate::lease::{Book, Leases, Providers, journal};
use crate::package::Approvals;
use crate::provider::{
    Blame, Handle, Healthy, Issued, MintRequest, Parent, Prepared, Proof, Provider, ProviderError, Renewed,
    Revocation, SessionTag,
};

/// The longest that the backend and a launcher take for anything, in microseconds.
const SLOWEST: u64 = 1_500;

/// Random numbers that a seed repeats (xorshift64).
#[derive(Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    pub(super) async fn pause(&mut self) {
        match self.below(4) {
            0 => tokio::task::yield_now().await,
            _ => sleep(Duration::from_micros(self.below(SLOWEST))).await,
        }
    }
}

/// A backend that knows what is alive in each session.
#[derive(Default)]
pub(super) struct Backend {
    pub(super) alive: Mutex<HashMap<u64, SessionId>>,
    pub(super) made: Mutex<HashMap<u64, SessionId>>,
    /// What is minted from now on lives so long.
    pub(super) life: Mutex<Option<Duration>>,
    /// Nothing is minted, for this reason.
    pub(super) refuses: Mutex<Option<Blame>>,
    /// Each mint takes so many milliseconds more.
    pub(super) slow: AtomicU64,
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

    pub(super) fn alive_in(&self, session: SessionId) -> usize {
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
        sleep(Duration::from_millis(self.slow.load(Ordering::Relaxed))).await;
        if let Some(blame) = *self.refuses.lock().unwrap() {
            return Err(ProviderError::new(blame, "the backend gives nothing", "none"));
        }
        self.open(&prepared.handle);
        self.take_time().await;
        let life = *self.life.lock().unwrap();
        Ok(Issued {
            handle: prepared.handle,
            fields: BTreeMap::from([("value".to_owned(), Secret::new("s".to_owned()))]),
            plain: &[],
            valid_until: None,
            detail: None,
            expires_at: life.map(|life| SystemClock.now() + life),
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

pub(super) fn login(number: u64) -> Login {
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

pub(super) struct Peer(AtomicUsize);

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

pub(super) fn config() -> Config {
    let scope = |name: &str, tools: &str, credentials| {
        let all = Scope::of_all(name.parse().unwrap(), credentials, Vec::new());
        Scope { tools: vec![tools.to_owned()], ..all }
    };
    let server = ServerDefinition {
        access: Access { users: vec!["root".to_owned()], groups: Vec::new() },
        scopes: vec![
            scope("all", "*_all", vec![plain::credential("a"), plain::credential("b")]),
            scope("more", "*_more", vec![plain::credential("c")]),
        ],
        ..plain::server("orders")
    };
    plain::config(Path::new(&places().uid.to_string()), server)
}

pub(super) struct World {
    pub(super) sessions: Arc<Sessions>,
    pub(super) leases: Arc<Leases>,
    pub(super) backend: Arc<Backend>,
    pub(super) peer: Arc<Peer>,
    pub(super) config: watch::Sender<Arc<Config>>,
    pub(super) approvals: Arc<Approvals>,
    pub(super) dir: TempDir,
}

pub(super) fn world() -> World {
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
    let approvals = Approvals::open(dir.path(), audit.clone(), Arc::clone(&clock), sender.subscribe());
    let sessions = Sessions::new(Needs {
        leases: Arc::clone(&leases),
        audit,
        slept: Arc::new(Slept::new(Arc::clone(&clock))),
        clock,
        logins: Arc::new(AllWell),
        config,
        approvals: Arc::clone(&approvals),
        marks: Marks::nowhere(),
    });
    World {
        sessions,
        leases,
        backend,
        peer: Arc::new(Peer(AtomicUsize::new(0))),
        config: sender,
        approvals,
        dir,
    }
}

impl World {
    pub(super) fn asking(&self, login: &Arc<Login>) -> Asking {
        Asking {
            by: ByWhom { uid: 0, pid: None },
            person: Person { uid: 0, user: "root".into(), groups: Vec::new(), home: "/".into() },
            login: Some(Arc::clone(login)),
        }
    }

    /// A launch that begins now, and the launcher's end of its stream; `None` where it is refused.
    pub(super) async fn connect(&self, login: &Arc<Login>, want: bool) -> Option<DuplexStream> {
        let request =
            LaunchRequest { protocol: PROTOCOL, server: "orders".parse().unwrap(), args: Vec::new(), want };
        let admitted = self.sessions.admit_as(self.asking(login), request).await.ok()?;
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let peer: Arc<dyn PeerWatch> = Arc::<Peer>::clone(&self.peer);
        tokio::spawn(run(Arc::clone(&self.sessions), admitted, peer, ours));
        Some(theirs)
    }

    /// What is shown of a launch.
    pub(super) fn shown(&self, launch: LaunchId) -> LaunchInfo {
        self.sessions.launches().into_iter().find(|info| info.id == launch).unwrap()
    }

    /// Events of the audit log, once `enough` says that all that are waited for are there.
    pub(super) async fn audited(
        &self,
        enough: impl Fn(&[serde_json::Value]) -> bool,
    ) -> Vec<serde_json::Value> {
        let path = self.dir.path().join(crate::audit::FILE_NAME);
        let read = || -> Vec<serde_json::Value> {
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
        };
        let enough = async {
            while !enough(&read()) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        // What is missing after that is for the test to find.
        drop(timeout(Duration::from_secs(10), enough).await);
        read()
    }

    /// The person's session, and a launch in it whose plan was read.
    pub(super) async fn launched(&self, number: u64, want: bool) -> (Arc<Login>, SessionId, Client) {
        let login = Arc::new(login(number));
        let session = self.sessions.sign_in(&self.asking(&login)).await.unwrap();
        let client = Client::of(self.connect(&login, want).await.unwrap()).await;
        (login, session, client)
    }

    /// Puts another definition of the server in force.
    pub(super) fn redefine(&self, change: impl FnOnce(&mut ServerDefinition)) {
        self.reconfigure(|config| {
            let server = config.servers.values_mut().next().unwrap();
            change(Arc::make_mut(server));
        });
    }

    /// Puts another configuration in force, with the server as it is defined.
    pub(super) fn reconfigure(&self, change: impl FnOnce(&mut Config)) {
        let mut next = config();
        next.servers = self.config.borrow().servers.clone();
        change(&mut next);
        self.config.send_replace(Arc::new(next));
    }

    /// Approves the server as it is defined, with one tool in each of its scopes.
    pub(super) async fn approve(&self) {
        let server = Arc::clone(self.config.borrow().servers.values().next().unwrap());
        let mut items = vec!["{}".to_owned()];
        let mut scopes = BTreeMap::new();
        for scope in &server.scopes {
            items
                .push(crate::package::canonical(&serde_json::json!({ "name": format!("a_{}", scope.name) })));
            let tools = Some(vec![items.len() - 1]);
            scopes.insert(scope.name.clone(), Lists { tools, ..Lists::default() });
        }
        let revision = "2025-11-25".to_owned();
        let variants = vec![Variant { revision, capable: false, discovery: 0, scopes }];
        // The time is the broker's.
        let record = Record { approved_at: String::new(), items, variants };
        let definition = crate::package::definition_digest(&server);
        let request = ApprovalRequest { server: server.name.clone(), definition, record };
        self.approvals.approve(request, ByWhom { uid: 0, pid: None }).await.unwrap();
    }
}

/// The launcher's end of a launch, step by step. Beats are answered and otherwise passed over.
pub(super) struct Client {
    lines: Lines<BufReader<ReadHalf<DuplexStream>>>,
    write: WriteHalf<DuplexStream>,
    pub(super) launch: LaunchId,
    pub(super) plan: mcp_broker_proto::plan::Plan,
}

impl Client {
    pub(super) async fn of(stream: DuplexStream) -> Self {
        let (read, write) = tokio::io::split(stream);
        let mut lines = BufReader::new(read).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        let ToLauncher::Plan(plan) = serde_json::from_str(&first).unwrap() else { unreachable!("{first}") };
        Self { lines, write, launch: plan.launch, plan: *plan }
    }

    pub(super) async fn say(&mut self, frame: &ToBroker) {
        let line = serde_json::to_string(frame).unwrap() + "\n";
        // Whether the broker is there is what tests see by what it says.
        drop(self.write.write_all(line.as_bytes()).await);
    }

    /// The next frame; `None` when the broker closed the stream, or says nothing for long.
    pub(super) async fn hear(&mut self) -> Option<ToLauncher> {
        loop {
            let line = timeout(Duration::from_secs(60), self.lines.next_line()).await.ok()?.unwrap()?;
            match serde_json::from_str(&line).unwrap() {
                ToLauncher::Beat => self.say(&ToBroker::Beat).await,
                frame => return Some(frame),
            }
        }
    }

    pub(super) async fn want(&mut self, scope: &str) {
        self.say(&ToBroker::Want { scope: scope.parse().unwrap() }).await;
    }

    pub(super) async fn ticket(&mut self) -> SecretsTicket {
        let frame = self.hear().await;
        let Some(ToLauncher::Ticket(ticket)) = frame else { unreachable!("no ticket but {frame:?}") };
        let LaunchTicket::Secrets(ticket) = *ticket else { unreachable!("another kind of ticket") };
        ticket
    }
}
