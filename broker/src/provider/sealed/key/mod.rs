//! The key of a store and the three places it may come from. A store says in its header which key sealed
//! it and where that key was; a key is made only for a store that does not exist yet.

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::super::{Blame, ProviderError};

mod credential;
mod file;
mod keyring;
mod sources;

pub(super) use file::KEY_FILE;
pub use sources::Surroundings;
pub(super) use sources::{Found, KeySources};

/// Where a key is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A credential that the service manager hands over (systemd.exec(5), "Credentials").
    Credential,
    /// The person's keyring (Secret Service API).
    Keyring,
    /// A file beside the store.
    File,
}

impl Source {
    /// Every source, in the order of preference.
    pub const ALL: &[Self] = &[Self::Credential, Self::Keyring, Self::File];

    /// The word in the header and in `key =`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            Self::Keyring => "keyring",
            Self::File => "file",
        }
    }

    /// The source of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|source| source.word() == word)
    }

    /// The source in a sentence.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Self::Credential => "the system credential",
            Self::Keyring => "the keyring",
            Self::File => "the key file",
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Which key: derived one way from it, so it can be written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyId([u8; 16]);

impl KeyId {
    /// Reads 32 hexadecimal digits.
    #[must_use]
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let digits = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| digits).map(|id| Self(id.to_be_bytes()))
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

/// 32 random bytes. Never used itself: what seals and what names it are derived from it.
pub(super) struct RootKey(Zeroizing<[u8; 32]>);

/// The longest text or file that holds a key, in bytes.
pub(super) const MAX_KEY_TEXT: usize = 128;

impl RootKey {
    /// A new one from the kernel.
    ///
    /// # Errors
    /// Where the kernel gives no random bytes.
    pub(super) fn generate() -> Result<Self, ProviderError> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        let filled = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
        if filled == Ok(bytes.len()) {
            return Ok(Self(bytes));
        }
        Err(ProviderError::new(Blame::Broken, "the kernel gave no random bytes for a key", "try again"))
    }

    /// Takes 32 bytes as they are, or in base64 with white space around it (RFC 4648 section 4).
    #[must_use]
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        if text.len() == bytes.len() {
            bytes.copy_from_slice(text);
            return Some(Self(bytes));
        }
        if text.len() > MAX_KEY_TEXT {
            return None;
        }
        // The decoder wants room for whole groups of four, so the key is decoded beside its place.
        let mut room = Zeroizing::new([0u8; 36]);
        let length = STANDARD.decode_slice(text.trim_ascii(), &mut room[..]).ok()?;
        bytes.copy_from_slice(room.get(..length).filter(|decoded| decoded.len() == 32)?);
        Some(Self(bytes))
    }

    /// One line of base64.
    #[must_use]
    pub(super) fn to_line(&self) -> Zeroizing<Vec<u8>> {
        let mut line = Zeroizing::new(vec![b'\n'; 45]);
        // 32 bytes are 44 digits, which fit; a shorter line could not be parsed and so is noticed.
        let written = STANDARD.encode_slice(&self.0[..], &mut line).unwrap_or(0);
        line.truncate(written + 1);
        line
    }

    /// The name of the key.
    #[must_use]
    pub(super) fn id(&self) -> KeyId {
        let mut id = [0u8; 16];
        id.iter_mut()
            .zip(self.derive(b"mcp-broker sealed store 1: id").iter())
            .for_each(|(to, from)| *to = *from);
        KeyId(id)
    }

    /// The key of the cipher.
    #[must_use]
    pub(super) fn sealing_key(&self) -> Zeroizing<[u8; 32]> {
        self.derive(b"mcp-broker sealed store 1: seal")
    }

    /// HMAC of a constant under the key: one block of HKDF-Expand, which is all that a uniform key needs
    /// (RFC 5869 section 3.3).
    fn derive(&self, purpose: &[u8]) -> Zeroizing<[u8; 32]> {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.0[..]), purpose);
        let mut out = Zeroizing::new([0u8; 32]);
        out.copy_from_slice(tag.as_ref());
        out
    }
}

#[cfg(test)]
mod live_tests;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_in_both_spellings() {
        let key = RootKey::generate().unwrap();
        let line = key.to_line();
        assert_eq!(line.len(), 45);
        for spelling in [&key.0[..], &line, line.trim_ascii(), &[b"  ", &line[..], b"\n"].concat()] {
            assert_eq!(RootKey::parse(spelling).unwrap().id(), key.id());
        }
        for bad in [&b""[..], b"short", &[b'A'; 43], &[b'A'; 48], &[b'A'; 200], &[0; 33]] {
            assert!(RootKey::parse(bad).is_none(), "{} bytes", bad.len());
        }
    }

    #[test]
    fn what_is_derived_differs_and_is_not_the_key() {
        let key = RootKey::parse(&[7; 32]).unwrap();
        assert_ne!(&*key.sealing_key(), &[7; 32]);
        assert_ne!(&key.sealing_key()[..16], &key.id().0);
        assert_ne!(key.sealing_key(), RootKey::parse(&[8; 32]).unwrap().sealing_key());
        assert_eq!(KeyId::from_hex(&key.id().to_string()), Some(key.id()));
        assert_eq!(KeyId::from_hex("+0000000000000000000000000000000"), None);
    }
}
