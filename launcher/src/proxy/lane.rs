//! One direction with its two ends: moves bytes from a port through a [`Flow`] to a port, as far as it goes
//! without waiting. It passes an end of input on, and forgets what nobody reads.

use std::os::fd::BorrowedFd;

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::flow::Flow;
use super::port::{Port, Standard};
use super::rule::{Drop, Rule};

/// A direction.
pub struct Lane {
    flow: Flow,
    from: Option<Port>,
    to: Option<Port>,
    /// A standard stream that is closed for the client when this direction ends.
    closes: Option<Standard>,
    /// The source has hung up while it was left alone.
    hung_up: bool,
    noted: [bool; Drop::COUNT],
}

/// What came of moving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// Nothing.
    Nothing,
    /// Some bytes.
    Bytes,
    /// The source has ended.
    SourceEnded,
    /// The other side takes no more.
    SinkGone,
}

impl Lane {
    /// A direction under a rule.
    #[must_use]
    pub fn new(rule: Rule, from: Port, to: Port, closes: Option<Standard>) -> Self {
        let flow = Flow::new(rule);
        Self { flow, from: Some(from), to: Some(to), closes, hung_up: false, noted: [false; Drop::COUNT] }
    }

    /// What to poll at the source. A source that is left alone is still asked whether it hung up, once.
    #[must_use]
    pub fn source(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        use std::os::fd::AsFd;
        let from = self.from.as_ref()?;
        match self.flow.wants_more() {
            true => Some((from.as_fd(), PollFlags::IN)),
            false if self.hung_up => None,
            false => Some((from.as_fd(), PollFlags::empty())),
        }
    }

    /// What to poll at the sink; that it is gone is always reported.
    #[must_use]
    pub fn sink(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        use std::os::fd::AsFd;
        let waits = !self.flow.waiting().is_empty();
        let events = if waits { PollFlags::OUT } else { PollFlags::empty() };
        self.to.as_ref().map(|to| (to.as_fd(), events))
    }

    /// Acts on what poll(2) said about the source. The flag: it has hung up, whether read out or not.
    pub fn source_ready(&mut self, events: PollFlags) -> (Moved, bool) {
        let hung_up = events.intersects(PollFlags::HUP | PollFlags::ERR);
        if !self.flow.wants_more() {
            self.hung_up |= hung_up;
            return (Moved::Nothing, hung_up);
        }
        if events.is_empty() { (Moved::Nothing, false) } else { (self.read(), false) }
    }

    /// Acts on what poll(2) said about the sink.
    pub fn sink_ready(&mut self, events: PollFlags) -> Moved {
        if events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            return self.lose_sink();
        }
        if events.contains(PollFlags::OUT) { self.write() } else { Moved::Nothing }
    }

    fn read(&mut self) -> Moved {
        let Some(from) = &self.from else { return Moved::Nothing };
        match from.read(self.flow.room()) {
            Ok(0) => self.end_source(),
            Ok(_) => {
                self.flow.judge();
                match self.write() {
                    Moved::SinkGone => Moved::SinkGone,
                    _ => Moved::Bytes,
                }
            }
            Err(Errno::AGAIN | Errno::INTR) => Moved::Nothing,
            Err(_) => self.end_source(),
        }
    }

    fn end_source(&mut self) -> Moved {
        self.from = None;
        self.flow.finish();
        match self.write() {
            Moved::SinkGone => Moved::SinkGone,
            _ => Moved::SourceEnded,
        }
    }

    /// Writes what waits, as far as it goes.
    pub fn write(&mut self) -> Moved {
        let mut moved = Moved::Nothing;
        while !self.flow.waiting().is_empty() {
            let Some(to) = &self.to else {
                self.flow.discard();
                break;
            };
            match to.write(self.flow.waiting()) {
                Ok(count) => {
                    let all = count == self.flow.waiting().len();
                    self.flow.sent(count);
                    moved = Moved::Bytes;
                    if !all {
                        // Full now; asking at once would only be answered with `AGAIN`.
                        break;
                    }
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return self.lose_sink(),
            }
        }
        if self.from.is_none() && self.flow.waiting().is_empty() {
            self.close_sink();
        }
        moved
    }

    fn lose_sink(&mut self) -> Moved {
        self.flow.discard();
        if self.to.take().is_none() {
            return Moved::Nothing;
        }
        if let Some(stream) = self.closes.take() {
            stream.close();
        }
        Moved::SinkGone
    }

    /// Nothing more comes: the other side may know. Standard error stays open for our own words.
    fn close_sink(&mut self) {
        match self.to {
            Some(Port::Own(_)) => self.to = None,
            _ => {
                if let Some(stream) = self.closes.take() {
                    self.to = None;
                    stream.close();
                }
            }
        }
    }

    /// Ends the direction now, without what still waits.
    pub fn cut(&mut self) {
        self.from = None;
        self.flow.discard();
        self.close_sink();
    }

    /// Whether nothing moves here any more.
    #[must_use]
    pub fn idle(&self) -> bool {
        self.from.is_none() && self.flow.waiting().is_empty()
    }

    /// The buffer.
    pub fn flow(&mut self) -> &mut Flow {
        &mut self.flow
    }

    /// Whether an idle buffer holds memory.
    #[must_use]
    pub fn holds_memory(&self) -> bool {
        self.flow.holds_memory()
    }

    /// The first reason for dropping that nobody has been told yet, with its number.
    #[must_use]
    pub fn news(&self) -> Option<(usize, &'static str)> {
        let counts = self.flow.dropped();
        let mut fresh = counts.iter().zip(self.noted).zip(Drop::WORDS).enumerate();
        fresh.find_map(|(i, ((count, noted), words))| (*count > 0 && !noted).then_some((i, words)))
    }

    /// Notes that the reason has been told.
    pub fn told(&mut self, number: usize) {
        if let Some(noted) = self.noted.get_mut(number) {
            *noted = true;
        }
    }

    /// What was dropped in all, in words; nothing where nothing was.
    #[must_use]
    pub fn summary(&self) -> Option<String> {
        let counts = self.flow.dropped().into_iter().zip(Drop::WORDS).filter(|(count, _)| *count > 0);
        let words: Vec<_> = counts.map(|(count, words)| format!("{count} {words}")).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}
