//! The key in the person's keyring, over the Secret Service API (specifications.freedesktop.org,
//! secret-service 0.2). Never asks for a prompt: a locked keyring counts as not usable now.

use std::collections::HashMap;
use std::time::Duration;

use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant, Variant};
use zeroize::Zeroizing;

use super::super::super::{Blame, ProviderError};
use super::{MAX_KEY_TEXT, RootKey};

/// All that is asked of the keyring must be answered in this time.
const LIMIT: Duration = Duration::from_secs(2);

/// One person has one key; more than a few items of that name are somebody's mistake.
const MAX_ITEMS: usize = 8;

/// What finds the item. `secret-tool store application mcp-broker purpose sealed-key` makes one like it.
const ATTRIBUTES: [(&str, &str); 2] = [("application", "mcp-broker"), ("purpose", "sealed-key")];

const LABEL: &str = "Key of the mcp-broker sealed store";

/// A secret as it comes over the bus: session, parameters, value, content type.
type WireSecret = (OwnedObjectPath, Vec<u8>, Vec<u8>, String);

/// The same on its way to the keyring.
type NewSecret<'a> = (ObjectPath<'a>, &'a [u8], &'a [u8], &'a str);

/// What the algorithm answers, and the session.
type OpenedSession = (OwnedVariant, OwnedObjectPath);

/// Items of unlocked collections, and of locked ones.
type FoundItems = (Vec<OwnedObjectPath>, Vec<OwnedObjectPath>);

type Properties<'a> = HashMap<&'static str, Variant<'a>>;

/// The item, and the prompt that it waits for.
type Created = zbus::Result<(OwnedObjectPath, OwnedObjectPath)>;

#[zbus::proxy(
    interface = "org.freedesktop.Secret.Service",
    default_service = "org.freedesktop.secrets",
    default_path = "/org/freedesktop/secrets"
)]
trait Service {
    fn open_session(&self, algorithm: &str, input: &Variant<'_>) -> zbus::Result<OpenedSession>;
    fn search_items(&self, attributes: HashMap<&str, &str>) -> zbus::Result<FoundItems>;
    fn read_alias(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
}

#[zbus::proxy(interface = "org.freedesktop.Secret.Collection", default_service = "org.freedesktop.secrets")]
pub(super) trait Collection {
    fn create_item(&self, properties: Properties<'_>, secret: &NewSecret<'_>, replace: bool) -> Created;
    #[zbus(property(emits_changed_signal = "false"))]
    fn locked(&self) -> zbus::Result<bool>;
}

#[zbus::proxy(interface = "org.freedesktop.Secret.Item", default_service = "org.freedesktop.secrets")]
trait Item {
    fn get_secret(&self, session: &ObjectPath<'_>) -> zbus::Result<WireSecret>;
}

/// The keys in the keyring on the bus at `address`; none where it has none.
pub(super) async fn read(address: &str) -> Result<Vec<RootKey>, ProviderError> {
    within(async {
        let keyring = Keyring::open(address).await?;
        keyring.keys().await
    })
    .await
}

/// Makes a key and keeps it in the default collection.
pub(super) async fn create(address: &str) -> Result<RootKey, ProviderError> {
    within(async {
        let keyring = Keyring::open(address).await?;
        keyring.create().await
    })
    .await
}

async fn within<T>(work: impl Future<Output = Result<T, ProviderError>>) -> Result<T, ProviderError> {
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_elapsed| {
        Err(unusable(format!("the keyring did not answer within {} s", LIMIT.as_secs())))
    })
}

struct Keyring {
    bus: Connection,
    /// A session of the `plain` algorithm: the value crosses the bus unencrypted. The bus is a socket of
    /// the same person, whose other processes may ask the unlocked keyring themselves, so the exchange of
    /// `dh-ietf1024` would keep nothing from anybody, and its 1024-bit group is no longer held to be strong. What this
    /// process keeps of the answer is wiped, apart from the bus library's own buffers, which are freed.
    session: OwnedObjectPath,
}

impl Keyring {
    async fn open(address: &str) -> Result<Self, ProviderError> {
        let connecting = zbus::connection::Builder::address(address);
        let bus = connecting.build().await.map_err(failed("no session bus"))?;
        let service = ServiceProxy::new(&bus).await.map_err(failed("no keyring"))?;
        let opened = service.open_session("plain", &Variant::from("")).await;
        let (_, session) = opened.map_err(failed("no keyring"))?;
        Ok(Self { bus, session })
    }

    async fn keys(&self) -> Result<Vec<RootKey>, ProviderError> {
        let service = ServiceProxy::new(&self.bus).await.map_err(failed("no keyring"))?;
        let found = service.search_items(HashMap::from(ATTRIBUTES)).await;
        let (unlocked, locked) = found.map_err(failed("the keyring cannot be searched"))?;
        if unlocked.is_empty() && !locked.is_empty() {
            return Err(unusable("the keyring is locked".to_owned()));
        }
        let mut keys = Vec::new();
        for path in unlocked.into_iter().take(MAX_ITEMS) {
            let item = ItemProxy::builder(&self.bus).path(path);
            let item = item.build().await.map_err(failed("no item"))?;
            let answer = item.get_secret(&self.session).await;
            let (_, _, value, _) = answer.map_err(failed("the keyring does not give the key"))?;
            let value = Zeroizing::new(value);
            if value.len() <= MAX_KEY_TEXT {
                keys.extend(RootKey::parse(&value));
            }
        }
        Ok(keys)
    }

    async fn create(&self) -> Result<RootKey, ProviderError> {
        let service = ServiceProxy::new(&self.bus).await.map_err(failed("no keyring"))?;
        let path = service.read_alias("default").await.map_err(failed("no default collection"))?;
        if path.as_str() == "/" {
            return Err(unusable("the keyring has no default collection".to_owned()));
        }
        let collection = CollectionProxy::builder(&self.bus).path(path);
        let collection = collection.build().await.map_err(failed("no default collection"))?;
        if collection.locked().await.map_err(failed("no default collection"))? {
            return Err(unusable("the keyring is locked".to_owned()));
        }
        let key = RootKey::generate()?;
        let line = key.to_line();
        // Text without the line feed: the form in which a person's own tools would have stored it.
        let secret = (self.session.as_ref(), &[][..], line.trim_ascii(), "text/plain");
        let properties = HashMap::from([
            ("org.freedesktop.Secret.Item.Label", Variant::from(LABEL)),
            ("org.freedesktop.Secret.Item.Attributes", Variant::from(HashMap::from(ATTRIBUTES))),
        ]);
        let made = collection.create_item(properties, &secret, false).await;
        let (item, _prompt) = made.map_err(failed("the keyring does not take the key"))?;
        // A path of `/` says that the item waits for a prompt, which nobody would answer.
        if item.as_str() == "/" {
            return Err(unusable("the keyring wants to ask the person first".to_owned()));
        }
        Ok(key)
    }
}

/// Says what failed without the error's own text, which comes from another program.
fn failed(what: &'static str) -> impl Fn(zbus::Error) -> ProviderError {
    move |_error| unusable(what.to_owned())
}

fn unusable(what: String) -> ProviderError {
    ProviderError::new(Blame::Unreachable, what, "unlock the keyring (log in to the desktop), then try again")
}
