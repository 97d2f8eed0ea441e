//! Requests that create something go on in a task of their own when whoever asked for them has gone, because
//! what they bring must be known to be ended.

use std::sync::Arc;

use mcp_broker_proto::Secret;
use tokio::sync::oneshot;

use super::Vault;
use super::answer::Answer;
use super::calls::Call;
use super::fault::Fault;
use super::flights::Flight;
use super::handle::{Held, Kind};
use super::transport::{REQUEST_LIMIT, Transport};
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
        opener: Secret,
    ) -> Result<Answer, ProviderError> {
        let accessor = held.accessor.clone();
        let mut tokens = vec![accessor.clone()];
        if let Kind::Child { parent, .. } = &held.kind {
            tokens.push(parent.clone());
        }
        let flight = self.begin(tokens)?;
        let (flights, (sender, receiver)) = (Arc::clone(&self.flights), oneshot::channel());
        tokio::spawn(async move {
            let answer = transport.follow(call, &opener).await;
            let lease = answer.as_ref().ok().and_then(Answer::lease).filter(|lease| !lease.id.is_empty());
            if let Some(lease) = lease {
                flights.remember(&accessor, &lease.id);
            }
            flight.end_with(&answer);
            // Nobody may be waiting any more; then the answer is wiped here.
            drop(sender.send(answer));
        });
        self.identity.sent(within_limit(receiver).await.and_then(|answer| answer))
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
