//! A launch's token that ends with its session's: what hangs under it and would outlive it is revoked before, and
//! afterwards it is looked up. Believes the look and nothing else, as `revoke` does.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Vault;
use super::flights::Late;
use super::gate::Urgency;
use super::handle::{Held, Kind};
use super::terms::Fate;
use crate::provider::{Blame, Handle, Proof, ProviderError, Revocation};

/// With its token the server gives up a lease by itself, a moment later: it is looked for so long.
const LEASE_LIMIT: Duration = Duration::from_millis(500);

/// Between the first two looks; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(5);

impl Vault {
    /// Revokes a lease below a child where that is done faster and says more than the server's own queue, which
    /// takes what is left when the parent falls. `false` for what does not hang below that parent.
    pub(super) async fn unload(&self, handle: &Handle, parent: &Handle) -> Result<bool, ProviderError> {
        let held = Held::read(handle, &self.name)?;
        let above = Held::read(parent, &self.name)?;
        let Kind::Child { parent, .. } = &held.kind else { return Ok(false) };
        if (parent, &held.place) != (&above.accessor, &above.place) {
            return Ok(false);
        }
        // As before every revocation: nothing begins with the token any more, and nothing is in flight with it.
        self.flights.close(&held.accessor);
        self.require_place(&held).await?;
        self.require_quiet(&held).await?;
        if let Some(lease) = held.known().or_else(|| self.flights.remembered(&held.accessor))
            && !lease.id.is_empty()
            && !lease.goes_with_its_token()
        {
            self.end_lease(&lease.id).await?;
        }
        Ok(true)
    }

    /// Looks whether a child's lease is gone, and without one the child itself.
    ///
    /// Of a child with a lease the token is not looked up as well, where this broker revoked the parent: both servers
    /// revoke a tree from its leaves (`revokeTreeInternal`), so that a parent that is gone has no child left; no child
    /// can have come late, because whoever revokes a parent has closed it and waited for what was in flight; and it
    /// did hang there (see `refuse_orphan`). A parent that was gone before may have been taken away from above its
    /// children (`auth/token/revoke-orphan`): then each is looked up.
    pub(super) async fn verify_fallen(
        &self,
        handle: &Handle,
        parent: &Revocation,
    ) -> Result<Revocation, ProviderError> {
        let held = Held::read(handle, &self.name)?;
        if !matches!(held.kind, Kind::Child { .. }) {
            return self.end(handle).await;
        }
        self.require_place(&held).await?;
        let lease = held.known().or_else(|| self.flights.remembered(&held.accessor));
        let has_lease = lease.as_ref().is_some_and(|lease| !lease.id.is_empty());
        if let Some(lease) = lease.as_ref().filter(|_| has_lease) {
            self.require_lease_gone(&lease.id).await?;
        }
        if let Some(certificate) = lease.as_ref().and_then(|lease| lease.certificate.as_ref()) {
            self.end_certificate(certificate, Urgency::Revocation).await?;
        }
        let fell_with_it = has_lease && matches!(parent, Revocation::Revoked(_));
        if !fell_with_it && !self.is_token_gone(&held.accessor).await? {
            return Err(self.name.error(
                Blame::Broken,
                "still knows a token whose parent is gone",
                "the broker revokes it by itself",
            ));
        }
        // A login in between may have met another server, whose word is worth nothing here.
        self.require_place(&held).await?;
        self.flights.bury(&held.accessor);
        self.ends.forget(&held.accessor);
        Ok(match lease {
            Some(Late { fate: Fate::LivesUntil(end), .. }) => Revocation::ExpiresAt(end),
            Some(_) if fell_with_it => Revocation::Revoked(Proof::LeaseAndParent),
            Some(_) => Revocation::Revoked(Proof::LeaseAndToken),
            None => Revocation::Revoked(Proof::Token),
        })
    }

    async fn require_lease_gone(&self, lease: &str) -> Result<(), ProviderError> {
        let (begun, mut pause) = (Instant::now(), FIRST_PAUSE);
        while self.lease_life(lease, Urgency::Revocation).await?.is_some() {
            if begun.elapsed() > LEASE_LIMIT {
                return Err(self.lease_stays());
            }
            sleep(pause).await;
            pause *= 2;
        }
        Ok(())
    }
}

impl Late {
    /// Whether the lease is left to the server, which revokes it when its token falls, and tries again where it
    /// cannot. Of databases that takes longer than revoking each while the token still stands, several at once (half
    /// as long again for a hundred), and the server does not say where it fails; so does what claims less than an end.
    fn goes_with_its_token(&self) -> bool {
        self.fate == Fate::Ends && !self.id.starts_with("database/")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_leases_are_left_to_the_server() {
        let late = |id: &str, fate| Late { id: id.to_owned(), fate, certificate: None };
        assert!(late("leased/bench/1", Fate::Ends).goes_with_its_token());
        assert!(!late("database/creds/orders-ro/1", Fate::Ends).goes_with_its_token());
        assert!(!late("aws/sts/deploy/1", Fate::LivesUntil(None)).goes_with_its_token());
    }
}
