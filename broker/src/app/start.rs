//! Everything that must be there before the first connection, in order; each failure with its cure.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};

use super::{App, Options, Signals, StateDir, StateDirError};
use crate::api::{ListenError, Listeners};
use crate::audit::{AuditLog, Event};
use crate::clock::{Clock, Slept};
use crate::config::diagnostic::Diagnostic;
use crate::config::{Config, KindReader, LogindUse, load};
use crate::fault;
use crate::lease::journal::{self, Damage};
use crate::lease::{Book, Leases, Providers};
use crate::logind::Logind;
use crate::package::Approvals;
use crate::provider::{BuildDeps, KINDS, Kind, Peers, ProviderError};
use crate::session::{MARKS_FILE, Marks, Needs, Sessions};
use crate::watch::{Register, Watched};

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration is wrong.
    #[error("the configuration is wrong")]
    Config(Vec<Diagnostic>),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// A file of the state directory cannot be used.
    #[error("cannot use `{}`: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A provider cannot be built.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// Signals cannot be watched.
    #[error("cannot watch signals: {0}")]
    Signals(std::io::Error),
    /// A socket cannot be bound.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

impl StartError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Config(_) => "run `mcp-broker check` to see every mistake with its cure".to_owned(),
            Self::State(error) => error.hint().to_owned(),
            Self::File { .. } => {
                "mend the file or the disk; move a damaged file away only after a backup".to_owned()
            }
            Self::Signals(_) => "see the limits of this account".to_owned(),
            Self::Provider(error) => error.hint.clone(),
            Self::Listen(error) => error.hint().to_owned(),
        }
    }
}

/// The kinds' readers, as the configuration wants them.
#[must_use]
pub fn readers() -> Vec<&'static KindReader> {
    KINDS.iter().map(|kind| &kind.reader).collect()
}

impl App {
    /// Makes everything ready, down to the bound sockets.
    ///
    /// # Errors
    /// The first thing that is not as it must be.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let config = load(&options.config_dir, options.mode, &options.places, &readers());
        let config = Arc::new(config.map_err(StartError::Config)?);
        let state = StateDir::open(&config.broker.state_dir)?;
        let clock = fault::clock();

        let mut warnings = standing_warnings(&options, &config);
        let audit = open_audit(&state, &clock, &mut warnings);
        let book = open_book(&state, &audit, &mut warnings)?;
        let (peers, providers) = build_first(&config, &clock)?;
        let (sender, lost) = mpsc::unbounded_channel();
        let leases = Leases::new(book, audit.clone(), Arc::clone(&clock), providers, sender);
        let (marks, distrust) = Marks::open(state.path(), &boot_id(), clock.boot());
        if distrust {
            warnings.push(format!(
                "{} cannot be read, so every session begins locked: `mcp-run unlock` opens it",
                state.path().join(MARKS_FILE).display()
            ));
        }
        let logind = Logind::connect(config.session.logind == LogindUse::Required).await;
        let slept = Arc::new(Slept::new(Arc::clone(&clock)));
        let config = watch::Sender::new(config);
        let approvals = Approvals::open(state.path(), audit.clone(), Arc::clone(&clock), config.subscribe());
        let sessions = Sessions::new(Needs {
            leases: Arc::clone(&leases),
            audit: audit.clone(),
            clock: Arc::clone(&clock),
            slept: Arc::clone(&slept),
            logins: Arc::<Logind>::clone(&logind),
            config: config.subscribe(),
            approvals: Arc::clone(&approvals),
            marks,
        });
        let config_now = Arc::clone(&config.borrow());
        let watched = Watched {
            sessions: Arc::new(Register(Arc::clone(&sessions))),
            logind: Some(logind),
            clock,
            slept,
        };
        let signals = Signals::watch().map_err(StartError::Signals)?;
        // Sockets before recovery: a start that fails here has changed nothing.
        let listeners = Listeners::open(&config_now.broker, config_now.mode)?;
        let watch = watched.start();
        let left = leases.recover();
        if left.leases + left.parents > 0 {
            tracing::warn!(
                leases = left.leases,
                parents = left.parents,
                "ending what an earlier broker left"
            );
        }
        // Not waited for, like every record of a start: what was left is ended also with the disk full.
        audit.note(started(&config_now));
        Ok(Self {
            options,
            config,
            warnings: watch::Sender::new(warnings),
            audit,
            leases,
            peers,
            approvals,
            sessions,
            watch: Arc::new(watch),
            listeners,
            lost,
            signals,
            _state: state,
        })
    }
}

