//! One launch from its seat to its end: mint when asked, deliver, watch; kill and revoke when told. The connection
//! is the launch, so everything that can wake it is one list: [`Wake`].

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::channel::{End, EndReason, GoneReason, ToBroker, ToLauncher};
use mcp_broker_proto::launch::LaunchTicket;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{LaunchState, RunningInfo};
use mcp_broker_proto::{BEAT_SECS, SILENCE_SECS};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};

use super::admit::Admitted;
use super::channel::{Reader, Writer, split};
use super::instances::Instances;
use super::park::Why;
use super::plan;
use super::registry::Sessions;
use super::seat::{Order, Seat};
use super::supply::{self, Mint, Supply};
use super::words;
use crate::audit::{AuditLog, Event};
use crate::fault;
use crate::policy::Grant;

/// What the launch knows of the process at the other end.
#[async_trait]
pub trait PeerWatch: Send + Sync {
    /// Whether it is still the process that connected.
    fn alive(&self) -> bool;

    /// Returns when it has exited, whoever else may hold its end of the stream.
    async fn exited(&self);

    /// Kills it; its keepers take the instances along.
    fn kill(&self);
}

/// A launcher has so long to say that nothing of the launch is alive; then it is killed.
const DEATH_LIMIT: Duration = Duration::from_millis(500);

/// After a refusal a launch is not looked at for so long, as each refusal is written down. A launcher waits longer
/// by itself.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);

/// Everything that can wake a launch.
enum Wake {
    /// Somebody decided something about it.
    Told(Order),
    /// The mint is done.
    Minted(Result<Supply, Problem>),
    /// The launcher said something.
    Heard(ToBroker),
    /// The launcher closed the stream.
    Gone,
    /// It broke the protocol.
    Broken,
    /// It is time for a beat.
    Beat,
    /// Nothing was heard for too long.
    Silent,
}

struct Launch<S> {
    sessions: Arc<Sessions>,
    seat: Seat,
    admitted: Request,
    peer: Arc<dyn PeerWatch>,
    reader: Reader<S>,
    writer: Writer<S>,
    mint: Option<Mint>,
    instances: Instances,
    heard: Instant,
    dead: bool,
    /// It cannot be told anything any more, though it may be there: it is killed.
    unheard: bool,
    scope: Label,
    /// No request for credentials is looked at before that, after one that was refused.
    not_before: Instant,
}

/// What the launcher asked for, as it was admitted.
struct Request {
    request: mcp_broker_proto::launch::LaunchRequest,
    person: super::sign_in::Person,
    grant: Option<Grant>,
}

