//! Opens the configuration's directories and files so that only what the admin wrote is ever read: links
//! are not followed, owner and mode are checked on the open descriptor, sizes are capped. Parses nothing.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Dir, FileType, Mode as Bits, OFlags};
use rustix::io::Errno;

use super::diagnostic::{Diagnostic, Severity};
use super::value::shell_word;

/// The longest configuration file, in bytes.
pub(super) const MAX_FILE: u64 = 256 * 1024;

/// The most entries of one directory.
pub(super) const MAX_ENTRIES: usize = 1000;

/// A directory whose owner and mode were checked.
pub(super) struct CheckedDir {
    fd: OwnedFd,
    path: PathBuf,
    uid: u32,
    /// What is wrong with its owner or mode. It refuses the configuration; the files are looked at all the
    /// same, so that one `check` shows everything.
    pub(super) faults: Vec<Diagnostic>,
}

/// One entry of a directory.
pub(super) struct Entry {
    pub(super) name: String,
    pub(super) is_dir: bool,
}

/// Why something was not opened.
pub(super) enum Refusal {
    /// It is not there.
    Absent,
    /// It is there and cannot be used.
    Bad(Diagnostic),
    /// Owner or mode let somebody else change it.
    Unsafe(Vec<Diagnostic>),
}

impl CheckedDir {
    /// Opens `path`. `uid` is the broker's own; it or root must be the owner, or `faults` says so.
    pub(super) fn open(path: &Path, uid: u32) -> Result<Self, Refusal> {
        let fd = rustix::fs::open(path, dir_flags(), Bits::empty());
        Self::checked(fd, path.to_owned(), uid)
    }

    /// Opens the directory `name` in this one.
    pub(super) fn subdirectory(&self, name: &str) -> Result<Self, Refusal> {
        let fd = rustix::fs::openat(&self.fd, name, dir_flags(), Bits::empty());
        Self::checked(fd, self.path.join(name), self.uid)
    }

    /// The path of `name` in this directory, for messages.
    pub(super) fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The entries in order of their names, without `.` and `..`; at most [`MAX_ENTRIES`].
    pub(super) fn entries(&self) -> Result<Vec<Entry>, Diagnostic> {
        let list = Dir::read_from(&self.fd).map_err(|errno| unreadable(&self.path, errno))?;
        let mut entries = Vec::new();
        for entry in list {
            let entry = entry.map_err(|errno| unreadable(&self.path, errno))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == "." || name == ".." {
                continue;
            }
            if entries.len() == MAX_ENTRIES {
                let message = format!("the directory holds more than {MAX_ENTRIES} entries");
                return Err(finding(&self.path, message, "move what is not configuration elsewhere"));
            }
            let is_dir = entry.file_type() == FileType::Directory;
            entries.push(Entry { name, is_dir });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    /// Reads the file `name` of this directory.
    pub(super) fn read(&self, name: &str) -> Result<String, Refusal> {
        let path = self.path_of(name);
        // NONBLOCK: opening a named pipe must not wait for a writer (open(2)); the check below refuses it.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = rustix::fs::openat(&self.fd, name, flags, Bits::empty())
            .map_err(|errno| not_opened(&path, errno))?;
        read_open(fd, &path, self.uid, MAX_FILE)
    }

    fn checked(fd: Result<OwnedFd, Errno>, path: PathBuf, uid: u32) -> Result<Self, Refusal> {
        let fd = fd.map_err(|errno| not_opened(&path, errno))?;
        let faults = check(&fd, &path, FileType::Directory, uid).map_err(Refusal::Bad)?;
        Ok(Self { fd, path, uid, faults })
    }
}

/// Reads a file that the configuration names, up to `max` bytes. Owner and mode are those of what a link leads to.
pub(super) fn read_named(path: &Path, uid: u32, max: u64) -> Result<String, Refusal> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Bits::empty()).map_err(|errno| not_opened(path, errno))?;
    read_open(fd, path, uid, max)
}

