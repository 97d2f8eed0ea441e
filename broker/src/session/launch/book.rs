//! The calls of one launch that are under way: those that were allowed and not answered, and those that wait for a
//! person. Bounds them, and counts them where those of the session's other launches are counted. It is told the time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::call::Ask;
use mcp_broker_proto::names::{CallId, Label};
use tokio::time::Instant;

use crate::session::uses::Uses;

/// So many calls of a launch are under way at once: as many as a launcher keeps.
const MAX_OPEN: usize = 16 << 10;

/// So many of them wait for a person.
const MAX_WAITING: usize = 64;

/// So many denials of a launch are written down in a minute: whoever asks on and on would fill the disk, and a full
/// disk keeps everybody from a launch.
const MAX_DENIALS: u32 = 120;

/// What of a denial is written down.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    /// It is.
    Each,
    /// That no further one of this minute is.
    Last,
    /// Nothing.
    No,
}

/// Calls under way, by the launcher's number.
pub(super) struct Book {
    open: HashMap<u64, Call>,
    /// Those of them that wait for a person.
    waiting: Vec<u64>,
    /// Counts, for all launches of the server in the session.
    uses: Arc<Uses>,
    /// When the minute began in which denials are counted, and how many there were in it.
    denials: (Duration, u32),
}

/// A call under way.
pub(super) struct Call {
    /// The decision's id.
    pub(super) id: CallId,
    /// Its scope.
    scope: Label,
    /// What a person is asked about, and until when; nothing where the call was allowed.
    pub(super) asked: Option<Asked>,
}

/// A call that waits for a person.
pub(super) struct Asked {
    /// What it is.
    pub(super) ask: Ask,
    /// No answer until then is a no.
    pub(super) until: Instant,
}

impl Book {
    /// Nothing is under way.
    pub(super) fn of(uses: Arc<Uses>) -> Self {
        let (open, waiting, denials) = (HashMap::new(), Vec::new(), (Duration::ZERO, 0));
        Self { open, waiting, uses, denials }
    }

    /// Whether a call of that number is under way.
    pub(super) fn has(&self, number: u64) -> bool {
        self.open.contains_key(&number)
    }

    /// Whether another one may be under way.
    pub(super) fn has_room(&self) -> bool {
        self.open.len() < MAX_OPEN
    }

    /// Whether another one may wait for a person.
    pub(super) fn has_room_to_wait(&self) -> bool {
        self.waiting.len() < MAX_WAITING
    }

    /// A call is denied: what of that is written down.
    pub(super) fn denies(&mut self, now: Duration) -> Noted {
        if now.saturating_sub(self.denials.0) >= Duration::from_secs(60) {
            self.denials = (now, 0);
        }
        self.denials.1 = self.denials.1.saturating_add(1);
        match self.denials.1 {
            ..=MAX_DENIALS => Noted::Each,
            count if count == MAX_DENIALS + 1 => Noted::Last,
            _ => Noted::No,
        }
    }

    /// A call goes on from now.
    pub(super) fn goes(&mut self, number: u64, id: CallId, scope: Label, now: Duration) {
        self.uses.begin(&scope, now);
        self.open.insert(number, Call { id, scope, asked: None });
    }

    /// A call waits for a person from now.
    pub(super) fn waits(&mut self, id: CallId, asked: Asked, now: Duration) {
        let scope = asked.ask.scope.clone();
        self.uses.begin(&scope, now);
        self.waiting.push(asked.ask.call);
        self.open.insert(asked.ask.call, Call { id, scope, asked: Some(asked) });
    }

    /// A call that waited goes on.
    pub(super) fn goes_on(&mut self, number: u64) -> Option<Asked> {
        let asked = self.open.get_mut(&number)?.asked.take()?;
        self.waiting.retain(|waiting| *waiting != number);
        Some(asked)
    }

    /// A call is over.
    pub(super) fn over(&mut self, number: u64) -> Option<Call> {
        let call = self.open.remove(&number)?;
        if call.asked.is_some() {
            self.waiting.retain(|waiting| *waiting != number);
        }
        self.uses.end(&call.scope);
        Some(call)
    }

    /// All calls are over.
    pub(super) fn all_over(&mut self) -> Vec<Call> {
        let numbers: Vec<_> = self.open.keys().copied().collect();
        numbers.into_iter().filter_map(|number| self.over(number)).collect()
    }

