//! Files that a provider's configuration names: opened so that a pipe in their place holds nobody up, judged on the
//! open descriptor, read up to a size. Knows nothing of what they hold.

use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// The largest bundle of authorities taken, in bytes.
const MAX_BUNDLE: u64 = 1 << 20;
/// So many links on a way are followed; more than a person's files have, fewer than the system takes.
const MAX_LINKS: u32 = 8;
/// Whoever may write to a directory with this bit may remove only what is their own (chmod(2)).
const STICKY: u32 = 0o1000;

/// Opens a plain file to read. Anything else in its place is refused, and a pipe without waiting for its writer.
///
/// # Errors
/// Where it is not there, not to be read, or no plain file.
pub(super) fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let flags = i32::try_from((OFlags::NONBLOCK | OFlags::NOCTTY).bits()).unwrap_or_default();
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::new(ErrorKind::InvalidInput, "it is not a plain file"));
    }
    Ok((file, meta))
}

/// Whether only root and the broker's account can change what that tells of: no other owner, no right of others.
pub(super) fn is_ours(meta: &Metadata) -> bool {
    is_owner(meta.uid()) && meta.mode() & 0o022 == 0
}

fn is_owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// Reads a file that nobody but root and the broker's account may read or change, of at most `max` bytes.
///
/// # Errors
/// Where it is not that, or cannot be read.
pub(super) fn read_secret(path: &Path, max: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let (file, meta) = open(path)?;
    if !is_ours(&meta) || meta.mode() & 0o077 != 0 {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "others may read or change it"));
    }
    // The exact size at once: growing would leave an unwiped copy behind.
    let size = usize::try_from(meta.len().min(max)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(size + 1));
    if file.take(max + 1).read_to_end(&mut bytes)? as u64 > max {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is too long"));
    }
    Ok(bytes)
}

/// Reads a bundle of authorities in PEM.
///
/// # Errors
/// Where it cannot be read or is larger than 1 MiB.
pub(super) fn bundle(path: &Path) -> io::Result<Vec<u8>> {
    let mut pem = Vec::new();
    if open(path)?.0.take(MAX_BUNDLE + 1).read_to_end(&mut pem)? as u64 > MAX_BUNDLE {
        return Err(io::Error::new(ErrorKind::InvalidData, "it is larger than 1 MiB"));
    }
    Ok(pem)
}

/// Looks whether others than root and the broker's account could put something else at `path`: they own or may write
/// to what is there, or a directory or a link on the way to it. What is not there ends the way.
///
/// # Errors
/// With what they could change.
pub(super) fn way(path: &Path) -> Result<(), PathBuf> {
    walk(path, true, MAX_LINKS)
}

/// The same where something new at `path` would do harm too: then no directory may be everybody's, sticky or not.
///
/// # Errors
/// With what they could change.
pub(super) fn strict_way(path: &Path) -> Result<(), PathBuf> {
    walk(path, false, MAX_LINKS)
}

fn walk(path: &Path, sticky: bool, links: u32) -> Result<(), PathBuf> {
    let mut at = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        let above = at.clone();
        at.push(part);
        let Ok(meta) = std::fs::symlink_metadata(&at) else { return Ok(()) };
        if !is_owner(meta.uid()) {
            return Err(at);
        }
        if meta.is_symlink() {
            let target = std::fs::read_link(&at).map_err(|_error| at.clone())?;
            let links = links.checked_sub(1).ok_or(at)?;
            return walk(&above.join(target).join(parts.as_path()), sticky, links);
        }
        let spared = meta.is_dir() && sticky && meta.mode() & STICKY != 0;
        if (meta.is_dir() || meta.is_file()) && meta.mode() & 0o022 != 0 && !spared {
            return Err(at);
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::config::testing::TempDir;

    fn chmod(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_pipe_holds_nobody_up() {
        let dir = TempDir::new();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(read_secret(&pipe, 10).unwrap_err().to_string().contains("plain file"));
        assert!(bundle(&pipe).unwrap_err().to_string().contains("plain file"));
    }

    #[test]
    fn secrets_are_nobody_elses() {
        let dir = TempDir::new();
        dir.write("f", "abc");
        let file = dir.path().join("f");
        assert_eq!(read_secret(&file, 3).unwrap().as_slice(), b"abc");
        assert!(read_secret(&file, 2).unwrap_err().to_string().contains("too long"));
        for mode in [0o640, 0o604, 0o620] {
            chmod(&file, mode);
            assert!(read_secret(&file, 3).is_err(), "{mode:o}");
        }
    }

    #[test]
    fn ways() {
        let dir = TempDir::new();
        for name in ["ours/f", "open/f", "ours/loose"] {
            dir.write(name, "");
        }
        let at = |name: &str| dir.path().join(name);
        chmod(&at("open"), 0o777);
        chmod(&at("ours/loose"), 0o620);
        symlink(at("open"), at("link")).unwrap();
        symlink("ours/f", at("near")).unwrap();
        symlink("round", at("round")).unwrap();
        for (name, want) in [
            ("ours/f", None),
            ("ours/absent/f", None),
            ("near", None),
            ("ours/loose", Some("ours/loose")),
            ("open/f", Some("open")),
            ("open/absent", Some("open")),
            ("link/f", Some("open")),
            ("ours/../open/f", Some("ours/../open")),
            ("round", Some("round")),
        ] {
            assert_eq!(way(&at(name)), want.map_or(Ok(()), |at_fault| Err(at(at_fault))), "{name}");
        }
        chmod(&at("open"), 0o1777);
        assert_eq!(way(&at("open/f")), Ok(()), "it is ours and nobody else can remove it");
        assert!(strict_way(&at("open/absent")).is_err());
        assert_eq!(way(Path::new("/dev/null")), Ok(()), "a device is no program");
    }
}
