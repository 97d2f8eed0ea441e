//! Lines of servers that were dropped: nobody waits for what was in them for ever. An answer whose id can be read ends
//! its request at once. Of one whose id cannot be read only the requests that were open then come into question: they
//! are answered as soon as no more of them are left than answers were lost, and each after [`LOST_TIME`] at the latest
//! without a word of its progress. Ids that the client took back, and questions of our own, are not counted. A request
//! of the server itself is answered with the error.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use mcp_broker_proto::call::CallOutcome;

use super::asked::{Asked, What};
use super::clue::Dropped;
use super::id::Id;
use super::notice::{self, Executed, Notice};
use super::{News, Talk};
use crate::proxy::filter::refusal;
use crate::proxy::message::asker;
use crate::proxy::rule::Drop;

/// How long the answer to a request may still come of which an answer may have been lost.
pub const LOST_TIME: Duration = Duration::from_secs(120);

/// The requests of an instance of which some were answered by what was dropped.
#[derive(Default)]
pub(super) struct Doubts {
    /// Until when each is waited for.
    open: BTreeMap<Id, Instant>,
    /// How many of them were answered so.
    lost: usize,
}

impl Doubts {
    /// A request of that id is new.
    pub(super) fn forget(&mut self, id: &Id) {
        if !self.open.is_empty() {
            self.open.remove(id);
        }
    }
}

impl Talk {
    /// Takes note of a line of an instance that did not pass. Whether the client gets an answer for it.
    pub fn dropped(&mut self, number: u32, line: Dropped<'_>, why: Drop, now: Instant) -> bool {
        if matches!(why, Drop::Empty | Drop::Undelivered | Drop::NotKept) {
            return false;
        }
        if why == Drop::Ambiguous {
            self.answer_asker(number, line.head);
        }
        let mut answered = false;
        for id in line.answers() {
            match id {
                Some(id) => answered |= self.answer_lost(number, &id, why, line.length),
                None => self.doubt(number, !line.long || line.tail.is_some(), now),
            }
        }
        if let Some(seat) = self.seat(number).filter(|seat| line.tail.is_some() && seat.doubts.lost == 0) {
            // What it was is known by now.
            seat.doubts = Doubts::default();
        }
        answered | self.settle_doubts(number, now)
    }

    /// Answers what has waited long enough; to be called when [`Self::next_doubt`] is reached.
    pub fn doubts_due(&mut self, now: Instant) {
        // The client may have taken back what was in question, so the time alone does not tell.
        if self.next_doubt().is_none() {
            return;
        }
        let numbers: Vec<_> = self.seats.iter().map(|seat| seat.number).collect();
        for number in numbers {
            self.settle_doubts(number, now);
        }
    }

    /// When some answer has been waited for long enough.
    #[must_use]
    pub fn next_doubt(&self) -> Option<Instant> {
        self.seats.iter().flat_map(|seat| seat.doubts.open.values()).min().copied()
    }

    /// The requests that an instance has to answer may have been answered; one more of them was, where the line is
    /// over.
    fn doubt(&mut self, number: u32, over: bool, now: Instant) {
        let open = self.of_client.owed_by(number);
        let Some(seat) = self.seat(number) else { return };
        seat.doubts.lost += usize::from(over);
        for id in open {
            seat.doubts.open.entry(id).or_insert(now + LOST_TIME);
        }
    }

