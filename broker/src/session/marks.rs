//! Locks that nobody is bound to: of login sessions in which nothing was launched yet, of sessions that ended while
//! they were locked, and in a small file also of those that are locked now, as a broker that dies must not unlock
//! anything. The next session of the same place begins with its lock. Written behind the lock itself, which never
//! waits for a disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use mcp_broker_proto::session::LockCause;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::lock::{Lock, Notice};
use super::login::Sighting;
use crate::durable::open_append;

/// Name of the file in the state directory.
pub const FILE_NAME: &str = "locks.json";

/// No file of marks is longer, in bytes.
const MAX_FILE: u64 = 1 << 20;

/// So many locks are remembered; beyond them nobody is trusted.
const MAX_LOCKS: usize = 2048;

/// Locks by place: see [`super::holder::place`].
pub struct Marks {
    locks: HashMap<String, Lock>,
    /// Nobody knows any more what was locked: everything begins locked.
    distrust: bool,
    file: Option<watch::Sender<Vec<u8>>>,
    boot: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    cause: LockCause,
    screen: bool,
    hint: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    boot: String,
    locked: HashMap<String, Mark>,
}

impl Marks {
    /// None, and kept nowhere.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { locks: HashMap::new(), distrust: false, file: None, boot: String::new() }
    }

    /// Reads what an earlier broker of the same boot kept in the directory, and keeps it up to date from now on.
    /// What cannot be read locks everything, and `true` beside it says so.
    #[must_use]
    pub fn open(dir: &Path, boot: &str, at: Duration) -> (Self, bool) {
        let path = dir.join(FILE_NAME);
        let kept = read(&path);
        let distrust = kept.is_err();
        let mut locks = HashMap::new();
        if let Ok(Some(kept)) = kept
            && kept.boot == boot
        {
            let lock = |mark: Mark| Lock::shut(mark.cause, mark.screen, at).hinted(mark.hint);
            locks.extend(kept.locked.into_iter().map(|(place, mark)| (place, lock(mark))));
        }
        let (file, changes) = watch::channel(Vec::new());
        tokio::spawn(write_behind(path, changes));
        (Self { locks, distrust, file: Some(file), boot: boot.to_owned() }, distrust)
    }

    /// The lock that a session begins with, where its place was left locked.
    pub(super) fn lock_of(&self, place: &str, at: Duration) -> Option<Lock> {
        let distrusted = || self.distrust.then(|| Lock::shut(LockCause::Command, false, at));
        self.locks.get(place).cloned().or_else(distrusted)
    }

    /// Notes how a session's lock stands.
    pub(super) fn note(&mut self, place: String, lock: &Lock) {
        let before = self.locks.get(&place).map(mark);
        match lock.cause() {
            // Nothing was seen yet that would have to be remembered.
            Some(LockCause::Found) => {}
            Some(_) => drop(self.locks.insert(place.clone(), lock.clone())),
            None => drop(self.locks.remove(&place)),
        }
        if before != self.locks.get(&place).map(mark) {
            self.keep();
        }
    }

    /// Something was seen of a login session that no session is bound to: it may be locked before anything of it
    /// is launched, and unlocked after its session ended.
    pub(super) fn see(&mut self, place: &str, sighting: Sighting, at: Duration) {
        match sighting {
            Sighting::Closed => self.forget(place),
            Sighting::Lock if !self.locks.contains_key(place) => {
                let mut lock = Lock::open();
                lock.take(Notice::Seen(sighting), at);
                self.distrust |= self.locks.len() >= MAX_LOCKS;
                self.note(place.to_owned(), &lock);
            }
            // Whether it is the active one is looked at when something of it is launched.
            Sighting::Active(_) => {}
            Sighting::Lock | Sighting::Unlock | Sighting::Hint(_) => {
                let Some(mut lock) = self.locks.get(place).cloned() else { return };
                lock.take(Notice::Seen(sighting), at);
                self.note(place.to_owned(), &lock);
            }
        }
    }

    /// Forgets a place whose login session is over.
    pub(super) fn forget(&mut self, place: &str) {
        if self.locks.remove(place).is_some() {
            self.keep();
        }
    }

    fn keep(&mut self) {
        let Some(file) = &self.file else { return };
        // Arbitrary ones would be left out: what is not in the file is not locked after a restart.
        self.distrust |= self.locks.len() > MAX_LOCKS;
        let kept = |(place, lock): (&String, &Lock)| {
            let (cause, screen, hint) = mark(lock);
            (place.clone(), Mark { cause: cause.unwrap_or(LockCause::Found), screen, hint })
        };
        let kept = Kept { boot: self.boot.clone(), locked: self.locks.iter().map(kept).collect() };
        match serde_json::to_vec(&kept) {
            Ok(bytes) => drop(file.send_replace(bytes)),
            Err(error) => tracing::error!(%error, "what is locked cannot be written down"),
        }
    }
}

