//! Finds the key of a store among the sources, or makes one for a store that does not exist yet. A store
//! is never opened with, nor rewritten under, a key that its header does not name.

use std::path::PathBuf;

use super::super::super::{Blame, ProviderError};
use super::super::format::Header;
use super::super::settings::SealedConfig;
use super::super::state_dir::StateDir;
use super::{RootKey, Source, credential, file, keyring};
use crate::config::Mode;

/// Name of the broker's unit, below which the service manager keeps its credentials.
const UNIT: &str = "mcp-broker.service";

/// A key and where it was.
pub(crate) struct Found {
    /// The key.
    pub key: RootKey,
    /// Where it was.
    pub source: Source,
}

/// What the process was started with, as far as it says where keys are.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Directories in which the service manager may have put a credential.
    pub credentials: Vec<PathBuf>,
    /// Address of the session bus.
    pub bus: Option<String>,
}

impl Surroundings {
    /// Reads them from the process's environment and the usual places.
    #[must_use]
    #[expect(
        clippy::disallowed_methods,
        reason = "the service manager tells it in the environment; read once, at start"
    )]
    pub fn of_process(mode: Mode) -> Self {
        let directory =
            |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let runtime = directory("XDG_RUNTIME_DIR");
        // The admin's command line runs outside the unit, and finds what the unit was given here.
        let beside = match mode {
            Mode::System => Some(PathBuf::from("/run/credentials")),
            Mode::User => runtime.as_ref().map(|runtime| runtime.join("credentials")),
        };
        let credentials = directory("CREDENTIALS_DIRECTORY");
        let credentials = credentials.into_iter().chain(beside.map(|path| path.join(UNIT))).collect();
        let default_bus = runtime.map(|path| path.join("bus")).filter(|path| path.exists());
        let bus = std::env::var("DBUS_SESSION_BUS_ADDRESS").ok().filter(|address| !address.is_empty());
        let bus = bus.or_else(|| default_bus.map(|path| format!("unix:path={}", path.display())));
        Self { credentials, bus }
    }
}

/// Where to look.
pub(crate) struct KeySources<'a> {
    /// What the configuration says.
    pub config: SealedConfig,
    /// What the process was started with.
    pub surroundings: &'a Surroundings,
    /// Where the key file would be.
    pub dir: &'a StateDir,
}

impl KeySources<'_> {
    /// The key of a store that exists. Where it was when the store was written is asked first.
    ///
    /// # Errors
    /// Where no allowed source has that key: the store then stays as it is.
    pub(crate) async fn of_store(&self, header: &Header) -> Result<Found, ProviderError> {
        let mut order = vec![header.source];
        order.extend(Source::ALL.iter().copied().filter(|source| *source != header.source));
        let mut first = None;
        let mut seen = Vec::new();
        for source in order.into_iter().filter(|source| self.allows(*source)) {
            match self.look(source).await {
                Ok(keys) => {
                    if !keys.is_empty() {
                        seen.push(source.describe());
                    }
                    if let Some(key) = keys.into_iter().find(|key| key.id() == header.id) {
                        return Ok(Found { key, source });
                    }
                }
                // What is wrong with the place where it should be says more than that it is not elsewhere.
                Err(error) if source == header.source => first = Some(error),
                Err(_) => {}
            }
        }
        Err(not_found(header, self.config.key, first, &seen))
    }

    /// A key for a store that does not exist yet, made where there is none. Hold the store's lock.
    ///
    /// # Errors
    /// Where no allowed source has or takes one.
    pub(crate) async fn of_new_store(&self) -> Result<Found, ProviderError> {
        let mut last = None;
        for source in Source::ALL.iter().copied().filter(|source| self.allows(*source)) {
            match self.look_or_make(source).await {
                Ok(key) => return Ok(Found { key, source }),
                // A place that is there but wrong must be mended, not passed over for a weaker one.
                Err(error) if error.blame == Blame::Config && source != Source::Keyring => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        let nowhere =
            || ProviderError::new(Blame::Config, "there is no place for a key", "set `key = \"file\"`");
        Err(last.unwrap_or_else(nowhere))
    }

    fn allows(&self, source: Source) -> bool {
        self.config.key.is_none_or(|only| only == source)
    }

    async fn look(&self, source: Source) -> Result<Vec<RootKey>, ProviderError> {
        match source {
            Source::Credential => Ok(credential::read(&self.surroundings.credentials)?.into_iter().collect()),
            Source::Keyring => keyring::read(self.bus()?).await,
            Source::File => Ok(file::read(self.dir)?.into_iter().collect()),
        }
    }

    async fn look_or_make(&self, source: Source) -> Result<RootKey, ProviderError> {
        if let Some(key) = self.look(source).await?.into_iter().next() {
            return Ok(key);
        }
        match source {
            Source::Credential => Err(ProviderError::new(
                Blame::Missing,
                format!("the service manager handed over no credential `{}`", credential::NAME),
                MAKE_CREDENTIAL,
            )),
            Source::Keyring => keyring::create(self.bus()?).await,
            Source::File => file::create(self.dir),
        }
    }

    fn bus(&self) -> Result<&str, ProviderError> {
        if self.config.mode == Mode::System {
            let what = "the keyring is a person's own, so the system broker does not use one";
            return Err(ProviderError::new(Blame::Missing, what, MAKE_CREDENTIAL));
        }
        self.surroundings.bus.as_deref().ok_or_else(|| {
            let hint = "run inside the login session, so that DBUS_SESSION_BUS_ADDRESS is set";
            ProviderError::new(Blame::Unreachable, "there is no session bus, so no keyring", hint)
        })
    }
}

/// How an admin gives the system broker a key that the machine's own chip or root's key file protects.
pub(super) const MAKE_CREDENTIAL: &str = "as root: head -c 32 /dev/urandom | systemd-creds encrypt \
    --name=mcp-broker-sealed-key - /etc/credstore.encrypted/mcp-broker-sealed-key, then restart the unit";

fn not_found(
    header: &Header,
    only: Option<Source>,
    first: Option<ProviderError>,
    seen: &[&str],
) -> ProviderError {
    let mut what = format!("the store was sealed with key {} from {}", header.id, header.source.describe());
    let refused = only.filter(|only| *only != header.source);
    let (blame, hint) = match (refused, first) {
        (Some(only), _) => {
            what += &format!(", and `key = \"{only}\"` allows {} only", only.describe());
            (Blame::Config, "set `key` to where the key is, or move that very key")
        }
        (None, Some(error)) => {
            what += &format!(", and {}", error.what);
            return ProviderError::new(error.blame, what, error.hint);
        }
        (None, None) => {
            what += ", which is not there";
            (Blame::Config, lost(header.source))
        }
    };
    if !seen.is_empty() {
        what += &format!("; another key was found in {}", seen.join(" and "));
    }
    ProviderError::new(blame, what, hint)
}

fn lost(source: Source) -> &'static str {
    match source {
        Source::Credential => {
            "start the broker by its unit, which is given the credential; for the command line, while the unit \
             runs. If the key is lost, move `sealed` away and set the values again"
        }
        Source::Keyring => {
            "restore the keyring's item. If the key is lost, move `sealed` away and set the values again"
        }
        Source::File => {
            "restore `sealed.key` from a backup. If the key is lost, move `sealed` away and set the values again"
        }
    }
}