    /// An instance tells how far a request has come, by its token: it works on it, and it is waited for anew.
    pub(super) fn is_worked_on(&mut self, number: u32, token: &Id, now: Instant) {
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.number == number) else { return };
        let asked = &self.of_client;
        let named = |id: &Id| asked.get(id).is_some_and(|asked| asked.token.as_ref() == Some(token));
        let of_it = seat.doubts.open.iter_mut().filter(|(id, _)| named(id));
        of_it.for_each(|(_, until)| *until = now + LOST_TIME);
    }

    /// A request of an instance that can be understood in two ways reaches nobody, and its server hears so.
    fn answer_asker(&mut self, number: u32, line: &[u8]) {
        let raw = std::str::from_utf8(line).ok().and_then(asker);
        let inbox = self.seat(number).map(|seat| &mut seat.inbox);
        // One that floods and does not read is not told, as that would only fill the memory.
        if let (Some(raw), Some(inbox)) = (raw, inbox.filter(|inbox| inbox.has_room())) {
            inbox.push(refusal::ambiguous(raw).as_bytes());
        }
    }

    /// Answers those whose answers are known to be lost, or are not waited for any longer.
    pub(super) fn settle_doubts(&mut self, number: u32, now: Instant) -> bool {
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.number == number) else { return false };
        let (doubts, asked) = (&mut seat.doubts, &self.of_client);
        if doubts.open.is_empty() && doubts.lost == 0 {
            return false;
        }
        doubts.open.retain(|id, _| asked.get(id).is_some_and(|asked| asked.instance == Some(number)));
        let all = doubts.open.len() <= doubts.lost;
        let over: Vec<Id> =
            doubts.open.iter().filter(|(_, until)| all || now >= **until).map(|(id, _)| id.clone()).collect();
        // Whatever is given up counts as what was lost: the others are not in question then.
        doubts.lost = doubts.lost.saturating_sub(over.len());
        if all || (doubts.lost == 0 && !over.is_empty()) {
            *doubts = Doubts::default();
        }
        let mut answered = false;
        for id in over {
            // Which of the answers was its own nobody knows, nor how long that was.
            answered |= self.answer_lost(number, &id, Drop::NotMessage, 0);
        }
        answered
    }

    /// Answers a request in place of an instance whose answer did not pass.
    fn answer_lost(&mut self, number: u32, id: &Id, why: Drop, size: u64) -> bool {
        let owed = |asked: &Asked| asked.instance == Some(number) && asked.what != What::Listen;
        if !self.of_client.get(id).is_some_and(owed) {
            return false;
        }
        let Some(asked) = self.of_client.remove(id).filter(|asked| !asked.cancelled) else { return false };
        self.seat(number).into_iter().for_each(|seat| seat.doubts.forget(id));
        let (notice, outcome) = match why {
            Drop::TooLong => (too_long(), CallOutcome::ResultTooLong),
            _ => (unreadable(), CallOutcome::Unknown),
        };
        self.unanswered(id, &asked, &notice, (Executed::Unknown, outcome, size));
        true
    }

    /// Answers a request that no instance will answer any more.
    pub(super) fn unanswered(
        &mut self,
        id: &Id,
        asked: &Asked,
        notice: &Notice,
        (executed, outcome, size): (Executed, CallOutcome, u64),
    ) {
        match asked.what {
            What::Initialize => self.memory.not_opened(id),
            What::Call(_) => self.news.push(News::Ended(id.clone(), outcome, size)),
            _ => {}
        }
        self.to_client.push(notice.answer(asked.question(&id.raw()), executed).as_bytes());
    }
}

fn too_long() -> Notice {
    let hint = "ask for less at once; a message may have 16 MiB";
    let what = "the answer of the server is too long, and was dropped";
    Notice::new(notice::Kind::Restarting, what, hint).because("result_too_long")
}

