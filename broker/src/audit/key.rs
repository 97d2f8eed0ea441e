//! The key under which digests of arguments are written down: random, made once for an installation, in a private
//! file of the state directory. It protects nothing but those digests.

use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use aws_lc_rs::hmac;

use super::call::{KeyedDigest, PlainDigest};
use crate::durable::open_append;

/// Name of the key's file in the state directory.
const FILE_NAME: &str = "audit.key";

/// Its length, that of the digest (RFC 2104 section 3).
const LENGTH: usize = 32;

/// The key.
pub(super) struct DigestKey(hmac::Key);

impl DigestKey {
    /// Reads the key of `state_dir`, or makes it.
    ///
    /// # Errors
    /// When the file cannot be read or written, or is not one of ours.
    pub(super) fn open(state_dir: &Path) -> io::Result<Self> {
        let mut file = open_append(&state_dir.join(FILE_NAME))?;
        let mut bytes = Vec::with_capacity(LENGTH + 1);
        (&mut file).take(LENGTH as u64 + 1).read_to_end(&mut bytes)?;
        if bytes.len() > LENGTH {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the key of the log is not one"));
        }
        // A shorter one was torn when it was made, before anything was written under it.
        if bytes.len() < LENGTH {
            bytes = random()?.to_vec();
            file.seek(SeekFrom::Start(0))?;
            file.set_len(0)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
        }
        Ok(Self::of(&bytes))
    }

    /// One that is forgotten with the process, for a log that holds nothing.
    pub(super) fn passing() -> Self {
        Self::of(&random().unwrap_or_default())
    }

    /// The digest that may be written down.
    pub(super) fn digest(&self, plain: &PlainDigest) -> KeyedDigest {
        let tag = hmac::sign(&self.0, &plain.0);
        let mut bytes = [0; 32];
        for (byte, of_tag) in bytes.iter_mut().zip(tag.as_ref()) {
            *byte = *of_tag;
        }
        KeyedDigest(bytes)
    }

    fn of(bytes: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }
}

fn random() -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty())?;
    if filled == LENGTH { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "tests may, and their files are not private"
)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::testing::TempDir;

    fn digest(key: &DigestKey, byte: u8) -> String {
        format!("{:?}", key.digest(&PlainDigest([byte; 32])))
    }

    #[test]
    fn one_key_an_installation() {
        let (here, there) = (TempDir::new(), TempDir::new());
        let first = DigestKey::open(here.path()).unwrap();
        let path = here.path().join(FILE_NAME);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let again = DigestKey::open(here.path()).unwrap();
        let other = DigestKey::open(there.path()).unwrap();
        assert_eq!(digest(&first, 1), digest(&again, 1));
        assert_ne!(digest(&first, 1), digest(&first, 2));
        assert_ne!(digest(&first, 1), digest(&other, 1));
        // Torn: nothing was written under it.
        std::fs::write(&path, [7; LENGTH - 1]).unwrap();
        let made = DigestKey::open(here.path()).unwrap();
        assert_eq!(digest(&made, 1), digest(&DigestKey::open(here.path()).unwrap(), 1));
        std::fs::write(&path, [7; LENGTH + 1]).unwrap();
        assert!(DigestKey::open(here.path()).is_err());
    }

    /// RFC 4231, test case 2, whose message is no digest: the function itself is the library's.
    #[test]
    fn it_is_hmac_sha_256() {
        let key = DigestKey::of(b"Jefe");
        let tag = hmac::sign(&key.0, b"what do ya want for nothing?");
        let shown: String = tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(shown, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
