//! The credentials that a desk holds, each as its broker handed it over last, and the documents that are made of them.
//! Nothing is asked of anybody: what is here is served, from memory, until it ends or is withheld.

use std::collections::BTreeMap;

use mcp_broker_proto::launch::IssuedCredential;
use mcp_broker_proto::names::{Label, LeaseId};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::ends::{Ends, Now};
use super::refusal::Refusal;
use crate::failure::{CONFIG, Failure, UNAVAILABLE};

/// What is handed out of a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The answer of a container credential endpoint.
    AwsEndpoint,
    /// What a `credential_process` prints.
    AwsProcess,
    /// An `ExecCredential` of `client.authentication.k8s.io/v1`.
    Kubernetes,
}

/// A field by the names that providers give it.
type Names = &'static [&'static str];

const KEY_ID: Names = &["access_key_id", "access_key"];
const KEY: Names = &["secret_access_key", "secret_key"];
const SESSION: Names = &["session_token", "security_token"];
const TOKEN: Names = &["token", "service_account_token"];
const CERTIFICATE: Names = &["client_certificate", "certificate"];
const PRIVATE: Names = &["client_key", "private_key"];
/// Everything that a document may hold.
const FIELDS: &[Names] = &[KEY_ID, KEY, SESSION, TOKEN, CERTIFICATE, PRIVATE];

impl Form {
    /// What every path begins with at which it is asked for; the credential's name follows.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::AwsEndpoint => "/v1/aws/",
            Self::AwsProcess => "/v1/aws-process/",
            Self::Kubernetes => "/v1/kubernetes/",
        }
    }

    /// One of these sets of fields has to be there.
    fn needs(self) -> &'static [&'static [Names]] {
        match self {
            Self::AwsEndpoint | Self::AwsProcess => &[&[KEY_ID, KEY]],
            Self::Kubernetes => &[&[TOKEN], &[CERTIFICATE, PRIVATE]],
        }
    }
}

/// One credential.
pub(super) struct Held {
    lease: LeaseId,
    fields: Vec<(&'static str, Zeroizing<String>)>,
    ends: Ends,
}

impl Held {
    /// Of a credential as the broker hands it over.
    ///
    /// # Errors
    /// Where something that is handed out of it cannot be made of it.
    pub(super) fn of(
        name: &Label,
        credential: &IssuedCredential,
        mut forms: impl Iterator<Item = Form>,
    ) -> Result<Self, Failure> {
        let ends = Ends::of(credential, Now::read()).ok_or_else(|| {
            let what = format!("the broker says in no known way when the credential `{name}` ends");
            Failure::new(UNAVAILABLE, what, "install the mcp-run that belongs to the broker")
        })?;
        let mut fields = Vec::with_capacity(FIELDS.len());
        for names in FIELDS {
            let found = names.iter().find_map(|name| credential.fields.get(*name));
            if let (Some(first), Some(value)) = (names.first(), found) {
                // EXPOSE: the desk's own copy, for the instance alone, wiped when it is replaced or withheld.
                fields.push((*first, value.expose(|text| Zeroizing::new(text.to_owned()))));
            }
        }
        let held = Self { lease: credential.lease, fields, ends };
        forms.find(|form| !held.fits(*form)).map_or(Ok(held), |form| Err(unfit(name, form)))
    }

    /// A field; an empty one counts as none.
    fn field(&self, names: Names) -> Option<&str> {
        let field = self.fields.iter().find(|(name, _)| names.first() == Some(name))?;
        Some(field.1.as_str()).filter(|text| !text.is_empty())
    }

    fn fits(&self, form: Form) -> bool {
        form.needs().iter().any(|set| set.iter().all(|names| self.field(names).is_some()))
    }
}

/// The credentials by name.
#[derive(Default)]
pub(super) struct Shelf(BTreeMap<Label, Held>);

impl Shelf {
    /// Takes a credential in the place of the one of the same name.
    pub(super) fn put(&mut self, name: Label, held: Held) {
        self.0.insert(name, held);
    }

