//! The keyring against a real `gnome-keyring-daemon` on a private bus (Debian: gnome-keyring, dbus-daemon,
//! libsecret-tools). Fails where they are missing; leaves no process behind.
#![expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail by panicking"
)]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use jiff::Timestamp;
use mcp_broker_proto::Secret;

use super::super::testing::TempDir;
use super::super::{Entries, SealedConfig, Source, Store};
use super::*;
use crate::config::Mode;

/// A process that ends with its holder.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

const BUS_CONFIG: &str = r#"<busconfig><type>session</type><listen>unix:path=SOCKET</listen>
<policy context="default"><allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy>
</busconfig>"#;

/// A bus of its own, and a keyring on it where one was asked for.
struct Desktop {
    home: TempDir,
    address: String,
    keyring: Option<Running>,
    _bus: Running,
}

impl Desktop {
    fn without_keyring() -> Self {
        let home = TempDir::new();
        // No service directories: the bus must not start a keyring of its own accord.
        let config = home.path().join("bus.conf");
        let socket = home.path().join("bus");
        std::fs::write(&config, BUS_CONFIG.replace("SOCKET", socket.to_str().unwrap())).unwrap();
        let mut bus = command("dbus-daemon", home.path(), "");
        bus.args(["--nofork", "--nopidfile", "--print-address=1", "--config-file"]).arg(config);
        let mut bus = Running(bus.stdout(Stdio::piped()).spawn().expect("dbus-daemon (Debian: dbus-daemon)"));
        let mut address = String::new();
        BufReader::new(bus.0.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { home, address: address.trim().to_owned(), keyring: None, _bus: bus }
    }

    fn new() -> Self {
        let mut desktop = Self::without_keyring();
        let mut daemon = command("gnome-keyring-daemon", desktop.home.path(), &desktop.address);
        daemon.args(["--foreground", "--unlock", "--components=secrets"]);
        daemon.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut daemon = Running(daemon.spawn().expect("gnome-keyring-daemon (Debian: gnome-keyring)"));
        daemon.0.stdin.take().unwrap().write_all(b"password").unwrap();
        desktop.keyring = Some(daemon);
        desktop
    }

    fn store(&self, key: Option<Source>, mode: Mode) -> Store {
        let surroundings = Surroundings { credentials: vec![], bus: Some(self.address.clone()) };
        Store::new(&self.home.path().join("state"), SealedConfig { mode, key }, surroundings)
    }

    /// Runs a person's own keyring tool.
    fn secret_tool(&self, arguments: &[&str], input: &[u8]) -> bool {
        let mut tool = command("secret-tool", self.home.path(), &self.address);
        tool.args(arguments).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut tool = tool.spawn().expect("secret-tool (Debian: libsecret-tools)");
        tool.stdin.take().unwrap().write_all(input).unwrap();
        tool.wait().unwrap().success()
    }

    /// Does what a screen lock does where the desktop is set up so.
    async fn lock(&self) {
        let bus = zbus::connection::Builder::address(self.address.as_str()).build().await.unwrap();
        let (name, path) = ("org.freedesktop.secrets", "/org/freedesktop/secrets");
        let collection = zbus::ObjectPath::try_from("/org/freedesktop/secrets/collection/login").unwrap();
        let interface = Some("org.freedesktop.Secret.Service");
        bus.call_method(Some(name), path, interface, "Lock", &vec![collection]).await.unwrap();
    }
}

fn command(program: &str, home: &Path, bus: &str) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", "/usr/bin:/bin").env("HOME", home).env("XDG_RUNTIME_DIR", home);
    command.env("DBUS_SESSION_BUS_ADDRESS", bus).stderr(Stdio::null());
    command
}

