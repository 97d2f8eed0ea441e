//! The credential itself: read with the child's token, shortened to its `ttl`, renewed later.

use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::Secret;
use mcp_broker_proto::session::Revocability;

use super::Vault;
use super::answer::{Answer, LeaseTerms};
use super::calls::{self, Call};
use super::credential::{CredentialSettings, Method};
use super::engine::Engine;
use super::engine::pki::Certificate;
use super::engine::ssh::Pair;
use super::fault::Complaint;
use super::flights::Late;
use super::gate::Urgency;
use super::handle::{Held, Kind};
use super::terms::{Fate, is_longer};
use crate::provider::{Blame, Handle, Issued, MintRequest, Prepared, ProviderError, Renewed, own};

/// What an answer says of what was issued.
struct Found {
    lease: LeaseTerms,
    /// Its end, where it has no lease.
    end: Option<Timestamp>,
    late: Option<Late>,
}

/// What was issued, taken for the launch.
struct Taken {
    handle: Handle,
    expires_at: Option<Timestamp>,
    renewable: bool,
    revocability: Revocability,
}

impl Vault {
    /// Reads or writes the path with the child's token.
    pub(super) async fn read_credential(
        &self,
        request: &MintRequest,
        prepared: Prepared,
    ) -> Result<Issued, ProviderError> {
        let settings: &CredentialSettings = own::credential(&request.spec)?;
        let held = Held::read(&prepared.handle, &self.name)?;
        let Some(opener) = prepared.opener else {
            return Err(self.broken("was asked to read a credential without a token to do it with"));
        };
        let (call, key) = self.question(settings, request.spec.ttl.min(self.left(&held)))?;
        let transport = self.identity.transport().await?;
        let answer = self.fly(transport, call, &held, &opener, settings).await?;
        if !answer.is_ok() {
            return Err(self.refused_read(&answer, settings));
        }
        let engine = settings.place.engine;
        let doing = format!("reading `{}`", settings.path);
        let (Some(mut fields), Some(lease)) = (answer.fields(), answer.lease()) else {
            return Err(self.name.unreadable(&doing));
        };
        if fields.is_empty() {
            return Err(self.name.unreadable(&doing));
        }
        let found =
            Found { lease, end: engine.end(&answer, self.clock.now()), late: self.late(settings, &answer) };
        drop(answer);
        engine.finish(&mut fields);
        if let Some(Pair { private, public }) = key {
            fields.insert("public_key".to_owned(), Secret::new(public));
            fields.insert("private_key".to_owned(), private);
            fields.insert("private_key_type".to_owned(), Secret::new("ed25519".to_owned()));
        }
        let taken = self.take(request, held, settings, found).await?;
        let (detail, plain) = (engine.detail(&fields), engine.plain());
        let Taken { handle, expires_at, renewable, revocability } = taken;
        Ok(Issued { handle, fields, plain, expires_at, valid_until: None, detail, renewable, revocability })
    }

    /// The request, and the key pair that it is about where the broker makes one.
    fn question(
        &self,
        settings: &CredentialSettings,
        life: Duration,
    ) -> Result<(Call, Option<Pair>), ProviderError> {
        let (mut data, mut key) = (settings.data.clone(), None);
        settings.place.engine.ask_for(life, &mut data);
        if settings.place.engine == Engine::SshSign && !data.contains_key("public_key") {
            let pair = Pair::fresh().ok_or_else(|| self.broken("was to sign a key, and none can be made"))?;
            data.insert("public_key".to_owned(), pair.public.clone().into());
            key = Some(pair);
        }
        let call = match settings.method {
            Method::Read => calls::read(&settings.path, &data),
            Method::Write => calls::write(&settings.path, &data),
        };
        Ok((call, key))
    }

    fn late(&self, settings: &CredentialSettings, answer: &Answer) -> Option<Late> {
        Late::of(&settings.place, answer, &*self.clock)
    }

    /// Takes what was issued for the launch: by its lease, else by what ends it, else as what never ends.
    async fn take(
        &self,
        request: &MintRequest,
        held: Held,
        settings: &CredentialSettings,
        found: Found,
    ) -> Result<Taken, ProviderError> {
        let Found { lease, end, late } = found;
        let certificate = late.and_then(|late| late.certificate);
        if !lease.id.is_empty() {
            let fate = Fate::of(settings.place.engine, &lease, self.after(lease.life));
            return self.take_lease(request, held, lease, fate, certificate).await;
        }
        let Some(end) = end else {
            let handle = self.end_reader(held, Kind::Static).await;
            let revocability = Revocability::None;
            return Ok(Taken { handle, expires_at: None, renewable: false, revocability });
        };
        let life = Duration::try_from(end.duration_since(self.clock.now())).unwrap_or(Duration::ZERO);
        let fate = Fate::LivesUntil(Some(end));
        // Less than nothing is left of what has ended; it is no life without an end.
        let counted = life.max(Duration::from_secs(1));
        self.require_short(counted, request.spec.ttl, self.left(&held), fate)?;
        self.flights.forget(&held.accessor);
        let handle = self.end_reader(held, Kind::Bounded { ends: Some(end), certificate }).await;
        Ok(Taken { handle, expires_at: Some(end), renewable: false, revocability: fate.revocability(life) })
    }

