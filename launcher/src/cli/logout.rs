//! `mcp-run logout`: ends the session; every server of it is killed, every credential revoked.

use super::{Call, Command, status};
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
    let after = call.broker()?.logout()?;
    say::answer(&format!("logged out\n{}", status::left(&after)));
    Ok(0)
}
