//! Keeps a credential alive at two thirds of its true remaining life, and says in time when that is no
//! longer possible, so that another one takes its place, or its launch ends before the credential does.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::names::LeaseId;
use tokio::time::timeout;

use super::record::Record;
use super::state::{Alive, State};
use super::wake::Roused;
use super::{Leases, Lost};
use crate::audit::Event;
use crate::clock::shown;
use crate::provider::{Blame, Handle, Issued, MintRequest, Provider, ProviderError, Renewed};

/// One renewal must be done in this time.
const RENEW_LIMIT: Duration = Duration::from_secs(5);

/// The launch is told so long before a credential ends for good.
pub(super) const NOTICE: Duration = Duration::from_secs(2);

/// Before that, it is told in time for another instance to come up: a third of what is left of the life of a
/// credential that is not renewed any more, and not more than this.
const EARLIEST_NOTICE: Duration = Duration::from_secs(30);

/// The same for one that another one follows below a running server. That costs little, and a provider that is down
/// just then has the more time to come back.
const EARLIEST_REFRESH: Duration = Duration::from_secs(300);

/// That another one is needed is said again after this pause, which doubles up to `LONGEST_PAUSE`: what was minted
/// may not have been delivered yet when it was said first.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two such words.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A server takes some seconds to come up: where there is so much time, it is given, or three quarters of what is
/// left.
const LATEST_NOTICE: Duration = Duration::from_secs(10);

/// Backends say ends in whole seconds: less than this is no gain.
const ROUNDING: Duration = Duration::from_secs(1);

/// A credential that ends so shortly before its session ends with it: another one would not live longer.
const WITH_SESSION: Duration = Duration::from_secs(5);

/// The ends of a new credential.
pub(super) struct Ends {
    /// Its own.
    pub(super) expires_at: Timestamp,
    /// Its session's, on the boot clock.
    pub(super) session_ends: Duration,
}

impl Leases {
    pub(super) fn keep_alive(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        issued: &Issued,
        ends: Ends,
    ) {
        let Ends { expires_at, session_ends } = ends;
        let ends = self.note_end(request.lease, expires_at);
        issued.valid_until.inspect(|until| self.note_life(request.lease, *until));
        let (outlook, refreshes, pause) = (Outlook::Renewable, request.refreshes, FIRST_PAUSE);
        let given = ends.saturating_sub(self.clock.boot());
        let mut life = Life { expires_at, ends, given, session_ends, outlook, refreshes, pause };
        if !issued.renewable {
            life.is_the_last(self.clock.boot());
        }
        let (leases, provider, request) = (Arc::clone(self), Arc::clone(provider), request.clone());
        tokio::spawn(async move {
            if leases.renew_until_the_end(&provider, &request, life).await {
                leases.tell(Lost::Credential(request.launch, request.lease));
            }
        });
    }

    /// `true` when the credential is about to end; `false` when it was ended by somebody.
    async fn renew_until_the_end(
        &self,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        mut life: Life,
    ) -> bool {
        let mut sleeper = self.wake.sleeper();
        loop {
            sleeper.awakening();
            let wait = life.wait(self.clock.boot());
            self.note_next(request.lease, life.is_next().then_some(wait));
            if sleeper.sleep(wait).await == Roused::ByWake {
                continue;
            }
            let Some(handle) = self.live_handle(request.lease) else { return false };
            if self.backings.is_retired(request.lease) {
                return false;
            }
            match life.outlook {
                Outlook::Renewable => {
                    if !self.renew_once(provider, request, handle, &mut life).await {
                        return self.live_handle(request.lease).is_some();
                    }
                }
                Outlook::Ending(Some(_)) => {
                    let now = self.clock.boot();
                    life.was_announced(now);
                    let within = life.ends.saturating_sub(now).saturating_sub(NOTICE);
                    self.tell(Lost::Ending(request.launch, request.lease, within));
                }
                Outlook::Ending(None) => return true,
            }
        }
    }

    /// `false` when there is nothing to renew any more.
    async fn renew_once(
        &self,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        handle: Handle,
        life: &mut Life,
    ) -> bool {
        match renew(provider, &handle, request).await {
            Ok(renewed) => {
                let ends = self.note_end(request.lease, renewed.expires_at);
                life.was_renewed(self.clock.boot(), renewed, ends);
                self.renewed(request, handle, life);
            }
            Err(error) if error.blame == Blame::Refused => {
                tracing::warn!(lease = %request.lease, %error, "a credential is gone");
                return false;
            }
            Err(error) => {
                tracing::warn!(lease = %request.lease, %error, "a renewal failed");
                let left = life.ends.saturating_sub(self.clock.boot());
                if !error.is_passing() || left <= NOTICE + RENEW_LIMIT {
                    life.is_the_last(self.clock.boot());
                }
            }
        }
        true
    }

