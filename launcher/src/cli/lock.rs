//! `mcp-run lock`: ends the servers and their credentials now; nothing is minted until it is unlocked. What
//! becomes of the launches is the configuration's to say (`on_lock`).

use super::outcome::{Before, of_lock};
use super::{Call, Command};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "lock",
    arguments: "",
    about: "end the servers and credentials of the session until it is unlocked",
    json: false,
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let broker = call.broker()?;
    let before = Before::see(&broker);
    say::answer(&of_lock(&before, &broker.lock()?));
    Ok(0)
}
