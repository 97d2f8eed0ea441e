//! Sets the child of a trial apart from this process: a session of its own, and an end with this one. A file of its
//! own, as nothing but unsafe code can do something between fork(2) and execve(2).

use std::io;

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal, setsid};
use tokio::process::Command;

/// Has the command's child start without a terminal: in a session of its own it cannot open `/dev/tty` (tty(4)), so it
/// types nothing into the terminal of whoever decides on it (`TIOCSTI`, ioctl_tty(2)). It leads its process group,
/// too, and is killed when the thread that starts it ends (`PR_SET_PDEATHSIG`, prctl(2)), however that ends.
pub(super) fn set_apart(command: &mut Command) {
    let parent = Some(getpid());
    let between = move || {
        setsid()?;
        // After the change of ids, which would take it away again.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        match getppid() == parent {
            true => Ok(()),
            // The parent ended before it was watched.
            false => Err(io::Error::from_raw_os_error(rustix::io::Errno::SRCH.raw_os_error())),
        }
    };
    // JUSTIFICATION: the standard library has no safe way to ask for either.
    // SAFETY: between fork and exec only async-signal-safe functions may be called: these are three system calls
    // without a lock, and neither they nor what is made of their errors allocates.
    unsafe { command.pre_exec(between) };
}
