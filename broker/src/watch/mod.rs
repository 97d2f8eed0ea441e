//! What can lock or end a session from outside: one file a source, each alone sufficient, and a table with one
//! line for each. A source sees and tells; what follows is the [`Watcher`]'s. Nothing here unlocks anything.
//!
//! The subscription to logind is in place before anything is read from it ([`crate::logind::Logind`] answers
//! over no other), and `feed` hands what is heard to every source in the order in which it was said. Where
//! there is no logind, only those sources run that need none.

use std::pin::Pin;
use std::sync::Arc;

use mcp_broker_proto::session::LockCause;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::{Clock, Slept};
use crate::logind::Logind;
use crate::session::login::{Login, Sighting};
use feed::{Feed, News};
use notes::Notes;
pub use register::Register;

mod bus;
mod feed;
mod jump;
mod leader;
#[cfg(test)]
mod live_sleep;
#[cfg(test)]
mod live_tests;
#[cfg(test)]
mod live_world;
mod notes;
mod register;
mod signals;
mod sleep;
mod state;

/// A future that can be kept and handed on.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Who acts on what is seen. No call may block. Where one answers with a future, the fence has fallen when the
/// call returns, and the work goes on also when the future is dropped.
pub trait Watcher: Send + Sync + 'static {
    /// Something happened to one login session, by its object's path; told in the order in which it happened.
    /// Most of them nobody is bound to.
    fn sighted(&self, login_path: &str, sighting: Sighting);

    /// Every login session of the account is over.
    fn user_removed(&self, uid: u32);

    /// Locks every session, whatever it is bound to; ready when they are wound up.
    fn lock_all(&self, cause: LockCause) -> BoxFuture<'static, ()>;

    /// Locks the sessions that are bound to a login session; ready when they are wound up. While the cause
    /// lasts, it is called again and again.
    fn lock_bound(&self, cause: LockCause) -> BoxFuture<'static, ()>;

    /// Ends everything; ready when it is wound up.
    fn shut_down(&self) -> BoxFuture<'static, ()>;

    /// The shutdown that was announced does not come.
    fn shutdown_called_off(&self);

    /// The machine is awake again: what is pending is tried again now.
    fn woke(&self);

    /// Reads every bound login session again ([`crate::session::login::Logins::look`]). Two may run at a time.
    fn look_again(&self) -> BoxFuture<'static, ()>;

    /// Each login session that a session is bound to, once. Asked for once.
    fn newborn(&self) -> mpsc::UnboundedReceiver<Arc<Login>>;
}

/// What the sources need.
pub struct Watched {
    /// Who acts.
    pub sessions: Arc<dyn Watcher>,
    /// Who knows login sessions; `None`, or one that is not present, on a machine without.
    pub logind: Option<Arc<Logind>>,
    /// The time, for people.
    pub clock: Arc<dyn Clock>,
    /// Sleeps that nobody acted on. The one that is asked before anything is admitted.
    pub slept: Arc<Slept>,
}

/// What a source is given. Its news end only with the broker; one that does not read them has to drop them, as
/// they would pile up.
struct Source {
    watched: Arc<Watched>,
    logind: Option<Arc<Logind>>,
    notes: Arc<Notes>,
    news: mpsc::UnboundedReceiver<News>,
}

/// A kind of source.
struct Kind {
    name: &'static str,
    /// Whether it has anything to see where there is no logind.
    needs_logind: bool,
    /// Runs it for good.
    run: fn(Source) -> BoxFuture<'static, ()>,
}

/// Every source.
const KINDS: &[Kind] = &[signals::KIND, sleep::KIND, leader::KIND, state::KIND, bus::KIND, jump::KIND];

/// The running sources; they end with it.
pub struct Watch {
    notes: Arc<Notes>,
    _tasks: JoinSet<()>,
}

impl Watch {
    /// What of all this cannot be seen now, for people; empty when all is well.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.notes.all()
    }
}

impl Watched {
    /// Starts every source.
    #[must_use]
    pub fn start(self) -> Watch {
        let logind = self.logind.clone().filter(|logind| logind.present());
        let (watched, notes) = (Arc::new(self), Arc::new(Notes::default()));
        if logind.is_none() {
            notes.say("logind", "this machine has no logind: locking the screen and logging out are not seen, and sleep is seen afterwards only; use `mcp-run lock` and `mcp-run logout`");
        }
        let mut feed = Feed::default();
        let mut tasks = JoinSet::new();
        for kind in KINDS.iter().filter(|kind| logind.is_some() || !kind.needs_logind) {
            let source = Source {
                watched: Arc::clone(&watched),
                logind: logind.clone(),
                notes: Arc::clone(&notes),
                news: feed.receiver(),
            };
            tasks.spawn(guarded(kind, Arc::clone(&watched), Arc::clone(&notes), (kind.run)(source)));
        }
        if let Some(logind) = logind {
            tasks.spawn(feed.run(logind));
        }
        Watch { notes, _tasks: tasks }
    }
}

/// A source never ends. Should one do so by a defect, nothing is taken for safe that it would have seen.
async fn guarded(kind: &Kind, watched: Arc<Watched>, notes: Arc<Notes>, source: BoxFuture<'static, ()>) {
    // A set of one, so that it ends with this.
    let mut task = JoinSet::new();
    task.spawn(source);
    task.join_next().await;
    tracing::error!(source = kind.name, "a watch ended by a defect; every session is locked");
    notes.say(kind.name, format!("the watch `{}` ended by a defect: restart the broker", kind.name));
    loop {
        drop(watched.sessions.lock_all(LockCause::BusLost));
        tokio::time::sleep(bus::PATIENCE).await;
    }
}
