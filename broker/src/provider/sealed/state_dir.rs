//! The state directory as the store uses it: files that are checked on the open descriptor, replaced as a
//! whole, and kept by the directory's owner even where root writes them. Knows nothing of their content.

use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, Stat};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::super::{Blame, ProviderError};

/// The directory, held open: everything is done relative to it.
pub(super) struct StateDir {
    fd: OwnedFd,
    path: PathBuf,
    owner: Owner,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Held while the store is changed; the kernel takes it back when the holder dies (flock(2)).
pub(super) struct Lock(#[expect(dead_code, reason = "held for its drop")] OwnedFd);

impl StateDir {
    /// Opens it. `None` where it is not there.
    ///
    /// # Errors
    /// Where it cannot be read, or another account could put files into it.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, ProviderError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(trouble("cannot open", path, errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| trouble("cannot examine", path, errno))?;
        let me = rustix::process::geteuid().as_raw();
        if me != 0 && stat.st_uid != me && stat.st_uid != 0 {
            return Err(foreign(path));
        }
        if stat.st_mode & 0o022 != 0 {
            let what = format!("state directory `{}` can be written by other accounts", path.display());
            return Err(ProviderError::new(Blame::Config, what, format!("chmod 0700 '{}'", path.display())));
        }
        let owner = Owner { uid: stat.st_uid, gid: stat.st_gid };
        Ok(Some(Self { fd, path: path.to_owned(), owner }))
    }

    /// Opens it, or makes it with mode 0700.
    ///
    /// # Errors
    /// As [`Self::open`], or where it cannot be made.
    pub(super) fn open_or_make(path: &Path) -> Result<Self, ProviderError> {
        if let Some(dir) = Self::open(path)? {
            return Ok(dir);
        }
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o700).create(path) {
            let what = format!("cannot make the state directory `{}`: {}", path.display(), error.kind());
            return Err(ProviderError::new(
                Blame::Config,
                what,
                "make it, or set `state_dir` in broker.toml",
            ));
        }
        Self::open(path)?.ok_or_else(|| trouble("cannot open", path, Errno::NOENT))
    }

