//! Where an [`Outbox`] goes: a port that is written as far as it takes without waiting, and closed for the
//! other side when nothing more comes.

use std::os::fd::{AsFd, BorrowedFd};

use rustix::event::PollFlags;
use rustix::io::Errno;

use super::outbox::Outbox;
use super::port::{Port, Standard};

/// What came of writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrote {
    /// Nothing.
    Nothing,
    /// Some bytes.
    Bytes,
    /// The other side takes no more.
    Gone,
}

/// The writing end.
pub struct Sink {
    port: Option<Port>,
    /// A standard stream that is closed for the client when this ends.
    closes: Option<Standard>,
    /// It was full when it was last written to; poll(2) says when it is not.
    full: bool,
}

impl Sink {
    /// Over a port.
    #[must_use]
    pub fn new(port: Port, closes: Option<Standard>) -> Self {
        Self { port: Some(port), closes, full: false }
    }

    /// What to poll; that it is gone is always reported.
    #[must_use]
    pub fn poll(&self, outbox: &Outbox) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let events = if outbox.waiting().is_empty() { PollFlags::empty() } else { PollFlags::OUT };
        self.port.as_ref().map(|port| (port.as_fd(), events))
    }

    /// Acts on what poll(2) said.
    pub fn ready(&mut self, events: PollFlags, outbox: &mut Outbox) -> Wrote {
        if events.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL) {
            outbox.clear();
            return self.lose();
        }
        if events.contains(PollFlags::OUT) {
            self.full = false;
            return self.write(outbox);
        }
        Wrote::Nothing
    }

    /// Writes what waits, as far as it goes.
    pub fn write(&mut self, outbox: &mut Outbox) -> Wrote {
        let mut wrote = Wrote::Nothing;
        while !outbox.waiting().is_empty() && !self.full {
            let Some(port) = &self.port else {
                outbox.clear();
                break;
            };
            match port.write(outbox.waiting()) {
                Ok(count) => {
                    let all = count == outbox.waiting().len();
                    outbox.sent(count);
                    wrote = Wrote::Bytes;
                    // Asking at once would only be answered with `AGAIN`.
                    self.full = !all;
                }
                Err(Errno::AGAIN) => self.full = true,
                Err(Errno::INTR) => {}
                Err(_) => {
                    outbox.clear();
                    return self.lose();
                }
            }
        }
        wrote
    }

    /// Closes it for the other side.
    pub fn close(&mut self) {
        self.lose();
    }

    /// Whether it is closed.
    #[must_use]
    pub fn closed(&self) -> bool {
        self.port.is_none()
    }

    fn lose(&mut self) -> Wrote {
        self.full = false;
        if self.port.take().is_none() {
            return Wrote::Nothing;
        }
        if let Some(stream) = self.closes.take() {
            stream.close();
        }
        Wrote::Gone
    }
}
