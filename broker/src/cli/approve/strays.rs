//! What a trial's processes leave behind: a process that left its group becomes this one's child when its parent
//! ends (prctl(2), `PR_SET_CHILD_SUBREAPER`), and is killed at the end.

use std::time::Duration;

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

/// So long it is tried: each kill can make new children of this process.
const PATIENCE: Duration = Duration::from_secs(3);

/// Makes this process the parent of whatever its children leave behind.
pub(super) fn adopt() {
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        tracing::warn!(%error, "processes that a server leaves behind cannot be found");
    }
}

/// On the clock that nobody can set.
fn now() -> Duration {
    crate::clock::Clock::monotonic(&crate::clock::SystemClock)
}

/// Kills every child of this process, again and again until there is none. Nothing that is still wanted may run.
pub(super) fn end_all() {
    let begun = now();
    while now().saturating_sub(begun) < PATIENCE {
        for child in children() {
            kill_process(child, Signal::KILL).unwrap_or_default();
        }
        match wait(WaitOptions::NOHANG) {
            // No child is left.
            Err(_none) => return,
            Ok(Some(_reaped)) => {}
            Ok(None) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
    tracing::warn!("processes of a trial are left that could not be ended");
}

/// The children of this process, as proc(5) tells.
fn children() -> Vec<Pid> {
    let me = getpid().as_raw_nonzero().get().to_string();
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let ours = processes.flatten().filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse::<i32>().ok()?;
        let stat = std::fs::read_to_string(entry.path().join("stat")).ok()?;
        // The name in brackets may hold anything: what follows its last bracket is state and parent.
        let parent = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?;
        (parent == me).then(|| Pid::from_raw(pid)).flatten()
    });
    ours.collect()
}
