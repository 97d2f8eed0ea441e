//! One connection to a desk: a question is read, an answer written, nothing waited for. It knows no credential.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use zeroize::Zeroizing;

use super::door::Via;
use super::refusal::Refusal;
use super::request::MAX_HEAD;

/// How long a connection may take in all.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// The most of what is behind a refused question that is read away, in bytes, so that the refusal is read.
const MAX_REST: usize = 64 << 10;

/// A connection.
pub(super) struct Guest {
    stream: OwnedFd,
    /// By which door it came.
    pub(super) via: Via,
    /// Whether it is of the instance's tree.
    pub(super) known: bool,
    /// When it is given up.
    pub(super) until: Instant,
    state: State,
}

enum State {
    Reading(Zeroizing<Vec<u8>>),
    Writing { bytes: Zeroizing<Vec<u8>>, sent: usize, refused: bool },
    Leaving { read: usize },
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// It says more.
    In,
    /// It takes more.
    Out,
    /// Nothing: it is over.
    Over,
}

/// What a question was answered with.
pub(super) type Answer = Result<Zeroizing<Vec<u8>>, Refusal>;

impl Guest {
    /// Just accepted.
    pub(super) fn new(stream: OwnedFd, via: Via, known: bool, now: Instant) -> Self {
        let state = State::Reading(Zeroizing::new(Vec::with_capacity(MAX_HEAD)));
        Self { stream, via, known, until: now + PATIENCE, state }
    }

    /// Goes on as far as it goes. `answer` gets what was read; nothing where that is not all.
    pub(super) fn step(&mut self, answer: impl FnOnce(&[u8], Via) -> Option<Answer>) -> Next {
        if let State::Reading(head) = &mut self.state {
            let ended = match read(&self.stream, head) {
                Ok(count) => count == 0,
                Err(Errno::AGAIN | Errno::INTR) => return Next::In,
                Err(_) => return Next::Over,
            };
            match answer(head, self.via) {
                Some(answer) => self.answer(answer),
                None if ended => return Next::Over,
                None => return Next::In,
            }
        }
        self.write()
    }

    /// Answers, whatever it was about to say.
    pub(super) fn refuse(&mut self, refusal: Refusal) -> Next {
        if matches!(self.state, State::Reading(_)) {
            self.answer(Err(refusal));
        }
        self.write()
    }

    /// Whether the question is still waited for.
    pub(super) fn is_reading(&self) -> bool {
        matches!(self.state, State::Reading(_))
    }

    fn answer(&mut self, answer: Answer) {
        let refused = answer.is_err();
        let (status, body) = match answer {
            Ok(body) => ("200 OK", body),
            Err(refusal) => (refusal.status(), Zeroizing::new(refusal.body(self.via == Via::Counter))),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\
            Cache-Control: no-store\r\nConnection: close\r\n\r\n",
            body.len()
        );
        // The exact size at once: growing would leave unwiped copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(head.len() + body.len()));
        bytes.extend_from_slice(head.as_bytes());
        bytes.extend_from_slice(&body);
        self.state = State::Writing { bytes, sent: 0, refused };
    }

    fn write(&mut self) -> Next {
        loop {
            match &mut self.state {
                State::Reading(_) => return Next::In,
                State::Writing { bytes, sent, refused } => {
                    let rest = bytes.get(*sent..).unwrap_or_default();
                    if rest.is_empty() {
                        if !*refused {
                            return Next::Over;
                        }
                        // Closing with something unread would take the answer back (RFC 9112 section 9.6).
                        shutdown(&self.stream, Shutdown::Write).unwrap_or_default();
                        self.state = State::Leaving { read: 0 };
                        continue;
                    }
                    match send(&self.stream, rest, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                        Ok(count) => *sent += count,
                        Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => return Next::Out,
                        Err(_) => return Next::Over,
                    }
                }
                State::Leaving { read } => {
                    let mut rest = [0; 4096];
                    match recv(&self.stream, &mut rest[..], RecvFlags::DONTWAIT) {
                        Ok((0, _)) => return Next::Over,
                        Ok((count, _)) => *read += count,
                        Err(Errno::INTR) => {}
                        Err(Errno::AGAIN) => return Next::In,
                        Err(_) => return Next::Over,
                    }
                    if *read > MAX_REST {
                        return Next::Over;
                    }
                }
            }
        }
    }
}

/// Reads what is there, up to one byte more than a head may have. The room is there from the beginning.
fn read(stream: &OwnedFd, head: &mut Vec<u8>) -> Result<usize, Errno> {
    let mut piece = Zeroizing::new([0_u8; MAX_HEAD]);
    let room = (MAX_HEAD - head.len().min(MAX_HEAD)).max(1);
    let (count, _) = recv(stream, piece.get_mut(..room).unwrap_or_default(), RecvFlags::DONTWAIT)?;
    head.extend_from_slice(piece.get(..count).unwrap_or_default());
    Ok(count)
}

impl AsFd for Guest {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
