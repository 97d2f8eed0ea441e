//! One launch from its seat to its end: mint, deliver, watch, and then fence, kill, revoke. The connection is
//! the launch, so everything that can wake it is one list: [`Wake`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::channel::{End, EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::launch::{IssuedCredential, LaunchTicket, SecretsTicket};
use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::{BEAT_SECS, SILENCE_SECS};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::admit::Admitted;
use super::channel::{Reader, Writer, split};
use super::registry::Sessions;
use super::sign_in::Person;
use crate::audit::Event;
use crate::clock::shown;
use crate::lease::{LaunchTag, Minted};
use crate::policy::Grant;

/// What the launch knows of the process at the other end.
#[async_trait]
pub trait PeerWatch: Send + Sync {
    /// Whether it is still the process that connected.
    fn alive(&self) -> bool;

    /// Returns when it has exited, whoever else may hold its end of the stream.
    async fn exited(&self);

    /// Kills it; its keeper takes the instances along.
    fn kill(&self);
}

/// A launcher has so long to say that nothing of the launch is alive; then it is killed.
const DEATH_LIMIT: Duration = Duration::from_millis(500);

/// Everything that can wake a launch.
enum Wake {
    /// The mint is done.
    Minted(Result<Vec<Minted>, Problem>),
    /// The launcher said something.
    Heard(ToBroker),
    /// The launcher closed the stream, or broke the protocol.
    Gone,
    /// Somebody decided that it ends.
    Told(EndReason),
    /// It is time for a beat.
    Beat,
    /// Nothing was heard for too long.
    Silent,
}

struct Launch<S> {
    sessions: Arc<Sessions>,
    admitted: Admitted,
    peer: Arc<dyn PeerWatch>,
    reader: Reader<S>,
    writer: Writer<S>,
    mint: Option<JoinHandle<Result<Vec<Minted>, Problem>>>,
    leases: Vec<LeaseId>,
    heard: Instant,
    dead: bool,
    stage: Stage,
}

/// What the launcher may say next; anything else is passed over, as it would stand in the audit log.
#[derive(PartialEq, Eq)]
enum Stage {
    /// It has nothing yet.
    Waiting,
    /// It has its ticket.
    Delivered,
    /// It said that the instance runs.
    Started,
    /// It said that the instance ended.
    Exited,
}

/// Runs a launch over its stream until its end.
pub async fn run<S: AsyncRead + AsyncWrite + Send + 'static>(
    sessions: Arc<Sessions>,
    admitted: Admitted,
    peer: Arc<dyn PeerWatch>,
    stream: S,
) {
    let (reader, writer) = split(stream);
    let mint = begin_mint(&sessions, &admitted);
    let (id, leases) = (admitted.seat.launch, Arc::clone(&sessions.leases));
    let mut launch = Launch {
        sessions,
        admitted,
        peer,
        reader,
        writer,
        mint: Some(mint),
        leases: Vec::new(),
        heard: Instant::now(),
        dead: false,
        stage: Stage::Waiting,
    };
    let life = tokio::spawn(async move {
        let reason = launch.watch().await;
        launch.finish(reason).await;
    });
    if life.await.is_err() {
        tracing::error!(launch = %id, "a launch panicked; what it had is ended");
        leases.end_launch(id, EndReason::LauncherGone);
    }
}

