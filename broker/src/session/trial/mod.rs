//! A trial: the credentials of one scope for an admin who is about to approve its server. It is a launch of its own
//! under a session of its own that nobody is signed in to, and it holds what a launch holds: nothing is minted or
//! delivered after its fence, and all of it ends with its connection. Who may ask for one, the admin socket decides.

mod admit;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::{End, EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::launch::LaunchTicket;
use mcp_broker_proto::names::{Label, LaunchId, SessionId};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::LaunchState;
use mcp_broker_proto::{BEAT_SECS, SILENCE_SECS};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::channel::{Reader, Writer, split};
use super::end::fenced;
use super::launch::PeerWatch;
use super::registry::Sessions;
use super::seat::{Order, Pass, Seat};
use super::sign_in::Person;
use super::supply::Supply;
use super::winding::Of;
use super::words;
use crate::audit::Event;
use crate::fault;
use crate::lease::LaunchTag;
use crate::policy::Grant;

pub use admit::AdmittedTrial;
pub(super) use admit::end_trials;

/// A trial is over after this time, whatever it does.
const LONGEST: Duration = Duration::from_secs(600);

/// Whoever runs one answers beats; without a word for so long it is over.
const SILENCE: Duration = Duration::from_secs(SILENCE_SECS);

/// Whoever runs one has so long to say that nothing of it is alive; then it is killed.
const DEATH_LIMIT: Duration = Duration::from_millis(500);

/// Everything that can wake a trial.
enum Wake {
    Told(Order),
    Minted(Result<Supply, Problem>),
    Heard(ToBroker),
    Gone,
    Beat,
    /// Nothing was heard for too long: whoever runs it is there, and may be stopped for ever.
    Silent,
}

struct Trial<S> {
    sessions: Arc<Sessions>,
    seat: Seat,
    scope: Label,
    pass: Pass,
    peer: Arc<dyn PeerWatch>,
    reader: Reader<S>,
    writer: Writer<S>,
    /// While it runs. A task of its own: it is finished, and what it minted is known, whatever happens here.
    mint: Option<JoinHandle<Result<Supply, Problem>>>,
    /// On the boot clock.
    until: Duration,
}

/// Runs a trial over its stream until its end.
pub async fn run_trial<S: AsyncRead + AsyncWrite + Send + 'static>(
    sessions: Arc<Sessions>,
    admitted: AdmittedTrial,
    peer: Arc<dyn PeerWatch>,
    stream: S,
) {
    let AdmittedTrial { seat, grant, person } = admitted;
    let (launch, session) = (seat.launch, seat.session);
    let (reader, mut writer) = split(stream);
    let scope = grant.scope().name.clone();
    let pass = match seat.trial_pass(LONGEST) {
        Ok(pass) => pass,
        Err(problem) => {
            drop(writer.send(&ToLauncher::Refused { scope, problem }).await);
            sessions.audit.note(Event::TrialEnded { launch, reason: EndReason::BrokerStopping });
            return;
        }
    };
    let mint =
        Some(tokio::spawn(mint(Arc::clone(&sessions), (launch, session), grant, person, pass.clone())));
    let until = sessions.clock.boot() + LONGEST;
    let mut trial =
        Trial { sessions: Arc::clone(&sessions), seat, scope, pass, peer, reader, writer, mint, until };
    let life = tokio::spawn(async move {
        let reason = trial.live().await;
        trial.finish(reason).await;
    });
    if life.await.is_err() {
        tracing::error!(%launch, "a trial panicked; what it had is ended");
        sessions.leases.end_launch(launch, EndReason::LauncherGone);
        wind_up(&sessions, session, EndReason::LauncherGone).await;
    }
}

async fn mint(
    sessions: Arc<Sessions>,
    (launch, session): (LaunchId, SessionId),
    grant: Grant,
    person: Person,
    pass: Pass,
) -> Result<Supply, Problem> {
    let user = person.user.clone();
    let tag = LaunchTag { launch, session, user, horizon: pass.horizon, fence: pass.fence.clone() };
    let minted = sessions.leases.mint(&grant, &tag).await?;
    Ok(Supply { grant, person, pass, minted })
}

/// The leases of a trial are ended and then what they hang under, verified as far as that can be had in time.
async fn wind_up(sessions: &Arc<Sessions>, session: SessionId, reason: EndReason) {
    let parents = sessions.leases.take_parents(session);
    let fenced = fenced(HashMap::new(), Of::Session(session), parents, reason);
    sessions.wind_up(fenced, None, None).await;
}

