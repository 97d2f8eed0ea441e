//! New credentials for instances that go on: minted as any others while the old ones work, sent, and in place once the
//! launcher says so. One refresh of an instance at a time. What cannot be had now is tried again while the instance
//! lives; where it cannot be had at all, another instance takes its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mcp_broker_proto::channel::{EndReason, ToLauncher};
use mcp_broker_proto::names::{Label, LeaseId};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::Launch;
use crate::audit::Event;
use crate::lease::jittered;
use crate::session::park::Why;
use crate::session::supply::{Mint, Part, Supply};

/// The pause after the first refresh that failed; it doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A launcher has so long to say that new credentials are where they belong. It writes a few small files.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// A credential that is said to be lost, and ends so much later by what was known of it, is gone before its time.
const NATURAL: Duration = Duration::from_secs(5);

/// Another instance needs some time to come up: with less than this left, this one is given up at once.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// The longest that an instance may stay that is to be replaced, where no end of its credentials is known.
const LONGEST_STAY: Duration = Duration::from_secs(30);

/// The refreshes of a launch, by instance.
#[derive(Default)]
pub(super) struct Refreshes(BTreeMap<u32, Round>);

struct Round {
    /// The credentials that come next.
    wanted: BTreeSet<Label>,
    /// The pause after the next failure.
    pause: Duration,
    stage: Stage,
}

enum Stage {
    /// It begins then.
    Waits(Instant),
    /// These are being minted.
    Mints(BTreeSet<Label>, Mint),
    /// These were minted, and are being handed over.
    Minted(BTreeSet<Label>),
    /// These were sent, and the launcher has to say until then that they are in place.
    Sent(Vec<(Label, LeaseId)>, Instant),
}

/// What happens next in a round.
pub(super) enum Step {
    /// Its mint is done.
    Minted(Result<Supply, Problem>),
    /// Its time has come: to begin, or for an answer that did not come.
    Due,
}

impl Refreshes {
    /// The next step of any round. May be dropped at any time without loss.
    pub(super) async fn next(&mut self) -> (u32, Step) {
        let due = self.0.iter().filter_map(|(instance, round)| match &round.stage {
            Stage::Waits(at) | Stage::Sent(_, at) => Some((*at, *instance)),
            Stage::Mints(..) | Stage::Minted(_) => None,
        });
        let due = due.min();
        let minted = std::future::poll_fn(|context| {
            for (instance, round) in &mut self.0 {
                if let Stage::Mints(names, mint) = &mut round.stage
                    && let Poll::Ready(result) = mint.poll(context)
                {
                    round.stage = Stage::Minted(std::mem::take(names));
                    return Poll::Ready((*instance, Step::Minted(result)));
                }
            }
            Poll::Pending
        });
        let Some((at, instance)) = due else { return minted.await };
        tokio::select! {
            biased;
            minted = minted => minted,
            () = sleep_until(at) => (instance, Step::Due),
        }
    }

    /// A credential of an instance needs another one in its place. Answers whether a round is to begin for that.
    fn wants(&mut self, instance: u32, name: Label, lease: LeaseId) -> bool {
        let Some(round) = self.0.get_mut(&instance) else {
            let stage = Stage::Waits(Instant::now());
            self.0.insert(instance, Round { wanted: BTreeSet::from([name]), pause: FIRST_PAUSE, stage });
            return true;
        };
        let under_way = match &round.stage {
            Stage::Waits(_) => false,
            Stage::Mints(names, _) | Stage::Minted(names) => names.contains(&name),
            // Said of one that was just sent, it is that one which needs another.
            Stage::Sent(new, _) => new.iter().any(|(sent, id)| *sent == name && *id != lease),
        };
        if !under_way {
            round.wanted.insert(name);
        }
        false
    }

    /// What a round of the instance is to mint, while it waits to begin.
    fn waits_for(&self, instance: u32) -> Option<&BTreeSet<Label>> {
        let round = self.0.get(&instance)?;
        matches!(round.stage, Stage::Waits(_)).then_some(&round.wanted)
    }

    fn mints(&mut self, instance: u32, names: BTreeSet<Label>, mint: Mint) {
        if let Some(round) = self.0.get_mut(&instance) {
            round.wanted.retain(|name| !names.contains(name));
            round.stage = Stage::Mints(names, mint);
        }
    }

    fn sent(&mut self, instance: u32, new: Vec<(Label, LeaseId)>) {
        if let Some(round) = self.0.get_mut(&instance) {
            round.stage = Stage::Sent(new, Instant::now() + ANSWER_LIMIT);
        }
    }

