//! `SIGHUP`: reads the configuration again. A good one is in force for what begins from then on; launches
//! that run go on. A broken one changes nothing, and is said in the log, in `status` and in the audit log.

use std::sync::Arc;

use super::start::{InForce, build, readers, standing_warnings};
use super::{Parts, look_at_providers};
use crate::audit::Event;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::{Config, load};
use crate::fault;
use crate::lease::Providers;

impl Parts {
    pub(super) async fn reload(&self) {
        match self.read_again() {
            Ok((config, providers)) => self.put_in_force(config, providers),
            Err(Refused { errors, first }) => {
                tracing::error!(errors, %first, "the new configuration is refused, the old one stays in force");
                let word = if errors == 1 { "error" } else { "errors" };
                let mut warnings = standing_warnings(&self.options, &self.config.borrow());
                warnings.push(format!(
                    "the configuration was changed and has {errors} {word}; the old one is in force: run `mcp-broker check`"
                ));
                self.warnings.send_replace(warnings);
                self.audit.note(Event::ConfigRefused { errors });
            }
        }
    }

    fn read_again(&self) -> Result<(Config, Providers), Refused> {
        let options = &self.options;
        let new = load(&options.config_dir, options.mode, &options.places, &readers());
        let new = new.map_err(|found| Refused::of(&found))?;
        let old = Arc::clone(&self.config.borrow());
        if new.broker != old.broker {
            let first = "sockets and state directory change only with a restart".to_owned();
            return Err(Refused { errors: 1, first });
        }
        if new.session.logind != old.session.logind {
            let first = "`logind` changes only with a restart".to_owned();
            return Err(Refused { errors: 1, first });
        }
        let clock = fault::clock();
        let in_force = InForce { config: &old, providers: self.leases.providers() };
        let providers = build(&new, &clock, &self.peers, Some(&in_force));
        let providers = providers.map_err(|error| Refused { errors: 1, first: error.to_string() })?;
        Ok((new, providers))
    }

    fn put_in_force(&self, config: Config, providers: Providers) {
        let servers = config.servers.len();
        self.peers.fill(&providers);
        self.leases.set_providers(providers);
        self.warnings.send_replace(standing_warnings(&self.options, &config));
        self.config.send_replace(Arc::new(config));
        tracing::info!(servers, "the new configuration is in force");
        self.audit.note(Event::ConfigReloaded { servers });
        tokio::spawn(look_at_providers(self.leases.providers()));
    }
}

struct Refused {
    errors: usize,
    first: String,
}

impl Refused {
    fn of(found: &[Diagnostic]) -> Self {
        let mut errors = found.iter().filter(|finding| finding.severity == Severity::Error);
        let first = errors.next().map(ToString::to_string).unwrap_or_default();
        Self { errors: 1 + errors.count(), first }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::clock::{Clock, SystemClock};
    use crate::config::testing::{TempDir, places};
    use crate::config::{KindReader, Mode};
    use crate::provider::Peers;

    /// Loads a broker file whose state is below `dir`.
    fn config(dir: &TempDir, providers: &str) -> Config {
        let state = dir.path().join("state");
        dir.write("c/broker.toml", &format!("[broker]\nstate_dir = {state:?}\n{providers}"));
        let kinds: Vec<&KindReader> = readers();
        load(&dir.path().join("c"), Mode::User, &places(), &kinds).unwrap()
    }

    /// What the provider `pg` says where it has to read its password from `store`, in which there is none.
    async fn said(providers: &Providers) -> String {
        providers[&"pg".parse().unwrap()].health().await.unwrap_err().what
    }

    const PG: &str = "[provider.pg]\nkind = \"postgres\"\ntls = \"off\"\nport = 1\nusername = \"m\"\n\
        password = { provider = \"store\", path = \"pg\" }\n";

    /// A provider that stays, or that is kept for what it made, reads its secret from who has the name now, and
    /// from who had it last where nobody has it.
    #[tokio::test]
    async fn secrets_are_found_after_a_reload() {
        let dir = TempDir::new();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let peers = Peers::default();
        let store = |key: &str| format!("[provider.store]\nkind = \"sealed\"\n{key}{PG}");
        let first = config(&dir, &store(""));
        let providers = build(&first, &clock, &peers, None).unwrap();
        peers.fill(&providers);
        let want = said(&providers).await;
        assert!(!want.contains("is not there"), "{want}");

        let second = config(&dir, &store("key = \"file\"\n"));
        let in_force = InForce { config: &first, providers: providers.clone() };
        let next = build(&second, &clock, &peers, Some(&in_force)).unwrap();
        drop((in_force, providers));
        peers.fill(&next);
        assert_eq!(said(&next).await, want, "the one that stays");

        let third = config(&dir, "");
        let in_force = InForce { config: &second, providers: next.clone() };
        let none = build(&third, &clock, &peers, Some(&in_force)).unwrap();
        drop(in_force);
        let old: Providers = next.into_iter().filter(|(name, _)| name.as_str() == "pg").collect();
        peers.fill(&none);
        assert_eq!(said(&old).await, want, "the one that is kept for what it made");
    }
}
