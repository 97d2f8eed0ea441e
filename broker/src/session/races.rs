//! Locks, unlocks, logouts and revocations against mints and calls in flight, in thousands of random interleavings
//! of the real register over a backend that knows the truth; `tests/` does the same with the real parts.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::{EndReason, ToBroker, ToLauncher};
use mcp_broker_proto::names::Label;
use mcp_broker_proto::session::LockCause;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::lock::Notice;
use super::login::{Login, Sighting};
use super::testing::{Dice, World, login, world};

/// So many sessions are raced.
const ROUNDS: u64 = 10_000;

/// So many of them at once.
const AT_ONCE: usize = 48;

/// A launcher that does as it is told, and what it was told last.
async fn launcher(stream: DuplexStream, mut dice: Dice) -> Result<(), String> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    let scope = |name: &str| -> Label { name.parse().unwrap() };
    let mut parked = false;
    let mut wanting = HashSet::from([scope("all")]);
    while let Ok(Some(line)) = lines.next_line().await {
        let frame: ToLauncher = serde_json::from_str(&line).map_err(|error| error.to_string())?;
        let mut say = Vec::new();
        let mut want = |scope: Label, wanting: &mut HashSet<Label>| {
            if wanting.insert(scope.clone()) {
                say.push(ToBroker::Want { scope });
            }
        };
        match frame {
            ToLauncher::Ticket(ticket) => {
                let mcp_broker_proto::launch::LaunchTicket::Secrets(ticket) = *ticket else {
                    return Err("another kind of ticket".into());
                };
                if parked || !wanting.remove(&ticket.scope) {
                    return Err(format!("a ticket while parked ({parked}) or unasked ({})", ticket.scope));
                }
                let more = scope("more");
                if ticket.scope != more && dice.below(2) == 0 {
                    want(more, &mut wanting);
                }
                if dice.below(3) == 0 {
                    let reason = mcp_broker_proto::channel::GoneReason::Idle;
                    say.push(ToBroker::Gone { instance: ticket.instance, reason });
                }
            }
            ToLauncher::Park(_) => {
                parked = true;
                wanting.clear();
                dice.pause().await;
                say.push(ToBroker::Dead);
            }
            ToLauncher::Resume => {
                parked = false;
                want(scope("all"), &mut wanting);
                if dice.below(2) == 0 {
                    want(scope("more"), &mut wanting);
                }
            }
            ToLauncher::Refused { scope, .. } => drop(wanting.remove(&scope)),
            ToLauncher::End(_) => {
                dice.pause().await;
                say.push(ToBroker::Dead);
            }
            ToLauncher::Plan(_) if dice.below(2) == 0 => want(scope("more"), &mut wanting),
            ToLauncher::Beat | ToLauncher::Replace { .. } | ToLauncher::Plan(_) | ToLauncher::Decision(_) => {
            }
        }
        for frame in say {
            let line = serde_json::to_string(&frame).unwrap() + "\n";
            if write.write_all(line.as_bytes()).await.is_err() {
                return Ok(());
            }
        }
        if dice.below(40) == 0 {
            // Killed.
            return Ok(());
        }
    }
    Ok(())
}

impl World {
    async fn launch(&self, login: &Arc<Login>, dice: &Dice) -> Option<JoinHandle<Result<(), String>>> {
        let stream = self.connect(login, true).await?;
        Some(tokio::spawn(launcher(stream, dice.clone())))
    }

    /// One session from its first launch to its end, with everything at once.
    async fn round(&self, number: u64) {
        let mut dice = Dice::new(number);
        let login = Arc::new(login(number));
        let session = self.sessions.sign_in(&self.asking(&login)).await.unwrap();
        let mut launchers = Vec::new();
        for _ in 0..3 + dice.below(4) {
            match dice.below(8) {
                0 | 1 => launchers.extend(self.launch(&login, &dice).await),
                2 => self.sessions.sighted(&login.path, Sighting::Lock),
                3 => drop(self.sessions.notice(session, Notice::Unlock, None)),
                4 => {
                    let lock = Notice::Lock(LockCause::Command);
                    if let Some(fenced) = self.sessions.turn(session, lock, None) {
                        self.sessions.wind_up(fenced, Some(session), None).await;
                        // What was open is over when its lock says so.
                        assert_eq!(self.backend.alive_in(session), 0, "round {number}: alive though locked");
                    }
                }
                5 => drop(self.sessions.notice(session, Notice::Lock(LockCause::Sleep), None)),
                6 => drop(self.sessions.notice(session, Notice::Awake, None)),
                _ => launchers.extend(self.launch(&login, &dice).await),
            }
            dice.pause().await;
        }
        match dice.below(3) {
            0 => self.sessions.sighted(&login.path, Sighting::Closed),
            1 => self.sessions.end_session(session, EndReason::LoggedOut).await,
            _ => drop(self.sessions.end_session(session, EndReason::Revoked)),
        }
        for launcher in launchers {
            launcher.await.unwrap().unwrap_or_else(|error| panic!("round {number}: {error}"));
        }
        while self.leases.infos().iter().any(|lease| lease.session == session) {
            sleep(Duration::from_millis(1)).await;
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.backend.alive_in(session) > 0 {
            assert!(Instant::now() < deadline, "round {number}: something is alive that nobody ends");
            sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_delivered_or_left_after_a_fence() {
    let world = Arc::new(world());
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut rounds = tokio::task::JoinSet::new();
    for number in 1..=ROUNDS {
        let place = Arc::clone(&places).acquire_owned().await.unwrap();
        let world = Arc::clone(&world);
        rounds.spawn(async move {
            world.round(number).await;
            drop(place);
        });
        while let Some(done) = rounds.try_join_next() {
            done.unwrap();
        }
    }
    while let Some(done) = rounds.join_next().await {
        done.unwrap();
    }
    assert!(world.backend.alive.lock().unwrap().is_empty());
    assert_eq!(world.leases.drain(Duration::from_secs(20)).await, 0);
    let minted = world.backend.made.lock().unwrap().len();
    assert!(
        minted > usize::try_from(ROUNDS).unwrap(),
        "only {minted} were made: the races did not take place"
    );
    drop(world);
}