    /// It failed for now, and is tried again after a while.
    fn again(&mut self, instance: u32) {
        let Some(round) = self.0.get_mut(&instance) else { return };
        if let Stage::Mints(names, _) | Stage::Minted(names) = &mut round.stage {
            round.wanted.append(names);
        }
        round.stage = Stage::Waits(Instant::now() + jittered(round.pause));
        round.pause = (round.pause * 2).min(LONGEST_PAUSE);
    }

    /// What the round of the instance is about.
    fn names(&self, instance: u32) -> BTreeSet<Label> {
        let Some(round) = self.0.get(&instance) else { return BTreeSet::new() };
        let mut names = round.wanted.clone();
        match &round.stage {
            Stage::Waits(_) => {}
            Stage::Mints(more, _) | Stage::Minted(more) => names.extend(more.iter().cloned()),
            Stage::Sent(new, _) => names.extend(new.iter().map(|(name, _)| name.clone())),
        }
        names
    }

    /// The launcher answered for an instance; false where that was not asked of it.
    fn answered(&mut self, instance: u32, leases: &[LeaseId]) -> bool {
        let Some(round) = self.0.get_mut(&instance) else { return false };
        let Stage::Sent(new, _) = &round.stage else { return false };
        let (mut sent, mut told): (Vec<_>, _) = (new.iter().map(|(_, id)| *id).collect(), leases.to_vec());
        sent.sort_unstable();
        told.sort_unstable();
        if sent != told {
            return false;
        }
        if round.wanted.is_empty() {
            self.0.remove(&instance);
        } else {
            (round.stage, round.pause) = (Stage::Waits(Instant::now()), FIRST_PAUSE);
        }
        true
    }

    /// The instance needs none any more: its mint, where one runs, is to be given up.
    pub(super) fn take_of(&mut self, instance: u32) -> Option<Mint> {
        self.0.remove(&instance).and_then(Round::into_mint)
    }

    /// Those that run, to be given up.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Mint> + use<> {
        std::mem::take(&mut self.0).into_values().filter_map(Round::into_mint)
    }
}

