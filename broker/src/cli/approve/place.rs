//! The directories of a trial: a home and a place for temporary files of its own for each child, and one in memory
//! for files that hold secrets. Root owns what they stand in, so that the account of the trial cannot lay anything
//! in their way.

use std::fs::DirBuilder;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::account::Account;

/// Where every Linux has shared memory (shm_overview(7)).
const SHARED_MEMORY: &str = "/dev/shm";

/// Everything that a trial puts on a disk or into memory.
pub(super) struct Place {
    base: PathBuf,
    secrets: PathBuf,
    account: Account,
}

/// What one child has of it.
pub(super) struct Room {
    /// Its home.
    pub(super) home: PathBuf,
    /// For its temporary files.
    pub(super) temporary: PathBuf,
    secrets: PathBuf,
    account: Account,
}

impl Place {
    /// Makes it below `scratch`.
    ///
    /// # Errors
    /// Where a directory cannot be made.
    pub(super) fn make(scratch: &Path, account: &Account) -> io::Result<Self> {
        let name = format!("mcp-broker-trial-{}", Uuid::new_v4().simple());
        let base = scratch.join(&name);
        let secrets = Path::new(SHARED_MEMORY).join(&name);
        // Another account has to pass through to its own.
        let mode = if account.change.is_some() { 0o711 } else { 0o700 };
        directory(&base, mode)?;
        let place = Self { base, secrets, account: account.clone() };
        if let Err(error) = directory(&place.secrets, mode) {
            place.remove();
            return Err(error);
        }
        Ok(place)
    }

    /// The room of one child; `cwd` is made where it is below its home.
    ///
    /// # Errors
    /// Where a directory cannot be made.
    pub(super) fn room(&self) -> io::Result<Room> {
        let name = Uuid::new_v4().simple().to_string();
        let (base, secrets) = (self.base.join(&name), self.secrets.join(&name));
        let (home, temporary) = (base.join("home"), base.join("tmp"));
        directory(&base, if self.account.change.is_some() { 0o711 } else { 0o700 })?;
        let room = Room { home, temporary, secrets, account: self.account.clone() };
        for path in [&room.home, &room.temporary, &room.secrets] {
            room.own(path)?;
        }
        Ok(room)
    }

    /// Takes all of it away. What cannot be removed is told of, as nothing more can be done about it.
    pub(super) fn remove(&self) {
        for path in [&self.base, &self.secrets] {
            match std::fs::remove_dir_all(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(path = %path.display(), %error, "what a trial left cannot be removed");
                }
                _ => {}
            }
        }
    }
}

impl Room {
    fn own(&self, path: &Path) -> io::Result<()> {
        directory(path, 0o700)?;
        match self.account.change {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }

    /// The working directory that a definition means, made where it is below the home.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub(super) fn working_directory(&self, cwd: &str) -> io::Result<PathBuf> {
        let Some(below) = cwd.strip_prefix("{home}") else { return Ok(PathBuf::from(cwd)) };
        let mut path = self.home.clone();
        for step in Path::new(below.trim_start_matches('/')).components() {
            let std::path::Component::Normal(step) = step else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            path.push(step);
            self.own(&path)?;
        }
        Ok(path)
    }

    /// A file in memory that only the account of the trial can read.
    ///
    /// # Errors
    /// Where it cannot be written.
    pub(super) fn secret_file(&self, name: &str, content: &[u8]) -> io::Result<PathBuf> {
        let path = self.secrets.join(name);
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(content)?;
        if let Some((uid, gid)) = self.account.change {
            std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
        }
        Ok(path)
    }
}

/// A new directory of exactly that mode, whatever the umask.
fn directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}
