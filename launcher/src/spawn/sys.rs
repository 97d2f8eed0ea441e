//! The system calls that have no safe wrapper elsewhere. The only file of the crate with `unsafe`;
//! it decides nothing, it only calls.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// Namespaces that a clone gets of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Namespaces {
    /// None.
    None,
    /// A PID namespace; needs `CAP_SYS_ADMIN`.
    Pid,
    /// A PID namespace inside a user namespace; needs no privilege where the kernel allows it.
    UserAndPid,
}

/// `SO_PEERPIDFD` of asm-generic/socket.h; not in every C library.
const SO_PEERPIDFD: libc::c_int = 77;

/// Which side of a [`clone`] this is.
pub enum Cloned {
    /// The caller, with the new process.
    Parent(Pid, OwnedFd),
    /// The new process.
    Child,
}

/// Clones this process like fork(2), into new namespaces (clone(2)).
/// The program has one thread whenever it does this, so every lock of the allocator is free in the child.
///
/// # Errors
/// As clone(2): `EPERM`, `ENOSPC`, `EUSERS` and `EINVAL` mean that the namespaces cannot be had.
pub fn clone(namespaces: Namespaces) -> io::Result<Cloned> {
    let spaces = match namespaces {
        Namespaces::None => 0,
        Namespaces::Pid => libc::CLONE_NEWPID,
        Namespaces::UserAndPid => libc::CLONE_NEWPID | libc::CLONE_NEWUSER,
    };
    let flags = libc::c_long::from(spaces | libc::CLONE_PIDFD | libc::SIGCHLD);
    let mut pidfd: RawFd = -1;
    let none: libc::c_long = 0;
    // SAFETY: without CLONE_VM and with a null stack the child gets a copy of this address space and
    // goes on here, as after fork(2). The kernel writes one descriptor number to `pidfd`, which lives.
    let result = unsafe { libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none) };
    match i32::try_from(result) {
        Ok(0) => Ok(Cloned::Child),
        Ok(pid) if pid > 0 => {
            let pid = Pid::from_raw(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
            // SAFETY: the kernel made this descriptor for us just now and nobody else owns it.
            Ok(Cloned::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
        }
        _ => Err(io::Error::last_os_error()),
    }
}

/// Ends this process without running destructors or exit handlers: those belong to the original.
pub fn exit_now(code: u8) -> ! {
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(i32::from(code)) }
}

/// Blocks `signals`, or every signal where the list is empty.
///
/// # Errors
/// As sigprocmask(2).
pub fn block(signals: &[i32]) -> io::Result<()> {
    let set = if signals.is_empty() { full_set() } else { set_of(signals) };
    // SAFETY: `set` is an initialised signal set; a null old set is allowed.
    check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) })
}

/// A non-blocking descriptor that reads `signals`, which must be blocked (signalfd(2)).
///
/// # Errors
/// As signalfd(2).
pub fn signal_fd(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: `set` is an initialised signal set; -1 asks for a new descriptor.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(fd)?;
    // SAFETY: the kernel made this descriptor for us just now and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The named signals back to their default action and none blocked, as a fresh program expects. `execve`
/// itself resets those that were caught, so only the ignored ones need naming (signal(7)).
pub fn reset_signals(ignored: impl Iterator<Item = i32>) {
    // SAFETY: SIG_DFL is a valid action for every signal; for numbers without one the call fails and
    // changes nothing. The empty set is initialised before use.
    unsafe {
        for signal in ignored {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut empty: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut empty);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const empty, std::ptr::null_mut());
    }
}

/// Makes `number` name what `from` names, inherited by programs (dup2(2)).
///
/// # Errors
/// As dup2(2).
pub fn place(from: BorrowedFd<'_>, number: RawFd) -> io::Result<()> {
    // SAFETY: dup2 takes plain numbers. The caller runs in a fresh clone that will never drop the
    // owners of the descriptors which it overwrites.
    check(unsafe { libc::dup2(from.as_raw_fd(), number) })
}

/// The descriptor `number`, for a process that has just put it there with [`place`].
#[must_use]
pub fn placed(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: the caller put it there and never closes it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Closes every descriptor from `first` up (close_range(2)).
///
/// # Errors
/// As close_range(2).
pub fn close_from(first: libc::c_uint) -> io::Result<()> {
    close_range(first, 0)
}

/// Marks every descriptor from `first` up to be closed by `execve`.
///
/// # Errors
/// As close_range(2); the flag needs Linux 5.11.
pub fn close_from_on_exec(first: libc::c_uint) -> io::Result<()> {
    close_range(first, libc::CLOSE_RANGE_CLOEXEC)
}

fn close_range(first: libc::c_uint, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the caller is a fresh clone that never uses or drops the owners of these descriptors.
    // The raw call: the C library of the static build has no wrapper.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, flags) };
    check(if result == 0 { 0 } else { -1 })
}

/// Becomes another program; returns only where that fails (execve(2)).
#[must_use]
pub fn exec(program: &CStr, arguments: &[&CStr], environment: &[&CStr]) -> io::Error {
    let pointers = |texts: &[&CStr]| -> Vec<*const libc::c_char> {
        texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end in null and point to C strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// The process that connected a unix socket, as a descriptor that names no other that gets its number later
/// (`SO_PEERPIDFD` of Linux 6.5).
///
/// # Errors
/// `ENOPROTOOPT` on an older kernel, `ESRCH` or `EINVAL` where that process is gone.
pub fn peer_pidfd(stream: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut pidfd: RawFd = -1;
    let mut length: libc::socklen_t = size_of::<RawFd>().try_into().unwrap_or(0);
    // SAFETY: the kernel writes at most `length` bytes to `pidfd`, which has as many and lives.
    check(unsafe {
        let into = (&raw mut pidfd).cast();
        libc::getsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, SO_PEERPIDFD, into, &raw mut length)
    })?;
    if pidfd < 0 {
        return Err(io::Error::from_raw_os_error(libc::ESRCH));
    }
    // SAFETY: the kernel made this descriptor for us just now and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(pidfd) })
}

fn full_set() -> libc::sigset_t {
    // SAFETY: sigfillset initialises the zeroed set.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigfillset(&raw mut set);
        set
    }
}

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the zeroed set; a number that is no signal changes nothing.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
