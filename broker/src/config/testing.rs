//! What the tests of this module share: a private directory, small files to begin with, and small provider kinds.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::diagnostic::{Diagnostic, Sink};
use super::load::{load, with_top};
use super::{Config, CredentialKeys, KindReader, Mode, Places, ProviderConfig, Reader};

/// A directory of mode 0700 that is removed with the value.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::DirBuilderExt;
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mcp-broker-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::DirBuilder::new().mode(0o700).create(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes a file of mode 0600, its directories of mode 0700.
    pub(crate) fn write(&self, name: &str, text: &str) {
        use std::io::Write;
        use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
        let path = self.0.join(name);
        std::fs::DirBuilder::new().mode(0o700).recursive(true).create(path.parent().unwrap()).unwrap();
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        options.open(path).unwrap().write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The keys that a kind's readers ask for in an empty table: of a provider, and of a credential.
pub(crate) fn asked_of_nothing(kind: &KindReader) -> [BTreeSet<String>; 2] {
    let asked = |read: &dyn Fn(&Reader<'_>)| {
        let sink = Sink::new(Path::new("f"), String::new());
        with_top(&sink, |top| read(&top));
        sink.asked().into_iter().filter(|(path, _)| path.is_empty()).map(|(_, key)| key).collect()
    };
    [asked(&|top| drop((kind.provider)(top, Mode::System))), asked(&|top| drop((kind.credential)(top)))]
}

/// Reads a text as the table of that name; answers with what was read, and with what was found wrong.
pub(crate) fn read_table<T>(
    name: &str,
    text: &str,
    read: impl FnOnce(&Reader<'_>) -> Option<T>,
) -> (Option<T>, Vec<Diagnostic>) {
    let sink = Sink::new(Path::new("f.toml"), text.to_owned());
    let table = toml::de::DeTable::parse(text).unwrap();
    let reader = Reader::new(&sink, table.get_ref(), 0..text.len(), name.to_owned());
    let value = read(&reader);
    reader.finish();
    (value, sink.into_found())
}

/// The same of the table `t`, what was found as one text.
pub(crate) fn read_text<T>(text: &str, read: impl FnOnce(&Reader<'_>) -> Option<T>) -> (Option<T>, String) {
    let (value, found) = read_table("t", text, read);
    (value, found.iter().map(ToString::to_string).collect())
}

/// What is read where nothing is wrong.
pub(crate) fn read_sound<T>(text: &str, read: impl FnOnce(&Reader<'_>) -> Option<T>) -> T {
    let (value, found) = read_text(text, read);
    assert_eq!(found, "", "{text}");
    value.unwrap()
}

/// Places of the tests: own uid, everything else under `/nowhere`.
pub(crate) fn places() -> Places {
    let uid = rustix::process::geteuid().as_raw();
    Places::new(uid, |name| (name == "HOME").then(|| "/nowhere".into()))
}

/// A broker file with a provider of each kind that can be used.
pub(crate) const BROKER: &str = "[provider.fix]\nkind = \"fixed\"\n[provider.any]\nkind = \"open\"\n";
/// The least of a server file before its scopes: three lines.
pub(crate) const SERVER: &str = "tier = \"development\"\ncommand = [\"/bin/true\"]\naccess.users = [\"u\"]\n";
/// The least of a scope: two lines.
pub(crate) const SCOPE: &str = "[scope.all]\ntools = [\"*\"]\n";

/// Loads `files`; every finding without its hint, paths relative to the directory.
pub(crate) fn load_files(files: &[(&str, &str)]) -> (Option<Config>, Vec<String>) {
    let (config, found) = load_with_hints(files);
    (config, found.into_iter().map(|text| text.lines().next().unwrap_or("").to_owned()).collect())
}

/// The same with the hints.
pub(crate) fn load_with_hints(files: &[(&str, &str)]) -> (Option<Config>, Vec<String>) {
    let dir = TempDir::new();
    for (name, text) in files {
        dir.write(name, text);
    }
    let prefix = format!("{}/", dir.path().display());
    let shorten = |text: String| text.replace(&prefix, "");
    match load(dir.path(), Mode::System, &places(), KINDS) {
        Ok(config) => {
            let warnings = config.warnings.iter().cloned().map(shorten).collect();
            (Some(config), warnings)
        }
        Err(found) => (None, found.iter().map(ToString::to_string).map(shorten).collect()),
    }
}

struct Fixed;

impl ProviderConfig for Fixed {
    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

/// A kind with one key of its own on each level; its credentials have the field `value`.
pub(crate) static FIXED: KindReader = KindReader {
    name: "fixed",
    provider: read_provider,
    credential: read_credential,
    default_ttl: Duration::from_secs(900),
    provider_schema: r#"{"greeting": {"type": "string"}}"#,
    credential_schema: r#"{"number": {"type": "string"}}"#,
};

/// A kind that does not know its fields before it mints.
pub(crate) static OPEN: KindReader = KindReader {
    name: "open",
    provider: |_, _| Some(Arc::new(Fixed)),
    credential: |_| Some(CredentialKeys { settings: Arc::new(()), fields: None }),
    default_ttl: Duration::from_secs(900),
    provider_schema: "{}",
    credential_schema: "{}",
};

/// A kind that gives up on every table without a word.
pub(crate) static MUTE: KindReader = KindReader {
    name: "mute",
    provider: |_, _| None,
    credential: |_| None,
    default_ttl: Duration::from_secs(900),
    provider_schema: r#"{"later": {}}"#,
    credential_schema: r#"{"later": {}}"#,
};

pub(crate) const KINDS: &[&KindReader] = &[&FIXED, &OPEN, &MUTE];

fn read_provider(reader: &Reader<'_>, _: Mode) -> Option<Arc<dyn ProviderConfig>> {
    let given = reader.has("greeting");
    let read = reader.text("greeting").is_some();
    (read || !given).then_some(())?;
    Some(Arc::new(Fixed))
}

fn read_credential(reader: &Reader<'_>) -> Option<CredentialKeys> {
    let number = reader.required_text("number")?;
    Some(CredentialKeys { settings: Arc::new(number), fields: Some(vec!["value".to_owned()]) })
}
