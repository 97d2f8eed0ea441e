//! Ends credentials: asks the provider until it can prove the end, and says the truth meanwhile. Never waits
//! for the audit log or the journal.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{Label, LaunchId, LeaseId};
use mcp_broker_proto::session::Revocability;
use tokio::sync::broadcast;
use tokio::time::{sleep, timeout};

use super::Leases;
use super::book::Entry;
use super::record::{Record, What};
use super::renew::jittered;
use super::state::{Ending, State};
use crate::audit::Event;
use crate::clock::shown;
use crate::fault;
use crate::provider::{Blame, Proof, ProviderError, Revocation};

/// What became of a credential that was to be ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Its end was verified.
    Verified,
    /// It is a static value, or lives until its expiry: it is no longer handed out.
    NotRevocable,
    /// It expired before its end could be verified.
    Expired,
    /// Nothing was made that is known of.
    NothingMade,
}

/// One try must be done in this time.
pub(super) const TRY_LIMIT: Duration = Duration::from_secs(15);

/// The pause after the first failed try; it doubles up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// An expiry counts so long after it passed, for clocks that differ.
const EXPIRY_MARGIN: Duration = Duration::from_secs(60);

impl Leases {
    /// Begins to end these credentials, each on its own. Ids that are unknown or ending already are passed over.
    pub fn end(self: &Arc<Self>, ids: impl IntoIterator<Item = LeaseId>, reason: EndReason) {
        for id in ids {
            if self.book.begin_end(id, reason) {
                tokio::spawn(Arc::clone(self).settle(id, Duration::ZERO));
            }
        }
    }

    /// Ends whatever a launch has, known to it or not.
    pub fn end_launch(self: &Arc<Self>, launch: LaunchId, reason: EndReason) {
        self.end(self.book.of_launch(launch), reason);
    }

    /// Ends a credential whose mint failed, `rest` after now. One that never got a handle is simply settled.
    pub(super) fn abandon(self: &Arc<Self>, id: LeaseId, rest: Duration) {
        if self.book.begin_end(id, EndReason::MintFailed) {
            tokio::spawn(Arc::clone(self).settle(id, rest));
        }
    }

    /// What becomes of credentials from now on.
    #[must_use]
    pub fn outcomes(&self) -> broadcast::Receiver<(LeaseId, Outcome)> {
        self.outcomes.subscribe()
    }

    /// Tries until the end is verified or the expiry has passed.
    pub(super) async fn settle(self: Arc<Self>, id: LeaseId, rest: Duration) {
        fault::passing("end.begun").await;
        // Even a sleep of nothing takes a tick of the timer.
        if !rest.is_zero() {
            sleep(rest).await;
        }
        fault::passing("end.rested").await;
        let mut sleeper = self.wake.sleeper();
        let Some((entry, ending)) = self.ending(id) else { return };
        if let Some(revocation) = self.end_with_parent(id, &entry, &ending).await {
            fault::passing("end.revoked").await;
            return self.settled(id, &entry, Some(&revocation));
        }
        loop {
            let awakening = sleeper.awakening();
            let Some((entry, ending)) = self.ending(id) else { return };
            let error = match self.try_once(id, &entry, &ending).await {
                Ok(revocation) => {
                    fault::passing("end.revoked").await;
                    self.tell_those_below(id, revocation.as_ref());
                    return self.settled(id, &entry, revocation.as_ref());
                }
                Err(error) => error,
            };
            self.tell_those_below(id, None);
            self.wake.tried(id, awakening);
            tracing::warn!(lease = %id, %error, "a revocation failed and is tried again");
            let Some(ending) = self.book.trouble(id, error.what.clone()) else { return };
            let passed = |at: &Timestamp| self.has_expired(id, *at, EXPIRY_MARGIN);
            if let Some(expired_at) = ending.expires_at.filter(passed).filter(|_| !self.lingers(id, &entry)) {
                self.audit.note(Event::CredentialExpired { lease: id, expired_at: shown(expired_at) });
                return self.close(id, Outcome::Expired);
            }
            if ending.attempts == 1 {
                let expires_at = ending.expires_at.map(shown);
                self.audit.note(Event::RevocationPending {
                    lease: id,
                    expires_at,
                    attempt: 1,
                    code: error.to_problem().code,
                });
            }
            sleeper.sleep(pause(ending.attempts, &error)).await;
        }
    }

    /// Whether something is left of it after its end.
    fn lingers(&self, id: LeaseId, entry: &Entry) -> bool {
        let State::Ending(Ending { handle: Some(handle), .. }) = &entry.state else { return false };
        self.maker(id, entry.what.provider()).is_some_and(|maker| maker.lingers(handle))
    }

    pub(super) fn ending(&self, id: LeaseId) -> Option<(Entry, Ending)> {
        let entry = self.book.get(id)?;
        match entry.state.clone() {
            State::Ending(ending) => Some((entry, ending)),
            _ => None,
        }
    }

