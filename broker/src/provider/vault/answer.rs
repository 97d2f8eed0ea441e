//! What a server answered, read into what the broker needs of it; the bytes are wiped when dropped. Secret
//! values become [`Secret`] straight from the bytes, without a tree of plain text between.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use mcp_broker_proto::Secret;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::fault::Complaint;

/// An answer with any status. Not `Debug`: the body may be a credential.
pub(super) struct Answer {
    /// HTTP status.
    pub(super) status: u16,
    body: Zeroizing<Vec<u8>>,
}

/// The token that an answer brings.
#[derive(Deserialize)]
pub(super) struct NewAuth {
    /// The token.
    pub(super) client_token: Secret,
    /// Names it without opening anything.
    pub(super) accessor: String,
    /// Its life in seconds; 0 for ever.
    pub(super) lease_duration: u64,
    /// Whether it can be renewed.
    pub(super) renewable: bool,
    /// Whether it hangs below no other token. What is not said counts as the worse.
    #[serde(default = "is_worse")]
    pub(super) orphan: bool,
}

fn is_worse() -> bool {
    true
}

/// A token that holds an answer instead of its content.
#[derive(Deserialize)]
pub(super) struct Wrapped {
    /// Opens it, once.
    pub(super) token: Secret,
    /// The path that was asked.
    pub(super) creation_path: String,
}

/// What the server says of a lease.
pub(super) struct LeaseTerms {
    /// Its id; empty where there is no lease.
    pub(super) id: String,
    /// Its life from now.
    pub(super) life: Duration,
    /// Whether it can be renewed.
    pub(super) renewable: bool,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, borrow)]
    lease_id: Cow<'a, str>,
    #[serde(default)]
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    auth: Option<&'a RawValue>,
    #[serde(default, borrow)]
    wrap_info: Option<&'a RawValue>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

impl Answer {
    /// Takes the body over.
    pub(super) fn new(response: http::Response<Vec<u8>>) -> Self {
        Self { status: response.status().as_u16(), body: Zeroizing::new(response.into_body()) }
    }

    /// Whether the status says that it was done.
    pub(super) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// What a refusal is about.
    pub(super) fn complaint(&self) -> Complaint {
        Complaint::of(&self.body)
    }

    /// The body as it is.
    pub(super) fn plain<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The `data` of it, where that is not secret.
    pub(super) fn data<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.envelope()?.data?.get()).ok()
    }

    /// The token in it.
    pub(super) fn auth(&self) -> Option<NewAuth> {
        serde_json::from_str(self.envelope()?.auth?.get()).ok()
    }

    /// The token that it was wrapped in.
    pub(super) fn wrapped(&self) -> Option<Wrapped> {
        serde_json::from_str(self.envelope()?.wrap_info?.get()).ok()
    }

    /// Whether the server remarked on something.
    pub(super) fn has_warnings(&self) -> bool {
        self.envelope().and_then(|envelope| envelope.warnings).is_some_and(|list| !list.is_empty())
    }

    /// The lease it stands under.
    pub(super) fn lease(&self) -> Option<LeaseTerms> {
        let Envelope { lease_id, lease_duration, renewable, .. } = self.envelope()?;
        let life = Duration::from_secs(lease_duration);
        Some(LeaseTerms { id: lease_id.into_owned(), life, renewable })
    }

    /// The secret fields: those of `data`, or of the `data` in it where the answer is a version of a KV 2
    /// secret (which has `metadata` beside). Texts as they are, other values as compact JSON.
    pub(super) fn fields(&self) -> Option<BTreeMap<String, Secret>> {
        let all = self.raw_fields()?.into_iter();
        all.map(|(name, value)| Some((name, to_secret(value)?))).collect()
    }

    /// Those of them that are texts.
    pub(super) fn texts(&self) -> Option<BTreeMap<String, Secret>> {
        let texts = self.raw_fields()?.into_iter().filter(|(_, value)| value.get().starts_with('"'));
        texts.map(|(name, value)| Some((name, to_secret(value)?))).collect()
    }

    fn raw_fields(&self) -> Option<BTreeMap<String, &RawValue>> {
        let outer: BTreeMap<String, &RawValue> = serde_json::from_str(self.envelope()?.data?.get()).ok()?;
        match (outer.len(), outer.get("data"), outer.get("metadata")) {
            (2, Some(data), Some(_)) => serde_json::from_str(data.get()).ok(),
            _ => Some(outer),
        }
    }

    fn envelope(&self) -> Option<Envelope<'_>> {
        serde_json::from_slice(&self.body).ok()
    }
}

fn to_secret(value: &RawValue) -> Option<Secret> {
    let text = value.get();
    if text.starts_with('"') { serde_json::from_str(text).ok() } else { Some(Secret::new(compact(text))) }
}

/// JSON text without the white space between its tokens.
fn compact(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for c in json.chars() {
        match (in_text, c) {
            (true, _) if escaped => escaped = false,
            (true, '\\') => escaped = true,
            (_, '"') => in_text = !in_text,
            (false, ' ' | '\t' | '\r' | '\n') => continue,
            _ => {}
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn answer(body: &str) -> Answer {
        Answer::new(http::Response::new(body.as_bytes().to_vec()))
    }

    fn check(body: &str, want: Option<&[(&str, &str)]>) {
        let fields = answer(body).fields();
        let plain = fields.map(|fields| {
            // EXPOSE: an invented value of this test.
            let text = |value: &Secret| value.expose(str::to_owned);
            fields.iter().map(|(name, value)| (name.clone(), text(value))).collect::<Vec<_>>()
        });
        let want = want.map(|want| want.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect());
        assert_eq!(plain, want, "{body}");
    }

    #[test]
    fn fields_of_both_shapes() {
        check(
            r#"{"data":{"username":"v-a","password":"p\"\u00e9"}}"#,
            Some(&[("password", "p\"é"), ("username", "v-a")]),
        );
        check(
            r#"{"data":{"data":{"key":"v","n":1.50,"o":{"a": [1, "x \" y"]},"z":null},"metadata":{"version":1}}}"#,
            Some(&[("key", "v"), ("n", "1.50"), ("o", r#"{"a":[1,"x \" y"]}"#), ("z", "null")]),
        );
        check(r#"{"data":{"data":"x"}}"#, Some(&[("data", "x")]));
        check(r#"{"data":{"data":null,"metadata":{}}}"#, None);
        check(r#"{"data":null}"#, None);
        check("<html>", None);
        check(r#"{"data":{},"data":{}}"#, None);
    }

    #[test]
    fn terms_and_tokens() {
        let lease =
            answer(r#"{"lease_id":"a/b","lease_duration":60,"renewable":true,"data":{}}"#).lease().unwrap();
        assert_eq!((lease.id.as_str(), lease.life.as_secs(), lease.renewable), ("a/b", 60, true));
        let auth =
            answer(r#"{"auth":{"client_token":"t","accessor":"a","lease_duration":9,"renewable":false}}"#);
        let auth = auth.auth().unwrap();
        assert_eq!((auth.accessor.as_str(), auth.lease_duration, auth.renewable), ("a", 9, false));
        assert!(answer(r#"{"auth":null}"#).auth().is_none());
        assert!(
            answer(r#"{"warnings":["x"]}"#).has_warnings() && !answer(r#"{"warnings":null}"#).has_warnings()
        );
    }
}
