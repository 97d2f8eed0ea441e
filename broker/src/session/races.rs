//! Locks, unlocks, logouts and revocations against mints, refreshes and calls in flight, in thousands of random interleavings
//! of the real register over a backend that knows the truth; `tests/` does the same with the real parts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::call::{Answered, Ask, CallOutcome, Decision, Verdict};
use mcp_broker_proto::channel::{EndReason, GoneReason, ToBroker, ToLauncher};
use mcp_broker_proto::launch::{Content, Injection, LaunchTicket, Refresh};
use mcp_broker_proto::names::{Label, SessionId};
use mcp_broker_proto::session::{LeaseInfo, LeaseState, LockCause};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::lock::Notice;
use super::login::{Login, Sighting};
use super::testing::{Dice, World, login, world};
use crate::config::Confirm;

/// So many sessions are raced.
const ROUNDS: u64 = 10_000;

/// So many of them at once.
const AT_ONCE: usize = 48;

/// A launcher asks for so many calls at most: each answer to one makes it ask for another.
const MOST_CALLS: u64 = 8;

fn ask(call: u64, scope: &str) -> Ask {
    Ask {
        revision: 1,
        call,
        scope: scope.parse().unwrap(),
        tool: format!("a_{scope}"),
        size: 2,
        sha256: "ab".repeat(32),
        named: BTreeMap::new(),
        whole: None,
        elicits: true,
    }
}

fn answered(call: u64) -> ToBroker {
    let outcome = CallOutcome::Result;
    ToBroker::Answered(Answered { call, outcome, instance: None, size: 0, millis: 0, masked: 0 })
}