    /// The credential of that lease ends then, and no sooner.
    pub(super) fn put_off(&mut self, lease: LeaseId, until: &str) {
        let now = Now::read();
        for held in self.0.values_mut().filter(|held| held.lease == lease) {
            held.ends.put_off(until, now);
        }
    }

    /// Whether something can be handed out of a credential.
    ///
    /// # Errors
    /// Where it has not the fields, or is not here.
    pub(super) fn check(&self, name: &Label, form: Form) -> Result<(), Failure> {
        if self.0.get(name).is_some_and(|held| held.fits(form)) { Ok(()) } else { Err(unfit(name, form)) }
    }

    /// What is handed out of a credential now.
    ///
    /// # Errors
    /// Where it has ended, or is not here.
    pub(super) fn document(&self, name: &Label, form: Form) -> Result<Zeroizing<Vec<u8>>, Refusal> {
        let now = Now::read();
        let held = self.0.get(name).ok_or(Refusal::Withheld)?;
        if held.ends.passed(now) {
            return Err(Refusal::Ended);
        }
        let value = render(held, form, held.ends.shown(now));
        // The words of the writer could quote the value.
        serde_json::to_vec(&value).map(Zeroizing::new).map_err(|_quotes| Refusal::Withheld)
    }

    /// Wipes everything.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

fn unfit(name: &Label, form: Form) -> Failure {
    let set = |names: &&[Names]| {
        let words: Vec<_> =
            names.iter().filter_map(|names| names.first()).map(|n| format!("`{n}`")).collect();
        words.join(" and ")
    };
    let sets: Vec<_> = form.needs().iter().map(set).collect();
    Failure::new(
        CONFIG,
        format!("the credential `{name}` has not the fields {}", sets.join(", nor ")),
        "ask the owner of the server to inject another credential that way, or this one another way",
    )
}

/// The documents: for AWS as the guides of its SDKs have them (container credential provider, process credential
/// provider), for Kubernetes as `client.authentication.k8s.io/v1`. They are wiped by the allocator.
fn render(held: &Held, form: Form, until: String) -> Value {
    let field = |names| held.field(names);
    match form {
        // Some SDKs want to see a `Token`, and take an empty one for none.
        Form::AwsEndpoint => json!({
            "AccessKeyId": field(KEY_ID), "SecretAccessKey": field(KEY), "Token": field(SESSION).unwrap_or(""),
            "Expiration": until,
        }),
        Form::AwsProcess => {
            let mut document = json!({
                "Version": 1, "AccessKeyId": field(KEY_ID), "SecretAccessKey": field(KEY), "Expiration": until,
            });
            if let (Some(session), Some(object)) = (field(SESSION), document.as_object_mut()) {
                object.insert("SessionToken".to_owned(), session.into());
            }
            document
        }
        Form::Kubernetes => {
            let status = match (field(TOKEN), field(CERTIFICATE), field(PRIVATE)) {
                (_, Some(certificate), Some(key)) => json!({
                    "expirationTimestamp": until, "clientCertificateData": certificate, "clientKeyData": key,
                }),
                (token, ..) => json!({ "expirationTimestamp": until, "token": token }),
            };
            json!({ "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": status })
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    fn credential(fields: &Value, expires: &Value) -> IssuedCredential {
        serde_json::from_value(json!({
            "lease": "0199f3a8-0000-7000-8000-000000000000", "fields": fields, "expires_at": expires,
            "revocability": { "bounded": { "seconds": 900 } },
        }))
        .unwrap()
    }

    fn name() -> Label {
        "aws".parse().unwrap()
    }

    fn put(shelf: &mut Shelf, credential: &IssuedCredential, forms: &[Form]) -> Result<(), Failure> {
        Held::of(&name(), credential, forms.iter().copied()).map(|held| shelf.put(name(), held))
    }

    fn served(fields: &Value, expires: &str, form: Form) -> Result<Value, Refusal> {
        let mut shelf = Shelf::default();
        put(&mut shelf, &credential(fields, &expires.into()), &[form]).unwrap();
        shelf.document(&name(), form).map(|text| serde_json::from_slice(&text).unwrap())
    }

    const LATER: &str = "2999-01-01T00:00:00Z";

    #[test]
    fn documents() {
        let aws =
            json!({ "access_key_id": "A", "secret_access_key": "s\"", "session_token": "t", "region": "x" });
        assert_eq!(
            served(&aws, LATER, Form::AwsEndpoint).unwrap(),
            json!({ "AccessKeyId": "A", "SecretAccessKey": "s\"", "Token": "t", "Expiration": LATER })
        );
        assert_eq!(
            served(&aws, LATER, Form::AwsProcess).unwrap(),
            json!({
                "Version": 1, "AccessKeyId": "A", "SecretAccessKey": "s\"", "SessionToken": "t", "Expiration": LATER,
            })
        );
        let user = json!({ "access_key": "A", "secret_key": "s", "security_token": "" });
        assert_eq!(served(&user, LATER, Form::AwsEndpoint).unwrap()["Token"], "");
        assert_eq!(served(&user, LATER, Form::AwsProcess).unwrap().get("SessionToken"), None);
        let status = |fields| served(&fields, LATER, Form::Kubernetes).unwrap()["status"].clone();
        assert_eq!(
            status(json!({ "service_account_token": "t" })),
            json!({ "expirationTimestamp": LATER, "token": "t" })
        );
        assert_eq!(
            status(json!({ "client_certificate": "c", "client_key": "k" })),
            json!({ "expirationTimestamp": LATER, "clientCertificateData": "c", "clientKeyData": "k" })
        );
    }

    #[test]
    fn what_has_ended_is_not_served() {
        let aws = json!({ "access_key_id": "A", "secret_access_key": "s" });
        assert_eq!(served(&aws, "2020-01-01T00:00:00Z", Form::AwsEndpoint), Err(Refusal::Ended));
        let mut shelf = Shelf::default();
        assert_eq!(shelf.document(&name(), Form::AwsProcess).map(drop), Err(Refusal::Withheld));
        put(&mut shelf, &credential(&aws, &LATER.into()), &[]).unwrap();
        shelf.clear();
        assert_eq!(shelf.document(&name(), Form::AwsProcess).map(drop), Err(Refusal::Withheld));
    }

    #[test]
    fn an_end_that_is_put_off() {
        let aws = json!({ "access_key_id": "A", "secret_access_key": "s" });
        let past = credential(&aws, &"2020-01-01T00:00:00Z".into());
        let mut shelf = Shelf::default();
        put(&mut shelf, &past, &[]).unwrap();
        shelf.put_off("0199f3a8-0000-7000-8000-000000000001".parse().unwrap(), LATER);
        assert_eq!(shelf.document(&name(), Form::AwsProcess).map(drop), Err(Refusal::Ended), "another lease");
        shelf.put_off(past.lease, LATER);
        assert!(shelf.document(&name(), Form::AwsProcess).is_ok());
    }

    #[test]
    fn a_credential_of_another_kind_does_not_take_the_place() {
        let mut shelf = Shelf::default();
        let good = json!({ "access_key_id": "A", "secret_access_key": "s" });
        put(&mut shelf, &credential(&good, &LATER.into()), &[Form::AwsEndpoint]).unwrap();
        for (fields, form) in [
            (json!({ "access_key_id": "B" }), Form::AwsEndpoint),
            (json!({ "access_key_id": "B", "secret_access_key": "" }), Form::AwsProcess),
            (json!({ "client_key": "hidden" }), Form::Kubernetes),
        ] {
            let failure = put(&mut shelf, &credential(&fields, &LATER.into()), &[form]).unwrap_err();
            assert_eq!(failure.exit, CONFIG);
            assert!(failure.what.contains("`aws`") && !failure.what.contains("hidden"), "{failure:?}");
        }
        assert!(put(&mut shelf, &credential(&good, &"soon".into()), &[]).is_err());
        let kept = shelf.document(&name(), Form::AwsEndpoint).unwrap();
        assert!(kept.windows(3).any(|three| three == b"\"A\""), "the one before is still served");
    }
}