impl Round {
    fn into_mint(self) -> Option<Mint> {
        match self.stage {
            Stage::Mints(_, mint) => Some(mint),
            Stage::Waits(_) | Stage::Minted(_) | Stage::Sent(..) => None,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// A lease ends for good in a while: where the scope lets it, its instance is refreshed, and replaced elsewhere.
    pub(super) async fn ending(&mut self, lease: LeaseId, within: Duration) -> Result<(), EndReason> {
        let Some((instance, name)) = self.instances.with(lease) else { return Ok(()) };
        match self.instances.staying(instance) {
            Some(grant) if grant.scope().refreshed_with(&name).is_some() => {
                if self.refreshes.wants(instance, name, lease) {
                    self.refresh(instance).await
                } else {
                    Ok(())
                }
            }
            Some(_) => self.send(&ToLauncher::Replace { instance, within_secs: within.as_secs() }).await,
            // It was told so.
            None => Ok(()),
        }
    }

    /// A lease ends now. An instance that is being refreshed keeps what it has until that: its launcher serves
    /// nothing that has expired.
    pub(super) async fn lost(&mut self, lease: LeaseId) -> Result<(), EndReason> {
        let Some((instance, name)) = self.instances.with(lease) else { return Ok(()) };
        let natural = self.sessions.leases.left_of(lease).is_some_and(|left| left <= NATURAL);
        let stays = self.instances.staying(instance);
        if natural && stays.is_some_and(|grant| grant.scope().refreshed_with(&name).is_some()) {
            self.sessions.leases.run_out([lease]);
            return self.ending(lease, Duration::ZERO).await;
        }
        self.without(instance, [lease]).await
    }

    /// An instance cannot go on, as these leases of it are over.
    async fn without(
        &mut self,
        instance: u32,
        leases: impl IntoIterator<Item = LeaseId>,
    ) -> Result<(), EndReason> {
        self.is_left(instance);
        // Another one has taken over, or other scopes go on; this one is to be finished with.
        if self.instances.others_go_on(instance) {
            self.sessions.leases.end(leases, EndReason::CredentialEnded);
            return self.send(&ToLauncher::Replace { instance, within_secs: 0 }).await;
        }
        self.park(Why::CredentialEnded).await
    }

    /// What is next in the round of an instance.
    pub(super) async fn step(&mut self, instance: u32, step: Step) -> Result<(), EndReason> {
        match step {
            Step::Minted(Ok(supply)) => self.send_refresh(instance, supply).await,
            Step::Minted(Err(problem)) => self.not_refreshed(instance, &problem).await,
            Step::Due if self.refreshes.waits_for(instance).is_some() => self.refresh(instance).await,
            Step::Due => {
                tracing::warn!(launch = %self.seat.launch, instance, "a refresh was not answered");
                self.swap(instance, &self.refreshes.names(instance)).await
            }
        }
    }

    /// Begins to mint what a round waits for, and what has to be renewed together with it.
    async fn refresh(&mut self, instance: u32) -> Result<(), EndReason> {
        self.look_at_policy().await?;
        let Some(grant) = self.instances.staying(instance).cloned() else {
            self.is_left(instance);
            return Ok(());
        };
        let Some(wanted) = self.refreshes.waits_for(instance) else { return Ok(()) };
        let group = wanted.iter().filter_map(|name| grant.scope().refreshed_with(name));
        let names: BTreeSet<_> = group.flatten().collect();
        // What forbids it comes as an order, and takes the round along.
        let Ok(pass) = self.seat.pass() else {
            self.refreshes.again(instance);
            return Ok(());
        };
        let part = Part { names: names.clone(), of: grant };
        let order = self.order(part.of.scope().name.clone(), None, Some(part), pass);
        self.refreshes.mints(instance, names, Mint::begin(instance, order));
        Ok(())
    }

    /// Hands new credentials over under the rules of a ticket.
    async fn send_refresh(&mut self, instance: u32, supply: Supply) -> Result<(), EndReason> {
        if let Err(problem) = self.still_allowed(&supply).await? {
            return self.not_refreshed(instance, &problem).await;
        }
        if !self.hands_over(&supply)? {
            self.refreshes.again(instance);
            return Ok(());
        }
        let new = supply.leases();
        self.instances.send(instance, new.clone());
        self.refreshes.sent(instance, new);
        self.asked.person = supply.person.clone();
        self.send(&ToLauncher::Refresh(Box::new(supply.refresh(instance)))).await
    }

    /// The launcher says whether new credentials are where they belong. Of anything else that is out of turn.
    pub(super) async fn refreshed(
        &mut self,
        instance: u32,
        leases: Vec<LeaseId>,
        failed: bool,
    ) -> Result<(), EndReason> {
        let names = self.refreshes.names(instance);
        if !self.refreshes.answered(instance, &leases) {
            return Ok(());
        }
        let launch = self.seat.launch;
        self.sessions.audit.note(Event::InstanceRefreshed { launch, instance, leases, failed });
        let ledger = Arc::clone(&self.sessions.leases);
        if failed {
            ledger.end(self.instances.gave_back(instance), EndReason::MintFailed);
            return self.swap(instance, &names).await;
        }
        ledger.retire(self.instances.took(instance, |lease| ledger.is_open(lease)));
        self.refresh(instance).await
    }

    /// A refresh was not minted: what passes is tried again, and for anything else there is another instance, which
    /// is refused for the same reason where that stands.
    async fn not_refreshed(&mut self, instance: u32, problem: &Problem) -> Result<(), EndReason> {
        tracing::info!(launch = %self.seat.launch, instance, code = ?problem.code, "not refreshed");
        if passes(problem.code) {
            self.refreshes.again(instance);
            return Ok(());
        }
        self.swap(instance, &self.refreshes.names(instance)).await
    }

    /// Has another instance take the place of one whose credentials of these names cannot be refreshed.
    async fn swap(&mut self, instance: u32, names: &BTreeSet<Label>) -> Result<(), EndReason> {
        if !self.is_left(instance) {
            return Ok(());
        }
        let held = self.instances.holds(instance).iter().filter(|(name, _)| names.contains(name));
        let held: Vec<_> = held.map(|(_, lease)| *lease).collect();
        let left = held.iter().filter_map(|lease| self.sessions.leases.left_of(*lease)).min();
        let within = left.unwrap_or(LONGEST_STAY).saturating_sub(LAST_MOMENT).as_secs();
        match within {
            0 => self.without(instance, held).await,
            within_secs => self.send(&ToLauncher::Replace { instance, within_secs }).await,
        }
    }

    /// Another instance is to take the place of this one, which is not refreshed any more. False where that was known.
    fn is_left(&mut self, instance: u32) -> bool {
        if let Some(mint) = self.refreshes.take_of(instance) {
            drop(mint.void(&self.sessions, EndReason::Replaced));
        }
        self.instances.leaves(instance)
    }
}

/// Whether the same may succeed later without anybody doing anything. Where a fence fell, the order that comes with
/// it says the rest.
fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::ProviderUnreachable
            | ErrorCode::ProviderBusy
            | ErrorCode::ProviderBroken
            | ErrorCode::StorageUnavailable
            | ErrorCode::PeerGone
            | ErrorCode::SessionLocked
            | ErrorCode::Stopping
    )
}