impl<S: AsyncRead + AsyncWrite + Send> Trial<S> {
    async fn live(&mut self) -> EndReason {
        let mut beat = interval(Duration::from_secs(BEAT_SECS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut silent_at = Instant::now() + SILENCE;
        loop {
            let wake = tokio::select! {
                biased;
                order = self.seat.orders.recv() => {
                    Wake::Told(order.unwrap_or(Order::End(EndReason::BrokerStopping)))
                }
                minted = minted(&mut self.mint) => Wake::Minted(minted),
                frame = self.reader.next() => frame.ok().flatten().map_or(Wake::Gone, Wake::Heard),
                () = self.peer.exited() => Wake::Gone,
                _ = beat.tick() => Wake::Beat,
                () = sleep_until(silent_at) => Wake::Silent,
            };
            let next = match wake {
                Wake::Told(order) => obey(&order),
                Wake::Minted(Ok(supply)) => self.deliver(supply).await,
                Wake::Minted(Err(problem)) => self.refuse(problem).await,
                Wake::Heard(ToBroker::Dead) | Wake::Gone => Err(EndReason::TrialOver),
                Wake::Heard(_) => {
                    silent_at = Instant::now() + SILENCE;
                    Ok(())
                }
                Wake::Silent => Err(EndReason::LauncherSilent),
                Wake::Beat if self.sessions.clock.boot() >= self.until => Err(EndReason::MaxAge),
                Wake::Beat => self.send(&ToLauncher::Beat).await,
            };
            if let Err(reason) = next {
                return reason;
            }
        }
    }

    /// Hands the credentials over, unless the fence fell or there is nobody to take them.
    async fn deliver(&mut self, supply: Supply) -> Result<(), EndReason> {
        self.mint = None;
        let leases: Vec<_> = supply.minted.iter().map(|one| one.lease).collect();
        let launch = self.seat.launch;
        let delivered = self.peer.alive()
            && self.seat.delivers(&supply.pass, |audit| {
                leases
                    .iter()
                    .for_each(|lease| audit.note(Event::CredentialDelivered { lease: *lease, launch }));
            });
        if !delivered {
            // Where the fence fell, the order that came with it is waiting, and says the rest.
            self.sessions.leases.end(leases, EndReason::MintFailed);
            return if self.peer.alive() { Ok(()) } else { Err(EndReason::LauncherGone) };
        }
        self.seat.show(|info| info.state = LaunchState::Running);
        let ticket = supply.ticket(launch, 0, LONGEST);
        fault::passing("launch.ticket-sending").await;
        self.send(&ToLauncher::Ticket(Box::new(LaunchTicket::Secrets(ticket)))).await?;
        fault::passing("launch.ticket-sent").await;
        Ok(())
    }

    /// Says why there are no credentials; the admin closes the connection.
    async fn refuse(&mut self, problem: Problem) -> Result<(), EndReason> {
        self.mint = None;
        let scope = self.scope.clone();
        self.send(&ToLauncher::Refused { scope, problem }).await?;
        Err(EndReason::MintFailed)
    }

    async fn send(&mut self, frame: &ToLauncher) -> Result<(), EndReason> {
        self.writer.send(frame).await.map_err(|_gone| EndReason::LauncherGone)
    }

    /// Fence, kill, revoke: in this order, whatever the reason.
    async fn finish(mut self, reason: EndReason) {
        self.seat.fence_off();
        self.pass.fence.cancel();
        let told = matches!(reason, EndReason::TrialOver | EndReason::LauncherGone | EndReason::MintFailed);
        if !told {
            self.have_killed(reason).await;
        }
        let (sessions, launch, session) = (self.sessions, self.seat.launch, self.seat.session);
        if let Some(mint) = self.mint.take() {
            // Bounded by the mint itself: 2 s after the fence it gives up. Nothing is revoked before, as what it still
            // brings is known by its lease only when it is at rest.
            drop(mint.await);
        }
        sessions.leases.end_launch(launch, reason);
        wind_up(&sessions, session, reason).await;
        sessions.audit.note(Event::TrialEnded { launch, reason });
        drop(self.seat);
        tracing::info!(%launch, ?reason, "trial ended");
    }

    /// Has the admin's command kill what it runs, and kills the command when it does not in time.
    async fn have_killed(&mut self, reason: EndReason) {
        let hint = words::after_end(reason).to_owned();
        let dying = async {
            let told = self.writer.send(&ToLauncher::End(End { reason, hint })).await;
            while told.is_ok()
                && !matches!(self.reader.next().await, Ok(Some(ToBroker::Dead) | None) | Err(_))
            {}
        };
        if timeout(DEATH_LIMIT, dying).await.is_err() {
            self.peer.kill();
        }
    }
}

/// A trial never waits for better times: it ends, and the admin begins another one.
fn obey(order: &Order) -> Result<(), EndReason> {
    match order {
        // No client calls a tool through a trial.
        Order::Resume | Order::Renewed { .. } | Order::Ending { .. } | Order::Answered { .. } => Ok(()),
        Order::Park(why) => Err(why.reason()),
        Order::Lost(_) => Err(EndReason::CredentialEnded),
        Order::End(reason) => Err(*reason),
    }
}

async fn minted(mint: &mut Option<JoinHandle<Result<Supply, Problem>>>) -> Result<Supply, Problem> {
    let Some(handle) = mint else { return std::future::pending().await };
    handle.await.unwrap_or_else(|_panicked| {
        let hint = "read the broker's log, and report it";
        Err(Problem::new(ErrorCode::Internal, "the broker failed to mint", hint))
    })
}
