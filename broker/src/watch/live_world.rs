//! What the tests of the sources stand on: a real bus, a double of logind, a broker that only writes down what
//! it was told, and clocks that go as they are told.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, and starts the real parts")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::session::LockCause;
use tokio::sync::{mpsc, watch};

use super::{BoxFuture, Watch, Watched, Watcher};
use crate::clock::{Clock, Slept, SystemClock};
use crate::logind::Logind;
use crate::logind::double::{Bus, Double, Fake, eventually};
use crate::session::login::{Login, Sighting};

/// What a source told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Told {
    Sighted(String, Sighting),
    UserRemoved(u32),
    LockAll(LockCause),
    LockBound(LockCause),
    ShutDown,
    CalledOff,
    Woke,
    LookAgain,
}

/// Writes it down.
pub(super) struct Book {
    told: Mutex<Vec<Told>>,
    /// Nothing is wound up while this is false.
    pub(super) wound_up: watch::Sender<bool>,
    pub(super) births: mpsc::UnboundedSender<Arc<Login>>,
    newborn: Mutex<Option<mpsc::UnboundedReceiver<Arc<Login>>>>,
}

impl Book {
    pub(super) fn new() -> Arc<Self> {
        let (births, newborn) = mpsc::unbounded_channel();
        let (told, newborn) = (Mutex::default(), Mutex::new(Some(newborn)));
        Arc::new(Self { told, wound_up: watch::Sender::new(true), births, newborn })
    }

    fn note(&self, told: Told) {
        self.told.lock().unwrap().push(told);
    }

    fn winding(&self, told: Told) -> BoxFuture<'static, ()> {
        self.note(told);
        let mut wound_up = self.wound_up.subscribe();
        Box::pin(async move {
            wound_up.wait_for(|done| *done).await.ok();
        })
    }

    /// Everything apart from the looks, which are taken at any time.
    pub(super) fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().iter().filter(|told| **told != Told::LookAgain).cloned().collect()
    }

    pub(super) fn count(&self, wanted: &Told) -> usize {
        self.told.lock().unwrap().iter().filter(|told| *told == wanted).count()
    }

    pub(super) async fn hears(&self, wanted: Told) {
        eventually(&format!("{wanted:?}"), || self.count(&wanted) > 0).await;
    }

    pub(super) fn forget(&self) {
        self.told.lock().unwrap().clear();
    }
}

impl Watcher for Book {
    fn sighted(&self, login_path: &str, sighting: Sighting) {
        self.note(Told::Sighted(login_path.to_owned(), sighting));
    }

    fn user_removed(&self, uid: u32) {
        self.note(Told::UserRemoved(uid));
    }

    fn lock_all(&self, cause: LockCause) -> BoxFuture<'static, ()> {
        self.winding(Told::LockAll(cause))
    }

    fn lock_bound(&self, cause: LockCause) -> BoxFuture<'static, ()> {
        self.winding(Told::LockBound(cause))
    }

    fn shut_down(&self) -> BoxFuture<'static, ()> {
        self.winding(Told::ShutDown)
    }

    fn shutdown_called_off(&self) {
        self.note(Told::CalledOff);
    }

    fn woke(&self) {
        self.note(Told::Woke);
    }

    fn look_again(&self) -> BoxFuture<'static, ()> {
        self.winding(Told::LookAgain)
    }

    fn newborn(&self) -> mpsc::UnboundedReceiver<Arc<Login>> {
        self.newborn.lock().unwrap().take().unwrap()
    }
}

/// Sleeps when told to.
#[derive(Default)]
pub(super) struct Hand(Mutex<Duration>);

impl Hand {
    pub(super) fn sleep(&self, length: Duration) {
        *self.0.lock().unwrap() += length;
    }
}

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        SystemClock.now()
    }

    fn boot(&self) -> Duration {
        SystemClock.monotonic() + *self.0.lock().unwrap()
    }

    fn monotonic(&self) -> Duration {
        SystemClock.monotonic()
    }
}

pub(super) struct World {
    pub(super) bus: Bus,
    pub(super) double: Option<Double>,
    pub(super) logind: Arc<Logind>,
    pub(super) book: Arc<Book>,
    pub(super) hand: Arc<Hand>,
    pub(super) slept: Arc<Slept>,
    pub(super) watch: Watch,
    /// A session that the double has.
    pub(super) path: String,
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    /// With a logind that is prepared, up to the first inhibitor or its refusal.
    pub(super) async fn with(prepare: impl FnOnce(&Double)) -> Self {
        let bus = Bus::start().await;
        let double = Double::start(&bus).await;
        let session = Fake::new("4", 1000, std::process::id());
        let path = session.path();
        double.state().sessions.push(session);
        prepare(&double);
        let logind = Logind::connect_to(Some(bus.address()), "/proc".into(), true).await;
        let (book, hand) = (Book::new(), Arc::new(Hand::default()));
        let slept = Arc::new(Slept::new(Arc::clone(&hand) as Arc<dyn Clock>));
        let watched = Watched {
            sessions: Arc::clone(&book) as Arc<dyn Watcher>,
            logind: Some(Arc::clone(&logind)),
            clock: Arc::clone(&hand) as Arc<dyn Clock>,
            slept: Arc::clone(&slept),
        };
        let watch = watched.start();
        let world = Self { bus, double: Some(double), logind, book, hand, slept, watch, path };
        // One look of `state` and one of `bus`.
        eventually("the first looks", || world.book.count(&Told::LookAgain) == 2).await;
        eventually("an inhibitor", || {
            world.double().inhibitors().0 == 1 || !world.watch.warnings().is_empty()
        })
        .await;
        world
    }

    pub(super) fn double(&self) -> &Double {
        self.double.as_ref().unwrap()
    }

    /// Until everything that was said so far was passed on by `signals`.
    pub(super) async fn heard(&self) {
        let object = zbus::ObjectPath::try_from("/x").unwrap();
        self.double().manager("UserRemoved", &(99u32, object)).await;
        self.book.hears(Told::UserRemoved(99)).await;
    }
}
