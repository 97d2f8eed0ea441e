//! `mcp-run logout`: ends the session; every server of it is killed, every credential revoked.

use super::outcome::{Before, of_end};
use super::{Call, Command};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "logout",
    arguments: "",
    about: "end the session, its servers and their credentials",
    json: false,
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let broker = call.broker()?;
    let before = Before::see(&broker);
    say::answer(&of_end("logged out", &before, &broker.logout()?));
    Ok(0)
}
