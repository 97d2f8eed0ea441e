//! The book of everything that is not settled, and the journal behind it. A step is put in line for the disk
//! under the same lock that changes the memory, so both tell one story; whoever must not go on before it is
//! durable waits for the answer.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{Label, LaunchId, LeaseId};

use super::journal::{Damage, Found};
use super::record::{LeaseFacts, Lines, Record, What};
use super::state::{Alive, Ending, State};
use super::withheld::{Now, Shelf, Withheld};
use crate::durable::{Durable, Pending};
use crate::provider::Handle;

/// The journal is rewritten when it holds so many records, and most of them are settled.
const COMPACT_AT: usize = 4096;

/// The book.
pub struct Book {
    inner: Mutex<Inner>,
    journal: Durable<Record>,
}

struct Inner {
    told: Told,
    /// Records in the journal's file.
    written: usize,
}

/// What a journal tells of.
#[derive(Default)]
struct Told {
    /// Everything that is not settled.
    entries: HashMap<LeaseId, Entry>,
    /// What is settled and lives on.
    withheld: Shelf,
}

/// One entry.
#[derive(Debug, Clone)]
pub struct Entry {
    /// What it is.
    pub what: What,
    /// Where it stands.
    pub state: State,
}

impl Book {
    /// Takes over a journal and what it tells of.
    ///
    /// # Errors
    /// When the journal's thread cannot be started.
    pub fn open(found: Found) -> io::Result<Self> {
        let mut told = Told::default();
        let written = found.records.len();
        for record in &found.records {
            told.replay(record);
        }
        let journal = match found.file {
            Some(file) => Durable::start(&found.path, file, found.length, Lines::default())?,
            None => Durable::broken(&found.path),
        };
        if matches!(found.damage, Damage::Middle { .. }) {
            // So that the next start does not meet the same damage; the damaged file was kept.
            drop(journal.replace(told.snapshot()));
        }
        Ok(Self { inner: Mutex::new(Inner { told, written }), journal })
    }

    /// Opens an entry.
    pub fn intend(&self, id: LeaseId, what: What) -> Pending {
        let mut inner = self.lock();
        inner.told.entries.insert(id, Entry { what: what.clone(), state: State::Intended });
        self.write(&mut inner, Record::Intent { id, what })
    }

    /// Takes a step of an entry. A step that cannot follow is a defect: it is logged and nothing changes.
    pub fn step(&self, record: Record) -> Option<Pending> {
        let mut inner = self.lock();
        self.take(&mut inner, record)
    }

    fn take(&self, inner: &mut Inner, record: Record) -> Option<Pending> {
        let id = record.id();
        let entry = inner.told.entries.get_mut(&id)?;
        match entry.state.clone().step(&record) {
            Ok(State::Settled) => {
                inner.told.entries.remove(&id);
            }
            Ok(state) => entry.state = state,
            Err(error) => {
                tracing::error!(lease = %id, %error, "a step was not taken");
                return None;
            }
        }
        Some(self.write(inner, record))
    }

    /// Settles an entry that cannot be revoked and lives until `until`: until then it is shown.
    pub(super) fn withhold(&self, id: LeaseId, until: Timestamp, now: Now) -> Option<Pending> {
        let mut inner = self.lock();
        let Entry { what: What::Lease(facts), state: State::Ending(ending) } = inner.told.entries.get(&id)?
        else {
            // Nothing is known of it that people could be told.
            return self.take(&mut inner, Record::Settled { id });
        };
        let facts =
            LeaseFacts { revocability: ending.revocability.unwrap_or(facts.revocability), ..facts.clone() };
        let one = Withheld::new(facts, ending.detail.as_deref(), until, now);
        let record = one.record(id, until);
        inner.told.withheld.tidy(now);
        inner.told.withheld.put(id, until, one);
        self.take(&mut inner, record)
    }

    /// What is to be said of those that are settled and live on. Said under the lock, so it must not take long.
    pub(super) fn tell_withheld<T>(
        &self,
        now: Now,
        say: impl Fn(LeaseId, Timestamp, &Withheld) -> T,
    ) -> Vec<T> {
        let mut inner = self.lock();
        inner.told.withheld.tidy(now);
        inner.told.withheld.tell(say)
    }

    /// Notes why a revocation failed; in memory only.
    pub fn trouble(&self, id: LeaseId, trouble: String) -> Option<Ending> {
        let mut inner = self.lock();
        let State::Ending(ending) = &mut inner.told.entries.get_mut(&id)?.state else { return None };
        ending.attempts += 1;
        ending.trouble = Some(trouble);
        Some(ending.clone())
    }

