//! Which secrets engine a path belongs to, by its shape, and what follows from that: how it is asked, which fields
//! it answers with, which of them are no secret, and what a revocation is worth. Asks the server nothing.
//!
//! A mount may have any name. One that has not its engine's usual name is known only where the definition says
//! `engine`; otherwise too little is claimed rather than too much.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::Secret;
use serde_json::{Map, Value};

use super::answer::Answer;
use super::path::SecretPath;

pub(super) mod cloud;
pub(super) mod pki;
pub(super) mod ssh;

/// What stands behind a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    /// Users of a database; Valkey and Redis are databases as well.
    Database,
    /// Users of a message broker.
    RabbitMq,
    /// Certificates with a key that the server makes.
    PkiIssue,
    /// Certificates for a signing request of the definition.
    PkiSign,
    /// A user certificate for a public key.
    SshSign,
    /// The same with a key that the server makes.
    SshIssue,
    /// One-time passwords, which the host asks the server for at each use.
    SshOtp,
    /// Tokens of service accounts.
    Kubernetes,
    /// IAM users, or STS where the role says so.
    AwsCreds,
    /// STS.
    AwsSts,
    /// OAuth access tokens.
    GcpToken,
    /// Keys of service accounts.
    GcpKey,
    /// Service principals.
    Azure,
    /// Versioned values.
    Kv2,
    /// Anything else.
    Other,
}

/// An engine of a path, and where it is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) engine: Engine,
    pub(super) mount: String,
}

/// Usual mount, which is the engine's word as well, and what comes below it; `*` is any one segment.
const SHAPES: &[(&str, &str, Engine)] = &[
    ("database", "creds/*", Engine::Database),
    ("rabbitmq", "creds/*", Engine::RabbitMq),
    ("pki", "issue/*", Engine::PkiIssue),
    ("pki", "issuer/*/issue/*", Engine::PkiIssue),
    ("pki", "sign/*", Engine::PkiSign),
    ("pki", "issuer/*/sign/*", Engine::PkiSign),
    ("ssh", "sign/*", Engine::SshSign),
    ("ssh", "issue/*", Engine::SshIssue),
    ("ssh", "creds/*", Engine::SshOtp),
    ("kubernetes", "creds/*", Engine::Kubernetes),
    ("aws", "creds/*", Engine::AwsCreds),
    ("aws", "sts/*", Engine::AwsSts),
    ("gcp", "token/*", Engine::GcpToken),
    ("gcp", "key/*", Engine::GcpKey),
    ("gcp", "roleset/*/token", Engine::GcpToken),
    ("gcp", "roleset/*/key", Engine::GcpKey),
    ("gcp", "static-account/*/token", Engine::GcpToken),
    ("gcp", "static-account/*/key", Engine::GcpKey),
    ("gcp", "impersonated-account/*/token", Engine::GcpToken),
    ("azure", "creds/*", Engine::Azure),
];

/// First segments of paths that give no credential, and what to use instead.
const NO_CREDENTIAL: &[(&str, &str)] = &[
    ("sys", "`sys/` is the server's own: name a path of a secrets engine"),
    ("auth", "`auth/` signs in: name a path of a secrets engine"),
    ("identity", "for a signed token that says who asks, use a provider of kind `jwt`"),
    (
        "transit",
        "transit works with keys that never leave the server: keep a key in KV, or use `pki/issue/ROLE` or \
         `ssh/sign/ROLE` for one that is made for each launch",
    ),
    ("cubbyhole", "a cubbyhole belongs to one token, and a launch's is new: keep the value in KV"),
];

/// Where the engines of [`SHAPES`] keep what sets them up.
const SETUP: &[&str] =
    &["config", "roles", "role", "root", "intermediate", "keys", "issuers", "revoke", "tidy"];

/// The engines' words, for `engine = "…"`.
pub(super) fn words() -> Vec<(&'static str, &'static str)> {
    let mut words: Vec<_> = SHAPES.iter().map(|(word, _, _)| (*word, *word)).collect();
    words.dedup();
    words
}

/// Why a path gives no credential, where its shape tells: the cure.
pub(super) fn refuse(path: &SecretPath, word: Option<&str>) -> Option<String> {
    let known = NO_CREDENTIAL.iter().find(|(mount, _)| *mount == path.mount());
    if let Some((_, cure)) = known.filter(|_| word.is_none()) {
        return Some((*cure).to_owned());
    }
    let engine = word.unwrap_or_else(|| path.mount());
    if path.is_kv2() || place(path, word).engine != Engine::Other {
        return None;
    }
    let shapes: Vec<_> = SHAPES.iter().filter(|(mount, _, _)| *mount == engine).collect();
    let second = path.as_str().split('/').nth(1).unwrap_or("");
    if shapes.is_empty() || (word.is_none() && !SETUP.contains(&second)) {
        return None;
    }
    let list = shapes.iter().map(|(_, tail, _)| format!("MOUNT/{}", tail.replace('*', "NAME")));
    Some(format!("credentials of this engine are at {}", list.collect::<Vec<_>>().join(", ")))
}

