//! `mcp-run unlock`: lets the session mint again.

use super::{Call, Command, status};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command =
    Command { name: "unlock", arguments: "", about: "unlock the session", json: false, run };

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let after = call.broker()?.unlock()?;
    say::answer(&format!("unlocked\n{}", status::left(&after)));
    Ok(0)
}
