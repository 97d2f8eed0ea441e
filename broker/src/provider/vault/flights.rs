//! Which tokens have a request in flight, because a token must not be revoked under one: OpenBao 2.7.2 then
//! answers 200 all the same, and the database user outlives the token with no lease that names it. A read
//! goes on here even when whoever asked for it has gone, so that its lease is learned and can be revoked. A
//! token whose revocation has begun is closed: no request begins with it, or below it, any more.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::after;
use super::answer::Answer;
use super::engine::Place;
use super::engine::pki::{Certificate, certificate};
use super::fault::{Fault, is_from_between};
use super::terms::Fate;
use crate::clock::Clock;
use crate::provider::REST;

/// How long a token stays closed after its last revocation began. One that was not proved is tried again
/// sooner, which closes it anew; a mint that was under way has long given up.
const CLOSED_FOR: Duration = Duration::from_secs(3600);

/// The requests in flight at one server, by the accessor of the token that they depend on.
pub(super) struct Flights {
    clock: Arc<dyn Clock>,
    entries: Mutex<HashMap<String, Entry>>,
    changed: Notify,
}

#[derive(Default)]
struct Entry {
    up: usize,
    /// Boot time before which a request whose connection was lost may still be running in the server.
    rest_until: Option<Duration>,
    /// A lease that a request brought after nobody waited for it any more.
    lease: Option<Late>,
    /// Boot time until which no request may begin.
    closed_until: Option<Duration>,
}

/// A lease that its asker may never see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Late {
    /// Empty where there is only a certificate.
    pub(super) id: String,
    pub(super) fate: Fate,
    /// What is to be put on a revocation list.
    pub(super) certificate: Option<Certificate>,
}

impl Late {
    /// What an answer brings that is to be ended; `None` where there is nothing.
    pub(super) fn of(place: &Place, answer: &Answer, clock: &dyn Clock) -> Option<Self> {
        let (lease, certificate) = (answer.lease()?, certificate(place, answer));
        if lease.id.is_empty() {
            let end = place.engine.end(answer, clock.now());
            let certificate = Some(certificate?);
            return Some(Self { id: lease.id, fate: Fate::LivesUntil(end), certificate });
        }
        let fate = Fate::of(place.engine, &lease, after(clock, lease.life));
        Some(Self { id: lease.id, fate, certificate })
    }
}

/// A revocation of a token that the request would depend on has begun.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Closed;

/// One request in flight. Dropped without [`Flight::land`], its end is unknown, and the server gets [`REST`].
pub(super) struct Flight {
    flights: Arc<Flights>,
    accessors: Vec<String>,
    landed: bool,
}