fn begin_mint(sessions: &Arc<Sessions>, admitted: &Admitted) -> JoinHandle<Result<Vec<Minted>, Problem>> {
    let leases = Arc::clone(&sessions.leases);
    let grant = admitted.grant.clone();
    let tag = LaunchTag {
        launch: admitted.seat.launch,
        session: admitted.seat.session,
        user: admitted.person.user.clone(),
        horizon: admitted.seat.horizon,
        fence: admitted.seat.fence.clone(),
    };
    // A task of its own: it is finished, and what it minted is known, whatever happens to the stream.
    tokio::spawn(async move { leases.mint(&grant, &tag).await })
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// Serves the launch until something ends it.
    async fn watch(&mut self) -> EndReason {
        let mut beat = interval(Duration::from_secs(BEAT_SECS));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            match self.wake(&mut beat).await {
                Wake::Minted(Ok(minted)) => {
                    self.leases = minted.iter().map(|one| one.lease).collect();
                    if let Err(reason) = self.deliver(minted).await {
                        return reason;
                    }
                }
                Wake::Minted(Err(problem)) => {
                    // A launcher that is gone is told nothing; either way the launch is over.
                    drop(self.writer.send(&ToLauncher::Refused(problem)).await);
                    return EndReason::MintFailed;
                }
                Wake::Heard(frame) => {
                    self.heard = Instant::now();
                    if let Some(reason) = self.hear(frame) {
                        return reason;
                    }
                }
                Wake::Beat => {
                    if self.writer.send(&ToLauncher::Beat).await.is_err() {
                        return EndReason::LauncherGone;
                    }
                }
                Wake::Gone => return EndReason::LauncherGone,
                Wake::Told(reason) => return reason,
                Wake::Silent => return EndReason::LauncherSilent,
            }
        }
    }

    async fn wake(&mut self, beat: &mut tokio::time::Interval) -> Wake {
        let silence = self.heard + Duration::from_secs(SILENCE_SECS);
        let end = &mut self.admitted.seat.end;
        tokio::select! {
            biased;
            told = end.wait_for(Option::is_some) => {
                Wake::Told(told.ok().and_then(|reason| *reason).unwrap_or(EndReason::BrokerStopping))
            }
            minted = minted(&mut self.mint) => Wake::Minted(minted),
            frame = self.reader.next() => match frame {
                Ok(Some(frame)) => Wake::Heard(frame),
                Ok(None) | Err(_) => Wake::Gone,
            },
            () = self.peer.exited() => Wake::Gone,
            _ = beat.tick() => Wake::Beat,
            () = sleep_until(silence) => Wake::Silent,
        }
    }

    /// Hands the credentials over, unless the fence fell or there is nobody to take them.
    async fn deliver(&mut self, minted: Vec<Minted>) -> Result<(), EndReason> {
        if self.admitted.seat.fence.is_cancelled() {
            return Err(self.admitted.seat.end.borrow().unwrap_or(EndReason::BrokerStopping));
        }
        if !self.peer.alive() {
            return Err(EndReason::LauncherGone);
        }
        let leases = self.leases.clone();
        let launch = self.admitted.seat.launch;
        let ticket = ticket(&self.admitted.grant, launch, &self.admitted.person, minted);
        let frame = ToLauncher::Ticket(Box::new(LaunchTicket::Secrets(ticket)));
        self.writer.send(&frame).await.map_err(|_gone| EndReason::LauncherGone)?;
        self.stage = Stage::Delivered;
        for lease in leases {
            self.sessions.audit.note(Event::CredentialDelivered { lease, launch });
        }
        Ok(())
    }

    fn hear(&mut self, frame: ToBroker) -> Option<EndReason> {
        let launch = self.admitted.seat.launch;
        match frame {
            ToBroker::Beat => None,
            ToBroker::Started { scope, pid, containment, .. } if self.is_next(&Stage::Delivered) => {
                self.stage = Stage::Started;
                self.admitted.seat.started(pid, containment);
                self.sessions.audit.note(Event::InstanceStarted { launch, scope, pid, containment });
                None
            }
            ToBroker::Exited { status, .. } if self.is_next(&Stage::Started) => {
                let scope = self.admitted.grant.scope().name.clone();
                self.stage = Stage::Exited;
                self.sessions.audit.note(Event::InstanceExited { launch, scope, status });
                None
            }
            ToBroker::Want | ToBroker::Started { .. } | ToBroker::Exited { .. } | ToBroker::Gone { .. } => {
                None
            }
            ToBroker::Dead => {
                self.dead = true;
                Some(EndReason::ServerExited)
            }
        }
    }

    fn is_next(&self, stage: &Stage) -> bool {
        self.stage == *stage
    }

    /// Fence, kill, revoke: in this order, whatever the reason.
    async fn finish(mut self, reason: EndReason) {
        self.admitted.seat.fence.cancel();
        self.kill(reason).await;
        if let Some(mint) = self.mint.take() {
            // Bounded by the mint itself: 2 s after the fence it gives up.
            if let Ok(Ok(minted)) = mint.await {
                self.leases.extend(minted.iter().map(|one| one.lease));
            }
        }
        let launch = self.admitted.seat.launch;
        self.sessions.leases.end(self.leases.drain(..), reason);
        self.sessions.audit.note(Event::LaunchEnded { launch, reason, dead: self.dead });
        tracing::info!(%launch, ?reason, dead = self.dead, "launch ended");
    }

    /// Has the launcher kill its instances, and kills the launcher when it does not say so in time.
    async fn kill(&mut self, reason: EndReason) {
        let gone = matches!(reason, EndReason::LauncherGone | EndReason::MintFailed);
        if self.dead || gone {
            return;
        }
        let dying = async {
            let end = End { reason, hint: hint(reason).to_owned() };
            if self.writer.send(&ToLauncher::End(end)).await.is_err() {
                return;
            }
            // Its end of the stream closes when it is done, also where it says nothing.
            while let Ok(Some(frame)) = self.reader.next().await {
                if frame == ToBroker::Dead {
                    self.dead = true;
                    return;
                }
            }
        };
        if timeout(DEATH_LIMIT, dying).await.is_err() {
            self.peer.kill();
        }
    }
}

