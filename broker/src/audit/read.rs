//! Reads the audit log back: every line, and whether the chain holds.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use super::log::{Head, hash};

/// A line longer than this is not one of ours. The longest hold a call's arguments, or every changed tool of a
/// scope, and each byte of those may take two.
const MAX_LINE: u64 = 256 * 1024;

/// One line as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number in the file, from 1.
    pub number: u64,
    /// The text, without its line feed; empty where it is too long to be kept.
    pub text: String,
    /// What it is.
    pub shape: Shape,
}

/// What a line looks like. Says nothing about the chain: that is [`verify`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A record.
    Record,
    /// Something else: it was damaged or written by somebody else.
    NotARecord,
    /// The last line, without its line feed: the broker writes it right now, or died while it did.
    Torn,
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
    /// Every whole line follows from the one before it, and the last one is not whole.
    Torn {
        /// The torn line's number in the file, from 1.
        line: u64,
        /// Hash of the last whole one.
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
    let (mut number, mut torn) = (0, false);
    let mut reader = BufReader::new(File::open(path)?);
    while let Some(raw) = next(&mut reader)? {
        number += 1;
        let broken = |what| Ok(Verdict::Broken { line: number, what });
        let text = match raw {
            Raw::Whole(text) => text,
            Raw::Torn(_) => {
                torn = true;
                break;
            }
            Raw::TooLong => return broken("it is too long to be a record"),
        };
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
    Ok(match (seen, torn) {
        (true, false) => Verdict::Intact { lines: number, head: last.hash },
        (true, true) => Verdict::Torn { line: number, head: last.hash },
        (false, _) => Verdict::HeadMissing { lines: number - u64::from(torn) },
    })
}

/// All lines, oldest first, damaged ones too.
///
/// # Errors
/// When the file cannot be read.
pub fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Line>>> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut number = 0;
    Ok(std::iter::from_fn(move || {
        let raw = next(&mut reader).transpose()?;
        number += 1;
        Some(raw.map(|raw| {
            let (bytes, shape) = match raw {
                Raw::Whole(bytes) if serde_json::from_slice::<Linked>(&bytes).is_ok() => {
                    (bytes, Shape::Record)
                }
                Raw::Whole(bytes) => (bytes, Shape::NotARecord),
                Raw::TooLong => (Vec::new(), Shape::NotARecord),
                Raw::Torn(bytes) => (bytes, Shape::Torn),
            };
            Line { number, text: String::from_utf8_lossy(&bytes).into_owned(), shape }
        }))
    }))
}

/// One line before anything is known of it.
enum Raw {
    Whole(Vec<u8>),
    /// Longer than [`MAX_LINE`]; it was passed over.
    TooLong,
    /// The file ends without a line feed.
    Torn(Vec<u8>),
}

/// `None` at the end.
fn next(reader: &mut impl BufRead) -> io::Result<Option<Raw>> {
    let mut line = Vec::new();
    let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
        return Ok(Some(Raw::Whole(line)));
    }
    if u64::try_from(read).is_ok_and(|read| read < MAX_LINE) {
        return Ok(Some(Raw::Torn(line)));
    }
    reader.skip_until(b'\n')?;
    Ok(Some(Raw::TooLong))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
mod tests {
    use super::*;
    use crate::config::testing::TempDir;

    /// A chain of `count` records.
    fn chain(count: u64) -> String {
        let mut last = Head::genesis();
        let mut text = String::new();
        for seq in 1..=count {
            let line = format!("{{\"seq\":{seq},\"prev\":\"{}\"}}", last.hash);
            last = Head { seq, hash: hash(line.as_bytes()) };
            text.push_str(&line);
            text.push('\n');
        }
        text
    }

    fn check(text: &str, head: Option<&str>) -> (Verdict, Vec<(u64, Shape)>) {
        let dir = TempDir::new();
        dir.write("log", text);
        let path = dir.path().join("log");
        let shapes = lines(&path).unwrap().map(|line| line.unwrap()).map(|line| (line.number, line.shape));
        (verify(&path, head).unwrap(), shapes.collect())
    }

    #[test]
    fn shapes_and_verdicts() {
        let whole = chain(2);
        let long = format!("{}\n", "x".repeat(270_000));
        let record = Shape::Record;
        let (verdict, shapes) = check(&whole, None);
        assert!(matches!(verdict, Verdict::Intact { lines: 2, .. }), "{verdict:?}");
        assert_eq!(shapes, [(1, record), (2, record)]);

        let (verdict, shapes) = check(&format!("{whole}{{\"seq\":3"), None);
        assert!(matches!(verdict, Verdict::Torn { line: 3, .. }), "{verdict:?}");
        assert_eq!(shapes.last(), Some(&(3, Shape::Torn)));

        let (verdict, shapes) = check(&format!("{long}{whole}"), None);
        assert_eq!(verdict, Verdict::Broken { line: 1, what: "it is too long to be a record" });
        assert_eq!(shapes, [(1, Shape::NotARecord), (2, record), (3, record)]);

        let (verdict, shapes) = check(&format!("{whole}[]\n"), None);
        assert_eq!(verdict, Verdict::Broken { line: 3, what: "it is not a record" });
        assert_eq!(shapes.last(), Some(&(3, Shape::NotARecord)));
    }

    /// A torn end may be a cut one: a head that was kept still tells.
    #[test]
    fn a_torn_end_does_not_hide_a_missing_head() {
        let whole = chain(2);
        let kept = hash(whole.lines().next().unwrap().as_bytes());
        let torn = format!("{whole}{{");
        assert!(matches!(check(&torn, Some(&kept)).0, Verdict::Torn { line: 3, .. }));
        let other = "f".repeat(64);
        assert_eq!(check(&torn, Some(&other)).0, Verdict::HeadMissing { lines: 2 });
    }
}
