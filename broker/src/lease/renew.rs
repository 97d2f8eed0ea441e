//! Keeps a credential alive at two thirds of its true remaining life, and says in time when that is no
//! longer possible, so that its launch ends before the credential does.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::Revocability;
use tokio::time::{sleep, timeout};

use super::record::Record;
use super::state::{Alive, State};
use super::{Leases, Lost};
use crate::audit::Event;
use crate::clock::shown;
use crate::provider::{Blame, Handle, Issued, MintRequest, Provider, ProviderError, Renewed};

/// One renewal must be done in this time.
const RENEW_LIMIT: Duration = Duration::from_secs(5);

/// The launch is told so long before a credential ends for good.
const NOTICE: Duration = Duration::from_secs(2);

impl Leases {
    pub(super) fn keep_alive(
        self: &Arc<Self>,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        issued: &Issued,
        expires_at: Timestamp,
    ) {
        let ends = self.note_end(request.lease, expires_at);
        let life = Life { expires_at, ends, renewable: issued.renewable, revocability: issued.revocability };
        let (leases, provider, request) = (Arc::clone(self), Arc::clone(provider), request.clone());
        tokio::spawn(async move {
            if leases.renew_until_the_end(&provider, &request, life).await {
                leases.tell(Lost::Credential(request.launch, request.lease));
            }
        });
    }

    /// `true` when the credential is about to end; `false` when it was ended by somebody.
    async fn renew_until_the_end(
        &self,
        provider: &Arc<dyn Provider>,
        request: &MintRequest,
        mut life: Life,
    ) -> bool {
        loop {
            let left = life.ends.saturating_sub(self.clock.boot());
            let last = left.saturating_sub(NOTICE);
            let wait = if life.renewable { jittered(left * 2 / 3).min(last) } else { last };
            sleep(wait).await;
            let Some(handle) = self.live_handle(request.lease) else { return false };
            if !life.renewable {
                return true;
            }
            match renew(provider, &handle, request).await {
                Ok(renewed) => {
                    // A backend that gives no more life would be asked again and again.
                    let gained = renewed.expires_at > life.expires_at;
                    let ends = self.note_end(request.lease, renewed.expires_at);
                    let renewable = renewed.renewable && gained;
                    life = Life { expires_at: renewed.expires_at, ends, renewable, ..life };
                    self.renewed(request, handle, &life);
                }
                Err(error) if !error.is_passing() => {
                    tracing::warn!(lease = %request.lease, %error, "a credential cannot be renewed");
                    return self.live_handle(request.lease).is_some();
                }
                Err(error) => {
                    tracing::warn!(lease = %request.lease, %error, "a renewal failed");
                    if life.ends.saturating_sub(self.clock.boot()) <= NOTICE + RENEW_LIMIT {
                        life.renewable = false;
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

    fn renewed(&self, request: &MintRequest, handle: Handle, life: &Life) {
        let (id, provider) = (request.lease, request.spec.provider.clone());
        let alive = Alive { handle, expires_at: Some(life.expires_at), revocability: life.revocability };
        // Refused when it was ended meanwhile; then there is nothing to tell either.
        if self.live_handle(id).is_some() && self.book.step(Record::Live { id, provider, alive }).is_some() {
            self.audit.note(Event::CredentialRenewed { lease: id, expires_at: shown(life.expires_at) });
        }
    }
}

/// What is known of a credential's life.
struct Life {
    /// As the backend says it.
    expires_at: Timestamp,
    /// The same on the boot clock, which goes on in sleep and cannot be set.
    ends: Duration,
    renewable: bool,
    revocability: Revocability,
}

async fn renew(
    provider: &Arc<dyn Provider>,
    handle: &Handle,
    request: &MintRequest,
) -> Result<Renewed, ProviderError> {
    let late = |_elapsed| {
        let hint = "see whether the provider can be reached";
        ProviderError::new(Blame::Unreachable, "the renewal took too long", hint)
    };
    timeout(RENEW_LIMIT, provider.renew(handle, request.spec.ttl)).await.map_err(late)?
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
