//! Writes the audit log: stamps, numbers and chains each event, on the log's own thread.

use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use super::Event;
use super::call::{KeyedDigest, PlainDigest};
use super::key::DigestKey;
use crate::clock::Clock;
use crate::durable::{self, Durable, DurableError, Encoder, Pending};

/// The open audit log; clones share it.
#[derive(Clone)]
pub struct AuditLog {
    log: Durable<Stamped>,
    clock: Arc<dyn Clock>,
    key: Arc<DigestKey>,
    state: Arc<State>,
}

/// How the log does.
#[derive(Default)]
struct State {
    lost: AtomicU64,
    /// The last record that was waited for is not on the disk.
    failing: AtomicBool,
    /// About so many bytes of records were not taken by the log's thread yet.
    queued: AtomicUsize,
}

/// So many bytes of records may wait for the log's thread; more mean that the disk does not keep up, or hangs.
const MAX_QUEUED: usize = 16 << 20;

struct Stamped {
    ts: String,
    event: Event,
    state: Arc<State>,
}

impl Stamped {
    fn new(ts: String, event: Event, state: Arc<State>) -> Self {
        state.queued.fetch_add(event.weight(), Ordering::Relaxed);
        Self { ts, event, state }
    }
}

impl Drop for Stamped {
    fn drop(&mut self) {
        self.state.queued.fetch_sub(self.event.weight(), Ordering::Relaxed);
    }
}

impl AuditLog {
    /// Opens or creates the log in `state_dir`; cuts off a torn last line and says how long that was.
    ///
    /// # Errors
    /// When the file cannot be read or written.
    pub fn open(state_dir: &Path, clock: Arc<dyn Clock>) -> io::Result<(Self, u64)> {
        let path = state_dir.join(super::FILE_NAME);
        let mut file = durable::open_append(&path)?;
        let tail = Tail::read(&mut file)?;
        if tail.torn > 0 {
            file.set_len(tail.length)?;
        }
        file.seek(SeekFrom::Start(tail.length))?;
        let chain = Chain { head: tail.head.clone(), tip: tail.head };
        let log = Durable::start(&path, file, tail.length, chain)?;
        let key = Arc::new(DigestKey::open(state_dir)?);
        Ok((Self { log, clock, key, state: Arc::default() }, tail.torn))
    }

    /// A log that cannot be written to: nothing is minted, ends go on.
    #[must_use]
    pub fn unusable(state_dir: &Path, clock: Arc<dyn Clock>) -> Self {
        let log = Durable::broken(&state_dir.join(super::FILE_NAME));
        let state = State { failing: true.into(), ..State::default() };
        Self { log, clock, key: Arc::new(DigestKey::passing()), state: Arc::new(state) }
    }

    /// Writes an event before the thing that it tells of is done: no record, no credential.
    ///
    /// # Errors
    /// When it is not on the disk.
    pub async fn record(&self, event: Event) -> Result<(), DurableError> {
        let done = self.put(event).durable().await;
        self.state.failing.store(done.is_err(), Ordering::Relaxed);
        done
    }

    /// Puts an event in line for the disk; the caller waits for it later.
    pub fn put(&self, event: Event) -> Pending {
        self.log.append(Stamped::new(self.clock.now().to_string(), event, Arc::clone(&self.state)))
    }

    /// Writes an event of something that must not wait: an end, or a call. A loss is counted and logged.
    pub fn note(&self, event: Event) {
        let pending = self.put(event);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            let done = pending.durable().await;
            state.failing.store(done.is_err(), Ordering::Relaxed);
            if let Err(error) = done {
                let lost = state.lost.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::error!(%error, lost, "an audit record was lost");
            }
        });
    }

    /// Notes an event that may be left out where the log is behind: it would only fill the memory.
    pub fn note_unless_behind(&self, event: Event) {
        if !self.is_behind() {
            self.note(event);
        }
    }

    /// Whether calls may go on, whose records are not waited for: the last record that was is on the disk, and the
    /// log keeps up.
    #[must_use]
    pub fn takes_calls(&self) -> bool {
        !self.state.failing.load(Ordering::Relaxed) && !self.is_behind()
    }

    fn is_behind(&self) -> bool {
        self.state.queued.load(Ordering::Relaxed) >= MAX_QUEUED
    }

    /// What may be written down of a digest of arguments.
    #[must_use]
    pub fn digest(&self, plain: &PlainDigest) -> KeyedDigest {
        self.key.digest(plain)
    }

    /// How many records were lost since the start.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.state.lost.load(Ordering::Relaxed)
    }
}

/// A line of the log, in the order of its keys.
#[derive(Serialize)]
struct Written<'a> {
    seq: u64,
    ts: &'a str,
    prev: &'a str,
    #[serde(flatten)]
    event: &'a Event,
}

/// The last line's number and hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seq: u64,
    pub(super) hash: String,
}

impl Head {
    /// Before the first line.
    pub(super) fn genesis() -> Self {
        Self { seq: 0, hash: "0".repeat(64) }
    }
}

