//! `mcp-run servers`: what this person may launch, and why not the others.

use super::text::{columns, heading, json};
use super::{Call, Command};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "servers",
    arguments: "",
    about: "list the servers that you may launch, and why not the others",
    json: true,
    run,
};

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let servers = call.broker()?.servers()?;
    if call.json {
        return json(&servers);
    }
    if servers.is_empty() {
        say::answer("no server is defined\n");
        return Ok(0);
    }
    let mut rows = vec![heading(&["SERVER", "MAY LAUNCH", "TIER", "OWNER", "DESCRIPTION"])];
    for server in servers {
        let may = match server.allowed {
            true => "yes".to_owned(),
            false => format!("no: {}", server.reasons.join("; ")),
        };
        rows.push(vec![server.name.to_string(), may, server.tier, server.owner, server.description]);
    }
    say::answer(&columns(&rows));
    Ok(0)
}
