//! The promises of this module against a scripted provider that knows the truth: which credentials are alive.
//! A double, because a real backend cannot be told to answer at the worst moment; the real ones are in `tests/`.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::Secret;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::launch::{Content, Injection};
use mcp_broker_proto::names::{LaunchId, SessionId};
use mcp_broker_proto::problem::ErrorCode;
use mcp_broker_proto::session::Revocability;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::{Book, LaunchTag, Leases, Lost, Providers, journal};
use crate::audit::AuditLog;
use crate::clock::{Clock, SystemClock};
use crate::config::plain;
use crate::config::{Access, CredentialSpec, Scope, ServerDefinition};
use crate::policy::{Decision, Grant, Subject, decide};
use crate::provider::{
    Blame, Handle, Healthy, Issued, MintRequest, Parent, Prepared, Proof, Provider, ProviderError, Renewed,
    Revocation, SessionTag,
};

#[path = "fall_tests.rs"]
mod fall;
#[path = "withheld_tests.rs"]
mod withheld;

/// The machine's clocks: the wall clock set by so many seconds, and the others so many further.
#[derive(Default, Clone)]
struct Settable(Arc<AtomicI64>, Arc<AtomicU64>);

impl Clock for Settable {
    fn now(&self) -> jiff::Timestamp {
        SystemClock.now() + jiff::SignedDuration::from_secs(self.0.load(Ordering::Relaxed))
    }

