//! Where lines come from: a port and its [`Lines`], and the count of what did not pass.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::PollFlags;
use rustix::io::{Errno, ioctl_fionread};

use super::lines::{Lines, Long};
use super::port::Port;
use super::rule::Drop;

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Nothing.
    Nothing,
    /// Some bytes.
    Bytes,
    /// The source has ended.
    Ended,
    /// It has hung up, and may hold more than there is room for.
    HungUp,
}

/// A source of lines.
pub struct Source {
    port: Option<Port>,
    lines: Lines,
    hung_up: bool,
    dropped: [u64; Drop::COUNT],
    told: [bool; Drop::COUNT],
}

impl Source {
    /// Lines of at most `max` bytes from a port.
    #[must_use]
    pub fn new(port: Port, max: usize, long: Long) -> Self {
        let lines = Lines::new(max, long);
        Self {
            port: Some(port),
            lines,
            hung_up: false,
            dropped: [0; Drop::COUNT],
            told: [false; Drop::COUNT],
        }
    }

    /// What to poll. A source that is left alone is still asked whether it hung up, once.
    #[must_use]
    pub fn poll(&self, wanted: bool) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let port = self.port.as_ref()?;
        match wanted {
            true => Some((port.as_fd(), PollFlags::IN)),
            false if self.hung_up => None,
            false => Some((port.as_fd(), PollFlags::empty())),
        }
    }

    /// Acts on what poll(2) said: reads once, and hands every complete line to `take`.
    pub fn ready(
        &mut self,
        events: PollFlags,
        wanted: bool,
        mut take: impl FnMut(&mut [u8]) -> Result<(), Drop>,
    ) -> Read {
        let Some(port) = &self.port else { return Read::Nothing };
        if events.is_empty() {
            return Read::Nothing;
        }
        if !wanted {
            let hung_up = events.intersects(PollFlags::HUP | PollFlags::ERR);
            return if hung_up && !std::mem::replace(&mut self.hung_up, true) {
                Read::HungUp
            } else {
                Read::Nothing
            };
        }
        // Hung up and nothing to read (poll(2)): no buffer is needed to learn that this is the end. It is asked how much
        // there is, as the events may be from a time when only a hang-up was waited for.
        let empty = || ioctl_fionread(port).is_ok_and(|bytes| bytes == 0);
        let ended = (!events.contains(PollFlags::IN) && empty())
            || match port.read(self.lines.room()) {
                Ok(0) => true,
                Ok(_) => false,
                Err(Errno::AGAIN | Errno::INTR) => return Read::Nothing,
                Err(_) => true,
            };
        let dropped = &mut self.dropped;
        let mut count = |line: &mut [u8]| {
            if let Some(count) = take(line).err().and_then(|why| dropped.get_mut(why as usize)) {
                *count += 1;
            }
        };
        if ended {
            self.port = None;
            self.lines.finish(count);
            return Read::Ended;
        }
        self.lines.each(&mut count);
        Read::Bytes
    }

    /// Notes lines that were taken and did not reach their receiver all the same.
    pub fn lost(&mut self, count: u64) {
        if let Some(dropped) = self.dropped.get_mut(Drop::Undelivered as usize) {
            *dropped += count;
        }
    }

    /// Ends it now.
    pub fn close(&mut self) {
        self.port = None;
    }

    /// Whether nothing more comes.
    #[must_use]
    pub fn ended(&self) -> bool {
        self.port.is_none()
    }

    /// Its lines, for their memory.
    pub fn lines(&mut self) -> &mut Lines {
        &mut self.lines
    }

    /// Whether an idle buffer holds memory.
    #[must_use]
    pub fn holds_memory(&self) -> bool {
        self.lines.holds_memory()
    }

    /// The first reason for dropping that nobody has been told yet, with its number.
    #[must_use]
    pub fn news(&self) -> Option<(usize, &'static str)> {
        // Asked at every turn of the loop.
        if self.dropped == [0; Drop::COUNT] && self.lines.too_long_count() == 0 {
            return None;
        }
        let mut fresh = self.counts().into_iter().zip(self.told).zip(Drop::WORDS).enumerate();
        fresh.find_map(|(i, ((count, told), words))| (count > 0 && !told).then_some((i, words)))
    }

    /// Notes that the reason has been told.
    pub fn told(&mut self, number: usize) {
        if let Some(told) = self.told.get_mut(number) {
            *told = true;
        }
    }

    /// How many lines of each kind were dropped.
    #[must_use]
    pub fn counts(&self) -> [u64; Drop::COUNT] {
        let mut counts = self.dropped;
        if let Some(count) = counts.get_mut(Drop::TooLong as usize) {
            *count += self.lines.too_long_count();
        }
        counts
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use rustix::event::{PollFd, poll};
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn wait(source: &Source) -> PollFlags {
        let (fd, flags) = source.poll(true).unwrap();
        let mut slots = [PollFd::from_borrowed_fd(fd, flags)];
        poll(&mut slots, None).unwrap();
        slots[0].revents()
    }

    #[test]
    fn the_end_is_learned_without_a_buffer() {
        let (input, output) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut source = Source::new(Port::own(input).unwrap(), 100, Long::Drop);
        rustix::io::write(&output, b"a\nb").unwrap();
        drop(output);
        let mut got = Vec::new();
        let mut take = |line: &mut [u8]| {
            got.push(line.to_vec());
            Ok(())
        };
        assert_eq!(source.ready(wait(&source), true, &mut take), Read::Bytes);
        assert_eq!(source.ready(wait(&source), true, &mut take), Read::Ended);
        assert_eq!(got, [b"a".to_vec(), b"b".to_vec()], "what is left is the last line");

        // The same where only the hang-up was waited for: nothing is lost.
        let (input, output) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut source = Source::new(Port::own(input).unwrap(), 100, Long::Drop);
        rustix::io::write(&output, b"c\n").unwrap();
        drop(output);
        let mut take = |line: &mut [u8]| {
            got.push(line.to_vec());
            Ok(())
        };
        assert_eq!(source.ready(PollFlags::HUP, true, &mut take), Read::Bytes);
        assert_eq!(got.last().map(Vec::as_slice), Some(b"c".as_slice()));

        let (input, output) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut source = Source::new(Port::own(input).unwrap(), 100, Long::Drop);
        drop(output);
        assert_eq!(source.ready(wait(&source), true, |_| Ok(())), Read::Ended);
        assert!(!source.holds_memory());
    }
}
