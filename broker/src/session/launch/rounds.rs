//! The refreshes of a launch as rounds: one of an instance at a time, from the word that it needs one to the word that
//! it has it. Decides when; what is minted and sent is for those who ask.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Poll;
use std::time::Duration;

use mcp_broker_proto::names::{Label, LeaseId};
use mcp_broker_proto::problem::Problem;
use tokio::time::{Instant, sleep_until};

use crate::lease::jittered;
use crate::session::supply::{Mint, Supply};

/// The pause after the first refresh that failed; it doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// A launcher has so long to say that new credentials are where they belong. It writes a few small files.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

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
    pub(super) fn wants(&mut self, instance: u32, name: Label, lease: LeaseId) -> bool {
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
    pub(super) fn waits_for(&self, instance: u32) -> Option<&BTreeSet<Label>> {
        let round = self.0.get(&instance)?;
        matches!(round.stage, Stage::Waits(_)).then_some(&round.wanted)
    }

    pub(super) fn mints(&mut self, instance: u32, names: BTreeSet<Label>, mint: Mint) {
        if let Some(round) = self.0.get_mut(&instance) {
            round.wanted.retain(|name| !names.contains(name));
            round.stage = Stage::Mints(names, mint);
        }
    }

    pub(super) fn sent(&mut self, instance: u32, new: Vec<(Label, LeaseId)>) {
        if let Some(round) = self.0.get_mut(&instance) {
            round.stage = Stage::Sent(new, Instant::now() + ANSWER_LIMIT);
        }
    }

    /// It failed for now, and is tried again after a while.
    pub(super) fn again(&mut self, instance: u32) {
        let Some(round) = self.0.get_mut(&instance) else { return };
        if let Stage::Mints(names, _) | Stage::Minted(names) = &mut round.stage {
            round.wanted.append(names);
        }
        round.stage = Stage::Waits(Instant::now() + jittered(round.pause));
        round.pause = (round.pause * 2).min(LONGEST_PAUSE);
    }

    /// What the round of the instance is about.
    pub(super) fn names(&self, instance: u32) -> BTreeSet<Label> {
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
    pub(super) fn answered(&mut self, instance: u32, leases: &[LeaseId]) -> bool {
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