    /// Marks an entry to be ended. `false` when it is not there, or being ended already.
    pub fn begin_end(&self, id: LeaseId, reason: EndReason) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.told.entries.get_mut(&id) else { return false };
        if matches!(entry.state, State::Ending(_)) {
            return false;
        }
        let record = Record::Ending { id, reason };
        let Ok(state) = entry.state.clone().step(&record) else { return false };
        entry.state = state;
        // Not waited for: an end goes on with the disk full.
        drop(self.write(&mut inner, record));
        true
    }

    /// The entries of a launch that are not being ended yet.
    #[must_use]
    pub fn of_launch(&self, launch: LaunchId) -> Vec<LeaseId> {
        let mine = |entry: &Entry| matches!(&entry.what, What::Lease(facts) if facts.launch == launch);
        let open = |entry: &Entry| !matches!(entry.state, State::Ending(_));
        self.select(|_, entry| mine(entry) && open(entry))
    }

    /// One entry.
    #[must_use]
    pub fn get(&self, id: LeaseId) -> Option<Entry> {
        self.lock().told.entries.get(&id).cloned()
    }

    /// Those that are not settled and meant. Asked often, and so without a copy of anything.
    pub(super) fn select(&self, meant: impl Fn(LeaseId, &Entry) -> bool) -> Vec<LeaseId> {
        let inner = self.lock();
        let entries = inner.told.entries.iter();
        entries.filter(|(id, entry)| meant(**id, entry)).map(|(id, _)| *id).collect()
    }

    /// What is to be said of those that are not settled. Said under the lock, so it must not take long.
    pub(super) fn tell<T>(&self, say: impl Fn(LeaseId, &Entry) -> Option<T>) -> Vec<T> {
        self.lock().told.entries.iter().filter_map(|(id, entry)| say(*id, entry)).collect()
    }

    /// Everything that is not settled.
    #[must_use]
    pub fn entries(&self) -> Vec<(LeaseId, Entry)> {
        self.lock().told.entries.iter().map(|(id, entry)| (*id, entry.clone())).collect()
    }

    fn write(&self, inner: &mut Inner, record: Record) -> Pending {
        let settled = matches!(record, Record::Settled { .. } | Record::Withheld { .. });
        let pending = self.journal.append(record);
        inner.written += 1;
        let kept = inner.told.entries.len() + inner.told.withheld.len();
        if settled && inner.written >= COMPACT_AT && inner.written >= kept * 8 {
            let records = inner.told.snapshot();
            inner.written = records.len();
            // In line behind the record above; if it fails, the long file is still right.
            drop(self.journal.replace(records));
        }
        pending
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere must not stop revocation.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Takes a record of an old journal. What cannot follow is ignored, except that it keeps its entry: an entry
    /// is only forgotten when it was settled.
    fn replay(&mut self, record: &Record) {
        if let Record::Intent { id, what } = record {
            self.entries.insert(*id, Entry { what: what.clone(), state: State::Intended });
            return;
        }
        if let Record::Prepared { provider, .. } | Record::Live { provider, .. } = record {
            let orphan =
                || Entry { what: What::Orphan { provider: provider.clone() }, state: State::Intended };
            self.entries.entry(record.id()).or_insert_with(orphan);
        }
        if let Some(entry) = self.entries.get_mut(&record.id()) {
            match entry.state.clone().step(record) {
                Ok(State::Settled) => drop(self.entries.remove(&record.id())),
                Ok(state) => entry.state = state,
                Err(error) => tracing::warn!(lease = %record.id(), %error, "the journal tells an odd story"),
            }
        }
        if let Record::Withheld { id, until, facts, detail } = record
            && !self.entries.contains_key(id)
        {
            self.withheld.put(*id, *until, Withheld::earlier(facts.clone(), detail.as_deref()));
        }
    }

    /// The fewest records that tell of these entries.
    fn snapshot(&self) -> Vec<Record> {
        let mut records: Vec<_> = self.withheld.records().collect();
        for (id, entry) in &self.entries {
            let id = *id;
            let provider = entry.what.provider().clone();
            records.push(Record::Intent { id, what: entry.what.clone() });
            match &entry.state {
                State::Intended | State::Settled => {}
                State::Prepared(handle) => {
                    records.push(Record::Prepared { id, provider, handle: handle.clone() })
                }
                State::Live(alive) => records.push(Record::Live { id, provider, alive: alive.clone() }),
                State::Ending(ending) => {
                    if let Some(handle) = &ending.handle {
                        records.push(kept(id, provider, handle.clone(), ending));
                    }
                    records.push(Record::Ending { id, reason: ending.reason });
                }
            }
        }
        records
    }
}

