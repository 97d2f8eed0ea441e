//! The only place that starts a process: [`Keeper`] while the broker mints, [`Instance`] once the plan is
//! known. What holds the process tree together is decided here and reported as [`Containment`].

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use mcp_broker_proto::channel::Containment;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType, sendmsg,
    socketpair,
};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getegid, geteuid, getpid, pidfd_send_signal, set_child_subreaper,
    waitid,
};

use crate::failure::{CONFIG, Failure};
use plan::ChildPlan;
use private::PrivateDir;
use refusal::explain;
use report::Report;
use sys::{Cloned, Namespaces};

pub mod keeper;
pub mod kin;
pub mod plan;
pub mod private;
mod refusal;
pub mod report;
#[expect(unsafe_code, reason = "system calls without a safe wrapper; each block says why it is sound")]
pub mod sys;
pub mod tree;

/// How long the keeper may take to answer; a working directory on a dead network share can hang.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a killed tree may take to be gone before it is reported as alive.
const END_PATIENCE: Duration = Duration::from_secs(5);

/// A keeper that waits for its plan. Dropping it ends it: its control socket closes.
pub struct Keeper {
    held: Held,
    pipes: [OwnedFd; 3],
}

/// The process that is held, and how.
struct Held {
    pid: Pid,
    pidfd: OwnedFd,
    control: OwnedFd,
    containment: Containment,
}

/// A running server with everything below it.
pub struct Instance {
    held: Held,
    /// Writes to its standard input.
    pub stdin: Option<OwnedFd>,
    /// Reads its standard output.
    pub stdout: Option<OwnedFd>,
    /// Reads its standard error.
    pub stderr: Option<OwnedFd>,
}

/// How an instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Exit status of the server, or 128 + n where signal n ended it.
    pub status: u8,
    /// Whether it was verified that no process is left.
    pub gone: bool,
}

impl Keeper {
    /// Starts a keeper: in a PID namespace where that can be had, else as a sub-reaper.
    /// `spared` are the keepers of other trees of this process, here and below. `forget` runs in the keeper before
    /// anything else, and wipes what this process knows of other instances: the keeper is a copy of it.
    ///
    /// # Errors
    /// Where the kernel makes no process at all.
    pub fn start(spared: &[Pid], forget: &mut dyn FnMut()) -> Result<Self, Failure> {
        Self::start_in(&[Namespaces::Pid, Namespaces::UserAndPid, Namespaces::None], spared, forget)
    }

    fn start_in(choices: &[Namespaces], spared: &[Pid], forget: &mut dyn FnMut()) -> Result<Self, Failure> {
        let failed = |e: io::Error| Failure::system("start the process that holds the server", e);
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()));
        let (stdin_far, stdin) = pipe()?;
        let (stdout, stdout_far) = pipe()?;
        let (stderr, stderr_far) = pipe()?;
        let far = [&stdin_far, &stdout_far, &stderr_far];
        let mut last = Errno::NOSYS.into();
        for &namespaces in choices {
            match hold(namespaces, far, spared, forget) {
                Ok(held) => return Ok(Self { held, pipes: [stdin, stdout, stderr] }),
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Gives the keeper its hold on the directory: from here on it is emptied even where this process is
    /// killed.
    ///
    /// # Errors
    /// Where the keeper is gone; the directory then is too.
    pub fn share(&self, dir: PrivateDir) -> Result<PrivateDir, Failure> {
        let (fds, name) = dir.shared();
        match send(&self.held.control, name.to_bytes(), &fds) {
            Ok(()) => Ok(dir),
            Err(error) => {
                // It is empty; a later launch sweeps it where this fails.
                dir.remove().unwrap_or_default();
                Err(Failure::system("let the server's keeper hold its secret files", error))
            }
        }
    }

    /// Hands the plan over and waits until the server runs.
    ///
    /// # Errors
    /// Where it cannot run: a mistake in its definition, with the cure; and whether nothing is left of it.
    pub fn spawn(self, plan: &ChildPlan, spared: &[Pid]) -> Result<Instance, (Failure, bool)> {
        let Ok(encoded) = plan.encode() else {
            let failure = Failure::new(
                CONFIG,
                "an argument or a variable of the server would hold a zero byte, which no process can take",
                "ask the owner of the server to check its definition and the stored values",
            );
            return Err((failure, self.dismiss(spared)));
        };
        let mut handed = plan.handed.iter();
        let sent = handed.try_for_each(|file| send(&self.held.control, &[], &[file.as_fd()]));
        let sent = sent.and_then(|()| send(&self.held.control, &encoded, &[]));
        drop(encoded);
        let failure = match sent.and_then(|()| self.held.report()) {
            Ok(Report::Started) => {
                let [stdin, stdout, stderr] = self.pipes.map(Some);
                return Ok(Instance { held: self.held, stdin, stdout, stderr });
            }
            Ok(Report::Failed(stage, errno)) => explain(plan, stage, errno),
            Ok(Report::Ready) => Failure::system("start the server", Errno::PROTO),
            Err(error) => Failure::system("start the server", error),
        };
        self.held.kill();
        Err((failure, self.held.end(spared).gone))
    }

    /// Ends a keeper that got no plan.
    #[must_use]
    pub fn dismiss(self, spared: &[Pid]) -> bool {
        self.held.kill();
        self.held.end(spared).gone
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.held.pid
    }
}

/// Clones the keeper and waits until it is in place.
fn hold(
    namespaces: Namespaces,
    far: [&OwnedFd; 3],
    spared: &[Pid],
    forget: &mut dyn FnMut(),
) -> io::Result<Held> {
    let (control, theirs) = socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if namespaces == Namespaces::None {
        // For the case that the keeper itself is killed: what it held becomes ours.
        set_child_subreaper(Some(getpid()))?;
    }
    let ids = (geteuid().as_raw(), getegid().as_raw());
    match sys::clone(namespaces)? {
        Cloned::Child => {
            forget();
            let stdio = far.map(AsFd::as_fd);
            keeper::run(&keeper::Seat { stdio, control: theirs.as_fd(), namespaces, ids })
        }
        Cloned::Parent(pid, pidfd) => {
            drop(theirs);
            let containment = match namespaces {
                Namespaces::None => Containment::SubReaper,
                Namespaces::Pid | Namespaces::UserAndPid => Containment::PidNamespace,
            };
            let held = Held { pid, pidfd, control, containment };
            match held.report() {
                Ok(Report::Ready) => Ok(held),
                other => {
                    held.kill();
                    held.end(spared);
                    match other {
                        Ok(Report::Failed(_, errno)) => Err(io::Error::from_raw_os_error(errno)),
                        Ok(_) => Err(Errno::PROTO.into()),
                        Err(error) => Err(error),
                    }
                }
            }
        }
    }
}

/// Whether a PID namespace can be had here; for `doctor`. Makes one and ends it.
#[must_use]
pub fn namespace_available() -> bool {
    let choices = [Namespaces::Pid, Namespaces::UserAndPid];
    Keeper::start_in(&choices, &[], &mut || {}).is_ok_and(|keeper| keeper.dismiss(&[]))
}

/// One message to the keeper: its length in four bytes, with the descriptors, then itself.
fn send(control: &OwnedFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let length = u32::try_from(message.len()).ok().filter(|_| message.len() <= plan::MAX_PLAN);
    let length = length.ok_or(Errno::TOOBIG)?.to_le_bytes();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(keeper::MAX_FDS))];
    let mut control_data = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control_data.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(Errno::TOOBIG.into());
    }
    let parts = [IoSlice::new(&length), IoSlice::new(message)];
    let sent = retry_on_intr(|| sendmsg(control, &parts, &mut control_data, SendFlags::NOSIGNAL))?;
    let sent = sent.checked_sub(length.len()).ok_or(Errno::IO)?;
    let mut rest = message.get(sent..).unwrap_or_default();
    while !rest.is_empty() {
        let sent = retry_on_intr(|| rustix::net::send(control, rest, SendFlags::NOSIGNAL))?;
        rest = rest.get(sent..).unwrap_or_default();
    }
    Ok(())
}

