//! The signals of a launch, read instead of acted on: those that end it, and those that are the server's
//! business.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::spawn::sys;

/// Signals that end a launch.
const ENDING: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];
/// Signals that are the server's business.
const FORWARDED: [i32; 5] = [libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH, libc::SIGCONT];
/// Size of `struct signalfd_siginfo` (signalfd(2)); its first four bytes are the signal's number.
const SIGNAL_INFO: usize = 128;

/// What a signal means for the launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// End it; the signal's number.
    End(i32),
    /// Hand it on to the server.
    Forward(i32),
}

/// Reads the signals, which are blocked as long as the process lives.
pub struct Signals(OwnedFd);

impl Signals {
    /// Blocks the signals; until then they act by default, as nothing is to be tidied up.
    ///
    /// # Errors
    /// As sigprocmask(2) and signalfd(2).
    pub fn take() -> io::Result<Self> {
        let all: Vec<_> = ENDING.into_iter().chain(FORWARDED).collect();
        sys::block(&all)?;
        sys::signal_fd(&all).map(Self)
    }

    /// The next one that has come.
    pub fn next_signal(&mut self) -> Option<Signal> {
        let mut info = [0; SIGNAL_INFO];
        let Ok(SIGNAL_INFO) = rustix::io::read(&self.0, &mut info) else { return None };
        let [a, b, c, d, ..] = info;
        Some(meaning(i32::from_ne_bytes([a, b, c, d])))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn meaning(number: i32) -> Signal {
    if ENDING.contains(&number) { Signal::End(number) } else { Signal::Forward(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        for number in ENDING {
            assert_eq!(meaning(number), Signal::End(number));
        }
        for number in FORWARDED {
            assert_eq!(meaning(number), Signal::Forward(number));
        }
    }
}
