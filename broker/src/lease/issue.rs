//! Mints the credentials of a grant: intent and handle durable, then the credential. A mint runs in a task of
//! its own, so that nobody who goes away can leave a request half done.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::Secret;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{Label, LaunchId, LeaseId, SessionId};
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::Revocability;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Leases;
use super::failure::{Failure, fenced, internal, too_slow};
use super::record::{LeaseFacts, Record, What};
use super::renew::Ends;
use super::state::Alive;
use crate::audit::Event;
use crate::clock::shown;
use crate::fault;
use crate::policy::Grant;
use crate::provider::{Issued, MINT_LIMIT, MintRequest, Prepared, Provider, REST};

/// For whom a mint is.
#[derive(Clone)]
pub struct LaunchTag {
    /// The launch.
    pub launch: LaunchId,
    /// Its session.
    pub session: SessionId,
    /// The account.
    pub user: String,
    /// What is left of the session.
    pub horizon: Duration,
    /// Falls when the launch must end: nothing is minted after it.
    pub fence: CancellationToken,
}

/// A credential that was minted.
pub struct Minted {
    /// Its lease.
    pub lease: LeaseId,
    /// Its name in the scope.
    pub name: Label,
    /// Its fields.
    pub fields: BTreeMap<String, Secret>,
    /// Names of the fields that are not secret.
    pub plain: &'static [&'static str],
    /// When it ends unless renewed, where it ends at all.
    pub expires_at: Option<Timestamp>,
    /// What revoking it does.
    pub revocability: Revocability,
}

/// How long a mint in flight may take to settle once the fence fell.
const SETTLE_LIMIT: Duration = Duration::from_secs(2);

impl Leases {
    /// Mints everything that the grant's scope needs, or nothing: what was minted beside a failure is ended.
    ///
    /// # Errors
    /// The problem to tell the person.
    pub async fn mint(self: &Arc<Self>, grant: &Grant, tag: &LaunchTag) -> Result<Vec<Minted>, Problem> {
        self.mint_part(grant, tag, None).await
    }

    /// The same for these credentials of the scope only, where some are named.
    ///
    /// # Errors
    /// As [`Self::mint`].
    pub async fn mint_part(
        self: &Arc<Self>,
        grant: &Grant,
        tag: &LaunchTag,
        part: Option<&BTreeSet<Label>>,
    ) -> Result<Vec<Minted>, Problem> {
        let scope = grant.scope();
        let mints: Vec<_> = scope
            .credentials
            .iter()
            .filter(|spec| part.is_none_or(|part| part.contains(&spec.name)))
            .map(|spec| MintRequest {
                lease: LeaseId::fresh(),
                launch: tag.launch,
                session: tag.session,
                user: tag.user.clone(),
                server: grant.server().name.clone(),
                scope: scope.name.clone(),
                spec: spec.clone(),
                horizon: tag.horizon,
                delivered: scope.ways_of(&spec.name),
                refreshes: scope.refreshed_with(&spec.name).is_some(),
            })
            .map(|request| {
                let (leases, fence, id) = (Arc::clone(self), tag.fence.clone(), request.lease);
                (id, tokio::spawn(async move { leases.mint_one(request, fence).await }))
            })
            .collect();
        let mut minted = Vec::new();
        let mut failure = None;
        for (id, mint) in mints {
            match mint.await {
                Ok(Ok(one)) => minted.push(one),
                Ok(Err(problem)) => failure = Some(problem),
                Err(_panicked) => {
                    self.abandon(id, REST);
                    failure = Some(internal());
                }
            }
        }
        match failure {
            None => Ok(minted),
            Some(problem) => {
                self.end(minted.iter().map(|one| one.lease), EndReason::MintFailed);
                Err(problem)
            }
        }
    }

    async fn mint_one(
        self: Arc<Self>,
        request: MintRequest,
        fence: CancellationToken,
    ) -> Result<Minted, Problem> {
        let id = request.lease;
        let result = self.walk(&request, &fence).await;
        if let Err(failure) = &result {
            self.audit.note(Event::CredentialFailed { lease: id, code: failure.problem.code });
            if failure.incident {
                self.audit.note(Event::WrappingOpened { lease: id });
            }
            tracing::info!(lease = %id, code = ?failure.problem.code, "a mint failed");
            self.abandon(id, failure.rest);
        }
        result.map_err(|failure| failure.problem)
    }