/// Runs a launch over its stream until its end.
pub async fn run<S: AsyncRead + AsyncWrite + Send + 'static>(
    sessions: Arc<Sessions>,
    admitted: Admitted,
    peer: Arc<dyn PeerWatch>,
    stream: S,
) {
    let (reader, writer) = split(stream);
    let Admitted { seat, request, grant, person } = admitted;
    let (id, leases, want) = (seat.launch, Arc::clone(&sessions.leases), request.want);
    let mut launch = Launch {
        instances: Instances::new(id, sessions.audit.clone()),
        sessions,
        seat,
        scope: grant.scope().name.clone(),
        admitted: Request { request, person, grant: Some(grant) },
        peer,
        reader,
        writer,
        mint: None,
        heard: Instant::now(),
        dead: false,
        unheard: false,
        not_before: Instant::now(),
    };
    let life = tokio::spawn(async move {
        let reason = launch.live(want).await;
        launch.finish(reason).await;
    });
    if life.await.is_err() {
        tracing::error!(launch = %id, "a launch panicked; what it had is ended");
        leases.end_launch(id, EndReason::LauncherGone);
    }
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// Serves the launch until something ends it.
    async fn live(&mut self, want: bool) -> EndReason {
        let mut beat = interval(Duration::from_secs(BEAT_SECS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut next = self.plan().await;
        if want && next.is_ok() {
            next = self.want().await;
        }
        while next.is_ok() {
            next = match self.wake(&mut beat).await {
                Wake::Told(order) => self.obey(order).await,
                Wake::Minted(Ok(supply)) => self.deliver(supply).await,
                Wake::Minted(Err(problem)) => self.refuse(problem).await,
                Wake::Heard(frame) => {
                    self.heard = Instant::now();
                    self.hear(frame).await
                }
                Wake::Beat => self.send(&ToLauncher::Beat).await,
                Wake::Gone => Err(EndReason::LauncherGone),
                Wake::Broken => {
                    self.unheard = true;
                    Err(EndReason::LauncherGone)
                }
                Wake::Silent => Err(EndReason::LauncherSilent),
            };
        }
        next.err().unwrap_or(EndReason::LauncherGone)
    }

    async fn wake(&mut self, beat: &mut Interval) -> Wake {
        let silence = self.heard + Duration::from_secs(SILENCE_SECS);
        tokio::select! {
            biased;
            order = self.seat.orders.recv() => {
                Wake::Told(order.unwrap_or(Order::End(EndReason::BrokerStopping)))
            }
            minted = minted(&mut self.mint) => Wake::Minted(minted),
            frame = self.reader.next() => match frame {
                Ok(Some(frame)) => Wake::Heard(frame),
                Ok(None) => Wake::Gone,
                Err(_) => Wake::Broken,
            },
            () = self.peer.exited() => Wake::Gone,
            _ = beat.tick() => Wake::Beat,
            () = sleep_until(silence) => Wake::Silent,
        }
    }

    async fn obey(&mut self, order: Order) -> Result<(), EndReason> {
        match order {
            Order::Park(why) => self.park(why).await,
            Order::Resume => {
                self.sessions.audit.note(Event::LaunchResumed { launch: self.seat.launch });
                self.seat.show(|info| (info.state, info.parked) = (LaunchState::Idle, None));
                self.send(&ToLauncher::Resume).await
            }
            Order::Replace { lease, within } => match self.instances.with(lease) {
                Some(instance) => {
                    self.send(&ToLauncher::Replace { instance, within_secs: within.as_secs() }).await
                }
                None => Ok(()),
            },
            Order::Lost(lease) => match self.instances.with(lease) {
                // Another one has taken over; this one is only finishing what it had begun.
                Some(instance) if self.instances.another_runs(instance) => {
                    self.sessions.leases.end([lease], EndReason::CredentialEnded);
                    self.send(&ToLauncher::Replace { instance, within_secs: 0 }).await
                }
                Some(_) => self.park(Why::CredentialEnded).await,
                None => Ok(()),
            },
            Order::End(reason) => Err(reason),
        }
    }

    /// Asks for an instance's credentials, unless that is being done already.
    async fn want(&mut self) -> Result<(), EndReason> {
        if self.mint.is_some() {
            return Ok(());
        }
        if self.instances.full() || Instant::now() < self.not_before {
            return self.send(&ToLauncher::Refused { scope: self.first(), problem: words::too_fast() }).await;
        }
        let pass = match self.seat.pass() {
            Ok(pass) => pass,
            Err(problem) => return self.refuse(problem).await,
        };
        self.seat.show(|info| (info.state, info.parked) = (LaunchState::Starting, None));
        let order = supply::Order {
            sessions: Arc::clone(&self.sessions),
            launch: self.seat.launch,
            session: self.seat.session,
            request: self.admitted.request.clone(),
            person: self.admitted.person.clone(),
            grant: self.admitted.grant.take(),
            pass,
        };
        self.mint = Some(Mint::begin(self.instances.number(), order));
        Ok(())
    }

    async fn plan(&mut self) -> Result<(), EndReason> {
        let Some(grant) = &self.admitted.grant else { return Ok(()) };
        let plan = plan::of(self.seat.launch, grant.server());
        self.send(&ToLauncher::Plan(Box::new(plan))).await
    }

    fn first(&self) -> Label {
        self.scope.clone()
    }

    async fn refuse(&mut self, problem: Problem) -> Result<(), EndReason> {
        self.mint = None;
        self.not_before = Instant::now() + REFUSAL_PAUSE;
        if self.instances.none() {
            let why = problem.title.clone();
            self.seat.show(|info| (info.state, info.parked) = (LaunchState::Parked, Some(why)));
        }
        self.send(&ToLauncher::Refused { scope: self.first(), problem }).await
    }

    /// Hands the credentials over, unless the fence fell or there is nobody to take them.
    async fn deliver(&mut self, supply: Supply) -> Result<(), EndReason> {
        let Some(mint) = self.mint.take() else { return Ok(()) };
        let leases: Vec<_> = supply.minted.iter().map(|one| one.lease).collect();
        let alive = self.peer.alive();
        self.sessions.look_at_clocks();
        let launch = self.seat.launch;
        let write_down = |audit: &AuditLog| {
            leases.iter().for_each(|lease| audit.note(Event::CredentialDelivered { lease: *lease, launch }));
        };
        if !alive || !self.seat.delivers(&supply.pass, write_down) {
            // The order that comes with the fence is waiting, and says the rest.
            self.sessions.leases.end(leases, EndReason::MintFailed);
            return if alive { Ok(()) } else { Err(EndReason::LauncherGone) };
        }
        self.instances.add(mint.instance, supply.grant.scope().name.clone(), leases);
        let idle = self.sessions.config.borrow().session.idle;
        let ticket = supply.ticket(launch, mint.instance, idle);
        fault::passing("launch.ticket-sending").await;
        self.send(&ToLauncher::Ticket(Box::new(LaunchTicket::Secrets(ticket)))).await?;
        fault::passing("launch.ticket-sent").await;
        Ok(())
    }

    async fn hear(&mut self, frame: ToBroker) -> Result<(), EndReason> {
        match frame {
            ToBroker::Beat => {}
            ToBroker::Want { .. } => return self.want().await,
            ToBroker::Started { instance, scope, pid, containment } => {
                if self.instances.started(instance, pid, containment) {
                    self.seat.show(|info| {
                        info.state = LaunchState::Running;
                        info.running.push(RunningInfo { instance, scope, pid, containment });
                    });
                }
            }
            ToBroker::Exited { instance, status } => self.instances.exited(instance, status),
            ToBroker::Gone { instance, reason } => self.give_up(instance, reason),
            ToBroker::Ask(_) | ToBroker::Confirmed { .. } | ToBroker::Answered(_) => {}
            ToBroker::Changed(_) | ToBroker::Leaked { .. } => {}
            ToBroker::Dead => {
                self.dead = true;
                return Err(EndReason::ServerExited);
            }
        }
        Ok(())
    }

    fn give_up(&mut self, instance: u32, reason: GoneReason) {
        let leases = self.instances.gone(instance, reason);
        let reason = match reason {
            GoneReason::Exited | GoneReason::Unusable => EndReason::ServerExited,
            GoneReason::Idle => EndReason::Idle,
            GoneReason::Replaced => EndReason::Replaced,
        };
        self.sessions.leases.end(leases, reason);
        if self.instances.none() && self.mint.is_none() {
            self.seat.show(|info| {
                info.state = LaunchState::Idle;
                info.running.clear();
            });
        }
    }

    /// Has every instance killed and its credentials revoked, and keeps the launcher.
    async fn park(&mut self, why: Why) -> Result<(), EndReason> {
        let park = why.frame();
        self.seat.show(|info| {
            (info.state, info.parked) = (LaunchState::Parked, Some(park.what.clone()));
            info.running.clear();
        });
        let gone = self.have_killed(&ToLauncher::Park(park)).await;
        fault::passing("launch.killed").await;
        let (launch, reason, dead) = (self.seat.launch, why.reason(), std::mem::take(&mut self.dead));
        self.sessions.leases.end(self.instances.clear(), reason);
        if let Some(mint) = self.mint.take() {
            // Bounded by the mint itself: 2 s after the fence it gives up.
            drop(mint.void(&self.sessions, reason));
        }
        self.sessions.audit.note(Event::LaunchParked { launch, reason, dead });
        fault::passing("launch.parked").await;
        self.seat.stilled();
        if gone { Err(EndReason::LauncherGone) } else { Ok(()) }
    }

    /// Fence, kill, revoke: in this order, whatever the reason.
    async fn finish(mut self, reason: EndReason) {
        self.seat.fence_off();
        if self.unheard {
            self.peer.kill();
        }
        let gone = matches!(reason, EndReason::LauncherGone) || self.dead;
        if !gone {
            let frame = match reason {
                EndReason::BrokerStopping => ToLauncher::Park(Why::BrokerStopping.frame()),
                _ => ToLauncher::End(End { reason, hint: words::after_end(reason).to_owned() }),
            };
            self.have_killed(&frame).await;
        }
        self.sessions.leases.end(self.instances.clear(), reason);
        if let Some(mint) = self.mint.take() {
            // A mint that panicked has nothing that is not in the book.
            drop(mint.void(&self.sessions, reason).await);
        }
        let (launch, dead) = (self.seat.launch, self.dead);
        self.sessions.audit.note(Event::LaunchEnded { launch, reason, dead });
        tracing::info!(%launch, ?reason, dead, "launch ended");
    }

    /// Has the launcher kill its instances, and kills the launcher when it does not say so in time. Answers
    /// whether it is gone.
    async fn have_killed(&mut self, frame: &ToLauncher) -> bool {
        let dying = async {
            if self.writer.send(frame).await.is_err() {
                return true;
            }
            // Its end of the stream closes when it is done, also where it says nothing.
            while let Ok(Some(said)) = self.reader.next().await {
                match said {
                    ToBroker::Dead => {
                        self.dead = true;
                        return false;
                    }
                    ToBroker::Exited { instance, status } => self.instances.exited(instance, status),
                    // Overtaken by what it was just told.
                    _ => {}
                }
            }
            true
        };
        let gone = timeout(DEATH_LIMIT, dying).await;
        if gone.is_err() {
            self.peer.kill();
        }
        self.heard = Instant::now();
        gone.unwrap_or(true)
    }

    /// A launcher that does not read holds up neither a lock nor an end: it is killed, as it cannot be told.
    async fn send(&mut self, frame: &ToLauncher) -> Result<(), EndReason> {
        let rush = self.seat.rush();
        let sent = tokio::select! {
            biased;
            sent = self.writer.send(frame) => sent,
            () = rush.cancelled() => Err(ErrorKind::TimedOut.into()),
        };
        sent.map_err(|error| {
            self.unheard = error.kind() == ErrorKind::TimedOut;
            EndReason::LauncherGone
        })
    }
}

async fn minted(mint: &mut Option<Mint>) -> Result<Supply, Problem> {
    match mint {
        Some(mint) => mint.done().await,
        None => std::future::pending().await,
    }
}
