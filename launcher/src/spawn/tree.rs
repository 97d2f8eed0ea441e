//! Ends every descendant of this process, where no PID namespace does it. The process is a sub-reaper,
//! so orphans become its children (prctl(2)); killing goes on until the kernel says that none is left.

use std::fs;
use std::io::Read;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, getpid, pidfd_open, pidfd_send_signal, waitid,
};

/// How long to go on before giving up on processes that cannot be killed (another user's, or stuck).
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest children list that is read at once, in bytes; the rest comes in the next round.
const MAX_LIST: u64 = 1 << 20;
/// Generations that one round walks; deeper ones become children when those above are gone.
const MAX_DEPTH: usize = 64;
/// Pause between rounds while killed processes die.
const PAUSE: Duration = Duration::from_millis(2);

/// Kills and reaps until no child is left but those that are spared, which hold what is theirs themselves.
/// Whether that was reached.
#[must_use]
pub fn end_all(spared: &[Pid]) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        kill_below(getpid(), spared, MAX_DEPTH);
        if reap_all(spared) {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(PAUSE);
    }
}

/// Reaps what is dead; whether no other child is left.
fn reap_all(spared: &[Pid]) -> bool {
    let mut left = false;
    for child in children(getpid()).into_iter().filter(|child| !spared.contains(child)) {
        // Each by its number: a spared one's status is for who waits for it.
        match waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::CHILD) => {}
            Ok(None) | Err(_) => left = true,
        }
    }
    // What it left behind has become a child of ours just now.
    !left && children(getpid()).iter().all(|child| spared.contains(child))
}

fn kill_below(parent: Pid, spared: &[Pid], depth: usize) {
    for child in children(parent).into_iter().filter(|child| !spared.contains(child)) {
        // A descriptor first, then the check: the number may have passed to a stranger in between.
        let Ok(held) = pidfd_open(child, PidfdFlags::empty()) else { continue };
        if parent_of(child) != Some(parent.as_raw_nonzero().get()) {
            continue;
        }
        // Stopped first, so that it cannot fork while its own children are being ended.
        let stopped = pidfd_send_signal(&held, Signal::STOP).is_ok();
        if stopped && depth > 0 {
            kill_below(child, &[], depth - 1);
        }
        if pidfd_send_signal(&held, Signal::KILL).is_err() {
            // Gone already, or not ours to kill; the next round sees which.
            continue;
        }
    }
}

/// The children of every thread of a process (proc(5), `/proc/PID/task/TID/children`).
#[must_use]
pub fn children(parent: Pid) -> Vec<Pid> {
    let tasks = format!("/proc/{parent}/task");
    let mut found = Vec::new();
    for task in fs::read_dir(tasks).into_iter().flatten().flatten() {
        let text = read(&task.path().join("children"));
        found.extend(text.split_ascii_whitespace().filter_map(|word| Pid::from_raw(word.parse().ok()?)));
    }
    found
}

pub(super) fn parent_of(pid: Pid) -> Option<i32> {
    parent_in_stat(&read(format!("/proc/{pid}/stat").as_ref()))
}

/// Field 4 of `/proc/PID/stat`; the name before it may hold blanks and brackets itself (proc(5)).
fn parent_in_stat(stat: &str) -> Option<i32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// A small file of proc(5), or nothing where its process has gone.
pub(super) fn read(path: &std::path::Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = fs::File::open(path) {
        // A process that went away in between reads as nothing, which is the truth.
        file.take(MAX_LIST).read_to_end(&mut bytes).unwrap_or_default();
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents() {
        for (stat, want) in [
            ("12 (sh) S 7 12", Some(7)),
            ("12 (a) b (c) Z 1 12 12", Some(1)),
            ("12 () x) S 3", Some(3)),
            ("", None),
            ("12 (sh) S", None),
        ] {
            assert_eq!(parent_in_stat(stat), want, "{stat}");
        }
    }
}