    /// The call that waits for a person.
    pub(super) fn waiting(&self, number: u64) -> Option<(CallId, &Asked)> {
        let call = self.open.get(&number)?;
        Some((call.id, call.asked.as_ref()?))
    }

    /// The number of the call that waits for a person under that id.
    pub(super) fn waiting_as(&self, id: CallId) -> Option<u64> {
        self.waiting
            .iter()
            .copied()
            .find(|number| self.waiting(*number).is_some_and(|(known, _)| known == id))
    }

    /// Numbers of the calls that wait for a person.
    pub(super) fn all_waiting(&self) -> Vec<u64> {
        self.waiting.clone()
    }

    /// The call that has waited for the longest, and until when it does.
    pub(super) fn next_due(&self) -> Option<(u64, Instant)> {
        let until = |number: &u64| Some((*number, self.waiting(*number)?.1.until));
        self.waiting.iter().filter_map(until).min_by_key(|(_, until)| *until)
    }
}

impl Drop for Book {
    /// What is under way when a launch ends in whatever way is not under way any more.
    fn drop(&mut self) {
        drop(self.all_over());
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "what is not there must fail the test")]
mod tests {
    use super::*;
    use crate::policy::Usage;
    use std::collections::BTreeMap;

    fn ask(call: u64) -> Ask {
        Ask {
            revision: 1,
            call,
            scope: scope(),
            tool: "t".to_owned(),
            size: 0,
            sha256: String::new(),
            named: BTreeMap::new(),
            whole: None,
            elicits: false,
        }
    }

    fn scope() -> Label {
        "read".parse().unwrap()
    }

    const AT: Duration = Duration::from_secs(100);

    #[tokio::test]
    async fn a_call_is_over_once() {
        let mut book = Book::of(Arc::default());
        let id = CallId::fresh();
        book.goes(1, id, scope(), AT);
        assert!(book.has(1) && !book.has(2));
        assert_eq!(book.uses.usage(&scope(), AT).at_once, 1);
        assert_eq!(book.over(1).map(|call| (call.id, call.asked.is_some())), Some((id, false)));
        assert!(book.over(1).is_none());
        assert_eq!(book.uses.usage(&scope(), AT), Usage { last_minute: 1, at_once: 0 });
    }

    #[tokio::test]
    async fn a_call_that_waits_is_under_way() {
        let mut book = Book::of(Arc::default());
        let until = Instant::now();
        for number in [5, 3] {
            let later = until + Duration::from_secs(number);
            book.waits(CallId::fresh(), Asked { ask: ask(number), until: later }, AT);
        }
        assert_eq!(book.next_due(), Some((3, until + Duration::from_secs(3))));
        let (id, _) = book.waiting(3).unwrap();
        assert_eq!((book.waiting_as(id), book.waiting_as(CallId::fresh())), (Some(3), None));
        assert_eq!(book.goes_on(3).map(|asked| asked.ask.call), Some(3));
        assert!(book.goes_on(3).is_none() && book.waiting(3).is_none() && book.has(3));
        assert_eq!((book.all_waiting(), book.next_due().map(|due| due.0)), (vec![5], Some(5)));
        assert_eq!(book.uses.usage(&scope(), AT), Usage { last_minute: 2, at_once: 2 });
        assert_eq!(book.all_over().len(), 2);
        assert_eq!((book.next_due(), book.uses.usage(&scope(), AT).at_once), (None, 0));
    }

    #[tokio::test]
    async fn bounds() {
        let mut book = Book::of(Arc::default());
        for number in 0..MAX_WAITING as u64 {
            assert!(book.has_room_to_wait());
            book.waits(CallId::fresh(), Asked { ask: ask(number), until: Instant::now() }, AT);
        }
        assert!(!book.has_room_to_wait() && book.has_room());
        book.over(0);
        assert!(book.has_room_to_wait());
        for number in 1000..1000 + MAX_OPEN as u64 {
            book.goes(number, CallId::fresh(), scope(), AT);
        }
        assert!(!book.has_room());
    }

    #[test]
    fn denials_are_written_down_for_a_while() {
        let mut book = Book::of(Arc::default());
        let at = Duration::from_secs;
        for _ in 0..MAX_DENIALS {
            assert_eq!(book.denies(at(100)), Noted::Each);
        }
        assert_eq!((book.denies(at(120)), book.denies(at(159))), (Noted::Last, Noted::No));
        assert_eq!(book.denies(at(160)), Noted::Each, "another minute");
    }
}
