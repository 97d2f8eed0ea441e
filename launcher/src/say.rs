//! The only door to the terminal: errors and notes to standard error, answers of commands to standard
//! output. It never waits long for a reader that does not read, and it never fails.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

use crate::failure::Failure;

/// How long a reader of standard error may stall before the text is given up.
const PATIENCE: Duration = Duration::from_secs(1);
/// POSIX guarantees that a pipe which polls writable takes so many bytes without blocking (pipe(7)).
const ATOMIC: usize = 4096;

/// Prints an error with its cure on standard error.
pub fn failure(failure: &Failure) {
    let hint = if failure.hint.is_empty() { String::new() } else { format!("hint: {}\n", failure.hint) };
    write(rustix::stdio::stderr(), format!("mcp-run: {}\n{hint}", failure.what).as_bytes());
}

/// Prints one line on standard error.
pub fn note(text: &str) {
    write(rustix::stdio::stderr(), format!("mcp-run: {text}\n").as_bytes());
}

/// Prints the answer of a command on standard output. Never used in a launch: there it carries MCP only.
pub fn answer(text: &str) {
    write(rustix::stdio::stdout(), text.as_bytes());
}

fn write(fd: BorrowedFd<'_>, mut bytes: &[u8]) {
    let until = Instant::now() + PATIENCE;
    while !bytes.is_empty() {
        let left = until.saturating_duration_since(Instant::now());
        let mut slot = [PollFd::new(&fd, PollFlags::OUT)];
        match poll(&mut slot, rustix::time::Timespec::try_from(left).ok().as_ref()) {
            Ok(0) => return,
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        let piece = bytes.get(..bytes.len().min(ATOMIC)).unwrap_or_default();
        match rustix::io::write(fd, piece) {
            Ok(0) => return,
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return,
        }
    }
}