/// The daemon takes its name on the bus a moment after it starts, and opens its collection after that.
async fn ready(desktop: &Desktop) {
    let bus = zbus::connection::Builder::address(desktop.address.as_str()).build().await.unwrap();
    let collection = super::keyring::CollectionProxy::builder(&bus)
        .path("/org/freedesktop/secrets/collection/login")
        .cache_properties(zbus::proxy::CacheProperties::No);
    let collection = collection.build().await.unwrap();
    for _ in 0..200 {
        if matches!(collection.locked().await, Ok(false)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    unreachable!("the keyring did not come up");
}

async fn set(store: &Store, value: &str) -> Result<Source, ProviderError> {
    let value = Secret::new(value.to_owned());
    let put = |entries: &mut Entries| {
        entries.set("A".parse().unwrap(), value, Timestamp::UNIX_EPOCH).unwrap();
        Ok(())
    };
    store.change(put).await.map(|((), source)| source)
}

async fn get(store: &Store) -> Result<Option<String>, ProviderError> {
    let opened = store.read().await?;
    let value = opened.and_then(|opened| opened.entries.take(&"A".parse().unwrap()));
    Ok(value.map(|value| value.expose(str::to_owned)))
}

#[tokio::test]
async fn an_unlocked_keyring_keeps_the_key() {
    let desktop = Desktop::new();
    ready(&desktop).await;
    let store = desktop.store(None, Mode::User);
    assert_eq!(set(&store, "one").await, Ok(Source::Keyring));
    assert_eq!(set(&store, "two").await, Ok(Source::Keyring));
    assert_eq!(get(&store).await.unwrap().as_deref(), Some("two"));
    assert!(!desktop.home.path().join("state/sealed.key").exists());
    assert_eq!(super::keyring::read(&desktop.address).await.unwrap().len(), 1, "one key for both");

    desktop.lock().await;
    let error = get(&store).await.unwrap_err();
    assert!(error.what.contains("the keyring is locked"), "{}", error.what);
    assert!(set(&store, "three").await.is_err(), "never under another key");
}

#[tokio::test]
async fn a_locked_keyring_is_passed_over_for_a_new_store_unless_it_was_asked_for() {
    let desktop = Desktop::new();
    ready(&desktop).await;
    desktop.lock().await;
    let error = set(&desktop.store(Some(Source::Keyring), Mode::User), "one").await.unwrap_err();
    assert_eq!((error.blame, error.what.as_str()), (Blame::Unreachable, "the keyring is locked"));
    assert_eq!(set(&desktop.store(None, Mode::User), "one").await, Ok(Source::File));
}

#[tokio::test]
async fn the_command_of_the_warning_moves_a_key_file_into_the_keyring() {
    let desktop = Desktop::without_keyring();
    let store = desktop.store(None, Mode::User);
    assert_eq!(set(&store, "one").await, Ok(Source::File), "a bus without a keyring");
    drop(desktop);

    let desktop = Desktop::new();
    ready(&desktop).await;
    let store = desktop.store(Some(Source::File), Mode::User);
    assert_eq!(set(&store, "one").await, Ok(Source::File));
    let file = desktop.home.path().join("state/sealed.key");
    let key = std::fs::read(&file).unwrap();
    let arguments = ["store", "--label=mcp-broker", "application", "mcp-broker", "purpose", "sealed-key"];
    assert!(desktop.secret_tool(&arguments, &key));
    std::fs::remove_file(&file).unwrap();
    let moved = desktop.store(None, Mode::User);
    assert_eq!(get(&moved).await.unwrap().as_deref(), Some("one"));
    assert_eq!(moved.read().await.unwrap().unwrap().source, Source::Keyring);
}

#[tokio::test]
async fn the_system_broker_uses_no_keyring() {
    let desktop = Desktop::new();
    ready(&desktop).await;
    std::fs::create_dir(desktop.home.path().join("state")).unwrap();
    assert_eq!(set(&desktop.store(None, Mode::System), "one").await, Ok(Source::File));
    assert!(set(&desktop.store(Some(Source::Keyring), Mode::System), "one").await.is_err());
}

#[tokio::test]
async fn a_bus_that_never_answers_is_given_up() {
    let dir = TempDir::new();
    let path = dir.path().join("bus");
    let _silent = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let error = super::keyring::read(&format!("unix:path={}", path.display())).await.err().unwrap();
    assert!(error.what.contains("did not answer within 2 s"), "{}", error.what);
}
