//! `mcp-run unlock`: lets the session mint again, where that is enough to undo what locked it.

use super::outcome::of_unlock;
use super::{Call, Command};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "unlock",
    arguments: "",
    about: "unlock the session after `mcp-run lock` or sleep",
    json: false,
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    say::answer(&of_unlock(&call.broker()?.unlock()?)?);
    Ok(0)
}