    /// Shortens the lease to the credential's `ttl`, or to what is left of the session. One that is longer and
    /// cannot be shortened is refused; it is still remembered, and ends with the handle of `prepare`.
    async fn take_lease(
        &self,
        request: &MintRequest,
        held: Held,
        lease: LeaseTerms,
        fate: Fate,
        certificate: Option<Certificate>,
    ) -> Result<Taken, ProviderError> {
        let left = self.left(&held);
        let want = request.spec.ttl.min(left);
        let (mut life, mut renewable) = (lease.life, lease.renewable);
        if renewable && is_longer(life, want) {
            let call = || calls::renew_lease(&lease.id, want).named("shorten");
            let answer = self.identity.call(call, Urgency::Normal).await?;
            let Some(terms) = answer.lease().filter(|_| answer.is_ok()) else {
                return Err(self.identity.refusal(&answer, "shortening a lease"));
            };
            (life, renewable) = (terms.life, terms.renewable);
        }
        self.require_short(life, request.spec.ttl, left, fate)?;
        let revocability = fate.revocability(life);
        let Renewed { expires_at, renewable } = match fate {
            Fate::LivesUntil(Some(expires_at)) => Renewed { expires_at, renewable: false },
            _ => self.terms(life, renewable, left),
        };
        let Held { place, accessor, kind } = held;
        let kind = match kind {
            Kind::Child { parent, until, .. } => {
                Kind::Child { parent, until, lease_id: Some(lease.id), fate, certificate }
            }
            other => other,
        };
        self.flights.forget(&accessor);
        let handle = Held { place, accessor, kind }.to_handle();
        Ok(Taken { handle, expires_at: Some(expires_at), renewable, revocability })
    }

    /// Asks for another `ttl`.
    pub(super) async fn extend(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        let held = Held::read(handle, &self.name)?;
        let Kind::Child { lease_id: Some(lease), fate, .. } = &held.kind else {
            return Err(self.broken("was asked to renew what has no lease"));
        };
        if let Fate::LivesUntil(Some(expires_at)) = *fate {
            return Ok(Renewed { expires_at, renewable: false });
        }
        let left = self.left(&held);
        if left.is_zero() {
            return Err(self.lease_gone());
        }
        let want = ttl.min(left);
        let answer = self.identity.call(|| calls::renew_lease(lease, want), Urgency::Normal).await?;
        if answer.is_ok() {
            let terms = answer.lease().ok_or_else(|| self.name.unreadable("renewing a lease"))?;
            // Less than asked for is a cap of the server's, which the next renewal would meet as well.
            let capped = terms.life + Duration::from_secs(1) < want;
            return Ok(self.terms(terms.life, terms.renewable && !capped, left));
        }
        match answer.complaint() {
            Complaint::NoSuchLease => Err(self.lease_gone()),
            Complaint::NotRenewable => {
                let life = self.lease_life(lease, Urgency::Normal).await?.ok_or_else(|| self.lease_gone())?;
                Ok(self.terms(life, false, left))
            }
            _ => Err(self.identity.refusal(&answer, "renewing a lease")),
        }
    }

    /// The lease's remaining life; `None` where the server no longer knows it.
    pub(super) async fn lease_life(
        &self,
        lease: &str,
        urgency: Urgency,
    ) -> Result<Option<Duration>, ProviderError> {
        #[derive(serde::Deserialize)]
        struct Lease {
            /// Negative while a revocation is pending.
            ttl: i64,
        }
        let answer = self.identity.call(|| calls::lookup_lease(lease), urgency).await?;
        match (answer.status, answer.complaint()) {
            (200, _) => {
                let found: Lease = answer.data().ok_or_else(|| self.name.unreadable("a lease lookup"))?;
                Ok(Some(Duration::from_secs(u64::try_from(found.ttl).unwrap_or(0))))
            }
            (400 | 404, Complaint::NoSuchLease) => Ok(None),
            _ => Err(self.identity.refusal(&answer, "looking up a lease")),
        }
    }

    /// Revokes the child that read a value without a lease: it has nothing to hold. The handle keeps its
    /// accessor, so that `revoke` makes sure of it.
    async fn end_reader(&self, held: Held, kind: Kind) -> Handle {
        let call = || calls::revoke_accessor(&held.accessor);
        if let Err(error) = self.identity.call(call, Urgency::Normal).await {
            tracing::warn!(provider = %self.name.provider, %error, "a reader's token is revoked later");
        }
        Held { kind, ..held }.to_handle()
    }

    fn refused_read(&self, answer: &Answer, settings: &CredentialSettings) -> ProviderError {
        let path = &settings.path;
        let policies = settings.policies.join(", ");
        let (verb, doing) = match settings.method {
            Method::Read => ("read", format!("reading `{path}`")),
            Method::Write => ("update", format!("writing `{path}`")),
        };
        let complaint = answer.complaint();
        if answer.status == 404 && complaint != Complaint::NoRoute {
            let what = format!("has nothing at `{path}`");
            return self.name.error(
                Blame::Missing,
                &what,
                format!("put it there, or correct the path; policies: {policies}"),
            );
        }
        let cure = match answer.status {
            403 => format!("let one of the policies {policies} `{verb}` on `{path}`"),
            404 => format!("mount the secrets engine, or correct the path `{path}`"),
            _ => format!("check the role that `{path}` names, and its parameters"),
        };
        let mut error = self.name.refusal(answer.status, complaint, &doing, &cure);
        if error.blame == Blame::Broken {
            error.hint = "look into the server's log; the database behind the path may be down".to_owned();
        }
        error
    }

    fn lease_gone(&self) -> ProviderError {
        self.name.error(
            Blame::Refused,
            "no longer knows the lease",
            "it ended or was revoked at the server; the next launch gets a new one",
        )
    }

    fn broken(&self, what: &str) -> ProviderError {
        self.name.error(Blame::Broken, what, own::REPORT)
    }
}