    /// `None` when nothing was made that has a handle.
    async fn try_once(
        &self,
        id: LeaseId,
        entry: &Entry,
        ending: &Ending,
    ) -> Result<Option<Revocation>, ProviderError> {
        let Some(handle) = &ending.handle else { return Ok(None) };
        let name = entry.what.provider();
        let provider = self.maker(id, name).ok_or_else(|| {
            let what = format!("provider `{name}` is no longer configured");
            ProviderError::new(
                Blame::Config,
                what,
                "put it back into broker.toml, so that this can be revoked",
            )
        })?;
        let handle = handle.clone();
        guarded(name, async move { provider.revoke(&handle).await }).await.map(Some)
    }

    fn settled(&self, lease: LeaseId, entry: &Entry, revocation: Option<&Revocation>) {
        let (event, outcome, lives_on) = match revocation {
            // Never prepared: there is nothing to prove, and the audit log has the failure.
            None => return self.close(lease, Outcome::NothingMade),
            Some(Revocation::Revoked(_) | Revocation::AlreadyGone(_)) if is_static(entry) => {
                (Event::CredentialWithheld { lease, lives_until: None }, Outcome::NotRevocable, None)
            }
            Some(Revocation::Revoked(proof)) => (revoked(lease, *proof, false), Outcome::Verified, None),
            Some(Revocation::AlreadyGone(proof)) => (revoked(lease, *proof, true), Outcome::Verified, None),
            Some(Revocation::NeverMade) => return self.close(lease, Outcome::NothingMade),
            Some(Revocation::Denied { until, by }) => {
                let event = Event::CredentialDenied { lease, by: by.word(), lives_until: shown(*until) };
                (event, Outcome::NotRevocable, None)
            }
            Some(Revocation::ExpiresAt(at)) => {
                let lives_until = at.map(shown);
                (Event::CredentialWithheld { lease, lives_until }, Outcome::NotRevocable, *at)
            }
        };
        tracing::debug!(%lease, what = kind(&entry.what), ?outcome, "settled");
        self.audit.note(event);
        match lives_on.filter(|until| *until > self.clock.now()) {
            Some(until) => drop(self.book.withhold(lease, until, self.now())),
            None => drop(self.book.step(Record::Settled { id: lease })),
        }
        self.closed(lease, outcome);
    }

    fn close(&self, id: LeaseId, outcome: Outcome) {
        drop(self.book.step(Record::Settled { id }));
        self.closed(id, outcome);
    }

    fn closed(&self, id: LeaseId, outcome: Outcome) {
        self.backings.forget(id);
        self.wake.settled(id);
        fault::at("end.settled");
        // Nobody may be listening.
        drop(self.outcomes.send((id, outcome)));
        self.moves.send_replace(());
    }
}

/// One question to a provider, in its time. A task of its own: a panic in a provider must not leave the entry
/// without anybody who tries again.
pub(super) async fn guarded<T: Send + 'static>(
    name: &Label,
    question: impl Future<Output = Result<T, ProviderError>> + Send + 'static,
) -> Result<T, ProviderError> {
    match timeout(TRY_LIMIT, tokio::spawn(question)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_panicked)) => Err(ProviderError::new(
            Blame::Broken,
            format!("provider `{name}` failed inside the broker"),
            "read the broker's log, and report it",
        )),
        Err(_elapsed) => Err(ProviderError::new(
            Blame::Unreachable,
            format!("provider `{name}` did not answer"),
            "see whether it can be reached",
        )),
    }
}

fn revoked(lease: LeaseId, proof: Proof, was_gone: bool) -> Event {
    let proof = match proof {
        Proof::LeaseAndToken => "lease_and_token",
        Proof::LeaseAndParent => "lease_and_parent",
        Proof::Token => "token",
        Proof::Object => "object",
    };
    Event::CredentialRevoked { lease, proof, was_gone }
}

/// A value that was there before and stays: a dead token in front of it changes nothing about that.
fn is_static(entry: &Entry) -> bool {
    let known = match &entry.state {
        State::Ending(ending) => ending.revocability,
        _ => None,
    };
    let guessed = match &entry.what {
        What::Lease(facts) => Some(facts.revocability),
        What::Parent { .. } | What::Orphan { .. } => None,
    };
    known.or(guessed) == Some(Revocability::None)
}

fn kind(what: &What) -> &'static str {
    match what {
        What::Lease(_) => "lease",
        What::Parent { .. } => "parent",
        What::Orphan { .. } => "orphan",
    }
}

fn pause(attempts: u32, error: &ProviderError) -> Duration {
    if let Blame::Busy(Some(asked)) = error.blame {
        return asked.min(LONGEST_PAUSE);
    }
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(8));
    jittered(doubled.min(LONGEST_PAUSE))
}
