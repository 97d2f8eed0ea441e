//! Moves the lines: from the client to the instances, from them to the client, and all diagnostics to standard
//! error. What a line means is decided by the conversation.

use std::borrow::Cow;
use std::time::Instant;

use super::wait::{MAX_BACKENDS, Ready};
use super::{DRAIN, IDLE, Relay};
use crate::proxy::redact::Masked;
use crate::proxy::rule::{self, Drop, MAX_DIAGNOSTIC};
use crate::proxy::sink::Wrote;
use crate::proxy::source::{Read, Source};
use crate::proxy::talk::Heard;
use crate::proxy::talk::clue::Dropped;
use crate::proxy::talk::servers::Ears;

/// What an instance did that concerns the launch.
enum News {
    Agreed(u32),
    Differs(u32),
}

impl Relay {
    /// The streams and the trees of every instance.
    pub(super) fn move_instances(&mut self, ready: &Ready, now: Instant) {
        for (index, &[tree, input, output, error, desk]) in ready.instances.iter().enumerate() {
            let Some(backend) = self.backends.get_mut(index) else { break };
            backend.serve(!desk.is_empty(), now);
            if let Some(inbox) = self.talk.inbox(backend.number) {
                let wrote = backend.stdin.ready(input, inbox);
                backend.wrote(wrote, now);
            }
            let room = self.words.has_room();
            let (words, redactor, across) = (&mut self.words, &self.redactor, &mut backend.across);
            let mut found = 0;
            backend.stderr.ready(error, room, |line| {
                if let Some(masked) = redactor.diagnostic(across, line, MAX_DIAGNOSTIC) {
                    words.push(&masked.text);
                    found += masked.count;
                }
                Ok(())
            });
            backend.leaks.found(found);
            let news = self.read_instance(index, output, now);
            match news {
                Some(News::Agreed(number)) => self.instance_ready(number, now),
                Some(News::Differs(number)) => self.unusable(number, "answers otherwise than before"),
                None => {}
            }
            if !tree.is_empty() {
                self.instance_ended(index, now);
            }
        }
    }

    fn read_instance(
        &mut self,
        index: usize,
        events: rustix::event::PollFlags,
        now: Instant,
    ) -> Option<News> {
        let room = self.talk.to_client.has_room();
        let backend = self.backends.get_mut(index)?;
        let (talk, life, calls, number) = (&mut self.talk, &mut self.life, &mut self.calls, backend.number);
        let (filter, redactor, listings) = (self.filter.as_ref()?, &self.redactor, &mut self.listings);
        let (mut news, mut to_broker, mut found, mut lost) = (None, Vec::new(), 0, false);
        let read = backend.stdout.ready(events, room, |line| {
            let Masked { text, count } = redactor.message(line);
            // What holds no secret is read where it stands.
            let mut other = match text {
                Cow::Owned(other) => Some(other),
                Cow::Borrowed(_) => None,
            };
            found += count;
            let line = other.as_deref_mut().unwrap_or(line);
            let mut ears = Ears { filter, calls, to_broker: &mut to_broker, masked: count, now };
            let heard = match rule::from_server(line) {
                Ok((text, message)) => {
                    let heard = talk.server_line(number, text, &message, &mut ears);
                    if heard == Ok(Heard::Listed) {
                        listings.take(number, text, &message, talk);
                    }
                    heard
                }
                Err(why) => Err(why),
            };
            match heard.inspect_err(|why| lost |= talk.dropped(number, Dropped::whole(line), *why, now))? {
                Heard::Taken | Heard::Listed => {}
                Heard::ToolsChanged => {
                    if talk.lane_of(number).is_some_and(|lane| Self::lists(filter, lane)) {
                        listings.again(number);
                    }
                }
                Heard::Answer => talk.lane_of(number).into_iter().for_each(|lane| life.used(lane, now)),
                Heard::Agreed => news = Some(News::Agreed(number)),
                Heard::Differs => news = Some(News::Differs(number)),
            }
            Ok(())
        });
        backend.leaks.found(found);
        if let Some(line) = backend.stdout.lines().skipped() {
            let (tail, length) = (line.tail.as_deref(), line.length);
            let line = Dropped { head: &line.head, tail, long: true, length };
            lost |= talk.dropped(number, line, Drop::TooLong, now);
        }
        if lost {
            talk.lane_of(number).into_iter().for_each(|lane| life.used(lane, now));
        }
        if read == Read::Bytes {
            self.moved_at = now;
            backend.moved(now);
        }
        to_broker.iter().for_each(|frame| self.send(frame));
        news
    }