/// The engine of a path; `word` is what the definition says of it.
pub(super) fn place(path: &SecretPath, word: Option<&str>) -> Place {
    let segments: Vec<_> = path.as_str().split('/').collect();
    for (usual, tail, engine) in SHAPES {
        let tail: Vec<_> = tail.split('/').collect();
        let Some(split) = segments.len().checked_sub(tail.len()).filter(|split| *split > 0) else { continue };
        let (mount, below) = segments.split_at(split);
        let fits = below.iter().zip(&tail).all(|(is, want)| *want == "*" || is == want);
        let is_it = word.map_or_else(|| mount == [*usual], |word| word == *usual);
        if fits && is_it {
            return Place { engine: *engine, mount: mount.join("/") };
        }
    }
    let engine = if path.is_kv2() { Engine::Kv2 } else { Engine::Other };
    Place { engine, mount: path.mount().to_owned() }
}

impl Engine {
    /// Whether it is asked by a write where the definition does not say.
    pub(super) fn is_written(self) -> bool {
        use Engine::{Kubernetes, PkiIssue, PkiSign, SshIssue, SshOtp, SshSign};
        matches!(self, PkiIssue | PkiSign | SshIssue | SshSign | SshOtp | Kubernetes)
    }

    /// Whether what it issues works until its end, whatever is revoked. `None`: its leases tell, which these engines
    /// mark as not renewable where revoking them does nothing. The engines for which this is certain: STS of `aws`
    /// and tokens of `gcp` answer a revocation with success and do nothing; nobody takes back a `kubernetes` token or
    /// an `ssh` certificate; a certificate of `pki` works wherever the revocation list is not read.
    pub(super) fn outlives_revocation(self) -> Option<bool> {
        match self {
            Self::Database | Self::RabbitMq | Self::SshOtp => Some(false),
            Self::PkiIssue | Self::PkiSign | Self::SshSign | Self::SshIssue => Some(true),
            Self::Kubernetes | Self::AwsSts | Self::GcpToken => Some(true),
            Self::AwsCreds | Self::GcpKey | Self::Azure | Self::Kv2 | Self::Other => None,
        }
    }

    /// The fields that it answers with, where all of them are known.
    pub(super) fn fields(self) -> Option<&'static [&'static str]> {
        Some(match self {
            Self::Database | Self::RabbitMq => &["username", "password"],
            Self::PkiIssue => pki::ISSUED,
            Self::PkiSign => pki::SIGNED,
            Self::SshSign | Self::SshIssue => ssh::SIGNED,
            Self::SshOtp => ssh::PASSWORD,
            Self::Kubernetes => cloud::KUBERNETES,
            Self::AwsCreds | Self::AwsSts => cloud::AWS,
            Self::GcpToken => cloud::GCP_TOKEN,
            Self::GcpKey => cloud::GCP_KEY,
            Self::Azure => &["client_id", "client_secret"],
            Self::Kv2 | Self::Other => return None,
        })
    }

    /// Those of them that say whose they are, or what can be shown to anybody, and open nothing.
    pub(super) fn plain(self) -> &'static [&'static str] {
        match self {
            Self::PkiIssue | Self::PkiSign => pki::PLAIN,
            Self::SshSign | Self::SshIssue => ssh::SIGNED_PLAIN,
            Self::SshOtp => ssh::PASSWORD_PLAIN,
            Self::Kubernetes => cloud::KUBERNETES_PLAIN,
            Self::AwsCreds | Self::AwsSts => cloud::AWS_PLAIN,
            Self::GcpToken => cloud::GCP_TOKEN_PLAIN,
            Self::GcpKey => cloud::GCP_KEY_PLAIN,
            Self::Azure => &["client_id"],
            Self::Database | Self::RabbitMq | Self::Kv2 | Self::Other => &["username"],
        }
    }

    /// Asks an engine that takes a life for the one that is wanted, where the definition does not.
    pub(super) fn ask_for(self, life: Duration, data: &mut Map<String, Value>) {
        let least = match self {
            Self::AwsSts => cloud::SHORTEST_STS,
            Self::PkiIssue | Self::PkiSign | Self::SshSign | Self::SshIssue | Self::Kubernetes => {
                Duration::ZERO
            }
            _ => return,
        };
        if !data.contains_key("ttl") && !data.contains_key("not_after") {
            data.insert("ttl".to_owned(), format!("{}s", life.max(least).as_secs()).into());
        }
    }

    /// When what was issued without a lease ends, where the answer says so.
    pub(super) fn end(self, answer: &Answer, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::PkiIssue | Self::PkiSign => pki::end(answer),
            Self::SshSign | Self::SshIssue => ssh::end(answer),
            Self::GcpToken | Self::AwsSts => cloud::end(answer, now),
            _ => None,
        }
    }

    /// The fields as servers want them: other names beside the engine's own, lists as text.
    pub(super) fn finish(self, fields: &mut BTreeMap<String, Secret>) {
        match self {
            Self::PkiIssue | Self::PkiSign => pki::finish(fields),
            Self::SshIssue | Self::SshSign => ssh::finish(fields),
            Self::AwsCreds | Self::AwsSts => cloud::finish_aws(fields),
            Self::GcpKey => cloud::finish_gcp_key(fields),
            _ => {}
        }
    }

    /// What names it to people.
    pub(super) fn detail(self, fields: &BTreeMap<String, Secret>) -> Option<String> {
        let (what, field) = match self {
            Self::PkiIssue | Self::PkiSign | Self::SshSign | Self::SshIssue => {
                ("serial number", "serial_number")
            }
            Self::AwsCreds | Self::AwsSts => ("access key", "access_key_id"),
            Self::Azure => ("client", "client_id"),
            Self::Kubernetes => ("service account", "service_account_name"),
            Self::Database | Self::RabbitMq => ("user", "username"),
            _ => return None,
        };
        Some(format!("{what} {}", shown(fields.get(field)?)?))
    }
}

