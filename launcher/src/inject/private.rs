//! A fresh directory of mode 0700 on memory-backed storage for the files of one launch.
//! Removed by the launcher at the end, by the keeper where the launcher was killed.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, FsWord, Mode, OFlags, fstat, fstatfs, mkdirat, open, openat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::environment::Environment;
use crate::failure::{CONFIG, Failure};

/// `TMPFS_MAGIC` and `RAMFS_MAGIC` of statfs(2).
const MEMORY_BACKED: [FsWord; 2] = [0x0102_1994, 0x8584_58f6];
/// Where every Linux has shared memory (shm_overview(7)); world-writable and sticky.
const SHARED_MEMORY: &str = "/dev/shm";

/// The directory, held open.
pub struct PrivateDir {
    base: OwnedFd,
    dir: OwnedFd,
    name: String,
    path: PathBuf,
    files: Vec<String>,
}

impl PrivateDir {
    /// Makes the directory in the person's runtime directory, or else in shared memory.
    ///
    /// # Errors
    /// Where neither is backed by memory and safe to use.
    pub fn make(environment: &Environment) -> Result<Self, Failure> {
        let runtime = environment.runtime_dir(geteuid().as_raw());
        let (base, place) = open_base(&runtime, true)
            .map(|base| (base, runtime))
            .or_else(|| open_base(Path::new(SHARED_MEMORY), false).map(|base| (base, SHARED_MEMORY.into())))
            .ok_or_else(|| {
                Failure::new(
                    CONFIG,
                    "there is no memory-backed directory for the server's secret files",
                    "mount a tmpfs on /dev/shm, or start mcp-run with XDG_RUNTIME_DIR set to a private tmpfs",
                )
            })?;
        let failed = |e: Errno| Failure::system("make a private directory for secret files", e);
        let name = format!("mcp-run-{}", random().map_err(failed)?);
        mkdirat(&base, &name, Mode::RWXU).map_err(failed)?;
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let dir = openat(&base, &name, flags, Mode::empty()).map_err(failed)?;
        let path = place.join(&name);
        Ok(Self { base, dir, name, path, files: Vec::new() })
    }

    /// Writes one file; answers its path.
    ///
    /// # Errors
    /// Where it cannot be written, which leaves no file behind.
    pub fn write(&mut self, name: &str, content: &[u8]) -> Result<PathBuf, Failure> {
        let failed = |e: Errno| Failure::system("write a secret file", e);
        if name.contains('/') {
            return Err(failed(Errno::INVAL));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(&self.dir, name, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
        self.files.push(name.to_owned());
        let mut rest = content;
        while !rest.is_empty() {
            let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest)).map_err(failed)?;
            rest = rest.get(written..).unwrap_or_default();
        }
        Ok(self.path.join(name))
    }

    /// Everything that must go: the files, then the directory.
    #[must_use]
    pub fn paths(&self) -> super::Leftovers {
        let files = self.files.iter().map(|name| self.path.join(name));
        files.chain([self.path.clone()]).collect()
    }

    /// Removes the files and the directory.
    ///
    /// # Errors
    /// Where something could not be removed; the failure names it.
    pub fn remove(self) -> Result<(), Failure> {
        let mut outcome = Ok(());
        for name in &self.files {
            if let Err(error) = unlinkat(&self.dir, name, AtFlags::empty())
                && error != Errno::NOENT
            {
                outcome = Err(error);
            }
        }
        if let Err(error) = unlinkat(&self.base, &self.name, AtFlags::REMOVEDIR)
            && error != Errno::NOENT
        {
            outcome = Err(error);
        }
        outcome.map_err(|error| {
            let what = format!("cannot remove the secret files in {}: {error}", self.path.display());
            Failure::new(CONFIG, what, "remove that directory by hand")
        })
    }
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

fn random() -> Result<String, Errno> {
    let mut bytes = [0_u8; 16];
    let count = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if count < bytes.len() {
        return Err(Errno::IO);
    }
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn files_are_private_and_go_away() {
        // The runtime directory does not exist, so it falls back to shared memory.
        let mut dir = PrivateDir::make(&[("XDG_RUNTIME_DIR", "/nonexistent")].into()).unwrap();
        let file = dir.write("DSN", b"value").unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"value");
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
        assert_eq!(dir.paths(), [file.clone(), file.parent().unwrap().to_owned()]);
        assert!(dir.write("DSN", b"again").is_err(), "an existing file is not overwritten");
        dir.remove().unwrap();
        assert!(!file.parent().unwrap().exists());
    }

    #[test]
    fn a_disk_is_not_good_enough() {
        assert!(open_base(Path::new("/proc"), false).is_none());
    }
}
