//! The keeper: a small process between the launcher and the server that outlives neither. As process 1
//! of a PID namespace its death takes the namespace with it; else it is a sub-reaper that kills what is
//! left. It relays signals, exits with the server's status, and cleans up when the launcher is killed.

use std::ffi::CString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, getpid, getppid, kill_process, kill_process_group,
    set_child_subreaper, set_dumpable_behavior, set_parent_process_death_signal, setpgid, setsid, wait,
};
use zeroize::{Zeroize, Zeroizing};

use super::plan::{Exec, FIRST_HANDED, MAX_HANDED, MAX_PLAN};
use super::private::{MAX_NAME, PrivateDir};
use super::report::{Report, Stage};
use super::sys::{self, Cloned, Namespaces};
use super::tree;

/// Where the control socket stands in the keeper.
const CONTROL: RawFd = 3;
/// Descriptors that come with one message at most.
pub const MAX_FDS: usize = 2;
/// Set in the number of a signal that is for the server's first process alone, not for its group.
pub const FIRST_ALONE: u8 = 0x80;
/// Exit code of a keeper that could not do its work; the launcher hears the reason first.
const BROKEN: u8 = 70;

/// What the keeper takes over from the launcher.
pub struct Seat<'a> {
    /// The server's standard input, output and error.
    pub stdio: [BorrowedFd<'a>; 3],
    /// The keeper's end of the control socket.
    pub control: BorrowedFd<'a>,
    /// What it was cloned into.
    pub namespaces: Namespaces,
    /// Effective uid and gid, read outside: inside an unmapped user namespace nobody can tell.
    pub ids: (u32, u32),
}

/// Leaves at once, whatever happens: unwinding into the launcher's frames would run its story twice.
struct NoReturn;

impl Drop for NoReturn {
    fn drop(&mut self) {
        sys::exit_now(BROKEN);
    }
}

/// Runs the keeper in the fresh clone. Never returns.
pub fn run(seat: &Seat<'_>) -> ! {
    let _guard = NoReturn;
    let ready = settle(seat).and_then(|()| sys::signal_fd(&[libc::SIGCHLD]));
    let signals = match ready {
        Ok(signals) => signals,
        Err(error) => fail(Stage::Contain, &error),
    };
    tell(Report::Ready);
    let (mut files, mut handed) = (None, Vec::new());
    let Some(mut plan) = receive(&mut files, &mut handed) else { leave(files.as_ref(), 0) };
    let Some(exec) = Exec::decode(&plan) else { leave(files.as_ref(), BROKEN) };
    if files.is_none() && seat.namespaces != Namespaces::None {
        // Nothing to clean up and the kernel kills the rest: no need to be awake for it. If the
        // launcher died before this line, the closed control socket says so.
        set_parent_process_death_signal(Some(Signal::KILL)).unwrap_or_default();
    }
    let started = start(&exec, &handed);
    // The server's alone from here on.
    drop(handed);
    drop(exec);
    plan.zeroize();
    drop(plan);
    let server = match started {
        Ok(server) => server,
        Err((stage, error)) => {
            remove(files.as_ref());
            fail(stage, &error)
        }
    };
    release_stdio();
    tell(Report::Started);
    let status = watch(server, &signals);
    // First, because the rest may take long: whatever the server still has open it can read on.
    remove(files.as_ref());
    if seat.namespaces == Namespaces::None && !tree::end_all(&[]) {
        sys::exit_now(BROKEN);
    }
    sys::exit_now(status)
}

/// Takes its own place: descriptors, session, signals, namespace.
fn settle(seat: &Seat<'_>) -> io::Result<()> {
    for (number, fd) in (0..).zip(seat.stdio) {
        sys::place(fd, number)?;
    }
    sys::place(seat.control, CONTROL)?;
    // The broker's connection and the client's pipes too: nobody may take them for still open.
    sys::close_from(CONTROL.unsigned_abs() + 1)?;
    rustix::io::fcntl_setfd(sys::placed(CONTROL), rustix::io::FdFlags::CLOEXEC)?;
    sys::block(&[])?;
    // A session of its own, so that a signal to the client's process group passes it by.
    setsid()?;
    // Blocked, and without effect beside the closed control socket, until there is nothing to clean up.
    set_parent_process_death_signal(Some(Signal::TERM))?;
    match seat.namespaces {
        Namespaces::None => set_child_subreaper(Some(getpid()))?,
        Namespaces::Pid => {}
        Namespaces::UserAndPid => map_ids(seat.ids)?,
    }
    Ok(())
}

