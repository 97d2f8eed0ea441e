//! The directory of records: files that only the broker's account can read or change, looked at on the open
//! descriptor, and replaced as a whole. One broker works on it, so there is one writer. Knows nothing of content.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

/// The directory, held open: everything is done relative to it.
pub(super) struct Files {
    fd: OwnedFd,
    path: PathBuf,
}

/// A file that is on the disk under another name, and not in its place yet.
#[must_use]
pub(super) struct Written {
    temporary: String,
    name: String,
}

impl Files {
    /// Opens the directory, or makes it with mode 0700.
    ///
    /// # Errors
    /// Where it cannot be made or read, or another account could put files into it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::open(path, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another account"));
        }
        if stat.st_mode & 0o077 != 0 {
            return Err(io::Error::other("other accounts can use it: chmod 0700"));
        }
        Ok(Self { fd, path: path.to_owned() })
    }

    /// Where a file of the directory is, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Names of what is there, at most `most`.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub(super) fn names(&self, most: usize) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.fd)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else { continue };
            if names.len() < most && ![".", ".."].contains(&name) {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Reads a private file of at most `cap` bytes.
    ///
    /// # Errors
    /// Where it cannot be read, is too large, or another account could read or change it.
    pub(super) fn read(&self, name: &str, cap: usize) -> io::Result<Vec<u8>> {
        // Without NONBLOCK the open of a pipe in its place would wait for a writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, name, flags, Mode::empty())?;
        let stat = rustix::fs::fstat(&fd)?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        if stat.st_uid != rustix::process::geteuid().as_raw() {
            return Err(io::Error::other("it belongs to another account"));
        }
        if stat.st_mode & 0o077 != 0 {
            return Err(io::Error::other("other accounts can read or change it"));
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(cap).unwrap_or(u64::MAX).saturating_add(1);
        File::from(fd).take(limit).read_to_end(&mut bytes)?;
        if bytes.len() > cap {
            return Err(io::Error::other(format!("it is larger than {cap} bytes")));
        }
        Ok(bytes)
    }

    /// Writes a file beside its place, down to the disk.
    ///
    /// # Errors
    /// Where that fails; what was in its place is untouched.
    pub(super) fn write_beside(&self, name: &str, bytes: &[u8]) -> io::Result<Written> {
        // One fixed name, so that a crash leaves one at most and the next writer takes it away.
        let temporary = format!("{name}.new");
        self.remove(&temporary)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, &temporary, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(fd);
        if let Err(error) = file.write_all(bytes).and_then(|()| file.sync_all()) {
            self.remove(&temporary)?;
            return Err(error);
        }
        Ok(Written { temporary, name: name.to_owned() })
    }

    /// Puts a written file in its place, durably: whoever reads it sees the old or the new one.
    ///
    /// # Errors
    /// Where that fails.
    pub(super) fn put(&self, written: &Written) -> io::Result<()> {
        rustix::fs::renameat(&self.fd, &written.temporary, &self.fd, &written.name)?;
        Ok(rustix::fs::fsync(&self.fd)?)
    }

    /// Takes a written file away that is not wanted any more.
    pub(super) fn discard(&self, written: &Written) {
        if let Err(error) = self.remove(&written.temporary) {
            tracing::debug!(%error, "an unfinished approval could not be removed");
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }
}
