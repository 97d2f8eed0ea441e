//! Ends what was made, and believes only what it has looked up: the servers answer 204 for leases that they
//! never knew, and 204 for tokens whose leases they could not revoke.

use std::time::Duration;

use super::Vault;
use super::calls;
use super::fault::Complaint;
use super::flights::Late;
use super::gate::Urgency;
use super::handle::{Held, Kind};
use super::terms::Fate;
use crate::provider::{Blame, Handle, Proof, ProviderError, Revocation};

/// How long a revocation waits for a read in flight before it says that it has to be tried again. Longer
/// than [`crate::provider::REST`], which may have to pass first.
const SETTLE_LIMIT: Duration = Duration::from_millis(2500);

impl Vault {
    /// Ends what the handle names and verifies that it is gone.
    pub(super) async fn end(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        let held = Held::read(handle, &self.name)?;
        // First of all, so that nothing begins between the look at what is in flight and the revocation.
        self.flights.close(&held.accessor);
        self.require_place(&held).await?;
        self.require_quiet(&held).await?;
        let revocation = match &held.kind {
            Kind::Parent => self.end_token(&held.accessor, Urgency::Ending).await?.revocation(Proof::Token),
            Kind::Static => {
                self.end_token(&held.accessor, Urgency::Ending).await?;
                Revocation::ExpiresAt(None)
            }
            Kind::Bounded { ends, certificate } => {
                if let Some(certificate) = certificate {
                    self.end_certificate(certificate, Urgency::Ending).await?;
                }
                self.end_token(&held.accessor, Urgency::Ending).await?;
                Revocation::ExpiresAt(*ends)
            }
            Kind::Child { .. } => {
                // What a read brought after its asker had gone is in no handle.
                let lease = held.known().or_else(|| self.flights.remembered(&held.accessor));
                self.end_child(&held.accessor, lease).await?
            }
        };
        // A login in between may have met another server, whose word is worth nothing here.
        self.require_place(&held).await?;
        self.flights.bury(&held.accessor);
        self.ends.forget(&held.accessor);
        Ok(revocation)
    }

    async fn end_child(&self, accessor: &str, lease: Option<Late>) -> Result<Revocation, ProviderError> {
        let Some(Late { id, fate, certificate }) = lease else {
            return Ok(self.end_token(accessor, Urgency::Ending).await?.revocation(Proof::Token));
        };
        let has_lease = !id.is_empty();
        if has_lease {
            self.end_lease(&id).await?;
        }
        // The engine lists it when its lease is revoked, but a lease that is gone does not prove that it did.
        if let Some(certificate) = certificate {
            self.end_certificate(&certificate, Urgency::Revocation).await?;
        }
        // The credential is gone; the token behind it opens nothing any more, and waits for others' credentials.
        let before = self.end_token(accessor, Urgency::Revocation).await?;
        if has_lease && self.lease_life(&id, Urgency::Revocation).await?.is_some() {
            return Err(self.lease_stays());
        }
        if let Fate::LivesUntil(end) = fate {
            return Ok(Revocation::ExpiresAt(end));
        }
        Ok(before.revocation(Proof::LeaseAndToken))
    }

    /// Revokes a lease synchronously; where the server cannot, at least queues it there, because a failed
    /// synchronous revocation is not tried again by the server. Whether there was anything to revoke is not asked
    /// first: the user is to be gone as soon as can be.
    pub(super) async fn end_lease(&self, lease: &str) -> Result<(), ProviderError> {
        let call = || calls::revoke_lease(lease, true);
        let revoked = self.identity.call(call, Urgency::Ending).await;
        if !matches!(&revoked, Ok(answer) if answer.is_ok()) {
            let queued =
                self.identity.call(|| calls::revoke_lease(lease, false), Urgency::Revocation).await?;
            if queued.status == 403 {
                return Err(self.identity.refusal(&queued, "revoking a lease"));
            }
        }
        Ok(())
    }

    /// Revokes a token by its accessor and looks whether the server still knows it.
    async fn end_token(&self, accessor: &str, urgency: Urgency) -> Result<Before, ProviderError> {
        let call = || calls::revoke_accessor(accessor);
        let answer = self.identity.call(call, urgency).await?;
        // An accessor that is not known is answered with 200 and a remark, or refused by that name.
        let unknown = answer.complaint() == Complaint::NoSuchAccessor;
        if !answer.is_ok() && !unknown {
            return Err(self.identity.refusal(&answer, "revoking a token"));
        }
        if !self.is_token_gone(accessor).await? {
            return Err(self.name.error(
                Blame::Broken,
                "still knows a token that was revoked",
                "the broker tries again by itself; look into the server's log",
            ));
        }
        Ok(if unknown || answer.has_warnings() { Before::Gone } else { Before::Alive })
    }

    /// Only the server's own "invalid accessor" is proof: a missing permission and a sealed server fail as
    /// well.
    pub(super) async fn is_token_gone(&self, accessor: &str) -> Result<bool, ProviderError> {
        let call = || calls::lookup_accessor(accessor);
        let answer = self.identity.call(call, Urgency::Revocation).await?;
        match (answer.status, answer.complaint()) {
            (200, _) => Ok(false),
            (400 | 403 | 404, Complaint::NoSuchAccessor) => Ok(true),
            _ => Err(self.identity.refusal(&answer, "looking up a token")),
        }
    }

    /// Waits until nothing is in flight with the token, or below it.
    pub(super) async fn require_quiet(&self, held: &Held) -> Result<(), ProviderError> {
        if self.flights.settle(&held.accessor, SETTLE_LIMIT).await {
            return Ok(());
        }
        Err(self.name.error(
            Blame::Busy(Some(Duration::from_secs(1))),
            "still works on a request with the token that is to be revoked",
            "the broker tries again by itself",
        ))
    }

    pub(super) async fn require_place(&self, held: &Held) -> Result<(), ProviderError> {
        if self.identity.place().await? == held.place {
            return Ok(());
        }
        Err(self.name.error(
            Blame::Config,
            "is not the server, or not the namespace, where the credential was made",
            "set `address` and `namespace` back until it has ended; a development server that was restarted \
             has forgotten it, and what it made is to be removed by hand",
        ))
    }

    pub(super) fn lease_stays(&self) -> ProviderError {
        self.name.error(
            Blame::Broken,
            "could not revoke a lease: what is behind it did not let it",
            "the broker and the server try again; check that the database is up, and that its revocation \
             statements succeed for a user that is gone (deploy/vault/postgres-role.sh)",
        )
    }
}

/// What was found before the revocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Before {
    Alive,
    Gone,
}

impl Before {
    fn revocation(self, proof: Proof) -> Revocation {
        match self {
            Self::Alive => Revocation::Revoked(proof),
            Self::Gone => Revocation::AlreadyGone(proof),
        }
    }
}