/// What stays weaker than it could be as long as the configuration is in force.
pub(super) fn standing_warnings(options: &Options, config: &Config) -> Vec<String> {
    let mut warnings = options.weaknesses.clone();
    warnings.extend(config.warnings.iter().cloned());
    warnings
}

/// What is in force, when a configuration is read again.
pub(super) struct InForce<'a> {
    pub(super) config: &'a Config,
    pub(super) providers: Providers,
}

fn build_first(config: &Config, clock: &Arc<dyn Clock>) -> Result<(Peers, Providers), ProviderError> {
    let peers = Peers::default();
    let providers = build(config, clock, &peers, None)?;
    peers.fill(&providers);
    Ok((peers, providers))
}

/// One provider for each `[provider.*]`. One whose section did not change stays what it is, with its sign-in,
/// its connections, and what it has in flight. They find each other in `peers` once that is filled with them.
pub(super) fn build(
    config: &Config,
    clock: &Arc<dyn Clock>,
    peers: &Peers,
    in_force: Option<&InForce<'_>>,
) -> Result<Providers, ProviderError> {
    let kinds: HashMap<&str, &Kind> = KINDS.iter().map(|kind| (kind.reader.name, kind)).collect();
    let mut providers = Providers::new();
    for (name, section) in &config.providers {
        let unchanged = in_force.filter(|old| {
            old.config.providers.get(name).is_some_and(|before| before.written == section.written)
        });
        if let Some(provider) = unchanged.and_then(|old| old.providers.get(name)) {
            providers.insert(name.clone(), Arc::clone(provider));
            continue;
        }
        let Some(kind) = kinds.get(section.kind) else { continue };
        let deps = BuildDeps {
            name: name.clone(),
            clock: Arc::clone(clock),
            state_dir: config.broker.state_dir.clone(),
            peers: peers.clone(),
        };
        providers.insert(name.clone(), (kind.build)(section.config.as_ref(), &deps)?);
    }
    Ok(providers)
}

/// A log that cannot be used stops minting, and nothing else: what was left is still to be ended.
fn open_audit(state: &StateDir, clock: &Arc<dyn Clock>, warnings: &mut Vec<String>) -> AuditLog {
    match AuditLog::open(state.path(), Arc::clone(clock)) {
        Ok((audit, 0)) => audit,
        Ok((audit, bytes)) => {
            audit.note(Event::AuditRepaired { bytes });
            audit
        }
        Err(error) => {
            let path = state.path().join(crate::audit::FILE_NAME);
            warnings.push(format!(
                "nothing is launched: the audit log {} cannot be used ({error}); mend it or move it away, and restart the broker",
                path.display()
            ));
            AuditLog::unusable(state.path(), Arc::clone(clock))
        }
    }
}

fn open_book(state: &StateDir, audit: &AuditLog, warnings: &mut Vec<String>) -> Result<Book, StartError> {
    let file = |error| StartError::File { path: state.path().join(journal::FILE_NAME), error };
    let found = journal::open(state.path()).map_err(file)?;
    if found.file.is_none() {
        warnings.push(format!(
            "nothing is launched: the journal {} cannot be written; mend the disk, and restart the broker",
            found.path.display()
        ));
    }
    match &found.damage {
        Damage::None => {}
        Damage::TornTail { bytes } => audit.note(Event::JournalRepaired { bytes: *bytes }),
        Damage::Middle { unreadable, kept_as } => {
            let kept_as = kept_as.as_ref().map(|path| path.display().to_string());
            let kept =
                kept_as.as_deref().map_or(String::new(), |path| format!(", and the file is kept as {path}"));
            warnings.push(format!(
                "the journal was damaged: {unreadable} records cannot be read; everything else in it is revoked{kept}"
            ));
            audit.note(Event::JournalDamaged { unreadable: *unreadable, kept_as });
        }
    }
    Book::open(found).map_err(file)
}