/// What a handle that is being ended was, as far as is known.
fn kept(id: LeaseId, provider: Label, handle: Handle, ending: &Ending) -> Record {
    match ending.revocability {
        None => Record::Prepared { id, provider, handle },
        Some(revocability) => {
            let detail = ending.detail.clone();
            let alive = Alive { detail, ..Alive::new(handle, ending.expires_at, revocability) };
            Record::Live { id, provider, alive }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]
mod tests {
    use super::*;
    use crate::lease::journal;
    use mcp_broker_proto::names::SessionId;
    use mcp_broker_proto::session::Revocability;

    fn parent() -> What {
        What::Parent { session: SessionId::fresh(), provider: "bao".parse().unwrap() }
    }

    #[tokio::test]
    async fn compaction_keeps_what_is_open() {
        let directory = std::env::temp_dir().join(format!("mcp-book-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&directory));
        std::fs::create_dir_all(&directory).unwrap();
        let book = Book::open(journal::open(&directory).unwrap()).unwrap();
        let handle = Handle(serde_json::json!({"accessor": "a"}));
        let alive = Alive {
            detail: Some("its name".to_owned()),
            ..Alive::new(handle, None, Revocability::Immediate)
        };
        let open: Vec<LeaseId> = (0..3).map(|_| LeaseId::fresh()).collect();
        for id in &open {
            book.intend(*id, parent());
            book.step(Record::Live { id: *id, provider: "bao".parse().unwrap(), alive: alive.clone() });
        }
        book.step(Record::Ending { id: open[1], reason: EndReason::Locked });
        let late = LeaseId::fresh();
        book.intend(late, What::Lease(facts()));
        book.step(Record::Live { id: late, provider: "bao".parse().unwrap(), alive: alive.clone() });
        book.begin_end(late, EndReason::Locked);
        let now = Now { wall: Timestamp::UNIX_EPOCH, boot: std::time::Duration::ZERO };
        let until = Timestamp::from_second(60).unwrap();
        book.withhold(late, until, now).unwrap();
        let mut last = None;
        for _ in 0..COMPACT_AT {
            let id = LeaseId::fresh();
            book.intend(id, parent());
            last = book.step(Record::Settled { id });
        }
        last.unwrap().durable().await.unwrap();
        let size = std::fs::metadata(directory.join(journal::FILE_NAME)).unwrap().len();
        assert!(size < 600_000, "{size} bytes");
        let again = Book::open(journal::open(&directory).unwrap()).unwrap();
        let mut before = book.entries().into_iter().map(|(id, e)| (id, e.state)).collect::<Vec<_>>();
        let mut after = again.entries().into_iter().map(|(id, e)| (id, e.state)).collect::<Vec<_>>();
        before.sort_by_key(|(id, _)| *id);
        after.sort_by_key(|(id, _)| *id);
        assert_eq!(before, after);
        assert_eq!(after.len(), 3);
        let say = |id: LeaseId, until: Timestamp, one: &Withheld| {
            assert!(one.facts.delivered.is_empty() && one.facts.revocability == Revocability::Immediate);
            (id, until, one.detail.as_deref().map(str::to_owned))
        };
        let withheld = [(late, until, Some("its name".to_owned()))];
        assert_eq!(book.tell_withheld(now, say), withheld);
        assert_eq!(again.tell_withheld(now, say), withheld);
        let later = Now { wall: until, boot: std::time::Duration::ZERO };
        assert!(again.tell_withheld(later, say).is_empty());
    }

    /// What a journal tells of, and how much of it cannot be read.
    fn told(bytes: &[u8]) -> (Told, Vec<Record>, usize) {
        let (records, _, bad) = journal::replay(bytes);
        let mut told = Told::default();
        records.iter().for_each(|record| told.replay(record));
        (told, records, bad)
    }

    fn facts() -> LeaseFacts {
        LeaseFacts {
            launch: LaunchId::fresh(),
            session: SessionId::fresh(),
            user: "alice".to_owned(),
            server: "notes".parse().unwrap(),
            scope: "read".parse().unwrap(),
            credential: "key".parse().unwrap(),
            provider: "bao".parse().unwrap(),
            delivered: vec!["env".to_owned()],
            revocability: Revocability::Bounded { seconds: 900 },
        }
    }

    /// A session with a lease in every state, one that was settled among them; a line each.
    fn life() -> Vec<(Record, Vec<u8>)> {
        let provider: Label = "bao".parse().unwrap();
        let handle = |name: &str| Handle(serde_json::json!({ "accessor": name }));
        let alive = |name| Alive {
            detail: Some("as it is".to_owned()),
            ..Alive::new(handle(name), Some(jiff::Timestamp::UNIX_EPOCH), Revocability::Immediate)
        };
        let intent = |id, what| Record::Intent { id, what };
        let prepared = |id, name| Record::Prepared { id, provider: provider.clone(), handle: handle(name) };
        let live = |id, name| Record::Live { id, provider: provider.clone(), alive: alive(name) };
        let [top, a, b, c, d, e] = std::array::from_fn(|_| LeaseId::fresh());
        let (until, facts, detail) = (jiff::Timestamp::UNIX_EPOCH, facts(), Some("its name".to_owned()));
        let orphan = || What::Orphan { provider: provider.clone() };
        let records = [
            intent(top, parent()),
            live(top, "top"),
            intent(a, orphan()),
            prepared(a, "a"),
            intent(d, orphan()),
            prepared(d, "d"),
            live(a, "a"),
            Record::Ending { id: d, reason: EndReason::Idle },
            intent(b, orphan()),
            prepared(b, "b"),
            Record::Settled { id: d },
            live(c, "c"),
            Record::Ending { id: c, reason: EndReason::Replaced },
            intent(e, What::Lease(facts.clone())),
            live(e, "e"),
            Record::Ending { id: e, reason: EndReason::Locked },
            Record::Withheld { id: e, until, facts, detail },
        ];
        let line = |record: &Record| {
            let mut line = Vec::new();
            journal::encode(record, &mut line);
            line
        };
        records.into_iter().map(|record| (record.clone(), line(&record))).collect()
    }

    /// Every handle that can be read, and whose end cannot, is there to be ended; what is said to live on is there to
    /// be told.
    fn assert_all_is_owed(told: &Told, records: &[Record], at: &str) {
        let shelf = told.withheld.tell(|id, _, _| id);
        for record in records.iter().filter(|r| matches!(r, Record::Withheld { .. })) {
            // One whose end cannot be read is ended again, and told then.
            let id = record.id();
            assert!(shelf.contains(&id) != told.entries.contains_key(&id), "{at}: {id} lives on untold");
        }
        let is_settled = |id| {
            let settles = |r: &Record| matches!(r, Record::Settled { .. });
            shelf.contains(&id) || records.iter().any(|r| settles(r) && r.id() == id)
        };
        let entries = &told.entries;
        for record in records {
            let (Record::Prepared { id, handle, .. } | Record::Live { id, alive: Alive { handle, .. }, .. }) =
                record
            else {
                continue;
            };
            let known = entries.get(id).and_then(|entry| match &entry.state {
                State::Prepared(handle) | State::Live(Alive { handle, .. }) => Some(handle),
                State::Ending(ending) => ending.handle.as_ref(),
                State::Intended | State::Settled => None,
            });
            assert!(is_settled(*id) || known == Some(handle), "{at}: the handle of {id} is forgotten");
        }
    }

    #[test]
    fn a_journal_that_is_cut_anywhere_tells_of_all_before_the_cut() {
        let lines = life();
        let bytes: Vec<u8> = lines.iter().flat_map(|(_, line)| line.clone()).collect();
        for cut in 0..=bytes.len() {
            let mut end = 0;
            let whole = lines.iter().take_while(|(_, line)| {
                end += line.len();
                end <= cut
            });
            let whole: Vec<Record> = whole.map(|(record, _)| record.clone()).collect();
            let (entries, records, bad) = told(&bytes[..cut]);
            assert_eq!((&records, bad), (&whole, 0), "cut at {cut}");
            assert_all_is_owed(&entries, &whole, &format!("cut at {cut}"));
        }
    }

    #[test]
    fn a_flipped_bit_anywhere_is_seen_and_costs_only_its_own_line() {
        let lines = life();
        let mut bytes: Vec<u8> = lines.iter().flat_map(|(_, line)| line.clone()).collect();
        let mut touched = Vec::new();
        for (number, (_, line)) in lines.iter().enumerate() {
            touched.extend((0..line.len()).map(|at| (number, at + 1 == line.len())));
        }
        for at in 0..bytes.len() {
            let (number, is_feed) = touched[at];
            // Without its line feed a line takes the next one with it; the last one has none behind it.
            let last = number + 1 == lines.len();
            let lost = |line: usize| match is_feed {
                false => line == number,
                true => !last && (line == number || line == number + 1),
            };
            let intact = lines.iter().enumerate().filter(|(line, _)| !lost(*line));
            let intact: Vec<Record> = intact.map(|(_, (record, _))| record.clone()).collect();
            for bit in 0..8 {
                bytes[at] ^= 1 << bit;
                let (entries, records, bad) = told(&bytes);
                let place = format!("byte {at}, bit {bit}");
                assert!(bad > 0, "{place}: not seen");
                assert_eq!(records, intact, "{place}");
                assert_all_is_owed(&entries, &intact, &place);
                bytes[at] ^= 1 << bit;
            }
        }
    }
}
