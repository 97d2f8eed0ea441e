//! The two sockets: made here with their modes, or adopted from systemd. A path that somebody else could
//! have laid is refused.

use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

use crate::config::{BrokerSection, Mode};
use crate::inherit;

/// The bound sockets.
pub struct Listeners {
    /// For `mcp-run`.
    pub person: UnixListener,
    /// For the admin commands.
    pub admin: UnixListener,
    /// Whether systemd made them, and keeps them.
    pub adopted: bool,
}

/// Why a socket could not be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Something at the path is not ours to use.
    #[error("`{}` {what}", path.display())]
    Unsafe {
        /// The path.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// systemd handed over one of the two sockets.
    #[error("systemd handed over only one of the broker's sockets")]
    Half,
    /// Another broker answers there.
    #[error("another broker is running at `{}`", path.display())]
    Taken {
        /// The path.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot listen at `{}`: {error}", path.display())]
    System {
        /// The path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl ListenError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unsafe { .. } => {
                "remove it, or set `socket` and `admin_socket` in broker.toml to a place of your own"
            }
            Self::Half => {
                "enable both sockets: `systemctl enable --now mcp-broker.socket mcp-broker-admin.socket`"
            }
            Self::Taken { .. } => "stop that broker first, or set another `socket` in broker.toml",
            Self::System { .. } => "see that the directory is there and may be written to",
        }
    }
}

impl Listeners {
    /// Adopts the sockets that systemd made (sd_listen_fds(3)), or binds them.
    ///
    /// # Errors
    /// When that cannot be done safely.
    pub fn open(section: &BrokerSection, mode: Mode) -> Result<Self, ListenError> {
        if let Some((person, admin)) = inherit::sockets().map_err(|inherit::Half| ListenError::Half)? {
            let person = adopt(person, &section.socket)?;
            let admin = adopt(admin, &section.admin_socket)?;
            return Ok(Self { person, admin, adopted: true });
        }
        // In system mode any account may connect: the uid that the kernel reports decides.
        let (directory_mode, socket_mode) = match mode {
            Mode::User => (0o700, 0o600),
            Mode::System => (0o755, 0o666),
        };
        let person = bind(&section.socket, directory_mode, socket_mode)?;
        let admin = bind(&section.admin_socket, directory_mode, 0o600)?;
        Ok(Self { person, admin, adopted: false })
    }
}

fn adopt(listener: StdListener, path: &Path) -> Result<UnixListener, ListenError> {
    let nonblocking = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    nonblocking.map_err(|error| ListenError::System { path: path.to_owned(), error })
}

fn bind(path: &Path, directory_mode: u32, socket_mode: u32) -> Result<UnixListener, ListenError> {
    let system = |error| ListenError::System { path: path.to_owned(), error };
    if let Some(directory) = path.parent() {
        ours(directory, directory_mode)?;
    }
    clear(path)?;
    let listener = UnixListener::bind(path).map_err(system)?;
    std::fs::set_permissions(path, Permissions::from_mode(socket_mode)).map_err(system)?;
    Ok(listener)
}

/// The directory must be ours or root's, and nobody else may write to it.
fn ours(directory: &Path, mode: u32) -> Result<(), ListenError> {
    let system = |error| ListenError::System { path: directory.to_owned(), error };
    let not_ours = |what| ListenError::Unsafe { path: directory.to_owned(), what };
    let there = directory.exists();
    DirBuilder::new().mode(mode).recursive(true).create(directory).map_err(system)?;
    if !there {
        // The mode above is less what the umask takes away.
        std::fs::set_permissions(directory, Permissions::from_mode(mode)).map_err(system)?;
    }
    let metadata = std::fs::symlink_metadata(directory).map_err(system)?;
    if !metadata.is_dir() {
        return Err(not_ours("is not a directory"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() && metadata.uid() != 0 {
        return Err(not_ours("belongs to another account"));
    }
    // A sticky directory such as /tmp lets nobody remove what is not theirs, but anybody lay a path first.
    if metadata.mode() & 0o022 != 0 {
        return Err(not_ours("may be written to by other accounts"));
    }
    Ok(())
}

/// Removes a socket that an earlier broker of ours left; refuses anything else.
fn clear(path: &Path) -> Result<(), ListenError> {
    let not_ours = |what| ListenError::Unsafe { path: path.to_owned(), what };
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ListenError::System { path: path.to_owned(), error }),
    };
    if metadata.is_symlink() {
        return Err(not_ours("is a symbolic link"));
    }
    if !metadata.file_type().is_socket() {
        return Err(not_ours("is there already and is not a socket"));
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(not_ours("belongs to another account"));
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(ListenError::Taken { path: path.to_owned() });
    }
    std::fs::remove_file(path).map_err(|error| ListenError::System { path: path.to_owned(), error })
}
