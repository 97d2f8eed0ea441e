//! One launch from its seat to its end: mint when asked, deliver, decide its calls, watch; kill and revoke when
//! told. The connection is the launch, so everything that can wake it is one list: [`wake::Wake`].

mod book;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]
mod call_tests;
mod calls;
mod instances;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]
mod lazy_tests;
mod park;
mod people;
mod refresh;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]
mod refresh_tests;
mod rounds;
#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]
mod tests;
mod told;
mod wake;
mod wants;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::BEAT_SECS;
use mcp_broker_proto::channel::{EndReason, GoneReason, ToBroker, ToLauncher};
use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::plan::{Plan, Record};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{LaunchInfo, LaunchState};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::book::Book;
use self::instances::Instances;
use self::rounds::Refreshes;
use self::told::Told;
use self::wake::Wake;
use self::wants::Wants;
use super::admit::Admitted;
use super::channel::{Reader, Writer, split};
use super::plan;
use super::registry::Sessions;
use super::seat::Seat;
use super::sign_in::Person;
use crate::config::{Config, ServerDefinition};
use crate::policy::{Grant, Reason};

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

struct Launch<S> {
    sessions: Arc<Sessions>,
    seat: Seat,
    asked: Asked,
    peer: Arc<dyn PeerWatch>,
    reader: Reader<S>,
    writer: Writer<S>,
    wants: Wants,
    refreshes: Refreshes,
    book: Book,
    told: Told,
    instances: Instances,
    /// Why it has no instance, where that is not by its own choice.
    parked: Option<String>,
    heard: Instant,
    dead: bool,
    /// It cannot be told anything any more, though it may be there: it is killed.
    unheard: bool,
}

/// What the launcher asked for, and what policy says to that.
struct Asked {
    request: LaunchRequest,
    person: Person,
    config: watch::Receiver<Arc<Config>>,
    /// As the configuration in force has it.
    standing: Result<Grant, Problem>,
    /// The definition that it had when policy allowed the launch last.
    server: Arc<ServerDefinition>,
    /// Why it does not any more.
    against: Vec<Reason>,
    /// What the launcher was told last, apart from the record.
    plan: Plan,
    /// How often a plan was told: what an ask was made by.
    revision: u32,
    record: Option<Arc<Record>>,
}

impl Asked {
    fn new(sessions: &Sessions, admitted: (LaunchRequest, Person, Grant), seat: &Seat) -> Self {
        let (request, person, grant) = admitted;
        let server = Arc::clone(grant.server());
        let record = sessions.approvals.record_of(&server);
        let plan = plan::of(seat.launch, &server, record.as_deref());
        let mut config = sessions.config.clone();
        // It may have changed since the launch was admitted.
        config.mark_changed();
        let (standing, against, revision) = (Ok(grant), Vec::new(), 1);
        Self { request, person, config, standing, server, against, plan, revision, record }
    }