    /// Where a file of the directory is, for messages.
    #[must_use]
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Reads a private file of at most `cap` bytes. `None` where it is not there.
    ///
    /// # Errors
    /// Where it cannot be read, is too large, or another account could read or change it.
    pub(super) fn read(&self, name: &str, cap: usize) -> Result<Option<Zeroizing<Vec<u8>>>, ProviderError> {
        let path = self.path_of(name);
        // Without NONBLOCK the open of a pipe in its place would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(trouble("cannot open", &path, errno)),
        };
        let stat = rustix::fs::fstat(&fd).map_err(|errno| trouble("cannot examine", &path, errno))?;
        self.check_private(&path, &stat)?;
        read_capped(fd, &path, cap).map(Some)
    }

    /// Replaces a file as a whole, durably: whoever reads it sees the old or the new one. Hold the [`Lock`].
    ///
    /// # Errors
    /// Where the directory cannot be written; the old file is still there then.
    pub(super) fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), ProviderError> {
        let temporary = self.write_beside(name, bytes)?;
        rustix::fs::renameat(&self.fd, temporary.as_str(), &self.fd, name)
            .map_err(|errno| trouble("cannot replace", &self.path_of(name), errno))?;
        self.sync()
    }

    /// Writes a file that must not be there yet, as a whole and durably. Hold the [`Lock`].
    ///
    /// # Errors
    /// Where it is there, or the directory cannot be written.
    pub(super) fn create_new(&self, name: &str, bytes: &[u8]) -> Result<(), ProviderError> {
        let temporary = self.write_beside(name, bytes)?;
        // A link fails where the name is taken, as O_EXCL does, and never shows half a file.
        let linked = rustix::fs::linkat(&self.fd, temporary.as_str(), &self.fd, name, AtFlags::empty())
            .map_err(|errno| trouble("cannot create", &self.path_of(name), errno));
        self.remove_leftover(&temporary)?;
        linked?;
        self.sync()
    }

    /// Takes the lock of the store if it is free.
    ///
    /// # Errors
    /// Where the lock file cannot be made.
    pub(super) fn try_lock(&self, name: &str) -> Result<Option<Lock>, ProviderError> {
        let path = self.path_of(name);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| trouble("cannot open", &path, errno))?;
        self.hand_to_owner(&fd, &path)?;
        match rustix::fs::flock(&fd, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Lock(fd))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(trouble("cannot lock", &path, errno)),
        }
    }

    /// One fixed name beside each file, so that a crash leaves one at most and the next writer takes it away.
    fn write_beside(&self, name: &str, bytes: &[u8]) -> Result<String, ProviderError> {
        let temporary = format!("{name}.new");
        self.remove_leftover(&temporary)?;
        let path = self.path_of(&temporary);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, temporary.as_str(), flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| trouble("cannot create", &path, errno))?;
        self.hand_to_owner(&fd, &path)?;
        let mut file = File::from(fd);
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        if let Err(error) = written {
            self.remove_leftover(&temporary)?;
            let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
            return Err(trouble("cannot write", &path, errno));
        }
        Ok(temporary)
    }

    fn remove_leftover(&self, temporary: &str) -> Result<(), ProviderError> {
        match rustix::fs::unlinkat(&self.fd, temporary, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(trouble("cannot remove", &self.path_of(temporary), errno)),
        }
    }

    /// Where root writes for the broker's account, the file must stay the broker's.
    fn hand_to_owner(&self, fd: impl AsFd, path: &Path) -> Result<(), ProviderError> {
        let stat = rustix::fs::fstat(&fd).map_err(|errno| trouble("cannot examine", path, errno))?;
        if (Owner { uid: stat.st_uid, gid: stat.st_gid }) == self.owner
            || !rustix::process::geteuid().is_root()
        {
            return Ok(());
        }
        let (uid, gid) = (self.owner.uid, self.owner.gid);
        let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
        rustix::fs::fchown(fd, Some(uid), Some(gid)).map_err(|errno| trouble("cannot hand over", path, errno))
    }

    fn sync(&self) -> Result<(), ProviderError> {
        rustix::fs::fsync(&self.fd).map_err(|errno| trouble("cannot sync", &self.path, errno))
    }

    fn check_private(&self, path: &Path, stat: &Stat) -> Result<(), ProviderError> {
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() {
            let what = format!("`{}` is not a regular file", path.display());
            return Err(ProviderError::new(Blame::Config, what, "move it away"));
        }
        let me = rustix::process::geteuid().as_raw();
        if ![me, 0, self.owner.uid].contains(&stat.st_uid) {
            return Err(foreign(path));
        }
        if stat.st_mode & 0o077 != 0 {
            let what = format!("other accounts can read or change `{}`", path.display());
            let hint = format!("chmod 0600 '{}', and replace what it protected", path.display());
            return Err(ProviderError::new(Blame::Config, what, hint));
        }
        Ok(())
    }
}

/// Reads an open file of at most `cap` bytes into a buffer that is wiped and never moved.
///
/// # Errors
/// Where it cannot be read, or is larger.
pub(super) fn read_capped(fd: OwnedFd, path: &Path, cap: usize) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
    let file = File::from(fd);
    let length = file.metadata().map_or(0, |meta| usize::try_from(meta.len()).unwrap_or(usize::MAX));
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.min(cap) + 1));
    let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|error| {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
        trouble("cannot read", path, errno)
    })?;
    if bytes.len() > cap {
        let what = format!("`{}` is larger than {cap} bytes", path.display());
        return Err(ProviderError::new(Blame::Config, what, "it is not what it should be: move it away"));
    }
    Ok(bytes)
}

/// An error of the operating system, with the cure for the usual ones.
#[must_use]
pub(super) fn trouble(doing: &str, path: &Path, errno: Errno) -> ProviderError {
    let what = format!("{doing} `{}`: {}", path.display(), std::io::Error::from(errno).kind());
    let (blame, hint) = match errno {
        Errno::ACCESS | Errno::PERM => {
            (Blame::Config, "run as the broker's account or as root, or mend the owner")
        }
        Errno::LOOP => (Blame::Config, "a symbolic link is not followed here: put the file itself there"),
        Errno::NOSPC | Errno::DQUOT => (Blame::Config, "make room on the disk"),
        Errno::ROFS => (Blame::Config, "the file system is read-only: set `state_dir` to another place"),
        _ => (Blame::Broken, "look at the disk and the kernel's log"),
    };
    ProviderError::new(blame, what, hint)
}

