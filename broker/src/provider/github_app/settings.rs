//! The keys of `[provider.NAME]` of this kind and of its credentials. Reads and checks texts only.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use reqwest::Url;

use super::narrow::{Level, Narrowed};
use crate::config::{CredentialKeys, Mode, ProviderConfig, Reader};
use crate::provider::{Source, http};

/// `[provider.NAME]`, parsed.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) app_id: String,
    pub(super) installation_id: String,
    pub(super) private_key: Source,
    pub(super) api: Url,
    pub(super) ca_file: Option<PathBuf>,
}

impl ProviderConfig for Settings {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

/// The only secret field of a credential.
pub(super) const FIELD: &str = "token";

/// More are refused by GitHub (REST API, "Create an installation access token for an app").
const MAX_REPOSITORIES: usize = 500;

/// Reads `[provider.NAME]`.
pub(super) fn read(reader: &Reader<'_>, _mode: Mode) -> Option<Arc<dyn ProviderConfig>> {
    let word = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let app_id = id(reader, "app_id", word);
    let installation_id = id(reader, "installation_id", number);
    let private_key = if reader.has("private_key") {
        Source::read(reader, "private_key")
    } else {
        reader.missing("private_key");
        None
    };
    let api =
        if reader.has("api") { http::address(reader, "api") } else { "https://api.github.com".parse().ok() };
    let ca_file = reader.path("ca_file");
    Some(Arc::new(Settings {
        app_id: app_id?,
        installation_id: installation_id?,
        private_key: private_key?,
        api: api?,
        ca_file,
    }))
}

fn id(reader: &Reader<'_>, key: &str, good: impl Fn(&str) -> bool) -> Option<String> {
    let text = reader.required_text(key)?;
    if !text.is_empty() && text.len() <= 64 && good(&text) {
        return Some(text);
    }
    reader.error(
        key,
        format!("`{}` is not an id", reader.name(key)),
        "copy it from the app's settings, as a text",
    );
    None
}

/// Reads one credential.
pub(super) fn credential(reader: &Reader<'_>) -> Option<CredentialKeys> {
    let repositories = repositories(reader);
    let permissions = permissions(reader);
    let settings = Narrowed { repositories: repositories?, permissions: permissions? };
    Some(CredentialKeys { settings: Arc::new(settings), fields: Some(vec![FIELD.to_owned()]) })
}

fn repositories(reader: &Reader<'_>) -> Option<Vec<String>> {
    if !reader.has("repositories") {
        reader.missing("repositories");
        return None;
    }
    let names = reader.texts("repositories")?;
    let good = |name: &String| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        !name.is_empty() && name.len() <= 100 && name.bytes().all(plain)
    };
    if (1..=MAX_REPOSITORIES).contains(&names.len()) && names.iter().all(good) {
        return Some(names);
    }
    let message = format!("`{}` is not a list of names of repositories", reader.name("repositories"));
    reader.error("repositories", message, "write 1 to 500 names without their owner, such as [\"orders\"]");
    None
}

fn permissions(reader: &Reader<'_>) -> Option<std::collections::BTreeMap<String, Level>> {
    if !reader.has("permissions") {
        reader.missing("permissions");
        return None;
    }
    let table = reader.table("permissions")?;
    let mut found = std::collections::BTreeMap::new();
    for (key, span) in table.keys() {
        let level =
            table.word(&key, &[("read", Level::Read), ("write", Level::Write), ("admin", Level::Admin)]);
        if key.is_empty() || !key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') {
            table.error_at(
                &span,
                format!("`{key}` is no permission"),
                "write one such as `contents` or `pull_requests`",
            );
            return None;
        }
        found.insert(key, level?);
    }
    table.finish();
    if found.is_empty() {
        let message =
            format!("`{}` is empty: the token would have all that the app has", reader.name("permissions"));
        reader.error("permissions", message, "write what the tools need, such as { contents = \"read\" }");
        return None;
    }
    Some(found)
}
