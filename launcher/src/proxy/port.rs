//! One end of a stream that never blocks us, whoever shares it: pipes are opened anew without waiting,
//! sockets are asked not to wait call by call, and anything else is written in pieces that poll(2) vouches for.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{FileType, FsWord, Mode, OFlags, fcntl_getfl, fcntl_setfl, fstat, fstatfs, open};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use rustix::time::Timespec;

/// `PIPEFS_MAGIC` of statfs(2): a pipe without a name.
const PIPEFS: FsWord = 0x5049_5045;
/// POSIX guarantees that a pipe which polls writable takes so many bytes without blocking (pipe(7)).
const ATOMIC: usize = 4096;

/// A descriptor and how to use it without waiting.
pub enum Port {
    /// Non-blocking on a description that is ours alone.
    Own(OwnedFd),
    /// A standard stream that was replaced by our own non-blocking description, or a plain file.
    Standard(BorrowedFd<'static>),
    /// A socket that may be shared.
    Socket(BorrowedFd<'static>),
    /// Something else that may be shared: a file, a terminal, a named pipe.
    Shared(BorrowedFd<'static>),
}

/// One of the three standard streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standard {
    /// Descriptor 0.
    Input,
    /// Descriptor 1.
    Output,
    /// Descriptor 2.
    Error,
}

impl Port {
    /// Our end of a pipe that we made.
    ///
    /// # Errors
    /// As fcntl(2).
    pub fn own(fd: OwnedFd) -> io::Result<Self> {
        fcntl_setfl(&fd, fcntl_getfl(&fd)? | OFlags::NONBLOCK)?;
        Ok(Self::Own(fd))
    }

    /// A stream that the client gave us. Its own description is left as it is: setting it non-blocking
    /// would change it for everybody who shares it.
    #[must_use]
    pub fn standard(stream: Standard) -> Self {
        let fd = stream.fd();
        let kind = fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode));
        match kind {
            Ok(FileType::Socket) => Self::Socket(fd),
            Ok(FileType::Fifo) if reopen(stream).is_ok() => Self::Standard(fd),
            // A file on a disk is always ready, and never waits for anybody who reads it.
            Ok(FileType::RegularFile) => Self::Standard(fd),
            _ => Self::Shared(fd),
        }
    }

    /// Reads once; zero at the end.
    ///
    /// # Errors
    /// `AGAIN` where nothing is there, else as read(2).
    pub fn read(&self, into: &mut Vec<u8>) -> Result<usize, Errno> {
        let room = rustix::buffer::spare_capacity(into);
        match self {
            Self::Socket(fd) => recv(fd, room, RecvFlags::DONTWAIT).map(|(count, _)| count),
            _ => rustix::io::read(self, room),
        }
    }

    /// Writes once.
    ///
    /// # Errors
    /// `AGAIN` where there is no room, else as write(2).
    pub fn write(&self, bytes: &[u8]) -> Result<usize, Errno> {
        match self {
            Self::Socket(fd) => send(fd, bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL),
            Self::Own(_) | Self::Standard(_) => rustix::io::write(self, bytes),
            Self::Shared(_) if !self.has_room()? => Err(Errno::AGAIN),
            Self::Shared(_) => rustix::io::write(self, bytes.get(..ATOMIC).unwrap_or(bytes)),
        }
    }

    fn has_room(&self) -> Result<bool, Errno> {
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        Ok(poll(&mut [PollFd::new(self, PollFlags::OUT)], Some(&now))? > 0)
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Standard(fd) | Self::Socket(fd) | Self::Shared(fd) => fd.as_fd(),
        }
    }
}

impl Standard {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Input => rustix::stdio::stdin(),
            Self::Output => rustix::stdio::stdout(),
            Self::Error => rustix::stdio::stderr(),
        }
    }

    fn replace(self, with: &OwnedFd) -> Result<(), Errno> {
        match self {
            Self::Input => rustix::stdio::dup2_stdin(with),
            Self::Output => rustix::stdio::dup2_stdout(with),
            Self::Error => rustix::stdio::dup2_stderr(with),
        }
    }

    /// Closes the stream for whoever is at its other end; the number stays taken.
    pub fn close(self) {
        if let Ok(null) = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            self.replace(&null).unwrap_or_default();
        }
    }
}

/// Puts a description of our own in place of an unnamed pipe. A named one is left alone: opened anew
/// without a writer it would never report its end.
fn reopen(stream: Standard) -> Result<(), Errno> {
    let fd = stream.fd();
    if fstatfs(fd)?.f_type != PIPEFS {
        return Err(Errno::NOTSUP);
    }
    let direction = if stream == Standard::Input { OFlags::RDONLY } else { OFlags::WRONLY };
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let fresh = open(path, direction | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?;
    stream.replace(&fresh)
}
