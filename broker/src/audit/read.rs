//! Reads the audit log back: every line, and whether the chain holds.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::log::{Head, hash};

/// A line longer than this is not one of ours.
const MAX_LINE: u64 = 64 * 1024;

/// One line as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The text, without its line feed.
    pub text: String,
}

/// Whether the log is what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every line follows from the one before it.
    Intact {
        /// How many lines.
        lines: u64,
        /// Hash of the last one: kept elsewhere, it shows later whether the end was cut off.
        head: String,
    },
    /// A line does not follow from the one before it.
    Broken {
        /// The line's number in the file, from 1.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The chain holds, but the head that was asked for is not in it: the end was cut off or rewritten.
    HeadMissing {
        /// How many lines there are.
        lines: u64,
    },
}

#[derive(serde::Deserialize)]
struct Linked {
    seq: u64,
    prev: String,
}

/// Checks the whole chain, and that `head` (a hash that was kept elsewhere) is in it.
///
/// # Errors
/// When the file cannot be read.
pub fn verify(path: &Path, head: Option<&str>) -> io::Result<Verdict> {
    let mut last = Head::genesis();
    let mut seen = head.is_none();
    let mut number = 0;
    let mut reader = BufReader::new(File::open(path)?);
    while let Some(line) = next(&mut reader)? {
        number += 1;
        let broken = |what| Ok(Verdict::Broken { line: number, what });
        let Some(text) = line else { return broken("it is torn, or too long") };
        let Ok(linked) = serde_json::from_slice::<Linked>(&text) else {
            return broken("it is not a record");
        };
        if linked.prev != last.hash {
            return broken("it does not follow from the line before it");
        }
        if linked.seq != last.seq + 1 {
            return broken("its number does not follow");
        }
        last = Head { seq: linked.seq, hash: hash(&text) };
        seen |= head == Some(last.hash.as_str());
    }
    if seen {
        Ok(Verdict::Intact { lines: number, head: last.hash })
    } else {
        Ok(Verdict::HeadMissing { lines: number })
    }
}

/// All whole lines, oldest first.
///
/// # Errors
/// When the file cannot be read.
pub fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Line>>> {
    let mut reader = BufReader::new(File::open(path)?);
    Ok(std::iter::from_fn(move || match next(&mut reader) {
        Ok(Some(Some(bytes))) => Some(Ok(Line { text: String::from_utf8_lossy(&bytes).into_owned() })),
        Ok(Some(None) | None) => None,
        Err(error) => Some(Err(error)),
    }))
}

/// `None` at the end; `Some(None)` for a line that is torn or too long.
fn next(reader: &mut impl BufRead) -> io::Result<Option<Option<Vec<u8>>>> {
    let mut line = Vec::new();
    let read = reader.take(MAX_LINE).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    Ok(Some(if line.pop() == Some(b'\n') { Some(line) } else { None }))
}
