//! Whether a process belongs to the tree of a keeper, seen from outside, for those who answer only to it.
//! Whatever happens in the tree meanwhile, a stranger never counts as one of it; one of it may be missed once.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, RawDir, openat, readlinkat};
use rustix::io::Errno;
use rustix::net::sockopt::socket_peercred;
use rustix::process::{Pid, PidfdFlags, geteuid, pidfd_open};
use rustix::time::Timespec;

use super::sys;
use super::tree::{children, parent_of};

/// Generations between a keeper and one of its tree at most.
const MAX_DEPTH: usize = 64;
/// Processes of a tree that are looked at for one question.
const MAX_PROCESSES: usize = 1024;
/// Descriptors of one process that are looked at.
const MAX_FDS: usize = 8192;
/// Bytes of a list of descriptors that are read at once.
const LISTING: usize = 4096;
/// Room for what a descriptor leads to, in bytes; a socket needs less.
const TARGET: usize = 64;
/// How often to look again: a parent that ends hides its children for a moment.
const ATTEMPTS: usize = 3;

/// The tree of a keeper.
pub struct Kin {
    keeper: Pid,
    /// Who held a socket last: it probably holds the next one. Its directory in proc(5), which names no other process
    /// that gets its number later.
    last: Option<OwnedFd>,
}

impl Kin {
    /// Below a keeper that is not reaped as long as this is asked.
    #[must_use]
    pub fn of(keeper: Pid) -> Self {
        Self { keeper, last: None }
    }

    /// Whether a process of the tree connected this unix socket.
    #[must_use]
    pub fn connected(&self, stream: &OwnedFd) -> bool {
        let Ok(peer) = socket_peercred(stream) else { return false };
        if peer.uid != geteuid() {
            return false;
        }
        let held = match sys::peer_pidfd(stream.as_fd()) {
            // Before Linux 6.5 the number itself is what there is.
            Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => {
                pidfd_open(peer.pid, PidfdFlags::empty()).ok()
            }
            held => held.ok(),
        };
        // Asked last: while it lives the number that was looked up was its own.
        held.is_some_and(|held| self.has(peer.pid) && lives(&held))
    }

    /// Whether a process of the tree holds the socket with this inode number.
    #[must_use]
    pub fn holds(&mut self, inode: u64) -> bool {
        if self.last.as_ref().is_some_and(|process| has_socket(process, inode)) {
            return true;
        }
        self.last = (0..ATTEMPTS).find_map(|_| self.find(inode));
        self.last.is_some()
    }

    /// The process of the tree that holds the socket.
    fn find(&self, inode: u64) -> Option<OwnedFd> {
        self.find_below(inode).or_else(|| {
            // A `/proc` with `hidepid` hides the keeper, as it cannot be dumped (proc(5)), but not its server.
            children(self.keeper).is_empty().then(|| self.find_anywhere(inode))?
        })
    }

    /// The same, from the keeper down.
    fn find_below(&self, inode: u64) -> Option<OwnedFd> {
        let (mut left, mut waiting) = (MAX_PROCESSES, vec![(self.keeper, 0)]);
        while let Some((parent, depth)) = waiting.pop() {
            for child in children(parent).into_iter().take(left) {
                left -= 1;
                if let Some(process) = self.holder(child, inode) {
                    return Some(process);
                }
                if depth < MAX_DEPTH {
                    waiting.push((child, depth + 1));
                }
            }
        }
        None
    }

    /// The same, among all processes that can be seen.
    fn find_anywhere(&self, inode: u64) -> Option<OwnedFd> {
        let all = std::fs::read_dir("/proc")
            .ok()?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        let mut all = all.filter_map(Pid::from_raw).take(MAX_PROCESSES);
        all.find_map(|pid| self.holder(pid, inode))
    }

    /// The process with this number, where it holds the socket and is of the tree.
    fn holder(&self, pid: Pid, inode: u64) -> Option<OwnedFd> {
        let process = process(pid)?;
        let lives = || {
            // The number was its own while its parents were looked up, if it still lives.
            openat(&process, "stat", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .is_ok_and(|stat| rustix::io::read(&stat, &mut [0; 1]).is_ok())
        };
        (has_socket(&process, inode) && self.has(pid) && lives()).then_some(process)
    }

    /// Whether the process with this number is below the keeper.
    fn has(&self, pid: Pid) -> bool {
        (0..ATTEMPTS).any(|_| {
            let ancestors = self.ancestors(pid);
            // Twice the same: every one of them lived all the time between, so no number had passed to a stranger.
            ancestors.is_some() && self.ancestors(pid) == ancestors
        })
    }

    /// From a process up to the keeper, where that leads to it.
    fn ancestors(&self, pid: Pid) -> Option<Vec<Pid>> {
        let (mut line, mut at) = (Vec::new(), pid);
        while line.len() < MAX_DEPTH {
            at = parent_of(at).and_then(Pid::from_raw)?;
            line.push(at);
            if at == self.keeper {
                return Some(line);
            }
        }
        None
    }
}

fn process(pid: Pid) -> Option<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()).ok()
}

