//! What is locked, kept in a small file: a broker that dies must not unlock anything, so the next one of the same
//! boot begins those sessions locked. Written behind the lock itself, which never waits for a disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcp_broker_proto::session::LockCause;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::holder::Key;
use super::lock::Lock;
use crate::durable::open_append;

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "locks.json";

/// No file of marks is longer, in bytes: some thousand locked sessions.
const MAX_FILE: u64 = 1 << 20;

/// Locks by session.
pub struct Marks {
    marks: HashMap<Key, Mark>,
    /// The file could not be read, so that nobody knows what was locked: everything begins locked.
    distrust: bool,
    file: Option<watch::Sender<Vec<u8>>>,
    boot: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    cause: LockCause,
    screen: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    boot: String,
    locked: Vec<(Key, Mark)>,
}

impl Marks {
    /// None, and kept nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { marks: HashMap::new(), distrust: false, file: None, boot: String::new() }
    }

    /// Reads what an earlier broker of the same boot kept in the directory, and keeps it up to date from now on.
    ///
    /// # Errors
    /// None: what cannot be read locks everything, and `true` beside it says so.
    #[must_use]
    pub fn open(dir: &Path, boot: &str) -> (Self, bool) {
        let path = dir.join(FILE_NAME);
        let kept = read(&path);
        let distrust = kept.is_err();
        let mut marks = HashMap::new();
        if let Ok(Some(kept)) = kept
            && kept.boot == boot
        {
            marks.extend(kept.locked);
        }
        let (file, changes) = watch::channel(Vec::new());
        tokio::spawn(write_behind(path, changes));
        (Self { marks, distrust, file: Some(file), boot: boot.to_owned() }, distrust)
    }

    /// The lock that a session begins with, where it was left locked.
    pub(super) fn lock_of(&self, key: &Key, at: Duration) -> Option<Lock> {
        if let Some(mark) = self.marks.get(key) {
            return Some(Lock::shut(mark.cause, mark.screen, at));
        }
        self.distrust.then(|| Lock::shut(LockCause::Command, false, at))
    }

    /// Notes how a session's lock stands.
    pub(super) fn note(&mut self, key: Key, lock: &Lock) {
        let changed = match lock.cause() {
            // Nothing was seen yet that would have to be remembered.
            Some(LockCause::Found) => false,
            Some(cause) => {
                let mark = Mark { cause, screen: lock.waits_for_screen() };
                self.marks.insert(key, mark) != Some(mark)
            }
            None => self.marks.remove(&key).is_some(),
        };
        if changed {
            self.keep();
        }
    }

    /// Forgets a session whose login is over: nothing can match it any more.
    pub(super) fn forget(&mut self, key: &Key) {
        if self.marks.remove(key).is_some() {
            self.keep();
        }
    }

    fn keep(&self) {
        let Some(file) = &self.file else { return };
        let locked = self.marks.iter().map(|(key, mark)| (key.clone(), *mark)).collect();
        match serde_json::to_vec(&Kept { boot: self.boot.clone(), locked }) {
            Ok(bytes) => drop(file.send_replace(bytes)),
            Err(error) => tracing::error!(%error, "what is locked cannot be written down"),
        }
    }
}

fn read(path: &Path) -> io::Result<Option<Kept>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    serde_json::from_slice(&bytes).map(Some).map_err(io::Error::from)
}

async fn write_behind(path: PathBuf, mut changes: watch::Receiver<Vec<u8>>) {
    while changes.changed().await.is_ok() {
        let (path, bytes) = (path.clone(), changes.borrow_and_update().clone());
        let written = tokio::task::spawn_blocking(move || write(&path, &bytes)).await;
        if let Ok(Err(error)) = written {
            tracing::error!(%error, "what is locked cannot be written down: a restart would forget it");
        }
    }
}

/// All or nothing: a new file takes the place of the old one once it is on the disk.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = open_append(&fresh)?;
    file.set_len(0)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use super::*;

    const AT: Duration = Duration::from_secs(5);

    fn dir() -> PathBuf {
        let dir = std::env::temp_dir().join(format!("marks-{}", uuid::Uuid::now_v7()));
        std::fs::create_dir(&dir).unwrap();
        dir
    }

    async fn written(dir: &Path, what: &str) {
        let read = || std::fs::read_to_string(dir.join(FILE_NAME)).unwrap_or_default();
        while !read().contains(what) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn a_lock_outlives_its_broker_but_not_the_boot() {
        let (dir, key, other) = (dir(), Key::of(1000, None), Key::of(1001, None));
        let (mut marks, distrust) = Marks::open(&dir, "boot");
        assert!(!distrust && marks.lock_of(&key, AT).is_none());
        marks.note(key.clone(), &Lock::shut(LockCause::ScreenLock, true, AT));
        marks.note(other.clone(), &Lock::open());
        written(&dir, "screen_lock").await;

        let (mut again, _) = Marks::open(&dir, "boot");
        let lock = again.lock_of(&key, AT).unwrap();
        assert_eq!((lock.cause(), lock.waits_for_screen()), (Some(LockCause::ScreenLock), true));
        assert!(again.lock_of(&other, AT).is_none());
        assert!(Marks::open(&dir, "another boot").0.lock_of(&key, AT).is_none());

        again.note(key.clone(), &Lock::open());
        written(&dir, "[]").await;
        assert!(Marks::open(&dir, "boot").0.lock_of(&key, AT).is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_read_locks_everything() {
        let dir = dir();
        write(&dir.join(FILE_NAME), b"{\"boot\":").unwrap();
        let (marks, distrust) = Marks::open(&dir, "boot");
        assert!(distrust && marks.lock_of(&Key::of(1000, None), AT).is_some());
    }
}