/// Maps the own uid and gid onto themselves (user_namespaces(7)).
fn map_ids((uid, gid): (u32, u32)) -> io::Result<()> {
    // The files of a process that cannot be dumped belong to root (proc(5)). There is no secret yet.
    set_dumpable_behavior(DumpableBehavior::Dumpable)?;
    let mapped = write_proc("/proc/self/setgroups", "deny")
        .and_then(|()| write_proc("/proc/self/uid_map", &format!("{uid} {uid} 1")))
        .and_then(|()| write_proc("/proc/self/gid_map", &format!("{gid} {gid} 1")));
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    mapped
}

fn write_proc(path: &str, text: &str) -> io::Result<()> {
    let file = open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let written = rustix::io::write(&file, text.as_bytes())?;
    if written == text.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
}

/// The plan. A private directory may come before it, which is two descriptors, and files for the server, each one
/// descriptor. Nothing where the launcher has gone or gave up.
fn receive(files: &mut Option<PrivateDir>, handed: &mut Vec<OwnedFd>) -> Option<Zeroizing<Vec<u8>>> {
    loop {
        let (length, mut fds) = head()?;
        let limit = if fds.is_empty() { MAX_PLAN } else { MAX_NAME };
        let length = usize::try_from(u32::from_le_bytes(length)).ok().filter(|length| *length <= limit)?;
        let mut message = Zeroizing::new(vec![0; length]);
        read_exact(&mut message)?;
        let Some(last) = fds.pop() else { return Some(message) };
        match fds.pop() {
            Some(base) => {
                let name = CString::new(message.as_slice()).ok()?;
                *files = Some(PrivateDir::adopt([base, last], name));
            }
            None if handed.len() < MAX_HANDED => handed.push(last),
            None => return None,
        }
    }
}

/// The length of the next message, and the descriptors that come with it, two at most.
fn head() -> Option<([u8; 4], Vec<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 4];
    let mut into = [IoSliceMut::new(&mut length)];
    let flags = RecvFlags::CMSG_CLOEXEC;
    let got = retry_on_intr(|| recvmsg(sys::placed(CONTROL), &mut into, &mut ancillary, flags)).ok()?.bytes;
    if got == 0 {
        return None;
    }
    let fds = ancillary.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds.collect::<Vec<_>>()),
        _ => None,
    });
    read_exact(length.get_mut(got..)?)?;
    Some((length, fds.unwrap_or_default()))
}

fn read_exact(mut into: &mut [u8]) -> Option<()> {
    while !into.is_empty() {
        match retry_on_intr(|| rustix::io::read(sys::placed(CONTROL), &mut *into)) {
            Ok(0) | Err(_) => return None,
            Ok(count) => into = into.get_mut(count..)?,
        }
    }
    Some(())
}

/// Clones once more and becomes the server there; learns over a pipe that `execve` closes whether it did.
fn start(exec: &Exec<'_>, handed: &[OwnedFd]) -> Result<Pid, (Stage, io::Error)> {
    let fork = |error: io::Error| (Stage::Fork, error);
    let (answer, report) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| fork(e.into()))?;
    let keeper = getpid();
    match sys::clone(Namespaces::None).map_err(fork)? {
        Cloned::Child => {
            let (stage, error) = become_server(exec, handed, keeper);
            let bytes = Report::Failed(stage, error.raw_os_error().unwrap_or(0)).encode();
            rustix::io::write(&report, &bytes).unwrap_or_default();
            sys::exit_now(BROKEN)
        }
        Cloned::Parent(server, _pidfd) => {
            // On both sides, so that the group exists for whoever looks first; fails once it has run on.
            setpgid(Some(server), Some(server)).unwrap_or_default();
            drop(report);
            match read_report(&answer) {
                Some(Report::Failed(stage, errno)) => Err((stage, io::Error::from_raw_os_error(errno))),
                _ => Ok(server),
            }
        }
    }
}

fn read_report(from: &OwnedFd) -> Option<Report> {
    let mut bytes = [0; Report::SIZE];
    loop {
        match rustix::io::read(from, &mut bytes) {
            Ok(Report::SIZE) => return Report::decode(bytes),
            Err(Errno::INTR) => {}
            _ => return None,
        }
    }
}

fn become_server(exec: &Exec<'_>, handed: &[OwnedFd], keeper: Pid) -> (Stage, io::Error) {
    let prepared = (|| {
        setpgid(None, None)?;
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have died before the line above; then its signal never comes.
        if getppid() != Some(keeper) {
            return Err(Errno::SRCH.into());
        }
        sys::reset_signals(ignored(&tree::read("/proc/self/status".as_ref())));
        sys::close_from_on_exec(CONTROL.unsigned_abs())?;
        place_handed(handed)
    })();
    if let Err(error) = prepared {
        return (Stage::Fork, error);
    }
    if let Err(error) = rustix::process::chdir(exec.cwd) {
        return (Stage::Directory, error.into());
    }
    let Some(program) = exec.command.first() else { return (Stage::Exec, Errno::NOENT.into()) };
    (Stage::Exec, sys::exec(program, &exec.command, &exec.environment))
}

