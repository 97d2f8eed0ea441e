//! A register over doubles, for the tests of this module: a backend that knows what is alive, login sessions that
//! answer when they are let, and launchers that do as a test says.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::names::SessionId;
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{LockCause, Revocability};
use mcp_broker_proto::{PROTOCOL, Secret};
use tokio::io::DuplexStream;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::sleep;

use super::admit::Asking;
use super::launch::{PeerWatch, run};
use super::login::{Caller, Leader, Login, Logins, Look};
use super::marks::Marks;
use super::registry::{Needs, Sessions};
use super::sign_in::Person;
use crate::audit::{AuditLog, ByWhom};
use crate::clock::{Clock, Slept, SystemClock};
use crate::config::plain;
use crate::config::testing::TempDir;
use crate::config::{Access, Config, CredentialSpec, Scope, ServerDefinition};
use crate::lease::{Book, Leases, Providers, journal};
use crate::package::Approvals;
use crate::provider::{
    Handle, Healthy, Issued, MintRequest, Parent, Prepared, Proof, Provider, ProviderError, Renewed,
    Revocation, SessionTag,
};

/// What a login session looks like that nothing speaks against.
pub(super) const WELL: Look = Look { locked_hint: false, active: true, closing: false };

/// A backend that knows what is alive.
#[derive(Default)]
pub(super) struct Backend {
    alive: Mutex<HashSet<u64>>,
    next: AtomicU64,
}

impl Backend {
    fn make(&self) -> Handle {
        Handle(serde_json::json!({ "id": self.next.fetch_add(1, Ordering::Relaxed) }))
    }

    fn open(&self, handle: &Handle) {
        self.alive.lock().unwrap().insert(handle.0["id"].as_u64().unwrap());
    }

    pub(super) fn alive(&self) -> usize {
        self.alive.lock().unwrap().len()
    }
}

#[async_trait]
impl Provider for Backend {
    fn revocability(&self, _: &CredentialSpec) -> Revocability {
        Revocability::Immediate
    }

    async fn prepare(&self, _: &MintRequest, _: Option<&Parent>) -> Result<Prepared, ProviderError> {
        Ok(Prepared { handle: self.make(), opener: None })
    }

    async fn issue(&self, _: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError> {
        self.open(&prepared.handle);
        Ok(Issued {
            handle: prepared.handle,
            fields: BTreeMap::from([("value".to_owned(), Secret::new("s".to_owned()))]),
            plain: &[],
            valid_until: None,
            detail: None,
            expires_at: None,
            renewable: false,
            revocability: Revocability::Immediate,
        })
    }

    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        self.alive.lock().unwrap().remove(&handle.0["id"].as_u64().unwrap());
        Ok(Revocation::Revoked(Proof::Object))
    }

    async fn renew(&self, _: &Handle, _: Duration) -> Result<Renewed, ProviderError> {
        Ok(Renewed { expires_at: SystemClock.now(), renewable: false })
    }

    async fn open_session(&self, _: &SessionTag) -> Result<Option<Parent>, ProviderError> {
        let handle = self.make();
        self.open(&handle);
        Ok(Some(Parent { handle, token: Secret::new("t".to_owned()), period: Duration::from_secs(600) }))
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        Ok(Healthy { detail: String::new(), warning: None })
    }
}

/// Login sessions that all look alike. Each look takes a permit, and answers what was true when it was asked for.
pub(super) struct Looks {
    pub(super) now: Mutex<Look>,
    pub(super) permits: Semaphore,
    pub(super) asked: AtomicUsize,
}

#[async_trait]
impl Logins for Looks {
    async fn login_of(&self, _: &Caller) -> Result<Option<Login>, Problem> {
        Ok(None)
    }

    async fn look(&self, _: &Login) -> Result<Option<Look>, Problem> {
        let look = *self.now.lock().unwrap();
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.permits.acquire().await.unwrap().forget();
        Ok(Some(look))
    }
}

