//! An append-only file whose records are on the disk before anybody acts on them. One thread owns the
//! file and syncs whole groups at once; a write that fails is cut off again, so that no torn record
//! ever stands in the middle. Knows nothing of what the records mean.

use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use mcp_broker_proto::problem::{ErrorCode, Problem};
use tokio::sync::oneshot;

use crate::fault;

/// Turns records into bytes, in the order in which they are written.
pub trait Encoder: Send + 'static {
    /// What a record is.
    type Record: Send + 'static;

    /// Appends the bytes of `record` to `out`.
    fn encode(&mut self, record: &Self::Record, out: &mut Vec<u8>);

    /// The group is on the disk.
    fn committed(&mut self) {}

    /// The group was cut off again: forget what `encode` remembered since the last commit.
    fn rolled_back(&mut self) {}
}

/// Why a record is not on the disk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DurableError {
    /// The write failed and was undone; a later one may succeed.
    #[error("cannot write `{}`: {reason}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's word for it.
        reason: String,
    },
    /// What is on the disk is not known any more (fsync(2) says not to try again): nothing more is written.
    #[error("`{}` is not written to any more since a sync failed", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// The name leads to another file, or to none: whoever reads it would not see what is written.
    #[error("`{}` was moved away or removed", path.display())]
    Moved {
        /// The file.
        path: PathBuf,
    },
    /// Something else wrote to the file: what stands in it is not known any more.
    #[error("`{}` was changed by something else", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// The disk did not answer in time.
    #[error("`{}` was not written in time", path.display())]
    Slow {
        /// The file.
        path: PathBuf,
    },
}

impl DurableError {
    /// The rendering for the person.
    #[must_use]
    pub fn to_problem(&self) -> Problem {
        let hint = match self {
            Self::Write { .. } => "free disk space; nothing is launched until the broker can write",
            Self::Broken { .. } => "mend the disk, then restart the broker; nothing is launched until then",
            Self::Moved { .. } => {
                "put it back, or restart the broker to begin a new one; nothing is launched until then"
            }
            Self::Changed { .. } => {
                "restart the broker: it ends whatever the file tells of; nothing is launched until then"
            }
            Self::Slow { .. } => {
                "see what keeps the disk busy; nothing is launched until the broker can write"
            }
        };
        Problem::new(ErrorCode::StorageUnavailable, self.to_string(), hint)
    }
}

/// How long a record may take to the disk.
const WRITE_LIMIT: Duration = Duration::from_secs(5);

/// A group is closed when it is so large.
const GROUP_BYTES: usize = 1 << 20;

/// The handle to the file's thread; clones share it.
pub struct Durable<R> {
    path: PathBuf,
    sender: mpsc::Sender<Order<R>>,
}

impl<R> Clone for Durable<R> {
    fn clone(&self) -> Self {
        Self { path: self.path.clone(), sender: self.sender.clone() }
    }
}

enum Order<R> {
    Append(R, Reply),
    Replace(Vec<R>, Reply),
}

type Reply = oneshot::Sender<Result<(), DurableError>>;

/// A record on its way to the disk.
pub struct Pending {
    path: PathBuf,
    reply: oneshot::Receiver<Result<(), DurableError>>,
}

impl Pending {
    /// Waits until the record is on the disk.
    ///
    /// # Errors
    /// When it is not, or not in time.
    pub async fn durable(self) -> Result<(), DurableError> {
        match tokio::time::timeout(WRITE_LIMIT, self.reply).await {
            Ok(Ok(result)) => result,
            Ok(Err(_thread_gone)) => Err(DurableError::Broken { path: self.path }),
            Err(_elapsed) => Err(DurableError::Slow { path: self.path }),
        }
    }
}

impl<R: Send + 'static> Durable<R> {
    /// Takes over `file`, whose content is `length` good bytes, and starts its thread.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start<E: Encoder<Record = R>>(
        path: &Path,
        file: File,
        length: u64,
        encoder: E,
    ) -> io::Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let name = path.file_name().map_or("durable".into(), |name| name.to_string_lossy().into_owned());
        let mut writer = Writer { path: path.to_owned(), file, length, encoder, broken: false };
        std::thread::Builder::new().name(name).spawn(move || writer.run(&receiver))?;
        Ok(Self { path: path.to_owned(), sender })
    }

    /// A file that cannot be written to from the start: every record is refused.
    #[must_use]
    pub fn broken(path: &Path) -> Self {
        let (sender, _nobody) = mpsc::channel();
        Self { path: path.to_owned(), sender }
    }

    /// Puts a record in line. It is written even when nobody waits for it.
    pub fn append(&self, record: R) -> Pending {
        self.order(|reply| Order::Append(record, reply))
    }

    /// Replaces the whole content, atomically; records in line before it are written first.
    pub fn replace(&self, records: Vec<R>) -> Pending {
        self.order(|reply| Order::Replace(records, reply))
    }

    fn order(&self, make: impl FnOnce(Reply) -> Order<R>) -> Pending {
        let (reply, receiver) = oneshot::channel();
        // A thread that is gone drops the reply, and the wait answers `Broken`.
        drop(self.sender.send(make(reply)));
        Pending { path: self.path.clone(), reply: receiver }
    }
}

