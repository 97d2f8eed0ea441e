//! The sealed file's bytes: one header line that anybody may read, then nonce, cipher text and tag. The
//! header is bound as associated data, so it cannot be changed without the key. Pure: no files, no time.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

use super::entries::{Entries, MAX_ENCODED};
use super::key::{KeyId, RootKey, Source};

/// The longest file, in bytes.
pub(super) const MAX_FILE: usize = MAX_HEADER + NONCE_LEN + MAX_ENCODED + TAG_LEN;

const MAGIC: &str = "mcp-broker-sealed";
const VERSION: u32 = 1;
const MAX_HEADER: usize = 128;
const TAG_LEN: usize = 16;

/// The first line: format version, where the key was found, which key it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Where the key was when the file was written.
    pub source: Source,
    /// Which key.
    pub id: KeyId,
}

/// Why bytes are not a store that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FormatError {
    /// No header.
    #[error("is not a sealed store")]
    NotAStore,
    /// A format that this program does not know.
    #[error("has format {0}, and this broker reads format {VERSION}")]
    Version(u32),
    /// The seal does not fit the bytes.
    #[error("is damaged: its seal does not fit its content")]
    Damaged,
    /// Sealed with a key that is not the one at hand.
    #[error("was sealed with another key")]
    OtherKey,
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{MAGIC} {VERSION} {} {}", self.source, self.id)
    }
}

impl FromStr for Header {
    type Err = FormatError;
    fn from_str(line: &str) -> Result<Self, FormatError> {
        let mut words = line.trim_end_matches('\n').split(' ');
        if words.next() != Some(MAGIC) {
            return Err(FormatError::NotAStore);
        }
        let version = words.next().and_then(|word| word.parse().ok()).ok_or(FormatError::NotAStore)?;
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        let source = words.next().and_then(Source::from_word).ok_or(FormatError::Damaged)?;
        let id = words.next().and_then(KeyId::from_hex).ok_or(FormatError::Damaged)?;
        let header = Self { source, id };
        // One spelling only: what is bound to the seal is exactly what was understood.
        if header.to_string() == line { Ok(header) } else { Err(FormatError::Damaged) }
    }
}

/// Reads the header and answers with it and the rest of the file.
///
/// # Errors
/// Where the file does not begin with one that this program knows.
pub(super) fn split(file: &[u8]) -> Result<(Header, &[u8]), FormatError> {
    let start = file.get(..file.len().min(MAX_HEADER)).unwrap_or(file);
    let end = start.iter().position(|b| *b == b'\n').ok_or(FormatError::NotAStore)? + 1;
    let (line, body) = file.split_at_checked(end).ok_or(FormatError::NotAStore)?;
    let line = std::str::from_utf8(line).map_err(|_not_text| FormatError::NotAStore)?;
    Ok((line.parse()?, body))
}

/// Opens a file with `key`.
///
/// # Errors
/// Where the file is not a store, is damaged, or was sealed with another key.
pub(super) fn open(file: &[u8], key: &RootKey) -> Result<(Header, Entries), FormatError> {
    let (header, body) = split(file)?;
    if header.id != key.id() {
        return Err(FormatError::OtherKey);
    }
    let (nonce, sealed) = body.split_at_checked(NONCE_LEN).ok_or(FormatError::Damaged)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_length| FormatError::Damaged)?;
    let mut text = Zeroizing::new(sealed.to_vec());
    let aad = Aad::from(header.to_string());
    let opened = cipher(key)?.open_in_place(nonce, aad, &mut text).map_err(|_seal| FormatError::Damaged)?;
    let entries = Entries::decode(opened).map_err(|_malformed| FormatError::Damaged)?;
    Ok((header, entries))
}

/// The file for `entries`: sealed under a nonce that the cipher draws at random for each file, which for
/// one key is safe for 2^32 files (NIST SP 800-38D section 8.3).
///
/// # Errors
/// [`FormatError::Damaged`] where the cipher refuses, which it does for absurd lengths only.
pub(super) fn seal(entries: &Entries, key: &RootKey, source: Source) -> Result<Vec<u8>, FormatError> {
    let header = Header { source, id: key.id() }.to_string();
    let mut text = entries.encode(TAG_LEN);
    let nonce = cipher(key)?
        .seal_in_place_append_tag(Aad::from(header.as_bytes()), &mut *text)
        .map_err(|_length| FormatError::Damaged)?;
    Ok([header.as_bytes(), nonce.as_ref(), &text].concat())
}

fn cipher(key: &RootKey) -> Result<RandomizedNonceKey, FormatError> {
    RandomizedNonceKey::new(&AES_256_GCM, &*key.sealing_key()).map_err(|_length| FormatError::Damaged)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]
mod tests {
    use jiff::Timestamp;
    use mcp_broker_proto::Secret;

    use super::*;

    fn sample() -> (RootKey, Vec<u8>) {
        let mut entries = Entries::default();
        let value = Secret::new("correct horse".into());
        entries.set("A".parse().unwrap(), value, Timestamp::UNIX_EPOCH).unwrap();
        let key = RootKey::generate().unwrap();
        let file = seal(&entries, &key, Source::File).unwrap();
        (key, file)
    }

    fn check(file: &[u8], key: &RootKey) -> Result<String, FormatError> {
        let (_, entries) = open(file, key)?;
        Ok(entries.take(&"A".parse().unwrap()).unwrap().expose(str::to_owned))
    }

    #[test]
    fn round_trip_with_a_fresh_nonce_each_time() {
        let (key, file) = sample();
        assert_eq!(check(&file, &key).as_deref(), Ok("correct horse"));
        let (_, entries) = open(&file, &key).unwrap();
        assert_ne!(seal(&entries, &key, Source::File).unwrap(), file);
        assert!(!file.windows(7).any(|w| w == b"correct"));
    }

    #[test]
    fn another_key_is_told_from_damage() {
        let (_, file) = sample();
        assert_eq!(check(&file, &RootKey::generate().unwrap()), Err(FormatError::OtherKey));
    }

    #[test]
    fn every_changed_byte_is_found() {
        let (key, file) = sample();
        for at in 0..file.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(check(&changed, &key).is_err(), "byte {at}");
        }
    }

    #[test]
    fn every_truncation_is_found() {
        let (key, file) = sample();
        for len in 0..file.len() {
            assert!(check(&file[..len], &key).is_err(), "{len} bytes");
        }
        assert!(check(&[&file[..], b"x"].concat(), &key).is_err(), "one byte more");
    }

    #[test]
    fn the_source_is_bound_to_the_seal() {
        let (key, file) = sample();
        let (header, body) = split(&file).unwrap();
        let other = Header { source: Source::Keyring, ..header }.to_string();
        assert_eq!(check(&[other.as_bytes(), body].concat(), &key), Err(FormatError::Damaged));
    }

    #[test]
    fn versions() {
        let id = "0".repeat(32);
        for (line, want) in [
            (format!("{MAGIC} 2 file {id}\n"), FormatError::Version(2)),
            (format!("{MAGIC} 01 file {id}\n"), FormatError::Damaged),
            (format!("{MAGIC} 1 file {id} more\n"), FormatError::Damaged),
            (format!("{MAGIC} 1 tpm {id}\n"), FormatError::Damaged),
            (format!("{MAGIC} x file {id}\n"), FormatError::NotAStore),
            ("something else\n".into(), FormatError::NotAStore),
            ("x".repeat(200), FormatError::NotAStore),
        ] {
            assert_eq!(split(line.as_bytes()).unwrap_err(), want, "{line}");
        }
    }
}