    /// Reads what an instance had written when it ended, without another poll.
    pub(super) fn read_rest(&mut self, index: usize, now: Instant) {
        self.read_instance(index, rustix::event::PollFlags::IN, now);
    }

    /// Writes what waits, as far as it goes, and passes the end of input on.
    pub(super) fn write(&mut self, now: Instant) {
        let wrote = self.out.write(&mut self.talk.to_client);
        self.note_write(wrote, now);
        self.err.write(&mut self.words);
        for backend in &mut self.backends {
            let Some(inbox) = self.talk.inbox(backend.number) else { continue };
            let wrote = backend.stdin.write(inbox);
            if wrote == Wrote::Bytes {
                self.moved_at = now;
            }
            let told_all = inbox.waiting().is_empty();
            backend.wrote(wrote, now);
            if backend.shutdown.is_polite() && told_all {
                backend.stdin.close();
            }
        }
    }

    pub(super) fn note_write(&mut self, wrote: Wrote, now: Instant) {
        match wrote {
            Wrote::Nothing => {}
            Wrote::Gone => self.client_deaf(now),
            Wrote::Bytes => {
                self.moved_at = now;
                if let Some(over) = &mut self.over {
                    over.until = over.until.max((now + DRAIN).min(over.latest));
                }
            }
        }
    }

    /// Gives the memory of empty buffers back when nothing was said for a while.
    pub(super) fn release_memory(&mut self, now: Instant) {
        if now < self.moved_at + IDLE {
            return;
        }
        for outbox in self.talk.outboxes().chain([&mut self.words]) {
            outbox.release();
        }
        self.client.lines().release();
        for backend in &mut self.backends {
            backend.stdout.lines().release();
            backend.stderr.lines().release();
        }
    }

    /// Whether an idle buffer holds memory.
    pub(super) fn holds_memory(&self) -> bool {
        let of = |source: &Source| source.holds_memory();
        let instances = self.backends.iter().any(|one| of(&one.stdout) || of(&one.stderr));
        instances || of(&self.client) || self.talk.holds_memory() || self.words.holds_memory()
    }

    /// Says one line on standard error, where there is room.
    pub(super) fn say(&mut self, text: &str) -> bool {
        let room = self.words.has_room();
        if room {
            self.words.push_parts(&[b"mcp-run: ", text.as_bytes()]);
        }
        room
    }

    /// Tells the first drop of a kind, once.
    pub(super) fn tell_drops(&mut self) {
        if let Some((kind, why)) = self.client.news()
            && self.say(&first_drop("the client's input", why))
        {
            self.client.told(kind);
        }
        for index in 0..self.backends.len().min(MAX_BACKENDS) {
            let Some((kind, why)) = self.backends.get(index).and_then(|one| one.stdout.news()) else {
                continue;
            };
            if self.say(&first_drop("the server's output", why))
                && let Some(backend) = self.backends.get_mut(index)
            {
                backend.stdout.told(kind);
            }
        }
    }

    /// Says what was dropped in all.
    pub(super) fn sum_up(&mut self) {
        for (whose, counts) in
            [("the client's input", self.client.counts()), ("the server's output", self.past)]
        {
            let counts = counts.into_iter().zip(Drop::WORDS).filter(|(count, _)| *count > 0);
            let words: Vec<_> = counts.map(|(count, words)| format!("{count} {words}")).collect();
            if !words.is_empty() {
                self.say(&format!("dropped from {whose} in all: {}", words.join(", ")));
            }
        }
    }
}

fn first_drop(whose: &str, why: &str) -> String {
    format!("a line of {whose} was dropped: {why}; more of the kind are only counted")
}
