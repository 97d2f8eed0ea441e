//! `mcp-run lock`: ends the servers and their credentials now; nothing is minted until it is unlocked.

use super::{Call, Command, status};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command =
    Command { name: "lock", arguments: "", about: "lock the session and end its servers", json: false, run };

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let after = call.broker()?.lock()?;
    say::answer(&format!("locked\n{}", status::left(&after)));
    Ok(0)
}
