//! A fresh directory of mode 0700 on memory-backed storage for the secret files of one launch. Launcher and
//! keeper hold it by one lock (flock(2)); whichever of them ends last empties it, and a directory whose lock
//! is free belonged to launches that were killed whole: the next launch of the same person sweeps it.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, FlockOperation, FsWord, Mode, OFlags, RawDir, SeekFrom, flock, fstat, fstatfs,
    mkdirat, open, openat, seek, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::failure::{CONFIG, Failure};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of statfs(2).
const MEMORY_BACKED: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];
/// Where every Linux has shared memory (shm_overview(7)); world-writable and sticky.
const SHARED_MEMORY: &str = "/dev/shm";
/// What every name begins with; [`RANDOM`] bytes in hexadecimal follow.
const PREFIX: &str = "mcp-run-";
/// Random bytes in a name.
const RANDOM: usize = 16;
/// The longest name that the keeper takes, in bytes.
pub const MAX_NAME: usize = PREFIX.len() + 2 * RANDOM;
/// Entries of one directory that are looked at: others can fill shared memory with theirs.
const MAX_ENTRIES: usize = 4096;
/// Bytes of a directory that are read at once.
const LISTING: usize = 4096;
/// How often to try again when a sweep of another launch took the new directory before it was locked.
const ATTEMPTS: usize = 8;

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);

/// The directory, held open and locked.
pub struct PrivateDir {
    base: OwnedFd,
    dir: OwnedFd,
    name: CString,
    path: PathBuf,
}