/// The audit log has fences, deliveries and calls in the order in which they were decided: nothing of a session is
/// delivered or allowed while it is locked, and every call that was allowed is over, once.
fn nothing_after_a_fence(log: &Path) -> usize {
    let text = std::fs::read_to_string(log).unwrap();
    let (mut sessions, mut locked, mut open) = (HashMap::new(), HashSet::new(), HashSet::new());
    let mut allowed = 0;
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let field = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let of_launch = |sessions: &HashMap<String, String>| sessions[&field("launch")].clone();
        match event["event"].as_str().unwrap() {
            "launch_granted" => drop(sessions.insert(field("launch"), field("session"))),
            "session_locked" => drop(locked.insert(field("session"))),
            "session_unlocked" => drop(locked.remove(&field("session"))),
            "credential_delivered" => assert!(!locked.contains(&of_launch(&sessions)), "{event}"),
            "call_decided" if event["verdict"] != "deny" => {
                assert!(!locked.contains(&of_launch(&sessions)), "{event}");
                if event["verdict"] == "allow" {
                    assert!(open.insert(field("call")), "{event}");
                    allowed += 1;
                }
            }
            "call_answered" if event["outcome"] != "not_sent" => {
                assert!(open.remove(&field("call")), "{event}")
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "calls without an end: {open:?}");
    allowed
}

/// A launcher that does as it is told, and what it was told last.
struct Launcher {
    dice: Dice,
    parked: bool,
    /// Scopes that credentials were asked for, and not given or refused.
    wanting: HashSet<Label>,
    calls: u64,
    /// Calls that were asked about while it was parked: those may go on once the session is open, which the launcher
    /// hears a moment later.
    early: HashSet<u64>,
    say: Vec<ToBroker>,
    /// Instances that were given up.
    gone: HashSet<u32>,
}

impl Launcher {
    fn want(&mut self, scope: &str) {
        let scope: Label = scope.parse().unwrap();
        if self.wanting.insert(scope.clone()) {
            self.say.push(ToBroker::Want { scope });
        }
    }

    fn ticket(&mut self, ticket: LaunchTicket) -> Result<(), String> {
        let LaunchTicket::Secrets(ticket) = ticket else { return Err("another kind of ticket".into()) };
        if self.parked || !self.wanting.remove(&ticket.scope) {
            return Err(format!("a ticket while parked ({}) or unasked ({})", self.parked, ticket.scope));
        }
        if ticket.scope.as_str() != "more" && self.dice.below(2) == 0 {
            self.want("more");
        }
        if self.dice.below(3) == 0 {
            self.gone.insert(ticket.instance);
            self.say.push(ToBroker::Gone { instance: ticket.instance, reason: GoneReason::Idle });
        }
        Ok(())
    }

    /// Puts new credentials in place, or cannot, or says nothing, or something that nobody asked for.
    fn refresh(&mut self, refresh: &Refresh) -> Result<(), String> {
        if self.parked || refresh.credentials.len() != 2 {
            return Err(format!("a refresh while parked ({}) or of a part", self.parked));
        }
        let instance = refresh.instance;
        let mut leases: Vec<_> = refresh.credentials.values().map(|one| one.lease).collect();
        match self.dice.below(8) {
            0 => return Ok(()),
            1 => drop(leases.pop()),
            2 => {
                self.gone.insert(instance);
                self.say.push(ToBroker::Gone { instance, reason: GoneReason::Exited });
            }
            _ => {}
        }
        let failed = (self.dice.below(4) == 0).then(|| "full".to_owned());
        self.say.push(ToBroker::Refreshed { instance, leases, failed });
        Ok(())
    }

    fn replace(&mut self, instance: u32) {
        if self.gone.insert(instance) {
            self.want("all");
            self.say.push(ToBroker::Gone { instance, reason: GoneReason::Replaced });
        }
    }

    fn decided(&mut self, decision: &Decision) -> Result<(), String> {
        let call = decision.call;
        match decision.verdict {
            Verdict::Deny => {}
            verdict if self.parked && !self.early.contains(&call) => {
                return Err(format!("{verdict:?} while parked"));
            }
            Verdict::Pending => {
                let yes = self.dice.below(4) > 0;
                self.say.push(ToBroker::Confirmed { call, yes });
            }
            Verdict::Allow if self.dice.below(4) > 0 => self.say.push(answered(call)),
            Verdict::Allow => {}
        }
        Ok(())
    }

    async fn hear(&mut self, frame: ToLauncher) -> Result<(), String> {
        match frame {
            ToLauncher::Ticket(ticket) => self.ticket(*ticket)?,
            ToLauncher::Park(_) => {
                self.parked = true;
                self.wanting.clear();
                self.dice.pause().await;
                self.say.push(ToBroker::Dead);
            }
            ToLauncher::Resume => {
                self.parked = false;
                self.want("all");
                if self.dice.below(2) == 0 {
                    self.want("more");
                }
            }
            ToLauncher::Refused { scope, .. } => drop(self.wanting.remove(&scope)),
            ToLauncher::End(_) => {
                self.dice.pause().await;
                self.say.push(ToBroker::Dead);
            }
            ToLauncher::Plan(_) if self.dice.below(2) == 0 => self.want("more"),
            ToLauncher::Decision(decision) => self.decided(&decision)?,
            ToLauncher::Refresh(new) => self.refresh(&new)?,
            ToLauncher::Replace { instance, .. } => self.replace(instance),
            ToLauncher::Beat | ToLauncher::Plan(_) | ToLauncher::Renewed { .. } => {}
        }
        // Also where it is parked: nothing is to come of that.
        for _ in 0..self.dice.below(3) {
            if self.calls < MOST_CALLS {
                self.calls += 1;
                if self.parked {
                    self.early.insert(self.calls);
                }
                let scope = if self.dice.below(2) == 0 { "all" } else { "more" };
                self.say.push(ToBroker::Ask(ask(self.calls, scope)));
            }
        }
        Ok(())
    }
}

async fn launcher(stream: DuplexStream, dice: Dice) -> Result<(), String> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    let wanting = HashSet::from(["all".parse().unwrap()]);
    let mut launcher = Launcher {
        dice,
        parked: false,
        wanting,
        calls: 0,
        early: HashSet::new(),
        say: Vec::new(),
        gone: HashSet::new(),
    };
    while let Ok(Some(line)) = lines.next_line().await {
        launcher.hear(serde_json::from_str(&line).map_err(|error| error.to_string())?).await?;
        for frame in std::mem::take(&mut launcher.say) {
            let line = serde_json::to_string(&frame).unwrap() + "\n";
            if write.write_all(line.as_bytes()).await.is_err() {
                return Ok(());
            }
        }
        if launcher.dice.below(40) == 0 {
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

    /// Waits a while until so many credentials of a session are alive: a mint waits for the disk, and a round that is
    /// over before would race with nothing.
    async fn lives(&self, session: SessionId, count: usize) {
        let live = |lease: &LeaseInfo| lease.session == session && lease.state == LeaseState::Live;
        for _ in 0..60 {
            if self.leases.infos().iter().filter(|lease| live(lease)).count() >= count {
                return;
            }
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Some credentials of a session end in a while, or now.
    fn lose_some(&self, session: SessionId, dice: &mut Dice) {
        for lease in self.leases.infos().into_iter().filter(|lease| lease.session == session) {
            match dice.below(8) {
                0..=3 => {
                    self.sessions.losing_credential(lease.launch, lease.id, Duration::from_secs(20));
                }
                4 => self.sessions.lost_credential(lease.launch, lease.id),
                _ => {}
            }
        }
    }

    /// One session from its first launch to its end, with everything at once.
    async fn round(&self, number: u64) {
        let mut dice = Dice::new(number);
        let login = Arc::new(login(number));
        let session = self.sessions.sign_in(&self.asking(&login)).await.unwrap();
        let mut launchers = Vec::new();
        for _ in 0..4 + dice.below(5) {
            match dice.below(14) {
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
                7..=9 => {
                    self.lives(session, 2).await;
                    sleep(Duration::from_micros(dice.below(6_000))).await;
                    self.lose_some(session, &mut dice);
                    if dice.below(2) == 0 {
                        self.lives(session, 4).await;
                    }
                }
                10 => self.reconfigure(|_| {}),
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
    let world = world();
    world.redefine(|server| {
        let line = |name: &str| (name.to_owned(), format!("{{{name}.value}}").parse().unwrap());
        let content = Content::Json(["a", "b"].map(line).into());
        server.scopes[0].inject =
            vec![Injection::File { name: "F".to_owned(), content, reread: true, signal: None }];
        server.scopes[1].confirm = Some(Confirm::Each);
    });
    *world.backend.life.lock().unwrap() = Some(Duration::from_secs(60));
    let world = Arc::new(world);
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
    while !world.sessions.launches().is_empty() {
        sleep(Duration::from_millis(1)).await;
    }
    // What was noted before is on the disk with this.
    world.sessions.audit.record(crate::audit::Event::BrokerStopped { pending: 0 }).await.unwrap();
    let text = std::fs::read_to_string(world.dir.path().join(crate::audit::FILE_NAME)).unwrap();
    let refreshed = text.lines().filter(|line| line.contains("\"instance_refreshed\"")).count();
    assert!(refreshed > usize::try_from(ROUNDS / 100).unwrap(), "only {refreshed} refreshes");
    let allowed = nothing_after_a_fence(&world.dir.path().join(crate::audit::FILE_NAME));
    assert!(allowed > usize::try_from(ROUNDS).unwrap(), "only {allowed} calls were allowed");
}
