//! The state directory: private, and in use by one broker at a time.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::durable::open_append;

/// The directory, locked.
pub struct StateDir {
    path: PathBuf,
    _lock: File,
}

/// Why it cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// It is not a private directory of the broker's account.
    #[error("state directory `{}` {what}", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Another broker uses it.
    #[error("another broker uses the state directory `{}`", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// The system refused.
    #[error("cannot use state directory `{}`: {error}", path.display())]
    System {
        /// The directory.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl StateDirError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unsafe { .. } => "make it a directory of the broker's account with mode 0700",
            Self::InUse { .. } => "stop that broker first, or set another `state_dir` in broker.toml",
            Self::System { .. } => "see that it is there and may be written to",
        }
    }
}

impl StateDir {
    /// Makes the directory if need be, checks it, and locks it.
    ///
    /// # Errors
    /// When it cannot be used safely.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let system = |error: io::Error| StateDirError::System { path: path.to_owned(), error };
        let unsafe_dir = |what| StateDirError::Unsafe { path: path.to_owned(), what };
        DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(system)?;
        let metadata = std::fs::symlink_metadata(path).map_err(system)?;
        if !metadata.is_dir() {
            return Err(unsafe_dir("is not a directory"));
        }
        if metadata.uid() != rustix::process::geteuid().as_raw() {
            return Err(unsafe_dir("belongs to another account"));
        }
        if metadata.mode() & 0o077 != 0 {
            return Err(unsafe_dir("can be read or written by other accounts"));
        }
        let name = path.join("lock");
        // On a disk that can only be read, an earlier broker's lock file serves as well.
        let lock = open_append(&name).or_else(|error| File::open(&name).map_err(|_also| error));
        let lock = lock.map_err(system)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateDirError::InUse { path: path.to_owned() }),
            Err(error) => Err(system(error.into())),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}
