//! Credentials for the scopes of a launch: asked for, minted, delivered. At most one request of a scope is open,
//! several scopes are minted for at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mcp_broker_proto::channel::{EndReason, ToLauncher};
use mcp_broker_proto::launch::LaunchTicket;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::problem::Problem;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::Launch;
use crate::audit::{AuditLog, Event};
use crate::fault;
use crate::policy::Grant;
use crate::session::seat::Pass;
use crate::session::supply::{self, Mint, Part, Supply};
use crate::session::words;

/// After a refusal a scope is not looked at for so long, as each refusal is written down. A launcher waits longer
/// by itself.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);

/// What is being minted.
#[derive(Default)]
pub(super) struct Wants {
    open: BTreeMap<Label, Mint>,
    /// No request of a scope is looked at before that, after one that was refused. Known scopes only.
    not_before: BTreeMap<Label, Instant>,
}

impl Wants {
    /// Whether nothing is being minted.
    pub(super) fn none(&self) -> bool {
        self.open.is_empty()
    }

    /// How many mints run.
    fn count(&self) -> usize {
        self.open.len()
    }

    /// The next one that is done. May be dropped at any time without loss.
    pub(super) async fn minted(&mut self) -> (Label, Result<Supply, Problem>) {
        std::future::poll_fn(|context| {
            for (scope, mint) in &mut self.open {
                if let Poll::Ready(result) = mint.poll(context) {
                    return Poll::Ready((scope.clone(), result));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// Those that run, to be given up.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Mint> + use<> {
        std::mem::take(&mut self.open).into_values()
    }

    fn pauses(&self, scope: &Label) -> bool {
        self.not_before.get(scope).is_some_and(|not_before| Instant::now() < *not_before)
    }
}

impl<S: AsyncRead + AsyncWrite + Send> Launch<S> {
    /// Asks for credentials for an instance of a scope, unless that is being done already. `fresh`: the launch was
    /// admitted just now, so that its own decision holds.
    pub(super) async fn want(&mut self, scope: Label, fresh: bool) -> Result<(), EndReason> {
        if self.wants.open.contains_key(&scope) {
            return Ok(());
        }
        self.look_at_policy().await?;
        self.look_at_plan().await?;
        if !self.knows(&scope) {
            let problem = words::no_such_scope(&self.asked.request.server, &scope);
            return self.send(&ToLauncher::Refused { scope, problem }).await;
        }
        if self.instances.full(&scope, self.wants.count()) || self.wants.pauses(&scope) {
            return self.send(&ToLauncher::Refused { scope, problem: words::too_fast() }).await;
        }
        let pass =
            match self.seat.pass().and_then(|pass| self.sessions.paced(self.asked.person.uid).map(|()| pass))
            {
                Ok(pass) => pass,
                Err(problem) => return self.refuse(scope, problem).await,
            };
        let grant = if fresh { self.asked.standing.clone().ok() } else { None };
        let order = self.order(scope.clone(), grant, None, pass);
        self.wants.open.insert(scope, Mint::begin(self.instances.number(), order));
        self.parked = None;
        self.show();
        Ok(())
    }

    /// What is minted for a scope; all of it, unless a `part` is named.
    pub(super) fn order(
        &self,
        scope: Label,
        grant: Option<Grant>,
        part: Option<Part>,
        pass: Pass,
    ) -> supply::Order {
        supply::Order {
            sessions: Arc::clone(&self.sessions),
            launch: self.seat.launch,
            session: self.seat.session,
            request: self.asked.request.clone(),
            person: self.asked.person.clone(),
            scope,
            grant,
            part,
            pass,
        }
    }

    pub(super) async fn refuse(&mut self, scope: Label, problem: Problem) -> Result<(), EndReason> {
        self.wants.open.remove(&scope);
        self.wants.not_before.insert(scope.clone(), Instant::now() + REFUSAL_PAUSE);
        if self.instances.none() && self.wants.none() {
            self.parked = Some(problem.title.clone());
        }
        self.show();
        self.send(&ToLauncher::Refused { scope, problem }).await
    }

    /// Hands the credentials over, unless the fence fell or there is nobody to take them.
    pub(super) async fn deliver(&mut self, scope: Label, supply: Supply) -> Result<(), EndReason> {
        let Some(mint) = self.wants.open.remove(&scope) else { return Ok(()) };
        if let Err(problem) = self.still_allowed(&supply).await? {
            return self.refuse(scope, problem).await;
        }
        if !self.hands_over(&supply)? {
            return Ok(());
        }
        self.instances.add(mint.instance, supply.grant.clone(), supply.leases());
        self.asked.person = supply.person.clone();
        let idle = supply.grant.scope().idle;
        let idle = idle.unwrap_or_else(|| self.sessions.config.borrow().session.idle);
        let ticket = supply.ticket(self.seat.launch, mint.instance, idle);
        fault::passing("launch.ticket-sending").await;
        self.send(&ToLauncher::Ticket(Box::new(LaunchTicket::Secrets(ticket)))).await?;
        fault::passing("launch.ticket-sent").await;
        Ok(())
    }
    /// Whether what was minted may still be had: access may have been lost since that was decided. It is ended where
    /// it may not.
    pub(super) async fn still_allowed(&mut self, supply: &Supply) -> Result<Result<(), Problem>, EndReason> {
        let looked = self.look_at_policy().await;
        if let (Ok(()), Ok(_)) = (looked, &self.asked.standing) {
            return Ok(Ok(()));
        }
        self.sessions.leases.end(supply.minted.iter().map(|one| one.lease), EndReason::MintFailed);
        looked?;
        let Err(problem) = &self.asked.standing else { return Ok(Ok(())) };
        let (launch, scope) = (self.seat.launch, supply.grant.scope().name.clone());
        let (code, reasons) = (problem.code, self.asked.against.clone());
        self.sessions.audit.note(Event::InstanceDenied { launch, scope, code, reasons });
        Ok(Err(problem.clone()))
    }

    /// Writes down that it is delivered. False where the fence fell meanwhile: then it is ended, and the order that
    /// comes with the fence says the rest.
    pub(super) fn hands_over(&self, supply: &Supply) -> Result<bool, EndReason> {
        let alive = self.peer.alive();
        self.sessions.look_at_clocks();
        let launch = self.seat.launch;
        let leases = || supply.minted.iter().map(|one| one.lease);
        let write_down = |audit: &AuditLog| {
            leases().for_each(|lease| audit.note(Event::CredentialDelivered { lease, launch }));
        };
        if alive && self.seat.delivers(&supply.pass, write_down) {
            return Ok(true);
        }
        self.sessions.leases.end(leases(), EndReason::MintFailed);
        if alive { Ok(false) } else { Err(EndReason::LauncherGone) }
    }
}
