//! The keys of `[provider.NAME]` with `kind = "sealed"` and of its credentials: read, described, parsed.

use std::any::Any;
use std::sync::Arc;

use super::key::Source;
use super::name::SecretName;
use crate::config::{CredentialKeys, Misfit, Mode, ProviderConfig, Reader};

/// `[provider.NAME]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SealedConfig {
    /// For whom the broker works: only a person's own broker may use a keyring.
    pub mode: Mode,
    /// The only source that may be used; `None`: the first that is there.
    pub key: Option<Source>,
}

impl ProviderConfig for SealedConfig {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn judge_secret(&self, path: &str, field: Option<&str>) -> Option<Result<(), Misfit>> {
        let misfit = |key, what: String, hint| Some(Err(Misfit { key, what, hint }));
        if let Err(error) = path.parse::<SecretName>() {
            let hint = "write the name that `mcp-broker secret set NAME` was given";
            return misfit("path", error.to_string(), hint);
        }
        if field.is_some_and(|field| field != FIELD) {
            let what = format!("is not `{FIELD}`, the only one that a sealed value has");
            return misfit("field", what, "leave it out");
        }
        Some(Ok(()))
    }
}

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedCredential {
    /// The value's name in the store.
    pub secret: SecretName,
}

/// The only field of a credential.
pub(super) const FIELD: &str = "value";

/// JSON Schema of the provider's keys.
pub(super) const PROVIDER_SCHEMA: &str = r#"{
  "key": {
    "description": "Where the store's key is kept; auto takes the first that is there, in this order",
    "enum": ["auto", "credential", "keyring", "file"],
    "default": "auto"
  }
}"#;

/// JSON Schema of a credential's keys.
pub(super) const CREDENTIAL_SCHEMA: &str = r#"{
  "secret": {
    "description": "The name under which `mcp-broker secret set` sealed the value; its field is {NAME.value}",
    "type": "string",
    "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
  }
}"#;

/// Reads `[provider.NAME]`.
pub(super) fn provider(reader: &Reader<'_>, mode: Mode) -> Option<Arc<dyn ProviderConfig>> {
    let words = [
        ("auto", None),
        ("credential", Some(Source::Credential)),
        ("keyring", Some(Source::Keyring)),
        ("file", Some(Source::File)),
    ];
    let key = if reader.has("key") { reader.word("key", &words)? } else { None };
    if mode == Mode::System && key == Some(Source::Keyring) {
        let what = "a keyring is a person's own, so the system broker cannot use one";
        reader.error("key", what, "write \"credential\", \"file\" or \"auto\"");
        return None;
    }
    Some(Arc::new(SealedConfig { mode, key }))
}

/// Reads one credential.
pub(super) fn credential(reader: &Reader<'_>) -> Option<CredentialKeys> {
    if !reader.has("secret") {
        reader.missing("secret");
        return None;
    }
    let secret = reader.parsed("secret", "write the name that `mcp-broker secret set NAME` was given")?;
    let settings = Arc::new(SealedCredential { secret });
    Some(CredentialKeys { settings, fields: Some(vec![FIELD.to_owned()]) })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use super::*;
    use crate::config::testing::read_text;

    #[test]
    fn provider_keys() {
        for (text, mode, want) in [
            ("", Mode::System, Some(None)),
            ("key = \"auto\"", Mode::User, Some(None)),
            ("key = \"keyring\"", Mode::User, Some(Some(Source::Keyring))),
            ("key = \"credential\"", Mode::System, Some(Some(Source::Credential))),
            ("key = \"file\"", Mode::System, Some(Some(Source::File))),
            ("key = \"keyring\"", Mode::System, None),
            ("key = \"tpm\"", Mode::User, None),
            ("key = 1", Mode::User, None),
        ] {
            let (config, found) = read_text(text, |reader| provider(reader, mode));
            let key = config.map(|c| c.as_any().downcast_ref::<SealedConfig>().unwrap().key);
            assert_eq!(key, want, "{text}");
            assert_eq!(found.is_empty(), want.is_some(), "{text}: {found}");
        }
        let (_, found) = read_text("kye = \"file\"", |reader| provider(reader, Mode::User));
        assert!(found.contains("did you mean `key`?"), "{found}");
    }

    #[test]
    fn credential_keys() {
        let (keys, found) = read_text("secret = \"GITHUB_TOKEN\"", credential);
        let keys = keys.unwrap();
        assert_eq!(keys.fields, Some(vec!["value".to_owned()]));
        let settings = keys.settings.downcast_ref::<SealedCredential>().unwrap();
        assert_eq!((settings.secret.as_str(), found.as_str()), ("GITHUB_TOKEN", ""));
        for bad in ["", "secret = \"a/b\"", "secret = 1"] {
            let (keys, found) = read_text(bad, credential);
            assert!(keys.is_none() && found.contains("hint: "), "{bad}: {found}");
        }
    }

    #[test]
    fn schemas_are_json_and_name_the_keys() {
        for (schema, key) in [(PROVIDER_SCHEMA, "key"), (CREDENTIAL_SCHEMA, "secret")] {
            let schema: serde_json::Value = serde_json::from_str(schema).unwrap();
            assert!(schema.get(key).is_some());
        }
    }
}
