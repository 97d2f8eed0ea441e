//! A fresh directory of mode 0700 on memory-backed storage for the secret files of one launch. Launcher and
//! keeper hold it by one lock (flock(2)); whichever of them ends last empties it, and a directory whose lock
//! is free belonged to launches that were killed whole: the next launch of the same person sweeps it.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use mcp_broker_proto::Secret;
use rustix::fs::{
    AtFlags, FileType, FlockOperation, FsWord, Mode, OFlags, RawDir, RenameFlags, SeekFrom, flock, fstat,
    fstatfs, mkdirat, open, openat, renameat_with, seek, unlinkat,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
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
        let file = CString::new(name).map_err(|_zero| failed(Errno::INVAL))?;
        fill(&self.dir, &file, content).map_err(failed)?;
        Ok(self.path.join(name))
    }

    /// Puts new contents in the place of the old ones, each at once: whoever reads a file sees all of the one or all
    /// of the other. What the server put there itself is replaced like the file was, and no link is followed.
    ///
    /// # Errors
    /// Where one cannot be put in place; all that was there is then there still.
    pub fn replace(&self, contents: &[(&str, Secret)]) -> Result<(), Failure> {
        let failed = |e: Errno| Failure::system("put new credentials into the server's secret files", e);
        let mut staged = Vec::new();
        let outcome = contents.iter().try_for_each(|(name, content)| {
            let (aside, name) = (aside_name()?, CString::new(*name).map_err(|_zero| Errno::INVAL)?);
            // EXPOSE: as the file that it takes the place of.
            let written = content.expose(|text| fill(&self.dir, &aside, text.as_bytes()));
            staged.push((aside, name));
            written
        });
        let outcome = outcome.and_then(|()| swap_all(&self.dir, &staged));
        for (aside, _) in &staged {
            // What is aside now is the old content, or what was not put in place.
            discard(&self.dir, aside);
        }
        outcome.map_err(failed)
    }

    /// Listens on a unix socket in it; answers with its path.
    ///
    /// # Errors
    /// Where the socket cannot be made.
    pub fn listen(&self, name: &str, backlog: i32) -> Result<(OwnedFd, PathBuf), Failure> {
        let failed = |e: Errno| Failure::system("listen in the directory of secret files", e);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
        // Through the descriptor: an address holds 107 bytes, and a runtime directory may be deeper (unix(7)).
        let short = format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd());
        bind(&socket, &SocketAddrUnix::new(short).map_err(failed)?).map_err(failed)?;
        listen(&socket, backlog).map_err(failed)?;
        Ok((socket, self.path.join(name)))
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

/// Writes a new file of mode 0600.
fn fill(dir: &OwnedFd, name: &CStr, content: &[u8]) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR)?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    Ok(())
}

/// Makes what is aside and what it is for change places; takes that back where one cannot.
fn swap_all(dir: &OwnedFd, staged: &[(CString, CString)]) -> Result<(), Errno> {
    let mut done = Vec::new();
    for (aside, name) in staged {
        match swap(dir, aside, name) {
            Ok(there) => done.push((aside, name, there)),
            Err(error) => {
                for (aside, name, there) in done {
                    // In the way that it went: what was not there before is not there again.
                    let back = if there { RenameFlags::EXCHANGE } else { RenameFlags::NOREPLACE };
                    renameat_with(dir, name, dir, aside, back).unwrap_or_default();
                }
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Whether there was something in its place (renameat2(2)).
fn swap(dir: &OwnedFd, aside: &CStr, name: &CStr) -> Result<bool, Errno> {
    match renameat_with(dir, aside, dir, name, RenameFlags::EXCHANGE) {
        // Deleted by the server.
        Err(Errno::NOENT) => renameat_with(dir, aside, dir, name, RenameFlags::NOREPLACE).map(|()| false),
        outcome => outcome.map(|()| true),
    }
}

/// Removes one entry, if it is there.
fn discard(dir: &OwnedFd, name: &CStr) {
    if unlinkat(dir, name, AtFlags::empty()) == Err(Errno::ISDIR) {
        // One with something in it was the server's own; the end of the instance says that it is left.
        unlinkat(dir, name, AtFlags::REMOVEDIR).unwrap_or_default();
    }
}

/// A name that nothing else in the directory has.
fn aside_name() -> Result<CString, Errno> {
    let name = random_name()?;
    CString::new([b".", name.to_bytes()].concat()).map_err(|_zero| Errno::INVAL)
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

    /// The contents of the files in it, by name.
    fn held_in(dir: &Path) -> Vec<(String, String)> {
        let mut held: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap())
            })
            .collect();
        held.sort();
        held
    }

    fn new(content: &str) -> Secret {
        Secret::new(content.to_owned())
    }

    #[test]
    fn new_contents_take_the_place_of_the_old() {
        let dir = made();
        let file = dir.write("A", b"old").unwrap();
        dir.write("B", b"old").unwrap();
        let place = file.parent().unwrap();
        let (elsewhere, open) = (place.with_extension("x"), std::fs::File::open(&file).unwrap());
        std::fs::write(&elsewhere, "untouched").unwrap();
        for arrange in [
            &(|| ()) as &dyn Fn(),
            &|| std::fs::remove_file(&file).unwrap(),
            &|| {
                std::fs::remove_file(&file).unwrap();
                symlink(&elsewhere, &file).unwrap();
            },
            &|| {
                std::fs::remove_file(&file).unwrap();
                std::fs::create_dir(&file).unwrap();
            },
        ] {
            arrange();
            dir.replace(&[("A", new("new")), ("B", new("new too"))]).unwrap();
            let want =
                [("A", "new"), ("B", "new too")].map(|(name, text)| (name.to_owned(), text.to_owned()));
            assert_eq!(held_in(place), want);
            assert_eq!(file.symlink_metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        }
        assert_eq!(std::fs::read_to_string(&elsewhere).unwrap(), "untouched");
        assert_eq!(std::io::read_to_string(open).unwrap(), "old", "who has it open reads on");
        std::fs::remove_file(&elsewhere).unwrap();
        dir.remove().unwrap();
    }

    #[test]
    fn where_one_cannot_be_put_in_place_none_is() {
        let dir = made();
        let place = dir.write("A", b"old").unwrap().parent().unwrap().to_owned();
        let too_long = "x".repeat(256);
        assert!(dir.replace(&[("A", new("new")), (&too_long, new("new"))]).is_err());
        assert_eq!(held_in(&place), [("A".to_owned(), "old".to_owned())]);
        dir.remove().unwrap();
        assert!(dir.replace(&[("A", new("new"))]).is_err(), "the directory is gone");
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
