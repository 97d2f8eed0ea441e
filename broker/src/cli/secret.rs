//! `mcp-broker secret set|list|remove`: the sealed provider's store. Values enter by standard input only,
//! never by an argument, which every process of the machine could read; none is ever shown.

use std::fmt::Write as _;

use clap::{Args, Subcommand};
use serde_json::json;

use self::value::ValueError;
use super::{Common, Report};
use crate::clock::{Clock, SystemClock};
use crate::config::Config;
use crate::config::diagnostic::{Diagnostic, Severity};
use crate::provider::sealed::{
    Entries, KIND, SealedConfig, SealedCredential, SecretName, Source, Store, Surroundings,
};
use crate::provider::{Blame, ProviderError};

mod value;

/// The arguments after `secret`.
#[derive(Debug, Args)]
pub(super) struct SecretArgs {
    /// What to do.
    #[command(subcommand)]
    action: SecretAction,
}

/// What to do with the store.
#[derive(Debug, Subcommand)]
pub(super) enum SecretAction {
    /// Seal a value that is read from standard input; one line feed at its end is dropped
    Set {
        /// Name of the value, as `secret = "NAME"` in a server definition
        name: SecretName,
    },
    /// Names and times, never values
    List {
        /// For programs
        #[arg(long)]
        json: bool,
    },
    /// Remove a value
    Remove {
        /// Name of the value
        name: SecretName,
    },
}

/// `secret`.
pub(super) fn command(common: &Common, args: SecretArgs) -> Report {
    let config = match common.load() {
        Ok(config) => config,
        Err(report) => return report,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        return Report::failure(69, "cannot start", "see the limits of this account");
    };
    match store_of(&config) {
        Ok(store) => runtime.block_on(run(args, &store.asked_with(common.options()), &SystemClock)),
        Err(error) => failed(&error),
    }
}

/// The store that the configuration names: its state directory, and the keys of its `sealed` provider.
///
/// # Errors
/// Where no provider is of that kind, or several are and differ.
fn store_of(config: &Config) -> Result<Store, ProviderError> {
    let settings = |section: &crate::config::ProviderSection| {
        section.config.as_any().downcast_ref::<SealedConfig>().copied()
    };
    let mut sealed = config.providers.values().filter(|section| section.kind == KIND.reader.name);
    let first = sealed.next().and_then(settings).ok_or_else(|| {
        let hint = "add `[provider.local]` with `kind = \"sealed\"` to broker.toml";
        ProviderError::new(Blame::Config, "no provider is of kind `sealed`", hint)
    })?;
    if sealed.any(|section| settings(section) != Some(first)) {
        let what = "the providers of kind `sealed` share one store and want different keys for it";
        return Err(ProviderError::new(Blame::Config, what, "give them the same `key`, or keep one of them"));
    }
    Ok(Store::new(&config.broker.state_dir, first, Surroundings::of_process(first.mode)))
}

/// The values that server definitions name and the store does not hold, as findings for `check`. Nothing where
/// the store cannot be opened by its files alone: no keyring is asked.
pub(super) fn missing(config: &Config, options: &str) -> Vec<Diagnostic> {
    let Ok(store) = store_of(config) else { return Vec::new() };
    let store = store.asked_with(options).without_keyring();
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_time().build() else {
        return Vec::new();
    };
    let Ok(opened) = runtime.block_on(store.read()) else { return Vec::new() };
    let entries = opened.map(|opened| opened.entries).unwrap_or_default();
    let mut found = Vec::new();
    for (server, definition) in &config.servers {
        for spec in definition.scopes.iter().flat_map(|scope| &scope.credentials) {
            let wanted = spec.settings.downcast_ref::<SealedCredential>().map(|sealed| &sealed.secret);
            let Some(name) = wanted.filter(|name| !entries.iter().any(|(held, _)| held == *name)) else {
                continue;
            };
            found.push(Diagnostic {
                file: store.path(),
                place: None,
                severity: Severity::Warning,
                message: format!("server `{server}` needs the value `{name}`, which is not sealed"),
                hint: store.cure(name.as_str()),
            });
        }
    }
    found
}

/// Does it.
async fn run(args: SecretArgs, store: &Store, clock: &dyn Clock) -> Report {
    let done = match args.action {
        SecretAction::Set { name } => match value::from_stdin(&name) {
            Ok(value) => set(store, clock, name, value).await,
            Err(error) => return refused(error, &store.cure(name.as_str())),
        },
        SecretAction::List { json } => list(store, json).await,
        SecretAction::Remove { name } => remove(store, &name).await,
    };
    done.unwrap_or_else(|error| failed(&error))
}

/// The rendering of an error for the person, as every command of this program prints it.
#[must_use]
fn failed(error: &ProviderError) -> Report {
    let exit = error.to_problem().code.exit_code();
    Report::failure(exit, &error.to_string(), &error.hint)
}

fn refused(error: ValueError, command: &str) -> Report {
    Report::failure(error.exit_code(), &error.to_string(), &error.hint(command))
}

fn done(stdout: String) -> Report {
    Report::success(stdout)
}

