//! New credentials for instances that go on: minted as any others while the old ones work, sent, and in place once the
//! launcher says so. What cannot be had now is tried again while the instance lives; where it cannot be had at all,
//! another instance takes its place.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::channel::{EndReason, ToLauncher};
use mcp_broker_proto::launch::Injection;
use mcp_broker_proto::names::{Label, LeaseId};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Launch;
use super::rounds::Step;
use crate::audit::Event;
use crate::fault;
use crate::session::park::Why;
use crate::session::supply::{Mint, Part, Supply};

/// A credential that is said to be lost, and ends so much later by what was known of it, is gone before its time.
const NATURAL: Duration = Duration::from_secs(5);

/// Another instance needs some time to come up: with less than this left, this one is given up at once.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// The longest that an instance may stay that is to be replaced, where no end of its credentials is known.
const LONGEST_STAY: Duration = Duration::from_secs(30);

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// A lease was renewed. A launcher that tells the server until when it may keep the credential has to know.
    pub(super) async fn renewed(&mut self, lease: LeaseId, until: Timestamp) -> Result<(), EndReason> {
        let Some((instance, name)) = self.instances.with(lease) else { return Ok(()) };
        let asks = |way: &Injection| way.is_asked() && way.credentials().contains(&&name);
        let grant = self.instances.staying(instance);
        if grant.is_some_and(|grant| grant.scope().inject.iter().any(asks)) {
            return self.send(&ToLauncher::Renewed { lease, expires_at: until.to_string() }).await;
        }
        Ok(())
    }

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
        fault::passing("refresh.sending").await;
        self.send(&ToLauncher::Refresh(Box::new(supply.refresh(instance)))).await?;
        fault::passing("refresh.sent").await;
        Ok(())
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
        fault::passing("refresh.answered").await;
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
