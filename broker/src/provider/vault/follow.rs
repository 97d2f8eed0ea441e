//! Requests that create something go on in a task of their own when whoever asked for them has gone, because
//! what they bring must be known to be ended.

use std::sync::Arc;

use mcp_broker_proto::Secret;
use mcp_broker_proto::names::LeaseId;
use tokio::sync::oneshot;

use super::Vault;
use super::answer::{Answer, Wrapped};
use super::calls::{self, Call};
use super::credential::CredentialSettings;
use super::fault::{Complaint, Fault};
use super::flights::{Flight, Late};
use super::gate::Urgency;
use super::handle::{Held, Kind};
use super::identity::Identity;
use super::transport::{REQUEST_LIMIT, Signed, Transport};
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
        settings: &CredentialSettings,
    ) -> Result<Answer, ProviderError> {
        let accessor = held.accessor.clone();
        let mut tokens = vec![accessor.clone()];
        if let Kind::Child { parent, .. } = &held.kind {
            tokens.push(parent.clone());
        }
        let flight = self.begin(tokens)?;
        let (flights, (sender, receiver)) = (Arc::clone(&self.flights), oneshot::channel());
        let (place, clock) = (settings.place.clone(), Arc::clone(&self.clock));
        let signed = transport.sign(call.wrapped(settings.wrap), Some(opener));
        let wrapped = settings.wrap.map(|_| settings.path.to_string());
        tokio::spawn(async move {
            let mut answer = transport.follow(signed).await;
            if let (Some(path), Ok(closed)) = (wrapped, &answer)
                && closed.is_ok()
            {
                answer = open(&transport, closed, &path).await;
            }
            let late = answer.as_ref().ok().and_then(|answer| Late::of(&place, answer, &*clock));
            if let Some(late) = late {
                flights.remember(&accessor, late);
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

/// Opens a wrapped answer, after a look whether it holds what was asked for, and that nobody opened it before: by the
/// server's word, not by that of the answer, which came the way that wrapping is to make safe.
async fn open(transport: &Transport, closed: &Answer, path: &str) -> Result<Answer, Fault> {
    #[derive(serde::Deserialize)]
    struct Known {
        creation_path: String,
    }
    let Wrapped { token, creation_path } = closed.wrapped().ok_or(Fault::NotWrapped)?;
    let refuse = |answer: &Answer| match answer.complaint() {
        Complaint::NoSuchWrapping => {
            tracing::error!(path, "a wrapped credential was opened by somebody else: it is revoked");
            Fault::Opened
        }
        _ => Fault::NotWrapped,
    };
    let known = transport.send(calls::look_up_wrapping(&token), None, Urgency::Normal).await?;
    if !known.is_ok() {
        return Err(refuse(&known));
    }
    let Known { creation_path: known } = known.data().ok_or(Fault::NotWrapped)?;
    let inside = transport.namespace().map(|namespace| format!("{namespace}/{path}"));
    let is_it = |found: &str| found == path || inside.as_deref() == Some(found);
    if !is_it(&known) || !is_it(&creation_path) {
        tracing::error!(path, "a wrapped credential was made for something else: it is revoked");
        return Err(Fault::NotWrapped);
    }
    let answer = transport.send(calls::unwrap(), Some(&token), Urgency::Normal).await?;
    if answer.is_ok() { Ok(answer) } else { Err(refuse(&answer)) }
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