fn unreadable() -> Notice {
    let hint = "call again; tell the owner of the server if it happens again";
    let what = "the answer of the server cannot be read, and was dropped";
    Notice::new(notice::Kind::Restarting, what, hint).because("unreadable_answer")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests {
    use serde_json::{Value, json};

    use super::super::tests::{CLIENT, Scene};
    use super::*;

    const ANSWER: &str = r#"{"jsonrpc":"2.0","result":{"a":1,"#;

    fn scene(ids: &[u32]) -> Scene {
        let mut scene = Scene::new();
        for id in ids {
            scene.client(&call(*id)).unwrap();
        }
        scene
    }

    fn call(id: u32) -> String {
        format!(r#"{{"id":{id},"method":"tools/call","params":{{"name":"q"}}}}"#)
    }

    fn lose(scene: &mut Scene, line: &str, now: Instant) -> bool {
        let line = Dropped::whole(line.as_bytes());
        scene.0.dropped(0, line, Drop::NotMessage, now)
    }

    fn ids(scene: &mut Scene) -> Vec<Value> {
        scene.json(CLIENT).iter().map(|line| line["id"].clone()).collect()
    }

    #[test]
    fn a_readable_id_ends_its_request() {
        let (mut scene, now) = (scene(&[1, 2]), Instant::now());
        scene.client(r#"{"id":"l","method":"tools/list"}"#).unwrap();
        assert!(lose(&mut scene, r#"{"jsonrpc":"2.0","id":2,"result":"#, now));
        assert!(lose(&mut scene, r#"{"jsonrpc":"2.0","id":"l","result":{},"result":{}}"#, now));
        let answers = scene.json(CLIENT);
        let result = &answers[0]["result"];
        assert_eq!((&answers[0]["id"], &result["isError"]), (&json!(2), &json!(true)));
        assert_eq!(result["_meta"]["mcp-run/executed"], "unknown");
        assert_eq!(result["_meta"]["mcp-run/reason"], "unreadable_answer");
        assert_eq!((&answers[1]["id"], &answers[1]["error"]["code"]), (&json!("l"), &json!(1004)));
        let length = r#"{"jsonrpc":"2.0","id":2,"result":"#.len() as u64;
        let ended = [News::Ended(Id::Number(2), CallOutcome::Unknown, length)];
        assert_eq!(scene.0.news[scene.0.news.len() - 1..], ended);
        assert!(!lose(&mut scene, r#"{"jsonrpc":"2.0","id":2,"result":"#, now), "once");
        assert_eq!(scene.server(0, r#"{"id":2,"result":{}}"#), Err(Drop::Undelivered));
        scene.server(0, r#"{"id":1,"result":{}}"#).unwrap();
        assert_eq!(ids(&mut scene), [1]);
    }

    #[test]
    fn the_only_one_is_it() {
        let (mut scene, now) = (scene(&[1]), Instant::now());
        assert!(!lose(&mut scene, "Listening on stdio {", now));
        assert!(!lose(&mut scene, r#"{"level":"error","error":"x"}"#, now));
        assert!(lose(&mut scene, ANSWER, now));
        assert_eq!(ids(&mut scene), [1]);
        assert_eq!(scene.0.next_doubt(), None);
    }

    #[test]
    fn the_last_that_are_left_are_it() {
        let (mut scene, now) = (scene(&[1, 2, 3, 4]), Instant::now());
        assert!(!lose(&mut scene, ANSWER, now) && !lose(&mut scene, ANSWER, now));
        scene.client(&call(5)).unwrap();
        scene.server(0, r#"{"id":2,"result":{}}"#).unwrap();
        scene.clear();
        scene.client(r#"{"method":"notifications/cancelled","params":{"requestId":3}}"#).unwrap();
        scene.client(&call(3)).unwrap();
        scene.server(0, r#"{"id":5,"result":{}}"#).unwrap();
        assert_eq!(ids(&mut scene), [5, 1, 4], "3 is another one by now");
        scene.server(0, r#"{"id":3,"result":{}}"#).unwrap();
        assert_eq!(ids(&mut scene), [3]);
    }

    #[test]
    fn nobody_waits_for_ever() {
        let (mut scene, now) = (scene(&[1, 2]), Instant::now());
        assert!(!lose(&mut scene, ANSWER, now));
        scene.client(&call(3)).unwrap();
        assert_eq!(scene.0.next_doubt(), Some(now + LOST_TIME));
        scene.0.doubts_due(now + LOST_TIME / 2);
        assert!(ids(&mut scene).is_empty());
        scene.0.doubts_due(now + LOST_TIME);
        assert_eq!(ids(&mut scene), [1, 2]);
        assert_eq!(scene.0.next_doubt(), None);
        scene.server(0, r#"{"id":3,"result":{}}"#).unwrap();
    }

    /// Its server is not left to wait, and the client hears nothing of it.
    #[test]
    fn a_request_that_is_unclear_is_answered() {
        let (mut scene, now) = (scene(&[1]), Instant::now());
        scene.clear();
        for (line, id) in [
            (r#"{"id":5,"method":"roots/list","params":{},"params":{}}"#, Some(json!(5))),
            (r#"{"id":"a","method":"ping","result":{}}"#, Some(json!("a"))),
            (r#"{"id":5,"id":6,"method":"ping"}"#, None),
            (r#"{"method":"notifications/x","method":"y"}"#, None),
        ] {
            let line = Dropped::whole(line.as_bytes());
            assert!(!scene.0.dropped(0, line, Drop::Ambiguous, now));
            let got: Vec<_> = scene.json(0).iter().map(|line| line["id"].clone()).collect();
            assert_eq!(got, Vec::from_iter(id));
            assert!(ids(&mut scene).is_empty());
        }
        let flood = Dropped::whole(br#"{"id":5,"method":"a","method":"b"}"#);
        (0..10_000).for_each(|_| assert!(!scene.0.dropped(0, flood, Drop::Ambiguous, now)));
        assert!(scene.0.waiting_for(0).is_some_and(|inbox| inbox.waiting().len() < 100 << 10));
    }

    #[test]
    fn progress_shows_that_a_request_is_worked_on() {
        let (mut scene, now) = (scene(&[1]), Instant::now());
        scene
            .client(r#"{"id":2,"method":"tools/call","params":{"name":"q","_meta":{"progressToken":"t"}}}"#)
            .unwrap();
        scene.clear();
        assert!(!lose(&mut scene, ANSWER, now));
        let half = now + LOST_TIME / 2;
        scene.0.is_worked_on(0, &Id::of(r#""t""#), half);
        scene.0.is_worked_on(0, &Id::of(r#""of nobody""#), half);
        scene.0.doubts_due(now + LOST_TIME);
        assert_eq!(ids(&mut scene), [1]);
        assert_eq!(scene.0.next_doubt(), None, "what was lost is accounted for");
        scene.server(0, r#"{"id":2,"result":{}}"#).unwrap();
        assert_eq!(ids(&mut scene), [2]);
    }

    #[test]
    fn a_long_line_is_known_by_either_end() {
        let (mut scene, now) = (scene(&[1, 2]), Instant::now());
        let head = br#"{"result":{"content":["#.as_slice();
        let mut long = |tail: Option<&[u8]>| {
            scene.0.dropped(0, Dropped { head, tail, long: true, length: 99 }, Drop::TooLong, now)
        };
        assert!(!long(None));
        assert!(long(Some(br#"]},"jsonrpc":"2.0","id":2}"#)));
        let got = scene.json(CLIENT);
        assert_eq!(
            (&got[0]["id"], &got[0]["result"]["_meta"]["mcp-run/reason"]),
            (&json!(2), &json!("result_too_long"))
        );
        assert!(matches!(scene.0.news.last(), Some(News::Ended(_, CallOutcome::ResultTooLong, 99))));
        assert_eq!(scene.0.next_doubt(), None, "the other one is as it was");
    }
}
