//! Reads the journal at start: repairs a torn tail, and finds damage in the middle. Writing is in `book`.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::record::{Record, decode};
use crate::durable;

#[doc(hidden)]
pub use super::record::encode;

/// Name of the journal in the state directory.
pub const FILE_NAME: &str = "journal";

/// A journal larger than this was not written by a broker: it compacts far earlier.
const MAX_BYTES: u64 = 256 << 20;

/// The journal as it was found.
pub struct Found {
    /// Where it is.
    pub path: PathBuf,
    /// The open file, at its end; `None` when it can be read but not written.
    pub file: Option<File>,
    /// Its length in bytes after the repair.
    pub length: u64,
    /// Every record that can be read, oldest first.
    pub records: Vec<Record>,
    /// What was wrong with it.
    pub damage: Damage,
}

/// What was wrong with a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// Nothing.
    None,
    /// The last record was torn by a crash and was cut off; nothing else can have come after it.
    TornTail {
        /// How long it was.
        bytes: u64,
    },
    /// Records in the middle cannot be read: what they said is not known.
    Middle {
        /// How many lines.
        unreadable: usize,
        /// Where the damaged file was kept, where that was possible.
        kept_as: Option<PathBuf>,
    },
}

/// Opens or creates the journal in `state_dir`. One that can only be read is read: what it tells of is to be
/// ended, even where nothing can be minted.
///
/// # Errors
/// When it cannot be read, or is not a journal.
pub fn open(state_dir: &Path) -> io::Result<Found> {
    let path = state_dir.join(FILE_NAME);
    let (mut file, writable) = match durable::open_append(&path) {
        Ok(file) => (file, true),
        Err(error) => (File::open(&path).map_err(|_also| error)?, false),
    };
    if file.metadata()?.len() > MAX_BYTES {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the journal is far too long"));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let (records, length, bad) = replay(&bytes);
    let torn = bytes.len() as u64 - length;
    let damage = if bad > 0 {
        let kept_as = path.with_extension("damaged");
        Damage::Middle { unreadable: bad, kept_as: std::fs::copy(&path, &kept_as).ok().map(|_| kept_as) }
    } else if torn > 0 {
        Damage::TornTail { bytes: torn }
    } else {
        Damage::None
    };
    let file = if writable { ready(file, length, torn > 0).ok() } else { None };
    Ok(Found { path, file, length, records, damage })
}

/// Cuts a torn tail off and goes to the end.
fn ready(mut file: File, length: u64, torn: bool) -> io::Result<File> {
    if torn {
        file.set_len(length)?;
        file.sync_all()?;
    }
    file.seek(SeekFrom::Start(length))?;
    Ok(file)
}

/// The readable records, the length up to the torn tail, and how many lines before it cannot be read.
pub fn replay(bytes: &[u8]) -> (Vec<Record>, u64, usize) {
    let mut records = Vec::new();
    let mut bad = 0;
    let mut good_end = 0;
    let mut bad_since_good = 0;
    let mut at = 0;
    for line in bytes.split_inclusive(|&b| b == b'\n') {
        at += line.len();
        match line.strip_suffix(b"\n").and_then(decode) {
            Some(record) => {
                records.push(record);
                good_end = at;
                bad += bad_since_good;
                bad_since_good = 0;
            }
            None => bad_since_good += 1,
        }
    }
    // One piece without a line feed at the very end is what a crash leaves; anything else is damage.
    let last = bytes.get(good_end..).unwrap_or_default();
    if bad_since_good > 1 || (bad_since_good == 1 && bytes.ends_with(b"\n")) {
        bad += bad_since_good;
    } else if let Some(record) = last.split_last().and_then(|(_, line)| decode(line)) {
        // A whole record with something else for its line feed, which no crash leaves.
        records.push(record);
        good_end = bytes.len();
        bad += 1;
    }
    (records, good_end as u64, bad)
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::disallowed_methods,
    reason = "tests may, and their files are not private"
)]
mod tests {
    use super::super::record::encode;
    use super::*;
    use mcp_broker_proto::names::LeaseId;

    fn sample(count: usize) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = vec![0];
        for _ in 0..count {
            encode(&Record::Settled { id: LeaseId::fresh() }, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[test]
    fn cut_at_every_offset() {
        let (bytes, ends) = sample(4);
        for cut in 0..=bytes.len() {
            let whole = ends.iter().filter(|&&end| end <= cut).count() - 1;
            let (records, length, bad) = replay(&bytes[..cut]);
            assert_eq!((records.len(), length as usize, bad), (whole, ends[whole], 0), "cut at {cut}");
        }
    }

    #[test]
    fn every_flipped_bit_is_found() {
        let (bytes, _) = sample(3);
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 1;
            let (records, length, bad) = replay(&broken);
            assert!(records.len() <= 2 || at == bytes.len() - 1, "byte {at}");
            assert!(bad > 0, "byte {at}");
            assert!(length as usize <= bytes.len());
        }
    }

    #[test]
    fn a_damaged_journal_is_kept() {
        let directory = std::env::temp_dir().join(format!("mcp-journal-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let (mut bytes, _) = sample(3);
        bytes[12] ^= 1;
        std::fs::write(directory.join(FILE_NAME), &bytes).unwrap();
        let found = open(&directory).unwrap();
        let Damage::Middle { unreadable: 1, kept_as: Some(kept_as) } = found.damage else {
            panic!("{:?}", found.damage)
        };
        assert_eq!(std::fs::read(kept_as).unwrap(), bytes);
        assert_eq!(found.records.len(), 2);
    }
}
