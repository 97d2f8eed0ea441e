//! The store as its users see it: read as a whole, changed as a whole under a lock. The broker and the
//! command line both use it at the same time; readers take no lock, as the file is replaced by rename.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::{Blame, ProviderError};
use super::entries::Entries;
use super::format::{self, FormatError, MAX_FILE};
use super::key::{Found, KEY_FILE, KeySources, Source, Surroundings};
use super::name::SecretName;
use super::settings::SealedConfig;
use super::state_dir::{Lock, StateDir};
use crate::config::Mode;

/// Name of the store in the state directory.
pub(super) const STORE_FILE: &str = "sealed";

const LOCK_FILE: &str = "sealed.lock";

/// How long a change waits for another one, and how long a read may wait for the disk.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often the lock is tried meanwhile.
const LOCK_STEP: Duration = Duration::from_millis(20);

/// One store: where it is and where its key may be. Holds no value and no key.
#[derive(Debug, Clone)]
pub struct Store {
    state_dir: PathBuf,
    config: SealedConfig,
    surroundings: Surroundings,
}

/// A store that was opened.
pub struct Opened {
    /// Its content.
    pub entries: Entries,
    /// Where its key was found.
    pub source: Source,
}

impl Store {
    /// The store in `state_dir`; nothing is opened yet.
    #[must_use]
    pub fn new(state_dir: &Path, config: SealedConfig, surroundings: Surroundings) -> Self {
        Self { state_dir: state_dir.to_owned(), config, surroundings }
    }

    /// Opens it. `None` where nothing was ever sealed.
    ///
    /// # Errors
    /// Where its file or its key cannot be used.
    pub async fn read(&self) -> Result<Option<Opened>, ProviderError> {
        let state_dir = self.state_dir.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let Some(dir) = StateDir::open(&state_dir)? else { return Ok(None) };
            Ok(dir.read(STORE_FILE, MAX_FILE)?.map(|file| (dir, file)))
        });
        let read = match tokio::time::timeout(PATIENCE, reading).await {
            Ok(Ok(read)) => read?,
            Ok(Err(_)) | Err(_) => return Err(self.slow()),
        };
        let Some((dir, file)) = read else { return Ok(None) };
        self.open(&dir, &file).await.map(|(entries, found)| Some(Opened { entries, source: found.source }))
    }

    /// Changes it by `change`, from an empty one where there is none, and seals it anew. Where `change`
    /// fails the store stays as it was. Answers also where the key is kept.
    ///
    /// # Errors
    /// Where its file or its key cannot be used, or as `change` says.
    pub async fn change<T>(
        &self,
        change: impl FnOnce(&mut Entries) -> Result<T, ProviderError>,
    ) -> Result<(T, Source), ProviderError> {
        let dir = self.dir_to_write()?;
        let _lock = self.lock(&dir).await?;
        let (mut entries, found) = match dir.read(STORE_FILE, MAX_FILE)? {
            Some(file) => self.open(&dir, &file).await?,
            None => (Entries::default(), self.keys(&dir).of_new_store().await?),
        };
        let answer = change(&mut entries)?;
        let sealed = format::seal(&entries, &found.key, found.source);
        dir.replace(STORE_FILE, &sealed.map_err(|error| self.unreadable(error))?)?;
        Ok((answer, found.source))
    }

    /// What is weaker than it could be about a key from `source`, and the command that mends it. The very
    /// same key is moved, so the store opens as before.
    #[must_use]
    pub fn weakness(&self, source: Source) -> Option<(String, String)> {
        if source != Source::File {
            return None;
        }
        let key = self.state_dir.join(KEY_FILE);
        let what = format!(
            "whoever can read both `{}` and `{}` can read the values",
            self.path().display(),
            key.display()
        );
        let key = key.display();
        let hint = match self.config.mode {
            Mode::System => format!(
                "as root: systemd-creds encrypt --name=mcp-broker-sealed-key '{key}' \
                 /etc/credstore.encrypted/mcp-broker-sealed-key, restart the unit, then shred -u '{key}'"
            ),
            Mode::User => format!(
                "move the key into the keyring: secret-tool store --label='mcp-broker' application mcp-broker \
                 purpose sealed-key < '{key}', then shred -u '{key}'"
            ),
        };
        Some((what, hint))
    }

    /// A value that somebody named is not there.
    #[must_use]
    pub fn missing(&self, name: &SecretName) -> ProviderError {
        let what = format!("the sealed store has no value `{name}`");
        ProviderError::new(Blame::Missing, what, self.cure(name.as_str()))
    }

    /// The command that seals a value in this store.
    pub(super) fn cure(&self, name: &str) -> String {
        let own = if self.config.mode == Mode::User { " --user" } else { "" };
        format!("mcp-broker secret set {name}{own}")
    }

    /// Path of the store's file, for messages.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.state_dir.join(STORE_FILE)
    }

    async fn open(&self, dir: &StateDir, file: &[u8]) -> Result<(Entries, Found), ProviderError> {
        let (header, _) = format::split(file).map_err(|error| self.unreadable(error))?;
        let found = self.keys(dir).of_store(&header).await?;
        let (_, entries) = format::open(file, &found.key).map_err(|error| self.unreadable(error))?;
        Ok((entries, found))
    }

    fn keys<'a>(&'a self, dir: &'a StateDir) -> KeySources<'a> {
        KeySources { config: self.config, surroundings: &self.surroundings, dir }
    }

    /// A person's own state directory is made where it is missing; the system's is the package's to make,
    /// because made by root it would be root's and not the broker's.
    fn dir_to_write(&self) -> Result<StateDir, ProviderError> {
        if self.config.mode == Mode::User {
            return StateDir::open_or_make(&self.state_dir);
        }
        StateDir::open(&self.state_dir)?.ok_or_else(|| {
            let what = format!("the state directory `{}` does not exist", self.state_dir.display());
            let hint = "start the unit once, or run systemd-tmpfiles --create mcp-broker.conf";
            ProviderError::new(Blame::Config, what, hint)
        })
    }

    async fn lock(&self, dir: &StateDir) -> Result<Lock, ProviderError> {
        let trying = async {
            loop {
                if let Some(lock) = dir.try_lock(LOCK_FILE)? {
                    return Ok(lock);
                }
                tokio::time::sleep(LOCK_STEP).await;
            }
        };
        tokio::time::timeout(PATIENCE, trying).await.unwrap_or_else(|_elapsed| {
            let what = format!("another program is changing `{}`", self.path().display());
            Err(ProviderError::new(Blame::Busy(None), what, "try again when it is done"))
        })
    }

    fn slow(&self) -> ProviderError {
        let what = format!("`{}` could not be read within {} s", self.path().display(), PATIENCE.as_secs());
        ProviderError::new(Blame::Unreachable, what, "look at the disk and the kernel's log")
    }

    fn unreadable(&self, error: FormatError) -> ProviderError {
        let hint = match error {
            FormatError::Version(_) => "update mcp-broker",
            FormatError::OtherKey => "restore the key that it was sealed with",
            FormatError::NotAStore | FormatError::Damaged => {
                "restore it from a backup, or move it away and set the values again"
            }
        };
        ProviderError::new(Blame::Config, format!("`{}` {error}", self.path().display()), hint)
    }
}