    fn live_handle(&self, id: LeaseId) -> Option<Handle> {
        match self.book.get(id)?.state {
            State::Live(alive) => Some(alive.handle),
            _ => None,
        }
    }

    fn renewed(&self, request: &MintRequest, handle: Handle, life: &Life) {
        let (id, provider) = (request.lease, request.spec.provider.clone());
        // Refused when it was ended meanwhile; then there is nothing to tell either.
        let Some(State::Live(known)) = self.book.get(id).map(|entry| entry.state) else { return };
        let alive = Alive { handle, expires_at: Some(life.expires_at), ..known };
        if self.book.step(Record::Live { id, provider, alive }).is_some() {
            self.audit.note(Event::CredentialRenewed { lease: id, expires_at: shown(life.expires_at) });
            self.tell(Lost::Postponed(request.launch, id, life.expires_at));
        }
    }
}

/// What is known of a credential's life.
struct Life {
    /// As the backend says it.
    expires_at: Timestamp,
    /// The same on the boot clock, which goes on in sleep and cannot be set.
    ends: Duration,
    /// How much of life the backend gave when it gave all that was asked for.
    given: Duration,
    /// Its session's end, on the boot clock.
    session_ends: Duration,
    outlook: Outlook,
    /// Another one can take its place below a running server.
    refreshes: bool,
    /// Until that is said again.
    pause: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outlook {
    /// It can be renewed.
    Renewable,
    /// It cannot; its launch is to be told at that time (on the boot clock) that another one is needed.
    Ending(Option<Duration>),
}

impl Life {
    /// The backend has renewed it until `ends` on the boot clock; the wall clock may have been set meanwhile. One that
    /// gives no more life would be asked again and again, and one that gives less than the last time comes to its
    /// limit: what is left now is all that there is.
    fn was_renewed(&mut self, now: Duration, renewed: Renewed, ends: Duration) {
        let gained = ends > self.ends + ROUNDING;
        let given = ends.saturating_sub(now);
        (self.expires_at, self.ends) = (renewed.expires_at, ends);
        if renewed.renewable && gained && given + ROUNDING >= self.given {
            self.given = given;
        } else {
            self.is_the_last(now);
        }
    }

    /// It is not renewed any more.
    fn is_the_last(&mut self, now: Duration) {
        let left = self.ends.saturating_sub(now);
        let (lead, time) = match self.refreshes {
            // A third of what it once had: of one that could not be renewed only that may be left.
            true => ((self.given / 3).min(EARLIEST_REFRESH), !left.is_zero()),
            false => {
                let lead = (left / 3).clamp(LATEST_NOTICE, EARLIEST_NOTICE).min(left * 3 / 4);
                (lead, lead > NOTICE + ROUNDING)
            }
        };
        let worth_it = time && self.ends + WITH_SESSION < self.session_ends;
        self.outlook = Outlook::Ending(worth_it.then(|| self.ends.saturating_sub(lead)));
    }

    /// It was said that another one is needed. That is said again only where nothing is killed by it.
    fn was_announced(&mut self, now: Duration) {
        let again = now + jittered(self.pause);
        let time = self.refreshes && again + NOTICE < self.ends;
        self.outlook = Outlook::Ending(time.then_some(again));
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    /// Whether what comes next is a renewal, or another one in its place.
    fn is_next(&self) -> bool {
        !matches!(self.outlook, Outlook::Ending(None))
    }

    /// How long there is nothing to do.
    fn wait(&self, now: Duration) -> Duration {
        let left = self.ends.saturating_sub(now);
        let last = left.saturating_sub(NOTICE);
        match self.outlook {
            Outlook::Renewable => jittered(left * 2 / 3).min(last),
            Outlook::Ending(Some(at)) => at.saturating_sub(now),
            Outlook::Ending(None) => last,
        }
    }
}

async fn renew(
    provider: &Arc<dyn Provider>,
    handle: &Handle,
    request: &MintRequest,
) -> Result<Renewed, ProviderError> {
    let late = |_elapsed| {
        let hint = "see whether the provider can be reached";
        ProviderError::new(Blame::Unreachable, "the renewal took too long", hint)
    };
    timeout(RENEW_LIMIT, provider.renew(handle, request.spec.ttl)).await.map_err(late)?
}

/// Between 80 and 100 % of `wait`, so that many sessions do not renew at once.
pub(crate) fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter; nothing else depends on it.
    let random = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK);
    let byte = if random.is_ok() { byte[0] } else { 255 };
    wait * (1020 + u32::from(byte)) / 1275
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When the launch of a credential with so many seconds of life, in a session of so many, is told.
    fn notice(life: u64, session: u64, refreshes: bool) -> Option<u64> {
        let mut life = Life {
            expires_at: Timestamp::UNIX_EPOCH,
            ends: Duration::from_secs(1000 + life),
            given: Duration::from_secs(life),
            session_ends: Duration::from_secs(1000 + session),
            outlook: Outlook::Renewable,
            refreshes,
            pause: FIRST_PAUSE,
        };
        life.is_the_last(Duration::from_secs(1000));
        let Outlook::Ending(at) = life.outlook else { return None };
        at.map(|at| (life.ends - at).as_secs())
    }

