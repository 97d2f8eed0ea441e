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
use crate::session::supply::{self, Mint, Supply};
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
        let pass = match self.seat.pass() {
            Ok(pass) => pass,
            Err(problem) => return self.refuse(scope, problem).await,
        };
        let order = supply::Order {
            sessions: Arc::clone(&self.sessions),
            launch: self.seat.launch,
            session: self.seat.session,
            request: self.asked.request.clone(),
            person: self.asked.person.clone(),
            scope: scope.clone(),
            grant: if fresh { self.asked.standing.clone().ok() } else { None },
            pass,
        };
        self.wants.open.insert(scope, Mint::begin(self.instances.number(), order));
        self.parked = None;
        self.show();
        Ok(())
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
        self.instances.add(mint.instance, scope, leases);
        self.asked.person = supply.person.clone();
        let idle = supply.grant.scope().idle;
        let idle = idle.unwrap_or_else(|| self.sessions.config.borrow().session.idle);
        let ticket = supply.ticket(launch, mint.instance, idle);
        fault::passing("launch.ticket-sending").await;
        self.send(&ToLauncher::Ticket(Box::new(LaunchTicket::Secrets(ticket)))).await?;
        fault::passing("launch.ticket-sent").await;
        Ok(())
    }
}
