//! The calls to logind over the system bus (org.freedesktop.login1(5)), and what its answers mean. Texts of
//! errors are other programs' and stay here; what goes on is which of three things happened.

use std::os::fd::OwnedFd;
use std::time::Duration;

use zbus::proxy::CacheProperties;
use zbus::{Connection, DeserializeDict, OwnedObjectPath, Type};

/// logind's name on the bus.
pub(super) const NAME: &str = "org.freedesktop.login1";

/// Each call must be answered in this time.
pub(super) const LIMIT: Duration = Duration::from_secs(2);

/// Messages that wait to be read; more than that hold up the bus, which holds them for us.
const QUEUE: usize = 4096;

/// What went wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// logind knows no such thing.
    Unknown,
    /// logind does not want to.
    Refused,
    /// Nobody answered, or not so that it could be read.
    Unheard,
}

impl From<zbus::Error> for Fault {
    fn from(error: zbus::Error) -> Self {
        use zbus::fdo::Error as Fdo;
        // The words of an answer can be anything; its name says what it was.
        tracing::debug!(%error, "logind did not answer as asked");
        match &error {
            zbus::Error::MethodError(name, ..) => match name.as_str() {
                "org.freedesktop.login1.NoSuchSession"
                | "org.freedesktop.login1.NoSessionForPID"
                | "org.freedesktop.login1.NoSuchUser"
                | "org.freedesktop.login1.NoUserForPID" => Self::Unknown,
                "org.freedesktop.DBus.Error.InteractiveAuthorizationRequired" => Self::Refused,
                _ => Self::Unheard,
            },
            zbus::Error::FDO(fdo) => match fdo.as_ref() {
                Fdo::UnknownObject(_) | Fdo::UnknownMethod(_) | Fdo::UnknownInterface(_) => Self::Unknown,
                Fdo::AccessDenied(_) | Fdo::AuthFailed(_) | Fdo::InteractiveAuthorizationRequired(_) => {
                    Self::Refused
                }
                _ => Self::Unheard,
            },
            _ => Self::Unheard,
        }
    }
}

#[zbus::proxy(
    interface = "org.freedesktop.login1.Manager",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Manager {
    fn get_session(&self, id: &str) -> zbus::Result<OwnedObjectPath>;
    #[zbus(name = "GetSessionByPID")]
    fn get_session_by_pid(&self, pid: u32) -> zbus::Result<OwnedObjectPath>;
    fn get_user(&self, uid: u32) -> zbus::Result<OwnedObjectPath>;
    fn inhibit(&self, what: &str, who: &str, why: &str, mode: &str) -> zbus::Result<zbus::OwnedFd>;
    #[zbus(property(emits_changed_signal = "false"), name = "InhibitDelayMaxUSec")]
    fn inhibit_delay_max(&self) -> zbus::Result<u64>;
}

/// All properties at once, so that they belong to one moment.
#[zbus::proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.login1")]
trait SessionProperties {
    #[zbus(name = "GetAll")]
    fn all(&self, interface: &str) -> zbus::Result<Session>;
}

#[zbus::proxy(interface = "org.freedesktop.DBus.Properties", default_service = "org.freedesktop.login1")]
trait UserProperties {
    #[zbus(name = "GetAll")]
    fn all(&self, interface: &str) -> zbus::Result<User>;
}

#[zbus::proxy(
    interface = "org.freedesktop.DBus.Peer",
    default_service = "org.freedesktop.login1",
    default_path = "/org/freedesktop/login1"
)]
trait Peer {
    fn ping(&self) -> zbus::Result<()>;
}

/// An id, and the object of that name.
type Named<I> = (I, OwnedObjectPath);

/// A login session, as logind describes it at one moment.
#[derive(Debug, Clone, PartialEq, Eq, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) user: Named<u32>,
    pub(super) timestamp: u64,
    pub(super) leader: u32,
    pub(super) class: String,
    pub(super) state: String,
    pub(super) active: bool,
    pub(super) locked_hint: bool,
    pub(super) remote: bool,
    pub(super) seat: Named<String>,
}

/// A user who is logged in.
#[derive(Debug, Clone, PartialEq, Eq, DeserializeDict, Type)]
#[zbus(signature = "a{sv}", rename_all = "PascalCase")]
pub(super) struct User {
    #[zbus(rename = "UID")]
    pub(super) uid: u32,
    pub(super) display: Named<String>,
    pub(super) sessions: Vec<Named<String>>,
}

/// Connects to the bus at the address, or to this machine's system bus (`DBUS_SYSTEM_BUS_ADDRESS`).
pub(super) async fn open(address: Option<&str>) -> zbus::Result<Connection> {
    use zbus::connection::Builder;
    let builder = address.map_or_else(Builder::system, Builder::address);
    let queued = std::num::NonZeroUsize::new(QUEUE).unwrap_or(std::num::NonZeroUsize::MIN);
    let opening = builder.method_timeout(LIMIT).max_queued(queued).build();
    tokio::time::timeout(LIMIT, opening).await.unwrap_or_else(|_elapsed| {
        Err(zbus::Error::InputOutput(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    })
}

/// logind over one connection.
#[derive(Clone)]
pub(super) struct Calls(pub(super) Connection);

impl Calls {
    async fn manager(&self) -> Result<ManagerProxy<'static>, Fault> {
        Ok(ManagerProxy::builder(&self.0).cache_properties(CacheProperties::No).build().await?)
    }

    /// The object of a session's id.
    pub(super) async fn session_path(&self, id: &str) -> Result<OwnedObjectPath, Fault> {
        Ok(self.manager().await?.get_session(id).await?)
    }

    /// The object of the session that a process belongs to, by logind's own reckoning.
    pub(super) async fn session_path_of(&self, pid: u32) -> Result<OwnedObjectPath, Fault> {
        Ok(self.manager().await?.get_session_by_pid(pid).await?)
    }

    /// How the session does.
    pub(super) async fn session(&self, path: &str) -> Result<Session, Fault> {
        let proxy = SessionPropertiesProxy::builder(&self.0).cache_properties(CacheProperties::No);
        let proxy = proxy.path(path.to_owned()).build().await?;
        Ok(proxy.all("org.freedesktop.login1.Session").await?)
    }

    /// Which sessions a user has.
    pub(super) async fn user(&self, uid: u32) -> Result<User, Fault> {
        let path = self.manager().await?.get_user(uid).await?;
        let proxy = UserPropertiesProxy::builder(&self.0).cache_properties(CacheProperties::No);
        let proxy = proxy.path(path).build().await?;
        Ok(proxy.all("org.freedesktop.login1.User").await?)
    }

    /// Delays sleep and shutdown while the answer is open (systemd.io/INHIBITOR_LOCKS).
    pub(super) async fn inhibit(&self) -> Result<OwnedFd, Fault> {
        let why = "revoking credentials and ending what uses them";
        let manager = self.manager().await?;
        let fd = manager.inhibit("sleep:shutdown", "mcp-broker", why, "delay").await?;
        Ok(fd.into())
    }

    /// For how long at most (`InhibitDelayMaxSec=`, logind.conf(5)).
    pub(super) async fn inhibit_delay_max(&self) -> Result<Duration, Fault> {
        Ok(Duration::from_micros(self.manager().await?.inhibit_delay_max().await?))
    }

    /// Whether logind's own loop answers.
    pub(super) async fn ping(&self) -> Result<(), Fault> {
        Ok(PeerProxy::builder(&self.0).cache_properties(CacheProperties::No).build().await?.ping().await?)
    }
}
