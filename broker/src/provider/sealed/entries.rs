//! What a store holds: names, values, times, and their encoding. Binary with lengths instead of JSON, so
//! that no parser's scratch buffer keeps a copy of a value; every buffer here is wiped.

use std::collections::BTreeMap;

use jiff::Timestamp;
use mcp_broker_proto::Secret;
use zeroize::{Zeroize, Zeroizing};

use super::name::SecretName;

/// The longest value, in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// How many values a store holds at most.
pub(super) const MAX_ENTRIES: usize = 1000;

/// The longest encoding, in bytes. Reading and writing both refuse more.
pub(super) const MAX_ENCODED: usize = 4 << 20;

/// One value.
pub struct Entry {
    /// The value.
    pub value: Secret,
    /// When the name first appeared; whole seconds.
    pub created: Timestamp,
    /// When the value was last set; whole seconds.
    pub changed: Timestamp,
}

/// A store's content.
#[derive(Default)]
pub struct Entries(BTreeMap<SecretName, Entry>);

/// The bytes are not an encoding of entries, though the seal was right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// There is no room for one more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Entries {
    /// Names and values, by name.
    pub fn iter(&self) -> impl Iterator<Item = (&SecretName, &Entry)> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Takes one value out; the others are wiped with the map.
    #[must_use]
    pub fn take(mut self, name: &SecretName) -> Option<Secret> {
        self.0.remove(name).map(|entry| entry.value)
    }

    /// Sets a value; keeps the time of creation of one that was there. Answers whether one was there.
    ///
    /// # Errors
    /// Where the store would hold more than [`MAX_ENTRIES`] or [`MAX_ENCODED`] allow.
    pub fn set(&mut self, name: SecretName, value: Secret, now: Timestamp) -> Result<bool, Full> {
        let before = self.0.get(&name).map(|entry| entry.created);
        let entry = Entry { value, created: before.unwrap_or(now), changed: now };
        self.0.insert(name, entry);
        if self.0.len() > MAX_ENTRIES || self.encoded_len() > MAX_ENCODED {
            return Err(Full);
        }
        Ok(before.is_some())
    }

    /// Removes a value; answers whether it was there.
    pub fn remove(&mut self, name: &SecretName) -> bool {
        self.0.remove(name).is_some()
    }

    fn encoded_len(&self) -> usize {
        let entry =
            |(name, entry): (&SecretName, &Entry)| 1 + name.as_str().len() + 8 + 8 + 4 + entry.value.len();
        self.0.iter().map(entry).sum()
    }

    /// The encoding, with `spare` bytes of room left so that sealing does not move it.
    #[must_use]
    pub fn encode(&self, spare: usize) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(self.encoded_len() + spare));
        for (name, entry) in &self.0 {
            // Both lengths fit: a name has at most 64 bytes and a value was capped when it came in.
            out.push(u8::try_from(name.as_str().len()).unwrap_or(0));
            out.extend_from_slice(name.as_str().as_bytes());
            out.extend_from_slice(&entry.created.as_second().to_be_bytes());
            out.extend_from_slice(&entry.changed.as_second().to_be_bytes());
            out.extend_from_slice(&u32::try_from(entry.value.len()).unwrap_or(0).to_be_bytes());
            // EXPOSE: the plain text of the store, sealed in place at once and wiped with its buffer.
            entry.value.expose(|text| out.extend_from_slice(text.as_bytes()));
        }
        out
    }

    /// Reads an encoding.
    ///
    /// # Errors
    /// Where it is not exactly one.
    pub fn decode(mut bytes: &[u8]) -> Result<Self, Malformed> {
        let mut entries = BTreeMap::new();
        while !bytes.is_empty() {
            let name_len = u8::from_be_bytes(fixed(&mut bytes)?);
            let name = text(take(&mut bytes, usize::from(name_len))?)?;
            let name = name.parse::<SecretName>().map_err(|_bad_name| Malformed)?;
            let created = time(fixed(&mut bytes)?)?;
            let changed = time(fixed(&mut bytes)?)?;
            let value_len = u32::from_be_bytes(fixed(&mut bytes)?);
            let value_len = usize::try_from(value_len).map_err(|_too_long| Malformed)?;
            let value = Secret::new(text(take(&mut bytes, value_len)?)?);
            if value_len > MAX_VALUE || entries.len() >= MAX_ENTRIES {
                return Err(Malformed);
            }
            if entries.insert(name, Entry { value, created, changed }).is_some() {
                return Err(Malformed);
            }
        }
        Ok(Self(entries))
    }
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (head, rest) = bytes.split_at_checked(len).ok_or(Malformed)?;
    *bytes = rest;
    Ok(head)
}

fn fixed<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    take(bytes, N)?.try_into().map_err(|_wrong_length| Malformed)
}

fn time(bytes: [u8; 8]) -> Result<Timestamp, Malformed> {
    Timestamp::from_second(i64::from_be_bytes(bytes)).map_err(|_out_of_range| Malformed)
}

fn text(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|error| {
        error.into_bytes().zeroize();
        Malformed
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may fail by panicking")]
mod tests {
    use super::*;

    fn entries(pairs: &[(&str, &str)]) -> Entries {
        let mut entries = Entries::default();
        for (name, value) in pairs {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            entries.set(name.parse().unwrap(), Secret::new((*value).into()), now).unwrap();
        }
        entries
    }

    #[test]
    fn encoding_round_trips() {
        for pairs in [&[][..], &[("A", "")], &[("A", "1"), ("b.c", "lines\nand ü \0")]] {
            let encoded = entries(pairs).encode(0);
            let again = Entries::decode(&encoded).unwrap();
            let got: Vec<_> = again
                .iter()
                .map(|(name, entry)| (name.to_string(), entry.value.expose(str::to_owned)))
                .collect();
            let want: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            assert_eq!(got, want);
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        let good = entries(&[("A", "1"), ("B", "22")]).encode(0);
        // A cut between two entries is an encoding again: the seal is what finds that one.
        let boundary = entries(&[("A", "1")]).encode(0).len();
        for cut in (1..good.len()).filter(|cut| *cut != boundary) {
            assert!(Entries::decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        let twice = [&good[..], &good[..]].concat();
        assert!(Entries::decode(&twice).is_err(), "a name twice");
        let mut not_text = good.to_vec();
        *not_text.last_mut().unwrap() = 0xff;
        assert!(Entries::decode(&not_text).is_err(), "not UTF-8");
    }

    #[test]
    fn setting_keeps_the_time_of_creation_and_removing_says_whether() {
        let mut entries = entries(&[("A", "1")]);
        let later = Timestamp::from_second(1_700_000_100).unwrap();
        let name: SecretName = "A".parse().unwrap();
        assert_eq!(entries.set(name.clone(), Secret::new("2".into()), later), Ok(true));
        let (_, entry) = entries.iter().next().unwrap();
        assert_eq!((entry.created.as_second(), entry.changed.as_second()), (1_700_000_000, 1_700_000_100));
        assert!(entries.remove(&name));
        assert!(!entries.remove(&name));
    }

    #[test]
    fn a_full_store_refuses_more() {
        let mut entries = Entries::default();
        for i in 0..MAX_ENTRIES {
            let name = format!("n{i}").parse().unwrap();
            entries.set(name, Secret::new("v".into()), Timestamp::UNIX_EPOCH).unwrap();
        }
        let one_more = entries.set("x".parse().unwrap(), Secret::new("v".into()), Timestamp::UNIX_EPOCH);
        assert_eq!(one_more, Err(Full));
    }
}