impl Flights {
    /// None in flight.
    pub(super) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { clock, entries: Mutex::default(), changed: Notify::new() })
    }

    /// Notes that a request depends on the tokens with these accessors: a child's and its parent's.
    ///
    /// # Errors
    /// Where one of them is closed. Looked at under the same lock, so that whoever closes a token sees all
    /// that has begun with it.
    pub(super) fn begin(self: &Arc<Self>, accessors: Vec<String>) -> Result<Flight, Closed> {
        let mut entries = self.swept();
        if accessors.iter().any(|accessor| entries.get(accessor).is_some_and(|e| e.closed_until.is_some())) {
            return Err(Closed);
        }
        for accessor in &accessors {
            entries.entry(accessor.clone()).or_default().up += 1;
        }
        drop(entries);
        Ok(Flight { flights: Arc::clone(self), accessors, landed: false })
    }

    /// Lets no request begin with that token any more. Comes before [`Flights::settle`] in a revocation.
    pub(super) fn close(&self, accessor: &str) {
        let until = self.clock.boot() + CLOSED_FOR;
        self.swept().entry(accessor.to_owned()).or_default().closed_until = Some(until);
    }

    /// Waits, at most `limit`, until nothing is in flight with that token. False: something still is.
    pub(super) async fn settle(&self, accessor: &str, limit: Duration) -> bool {
        let settled = async {
            loop {
                let changed = self.changed.notified();
                match self.state(accessor) {
                    State::Quiet => break,
                    State::Resting(rest) => tokio::time::sleep(rest).await,
                    State::Up => changed.await,
                }
            }
        };
        tokio::time::timeout(limit, settled).await.is_ok()
    }

    /// Keeps a lease that its asker may never see, for the revocation.
    pub(super) fn remember(&self, accessor: &str, lease: Late) {
        self.entries().entry(accessor.to_owned()).or_default().lease = Some(lease);
    }

    /// The lease that was remembered for the token.
    pub(super) fn remembered(&self, accessor: &str) -> Option<Late> {
        self.entries().get(accessor).and_then(|entry| entry.lease.clone())
    }

    /// Forgets that lease, because it is in the handle now.
    pub(super) fn forget(&self, accessor: &str) {
        if let Some(entry) = self.entries().get_mut(accessor) {
            entry.lease = None;
        }
    }

    /// Forgets all of a token that was proved to be gone: the server refuses it by itself now.
    pub(super) fn bury(&self, accessor: &str) {
        self.entries().remove(accessor);
    }

    fn state(&self, accessor: &str) -> State {
        let now = self.clock.boot();
        match self.entries().get(accessor) {
            Some(entry) if entry.up > 0 => State::Up,
            Some(Entry { rest_until: Some(until), .. }) if *until > now => {
                State::Resting(until.saturating_sub(now))
            }
            _ => State::Quiet,
        }
    }

    fn end(&self, accessors: &[String], landed: bool) {
        let rest = self.clock.boot() + REST;
        let mut entries = self.entries();
        for accessor in accessors {
            if let Some(entry) = entries.get_mut(accessor) {
                entry.up = entry.up.saturating_sub(1);
                if !landed {
                    entry.rest_until = Some(rest);
                }
            }
        }
        drop(entries);
        self.changed.notify_waiters();
    }

    /// The entries, those left out that say nothing any more.
    fn swept(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        let now = self.clock.boot();
        let mut entries = self.entries();
        entries.retain(|_, entry| {
            entry.closed_until = entry.closed_until.filter(|until| *until > now);
            entry.rest_until = entry.rest_until.filter(|until| *until > now);
            entry.up > 0
                || entry.lease.is_some()
                || entry.rest_until.is_some()
                || entry.closed_until.is_some()
        });
        entries
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum State {
    Up,
    Resting(Duration),
    Quiet,
}

impl Flight {
    /// The server answered, or never got the request: nothing of it can be running.
    pub(super) fn land(mut self) {
        self.landed = true;
    }

    /// Lands, unless by what came of it the server may be working on the request still.
    pub(super) fn end_with(self, answer: &Result<Answer, Fault>) {
        let runs_on = match answer {
            Ok(answer) => is_from_between(answer.status),
            Err(fault) => fault.leaves_it_running(),
        };
        if !runs_on {
            self.land();
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.flights.end(&self.accessors, self.landed);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    use std::sync::atomic::{AtomicU64, Ordering};

    /// Goes on only when told to.
    struct Hand(AtomicU64);

    impl Clock for Hand {
        fn now(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        fn boot(&self) -> Duration {
            Duration::from_millis(self.0.load(Ordering::SeqCst))
        }
        fn monotonic(&self) -> Duration {
            self.boot()
        }
    }

    #[tokio::test]
    async fn a_token_is_quiet_only_when_its_requests_have_come_to_rest() {
        let hand = Arc::new(Hand(AtomicU64::new(1)));
        let flights = Flights::new(Arc::clone(&hand) as Arc<dyn Clock>);
        let short = Duration::from_millis(10);
        assert!(flights.settle("child", short).await, "never seen");

        let flight = flights.begin(vec!["child".into(), "parent".into()]).unwrap();
        assert!(!flights.settle("child", short).await && !flights.settle("parent", short).await);
        assert!(flights.settle("other", short).await);
        flight.land();
        assert!(flights.settle("child", short).await && flights.settle("parent", short).await);

        drop(flights.begin(vec!["child".into()]).unwrap());
        assert!(!flights.settle("child", short).await, "lost: the server may still be at it");
        hand.0.fetch_add(2_000, Ordering::SeqCst);
        assert!(flights.settle("child", short).await);
    }

    #[tokio::test]
    async fn a_late_lease_is_kept_until_it_is_forgotten() {
        let flights = Flights::new(Arc::new(crate::clock::SystemClock));
        let late = Late { id: "database/creds/x/1".into(), fate: Fate::Ends, certificate: None };
        flights.remember("child", late.clone());
        flights.begin(vec!["other".into()]).unwrap().land();
        assert_eq!(flights.remembered("child"), Some(late));
        flights.forget("child");
        assert_eq!(flights.remembered("child"), None);
    }

    #[test]
    fn nothing_begins_with_a_token_whose_revocation_has_begun() {
        let hand = Arc::new(Hand(AtomicU64::new(1)));
        let flights = Flights::new(Arc::clone(&hand) as Arc<dyn Clock>);
        let begin = |accessors: &[&str]| {
            flights.begin(accessors.iter().map(|text| (*text).to_owned()).collect()).map(Flight::land)
        };
        flights.close("child");
        assert_eq!(begin(&["child", "parent"]), Err(Closed));
        assert_eq!(begin(&["sister", "parent"]), Ok(()), "its parent goes on");
        flights.close("parent");
        assert_eq!(begin(&["parent"]), Err(Closed), "no new child");
        assert_eq!(begin(&["sister", "parent"]), Err(Closed), "no read below it");
        assert_eq!(begin(&["other"]), Ok(()));

        flights.bury("parent");
        assert!(!flights.entries().contains_key("parent"), "proved gone: nothing is kept");
        hand.0.fetch_add(3_600_000, Ordering::SeqCst);
        flights.close("another");
        assert_eq!(flights.entries().keys().collect::<Vec<_>>(), ["another"], "the rest goes by time");
    }

    #[tokio::test]
    async fn an_answer_from_in_between_is_none() {
        let answer =
            |status: u16| Ok(Answer::new(http::Response::builder().status(status).body(Vec::new()).unwrap()));
        let table = [
            (answer(200), true),
            (answer(403), true),
            (answer(500), true),
            (answer(503), true),
            (answer(502), false),
            (answer(504), false),
            (Err(Fault::Connect), true),
            (Err(Fault::Lost), false),
        ];
        for (answer, is_quiet) in table {
            let flights = Flights::new(Arc::new(Hand(AtomicU64::new(1))));
            flights.begin(vec!["child".into()]).unwrap().end_with(&answer);
            let settled = flights.settle("child", Duration::from_millis(10)).await;
            assert_eq!(settled, is_quiet, "{:?}", answer.map(|answer| answer.status));
        }
    }
}