/// What of a lock is kept.
fn mark(lock: &Lock) -> (Option<LockCause>, bool, bool) {
    (lock.cause(), lock.waits_for_screen(), lock.is_hinted())
}

fn read(path: &Path) -> io::Result<Option<Kept>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    // One that is longer is cut, and so not understood.
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
        let dir = dir();
        let (mut marks, distrust) = Marks::open(&dir, "boot", AT);
        assert!(!distrust && marks.lock_of("/3", AT).is_none());
        marks.note("/3".into(), &Lock::shut(LockCause::ScreenLock, true, AT));
        marks.note("uid 0".into(), &Lock::open());
        written(&dir, "screen_lock").await;

        let (mut again, _) = Marks::open(&dir, "boot", AT);
        let lock = again.lock_of("/3", AT).unwrap();
        assert_eq!((lock.cause(), lock.waits_for_screen()), (Some(LockCause::ScreenLock), true));
        assert!(again.lock_of("uid 0", AT).is_none());
        assert!(Marks::open(&dir, "another boot", AT).0.lock_of("/3", AT).is_none());

        // Its unlocking is seen although no session is bound to it.
        again.see("/3", Sighting::Unlock, AT + Duration::from_secs(2));
        written(&dir, "\"locked\":{}").await;
        assert!(Marks::open(&dir, "boot", AT).0.lock_of("/3", AT).is_none());
    }

    #[tokio::test]
    async fn what_cannot_be_read_locks_everything() {
        let dir = dir();
        write(&dir.join(FILE_NAME), b"{\"boot\":").unwrap();
        let (marks, distrust) = Marks::open(&dir, "boot", AT);
        assert!(distrust && marks.lock_of("/3", AT).is_some());
    }

    #[test]
    fn a_lock_is_remembered_until_its_end_was_seen() {
        let mut marks = Marks::nowhere();
        let mut at = AT;
        let mut see = |sighting| {
            at += Duration::from_secs(2);
            marks.see("/3", sighting, at);
            marks.lock_of("/3", at).and_then(|lock| lock.cause())
        };
        let locked = Some(LockCause::ScreenLock);
        assert_eq!(see(Sighting::Unlock), None);
        assert_eq!(see(Sighting::Active(false)), None);
        assert_eq!(see(Sighting::Lock), locked);
        assert_eq!(see(Sighting::Active(true)), locked);
        assert_eq!(see(Sighting::Hint(true)), locked);
        assert_eq!(see(Sighting::Unlock), locked, "the locker still shows itself");
        assert_eq!(see(Sighting::Hint(false)), None);
        assert_eq!(see(Sighting::Lock), locked);
        assert_eq!(see(Sighting::Closed), None);
    }

    #[test]
    fn beyond_what_is_remembered_nobody_is_trusted() {
        let mut marks = Marks::nowhere();
        for number in 0..MAX_LOCKS {
            marks.see(&format!("/{number}"), Sighting::Lock, AT);
        }
        assert!(marks.lock_of("/x", AT).is_none());
        marks.see("/one more", Sighting::Lock, AT);
        assert!(marks.lock_of("/x", AT).is_some());
    }
}