/// Longest value that is shown to people, in bytes.
const MAX_SHOWN: usize = 128;

/// A field that is not secret, if it can be shown on a line.
fn shown(value: &Secret) -> Option<String> {
    // EXPOSE: one of the engine's plain fields, which opens nothing; it goes to the person's status.
    let text = value.expose(str::to_owned);
    let fits = text.len() <= MAX_SHOWN && text.chars().all(|c| c.is_ascii_graphic());
    fits.then_some(text)
}

/// A second name for a field.
fn copy(fields: &mut BTreeMap<String, Secret>, from: &str, to: &str) {
    if let Some(value) = fields.get(from).filter(|_| !fields.contains_key(to)) {
        // EXPOSE: into another secret of the same answer, wiped with it.
        let twin = value.expose(|text| Secret::new(text.to_owned()));
        fields.insert(to.to_owned(), twin);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn check(path: &str, word: Option<&str>, engine: Engine, mount: &str) {
        let want = Place { engine, mount: mount.to_owned() };
        assert_eq!(place(&path.parse().unwrap(), word), want, "{path} {word:?}");
    }

    #[test]
    fn shapes_tell_engines() {
        check("database/creds/x", None, Engine::Database, "database");
        check("pki/issue/x", None, Engine::PkiIssue, "pki");
        check("pki/issuer/a/sign/x", None, Engine::PkiSign, "pki");
        check("team/ca/issue/x", None, Engine::Other, "team");
        check("team/ca/issue/x", Some("pki"), Engine::PkiIssue, "team/ca");
        check("ssh/creds/x", None, Engine::SshOtp, "ssh");
        check("ssh/creds/x", Some("database"), Engine::Database, "ssh");
        check("aws/sts/x", None, Engine::AwsSts, "aws");
        check("gcp/roleset/x/token", None, Engine::GcpToken, "gcp");
        check("gcp/roleset/x", None, Engine::Other, "gcp");
        check("secret/data/x", None, Engine::Kv2, "secret");
        check("pki/data/x", None, Engine::Kv2, "pki");
        assert_eq!(words().len(), 8, "{:?}", words());
    }

    #[test]
    fn what_is_no_credential_is_refused_with_a_word() {
        let table = [
            ("transit/encrypt/x", None, Some("never leave")),
            ("identity/oidc/token/x", None, Some("kind `jwt`")),
            ("cubbyhole/x", None, Some("KV")),
            ("pki/root/generate/internal", None, Some("MOUNT/issue/NAME")),
            ("aws/roles/x", None, Some("MOUNT/sts/NAME")),
            ("team/aws/roles/x", Some("aws"), Some("MOUNT/creds/NAME")),
            ("transit/creds/x", Some("database"), None),
            ("pki/issue/x", None, None),
            ("pki/cert/ca", None, None),
            ("kv/roles", None, None),
            ("database/static-creds/x", None, None),
        ];
        for (path, word, want) in table {
            let got = refuse(&path.parse().unwrap(), word);
            assert_eq!(got.is_some(), want.is_some(), "{path}: {got:?}");
            assert!(got.unwrap_or_default().contains(want.unwrap_or("")), "{path}");
        }
    }

    #[test]
    fn a_life_is_asked_for_where_the_engine_takes_one() {
        let ask = |engine: Engine, data: Value| {
            let mut data = data.as_object().unwrap().clone();
            engine.ask_for(Duration::from_secs(300), &mut data);
            data.get("ttl").cloned()
        };
        assert_eq!(ask(Engine::PkiIssue, serde_json::json!({})), Some("300s".into()));
        assert_eq!(ask(Engine::PkiIssue, serde_json::json!({"ttl": "1h"})), Some("1h".into()));
        assert_eq!(ask(Engine::AwsSts, serde_json::json!({})), Some("900s".into()));
        assert_eq!(ask(Engine::Database, serde_json::json!({})), None);
    }
}