fn started(config: &Config) -> Event {
    Event::BrokerStarted {
        version: env!("CARGO_PKG_VERSION"),
        mode: config.mode.as_str(),
        servers: config.servers.len(),
        boot_id: boot_id(),
    }
}

/// Which boot of the machine this is (random(4)); empty where the kernel does not say.
fn boot_id() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{TempDir, places};
    use crate::config::{Mode, load};

    /// The first lines of what a check says of these providers, and of a server with that credential.
    fn found(providers: &str, credential: &str) -> Vec<String> {
        let dir = TempDir::new();
        dir.write("broker.toml", providers);
        if !credential.is_empty() {
            let server = format!(
                "tier = \"development\"\ncommand = [\"/bin/true\"]\naccess.users = [\"u\"]\n\
                 [scope.all]\ntools = [\"*\"]\ncredential.c = {{ provider = \"p\", {credential} }}\n\
                 inject = [{{ env = \"E\", value = \"{{c.session_token}}\" }}]\n"
            );
            dir.write("servers.d/s.toml", &server);
        }
        let line = |text: String| {
            text.lines().next().unwrap_or_default().replace(dir.path().to_str().unwrap_or_default(), "")
        };
        match load(dir.path(), Mode::User, &places(), &readers()) {
            Ok(_) => Vec::new(),
            Err(found) => found.iter().map(ToString::to_string).map(line).collect(),
        }
    }

    /// What the first launch would run into is said when the configuration is read.
    #[test]
    fn a_secret_that_cannot_be_read_is_a_mistake() {
        let others = "[provider.store]\nkind = \"sealed\"\n[provider.own]\nkind = \"jwt\"\nissuer = \"https://x.example\"\n\
            [provider.bao]\nkind = \"vault\"\naddress = \"https://bao.example\"\n\
            auth = { method = \"approle\", role_id = \"r\", secret_id_file = \"/s\" }\n";
        for (source, want) in [
            ("provider = \"store\", path = \"pg\"", None),
            ("provider = \"store\", path = \"pg\", field = \"value\"", None),
            ("provider = \"bao\", path = \"secret/data/pg\", field = \"x\"", None),
            (
                "provider = \"nostore\", path = \"pg\"",
                Some("provider.p.password.provider` names no provider"),
            ),
            ("provider = \"own\", path = \"pg\"", Some("kind `jwt`, which keeps no secrets")),
            ("provider = \"p\", path = \"pg\"", Some("names the provider itself")),
            ("provider = \"store\", path = \"a/b\"", Some("provider.p.password.path` must be")),
            ("provider = \"store\", path = \"pg\", field = \"x\"", Some("field` is not `value`")),
            ("provider = \"bao\", path = \"v1/secret/data/pg\"", Some("begins with `v1/`")),
        ] {
            let p = format!(
                "{others}[provider.p]\nkind = \"postgres\"\ntls = \"off\"\nusername = \"m\"\npassword = {{ {source} }}\n"
            );
            let found = found(&p, "");
            match want {
                None => assert_eq!(found, Vec::<String>::new(), "{source}"),
                Some(want) => {
                    assert!(found.len() == 1 && found.iter().all(|f| f.contains(want)), "{found:?}")
                }
            }
        }
    }

    #[test]
    fn a_call_that_the_identity_cannot_make_is_a_mistake() {
        let token = "source = { web_identity_token_file = \"/t\" }\n";
        for (source, call, want) in [
            ("", "assume-role", None),
            (token, "assume-role-with-web-identity", None),
            (token, "assume-role", Some("needs keys")),
            ("", "assume-role-with-web-identity", Some("needs a web identity token")),
        ] {
            let p = format!("[provider.p]\nkind = \"aws-sts\"\nregion = \"eu-central-1\"\n{source}");
            let role = format!("call = \"{call}\", role_arn = \"arn:aws:iam::123456789012:role/tool\"");
            let found = found(&p, &role);
            match want {
                None => assert_eq!(found, Vec::<String>::new(), "{source}"),
                Some(want) => assert!(
                    found.len() == 1
                        && found.iter().all(|f| f.contains(&format!("credential.c.call` {want}"))),
                    "{found:?}"
                ),
            }
        }
    }
}