fn foreign(path: &Path) -> ProviderError {
    let what = format!("`{}` belongs to another account", path.display());
    ProviderError::new(
        Blame::Config,
        what,
        "run as that account or as root, or give it to the broker's account",
    )
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::super::testing::TempDir;
    use super::*;

    fn open(dir: &TempDir) -> StateDir {
        StateDir::open(dir.path()).unwrap().unwrap()
    }

    #[test]
    fn files_are_private_and_replaced_as_a_whole() {
        let dir = TempDir::new();
        let state = open(&dir);
        assert!(state.read("f", 10).unwrap().is_none());
        state.replace("f", b"one").unwrap();
        std::fs::write(dir.path().join("f.new"), "left by a crash").unwrap();
        state.replace("f", b"two").unwrap();
        assert_eq!(&**state.read("f", 10).unwrap().unwrap(), b"two");
        let meta = std::fs::metadata(dir.path().join("f")).unwrap();
        assert_eq!(meta.mode() & 0o7777, 0o600);
        assert!(!dir.path().join("f.new").exists());
        assert!(state.create_new("f", b"three").is_err(), "must not be there yet");
    }

    #[test]
    fn what_others_could_touch_is_refused() {
        let dir = TempDir::new();
        let state = open(&dir);
        let file = dir.path().join("f");
        state.replace("f", b"x").unwrap();
        for mode in [0o640, 0o604, 0o620, 0o602, 0o610] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = state.read("f", 10).unwrap_err();
            assert_eq!(error.blame, Blame::Config, "{mode:o}");
            assert!(error.hint.contains("chmod 0600"), "{}", error.hint);
        }
        std::fs::remove_file(&file).unwrap();
        symlink("/etc/hostname", &file).unwrap();
        assert!(state.read("f", 10).is_err(), "a symbolic link");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        assert!(state.read("f", 10).is_err(), "a directory");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o770)).unwrap();
        assert!(StateDir::open(dir.path()).is_err(), "a directory that the group may write");
    }

    #[test]
    fn a_pipe_does_not_hang_the_reader() {
        let dir = TempDir::new();
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join("f"), rustix::fs::FileType::Fifo, mode, 0)
            .unwrap();
        assert!(open(&dir).read("f", 10).is_err());
    }

    #[test]
    fn a_file_over_the_cap_is_refused() {
        let dir = TempDir::new();
        let state = open(&dir);
        state.replace("f", b"0123456789").unwrap();
        assert!(state.read("f", 10).is_ok());
        assert!(state.read("f", 9).is_err());
    }

    #[test]
    fn one_holder_of_the_lock() {
        let dir = TempDir::new();
        let state = open(&dir);
        let held = state.try_lock("l").unwrap();
        assert!(held.is_some());
        assert!(state.try_lock("l").unwrap().is_none());
        drop(held);
        assert!(state.try_lock("l").unwrap().is_some());
    }

    #[test]
    fn the_files_belong_to_the_directorys_owner() {
        let dir = TempDir::new();
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let owner = if me.0 == 0 { (12345, 23456) } else { me };
        std::os::unix::fs::chown(dir.path(), Some(owner.0), Some(owner.1)).unwrap();
        let state = open(&dir);
        state.replace("f", b"x").unwrap();
        state.create_new("g", b"x").unwrap();
        state.try_lock("l").unwrap();
        for name in ["f", "g", "l"] {
            let meta = std::fs::metadata(dir.path().join(name)).unwrap();
            assert_eq!((meta.uid(), meta.gid(), meta.mode() & 0o7777), (owner.0, owner.1, 0o600), "{name}");
        }
        assert!(state.read("f", 10).is_ok());
    }
}
