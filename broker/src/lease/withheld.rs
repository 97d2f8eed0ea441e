//! What was ended and cannot be revoked: credentials that nobody is handed any more and that work at their provider
//! until their end. Kept so long, for people only: nothing waits for them, and nothing more is done about them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use mcp_broker_proto::names::LeaseId;

use super::record::{LeaseFacts, Record};

/// So many are kept. Beyond it those that end first are left to the audit log, which has every one.
const MOST: usize = 8192;

/// What a provider says of a credential is cut to so many bytes: it is kept for hours, by the thousand.
const MOST_DETAIL: usize = 256;

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Withheld {
    /// What it was; delivered to nobody.
    pub(super) facts: LeaseFacts,
    /// What its provider said of it for people.
    pub(super) detail: Option<Box<str>>,
    /// Its end on the boot clock; nothing where an earlier broker withheld it, which had another one.
    ends: Option<Duration>,
}

/// The time on both clocks, and so whether an end has passed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// The wall clock, which can be set.
    pub(super) wall: Timestamp,
    /// The boot clock.
    pub(super) boot: Duration,
}

impl Now {
    /// When that is, on the boot clock.
    fn until(self, end: Timestamp) -> Duration {
        self.boot + Duration::try_from(end.duration_since(self.wall)).unwrap_or_default()
    }
}

impl Withheld {
    /// One whose life ends at `until`.
    pub(super) fn new(facts: LeaseFacts, detail: Option<&str>, until: Timestamp, now: Now) -> Self {
        Self { ends: Some(now.until(until)), ..Self::earlier(facts, detail) }
    }

    /// One of an earlier broker.
    pub(super) fn earlier(facts: LeaseFacts, detail: Option<&str>) -> Self {
        let facts = LeaseFacts { delivered: Vec::new(), ..facts };
        Self { facts, detail: detail.map(|text| cut(text).into()), ends: None }
    }

    /// The record that tells of it.
    pub(super) fn record(&self, id: LeaseId, until: Timestamp) -> Record {
        let detail = self.detail.as_deref().map(str::to_owned);
        Record::Withheld { id, until, facts: self.facts.clone(), detail }
    }

    fn has_ended(&self, until: Timestamp, now: Now) -> bool {
        self.ends.map_or_else(|| until <= now.wall, |ends| ends <= now.boot)
    }
}

fn cut(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MOST_DETAIL)).unwrap_or(text)
}

/// All of them, by their end.
#[derive(Default)]
pub(super) struct Shelf(BTreeMap<(Timestamp, LeaseId), Withheld>);

impl Shelf {
    /// Keeps one.
    pub(super) fn put(&mut self, id: LeaseId, until: Timestamp, one: Withheld) {
        self.0.insert((until, id), one);
        if self.0.len() > MOST {
            self.0.pop_first();
        }
    }

    /// Forgets those that have ended.
    pub(super) fn tidy(&mut self, now: Now) {
        self.0.retain(|(until, _), one| !one.has_ended(*until, now));
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// What is to be said of them.
    pub(super) fn tell<T>(&self, say: impl Fn(LeaseId, Timestamp, &Withheld) -> T) -> Vec<T> {
        self.0.iter().map(|((until, id), one)| say(*id, *until, one)).collect()
    }

    /// The records that tell of them.
    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.0.iter().map(|((until, id), one)| one.record(*id, *until))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests may")]
mod tests {
    use mcp_broker_proto::names::{LaunchId, SessionId};
    use mcp_broker_proto::session::Revocability;

    use super::*;

    fn facts() -> LeaseFacts {
        LeaseFacts {
            launch: LaunchId::fresh(),
            session: SessionId::fresh(),
            user: "alice".to_owned(),
            server: "notes".parse().unwrap(),
            scope: "read".parse().unwrap(),
            credential: "aws".parse().unwrap(),
            provider: "aws".parse().unwrap(),
            delivered: vec!["aws endpoint".to_owned()],
            revocability: Revocability::Bounded { seconds: 900 },
        }
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn now(wall: i64, boot: u64) -> Now {
        Now { wall: at(wall), boot: Duration::from_secs(boot) }
    }

    #[test]
    fn each_is_forgotten_at_its_end_by_the_clock_that_nobody_can_set() {
        // What was withheld at 0 and lives for 60 s; the two clocks when it is looked at; whether it is there.
        for (ours, looked, there) in [
            (true, now(59, 159), true),
            (true, now(60, 160), false),
            (true, now(7200, 159), true),
            (true, now(-7200, 160), false),
            // Of an earlier broker, whose boot clock is not known to be this one's.
            (false, now(59, 1), true),
            (false, now(60, 1), false),
        ] {
            let mut shelf = Shelf::default();
            let one = match ours {
                true => Withheld::new(facts(), None, at(60), now(0, 100)),
                false => Withheld::earlier(facts(), None),
            };
            shelf.put(LeaseId::fresh(), at(60), one);
            shelf.tidy(looked);
            assert_eq!(shelf.len() == 1, there, "{ours} {looked:?}");
        }
    }

    #[test]
    fn they_stay_small_and_few() {
        let mut shelf = Shelf::default();
        let long = "ä".repeat(MOST_DETAIL);
        for second in 0..i64::try_from(MOST).unwrap() + 2 {
            let one = Withheld::new(facts(), Some(&long), at(second), now(0, 0));
            let detail = one.detail.as_deref().unwrap();
            assert!(detail.len() <= MOST_DETAIL && one.facts.delivered.is_empty());
            shelf.put(LeaseId::fresh(), at(second), one);
        }
        assert_eq!(shelf.len(), MOST);
        let first = shelf.tell(|_, until, _| until).into_iter().min();
        assert_eq!(first, Some(at(2)), "those that end first are left out");
        // A lease may take 1.5 KiB: this, its key, and what can be long in it.
        assert!(size_of::<Withheld>() + MOST_DETAIL < 768, "{}", size_of::<Withheld>());
    }
}