/// Lower-case hexadecimal SHA-256 (FIPS 180-4) of a line, without its line feed.
pub(super) fn hash(line: &[u8]) -> String {
    digest(&SHA256, line).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

struct Chain {
    /// What is on the disk.
    head: Head,
    /// What is being written.
    tip: Head,
}

impl Encoder for Chain {
    type Record = Stamped;

    fn encode(&mut self, record: &Stamped, out: &mut Vec<u8>) {
        let seq = self.tip.seq + 1;
        let line = Written { seq, ts: &record.ts, prev: &self.tip.hash, event: &record.event };
        // Serialising these types into memory cannot fail; if it did, the gap in `seq` would show it.
        let Ok(bytes) = serde_json::to_vec(&line) else { return };
        self.tip = Head { seq, hash: hash(&bytes) };
        out.extend_from_slice(&bytes);
        out.push(b'\n');
    }

    fn committed(&mut self) {
        self.head = self.tip.clone();
    }

    fn rolled_back(&mut self) {
        self.tip = self.head.clone();
    }
}

/// The lines of a fresh log of these events: what the log's thread does, without its file. For measuring it.
#[doc(hidden)]
#[must_use]
pub fn encoded(events: &[Event], ts: &str) -> Vec<u8> {
    let mut chain = Chain { head: Head::genesis(), tip: Head::genesis() };
    let mut out = Vec::new();
    for event in events {
        chain.encode(&Stamped::new(ts.to_owned(), event.clone(), Arc::default()), &mut out);
    }
    out
}

/// The end of an existing log.
struct Tail {
    length: u64,
    torn: u64,
    head: Head,
}

/// The last line is looked for in so many bytes at the end.
const TAIL_BYTES: u64 = 1 << 20;

impl Tail {
    fn read(file: &mut std::fs::File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let start = size.saturating_sub(TAIL_BYTES);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL_BYTES).read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        let torn = (bytes.len() - whole) as u64;
        let lines = bytes.get(..whole.saturating_sub(1)).unwrap_or(&[]);
        if lines.is_empty() {
            if start > 0 {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the last line is too long"));
            }
            return Ok(Self { length: 0, torn, head: Head::genesis() });
        }
        let line = lines.rsplit(|&b| b == b'\n').next().unwrap_or(lines);
        let seq = serde_json::from_slice::<serde_json::Value>(line)
            .ok()
            .and_then(|value| value.get("seq").and_then(serde_json::Value::as_u64))
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the last line is not a record"))?;
        Ok(Self { length: size - torn, torn, head: Head { seq, hash: hash(line) } })
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "tests may, and their files are not private"
)]
mod tests {
    use super::super::{Verdict, verify};
    use super::*;
    use crate::clock::SystemClock;

    fn scratch(name: &str) -> std::path::PathBuf {
        let directory = std::env::temp_dir().join(format!("mcp-audit-{}-{name}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        std::fs::create_dir_all(&directory).unwrap();
        directory
    }

    async fn write(directory: &Path, count: usize) -> u64 {
        let (log, torn) = AuditLog::open(directory, Arc::new(SystemClock)).unwrap();
        for _ in 0..count {
            log.record(Event::ConfigReloaded { servers: 1 }).await.unwrap();
        }
        torn
    }

    #[tokio::test]
    async fn chain_goes_on_over_a_restart_and_a_torn_line() {
        let directory = scratch("chain");
        let path = directory.join(super::super::FILE_NAME);
        write(&directory, 2).await;
        let mut torn = std::fs::read(&path).unwrap();
        torn.extend_from_slice(b"{\"seq\":3,\"ts");
        std::fs::write(&path, torn).unwrap();
        assert_eq!(write(&directory, 2).await, 12);
        let verdict = verify(&path, None).unwrap();
        assert!(matches!(verdict, Verdict::Intact { lines: 4, .. }), "{verdict:?}");
    }

    #[tokio::test]
    async fn every_change_is_found() {
        let directory = scratch("tamper");
        let path = directory.join(super::super::FILE_NAME);
        write(&directory, 4).await;
        let good = std::fs::read_to_string(&path).unwrap();
        let lines: Vec<_> = good.lines().collect();
        let head = hash(lines[3].as_bytes());
        assert!(matches!(verify(&path, Some(&head)).unwrap(), Verdict::Intact { lines: 4, .. }));
        for (name, bad) in [
            ("edited", good.replacen("\"servers\":1", "\"servers\":2", 1)),
            ("deleted", [lines[0], lines[2], lines[3]].join("\n") + "\n"),
            ("swapped", [lines[0], lines[2], lines[1], lines[3]].join("\n") + "\n"),
            ("doubled", [lines[0], lines[1], lines[1], lines[2]].join("\n") + "\n"),
            ("cut off", [lines[0], lines[1]].join("\n") + "\n"),
            ("torn", good[..good.len() - 3].to_owned()),
        ] {
            std::fs::write(&path, bad).unwrap();
            let verdict = verify(&path, Some(&head)).unwrap();
            assert!(!matches!(verdict, Verdict::Intact { .. }), "{name}: {verdict:?}");
        }
    }
}