/// Puts the files where the server looks for them, to stay open (dup2(2) clears the mark that closes them).
fn place_handed(handed: &[OwnedFd]) -> io::Result<()> {
    for (number, file) in (FIRST_HANDED..).zip(handed) {
        let number = RawFd::try_from(number).map_err(|_too_high| Errno::MFILE)?;
        sys::place(file.as_fd(), number)?;
    }
    Ok(())
}

/// The signals that this process ignores, from its `/proc/PID/status`; every one where that cannot be
/// read (proc(5), `SigIgn`).
fn ignored(status: &str) -> impl Iterator<Item = i32> {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(u64::MAX);
    (1..=64).filter(move |signal| mask >> (signal - 1) & 1 == 1)
}

/// Gives up the server's streams, so that only the server and its children hold them.
fn release_stdio() {
    if let Ok(null) = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
        for number in 0..3 {
            sys::place(null.as_fd(), number).unwrap_or_default();
        }
    }
}

/// Waits for the server's end, or for the launcher's.
fn watch(server: Pid, signals: &OwnedFd) -> u8 {
    loop {
        let control = sys::placed(CONTROL);
        let mut slots = [PollFd::new(signals, PollFlags::IN), PollFd::new(&control, PollFlags::IN)];
        if poll(&mut slots, None).is_err() {
            continue;
        }
        let [children, control] = slots.map(|slot| !slot.revents().is_empty());
        if children {
            drain(signals);
            if let Some(status) = reap_until(server) {
                return status;
            }
        }
        if control {
            let mut byte = [0];
            match rustix::io::read(sys::placed(CONTROL), &mut byte) {
                Ok(1) => forward(server, byte),
                Err(Errno::INTR | Errno::AGAIN) => {}
                _ => return 128 + 9,
            }
        }
    }
}

/// Sends a signal on. The number of the server cannot be a stranger's: it is not reaped yet.
fn forward(server: Pid, [number]: [u8; 1]) {
    let Some(signal) = Signal::from_named_raw(i32::from(number & !FIRST_ALONE)) else { return };
    let sent = match number & FIRST_ALONE {
        0 => kill_process_group(server, signal),
        _ => kill_process(server, signal),
    };
    // What is gone needs no signal.
    sent.unwrap_or_default();
}

fn drain(signals: &OwnedFd) {
    let mut buffer = [0; 1024];
    while matches!(rustix::io::read(signals, &mut buffer), Ok(count) if count > 0) {}
}

/// Reaps everything that is dead; the server's status if it is among them.
fn reap_until(server: Pid) -> Option<u8> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == server => {
                return Some(status_code(status.exit_status(), status.terminating_signal()));
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Exit status, or 128 + n where signal n ended the process.
#[must_use]
pub fn status_code(exit: Option<i32>, signal: Option<i32>) -> u8 {
    let code = signal.map(|signal| 128 + signal).or(exit).unwrap_or(i32::from(BROKEN));
    u8::try_from(code & 0xff).unwrap_or(BROKEN)
}

/// Empties the private directory. Best effort: the launcher tries again and tells, where it is still there.
fn remove(files: Option<&PrivateDir>) {
    files.map(PrivateDir::remove).transpose().map(|_| ()).unwrap_or_default();
}

fn leave(files: Option<&PrivateDir>, code: u8) -> ! {
    remove(files);
    sys::exit_now(code)
}

fn tell(report: Report) {
    // A launcher that is gone is noticed by the next read.
    rustix::io::write(sys::placed(CONTROL), &report.encode()).unwrap_or_default();
}

fn fail(stage: Stage, error: &io::Error) -> ! {
    tell(Report::Failed(stage, error.raw_os_error().unwrap_or(0)));
    sys::exit_now(BROKEN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignored_signals() {
        for (status, want) in [
            ("Name:\tx\nSigBlk:\tffff\nSigIgn:\t0000000000001001\n", vec![1, 13]),
            ("SigIgn:\t8000000000000000\n", vec![64]),
            ("SigIgn:\t0\n", vec![]),
            ("", (1..=64).collect()),
        ] {
            assert_eq!(ignored(status).collect::<Vec<_>>(), want, "{status}");
        }
    }

    #[test]
    fn status_codes() {
        for (exit, signal, want) in [(Some(0), None, 0), (Some(255), None, 255), (None, Some(9), 137)] {
            assert_eq!(status_code(exit, signal), want);
        }
    }
}