    #[test]
    fn a_launch_is_told_in_time_for_another_instance() {
        let table = [
            (900, 36_000, Some(30)),
            (90, 36_000, Some(30)),
            (60, 36_000, Some(20)),
            (20, 36_000, Some(10)),
            (8, 36_000, Some(6)),
            // No time for it.
            (2, 36_000, None),
            (0, 36_000, None),
            // It ends with its session.
            (900, 900, None),
            (900, 904, None),
            (900, 906, Some(30)),
        ];
        for (life, session, want) in table {
            assert_eq!(notice(life, session, false), want, "{life} s in a session of {session} s");
        }
    }

    #[test]
    fn a_refresh_is_asked_for_a_third_before_the_end() {
        let table = [
            (36_000, 99_000, Some(300)),
            (900, 36_000, Some(300)),
            (870, 36_000, Some(290)),
            (21, 36_000, Some(7)),
            (3, 36_000, Some(1)),
            (0, 36_000, None),
            // It ends with its session.
            (900, 904, None),
            (900, 906, Some(300)),
        ];
        for (life, session, want) in table {
            assert_eq!(notice(life, session, true), want, "{life} s in a session of {session} s");
        }
    }

    #[test]
    fn a_limit_is_seen_while_there_is_time() {
        let at = Duration::from_secs;
        // Asked at 40 s for another 60 s: what is left then, and whether that is the last.
        for (left, renewable, last) in [
            (60, true, false),
            (59, true, false),
            (58, true, true),
            (21, true, true),
            (20, true, true),
            (60, false, true),
            (90, true, false),
        ] {
            let mut life = Life {
                expires_at: Timestamp::UNIX_EPOCH,
                ends: at(1060),
                given: at(60),
                session_ends: at(9000),
                outlook: Outlook::Renewable,
                refreshes: true,
                pause: FIRST_PAUSE,
            };
            let renewed = Renewed { expires_at: Timestamp::UNIX_EPOCH, renewable };
            life.was_renewed(at(1040), renewed, at(1040 + left));
            assert_eq!(life.outlook != Outlook::Renewable, last, "{left} s");
            if let Outlook::Ending(said) = life.outlook {
                assert_eq!(said, Some(at(1040 + left - 20)), "{left} s");
            }
        }
    }

    #[test]
    fn that_it_ends_is_said_again_while_there_is_time() {
        let at = Duration::from_secs;
        for (refreshes, least) in [(false, 0), (true, 7)] {
            let mut life = Life {
                expires_at: Timestamp::UNIX_EPOCH,
                ends: at(1060),
                given: at(60),
                session_ends: at(9000),
                outlook: Outlook::Renewable,
                refreshes,
                pause: FIRST_PAUSE,
            };
            life.is_the_last(at(1000));
            let (mut now, mut again) = (at(1000) + life.wait(at(1000)), 0);
            loop {
                life.was_announced(now);
                let Outlook::Ending(Some(next)) = life.outlook else { break };
                assert!(next > now && next + NOTICE < life.ends, "{next:?}");
                (now, again) = (next, again + 1);
            }
            // 20 s are left: after 1, 2, 4 and 8 s at most, each a fifth less at the least.
            assert!(if refreshes { (4..=least).contains(&again) } else { again == 0 }, "{again}");
            assert_eq!(life.wait(now), life.ends - NOTICE - now);
        }
    }

    #[test]
    fn jitter_stays_in_its_bounds() {
        for _ in 0..1000 {
            let wait = jittered(Duration::from_secs(100));
            assert!((Duration::from_secs(80)..=Duration::from_secs(100)).contains(&wait), "{wait:?}");
        }
    }
}