struct Writer<E> {
    path: PathBuf,
    file: File,
    /// Bytes that are known to be good.
    length: u64,
    encoder: E,
    broken: bool,
}

impl<E: Encoder> Writer<E> {
    fn run(&mut self, orders: &mpsc::Receiver<Order<E::Record>>) {
        while let Ok(first) = orders.recv() {
            let mut bytes = Vec::new();
            let mut replies = Vec::new();
            let mut next = Some(first);
            while let Some(order) = next.take() {
                match order {
                    Order::Append(record, reply) => {
                        self.encoder.encode(&record, &mut bytes);
                        replies.push(reply);
                        if bytes.len() < GROUP_BYTES {
                            next = orders.try_recv().ok();
                        }
                    }
                    Order::Replace(records, reply) => {
                        self.finish(&std::mem::take(&mut bytes), std::mem::take(&mut replies));
                        let result = self.rewrite(&records);
                        drop(reply.send(result));
                    }
                }
            }
            self.finish(&bytes, replies);
        }
    }

    fn finish(&mut self, bytes: &[u8], replies: Vec<Reply>) {
        if replies.is_empty() {
            return;
        }
        let result = self.commit(bytes);
        match &result {
            Ok(()) => self.encoder.committed(),
            Err(_) => self.encoder.rolled_back(),
        }
        for reply in replies {
            // Nobody may be waiting; that is not an error.
            drop(reply.send(result.clone()));
        }
    }

    fn commit(&mut self, bytes: &[u8]) -> Result<(), DurableError> {
        if self.broken {
            return Err(DurableError::Broken { path: self.path.clone() });
        }
        self.require_as_left()?;
        if let Err(error) = fault::io("durable.write").and_then(|()| self.file.write_all(bytes)) {
            self.cut_back();
            return Err(self.failed(&error));
        }
        if let Err(error) = fault::io("durable.sync").and_then(|()| self.file.sync_data()) {
            self.broken = true;
            return Err(self.failed(&error));
        }
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// An older copy of the file may have been put in its place, or into it.
    fn require_as_left(&self) -> Result<(), DurableError> {
        let path = || self.path.clone();
        let (Ok(named), Ok(open)) = (std::fs::symlink_metadata(&self.path), self.file.metadata()) else {
            return Err(DurableError::Moved { path: path() });
        };
        if (named.dev(), named.ino()) != (open.dev(), open.ino()) {
            return Err(DurableError::Moved { path: path() });
        }
        if open.len() != self.length {
            return Err(DurableError::Changed { path: path() });
        }
        Ok(())
    }

    /// Removes what a failed write left, so that the next record starts on a clean end.
    fn cut_back(&mut self) {
        let cut = self.file.set_len(self.length).and_then(|()| self.file.seek(SeekFrom::Start(self.length)));
        self.broken = cut.is_err();
    }

    fn rewrite(&mut self, records: &[E::Record]) -> Result<(), DurableError> {
        let mut bytes = Vec::new();
        for record in records {
            self.encoder.encode(record, &mut bytes);
        }
        match replace_file(&self.path, &bytes) {
            Ok(Replaced { file, synced }) => {
                // The old file has no name any more, so this one it is, whatever the directory's sync said.
                self.file = file;
                self.length = bytes.len() as u64;
                self.broken = synced.is_err();
                self.encoder.committed();
                synced.map_err(|error| self.failed(&error))
            }
            Err(error) => {
                self.encoder.rolled_back();
                Err(self.failed(&error))
            }
        }
    }

    fn failed(&self, error: &io::Error) -> DurableError {
        DurableError::Write { path: self.path.clone(), reason: error.kind().to_string() }
    }
}

/// Opens `path` for appending, mode 0600; never follows a symbolic link.
///
/// # Errors
/// Whatever open(2) answers.
pub fn open_append(path: &Path) -> io::Result<File> {
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(nofollow);
    options.open(path)
}

/// A file that took another's place.
struct Replaced {
    /// It, ready to append.
    file: File,
    /// Whether the directory's new entry is on the disk.
    synced: io::Result<()>,
}

/// Writes `bytes` beside `path`, syncs, and moves it there. An error means that the old file is untouched.
fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<Replaced> {
    let temporary = path.with_extension("new");
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _removed_or_absent => {}
    }
    // Before the rename: without a descriptor left it could not be opened after it.
    let directory = File::open(path.parent().unwrap_or_else(|| Path::new("/")))?;
    let mut file = open_append(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fault::at("durable.replace-written");
    std::fs::rename(&temporary, path)?;
    fault::at("durable.replace-renamed");
    Ok(Replaced { file, synced: directory.sync_all() })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    struct Lines;
    impl Encoder for Lines {
        type Record = String;
        fn encode(&mut self, record: &String, out: &mut Vec<u8>) {
            out.extend_from_slice(record.as_bytes());
            out.push(b'\n');
        }
    }

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("mcp-durable-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        directory.join("log")
    }

    #[tokio::test]
    async fn appends_and_replaces_in_order() {
        let path = scratch("order");
        let log = Durable::start(&path, open_append(&path).unwrap(), 0, Lines).unwrap();
        let first = log.append("a".into());
        let second = log.append("b".into());
        first.durable().await.unwrap();
        second.durable().await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nb\n");
        let replaced = log.replace(vec!["c".into()]);
        let after = log.append("d".into());
        replaced.durable().await.unwrap();
        after.durable().await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "c\nd\n");
    }

