//! After the machine was away: what waits is tried at once, and nothing is minted before each revocation that
//! was owed then has been tried again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_broker_proto::names::LeaseId;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};

use super::Leases;
use super::revoke::TRY_LIMIT;
use super::state::State;

/// Which awakening it is, and what is owed since.
pub(super) struct Wake {
    /// Counts the awakenings.
    count: watch::Sender<u64>,
    owed: watch::Sender<HashSet<LeaseId>>,
    /// Mints wait no longer than until then.
    until: Mutex<Option<Instant>>,
}

/// One that waits, and can be woken.
pub(super) struct Sleeper(watch::Receiver<u64>);

/// Why a wait is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Roused {
    ByTime,
    ByWake,
}

impl Default for Wake {
    fn default() -> Self {
        Self { count: watch::Sender::new(0), owed: watch::Sender::default(), until: Mutex::default() }
    }
}

impl Wake {
    /// Who sleeps from now on.
    pub(super) fn sleeper(&self) -> Sleeper {
        Sleeper(self.count.subscribe())
    }

    /// An entry was tried; `began` is the awakening after which that try began.
    pub(super) fn tried(&self, id: LeaseId, began: u64) {
        if *self.count.borrow() == began {
            self.settled(id);
        }
    }

    /// An entry is settled.
    pub(super) fn settled(&self, id: LeaseId) {
        self.owed.send_if_modified(|owed| owed.remove(&id));
    }

    /// Waits until everything that was owed at the last awakening has been tried since, or has had its time.
    pub(super) async fn barrier(&self) {
        let Some(until) = *self.until() else { return };
        let mut owed = self.owed.subscribe();
        // The sender lives in `self`, so that the only other answer is that the time is over.
        drop(timeout_at(until, owed.wait_for(HashSet::is_empty)).await);
    }

    fn begin(&self, owed: HashSet<LeaseId>) {
        *self.until() = Some(Instant::now() + TRY_LIMIT);
        self.owed.send_replace(owed);
        self.count.send_modify(|count| *count += 1);
    }

    fn until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sleeper {
    /// The awakening that it has seen. Asked before what must not miss the next one.
    pub(super) fn awakening(&mut self) -> u64 {
        *self.0.borrow_and_update()
    }

    /// Waits for `time`, or for the first awakening since [`Self::awakening`] was asked.
    pub(super) async fn sleep(&mut self, time: Duration) -> Roused {
        tokio::select! {
            () = sleep(time) => Roused::ByTime,
            Ok(()) = self.0.changed() => Roused::ByWake,
        }
    }
}

impl Leases {
    /// The machine was away, or the network: everything that is pending is tried at once, parents are renewed,
    /// and what is minted from now on waits until each revocation that is owed has been tried once more, though
    /// not longer than one try may take (15 s).
    pub fn woke(&self) {
        let entries = self.book.entries().into_iter();
        let owed = entries.filter(|(_, entry)| matches!(entry.state, State::Ending(_)));
        self.wake.begin(owed.map(|(id, _)| id).collect());
    }
}
