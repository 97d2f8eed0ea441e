//! One request for credentials: who is it now, may it still, the right to mint, and the mint. A task of its own:
//! it is finished, and what it minted is known, whatever happens to the stream.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::launch::{IssuedCredential, LaunchRequest, Refresh, SecretsTicket};
use mcp_broker_proto::names::{Label, LaunchId, LeaseId, SessionId};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use tokio::task::JoinHandle;

use super::registry::Sessions;
use super::seat::Pass;
use super::sign_in::{Person, os};
use super::words;
use crate::audit::Event;
use crate::lease::{LaunchTag, Minted};
use crate::policy::Grant;

/// What an instance is minted from.
pub(super) struct Order {
    pub(super) sessions: Arc<Sessions>,
    pub(super) launch: LaunchId,
    pub(super) session: SessionId,
    pub(super) request: LaunchRequest,
    pub(super) person: Person,
    pub(super) scope: Label,
    /// What was decided just now; later requests are decided anew.
    pub(super) grant: Option<Grant>,
    /// Where it is for an instance that runs: what of its scope, and what it was started by.
    pub(super) part: Option<Part>,
    pub(super) pass: Pass,
}

/// Credentials of a scope that are to reach an instance that runs.
pub(super) struct Part {
    pub(super) names: BTreeSet<Label>,
    /// The decision that the instance was started by.
    pub(super) of: Grant,
}

impl Part {
    /// Whether an instance that was started by another decision is still what this one allows, and can take these
    /// credentials as it takes those that it has. What a credential is made from may have changed: that is in force.
    fn fits(&self, grant: &Grant) -> bool {
        let (old, new) = (self.of.server(), grant.server());
        let same = Arc::ptr_eq(old, new)
            || (old.command == new.command && old.env == new.env && old.cwd == new.cwd)
                && self.of.scope().inject == grant.scope().inject;
        let has = |name: &Label| grant.scope().credentials.iter().any(|spec| spec.name == *name);
        same && self.names.iter().all(has)
    }
}

/// What came of it.
pub(super) struct Supply {
    pub(super) grant: Grant,
    pub(super) person: Person,
    pub(super) pass: Pass,
    pub(super) minted: Vec<Minted>,
}

/// A mint that runs.
pub(super) struct Mint {
    pub(super) instance: u32,
    handle: JoinHandle<Result<Supply, Problem>>,
}

impl Mint {
    pub(super) fn begin(instance: u32, order: Order) -> Self {
        Self { instance, handle: tokio::spawn(order.fill()) }
    }

    /// What came of it, once it is done.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Supply, Problem>> {
        Pin::new(&mut self.handle).poll(context).map(|done| {
            done.unwrap_or_else(|_panicked| {
                let hint = "read the broker's log, and report it";
                Err(Problem::new(ErrorCode::Internal, "the broker failed to mint", hint))
            })
        })
    }

    /// Nobody wants it any more: what it still brings is ended.
    pub(super) fn void(self, sessions: &Arc<Sessions>, reason: EndReason) -> JoinHandle<()> {
        let leases = Arc::clone(&sessions.leases);
        tokio::spawn(async move {
            if let Ok(Ok(supply)) = self.handle.await {
                leases.end(supply.minted.iter().map(|one| one.lease), reason);
            }
        })
    }
}

impl Order {
    async fn fill(self) -> Result<Supply, Problem> {
        let (person, grant) = match self.grant {
            Some(grant) => (self.person, grant),
            None => {
                let person = os::person(self.person.uid).await?;
                let grant = self.sessions.decide(&self.request, &person).map_err(|(problem, reasons)| {
                    let (launch, scope, code) = (self.launch, self.scope.clone(), problem.code);
                    self.sessions.audit.note(Event::InstanceDenied { launch, scope, code, reasons });
                    problem
                })?;
                (person, grant)
            }
        };
        let grant = grant.of_scope(&self.scope);
        let grant = grant.ok_or_else(|| words::no_such_scope(&self.request.server, &self.scope))?;
        let tag = LaunchTag {
            launch: self.launch,
            session: self.session,
            user: person.user.clone(),
            horizon: self.pass.horizon,
            fence: self.pass.fence.clone(),
        };
        if self.part.as_ref().is_some_and(|part| !part.fits(&grant)) {
            return Err(words::other_definition(&self.request.server));
        }
        let names = self.part.as_ref().map(|part| &part.names);
        let minted = self.sessions.leases.mint_part(&grant, &tag, names).await?;
        Ok(Supply { grant, person, pass: self.pass, minted })
    }
}

impl Supply {
    /// The frame's content; the secrets move into it.
    pub(super) fn ticket(self, launch: LaunchId, instance: u32, idle: Duration) -> SecretsTicket {
        let server = self.grant.server();
        SecretsTicket {
            launch,
            instance,
            server: server.name.clone(),
            scope: self.grant.scope().name.clone(),
            idle_secs: idle.as_secs(),
            command: server.command.iter().chain(self.grant.args()).cloned().collect(),
            env: server.env.clone(),
            cwd: server.cwd.replacen("{home}", &self.person.home.to_string_lossy(), 1),
            credentials: wired(self.minted),
            inject: self.grant.scope().inject.clone(),
        }
    }

    /// The same for an instance that runs.
    pub(super) fn refresh(self, instance: u32) -> Refresh {
        Refresh { instance, credentials: wired(self.minted) }
    }

    /// The leases by the names of their credentials.
    pub(super) fn leases(&self) -> Vec<(Label, LeaseId)> {
        self.minted.iter().map(|one| (one.name.clone(), one.lease)).collect()
    }
}

fn wired(minted: Vec<Minted>) -> BTreeMap<Label, IssuedCredential> {
    let credential = |one: Minted| {
        let issued = IssuedCredential {
            lease: one.lease,
            fields: one.fields,
            plain: one.plain.iter().map(|name| (*name).to_owned()).collect(),
            // Not rounded: what is said here is promised.
            expires_at: one.expires_at.map(|at| at.to_string()),
            revocability: one.revocability,
        };
        (one.name, issued)
    };
    minted.into_iter().map(credential).collect()
}