async fn set(
    store: &Store,
    clock: &dyn Clock,
    name: SecretName,
    value: mcp_broker_proto::Secret,
) -> Result<Report, ProviderError> {
    let now = clock.now();
    let key = name.clone();
    let put = move |entries: &mut Entries| {
        entries.set(key, value, now).map_err(|_full| {
            ProviderError::new(Blame::Config, "the sealed store is full", "remove values that nothing uses")
        })
    };
    let (replaced, source) = store.change(put).await?;
    let verb = if replaced { "replaced" } else { "sealed" };
    let mut outcome = done(format!("{verb} {name}, key from {}\n", source.describe()));
    outcome.err = warning(store, source);
    Ok(outcome)
}

async fn list(store: &Store, json: bool) -> Result<Report, ProviderError> {
    let opened = store.read().await?;
    let entries = opened.map(|opened| opened.entries).unwrap_or_default();
    if json {
        let rows = entries.iter().map(|(name, entry)| {
            json!({
                "name": name.as_str(),
                "created": entry.created.to_string(),
                "changed": entry.changed.to_string(),
            })
        });
        let rows: Vec<_> = rows.collect();
        return Ok(done(format!("{}\n", serde_json::Value::from(rows))));
    }
    let width = entries.iter().map(|(name, _)| name.as_str().len()).max().unwrap_or(0).max("NAME".len());
    let mut text = format!("{:width$}  {:20}  {:20}\n", "NAME", "CREATED", "CHANGED");
    for (name, entry) in entries.iter() {
        // Writing to a String cannot fail.
        writeln!(text, "{:width$}  {:20}  {:20}", name.as_str(), entry.created, entry.changed).ok();
    }
    Ok(done(text))
}

async fn remove(store: &Store, name: &SecretName) -> Result<Report, ProviderError> {
    let absent = || ProviderError { hint: store.command("list"), ..store.missing(name) };
    // Without a store there is nothing to remove, and no reason to make one.
    if store.read().await?.is_none() {
        return Err(absent());
    }
    let take = |entries: &mut Entries| if entries.remove(name) { Ok(()) } else { Err(absent()) };
    let ((), _) = store.change(take).await?;
    Ok(done(format!("removed {name}; launches that have it keep it until they end\n")))
}

fn warning(store: &Store, source: Source) -> String {
    store
        .weakness(source)
        .map_or_else(String::new, |(what, hint)| format!("mcp-broker: warning: {what}\nhint: {hint}\n"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::os::unix::fs::DirBuilderExt;
    use std::path::PathBuf;

    use clap::Parser;
    use mcp_broker_proto::Secret;

    use super::*;
    use crate::config::Mode;

    struct Dir(PathBuf);

    impl Dir {
        fn new() -> Self {
            let path = std::env::temp_dir().join(format!("mcp-broker-secret-{}", uuid::Uuid::new_v4()));
            std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
            Self(path)
        }

        fn store(&self) -> Store {
            let config = SealedConfig { mode: Mode::User, key: Some(Source::File) };
            Store::new(&self.0, config, Surroundings::default())
        }
    }

    impl Drop for Dir {
        fn drop(&mut self) {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        secret: SecretArgs,
    }

    async fn check(store: &Store, line: &str) -> Report {
        let line = Line::try_parse_from(["secret"].into_iter().chain(line.split(' '))).unwrap();
        run(line.secret, store, &SystemClock).await
    }

    async fn seal(store: &Store, name: &str, value: &str) -> Report {
        set(store, &SystemClock, name.parse().unwrap(), Secret::new(value.to_owned())).await.unwrap()
    }

    #[tokio::test]
    async fn a_value_is_set_listed_and_removed_and_never_shown() {
        let dir = Dir::new();
        let store = dir.store();
        let first = seal(&store, "A", "hunter2").await;
        assert_eq!((first.code, first.out.as_str()), (0, "sealed A, key from the key file\n"));
        assert!(first.err.starts_with("mcp-broker: warning: whoever can read both"), "{}", first.err);
        assert!(seal(&store, "A", "hunter3").await.out.starts_with("replaced A"));
        seal(&store, "LONGER_NAME", "hunter4").await;

        let shown = [check(&store, "list").await, check(&store, "list --json").await];
        assert!(shown.iter().all(|outcome| outcome.code == 0 && !format!("{outcome:?}").contains("hunter")));
        let rows: serde_json::Value = serde_json::from_str(&shown.last().unwrap().out).unwrap();
        assert_eq!(rows.pointer("/0/name"), Some(&json!("A")));
        assert_eq!(rows.pointer("/1/name"), Some(&json!("LONGER_NAME")));

        assert_eq!(check(&store, "remove A").await.code, 0);
        let again = check(&store, "remove A").await;
        assert_eq!(again.code, 78);
        assert_eq!(
            again.err,
            "mcp-broker: the sealed store has no value `A`\nhint: mcp-broker secret list --user\n"
        );
    }

    #[tokio::test]
    async fn listing_and_removing_make_no_store() {
        let dir = Dir::new();
        let store = dir.store();
        assert_eq!(check(&store, "list --json").await.out, "[]\n");
        assert_eq!(check(&store, "remove A").await.code, 78);
        assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0);
    }

    #[test]
    fn a_value_cannot_be_an_argument() {
        for line in [&["secret", "set", "A", "value"][..], &["secret", "set", "A", "--value=x"], &["secret"]]
        {
            assert!(Line::try_parse_from(line.iter().copied()).is_err(), "{line:?}");
        }
        for name in ["", "a/b", "-x"] {
            assert!(Line::try_parse_from(["secret", "set", name]).is_err(), "{name}");
        }
    }
}