    fn boot(&self) -> Duration {
        SystemClock.boot() + Duration::from_secs(self.1.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Duration {
        self.boot()
    }
}

/// The truth, and how the backend misbehaves.
#[derive(Default)]
struct Scripted {
    alive: Mutex<HashSet<u64>>,
    next: AtomicU64,
    /// Microseconds that each call may take at most; the time is drawn anew for each.
    delay: u64,
    /// So many revocations fail before one succeeds.
    failing_revocations: AtomicUsize,
    /// `issue` creates the credential and then says that it failed.
    lies: bool,
    /// What a revocation that fails is told to wait, instead of the usual pause.
    come_back: Option<Duration>,
    /// Revocations that were asked for.
    asked: AtomicUsize,
    /// Each revocation needs a permit.
    permits: Option<Semaphore>,
    /// Life of a credential; renewals give no more after the first.
    life: Option<Duration>,
    /// How long the backend lets it live, where that is longer.
    lives: Option<Duration>,
    /// It cannot be renewed at all.
    fixed: bool,
    /// It can be renewed for ever.
    endless: bool,
    /// What it tells the time by.
    clock: Settable,
    parents: AtomicUsize,
    /// Period of a parent; a minute unless said.
    period: Option<Duration>,
    parent_renewals: AtomicUsize,
    /// What a renewal of a parent gives, instead of its period.
    last_period: Option<Duration>,
    /// Whether credentials end with their parent, and how.
    falls: Falls,
    /// The parent of each credential.
    below: Mutex<HashMap<u64, u64>>,
    /// It can revoke no credential, and says until when each lives.
    bounded: Option<jiff::Timestamp>,
    /// What it makes is had by somebody else first.
    read_along: bool,
}

/// What becomes of a credential whose parent is revoked.
#[derive(Default, Clone, Copy, PartialEq, Eq)]
enum Falls {
    /// It is to be revoked by itself.
    #[default]
    No,
    /// It ends.
    Yes,
    /// It should end, and lives on.
    Survives,
    /// It cannot be rid of what would outlive its parent.
    CannotShed,
}

impl Scripted {
    async fn take_time(&self) {
        if self.delay > 0 {
            let drawn = self.next.fetch_add(7919, Ordering::Relaxed).wrapping_mul(2_654_435_761) % self.delay;
            tokio::time::sleep(Duration::from_micros(drawn)).await;
        }
    }

    fn alive(&self) -> usize {
        self.alive.lock().unwrap().len()
    }

    fn id(handle: &Handle) -> u64 {
        handle.0["id"].as_u64().unwrap()
    }
}

#[async_trait]
impl Provider for Scripted {
    fn revocability(&self, _: &CredentialSpec) -> Revocability {
        Revocability::Immediate
    }

    async fn prepare(&self, _: &MintRequest, parent: Option<&Parent>) -> Result<Prepared, ProviderError> {
        let parent = parent.expect("the parent comes first");
        self.take_time().await;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.below.lock().unwrap().insert(id, Self::id(&parent.handle));
        Ok(Prepared { handle: Handle(serde_json::json!({"id": id})), opener: None })
    }

    async fn issue(&self, _: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError> {
        self.take_time().await;
        self.alive.lock().unwrap().insert(Self::id(&prepared.handle));
        self.take_time().await;
        if self.read_along {
            return Err(ProviderError::new(Blame::Incident, "somebody was there before", "none"));
        }
        if self.lies {
            return Err(ProviderError::new(Blame::Unreachable, "the answer was lost", "none"));
        }
        let fields = BTreeMap::from([("value".to_owned(), Secret::new("s".to_owned()))]);
        let expires_at = self.life.map(|life| self.clock.now() + life);
        let revocability =
            self.bounded.map_or(Revocability::Immediate, |_| Revocability::Bounded { seconds: 900 });
        Ok(Issued {
            handle: prepared.handle,
            fields,
            plain: &[],
            expires_at,
            valid_until: self.bounded.or(self.lives.map(|lives| self.clock.now() + lives)),
            detail: self.bounded.map(|_| "its name".to_owned()),
            renewable: !self.fixed,
            revocability,
        })
    }

    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        self.take_time().await;
        self.asked.fetch_add(1, Ordering::Relaxed);
        if let Some(permits) = &self.permits {
            permits.acquire().await.unwrap().forget();
        }
        let failing = &self.failing_revocations;
        if failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
            let blame = self.come_back.map_or(Blame::Unreachable, |wait| Blame::Busy(Some(wait)));
            return Err(ProviderError::new(blame, "the backend is down", "none"));
        }
        let id = Self::id(handle);
        if let Some(until) = self.bounded.filter(|_| self.below.lock().unwrap().contains_key(&id)) {
            return Ok(Revocation::ExpiresAt(Some(until)));
        }
        let was_there = self.alive.lock().unwrap().remove(&id);
        if self.falls == Falls::Yes {
            let below = self.below.lock().unwrap();
            self.alive.lock().unwrap().retain(|child| below.get(child) != Some(&id));
        }
        Ok(if was_there {
            Revocation::Revoked(Proof::Object)
        } else {
            Revocation::AlreadyGone(Proof::Object)
        })
    }

    async fn shed(&self, handle: &Handle, parent: &Handle) -> Result<bool, ProviderError> {
        assert_eq!(self.below.lock().unwrap().get(&Self::id(handle)), Some(&Self::id(parent)));
        match self.falls {
            Falls::No => Ok(false),
            Falls::Yes | Falls::Survives => Ok(true),
            Falls::CannotShed => Err(ProviderError::new(Blame::Broken, "the database is down", "none")),
        }
    }

    async fn fallen(&self, handle: &Handle, _: &Revocation) -> Result<Revocation, ProviderError> {
        match self.alive.lock().unwrap().contains(&Self::id(handle)) {
            true => Err(ProviderError::new(Blame::Broken, "it is still there", "none")),
            false => Ok(Revocation::Revoked(Proof::Token)),
        }
    }

    async fn renew(&self, _: &Handle, _: Duration) -> Result<Renewed, ProviderError> {
        let expires_at = self.clock.now() + self.life.unwrap_or_default();
        Ok(Renewed { expires_at, renewable: self.endless })
    }

    async fn open_session(&self, _: &SessionTag) -> Result<Option<Parent>, ProviderError> {
        self.take_time().await;
        self.parents.fetch_add(1, Ordering::Relaxed);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.alive.lock().unwrap().insert(id);
        let handle = Handle(serde_json::json!({"id": id}));
        let period = self.period.unwrap_or(Duration::from_secs(60));
        Ok(Some(Parent { handle, token: Secret::new("t".to_owned()), period }))
    }

    async fn renew_session(&self, parent: &Parent) -> Result<Duration, ProviderError> {
        self.parent_renewals.fetch_add(1, Ordering::Relaxed);
        Ok(self.last_period.unwrap_or(parent.period))
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        Ok(Healthy { detail: String::new(), warning: None })
    }
}

struct World {
    leases: Arc<Leases>,
    truth: Arc<Scripted>,
    lost: mpsc::UnboundedReceiver<Lost>,
    directory: PathBuf,
}

impl World {
    /// What is lost next.
    async fn loses(&mut self) -> Option<Lost> {
        loop {
            match self.lost.recv().await {
                Some(Lost::Postponed(..)) => {}
                other => return other,
            }
        }
    }
}

fn world(name: &str, truth: Scripted) -> World {
    let directory = std::env::temp_dir().join(format!("mcp-leases-{}-{name}", std::process::id()));
    drop(std::fs::remove_dir_all(&directory));
    std::fs::create_dir_all(&directory).unwrap();
    reopen(directory, Arc::new(truth))
}

fn reopen(directory: PathBuf, truth: Arc<Scripted>) -> World {
    let (audit, _) = AuditLog::open(&directory, Arc::new(SystemClock)).unwrap();
    let book = Book::open(journal::open(&directory).unwrap()).unwrap();
    let provider: Arc<dyn Provider> = Arc::<Scripted>::clone(&truth);
    let providers = Providers::from([("bao".parse().unwrap(), provider)]);
    let (sender, lost) = mpsc::unbounded_channel();
    let leases = Leases::new(book, audit, Arc::new(truth.clock.clone()), providers, sender);
    World { leases, truth, lost, directory }
}

fn grant(credentials: usize) -> Grant {
    grant_of(credentials, Vec::new())
}

fn grant_of(credentials: usize, inject: Vec<Injection>) -> Grant {
    let credentials = (0..credentials).map(|index| plain::credential(&format!("c{index}"))).collect();
    let definition = ServerDefinition {
        access: Access { users: vec!["alice".to_owned()], groups: Vec::new() },
        scopes: vec![Scope::of_all("all".parse().unwrap(), credentials, inject)],
        ..plain::server("orders")
    };
    let name = definition.name.clone();
    let subject = Subject { user: "alice".to_owned(), groups: Vec::new() };
    match decide(&BTreeMap::from([(name.clone(), Arc::new(definition))]), &name, &subject, &[]) {
        Decision::Grant(grant) => grant,
        Decision::Denial(_) => panic!("denied"),
    }
}

fn tag(session: SessionId, fence: &CancellationToken) -> LaunchTag {
    LaunchTag {
        launch: LaunchId::fresh(),
        session,
        user: "alice".to_owned(),
        horizon: Duration::from_secs(3600),
        fence: fence.clone(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mint_and_end() {
    let world = world("end", Scripted::default());
    let session = SessionId::fresh();
    let minted = world.leases.mint(&grant(3), &tag(session, &CancellationToken::new())).await.unwrap();
    assert_eq!((minted.len(), world.truth.alive(), world.leases.infos().len()), (3, 4, 3));
    // One parent for the whole session.
    world.leases.mint(&grant(1), &tag(session, &CancellationToken::new())).await.unwrap();
    assert_eq!(world.truth.parents.load(Ordering::Relaxed), 1);
    world.leases.end(world.leases.infos().iter().map(|lease| lease.id), EndReason::Revoked);
    world.leases.end_parents(&world.leases.take_parents(session), EndReason::Revoked);
    assert_eq!(world.leases.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(world.truth.alive(), 0);
}

/// A lock may fall at any moment of a mint (T32 in small): nothing is delivered after it, nothing stays alive.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_at_any_moment_leaves_nothing() {
    let world = world("fence", Scripted { delay: 3000, ..Scripted::default() });
    let mut runs = Vec::new();
    for run in 0..400_u64 {
        let leases = Arc::clone(&world.leases);
        runs.push(tokio::spawn(async move {
            let (session, fence) = (SessionId::fresh(), CancellationToken::new());
            let falls = fence.clone();
            let fall = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_micros(run * 41 % 16_000)).await;
                falls.cancel();
            });
            match leases.mint(&grant(2), &tag(session, &fence)).await {
                Ok(minted) => {
                    fall.await.unwrap();
                    leases.end(minted.iter().map(|one| one.lease), EndReason::Locked);
                }
                Err(problem) => assert_eq!(problem.code, ErrorCode::PeerGone),
            }
            leases.end_parents(&leases.take_parents(session), EndReason::Locked);
        }));
    }
    for run in runs {
        run.await.unwrap();
    }
    assert_eq!(world.leases.drain(Duration::from_secs(30)).await, 0);
    assert_eq!(world.truth.alive(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_revoked_all_the_same() {
    let world = world("lies", Scripted { lies: true, ..Scripted::default() });
    let session = SessionId::fresh();
    let problem = world.leases.mint(&grant(1), &tag(session, &CancellationToken::new())).await.err().unwrap();
    assert_eq!(problem.code, ErrorCode::ProviderUnreachable);
    world.leases.end_parents(&world.leases.take_parents(session), EndReason::LoggedOut);
    assert_eq!(world.leases.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(world.truth.alive(), 0);
}

/// It is ended as any other, and told in the audit log; what failed otherwise is no incident.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_else_had_first_is_an_incident_of_the_audit_log() {
    for (name, read_along, told) in [("incident", true, 1), ("no-incident", false, 0)] {
        let world = world(name, Scripted { read_along, lies: true, ..Scripted::default() });
        let session = SessionId::fresh();
        let problem = world.leases.mint(&grant(1), &tag(session, &CancellationToken::new())).await.err();
        let code = if read_along { ErrorCode::ProviderRefused } else { ErrorCode::ProviderUnreachable };
        assert_eq!(problem.unwrap().code, code);
        world.leases.end_parents(&world.leases.take_parents(session), EndReason::LoggedOut);
        assert_eq!(world.leases.drain(Duration::from_secs(20)).await, 0);
        assert_eq!(world.truth.alive(), 0);
        world.leases.audit.record(crate::audit::Event::BrokerStopped { pending: 0 }).await.unwrap();
        let log = std::fs::read_to_string(world.directory.join("audit.jsonl")).unwrap();
        assert_eq!(log.matches("\"wrapping_opened\"").count(), told, "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_that_fails_is_pending_until_it_is_proved() {
    let world = world("pending", Scripted { failing_revocations: 2.into(), ..Scripted::default() });
    let minted = world.leases.mint(&grant(1), &tag(SessionId::fresh(), &CancellationToken::new())).await;
    let id = minted.unwrap()[0].lease;
    let mut outcomes = world.leases.outcomes();
    world.leases.end([id], EndReason::Revoked);
    let pending = loop {
        let info = world.leases.infos().into_iter().find(|lease| lease.id == id).unwrap();
        if info.trouble.is_some() {
            break info;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(pending.trouble.as_deref(), Some("the backend is down"));
    assert_eq!(outcomes.recv().await.unwrap(), (id, super::Outcome::Verified));
    assert!(world.leases.infos().is_empty());
}

/// What a `kill -9` leaves: the journal of one broker, taken over by the next.
#[tokio::test(flavor = "multi_thread")]
async fn the_next_start_ends_what_was_left() {
    let first = world("recover", Scripted::default());
    let tag = tag(SessionId::fresh(), &CancellationToken::new());
    first.leases.mint(&grant(2), &tag).await.unwrap();
    assert_eq!(first.truth.alive(), 3);
    // `Live` is not waited for when minting; a later record that is durable shows that it is on the disk.
    first.leases.audit.record(crate::audit::Event::BrokerStopped { pending: 0 }).await.unwrap();
    let second = reopen(first.directory.clone(), Arc::clone(&first.truth));
    let left = second.leases.recover();
    assert_eq!((left.leases, left.parents), (2, 1));
    assert_eq!(second.leases.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(second.truth.alive(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_cannot_be_renewed_further_is_announced() {
    let life = Some(Duration::from_secs(3));
    let mut world = world("lost", Scripted { life, ..Scripted::default() });
    let tag = tag(SessionId::fresh(), &CancellationToken::new());
    world.leases.mint(&grant(1), &tag).await.unwrap();
    let lost = world.loses().await;
    assert!(matches!(lost, Some(Lost::Credential(launch, _)) if launch == tag.launch));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_minted_when_the_disk_is_full() {
    let world = world("full", Scripted::default());
    let full = world.directory.join("full");
    std::fs::create_dir_all(&full).unwrap();
    std::os::unix::fs::symlink("/dev/full", full.join("x")).unwrap();
    let file = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let found = journal::Found {
        path: full.join("journal"),
        file: Some(file),
        length: 0,
        records: Vec::new(),
        damage: journal::Damage::None,
    };
    let (audit, _) = AuditLog::open(&world.directory, Arc::new(SystemClock)).unwrap();
    let provider: Arc<dyn Provider> = Arc::<Scripted>::clone(&world.truth);
    let providers = Providers::from([("bao".parse().unwrap(), provider)]);
    let (sender, _lost) = mpsc::unbounded_channel();
    let leases = Leases::new(Book::open(found).unwrap(), audit, Arc::new(SystemClock), providers, sender);
    let problem =
        leases.mint(&grant(1), &tag(SessionId::fresh(), &CancellationToken::new())).await.err().unwrap();
    assert_eq!(problem.code, ErrorCode::StorageUnavailable);
    assert_eq!(leases.drain(Duration::from_secs(20)).await, 0);
    assert_eq!(world.truth.alive(), 0);
}

/// Whatever the wall clock says: a backend's answer is worth the time that it gives from now.
#[tokio::test(flavor = "multi_thread")]
async fn a_wall_clock_that_is_set_ends_no_renewals() {
    let life = Some(Duration::from_secs(3));
    let mut world = world("wall", Scripted { life, endless: true, ..Scripted::default() });
    world.leases.mint(&grant(1), &tag(SessionId::fresh(), &CancellationToken::new())).await.unwrap();
    for seconds in [-86_400, 86_400, -315_619_200] {
        world.truth.clock.0.store(seconds, Ordering::Relaxed);
        let lost = tokio::time::timeout(Duration::from_secs(3), world.loses()).await;
        assert!(lost.is_err(), "set by {seconds} s, it was given up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_credential_lives_longer_is_told() {
    let life = Some(Duration::from_secs(3));
    let mut world = world("longer", Scripted { life, endless: true, ..Scripted::default() });
    let tag = tag(SessionId::fresh(), &CancellationToken::new());
    let minted = world.leases.mint(&grant(1), &tag).await.unwrap();
    let (id, mut end) = (minted[0].lease, minted[0].expires_at.unwrap());
    for _ in 0..2 {
        match world.lost.recv().await.unwrap() {
            Lost::Postponed(launch, lease, until) => {
                assert!(launch == tag.launch && lease == id && until > end, "{until}");
                end = until;
            }
            _ => panic!("it is lost"),
        }
    }
}

/// Another instance can take over in time; not where the session ends as well.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_credential_is_announced_early() {
    let life = Some(Duration::from_secs(7));
    let mut world = world("early", Scripted { life, fixed: true, ..Scripted::default() });
    let long = tag(SessionId::fresh(), &CancellationToken::new());
    let short = LaunchTag { launch: LaunchId::fresh(), horizon: Duration::from_secs(9), ..long.clone() };
    let (one, other) = (grant(1), grant(1));
    let (one, other) = tokio::join!(world.leases.mint(&one, &long), world.leases.mint(&other, &short));
    let (one, other) = (one.unwrap()[0].lease, other.unwrap()[0].lease);
    let mut told = Vec::new();
    while told.len() < 3 {
        told.push(match world.loses().await.unwrap() {
            Lost::Ending(launch, lease, _) => ("early", launch, lease),
            Lost::Credential(launch, lease) => ("now", launch, lease),
            _ => panic!("the parent is well, and nothing can be renewed"),
        });
    }
    assert_eq!(told[0], ("early", long.launch, one));
    told[1..].sort_by_key(|(_, launch, _)| *launch != long.launch);
    assert_eq!(told[1..], [("now", long.launch, one), ("now", short.launch, other)]);
}

/// A credential whose revocation has failed once and is to be tried again much later.
async fn pending(truth: Scripted, name: &str) -> (World, mcp_broker_proto::names::LeaseId) {
    let come_back = Some(Duration::from_secs(20));
    let world = world(name, Scripted { failing_revocations: 1.into(), come_back, ..truth });
    let minted = world.leases.mint(&grant(1), &tag(SessionId::fresh(), &CancellationToken::new())).await;
    let id = minted.unwrap()[0].lease;
    world.leases.end([id], EndReason::Locked);
    (world, id)
}

async fn until(holds: impl Fn() -> bool) {
    tokio::time::timeout(Duration::from_secs(10), async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pending_is_tried_at_once_after_a_sleep() {
    let (world, id) = pending(Scripted::default(), "woke").await;
    let leases = &world.leases;
    until(|| leases.infos().iter().any(|lease| lease.id == id && lease.trouble.is_some())).await;
    leases.woke();
    until(|| leases.infos().is_empty()).await;
}

/// The try that was in flight when the machine fell asleep does not count: it began before.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_minted_after_a_sleep_before_what_was_owed_is_tried() {
    let (world, id) =
        pending(Scripted { permits: Some(Semaphore::new(0)), ..Scripted::default() }, "owed").await;
    let session = SessionId::fresh();
    until(|| world.truth.asked.load(Ordering::Relaxed) == 1).await;
    world.leases.woke();
    let leases = Arc::clone(&world.leases);
    let mint = tokio::spawn(async move {
        leases.mint(&grant(1), &tag(session, &CancellationToken::new())).await.map(|minted| minted.len())
    });
    let permits = world.truth.permits.as_ref().unwrap();
    for _ in 0..2 {
        // Long enough for a mint that does not wait.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert!(!mint.is_finished(), "minted before the revocation was tried");
        permits.add_permits(1);
    }
    let minted = tokio::time::timeout(Duration::from_secs(10), mint).await;
    assert_eq!(minted.unwrap().unwrap().unwrap(), 1);
    assert!(world.leases.book.get(id).is_none(), "its end was proved first");
    assert_eq!(world.leases.left(session, None, id), 0);
}

/// A fence ends the wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_fence_falls_while_a_mint_waits_for_what_is_owed() {
    let held = Scripted { permits: Some(Semaphore::new(0)), ..Scripted::default() };
    let (world, _id) = pending(held, "fall").await;
    world.leases.woke();
    let (leases, fence) = (Arc::clone(&world.leases), CancellationToken::new());
    let tag = tag(SessionId::fresh(), &fence);
    let mint = tokio::spawn(async move { leases.mint(&grant(1), &tag).await.err().map(|p| p.code) });
    tokio::time::sleep(Duration::from_millis(100)).await;
    fence.cancel();
    let refused = tokio::time::timeout(Duration::from_secs(10), mint).await;
    assert_eq!(refused.unwrap().unwrap(), Some(ErrorCode::PeerGone));
}

/// Half a broker that hangs is a whole one: what it could not end is not kept alive.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_not_well_renews_no_parent() {
    let period = Some(Duration::from_secs(6));
    let mut world = world("heart", Scripted { period, ..Scripted::default() });
    world.leases.heart.stop();
    let tag = tag(SessionId::fresh(), &CancellationToken::new());
    world.leases.mint(&grant(1), &tag).await.unwrap();
    let lost = tokio::time::timeout(Duration::from_secs(10), world.loses()).await.unwrap();
    assert!(matches!(lost, Some(Lost::Parent(session, _)) if session == tag.session));
    assert_eq!(world.truth.parent_renewals.load(Ordering::Relaxed), 0);
}

/// A parent that gets no full period any more is near its longest life: its session is told before that is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_parent_at_its_longest_life_is_given_up_early() {
    let (period, last_period) = (Some(Duration::from_secs(6)), Some(Duration::from_secs(4)));
    let mut world = world("longest", Scripted { period, last_period, ..Scripted::default() });
    let tag = tag(SessionId::fresh(), &CancellationToken::new());
    let begun = SystemClock.boot();
    world.leases.mint(&grant(1), &tag).await.unwrap();
    let lost = tokio::time::timeout(Duration::from_secs(10), world.loses()).await.unwrap();
    assert!(matches!(lost, Some(Lost::Parent(session, _)) if session == tag.session));
    assert_eq!(world.truth.parent_renewals.load(Ordering::Relaxed), 1);
    let lived = SystemClock.boot().saturating_sub(begun);
    assert!(lived >= Duration::from_secs(3), "not at once: {lived:?}");
}

/// A credential that another one can follow below a running server.
fn refreshing() -> Grant {
    let file = Injection::File {
        name: "F".to_owned(),
        content: Content::Text("{c0.value}".parse().unwrap()),
        reread: true,
        signal: None,
    };
    grant_of(1, vec![file])
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_refresh_is_needed_is_said_until_it_is_done() {
    let life = Some(Duration::from_secs(12));
    let mut world = world("again", Scripted { life, fixed: true, ..Scripted::default() });
    let tag = tag(SessionId::fresh(), &CancellationToken::new());
    let begun = SystemClock.boot();
    let minted = world.leases.mint(&refreshing(), &tag).await.unwrap();
    let id = minted[0].lease;
    until(|| world.leases.infos()[0].renews_at.is_some()).await;
    let mut told = Vec::new();
    while told.len() < 2 {
        match world.loses().await.unwrap() {
            Lost::Ending(_, lease, within) if lease == id => told.push(within),
            _ => panic!("something else is lost"),
        }
    }
    let waited = SystemClock.boot().saturating_sub(begun);
    assert!(waited >= Duration::from_secs(8), "at two thirds: {waited:?}");
    assert!(told[0] > told[1], "{told:?}");
    world.leases.retire([id]);
    assert_eq!(world.leases.infos()[0].renews_at, None);
    // Ended at its own end, which comes before the grace is over, and without a further word.
    let mut outcomes = world.leases.outcomes();
    let ended = tokio::time::timeout(Duration::from_secs(60), outcomes.recv()).await;
    assert_eq!(ended.expect("it is ended").unwrap(), (id, super::Outcome::Verified));
    assert!(SystemClock.boot().saturating_sub(begun) >= Duration::from_secs(11));
    assert!(world.lost.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_out_is_ended_at_its_end() {
    let life = Some(Duration::from_secs(2));
    let world = world("runs-out", Scripted { life, fixed: true, ..Scripted::default() });
    let tag = tag(SessionId::fresh(), &CancellationToken::new());
    let begun = SystemClock.boot();
    let id = world.leases.mint(&refreshing(), &tag).await.unwrap()[0].lease;
    let mut outcomes = world.leases.outcomes();
    world.leases.run_out([id]);
    assert!(world.leases.left_of(id).is_some_and(|left| left > Duration::from_secs(1)));
    let ended = tokio::time::timeout(Duration::from_secs(60), outcomes.recv()).await;
    assert_eq!(ended.expect("it is ended").unwrap().0, id);
    assert!(SystemClock.boot().saturating_sub(begun) >= Duration::from_millis(1900));
    assert_eq!(world.leases.left_of(id), Some(Duration::ZERO));
}

/// What is good for its launch for a minute, and lives an hour: the end of the minute proves nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_lives_on_is_not_given_up_at_the_end_of_its_use() {
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    for (lives, outcome) in [(seconds(3600), super::Outcome::Verified), (None, super::Outcome::Expired)] {
        let failing =
            Scripted { failing_revocations: 2.into(), come_back: seconds(0), ..Scripted::default() };
        let world = world("lives-on", Scripted { life: seconds(60), lives, fixed: true, ..failing });
        let minted = world.leases.mint(&grant(1), &tag(SessionId::fresh(), &CancellationToken::new())).await;
        let id = minted.unwrap()[0].lease;
        world.truth.clock.1.store(300, Ordering::Relaxed);
        let mut outcomes = world.leases.outcomes();
        world.leases.end([id], EndReason::Revoked);
        assert_eq!(outcomes.recv().await.unwrap(), (id, outcome), "{lives:?}");
    }
}
