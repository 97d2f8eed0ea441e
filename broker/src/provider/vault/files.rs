//! Reads the files that the configuration names, at each login. Checks owner and mode on the open
//! descriptor, not on the path.

use std::fs::File;
use std::io::Read;
use std::os::fd::AsFd;
use std::path::Path;

use mcp_broker_proto::Secret;
use rustix::fs::{FileType, Mode, OFlags};
use zeroize::Zeroizing;

use crate::provider::{Blame, ProviderError};

/// The largest file taken, in bytes: a bundle of authorities.
const MAX_FILE: u64 = 256 << 10;
/// The longest secret taken from a file, in bytes.
const MAX_SECRET: usize = 16 << 10;

/// Who may do what with a file for it to be taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Guard {
    /// Nobody but its owner may even read it.
    Private,
    /// Nobody but its owner may change it.
    Unforgeable,
}

/// A secret of one line.
pub(super) fn secret(path: &Path) -> Result<Secret, ProviderError> {
    let bytes = read(path, Guard::Private)?;
    let text = std::str::from_utf8(&bytes).map(str::trim).unwrap_or("");
    if text.is_empty() || text.len() > MAX_SECRET || !text.bytes().all(|b| b.is_ascii_graphic()) {
        let shown = path.display();
        return Err(refuse(
            format!("`{shown}` does not hold one line of text"),
            "write the value into it, and nothing else",
        ));
    }
    Ok(Secret::new(text.to_owned()))
}

/// A private key.
pub(super) fn key(path: &Path) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
    read(path, Guard::Private)
}

/// Certificates: anybody may read them.
pub(super) fn certificates(path: &Path) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
    read(path, Guard::Unforgeable)
}

fn read(path: &Path, guard: Guard) -> Result<Zeroizing<Vec<u8>>, ProviderError> {
    let shown = path.display();
    let failed = |error: std::io::Error| {
        refuse(
            format!("`{shown}` cannot be read: {}", error.kind()),
            "check that it is there and that the broker may read it",
        )
    };
    // Non-blocking, so that a pipe in its place cannot hold the broker up.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(|errno| failed(errno.into()))?;
    let stat = rustix::fs::fstat(fd.as_fd()).map_err(|errno| failed(errno.into()))?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(refuse(format!("`{shown}` is not a file"), "name a plain file"));
    }
    let me = rustix::process::geteuid().as_raw();
    if stat.st_uid != 0 && stat.st_uid != me {
        return Err(refuse(
            format!("`{shown}` belongs to someone else (uid {})", stat.st_uid),
            format!("`chown {me} {shown}`"),
        ));
    }
    let others = match guard {
        Guard::Private => Mode::RWXG | Mode::RWXO,
        Guard::Unforgeable => Mode::WGRP | Mode::WOTH,
    };
    let mode = Mode::from_raw_mode(stat.st_mode);
    if mode.intersects(others) {
        let verb = if guard == Guard::Private { "used" } else { "changed" };
        let bits = stat.st_mode & 0o7777;
        let cure = if guard == Guard::Private { "600" } else { "644" };
        return Err(refuse(
            format!("`{shown}` may be {verb} by its group or by everybody (mode {bits:03o})"),
            format!("`chmod {cure} {shown}`"),
        ));
    }
    bounded(File::from(fd)).map_err(failed)?.ok_or_else(|| {
        refuse(format!("`{shown}` is larger than {} KiB", MAX_FILE >> 10), "name the right file")
    })
}

fn bounded(file: File) -> std::io::Result<Option<Zeroizing<Vec<u8>>>> {
    let room = usize::try_from(MAX_FILE + 1).unwrap_or(0);
    let mut bytes = Zeroizing::new(Vec::with_capacity(room));
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() < room).then_some(bytes))
}

fn refuse(what: String, hint: impl Into<String>) -> ProviderError {
    ProviderError::new(Blame::Config, what, hint)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    fn file(name: &str, content: &[u8], mode: u32) -> PathBuf {
        let dir = std::env::temp_dir().join(format!("mcp-broker-files-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    fn check(path: &Path, want: Result<&str, &str>) {
        match (secret(path), want) {
            // EXPOSE: an invented value of this test.
            (Ok(got), Ok(want)) => assert!(got.expose(|text| text == want), "{}", path.display()),
            (Err(error), Err(want)) => assert!(error.what.contains(want), "{error}"),
            (got, want) => unreachable!("{}: {} and {want:?}", path.display(), got.is_ok()),
        }
    }

    #[test]
    fn only_private_one_line_files_are_secrets() {
        check(&file("good", b"s.abc\n", 0o600), Ok("s.abc"));
        check(&file("read-only", b"s.abc", 0o400), Ok("s.abc"));
        check(&file("group", b"s.abc", 0o640), Err("by its group or by everybody (mode 640)"));
        check(&file("world", b"s.abc", 0o604), Err("(mode 604)"));
        check(&file("empty", b"\n", 0o600), Err("one line"));
        check(&file("two", b"a\nb\n", 0o600), Err("one line"));
        check(&file("binary", b"\xff\xfe", 0o600), Err("one line"));
        check(&file("large", &vec![b'a'; 300 << 10], 0o600), Err("larger than"));
        check(&file("x", b"", 0o600).with_file_name("absent"), Err("cannot be read"));
        check(&std::env::temp_dir(), Err("not a file"));
        assert!(certificates(&file("ca", b"pem", 0o644)).is_ok());
        assert!(certificates(&file("ca-open", b"pem", 0o666)).is_err());
        assert!(key(&file("key", b"pem", 0o644)).is_err());
    }
}
