//! The keys of `[provider.NAME]` of this kind and of its credentials. Reads and checks texts only.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::key::Algorithm;
use crate::config::{CredentialKeys, Mode, ProviderConfig, Reader};
use crate::provider::http;

/// `[provider.NAME]`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Without a slash at its end.
    pub(super) issuer: String,
    pub(super) algorithm: Algorithm,
    pub(super) rotate: Duration,
    pub(super) publish: Option<PathBuf>,
}

/// One credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) audience: String,
    pub(super) scope: Option<String>,
}

impl ProviderConfig for Settings {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// The only field of a credential.
pub(super) const FIELD: &str = "token";

const HOUR: Duration = Duration::from_secs(3600);
/// Thirty days.
const DEFAULT_ROTATE: Duration = Duration::from_secs(30 * 24 * 3600);
/// A year; more would be no rotation.
const LONGEST_ROTATE: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads `[provider.NAME]`.
pub(super) fn read(reader: &Reader<'_>, _mode: Mode) -> Option<Arc<dyn ProviderConfig>> {
    let issuer = http::address(reader, "issuer");
    let algorithm = match reader.has("algorithm") {
        true => reader.word("algorithm", &[("EdDSA", Algorithm::EdDsa), ("ES256", Algorithm::Es256)]),
        false => Some(Algorithm::EdDsa),
    };
    let rotate = reader.duration_within("rotate", HOUR..=LONGEST_ROTATE, DEFAULT_ROTATE);
    let publish = if reader.has("publish") { reader.path("publish").map(Some) } else { Some(None) };
    Some(Arc::new(Settings {
        issuer: issuer?.as_str().trim_end_matches('/').to_owned(),
        algorithm: algorithm?,
        rotate: rotate?,
        publish: publish?,
    }))
}

/// Reads one credential.
pub(super) fn credential(reader: &Reader<'_>) -> Option<CredentialKeys> {
    let audience = word(reader, "audience", |c| c.is_ascii_graphic());
    let scope = match reader.has("scope") {
        true => word(reader, "scope", |c| c.is_ascii_graphic() || c == ' ').map(Some),
        false => Some(None),
    };
    let settings = Credential { audience: audience?, scope: scope? };
    Some(CredentialKeys { settings: Arc::new(settings), fields: Some(vec![FIELD.to_owned()]) })
}

fn word(reader: &Reader<'_>, key: &str, good: impl Fn(char) -> bool) -> Option<String> {
    let text = reader.required_text(key)?;
    if !text.is_empty() && text.len() <= 1024 && text.chars().all(good) {
        return Some(text);
    }
    let message = format!(
        "`{}` is empty, too long, or has something in it that does not belong there",
        reader.name(key)
    );
    reader.error(key, message, "write printable ASCII, such as \"https://api.example.com\"");
    None
}