    #[tokio::test]
    async fn a_file_that_was_moved_away_is_not_written_to() {
        let path = scratch("moved");
        drop(std::fs::remove_file(&path));
        let log = Durable::start(&path, open_append(&path).unwrap(), 0, Lines).unwrap();
        log.append("a".into()).durable().await.unwrap();
        std::fs::rename(&path, path.with_extension("1")).unwrap();
        assert!(matches!(log.append("b".into()).durable().await, Err(DurableError::Moved { .. })));
        std::fs::rename(path.with_extension("1"), &path).unwrap();
        log.append("c".into()).durable().await.unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a\nc\n");
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_and_not_a_hang() {
        let file = File::options().write(true).open("/dev/full").unwrap();
        let log = Durable::start(Path::new("/dev/full"), file, 0, Lines).unwrap();
        assert!(matches!(log.append("a".into()).durable().await, Err(DurableError::Write { .. })));
    }

    #[tokio::test]
    async fn a_file_that_something_else_wrote_to_is_left_alone() {
        let path = scratch("changed");
        drop(std::fs::remove_file(&path));
        let log = Durable::start(&path, open_append(&path).unwrap(), 0, Lines).unwrap();
        log.append("a".into()).durable().await.unwrap();
        for content in ["", "older", "much longer than it was"] {
            let mut other = File::options().write(true).truncate(true).open(&path).unwrap();
            other.write_all(content.as_bytes()).unwrap();
            assert!(matches!(log.append("b".into()).durable().await, Err(DurableError::Changed { .. })));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
        }
    }

    /// fsync(2): after an error, what is on the disk is not known, and a later success says nothing about it. A
    /// FIFO takes what is written and cannot be synced.
    #[tokio::test]
    async fn after_a_sync_that_failed_nothing_is_written_any_more() {
        let path = scratch("sync");
        drop(std::fs::remove_file(&path));
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let mut reader = open_append(&path).unwrap();
        let log = Durable::start(&path, open_append(&path).unwrap(), 0, Lines).unwrap();
        assert!(matches!(log.append("a".into()).durable().await, Err(DurableError::Write { .. })));
        for _ in 0..3 {
            assert!(matches!(log.append("b".into()).durable().await, Err(DurableError::Broken { .. })));
        }
        let mut got = [0; 16];
        let length = std::io::Read::read(&mut reader, &mut got).unwrap();
        assert_eq!(got.get(..length), Some(&b"a\n"[..]));
    }

    #[test]
    fn symbolic_links_are_refused() {
        let path = scratch("link");
        drop(std::fs::remove_file(&path));
        std::os::unix::fs::symlink("/dev/null", &path).unwrap();
        assert!(open_append(&path).is_err());
    }
}
