//! Requests that create something go on in a task of their own when whoever asked for them has gone, because
//! what they bring must be known to be ended.

use std::sync::Arc;

use mcp_broker_proto::Secret;
use mcp_broker_proto::names::LeaseId;
use tokio::sync::oneshot;

use super::answer::Answer;
use super::calls::{self, Call};
use super::fault::Fault;
use super::flights::{Flight, Late};
use super::gate::Urgency;
use super::handle::{Held, Kind};
use super::identity::Identity;
use super::path::SecretPath;
use super::terms::Fate;
use super::transport::{REQUEST_LIMIT, Signed, Transport};
use super::{Vault, after};
use crate::provider::{Blame, ProviderError};

impl Vault {
    /// Notes a request that depends on the tokens with these accessors, unless one of them is being revoked.
    pub(super) fn begin(&self, accessors: Vec<String>) -> Result<Flight, ProviderError> {
        self.flights.begin(accessors).map_err(|_closed| {
            self.name.error(
                Blame::Refused,
                "is asked for nothing more: the launch or its session is ending",
                "start the server again, in a session that goes on",
            )
        })
    }

    /// Sends the read in a task of its own: if this future is dropped or has waited long enough, the request
    /// goes on, so that the lease that it may bring is known when the token is to be revoked.
    pub(super) async fn fly(
        &self,
        transport: Arc<Transport>,
        call: Call,
        held: &Held,
        opener: &Secret,
        path: &SecretPath,
    ) -> Result<Answer, ProviderError> {
        let accessor = held.accessor.clone();
        let mut tokens = vec![accessor.clone()];
        if let Kind::Child { parent, .. } = &held.kind {
            tokens.push(parent.clone());
        }
        let flight = self.begin(tokens)?;
        let (flights, (sender, receiver)) = (Arc::clone(&self.flights), oneshot::channel());
        let (signed, path, clock) =
            (transport.sign(call, Some(opener)), path.clone(), Arc::clone(&self.clock));
        tokio::spawn(async move {
            let answer = transport.follow(signed).await;
            let lease = answer.as_ref().ok().and_then(Answer::lease).filter(|lease| !lease.id.is_empty());
            if let Some(lease) = lease {
                let fate = Fate::of(&path, &lease, after(&*clock, lease.life));
                flights.remember(&accessor, Late { id: lease.id, fate });
            }
            flight.end_with(&answer);
            // Nobody may be waiting any more; then the answer is wiped here.
            drop(sender.send(answer));
        });
        self.identity.sent(within_limit(receiver).await.and_then(|answer| answer))
    }

    /// Makes a launch's token in a task of its own: where nobody takes the answer, nobody knows the token's
    /// accessor, and the task itself revokes it. `parent` is the accessor of the token that `signed` is with.
    pub(super) async fn bear(
        &self,
        transport: Arc<Transport>,
        signed: Signed,
        parent: String,
        lease: LeaseId,
    ) -> Result<Answer, ProviderError> {
        let flight = self.begin(vec![parent])?;
        let (identity, (sender, receiver)) = (Arc::clone(&self.identity), oneshot::channel());
        tokio::spawn(async move {
            let answer = transport.follow(signed).await;
            flight.end_with(&answer);
            let accessor = answer.as_ref().ok().and_then(Answer::auth).map(|auth| auth.accessor);
            // A sent answer may still be dropped unseen, so that its arrival is confirmed.
            let (taker, taken) = oneshot::channel();
            let is_taken = sender.send((answer, taker)).is_ok() && taken.await.is_ok();
            if let Some(accessor) = accessor.filter(|_| !is_taken) {
                end_unclaimed(&identity, &accessor, lease).await;
            }
        });
        let (answer, taker) = within_limit(receiver).await.map_err(|fault| self.name.fault(fault))?;
        // From here to the handle nothing waits, and so nothing can be dropped. Fails only if the task is gone.
        taker.send(()).ok();
        self.identity.sent(answer)
    }
}

/// Revokes a child that nobody knows of, as well as that can be done: it also ends with its parent.
async fn end_unclaimed(identity: &Arc<Identity>, accessor: &str, lease: LeaseId) {
    tracing::warn!(%lease, "a launch's token came when nobody waited for it any more, and is revoked");
    let revoked = identity.call(|| calls::revoke_accessor(accessor), Urgency::Revocation).await;
    if !revoked.is_ok_and(|answer| answer.is_ok()) {
        tracing::warn!(%lease, "that token could not be revoked, and lives as long as its session at most");
    }
}

/// What the task found, unless it takes longer than whoever asked may wait.
async fn within_limit<T>(receiver: oneshot::Receiver<T>) -> Result<T, Fault> {
    match tokio::time::timeout(REQUEST_LIMIT, receiver).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(_closed)) => Err(Fault::Lost),
        Err(_elapsed) => Err(Fault::Timeout),
    }
}
