//! A secret that the broker itself needs, such as the key of an app or an admin's login: where it is kept, and how
//! it is read. Read when it is needed and forgotten then, so that one that is rotated is the one that is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use mcp_broker_proto::Secret;
use mcp_broker_proto::names::Label;

use super::{Blame, MintRequest, Provider, ProviderError, files};
use crate::config::Reader;

/// The providers by name, for all of them and for the broker's whole life: one that is no longer in the configuration
/// still has to end what it made, and finds here the newest that ever had the name from which it reads its secret.
///
/// Each of them may hold this, so what is in here once is never dropped, only replaced under its name.
#[derive(Clone, Default)]
pub struct Peers(Arc<RwLock<BTreeMap<Label, Arc<dyn Provider>>>>);

impl Peers {
    /// Puts the providers of a configuration in force. Those of earlier ones stay under names that are not in `all`.
    pub fn fill(&self, all: &BTreeMap<Label, Arc<dyn Provider>>) {
        let now = all.iter().map(|(name, provider)| (name.clone(), Arc::clone(provider)));
        self.0.write().unwrap_or_else(PoisonError::into_inner).extend(now);
    }

    /// What the provider `name` says in a token that it signs: whom `request` is for, to `audience`.
    ///
    /// # Errors
    /// Where it is not there, or signs nothing.
    pub async fn vouch(
        &self,
        name: &Label,
        request: &MintRequest,
        audience: &str,
    ) -> Result<Secret, ProviderError> {
        let provider = self.get(name).ok_or_else(|| absent("a token is to be signed by", name))?;
        provider.vouch(request, audience).await
    }

    fn get(&self, name: &Label) -> Option<Arc<dyn Provider>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(name).map(Arc::clone)
    }
}

/// Where a secret of the broker is kept: `{ file = "/PATH" }`, or `{ provider = "NAME", path = "…" }` with
/// `field = "…"` where the provider keeps several under one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The content of a file that nobody else may read, without the line feed at its end.
    File(PathBuf),
    /// A field of what a provider keeps: of kind `sealed` by its name, of kind `vault` by its path.
    Provider {
        /// The provider's name.
        name: Label,
        /// The path or name.
        path: String,
        /// The field; the only one where there is just one.
        field: Option<String>,
    },
}

/// Longer files are refused.
const MAX_FILE: u64 = 64 << 10;

impl Source {
    /// Reads the table `key`; `None` where a mistake was noted.
    pub fn read(reader: &Reader<'_>, key: &str) -> Option<Self> {
        let table = reader.table(key)?;
        let source = match (table.has("file"), table.has("provider")) {
            (true, false) => table.path("file").map(Self::File),
            (false, true) => Self::of_provider(&table),
            _ => {
                let message = format!("`{}` needs either `file` or `provider`", table.path_of_table());
                reader.error(key, message, HINT);
                None
            }
        };
        table.finish();
        source
    }

    fn of_provider(table: &Reader<'_>) -> Option<Self> {
        let name = table.parsed("provider", "write the name of a [provider.NAME] of broker.toml");
        let (path, field) = (table.required_text("path"), table.text("field"));
        let (name, path): (Label, String) = (name?, path?);
        table.needs_secret(&name, &path, field.as_deref());
        Some(Self::Provider { name, path, field })
    }

    /// Reads the secret.
    ///
    /// # Errors
    /// Where it is not there, or not to be had now.
    pub async fn fetch(&self, peers: &Peers) -> Result<Secret, ProviderError> {
        match self {
            Self::File(path) => read_file(path).await,
            Self::Provider { name, path, field } => {
                let provider = peers.get(name).ok_or_else(|| absent("a secret is to be read from", name))?;
                pick(provider.look_up(path).await?, name, path, field.as_deref())
            }
        }
    }
}

fn absent(wish: &str, name: &Label) -> ProviderError {
    let what = format!("{wish} provider `{name}`, which is not there");
    ProviderError::new(Blame::Config, what, "add it to broker.toml, or correct the name")
}

fn pick(
    mut fields: BTreeMap<String, Secret>,
    name: &Label,
    path: &str,
    field: Option<&str>,
) -> Result<Secret, ProviderError> {
    let there = fields.keys().map(|field| format!("`{field}`")).collect::<Vec<_>>().join(", ");
    let found = match field {
        Some(field) => fields.remove(field),
        None if fields.len() == 1 => fields.pop_first().map(|(_, value)| value),
        None => None,
    };
    found.ok_or_else(|| {
        let what = match field {
            Some(field) => format!("`{path}` of provider `{name}` has no field `{field}`"),
            None => format!("`{path}` of provider `{name}` has several fields"),
        };
        ProviderError::new(Blame::Config, what, format!("write `field`: there are {there}"))
    })
}

async fn read_file(path: &Path) -> Result<Secret, ProviderError> {
    let (shown, path) = (path.display().to_string(), path.to_owned());
    let read = tokio::task::spawn_blocking(move || secret_file(&path)).await;
    let what = match read {
        Ok(Ok(secret)) => return Ok(secret),
        Ok(Err(error)) => format!("the secret file {shown} cannot be used: {error}"),
        Err(_panicked) => format!("the secret file {shown} cannot be read"),
    };
    let hint = "write it as the broker's account, with `chmod 600`, and as text of at most 64 KiB";
    Err(ProviderError::new(Blame::Config, what, hint))
}

fn secret_file(path: &Path) -> std::io::Result<Secret> {
    let bytes = files::read_secret(path, MAX_FILE)?;
    let text = std::str::from_utf8(&bytes);
    let text =
        text.map_err(|_bytes| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is no text"))?;
    Ok(Secret::new(text.strip_suffix('\n').unwrap_or(text).to_owned()))
}

const HINT: &str = "write `{ file = \"/PATH\" }` or `{ provider = \"NAME\", path = \"…\" }`";
