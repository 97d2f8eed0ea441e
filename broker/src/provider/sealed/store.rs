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
use crate::config::{Mode, shell_word};

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
    /// Options of the commands in hints, each with a space before it.
    options: String,
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
        let whose = if config.mode == Mode::User { " --user" } else { " --mode system" };
        Self { state_dir: state_dir.to_owned(), config, surroundings, options: whose.to_owned() }
    }

    /// The same for a command line that was given `options`, so that its hints can be typed as printed.
    #[must_use]
    pub fn asked_with(self, options: &str) -> Self {
        Self { options: options.to_owned(), ..self }
    }

    /// The same without asking the keyring, which may be locked and ask the person.
    #[must_use]
    pub fn without_keyring(mut self) -> Self {
        self.surroundings.bus = None;
        self
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
        Some((what, self.move_the_key(&key)))
    }

    /// Step by step; the file goes last, after the store was seen to open without it.
    fn move_the_key(&self, key: &Path) -> String {
        let (key, old) = (shell_word(key), shell_word(&key.with_extension("key.old")));
        let (source, copy) = match self.config.mode {
            Mode::System => (
                Source::Credential,
                format!(
                    "as root: systemd-creds encrypt --name=mcp-broker-sealed-key {key} \
                     /etc/credstore.encrypted/mcp-broker-sealed-key, and restart the unit"
                ),
            ),
            Mode::User => (
                Source::Keyring,
                format!(
                    "move the key into the keyring: secret-tool store --label=mcp-broker application mcp-broker \
                     purpose sealed-key < {key}"
                ),
            ),
        };
        let line = match self.config.key {
            Some(Source::File) => {
                format!("write `key = \"{source}\"` in place of \"file\" in broker.toml; then ")
            }
            _ => String::new(),
        };
        format!(
            "{line}{copy}; then mv {key} {old}, and only when `{}` shows the values: shred -u {old}",
            self.command("list")
        )
    }

    /// A value that somebody named is not there.
    #[must_use]
    pub fn missing(&self, name: &SecretName) -> ProviderError {
        let what = format!("the sealed store has no value `{name}`");
        ProviderError::new(Blame::Missing, what, self.cure(name.as_str()))
    }

    /// The command that seals a value in this store.
    #[must_use]
    pub fn cure(&self, name: &str) -> String {
        self.command(&format!("set {name}"))
    }

    /// A command about this store.
    #[must_use]
    pub fn command(&self, what: &str) -> String {
        format!("mcp-broker secret {what}{}", self.options)
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
