//! The answers of the engines of clouds, and of Kubernetes: their fields under the names that others use, and their
//! ends. Which of them live on after a revocation is in the parent's table.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::{SignedDuration, Timestamp};
use mcp_broker_proto::Secret;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::super::answer::Answer;
use super::copy;

/// The shortest life that STS grants (`DurationSeconds` of the API reference).
pub(super) const SHORTEST_STS: Duration = Duration::from_secs(900);

/// Both the engine's names and those of the SDKs.
pub(super) const AWS: &[&str] = &[
    "access_key",
    "access_key_id",
    "arn",
    "secret_access_key",
    "secret_key",
    "security_token",
    "session_token",
    "ttl",
];
pub(super) const AWS_PLAIN: &[&str] = &["access_key", "access_key_id", "arn", "ttl"];
pub(super) const GCP_TOKEN: &[&str] = &["expires_at_seconds", "token", "token_ttl"];
pub(super) const GCP_TOKEN_PLAIN: &[&str] = &["expires_at_seconds", "token_ttl"];
pub(super) const GCP_KEY: &[&str] = &["key_algorithm", "key_json", "key_type", "private_key_data"];
pub(super) const GCP_KEY_PLAIN: &[&str] = &["key_algorithm", "key_type"];
pub(super) const KUBERNETES: &[&str] =
    &["service_account_name", "service_account_namespace", "service_account_token"];
pub(super) const KUBERNETES_PLAIN: &[&str] = &["service_account_name", "service_account_namespace"];

/// An IAM user has no session token: the engine says `null`, which is nothing that a server should be given.
/// Versions before 1.16 say `security_token` only, later ones `session_token` as well.
pub(super) fn finish_aws(fields: &mut BTreeMap<String, Secret>) {
    for name in ["security_token", "session_token"] {
        // EXPOSE: looked at for the word `null`; nothing is kept.
        if fields.get(name).is_some_and(|value| value.expose(|text| matches!(text, "null" | ""))) {
            fields.remove(name);
        }
    }
    copy(fields, "access_key", "access_key_id");
    copy(fields, "secret_key", "secret_access_key");
    copy(fields, "security_token", "session_token");
}

/// The key file that Google's libraries read is in the answer in base64.
pub(super) fn finish_gcp_key(fields: &mut BTreeMap<String, Secret>) {
    let Some(data) = fields.get("private_key_data") else { return };
    // EXPOSE: decoded into another secret of the same answer; the bytes between are wiped.
    let decoded = data.expose(|text| BASE64_STANDARD.decode(text)).map(Zeroizing::new);
    if let Some(json) = decoded.ok().and_then(|bytes| std::str::from_utf8(&bytes).ok().map(str::to_owned)) {
        fields.insert("key_json".to_owned(), Secret::new(json));
    }
}

/// When a token ends that came without a lease.
pub(super) fn end(answer: &Answer, now: Timestamp) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Ends {
        #[serde(default)]
        expires_at_seconds: Option<i64>,
        #[serde(default)]
        ttl: Option<i64>,
    }
    let ends: Ends = answer.data()?;
    match ends.expires_at_seconds {
        Some(at) => Timestamp::from_second(at).ok(),
        None => now.checked_add(SignedDuration::from_secs(ends.ttl.filter(|ttl| *ttl > 0)?)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finished(finish: fn(&mut BTreeMap<String, Secret>), fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut fields =
            fields.iter().map(|(n, v)| ((*n).to_owned(), Secret::new((*v).to_owned()))).collect();
        finish(&mut fields);
        // EXPOSE: invented values of this test.
        fields.into_iter().map(|(name, value)| (name, value.expose(str::to_owned))).collect()
    }

    #[test]
    fn aws_has_both_names_and_no_null() {
        let names = |fields: &[(&str, &str)]| {
            finished(finish_aws, fields)
                .into_iter()
                .map(|(n, v)| format!("{n}={v}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            names(&[("access_key", "A"), ("secret_key", "S"), ("security_token", "null")]),
            "access_key=A access_key_id=A secret_access_key=S secret_key=S"
        );
        assert_eq!(
            names(&[("access_key", "A"), ("secret_key", "S"), ("security_token", "T")]),
            "access_key=A access_key_id=A secret_access_key=S secret_key=S security_token=T session_token=T"
        );
        assert!(names(&[("session_token", "N"), ("security_token", "O")]).ends_with("session_token=N"));
    }

    #[test]
    fn a_key_of_google_is_decoded() {
        let fields = finished(finish_gcp_key, &[("private_key_data", "e30=")]);
        assert_eq!(fields.first(), Some(&("key_json".to_owned(), "{}".to_owned())));
        assert_eq!(finished(finish_gcp_key, &[("private_key_data", "?")]).len(), 1);
    }
}
