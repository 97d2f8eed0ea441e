//! Keeps a credential alive at two thirds of its true remaining life, and says in time when that is no
//! longer possible, so that its launch ends before the credential does.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::names::LeaseId;
use tokio::time::{sleep, timeout};

use super::record::Record;
use super::state::State;
use super::{Leases, Lost};
use crate::audit::Event;
use crate::clock::shown;
use crate::provider::{Handle, MintRequest, Provider, ProviderError, Renewed};

/// One renewal must be done in this time.
const RENEW_LIMIT: Duration = Duration::from_secs(5);

/// The launch is told so long before a credential ends for good.
const NOTICE: Duration = Duration::from_secs(2);

impl Leases {
    pub(super) fn keep_alive(
        self: &Arc<Self>,
        request: &MintRequest,
        expires_at: Timestamp,
        renewable: bool,
    ) {
        let (leases, request) = (Arc::clone(self), request.clone());
        self.tasks.spawn(async move {
            let Some(provider) = leases.provider(&request.spec.provider) else { return };
            if leases.renew_until_the_end(&provider, &request, expires_at, renewable).await {
                leases.tell(Lost::Credential(request.launch));
            }
        });
    }

    /// `true` when the credential is about to end; `false` when it was ended by somebody.
    async fn renew_until_the_end(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        mut expires_at: Timestamp,
        mut renewable: bool,
    ) -> bool {
        loop {
            let left = self.left(expires_at);
            let last = left.saturating_sub(NOTICE);
            let wait = if renewable { jittered(left * 2 / 3).min(last) } else { last };
            sleep(wait).await;
            let Some(handle) = self.live_handle(request.lease) else { return false };
            if !renewable {
                return true;
            }
            match renew(provider, &handle, request).await {
                Ok(renewed) => {
                    let gained = renewed.expires_at > expires_at;
                    expires_at = renewed.expires_at;
                    // A backend that gives no more life would be asked again and again.
                    renewable = renewed.renewable && gained;
                    self.renewed(request, &handle, expires_at);
                }
                Err(error) if !error.is_passing() => {
                    tracing::warn!(lease = %request.lease, %error, "a credential cannot be renewed");
                    return self.live_handle(request.lease).is_some();
                }
                Err(error) => {
                    tracing::warn!(lease = %request.lease, %error, "a renewal failed");
                    if self.left(expires_at) <= NOTICE + RENEW_LIMIT {
                        renewable = false;
                    }
                }
            }
        }
    }

    fn live_handle(&self, id: LeaseId) -> Option<Handle> {
        match self.book.get(id)?.state {
            State::Live(alive) => Some(alive.handle),
            _ => None,
        }
    }

    fn renewed(&self, request: &MintRequest, handle: &Handle, expires_at: Timestamp) {
        let (id, provider) = (request.lease, request.spec.provider.clone());
        let live = Record::Live { id, provider, handle: handle.clone(), expires_at: Some(expires_at) };
        drop(self.book.step(live));
        self.audit.note(Event::CredentialRenewed { lease: id, expires_at: shown(expires_at) });
    }

    fn left(&self, expires_at: Timestamp) -> Duration {
        Duration::try_from(expires_at.duration_since(self.clock.now())).unwrap_or_default()
    }
}

async fn renew(
    provider: &Arc<dyn Provider>,
    handle: &Handle,
    request: &MintRequest,
) -> Result<Renewed, ProviderError> {
    match timeout(RENEW_LIMIT, provider.renew(handle, request.spec.ttl)).await {
        Ok(answer) => answer,
        Err(_elapsed) => Err(ProviderError::new(
            crate::provider::Blame::Unreachable,
            "the renewal took too long",
            "see whether the provider can be reached",
        )),
    }
}

/// Between 80 and 100 % of `wait`, so that many sessions do not renew at once.
pub(super) fn jittered(wait: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is no jitter; nothing else depends on it.
    let random = rustix::rand::getrandom(&mut byte, rustix::rand::GetRandomFlags::NONBLOCK);
    let byte = if random.is_ok() { byte[0] } else { 255 };
    wait * (1020 + u32::from(byte)) / 1275
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_stays_in_its_bounds() {
        for _ in 0..1000 {
            let wait = jittered(Duration::from_secs(100));
            assert!((Duration::from_secs(80)..=Duration::from_secs(100)).contains(&wait), "{wait:?}");
        }
    }
}
