//! Login sessions as logind knows them: which one a process belongs to, how it does, and what happens to it.
//! Knows the bus and the kernel's view of processes; of the broker's sessions it knows nothing.
//! In reading order: `cgroup`, `process`, `resolve`; `bus`, `signal`, `listen`.
//!
//! **Whether there is a logind is decided once, at the start.** Where logind is not required and the start
//! finds no bus, or nobody on it who is logind or could be started as such, it counts as absent until the
//! broker is started again: nobody is bound to a login session, and nobody looks. In every other case it is
//! there, also when it cannot be heard now: whoever asks then is refused ([`ErrorCode::LoginsUnseen`]), and
//! losing it never turns into its absence. On a machine where logind runs (`/run/systemd/seats` is there) and
//! the bus is the machine's own, it counts as there whatever the bus says at the start.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use mcp_broker_proto::problem::{ErrorCode, Problem};

use crate::session::login::{Caller, Login, Logins, Look};
use bus::{Calls, Fault};
use listen::Deaf;

mod bus;
mod cgroup;
#[cfg(test)]
pub(crate) mod double;
mod listen;
#[cfg(test)]
mod live_tests;
mod process;
mod resolve;
mod signal;

pub use listen::Listener;
pub use signal::Event;

/// There where systemd is the machine's init (sd_booted(3)). What logind itself makes below `/run/systemd` may also
/// lie in the image of a container in which nothing of it runs.
const RUNNING: &str = "/run/systemd/system";

/// logind.conf(5), `InhibitDelayMaxSec=`: what it is unless somebody changed it.
const DELAY_MAX: Duration = Duration::from_secs(5);

/// What is known about logind on this machine.
pub struct Logind {
    address: Option<String>,
    proc: PathBuf,
    present: bool,
    hearing: Arc<Mutex<Hearing>>,
    /// The one of the start, until somebody listens.
    first: Mutex<Option<Listener>>,
}

/// Over what logind can be asked, while it is heard. The number tells one subscription from the next.
#[derive(Default)]
struct Hearing {
    number: u64,
    calls: Option<Calls>,
}

/// Delays sleep and shutdown as long as it is kept.
pub struct Inhibitor {
    /// Until it is closed.
    pub fd: OwnedFd,
    /// No longer than this.
    pub delay_max: Duration,
}

/// Why sleep cannot be delayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotDelayed {
    /// By its policy (polkit action `org.freedesktop.login1.inhibit-delay-sleep`).
    #[error("logind refuses it")]
    Refused,
    /// It cannot be asked, or a sleep is under way.
    #[error("logind cannot be asked now")]
    Unheard,
}

impl Logind {
    /// Looks for logind on this machine's system bus, and subscribes to it. `required`: it counts as there
    /// even if it is not found.
    pub async fn connect(required: bool) -> Arc<Self> {
        let running =
            zbus::Address::system().is_ok_and(|address| is_own(&address)) && Path::new(RUNNING).exists();
        Self::connect_to(None, PathBuf::from("/proc"), required || running).await
    }

    /// The same on the bus at the address, with the processes below `proc`.
    pub(crate) async fn connect_to(address: Option<String>, proc: PathBuf, required: bool) -> Arc<Self> {
        let new = |present| {
            let (address, proc) = (address.clone(), proc.clone());
            Arc::new(Self { address, proc, present, hearing: Arc::default(), first: Mutex::default() })
        };
        let logind = new(true);
        match Listener::open(logind.address.as_deref(), &logind.hearing).await {
            Ok(listener) if listener.has_logind() || required => {
                *lock(&logind.first) = Some(listener);
                logind
            }
            Err(Deaf::Now) => logind,
            Err(Deaf::Nobody) if required => logind,
            Ok(_) | Err(Deaf::Nobody) => new(false),
        }
    }

    /// Whether this machine has a logind; see the module.
    #[must_use]
    pub fn present(&self) -> bool {
        self.present
    }

    /// Whether it is heard now.
    #[must_use]
    pub fn heard(&self) -> bool {
        self.hearing().calls.is_some()
    }

    /// Its own name on the bus.
    #[cfg(test)]
    pub(crate) fn bus_name(&self) -> String {
        let hearing = self.hearing();
        hearing
            .calls
            .as_ref()
            .and_then(|calls| calls.0.unique_name())
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    /// Hears it; `None` where it cannot be reached now. One at a time.
    pub async fn listen(&self) -> Option<Listener> {
        let first = lock(&self.first).take();
        match first {
            Some(first) => Some(first),
            None => Listener::open(self.address.as_deref(), &self.hearing).await.ok(),
        }
    }

    /// Delays sleep and shutdown.
    ///
    /// # Errors
    /// When logind does not want to, or cannot be asked.
    pub async fn inhibit(&self) -> Result<Inhibitor, NotDelayed> {
        let (calls, _) = self.calls().map_err(|_deaf| NotDelayed::Unheard)?;
        let fd = calls.inhibit().await.map_err(|fault| match fault {
            Fault::Refused => NotDelayed::Refused,
            Fault::Unknown | Fault::Unheard => NotDelayed::Unheard,
        })?;
        let delay_max = calls.inhibit_delay_max().await.unwrap_or(DELAY_MAX);
        Ok(Inhibitor { fd, delay_max })
    }

    /// Whether it answers: one that hangs says nothing either.
    pub async fn answers(&self) -> bool {
        match self.calls() {
            Ok((calls, _)) => calls.ping().await.is_ok(),
            Err(_deaf) => false,
        }
    }

    /// How the session of that object does; `None` when there is none.
    ///
    /// # Errors
    /// When logind cannot be asked.
    pub async fn look_at(&self, path: &str) -> Result<Option<Look>, Problem> {
        let (calls, _) = self.calls()?;
        match calls.session(path).await {
            Ok(session) => Ok(Some(session.look())),
            Err(Fault::Unknown) => Ok(None),
            Err(Fault::Refused | Fault::Unheard) => Err(unseen()),
        }
    }

    fn calls(&self) -> Result<(Calls, u64), Problem> {
        let hearing = self.hearing();
        let calls = hearing.calls.clone().ok_or_else(unseen)?;
        Ok((calls, hearing.number))
    }

    fn hearing(&self) -> MutexGuard<'_, Hearing> {
        lock(&self.hearing)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Logins for Logind {
    async fn login_of(&self, caller: &Caller) -> Result<Option<Login>, Problem> {
        if !self.present {
            return Ok(None);
        }
        let (calls, number) = self.calls()?;
        let login = self.resolve(&calls, caller).await?;
        // A signal that fell between two subscriptions was heard by nobody: then nothing that was read counts.
        if self.hearing().number == number { Ok(Some(login)) } else { Err(unseen()) }
    }

    async fn look(&self, login: &Login) -> Result<Option<Look>, Problem> {
        if !self.present {
            return Ok(None);
        }
        self.look_again(login).await
    }
}

/// Nobody can be asked about login sessions.
fn unseen() -> Problem {
    Problem::new(
        ErrorCode::LoginsUnseen,
        "the login sessions of this machine cannot be seen: logind does not answer on the system bus",
        "`systemctl status systemd-logind dbus` says how they do; this is tried again by itself",
    )
}

/// The machine's own bus, not one that somebody put into the environment.
fn is_own(address: &zbus::Address) -> bool {
    let text = address.to_string();
    let path = text.split(',').next().and_then(|text| text.strip_prefix("unix:path="));
    matches!(path, Some("/run/dbus/system_bus_socket" | "/var/run/dbus/system_bus_socket"))
}