async fn minted(mint: &mut Option<JoinHandle<Result<Vec<Minted>, Problem>>>) -> Result<Vec<Minted>, Problem> {
    let Some(handle) = mint else { return std::future::pending().await };
    let result = handle.await;
    *mint = None;
    result.unwrap_or_else(|_panicked| {
        let hint = "read the broker's log, and report it";
        Err(Problem::new(ErrorCode::Internal, "the broker failed to mint", hint))
    })
}

fn ticket(
    grant: &Grant,
    launch: mcp_broker_proto::names::LaunchId,
    person: &Person,
    minted: Vec<Minted>,
) -> SecretsTicket {
    let server = grant.server();
    let credential = |one: Minted| {
        let issued = IssuedCredential {
            lease: one.lease,
            fields: one.fields,
            expires_at: one.expires_at.map(shown),
            revocability: one.revocability,
        };
        (one.name, issued)
    };
    SecretsTicket {
        launch,
        instance: 0,
        idle_secs: 0,
        server: server.name.clone(),
        scope: grant.scope().name.clone(),
        command: server.command.iter().chain(grant.args()).cloned().collect(),
        env: server.env.clone(),
        cwd: server.cwd.replacen("{home}", &person.home.to_string_lossy(), 1),
        credentials: minted.into_iter().map(credential).collect::<BTreeMap<_, _>>(),
        inject: grant.scope().inject.clone(),
    }
}

/// What the person can do about an end that was not theirs.
fn hint(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Revoked => "an admin ended it; ask them before you start the server again",
        EndReason::Locked => "run `mcp-run unlock`, then start the server again",
        EndReason::LoggedOut | EndReason::MaxAge | EndReason::SessionClosed => {
            "run `mcp-run login`, then start the server again"
        }
        EndReason::CredentialEnded => "start the server again to get a new credential",
        EndReason::ParentLost => "run `mcp-run doctor`; the provider could not be reached in time",
        EndReason::BrokerStopping | EndReason::Shutdown => {
            "start the server again when the broker runs again"
        }
        EndReason::LauncherSilent => "the launcher did not answer; start the server again",
        EndReason::LauncherGone
        | EndReason::ServerExited
        | EndReason::MintFailed
        | EndReason::Idle
        | EndReason::Replaced
        | EndReason::Recovered => "start the server again",
    }
}