impl PrivateDir {
    /// Makes the directory in the person's runtime directory, or else in shared memory.
    ///
    /// # Errors
    /// Where neither is backed by memory and safe to use.
    pub fn make(runtime: &Path) -> Result<Self, Failure> {
        let (base, place) = bases(runtime).next().ok_or_else(|| {
            Failure::new(
                CONFIG,
                "there is no memory-backed directory for the server's secret files",
                "mount a tmpfs on /dev/shm, or start mcp-run with XDG_RUNTIME_DIR set to a private tmpfs",
            )
        })?;
        let failed = |e: Errno| Failure::system("make a private directory for secret files", e);
        for _ in 0..ATTEMPTS {
            let name = random_name().map_err(failed)?;
            mkdirat(&base, &name, Mode::RWXU).map_err(failed)?;
            // Between the two a sweep may take it, as one that nobody holds; then another is made.
            match lock(&base, &name) {
                Ok(dir) => {
                    let path = place.join(name.to_string_lossy().as_ref());
                    return Ok(Self { base, dir, name, path });
                }
                Err(Errno::NOENT | Errno::AGAIN) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Err(failed(Errno::AGAIN))
    }

    /// What the keeper needs to hold it too: both directories and the name. Nothing may be written before
    /// they are sent: a message that is on its way counts as the keeper's, whatever happens to this process.
    #[must_use]
    pub fn shared(&self) -> ([BorrowedFd<'_>; 2], &CStr) {
        ([self.base.as_fd(), self.dir.as_fd()], &self.name)
    }

    /// The other end of [`Self::shared`].
    #[must_use]
    pub fn adopt([base, dir]: [OwnedFd; 2], name: CString) -> Self {
        Self { base, dir, name, path: PathBuf::new() }
    }

    /// Writes one file; answers its path.
    ///
    /// # Errors
    /// Where it cannot be written whole.
    pub fn write(&self, name: &str, content: &[u8]) -> Result<PathBuf, Failure> {
        let failed = |e: Errno| Failure::system("write a secret file", e);
        if name.contains('/') {
            return Err(failed(Errno::INVAL));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest)).map_err(failed)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(self.path.join(name))
    }

    /// Removes the files and the directory; that somebody else did it already is fine.
    ///
    /// # Errors
    /// Where something could not be removed; the failure names the directory.
    pub fn remove(&self) -> Result<(), Failure> {
        remove(&self.base, &self.dir, &self.name).map_err(|error| {
            let what = format!("cannot remove the secret files in {}: {error}", self.path.display());
            Failure::new(CONFIG, what, "remove that directory by hand")
        })
    }
}

/// Removes what launches of this person left that were killed together with their keepers. Best effort:
/// what resists is no reason to refuse another launch.
pub fn sweep(runtime: &Path) {
    for (base, _) in bases(runtime) {
        for name in names(&base).unwrap_or_default().into_iter().filter(|name| is_ours(name)) {
            if let Ok(dir) = lock(&base, &name) {
                remove(&base, &dir, &name).unwrap_or_default();
            }
        }
    }
}

/// Opens and locks a directory of our own; `EAGAIN` where somebody holds it, `ENOENT` where it is gone.
fn lock(base: &OwnedFd, name: &CStr) -> Result<OwnedFd, Errno> {
    let dir = openat(base, name, DIRECTORY, Mode::empty())?;
    if fstat(&dir)?.st_uid != geteuid().as_raw() {
        return Err(Errno::PERM);
    }
    flock(&dir, FlockOperation::NonBlockingLockExclusive)?;
    // Whoever held it until now may have removed it.
    if fstat(&dir)?.st_nlink == 0 { Err(Errno::NOENT) } else { Ok(dir) }
}

/// Removes every file of the directory, then the directory; answers with the last error.
fn remove(base: &OwnedFd, dir: &OwnedFd, name: &CStr) -> Result<(), Errno> {
    let gone = |outcome: Result<(), Errno>| if outcome == Err(Errno::NOENT) { Ok(()) } else { outcome };
    let mut outcome = Ok(());
    match names(dir) {
        Ok(files) => {
            for file in files {
                outcome = gone(unlinkat(dir, &file, AtFlags::empty())).and(outcome);
            }
        }
        Err(error) => outcome = gone(Err(error)),
    }
    gone(unlinkat(base, name, AtFlags::REMOVEDIR)).and(outcome)
}

fn names(dir: &OwnedFd) -> Result<Vec<CString>, Errno> {
    // Whoever else holds it has left its place somewhere.
    seek(dir, SeekFrom::Start(0))?;
    let mut space = [MaybeUninit::uninit(); LISTING];
    let mut entries = RawDir::new(dir, &mut space);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
        if names.len() == MAX_ENTRIES {
            break;
        }
    }
    Ok(names)
}

fn is_ours(name: &CStr) -> bool {
    let random = name.to_bytes().strip_prefix(PREFIX.as_bytes());
    random.is_some_and(|hex| {
        hex.len() == 2 * RANDOM && hex.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// The directories that can be used here, best first.
fn bases(runtime: &Path) -> impl Iterator<Item = (OwnedFd, PathBuf)> {
    [(runtime.to_owned(), true), (SHARED_MEMORY.into(), false)]
        .into_iter()
        .filter_map(|(place, private)| Some((open_base(&place, private)?, place)))
}

/// Opens a base directory; nothing where it is not memory-backed or where others could swap our entries.
fn open_base(path: &Path, private: bool) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    let base = open(path, flags, Mode::empty()).ok()?;
    let kind = fstatfs(&base).ok()?.f_type;
    let stat = fstat(&base).ok()?;
    let mode = Mode::from_raw_mode(stat.st_mode);
    let owner_ok = stat.st_uid == geteuid().as_raw() || (!private && stat.st_uid == 0);
    let mode_ok = !mode.intersects(Mode::WGRP | Mode::WOTH) || mode.contains(Mode::SVTX);
    let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
    (MEMORY_BACKED.contains(&kind) && owner_ok && mode_ok && is_directory).then_some(base)
}

fn random_name() -> Result<CString, Errno> {
    let mut bytes = [0_u8; RANDOM];
    let count = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if count < bytes.len() {
        return Err(Errno::IO);
    }
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    CString::new(format!("{PREFIX}{hex}")).map_err(|_zero| Errno::INVAL)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    /// No such runtime directory, so the base is shared memory.
    const NOWHERE: &str = "/nonexistent";

    fn made() -> PrivateDir {
        PrivateDir::make(NOWHERE.as_ref()).unwrap()
    }

    #[test]
    fn files_are_private_and_go_away() {
        let dir = made();
        let file = dir.write("DSN", b"value").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"value");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert!(dir.write("DSN", b"again").is_err(), "an existing file is not overwritten");
        dir.remove().unwrap();
        assert!(!file.parent().unwrap().exists());
        dir.remove().unwrap();
    }

    #[test]
    fn a_disk_is_not_good_enough() {
        assert!(open_base(Path::new("/proc"), false).is_none());
    }

    #[test]
    fn a_sweep_takes_what_nobody_holds() {
        let (held, dead) = (made(), made());
        let kept = held.write("DSN", b"value").unwrap();
        let left = dead.write("DSN", b"value").unwrap();
        sweep(NOWHERE.as_ref());
        assert!(left.exists(), "its lock is held");
        // The keeper's descriptors hold it after the launcher's are gone.
        let ([base, dir], name) = dead.shared();
        let keeper = PrivateDir::adopt(
            [base.try_clone_to_owned().unwrap(), dir.try_clone_to_owned().unwrap()],
            name.to_owned(),
        );
        drop(dead);
        sweep(NOWHERE.as_ref());
        assert!(left.exists(), "the keeper holds it");
        drop(keeper);
        sweep(NOWHERE.as_ref());
        assert!(!left.parent().unwrap().exists());
        assert!(kept.exists());
        held.remove().unwrap();
    }

    /// A link with a name of ours, and directories with other names, stay as they are.
    #[test]
    fn a_sweep_follows_nothing_and_knows_its_names() {
        let base =
            std::env::temp_dir().join(random_name().unwrap().to_str().unwrap().replace("mcp-run", "sweep"));
        let target = base.join("target");
        std::fs::create_dir_all(&target).unwrap();
        std::fs::write(target.join("file"), "x").unwrap();
        let link = Path::new(SHARED_MEMORY).join(random_name().unwrap().to_str().unwrap());
        symlink(&target, &link).unwrap();
        sweep(NOWHERE.as_ref());
        assert!(target.join("file").exists() && link.symlink_metadata().is_ok());
        std::fs::remove_file(&link).unwrap();
        std::fs::remove_dir_all(&base).unwrap();
        for (name, ours) in [
            (c"mcp-run-00000000000000000000000000000abc", true),
            (c"mcp-run-00000000000000000000000000000ab", false),
            (c"mcp-run-00000000000000000000000000000aBc", false),
            (c"mcp-run-x0000000000000000000000000000abc", false),
            (c"other", false),
        ] {
            assert_eq!(is_ours(name), ours, "{name:?}");
        }
    }
}
