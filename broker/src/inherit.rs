//! Sockets that systemd made and hands over at start (sd_listen_fds(3)): one of the two files with unsafe
//! code that takes over descriptors. Order and names as in the unit files of `deploy/systemd`.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;

/// Name of the socket of `mcp-run` in the socket unit (`FileDescriptorName=`).
const PERSON: &str = "broker";
/// Name of the admin socket.
const ADMIN: &str = "admin";

/// Only one of the sockets was handed over.
pub(crate) struct Half;

/// The sockets of `mcp-run` and of the admin commands, when they were handed over.
pub(crate) fn sockets() -> Result<Option<(UnixListener, UnixListener)>, Half> {
    let mut person = None;
    let mut admin = None;
    for (fd, name) in sd_notify::listen_fds_with_names().into_iter().flatten() {
        match name.as_str() {
            PERSON => person = Some(take(fd)),
            ADMIN => admin = Some(take(fd)),
            _ => tracing::warn!(name, "systemd handed over a socket that is not known"),
        }
    }
    match (person, admin) {
        (Some(person), Some(admin)) => Ok(Some((person, admin))),
        (None, None) => Ok(None),
        _ => Err(Half),
    }
}

fn take(fd: RawFd) -> UnixListener {
    // JUSTIFICATION: the descriptor exists before the program does; there is no safe way to come by it.
    // SAFETY: LISTEN_PID named this process, so systemd opened the descriptor for it, and each is named
    // and taken once; nothing else in the program knows its number.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    owned.into()
}