/// The content of the open file, where nobody but its owner, root or `uid`, could change it.
fn read_open(fd: OwnedFd, path: &Path, uid: u32, max: u64) -> Result<String, Refusal> {
    let faults = check(&fd, path, FileType::RegularFile, uid).map_err(Refusal::Bad)?;
    if !faults.is_empty() {
        return Err(Refusal::Unsafe(faults));
    }
    let mut bytes = Vec::new();
    let read = std::fs::File::from(fd).take(max + 1).read_to_end(&mut bytes);
    if let Err(error) = read {
        let message = format!("cannot be read: {}", error.kind());
        return Err(Refusal::Bad(finding(path, message, "check the disk")));
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > max {
        let message = format!("the file is longer than {} KiB", max / 1024);
        let hint = "a configuration file holds a few lines; check what this is";
        return Err(Refusal::Bad(finding(path, message, hint)));
    }
    String::from_utf8(bytes).map_err(|error| Refusal::Bad(not_text(path, &error)))
}

/// An error of a file as a whole.
pub(super) fn finding(path: &Path, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
    Diagnostic {
        file: path.to_owned(),
        place: None,
        severity: Severity::Error,
        message: message.into(),
        hint: hint.into(),
    }
}

fn dir_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Type, owner and mode of the open descriptor: what was checked is what is read, whatever the path names now.
/// Answers with the faults of owner and mode.
fn check(fd: impl AsFd, path: &Path, wanted: FileType, uid: u32) -> Result<Vec<Diagnostic>, Diagnostic> {
    let stat = rustix::fs::fstat(fd).map_err(|errno| unreadable(path, errno))?;
    if FileType::from_raw_mode(stat.st_mode) != wanted {
        return Err(finding(path, "not a regular file", "put a plain file there"));
    }
    let (mut faults, word) = (Vec::new(), shell_word(path));
    if stat.st_uid != 0 && stat.st_uid != uid {
        let message = format!("owned by uid {}, who could change it", stat.st_uid);
        let hint = if uid == 0 {
            format!("make it root's: `chown root {word}`")
        } else {
            format!("make it root's or the broker's: `chown {uid} {word}`")
        };
        faults.push(finding(path, message, hint));
    }
    // With POSIX ACLs the group bits are the mask (acl(5)), so this covers named users too.
    if stat.st_mode & 0o022 != 0 {
        let message = format!("writable by group or others (mode {:04o})", stat.st_mode & 0o7777);
        faults.push(finding(path, message, format!("take that away: `chmod go-w {word}`")));
    }
    Ok(faults)
}

fn not_opened(path: &Path, errno: Errno) -> Refusal {
    match errno {
        Errno::NOENT => Refusal::Absent,
        Errno::LOOP | Errno::MLINK => Refusal::Bad(finding(
            path,
            "a symbolic link",
            "put the file or directory itself there; links are not followed",
        )),
        Errno::NOTDIR => Refusal::Bad(finding(
            path,
            "not a directory, or a symbolic link to one",
            "put the directory itself there; links are not followed",
        )),
        errno => Refusal::Bad(unreadable(path, errno)),
    }
}

fn unreadable(path: &Path, errno: Errno) -> Diagnostic {
    let kind = std::io::Error::from(errno).kind();
    finding(path, format!("cannot be read: {kind}"), "let the broker's account read it")
}

fn not_text(path: &Path, error: &std::string::FromUtf8Error) -> Diagnostic {
    let good = error.utf8_error().valid_up_to();
    let message = format!("not UTF-8 text at byte {good}");
    finding(path, message, "save it as UTF-8")
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot set up its files must fail"
)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::super::testing::TempDir;
    use super::*;

    fn own_uid() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    /// What reading `f` says after `arrange` made it.
    fn check(arrange: impl Fn(&Path)) -> String {
        let dir = TempDir::new();
        arrange(&dir.path().join("f"));
        let Ok(open) = CheckedDir::open(dir.path(), own_uid()) else { panic!("directory") };
        match open.read("f") {
            Ok(text) => format!("ok {}", text.len()),
            Err(Refusal::Absent) => "absent".to_owned(),
            Err(Refusal::Bad(found)) => found.message,
            Err(Refusal::Unsafe(faults)) => {
                faults.iter().map(|fault| fault.message.as_str()).collect::<Vec<_>>().join("; ")
            }
        }
    }

    fn write(path: &Path, bytes: &[u8], mode: u32) {
        std::fs::write(path, bytes).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn files() {
        assert_eq!(check(|_| ()), "absent");
        assert_eq!(check(|f| write(f, b"abc", 0o644)), "ok 3");
        assert_eq!(check(|f| write(f, b"abc", 0o664)), "writable by group or others (mode 0664)");
        assert_eq!(check(|f| write(f, b"abc", 0o602)), "writable by group or others (mode 0602)");
        assert_eq!(check(|f| symlink("/etc/passwd", f).unwrap()), "a symbolic link");
        assert_eq!(check(|f| std::fs::create_dir(f).unwrap()), "not a regular file");
        assert_eq!(check(|f| write(f, b"a\xff", 0o600)), "not UTF-8 text at byte 1");
        assert_eq!(check(|f| write(f, &vec![b'#'; 256 * 1024], 0o600)), "ok 262144");
        assert_eq!(
            check(|f| write(f, &vec![b'#'; 256 * 1024 + 1], 0o600)),
            "the file is longer than 256 KiB"
        );
    }

    #[test]
    fn a_pipe_is_refused_and_does_not_block() {
        let pipe = |f: &Path| {
            rustix::fs::mknodat(rustix::fs::CWD, f, FileType::Fifo, Bits::from_raw_mode(0o600), 0).unwrap();
        };
        assert_eq!(check(pipe), "not a regular file");
    }

    #[test]
    fn another_owner_is_refused() {
        let dir = TempDir::new();
        write(&dir.path().join("f"), b"", 0o600);
        let stranger = own_uid() + 1;
        // Root's files are everybody's; for others the broker of another uid must refuse the directory.
        let faults = |uid| match CheckedDir::open(dir.path(), uid) {
            Ok(open) => open.faults.into_iter().map(|fault| (fault.message, fault.hint)).collect::<Vec<_>>(),
            Err(_) => panic!("directory"),
        };
        assert_eq!(faults(stranger).is_empty(), own_uid() == 0);
        if own_uid() == 0 {
            rustix::fs::chown(dir.path(), Some(rustix::fs::Uid::from_raw(4711)), None).unwrap();
            let hint = format!("make it root's: `chown root {}`", dir.path().display());
            assert_eq!(faults(0), [("owned by uid 4711, who could change it".to_owned(), hint)]);
            assert_eq!(faults(4711), []);
        }
    }

    #[test]
    fn directories() {
        let dir = TempDir::new();
        symlink("/etc", dir.path().join("link")).unwrap();
        let link = CheckedDir::open(&dir.path().join("link"), own_uid());
        assert!(matches!(link, Err(Refusal::Bad(_))));
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let Ok(wide) = CheckedDir::open(dir.path(), own_uid()) else { panic!("directory") };
        assert!(wide.faults.iter().any(|fault| fault.message.contains("writable by group or others")));
    }
}
