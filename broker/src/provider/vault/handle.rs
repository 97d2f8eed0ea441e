//! What goes into the journal for a parent and for a credential: accessors and lease ids, which name but do
//! not open. Nothing here is secret.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::engine::pki::Certificate;
use super::fault::ServerName;
use super::flights::Late;
use super::terms::Fate;
use crate::provider::{Blame, Handle, ProviderError};

/// A handle, read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    /// The server and namespace that know it.
    pub(super) place: String,
    /// Names the token.
    pub(super) accessor: String,
    /// What the token is.
    #[serde(flatten)]
    pub(super) kind: Kind,
}

/// What the token of a handle is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(super) enum Kind {
    /// A session's.
    Parent,
    /// A launch's, with the lease that hangs under it once there is one.
    Child {
        /// Accessor of the parent's.
        parent: String,
        /// The token's own end, which everything below it shares.
        until: Timestamp,
        /// The lease.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        lease_id: Option<String>,
        /// What revoking the lease does.
        #[serde(skip_serializing_if = "Fate::is_usual", default)]
        fate: Fate,
        /// The certificate that came with it.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        certificate: Option<Certificate>,
    },
    /// A launch's that read something without a lease that ends by itself: it was revoked at once.
    Bounded {
        /// The end of what was read.
        ends: Option<Timestamp>,
        /// The certificate that it is.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        certificate: Option<Certificate>,
    },
    /// A launch's that read something that has no lease: it was revoked at once, the value lives on.
    Static,
}

impl Held {
    /// Reads a handle of this kind of provider.
    pub(super) fn read(handle: &Handle, server: &ServerName) -> Result<Self, ProviderError> {
        Self::deserialize(&handle.0).map_err(|_error| {
            server.error(
                Blame::Broken,
                "was given a handle that it did not make",
                "the journal was written by another version, or for another kind under this name",
            )
        })
    }

    /// What hangs under the token, where the handle says it.
    pub(super) fn known(&self) -> Option<Late> {
        let Kind::Child { lease_id: Some(id), fate, certificate, .. } = &self.kind else { return None };
        Some(Late { id: id.clone(), fate: *fate, certificate: certificate.clone() })
    }

    /// Whether it may be alive after its end. What a lease stands for, a database user say, ends when the server acts
    /// and not by the clock: a server that is away at that time, or that fails, leaves it.
    pub(super) fn lingers(&self) -> bool {
        matches!(self.kind, Kind::Child { fate: Fate::Ends, .. })
    }

    /// Writes it.
    pub(super) fn to_handle(&self) -> Handle {
        Handle(serde_json::json!(self))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn check(held: &Held, json: serde_json::Value) {
        let server = ServerName { provider: "bao".into(), address: String::new() };
        assert_eq!(held.to_handle().0, json);
        assert_eq!(Held::read(&Handle(json), &server).unwrap(), *held);
    }

    /// The journal outlives the program: these forms must stay readable.
    #[test]
    fn forms_in_the_journal() {
        let held = |kind| Held { place: "c/ns".into(), accessor: "a".into(), kind };
        check(&held(Kind::Parent), serde_json::json!({"kind":"parent","place":"c/ns","accessor":"a"}));
        check(&held(Kind::Static), serde_json::json!({"kind":"static","place":"c/ns","accessor":"a"}));
        let until = Timestamp::UNIX_EPOCH;
        let child =
            |lease_id, fate| Kind::Child { parent: "p".into(), until, lease_id, fate, certificate: None };
        let base = serde_json::json!({"kind":"child","place":"c/ns","accessor":"a","parent":"p","until":"1970-01-01T00:00:00Z"});
        check(&held(child(None, Fate::Ends)), base.clone());
        let lingers = [
            Kind::Static,
            Kind::Parent,
            child(None, Fate::Ends),
            child(Some("l".into()), Fate::LivesUntil(None)),
        ];
        assert_eq!(lingers.map(|kind| held(kind).lingers()), [false, false, true, false]);
        let mut with_lease = base;
        with_lease.as_object_mut().unwrap().insert("lease_id".into(), "l".into());
        check(&held(child(Some("l".into()), Fate::Ends)), with_lease.clone());
        let fate = serde_json::json!({"lives_until":"1970-01-01T00:00:00Z"});
        with_lease.as_object_mut().unwrap().insert("fate".into(), fate);
        check(&held(child(Some("l".into()), Fate::LivesUntil(Some(until)))), with_lease);
        let certificate = Some(Certificate { mount: "pki".into(), serial: "0a:0b".into() });
        check(
            &held(Kind::Bounded { ends: Some(until), certificate }),
            serde_json::json!({"kind":"bounded","place":"c/ns","accessor":"a","ends":"1970-01-01T00:00:00Z",
                "certificate":{"mount":"pki","serial":"0a:0b"}}),
        );
    }
}