impl Held {
    fn report(&self) -> io::Result<Report> {
        if !readable(&self.control, PATIENCE) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let mut bytes = [0; Report::SIZE];
        let count = retry_on_intr(|| rustix::io::read(&self.control, &mut bytes))?;
        if count < Report::SIZE {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Report::decode(bytes).ok_or_else(|| Errno::PROTO.into())
    }

    fn kill(&self) {
        // Fails only where it is gone already.
        pidfd_send_signal(&self.pidfd, Signal::KILL).unwrap_or_default();
    }

    /// Waits for the end, reaps, and makes sure that nothing is left below.
    fn end(&self, spared: &[Pid]) -> Ended {
        let dead = readable(&self.pidfd, END_PATIENCE);
        let reaped = match dead {
            true => waitid(WaitId::PidFd(self.pidfd.as_fd()), WaitIdOptions::EXITED).ok().flatten(),
            false => None,
        };
        let status = reaped.map_or(128 + 9, |s| keeper::status_code(s.exit_status(), s.terminating_signal()));
        // The kernel reaps a PID namespace before its process 1 counts as dead (pid_namespaces(7)).
        let gone = dead && (self.containment == Containment::PidNamespace || tree::end_all(spared));
        Ended { status, gone }
    }
}

impl Instance {
    /// What holds its process tree.
    #[must_use]
    pub fn containment(&self) -> Containment {
        self.held.containment
    }

    /// Process id of the server as this process sees it, or of its keeper where that cannot be read.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let pid = tree::children(self.held.pid).first().copied().unwrap_or(self.held.pid);
        pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Readable when the tree is gone, or with a sub-reaper when its keeper is.
    #[must_use]
    pub fn pidfd(&self) -> &OwnedFd {
        &self.held.pidfd
    }

    /// Sends a signal to the server's process group.
    pub fn signal(&self, signal: i32) {
        let byte = u8::try_from(signal).unwrap_or(0);
        // A keeper that is gone has no group left to signal; the pidfd tells.
        rustix::net::send(&self.held.control, &[byte], SendFlags::DONTWAIT).unwrap_or_default();
    }

    /// Sends a signal to the server's first process, and to no other.
    ///
    /// # Errors
    /// Where the keeper does not take it.
    pub fn signal_first(&self, signal: u8) -> io::Result<()> {
        let byte = signal | keeper::FIRST_ALONE;
        rustix::net::send(&self.held.control, &[byte], SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Kills the tree.
    pub fn kill(&self) {
        self.held.kill();
    }

    /// Waits for the end of a tree that was killed or whose pidfd is readable. The keepers of other trees are
    /// spared where what this one left behind has to be looked for.
    #[must_use]
    pub fn end(&self, spared: &[Pid]) -> Ended {
        self.held.end(spared)
    }

    /// Its keeper.
    #[must_use]
    pub fn keeper(&self) -> Pid {
        self.held.pid
    }
}

fn readable(fd: &OwnedFd, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = rustix::time::Timespec::try_from(left).ok();
        match poll(&mut [PollFd::new(fd, PollFlags::IN)], timeout.as_ref()) {
            Err(Errno::INTR) => {}
            outcome => return matches!(outcome, Ok(count) if count > 0),
        }
    }
}
