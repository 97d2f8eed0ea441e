//! Certificates: their fields, and their revocation by serial number, verified at the issuer. What a revocation is
//! worth to somebody who does not read the list is not said here: such a credential lives until its end.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mcp_broker_proto::Secret;
use serde::{Deserialize, Serialize};

use super::super::Vault;
use super::super::answer::Answer;
use super::super::calls;
use super::super::gate::Urgency;
use super::{Engine, Place};
use crate::provider::{Blame, ProviderError};

pub(super) const ISSUED: &[&str] = &[
    "ca_chain",
    "certificate",
    "expiration",
    "issuing_ca",
    "not_before",
    "private_key",
    "private_key_type",
    "serial_number",
];
pub(super) const SIGNED: &[&str] =
    &["ca_chain", "certificate", "expiration", "issuing_ca", "not_before", "serial_number"];
pub(super) const PLAIN: &[&str] = &[
    "ca_chain",
    "certificate",
    "expiration",
    "issuing_ca",
    "not_before",
    "private_key_type",
    "serial_number",
];

/// Longest serial number taken, in bytes: RFC 5280 section 4.1.2.2 allows 20 octets, `aa:bb:…`.
const MAX_SERIAL: usize = 64;

/// Names a certificate to its issuer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Certificate {
    /// Where the engine is mounted.
    pub(in super::super) mount: String,
    /// `aa:bb:…`.
    pub(in super::super) serial: String,
}

/// The certificate in an answer.
pub(in super::super) fn certificate(place: &Place, answer: &Answer) -> Option<Certificate> {
    #[derive(Deserialize)]
    struct Issued {
        serial_number: String,
    }
    if !matches!(place.engine, Engine::PkiIssue | Engine::PkiSign) {
        return None;
    }
    let Issued { serial_number: serial } = answer.data()?;
    let is_serial = |text: &str| text.bytes().all(|b| b.is_ascii_hexdigit() || matches!(b, b':' | b'-'));
    let fits = !serial.is_empty() && serial.len() <= MAX_SERIAL && is_serial(&serial);
    fits.then(|| Certificate { mount: place.mount.clone(), serial })
}

/// When the certificate in an answer ends.
pub(super) fn end(answer: &Answer) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Issued {
        expiration: i64,
    }
    let Issued { expiration } = answer.data()?;
    Timestamp::from_second(expiration).ok()
}

/// The chain as one text, which is what files of chains hold; the issuer alone where there is no chain.
pub(super) fn finish(fields: &mut BTreeMap<String, Secret>) {
    let chain = fields.get("ca_chain").and_then(|chain| {
        // EXPOSE: certificates, which are public.
        chain.expose(|text| serde_json::from_str::<Vec<String>>(text)).ok()
    });
    if let Some(chain) = chain {
        fields.insert("ca_chain".to_owned(), Secret::new(chain.join("\n")));
    }
    super::copy(fields, "issuing_ca", "ca_chain");
}

impl Vault {
    /// Puts a certificate on its issuer's revocation list and looks whether it is there. Whoever it is no longer
    /// known to cannot list it (a role with `no_store`): then it lives until its end, as was said.
    pub(in super::super) async fn end_certificate(
        &self,
        certificate: &Certificate,
        urgency: Urgency,
    ) -> Result<(), ProviderError> {
        let Certificate { mount, serial } = certificate;
        if self.revoked_at(certificate, urgency).await?.is_none_or(|at| at > 0) {
            return Ok(());
        }
        let call = || calls::revoke_certificate(mount, serial);
        let answer = self.identity.call(call, urgency).await?;
        if answer.status == 403 {
            let what = format!("does not let the broker revoke certificates of `{mount}`");
            let hint = format!(
                "add to the policy of the broker's own identity: path \"{mount}/revoke\" {{ capabilities = [\"update\"] }} \
                 (deploy/vault/policies/pki-revoke.hcl)"
            );
            return Err(self.name.error(Blame::Identity, &what, hint));
        }
        if !answer.is_ok() {
            return Err(self.identity.refusal(&answer, "revoking a certificate"));
        }
        match self.revoked_at(certificate, urgency).await? {
            Some(0) => Err(self.name.error(
                Blame::Broken,
                "does not list a certificate that was revoked",
                "the broker tries again by itself; look into the server's log",
            )),
            _ => Ok(()),
        }
    }

    /// When it was revoked, 0 for never; `None` where the issuer does not know it. Needs no right.
    async fn revoked_at(
        &self,
        certificate: &Certificate,
        urgency: Urgency,
    ) -> Result<Option<i64>, ProviderError> {
        #[derive(Deserialize)]
        struct Known {
            #[serde(default)]
            revocation_time: i64,
        }
        let call = calls::look_up_certificate(&certificate.mount, &certificate.serial);
        let sent = self.identity.stranger().await?.send(call, None, urgency).await;
        let answer = self.identity.sent(sent)?;
        match answer.status {
            200 => {
                let known: Known =
                    answer.data().ok_or_else(|| self.name.unreadable("looking up a certificate"))?;
                Ok(Some(known.revocation_time))
            }
            // No mount is said with the same status, and proves nothing.
            404 if answer.complaint() != super::super::fault::Complaint::NoRoute => Ok(None),
            _ => Err(self.identity.refusal(&answer, "looking up a certificate")),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer::new(http::Response::new(body.as_bytes().to_vec()))
    }

    #[test]
    fn serials_are_what_they_should_be() {
        let place = super::super::place(&"pki/issue/web".parse().unwrap(), None);
        let of = |serial: &str| {
            certificate(&place, &answer(&format!(r#"{{"data":{{"serial_number":"{serial}"}}}}"#)))
        };
        assert_eq!(of("0a:Ff").unwrap(), Certificate { mount: "pki".into(), serial: "0a:Ff".into() });
        for bad in ["", "../x", "a/b", "g0", &"a".repeat(65)] {
            assert_eq!(of(bad), None, "{bad}");
        }
        let other = super::super::place(&"kv/x".parse().unwrap(), None);
        assert_eq!(certificate(&other, &answer(r#"{"data":{"serial_number":"0a"}}"#)), None);
    }

    #[test]
    fn chains_are_one_text() {
        for (fields, want) in [
            (vec![("ca_chain", r#"["A","B"]"#), ("issuing_ca", "A")], "A\nB"),
            (vec![("issuing_ca", "A")], "A"),
        ] {
            let mut fields =
                fields.into_iter().map(|(n, v)| (n.to_owned(), Secret::new(v.to_owned()))).collect();
            finish(&mut fields);
            // EXPOSE: an invented value of this test.
            assert_eq!(fields.get("ca_chain").unwrap().expose(str::to_owned), want);
        }
    }
}