    /// Decides again where the configuration is another one than at the last decision. Answers whether it was.
    fn look(&mut self, sessions: &Sessions) -> bool {
        let changed = self.config.has_changed().unwrap_or(false);
        if changed {
            drop(self.config.borrow_and_update());
            let decided = sessions.decide(&self.request, &self.person);
            self.against.clear();
            self.standing = decided.map_err(|(problem, reasons)| {
                self.against = reasons;
                problem
            });
            if let Ok(grant) = &self.standing {
                self.server = Arc::clone(grant.server());
            }
        }
        changed
    }
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
    let (id, leases, uses) = (seat.launch, Arc::clone(&sessions.leases), Arc::clone(&seat.uses));
    let mut launch = Launch {
        instances: Instances::new(id, sessions.audit.clone()),
        asked: Asked::new(&sessions, (request, person, grant), &seat),
        sessions,
        seat,
        peer,
        reader,
        writer,
        wants: Wants::default(),
        refreshes: Refreshes::default(),
        book: Book::of(uses),
        told: Told::default(),
        parked: None,
        heard: Instant::now(),
        dead: false,
        unheard: false,
    };
    let life = tokio::spawn(async move {
        let reason = launch.live().await;
        launch.finish(reason).await;
    });
    if life.await.is_err() {
        tracing::error!(launch = %id, "a launch panicked; what it had is ended");
        leases.end_launch(id, EndReason::LauncherGone);
    }
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// Serves the launch until something ends it.
    async fn live(&mut self) -> EndReason {
        let mut beat = interval(Duration::from_secs(BEAT_SECS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // Watched once: each call wakes the launch twice, and to begin anew is two calls of the kernel.
        let peer = Arc::clone(&self.peer);
        let mut exited = peer.exited();
        let mut next = self.begin().await;
        while next.is_ok() {
            next = match self.wake(&mut beat, &mut exited).await {
                Wake::Told(order) => self.obey(order).await,
                Wake::Minted(scope, Ok(supply)) => self.deliver(scope, supply).await,
                Wake::Minted(scope, Err(problem)) => self.refuse(scope, problem).await,
                Wake::Refresh(instance, step) => self.step(instance, step).await,
                Wake::Heard(frame) => {
                    self.heard = Instant::now();
                    self.hear(frame).await
                }
                Wake::Reloaded => self.look_at_policy().await,
                Wake::Unanswered(call) => self.nobody_confirmed(call).await,
                Wake::Beat => self.beat().await,
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

    /// The plan comes first, and the first scope's credentials where they are wanted at once.
    async fn begin(&mut self) -> Result<(), EndReason> {
        self.tell_plan().await?;
        self.show();
        let first = self.asked.plan.scopes.first().map(|scope| scope.name.clone());
        match first {
            Some(first) if self.asked.request.want && !self.asked.plan.lazy => self.want(first, true).await,
            _ => Ok(()),
        }
    }

    /// Where the configuration is another one, what was told of the server may not hold any more: it is told anew.
    /// What runs goes on; who lost access learns so with the next thing that they ask for.
    async fn look_at_policy(&mut self) -> Result<(), EndReason> {
        if !self.asked.look(&self.sessions) {
            return Ok(());
        }
        self.look_at_plan().await
    }

    /// The same where the server may have been approved since.
    async fn look_at_plan(&mut self) -> Result<(), EndReason> {
        let server = &self.asked.server;
        let record = self.sessions.approvals.record_of(server);
        let plan = plan::of(self.seat.launch, server, record.as_deref());
        if plan == self.asked.plan && record == self.asked.record {
            return Ok(());
        }
        (self.asked.plan, self.asked.record) = (plan, record);
        self.asked.revision = self.asked.revision.wrapping_add(1);
        let approved = self.asked.record.as_ref().map(|record| record.approved_at.clone());
        self.seat.show(|info| info.approved = approved);
        self.tell_plan().await
    }

    async fn tell_plan(&mut self) -> Result<(), EndReason> {
        let record = self.asked.record.as_deref().cloned();
        let mut plan = Plan { record, ..self.asked.plan.clone() };
        plan.scopes.iter_mut().for_each(|scope| scope.revision = self.asked.revision);
        self.send(&ToLauncher::Plan(Box::new(plan))).await
    }

    /// Time for a beat, and to see whether the server was approved.
    async fn beat(&mut self) -> Result<(), EndReason> {
        self.send(&ToLauncher::Beat).await?;
        self.look_at_plan().await
    }

    async fn hear(&mut self, frame: ToBroker) -> Result<(), EndReason> {
        match frame {
            ToBroker::Beat => {}
            ToBroker::Want { scope } => return self.want(scope, false).await,
            ToBroker::Started { instance, scope: _, pid, containment } => {
                if self.instances.started(instance, pid, containment) {
                    self.parked = None;
                    self.show();
                }
            }
            ToBroker::Exited { instance, status } => {
                self.instances.exited(instance, status);
                self.show();
            }
            ToBroker::Gone { instance, reason } => self.give_up(instance, reason),
            ToBroker::Ask(ask) => return self.ask(ask).await,
            ToBroker::Confirmed { call, yes } => return self.confirmed(call, yes).await,
            ToBroker::Answered(answered) => self.answered(&answered),
            ToBroker::Changed(changed) => return self.changed(changed),
            ToBroker::Leaked { instance, count } => return self.leaked(instance, count),
            ToBroker::Refreshed { instance, leases, failed } => {
                return self.refreshed(instance, leases, failed.is_some()).await;
            }
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
        if let Some(mint) = self.refreshes.take_of(instance) {
            drop(mint.void(&self.sessions, reason));
        }
        self.show();
    }

    /// Brings what is shown of the launch up to date.
    fn show(&self) {
        let running = self.instances.running();
        let (state, parked) = match &self.parked {
            _ if !running.is_empty() => (LaunchState::Running, None),
            Some(why) => (LaunchState::Parked, Some(why.clone())),
            None if self.wants.none() && self.instances.none() => (LaunchState::Idle, None),
            None => (LaunchState::Starting, None),
        };
        self.seat.show(|info: &mut LaunchInfo| {
            (info.state, info.parked, info.running) = (state, parked, running);
        });
    }

    fn knows(&self, scope: &Label) -> bool {
        self.asked.plan.scopes.iter().any(|known| known.name == *scope)
    }
}