/// A launcher's process that lives until it is killed, if that can be done.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) kills: AtomicUsize,
}

#[async_trait]
impl PeerWatch for Peer {
    fn alive(&self) -> bool {
        true
    }

    async fn exited(&self) {
        std::future::pending().await
    }

    fn kill(&self) {
        self.kills.fetch_add(1, Ordering::SeqCst);
    }
}

/// A register and what is around it.
pub(super) struct Scene {
    pub(super) sessions: Arc<Sessions>,
    pub(super) leases: Arc<Leases>,
    pub(super) backend: Arc<Backend>,
    pub(super) looks: Arc<Looks>,
    pub(super) peer: Arc<Peer>,
    _config: watch::Sender<Arc<Config>>,
    _dir: TempDir,
}

/// A login session of an account.
pub(super) fn login(number: u64, uid: u32) -> Arc<Login> {
    let pid = rustix::process::getpid();
    let pidfd: OwnedFd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
    let leader = Leader { pid: 1, started: number, pidfd };
    let (id, path) = (number.to_string(), format!("/session/{number}"));
    Arc::new(Login { id, path, uid, since: number, seat: None, remote: false, leader })
}

/// A process of that login session asks.
pub(super) fn asking(login: &Arc<Login>) -> Asking {
    let (uid, user) = (login.uid, format!("u{}", login.uid));
    Asking {
        by: ByWhom { uid, pid: None },
        person: Person { uid, user, groups: vec!["all".into()], home: "/".into() },
        login: Some(Arc::clone(login)),
    }
}

impl Scene {
    /// Every login session looks well.
    pub(super) fn new() -> Self {
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
        let (now, permits) = (Mutex::new(WELL), Semaphore::new(1000));
        let approvals = Approvals::open(dir.path(), audit.clone(), Arc::clone(&clock), sender.subscribe());
        let looks = Arc::new(Looks { now, permits, asked: AtomicUsize::new(0) });
        let sessions = Sessions::new(Needs {
            leases: Arc::clone(&leases),
            audit,
            slept: Arc::new(Slept::new(Arc::clone(&clock))),
            clock,
            logins: Arc::<Looks>::clone(&looks),
            config,
            approvals,
            marks: Marks::nowhere(),
        });
        let peer = Arc::new(Peer::default());
        Self { sessions, leases, backend, looks, peer, _config: sender, _dir: dir }
    }

    /// The launcher's end of a launch, with a stream that holds so many bytes that nobody has read.
    pub(super) async fn launch(&self, asking: Asking, room: usize) -> Result<DuplexStream, Problem> {
        let server = "orders".parse().unwrap();
        let request = LaunchRequest { protocol: PROTOCOL, server, args: Vec::new(), want: true };
        let admitted = self.sessions.admit_as(asking, request).await?;
        let (ours, theirs) = tokio::io::duplex(room);
        let peer: Arc<dyn PeerWatch> = Arc::<Peer>::clone(&self.peer);
        tokio::spawn(run(Arc::clone(&self.sessions), admitted, peer, ours));
        Ok(theirs)
    }

    /// What locked the session, while it is.
    pub(super) fn locked(&self, session: SessionId) -> Option<LockCause> {
        let all = self.sessions.sessions();
        let found = all.into_iter().find(|info| info.id == session).expect("the session is there");
        found.lock.map(|lock| lock.cause)
    }
}

/// Waits until it holds.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waited = tokio::time::timeout(Duration::from_secs(20), async {
        while !holds() {
            sleep(Duration::from_millis(1)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{what}"));
}

fn config() -> Config {
    let scope = Scope::of_all("all".parse().unwrap(), vec![plain::credential("a")], Vec::new());
    let access = Access { users: vec!["root".to_owned()], groups: vec!["all".to_owned()] };
    plain::config(Path::new("s"), ServerDefinition { access, scopes: vec![scope], ..plain::server("orders") })
}