/// Whether a process holds the socket with this inode number (proc(5), `/proc/PID/fd`).
fn has_socket(process: &OwnedFd, inode: u64) -> bool {
    let want = format!("socket:[{inode}]");
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(fds) = openat(process, "fd", flags, Mode::empty()) else { return false };
    let (mut room, mut space) = ([MaybeUninit::uninit(); LISTING], Vec::with_capacity(TARGET));
    let mut list = RawDir::new(&fds, &mut room);
    for _ in 0..MAX_FDS {
        let Some(Ok(entry)) = list.next() else { return false };
        space.clear();
        if let Ok(target) = readlinkat(&fds, entry.file_name(), space) {
            if target.to_bytes() == want.as_bytes() {
                return true;
            }
            space = target.into_bytes();
        } else {
            space = Vec::with_capacity(TARGET);
        }
    }
    false
}

fn lives(pidfd: &OwnedFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        match poll(&mut [PollFd::new(pidfd, PollFlags::IN)], Some(&now)) {
            Err(Errno::INTR) => {}
            // Readable means that it has ended (pidfd_open(2)).
            outcome => return outcome == Ok(0),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use std::io::Read;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::process::{Command, Stdio};

    use rustix::fs::fstat;
    use rustix::process::getpid;

    use super::*;

    fn socket() -> (UnixStream, UnixStream, u64) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let inode = fstat(&theirs).unwrap().st_ino;
        (ours, theirs, inode)
    }

    fn shell() -> Command {
        Command::new("/bin/sh")
    }

    /// A grandchild that holds a socket as its standard output, below a child of this process.
    fn tree(socket: UnixStream) -> (std::process::Child, UnixStream) {
        let (mut heard, says) = UnixStream::pair().unwrap();
        let child = shell()
            .args(["-c", "(echo up >&2; exec sleep 60) & wait"])
            .stdin(Stdio::null())
            .stdout(std::os::fd::OwnedFd::from(socket))
            .stderr(std::os::fd::OwnedFd::from(says))
            .spawn()
            .unwrap();
        heard.read_exact(&mut [0; 3]).unwrap();
        (child, heard)
    }

    fn pid(child: &std::process::Child) -> Pid {
        Pid::from_raw(child.id().try_into().unwrap()).unwrap()
    }

    #[test]
    fn a_socket_belongs_to_the_tree_that_holds_it() {
        let (_ours, theirs, inode) = socket();
        let (_other, stranger, foreign) = socket();
        let (mut child, _heard) = tree(theirs);
        let mut kin = Kin::of(pid(&child));
        assert!(kin.holds(inode) && kin.holds(inode), "also the second time, by who held it last");
        assert!(!kin.holds(foreign), "ours, not the tree's");
        assert!(!kin.holds(0));
        assert!(Kin::of(getpid()).holds(inode), "a tree above has it too");
        assert!(kin.find_anywhere(inode).is_some() && kin.find_anywhere(foreign).is_none());
        let (mut other, _heard_other) = tree(socket().1);
        assert!(Kin::of(pid(&other)).find_anywhere(inode).is_none(), "it is in another tree");
        for one in children(pid(&other)) {
            rustix::process::kill_process(one, rustix::process::Signal::KILL).unwrap();
        }
        other.kill().unwrap();
        other.wait().unwrap();
        drop(stranger);
        let below = children(pid(&child));
        for one in &below {
            rustix::process::kill_process(*one, rustix::process::Signal::KILL).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!kin.holds(inode), "gone");
    }

    #[test]
    fn who_connected_a_unix_socket() {
        let path = std::env::temp_dir().join(format!("kin-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let _ours = UnixStream::connect(&path).unwrap();
        let accepted: OwnedFd = listener.accept().unwrap().0.into();
        let (ours, parent) = (getpid(), rustix::process::getppid().unwrap());
        assert!(Kin::of(parent).connected(&accepted));
        assert!(!Kin::of(ours).connected(&accepted), "the keeper is not of its own tree");
        let mut other = shell().args(["-c", "sleep 60"]).spawn().unwrap();
        assert!(!Kin::of(pid(&other)).connected(&accepted));
        other.kill().unwrap();
        other.wait().unwrap();
        std::fs::remove_file(&path).unwrap();
    }
}
