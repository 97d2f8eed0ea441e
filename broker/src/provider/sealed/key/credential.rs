//! The key as a credential of the service manager: read where it is handed over, never written.

use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::super::super::{Blame, ProviderError};
use super::super::state_dir::{read_capped, trouble};
use super::{MAX_KEY_TEXT, RootKey};

/// The name of the credential in the unit.
pub(super) const NAME: &str = "mcp-broker-sealed-key";

/// Looks for it in each directory in turn. `None` where it is in none of them.
pub(super) fn read(directories: &[PathBuf]) -> Result<Option<RootKey>, ProviderError> {
    for directory in directories {
        if let Some(key) = read_one(&directory.join(NAME))? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

fn read_one(path: &Path) -> Result<Option<RootKey>, ProviderError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(trouble("cannot open", path, errno)),
    };
    let stat = rustix::fs::fstat(&fd).map_err(|errno| trouble("cannot examine", path, errno))?;
    // systemd lets the unit's account in by an ACL, whose mask shows up as the group's bits: only the
    // bits of everybody else say something here.
    if stat.st_mode & 0o007 != 0 {
        let what = format!("every account can read the credential `{}`", path.display());
        return Err(ProviderError::new(
            Blame::Config,
            what,
            "pass it with LoadCredentialEncrypted= in the unit",
        ));
    }
    let text = read_capped(fd, path, MAX_KEY_TEXT)?;
    let bad = || {
        let what = format!("the credential `{}` is not a key", path.display());
        ProviderError::new(Blame::Config, what, "it must be 32 random bytes, as they are or in base64")
    };
    RootKey::parse(&text).map(Some).ok_or_else(bad)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may fail by panicking")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::super::testing::TempDir;
    use super::*;

    fn check(content: &[u8], mode: u32) -> Result<bool, ProviderError> {
        let dir = TempDir::new();
        let path = dir.path().join(NAME);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        read(&[dir.path().join("not-there"), dir.path().to_owned()]).map(|key| key.is_some())
    }

    #[test]
    fn credentials() {
        assert_eq!(check(&[1; 32], 0o400), Ok(true));
        assert_eq!(check(&[1; 32], 0o440), Ok(true));
        assert!(check(&[1; 32], 0o444).is_err());
        assert!(check(&[1; 31], 0o400).is_err());
        assert!(check(&[1; 4096], 0o400).is_err());
        assert!(read(&[]).unwrap().is_none());
    }
}