    /// The steps of one mint, in the order that makes a crash at any point harmless.
    async fn walk(
        self: &Arc<Self>,
        request: &MintRequest,
        fence: &CancellationToken,
    ) -> Result<Minted, Failure> {
        if fence.is_cancelled() {
            return Err(fenced().into());
        }
        let session_ends = self.clock.boot() + request.horizon;
        tokio::select! {
            () = self.wake.barrier() => {}
            () = fence.cancelled() => return Err(fenced().into()),
        }
        let provider = self.provider(&request.spec.provider).ok_or_else(internal)?;
        let revocability = provider.revocability(&request.spec);
        let deadline = Instant::now() + MINT_LIMIT;

        fault::at("mint.begun");
        let audited = self.audit.put(intended(request));
        let facts = facts(request, revocability);
        self.backings.put(request.lease, &provider);
        // Not waited for: the handle below is what a restart needs, and it comes after this in the file.
        drop(self.book.intend(request.lease, What::Lease(facts)));
        let prepared = self.prepare(&provider, request, fence, deadline).await?;

        fault::passing("mint.prepared").await;
        let (id, handle) = (request.lease, prepared.handle.clone());
        let noted = self.book.step(Record::Prepared { id, provider: request.spec.provider.clone(), handle });
        let noted = noted.ok_or_else(internal)?;
        let (noted, audited) = tokio::join!(noted.durable(), audited.durable());
        noted.and(audited).map_err(|error| error.to_problem())?;

        fault::passing("mint.durable").await;
        let issued = self.issue(&provider, request, prepared, fence, deadline).await?;
        fault::passing("mint.issued").await;
        self.keep(&provider, request, &issued, session_ends).await?;
        fault::passing("mint.done").await;
        if fence.is_cancelled() {
            return Err(fenced().into());
        }
        Ok(Minted {
            lease: id,
            name: request.spec.name.clone(),
            fields: issued.fields,
            plain: issued.plain,
            expires_at: issued.expires_at,
            revocability: issued.revocability,
        })
    }

    async fn prepare(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        fence: &CancellationToken,
        deadline: Instant,
    ) -> Result<Prepared, Failure> {
        let work = async {
            let parent = self.parent(provider, request, fence).await?;
            if fence.is_cancelled() {
                return Err(fenced());
            }
            if let Some(held) = &parent {
                self.backings.hang(request.lease, &held.fall);
            }
            let parent = parent.as_ref().map(|held| &held.parent);
            provider.prepare(request, parent).await.map_err(|error| error.to_problem())
        };
        tokio::select! {
            biased;
            prepared = timeout_at(deadline, work) => match prepared {
                Ok(Ok(prepared)) => Ok(prepared),
                Ok(Err(problem)) => Err(problem.into()),
                Err(_elapsed) => Err(too_slow(request).into()),
            },
            () = fence.cancelled() => Err(fenced().into()),
        }
    }

    /// Waits for the credential; past the deadline, or 2 s after the fence fell, the connection is dropped
    /// and the revocation waits for the backend to come to rest.
    async fn issue(
        &self,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        prepared: Prepared,
        fence: &CancellationToken,
        deadline: Instant,
    ) -> Result<Issued, Failure> {
        if fence.is_cancelled() {
            return Err(fenced().into());
        }
        let give_up = async {
            tokio::select! {
                () = sleep_until(deadline) => too_slow(request),
                () = async { fence.cancelled().await; sleep(SETTLE_LIMIT).await } => fenced(),
            }
        };
        tokio::select! {
            biased;
            issued = provider.issue(request, prepared) => issued.map_err(Failure::from),
            problem = give_up => Err(Failure::unclear(problem)),
        }
    }

    async fn keep(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        issued: &Issued,
        session_ends: Duration,
    ) -> Result<(), Failure> {
        let (id, expires_at, revocability) = (request.lease, issued.expires_at, issued.revocability);
        let alive = Alive {
            handle: issued.handle.clone(),
            expires_at,
            valid_until: issued.valid_until,
            detail: issued.detail.clone(),
            revocability,
        };
        let noted = self.book.step(Record::Live { id, provider: request.spec.provider.clone(), alive });
        // Else not waited for: until it is on the disk, a restart revokes by the handle of `Prepared`.
        if provider.hangs_on(&issued.handle) {
            let noted = noted.ok_or_else(internal)?;
            noted.durable().await.map_err(|error| error.to_problem())?;
        }
        let expires = expires_at.map(shown);
        let detail = issued.detail.clone();
        self.audit.note(Event::CredentialIssued { lease: id, expires_at: expires, revocability, detail });
        if let Some(expires_at) = expires_at {
            self.keep_alive(provider, request, issued, Ends { expires_at, session_ends });
        }
        Ok(())
    }
}

fn facts(request: &MintRequest, revocability: Revocability) -> LeaseFacts {
    LeaseFacts {
        launch: request.launch,
        session: request.session,
        user: request.user.clone(),
        server: request.server.clone(),
        scope: request.scope.clone(),
        credential: request.spec.name.clone(),
        provider: request.spec.provider.clone(),
        delivered: request.delivered.clone(),
        revocability,
    }
}

fn intended(request: &MintRequest) -> Event {
    Event::CredentialIntended {
        lease: request.lease,
        launch: request.launch,
        session: request.session,
        server: request.server.clone(),
        scope: request.scope.clone(),
        credential: request.spec.name.clone(),
        provider: request.spec.provider.clone(),
        ttl_seconds: request.spec.ttl.as_secs(),
    }
}
