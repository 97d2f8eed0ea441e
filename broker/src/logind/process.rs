//! What the kernel says about a process: that it is alive, where it is, when it started. A process id is
//! only believed between two looks at the process's pidfd, so that a number that was given to another process
//! in between is never read as if it were still the first one's.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::cgroup::{self, Scope};
use crate::session::login::{Caller, Leader};

/// `stat` and `status` of a process are well below this.
const MAX_TEXT: u64 = 16 * 1024;

/// The process is not there any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// A process that asks.
pub(super) struct Process {
    pub(super) pid: u32,
    pidfd: Arc<OwnedFd>,
}

impl Process {
    /// Before Linux 6.5 the kernel does not hand out the peer's own pidfd. Then one is opened by number, and
    /// the process must have the user id of the caller: what reuses the number can only be another process of
    /// the same person.
    pub(super) fn of(caller: &Caller, proc: &Path) -> Result<Self, Gone> {
        let pid = caller.pid.filter(|pid| *pid != 0).ok_or(Gone)?;
        if let Some(pidfd) = &caller.pidfd {
            return Ok(Self { pid, pidfd: Arc::clone(pidfd) });
        }
        let process = Self { pid, pidfd: Arc::new(open(pid)?) };
        let uid = process.read(proc, "status", MAX_TEXT).map(|text| effective_uid(&text))?;
        if uid == Some(caller.uid) { Ok(process) } else { Err(Gone) }
    }

    /// Still the process that asked.
    pub(super) fn alive(&self) -> Result<(), Gone> {
        if is_alive(self.pidfd.as_fd()) { Ok(()) } else { Err(Gone) }
    }

    /// Where it is.
    pub(super) fn scope(&self, proc: &Path) -> Result<Scope, Gone> {
        self.read(proc, "cgroup", cgroup::MAX_TEXT).map(|text| cgroup::scope(&text))
    }

    fn read(&self, proc: &Path, file: &str, limit: u64) -> Result<Vec<u8>, Gone> {
        self.alive()?;
        let text = read(proc, self.pid, file, limit);
        self.alive()?;
        Ok(text.unwrap_or_default())
    }
}

/// The process of that number now, with its start time. Whether it is the one that was meant, the caller has
/// to make sure afterwards.
pub(super) fn leader(pid: u32, proc: &Path) -> Result<(Leader, Scope), Gone> {
    let process = Process { pid, pidfd: Arc::new(open(pid)?) };
    let started = process.read(proc, "stat", MAX_TEXT).map(|text| start_time(&text))?.ok_or(Gone)?;
    let scope = process.scope(proc)?;
    let pidfd = Arc::into_inner(process.pidfd).ok_or(Gone)?;
    Ok((Leader { pid, started, pidfd }, scope))
}

/// Whether it has not exited: readable means exited (pidfd_open(2)), and what cannot be asked counts as gone.
pub(super) fn is_alive(pidfd: impl AsFd) -> bool {
    let mut fds = [PollFd::new(&pidfd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })), Ok(0))
}

fn open(pid: u32) -> Result<OwnedFd, Gone> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Gone)?;
    pidfd_open(pid, PidfdFlags::empty()).map_err(|_gone_or_no_pid| Gone)
}

fn read(proc: &Path, pid: u32, file: &str, limit: u64) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    let file = std::fs::File::open(proc.join(pid.to_string()).join(file))?;
    file.take(limit + 1).read_to_end(&mut text)?;
    if u64::try_from(text.len()).is_ok_and(|length| length <= limit) {
        Ok(text)
    } else {
        Err(io::ErrorKind::FileTooLarge.into())
    }
}

/// Field 22 of proc_pid_stat(5). The second one, the command, may hold spaces and parentheses.
fn start_time(stat: &[u8]) -> Option<u64> {
    let text = str::from_utf8(stat.get(stat.iter().rposition(|byte| *byte == b')')? + 1..)?).ok()?;
    text.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

/// The second number of `Uid:` (proc_pid_status(5)).
fn effective_uid(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"Uid:"))?;
    str::from_utf8(line).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking, and needs a process to look at"
)]
mod tests {
    use super::*;

    #[test]
    fn the_start_time_is_found_behind_any_name() {
        let stat = |name: &str| {
            format!(
                "7 ({name}) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 8192 5 18446744073709551615\n"
            )
        };
        for name in ["sshd", "a b", "x) S 1 2 3", ") ) (", "\u{e9}"] {
            assert_eq!(start_time(stat(name).as_bytes()), Some(4711), "{name}");
        }
        let mut raw = stat("x").into_bytes();
        raw[3] = 0xff;
        assert_eq!(start_time(&raw), Some(4711), "a name that is no text");
        for bad in ["", "7 (x", "7 (x)", "7 (x) S 1 2", &stat("x").replace("4711", "-1")] {
            assert_eq!(start_time(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn the_effective_user_id_is_the_second() {
        assert_eq!(effective_uid(b"Name:\tx\nUid:\t1000\t1001\t1002\t1003\n"), Some(1001));
        assert_eq!(effective_uid(b"Name:\tUid:\t1\t2\nGid:\t5\t6\t7\t8\n"), None);
    }

    #[test]
    fn a_process_is_read_only_while_it_is_alive() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let proc = Path::new("/proc");
        let uid = rustix::process::geteuid().as_raw();
        let caller = |uid| Caller { uid, pid: Some(child.id()), pidfd: None };
        let process = Process::of(&caller(uid), proc).unwrap();
        assert!(process.scope(proc).is_ok());
        assert!(Process::of(&caller(uid + 1), proc).is_err(), "of another person");
        let (leader, _) = leader(child.id(), proc).unwrap();
        assert!(leader.started > 0 && is_alive(&leader.pidfd));

        child.kill().unwrap();
        while process.alive().is_ok() {
            std::thread::yield_now();
        }
        // Not reaped yet: its files are still there, and are not believed.
        assert!(proc.join(child.id().to_string()).join("cgroup").exists());
        assert_eq!(process.scope(proc), Err(Gone));
        assert!(Process::of(&Caller { uid, pid: Some(0), pidfd: None }, proc).is_err());
        child.wait().unwrap();
    }
}
