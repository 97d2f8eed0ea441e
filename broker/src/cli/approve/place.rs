//! The directories of a trial: a home and a place for temporary files of its own for each child, and one in memory
//! for files that hold secrets. Root owns what they stand in, so that the account of the trial cannot lay anything
//! in their way.

use std::fs::{DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::account::Account;
use crate::clock::{Clock, SystemClock};

/// Where every Linux has shared memory (shm_overview(7)).
const SHARED_MEMORY: &str = "/dev/shm";

/// What the name of every directory of a trial begins with.
const PREFIX: &str = "mcp-broker-trial-";

/// One that is younger may not be locked yet.
const YOUNG: jiff::SignedDuration = jiff::SignedDuration::from_mins(1);

/// Everything that a trial puts on a disk or into memory.
pub(super) struct Place {
    base: PathBuf,
    secrets: PathBuf,
    account: Account,
    /// Held as long as the trial runs: the directories of one that was killed are free, and are swept.
    _locks: [File; 2],
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
        let name = format!("{PREFIX}{}", Uuid::new_v4().simple());
        let base = scratch.join(&name);
        let secrets = Path::new(SHARED_MEMORY).join(&name);
        // Another account has to pass through to its own.
        let mode = if account.change.is_some() { 0o711 } else { 0o700 };
        sweep(scratch);
        sweep(Path::new(SHARED_MEMORY));
        let made = locked(&base, mode).and_then(|lock| Ok([lock, locked(&secrets, mode)?]));
        match made {
            Ok(locks) => Ok(Self { base, secrets, account: account.clone(), _locks: locks }),
            Err(error) => {
                take_away(&base);
                Err(error)
            }
        }
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
            take_away(path);
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

/// A new directory that says by its lock (flock(2)) that it is in use.
fn locked(path: &Path, mode: u32) -> io::Result<File> {
    directory(path, mode)?;
    let lock = File::open(path)?;
    lock.try_lock().map_err(io::Error::from)?;
    Ok(lock)
}

/// Takes away what killed trials of this account left.
fn sweep(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let ours = rustix::process::geteuid().as_raw();
    for entry in entries.flatten() {
        let old = entry.metadata().ok().filter(|meta| meta.is_dir() && meta.uid() == ours);
        let old = old.and_then(|meta| jiff::Timestamp::try_from(meta.modified().ok()?).ok());
        let old = old.is_some_and(|at| SystemClock.now().duration_since(at) > YOUNG);
        if !old || !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        // Not dropped before it is gone.
        let lock = File::open(entry.path()).ok().filter(|lock| lock.try_lock().is_ok());
        if lock.is_some() {
            take_away(&entry.path());
        }
    }
}

fn take_away(path: &Path) {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "what a trial left cannot be removed");
        }
        _ => {}
    }
}

/// A new directory of exactly that mode, whatever the umask.
fn directory(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::config::testing::TempDir;

    #[test]
    fn what_a_killed_trial_left_is_swept_and_nothing_else() {
        let dir = TempDir::new();
        let at = |name: &str| dir.path().join(name);
        for name in ["mcp-broker-trial-dead", "mcp-broker-trial-held", "mcp-broker-trial-young", "other"] {
            DirBuilder::new().mode(0o700).create(at(name)).unwrap();
        }
        let held = File::open(at("mcp-broker-trial-held")).unwrap();
        held.try_lock().unwrap();
        for name in ["mcp-broker-trial-dead", "mcp-broker-trial-held", "other"] {
            File::open(at(name)).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        }
        sweep(dir.path());
        let left = ["mcp-broker-trial-dead", "mcp-broker-trial-held", "mcp-broker-trial-young", "other"];
        assert_eq!(left.map(|name| at(name).exists()), [false, true, true, true]);
    }
}
