//! Makes the launcher itself hard to read out: first thing in a launch, before any secret exists.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

use crate::failure::Failure;

/// No core file, and no debugger of the same user on this process or on its keeper, which inherits both.
/// The server inherits the core limit; whether it can be dumped is its own affair after `execve`.
///
/// # Errors
/// Where the kernel refuses; then no launch is made.
pub fn now() -> Result<(), Failure> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(|e| Failure::system("switch core files off", e))?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(|e| Failure::system("protect the memory of mcp-run", e))
}
