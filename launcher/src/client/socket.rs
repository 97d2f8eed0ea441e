//! Finds the broker's socket and makes sure that it is the broker's: by the owner of the file, through a
//! descriptor that cannot be swapped, and again by the kernel's word on the open connection.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mcp_broker_proto::paths;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::geteuid;

use crate::environment::Environment;
use crate::failure::{CONFIG, Failure, UNAVAILABLE};

/// The account file, read directly: name services could hang, and run code of others (passwd(5)).
const ACCOUNTS: &str = "/etc/passwd";
/// The longest account file that is read, in bytes.
const MAX_ACCOUNTS: u64 = 4 << 20;
/// Pause before another try while the broker's queue of connections is full.
const PAUSE: Duration = Duration::from_millis(20);
/// How long that queue may stay full.
const QUEUE_TIME: Duration = Duration::from_secs(3);
const START: &str =
    "start it with `systemctl start mcp-broker`, or with `mcp-broker serve --user` for yourself alone";

/// A socket file that was opened and whose owner was checked.
pub struct Socket {
    path: PathBuf,
    held: OwnedFd,
    owner: u32,
    mode: u32,
}

impl Socket {
    /// The first of the places that exists.
    ///
    /// # Errors
    /// Where none exists, or where it is no socket or belongs to a stranger: it is refused, not skipped.
    pub fn find(named: Option<&Path>, environment: &Environment) -> Result<Self, Failure> {
        let places = places(named, environment, geteuid().as_raw());
        for path in &places {
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            match open(path, flags, Mode::empty()) {
                Ok(held) => return Self::check(path.clone(), held),
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => {
                    let what = format!("cannot look at the broker's socket {}: {error}", path.display());
                    return Err(Failure::new(UNAVAILABLE, what, START));
                }
            }
        }
        let list: Vec<_> = places.iter().map(|path| path.display().to_string()).collect();
        let what = format!("the broker is not running: there is no socket at {}", list.join(" or "));
        Err(Failure::new(UNAVAILABLE, what, START))
    }

    fn check(path: PathBuf, held: OwnedFd) -> Result<Self, Failure> {
        let stat = fstat(&held).map_err(|e| Failure::system("look at the broker's socket", e))?;
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind != FileType::Socket {
            let what = match kind {
                FileType::Symlink => format!("{} is a symbolic link, which is not followed", path.display()),
                _ => format!("{} is not a socket", path.display()),
            };
            return Err(Failure::new(CONFIG, what, "remove it, or name the broker's socket with --socket"));
        }
        if !trusted(stat.st_uid) {
            return Err(stranger(&path, "belongs to", stat.st_uid));
        }
        Ok(Self { path, held, owner: stat.st_uid, mode: stat.st_mode & 0o7777 })
    }

    /// Connects to the very file that was checked, and checks who listens on it.
    ///
    /// # Errors
    /// Where nobody listens, or a stranger does.
    pub fn connect(&self, until: Instant) -> Result<OwnedFd, Failure> {
        let stream = self.open_stream(until.min(Instant::now() + QUEUE_TIME)).map_err(|error| {
            let what = format!("the broker cannot be reached at {}: {error}", self.path.display());
            Failure::new(UNAVAILABLE, what, START)
        })?;
        let peer = socket_peercred(&stream).map_err(|e| Failure::system("see who the broker is", e))?;
        if !trusted(peer.uid.as_raw()) {
            return Err(stranger(&self.path, "is served by", peer.uid.as_raw()));
        }
        Ok(stream)
    }

    fn open_stream(&self, until: Instant) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let stream = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        // The path through the descriptor names the file that was checked, whatever stands there now.
        let address = SocketAddrUnix::new(format!("/proc/self/fd/{}", self.held.as_raw_fd()))?;
        loop {
            match connect(&stream, &address) {
                Ok(()) => return Ok(stream),
                Err(Errno::AGAIN | Errno::INTR) if Instant::now() < until => std::thread::sleep(PAUSE),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Uid of its owner.
    #[must_use]
    pub fn owner(&self) -> u32 {
        self.owner
    }

    /// Permission bits.
    #[must_use]
    pub fn mode(&self) -> u32 {
        self.mode
    }
}

/// Where the socket may be, in order.
fn places(named: Option<&Path>, environment: &Environment, uid: u32) -> Vec<PathBuf> {
    let variable = environment.get(paths::SOCKET_VARIABLE).map(Path::new);
    match named.or(variable) {
        Some(path) => vec![path.to_owned()],
        None => {
            vec![paths::user_socket(&environment.runtime_dir(uid)), paths::SYSTEM_SOCKET.into()]
        }
    }
}

fn stranger(path: &Path, relation: &str, uid: u32) -> Failure {
    let what = format!(
        "{} {relation} uid {uid}, which is neither root, the broker's account nor yours",
        path.display()
    );
    Failure::new(CONFIG, what, "do not use it; ask your administrator where the broker's socket is")
}

/// Root, oneself, and the account of the system broker.
fn trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw() || broker_uid() == Some(uid)
}

fn broker_uid() -> Option<u32> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(ACCOUNTS).ok()?.take(MAX_ACCOUNTS).read_to_string(&mut text).ok()?;
    uid_in(&text, paths::SYSTEM_ACCOUNT)
}

/// The uid of an account in the text of passwd(5); nothing where the line is malformed.
fn uid_in(accounts: &str, name: &str) -> Option<u32> {
    let mut lines = accounts.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.first() == Some(&name))?;
    if line.len() == 7 { line.get(2)?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts() {
        for (text, want) in [
            ("root:x:0:0::/:/bin/sh\n_mcpbroker:x:977:977:b:/:/bin/false\n", Some(977)),
            ("x_mcpbroker:x:1:1::/:/bin/sh\n", None),
            ("_mcpbroker:x:one:1::/:/bin/sh\n", None),
            ("_mcpbroker:x:5\n", None),
            ("", None),
        ] {
            assert_eq!(uid_in(text, "_mcpbroker"), want, "{text}");
        }
    }

    #[test]
    fn order_of_places() {
        let named = |flag: Option<&str>, env: Environment| {
            let found = places(flag.map(Path::new), &env, 7);
            found.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" ")
        };
        let system = paths::SYSTEM_SOCKET;
        assert_eq!(named(Some("/a"), [("MCP_BROKER_SOCKET", "/b")].into()), "/a");
        assert_eq!(named(None, [("MCP_BROKER_SOCKET", "/b")].into()), "/b");
        assert_eq!(
            named(None, [("XDG_RUNTIME_DIR", "/r")].into()),
            format!("/r/mcp-broker/broker.sock {system}")
        );
        assert_eq!(
            named(None, Environment::default()),
            format!("/run/user/7/mcp-broker/broker.sock {system}")
        );
    }
}
