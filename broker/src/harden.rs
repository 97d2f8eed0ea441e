//! The first thing that the broker does: nobody may read its memory, and nothing that it writes is readable
//! by others. What cannot be had is a warning, since none of it is what keeps a promise by itself.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

/// Hardens the process; answers with what could not be had, for people.
#[must_use]
pub fn harden() -> Vec<String> {
    let mut missing = Vec::new();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    // No core, no ptrace and no /proc/PID/mem for the same account (prctl(2), PR_SET_DUMPABLE).
    if set_dumpable_behavior(DumpableBehavior::NotDumpable).is_err() {
        missing.push("the broker's memory can be read by other programs of its account".to_owned());
    }
    if setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).is_err() {
        missing.push("core dumps could not be switched off".to_owned());
    }
    // Each launch holds descriptors, and revocation needs some too.
    let files = getrlimit(Resource::Nofile);
    if setrlimit(Resource::Nofile, Rlimit { current: files.maximum, maximum: files.maximum }).is_err() {
        missing.push("the limit of open files could not be raised".to_owned());
    }
    // Under a small limit later allocations would fail instead; then memory may be swapped out.
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let locked = unlimited
        && mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT).is_ok();
    if !locked {
        missing.push("memory is not locked and may be swapped out: set LimitMEMLOCK=infinity".to_owned());
    }
    missing
}
