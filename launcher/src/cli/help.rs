//! `mcp-run help`: the commands, from the table.

use super::text::columns;
use super::{COMMANDS, Call, Command, suggestion, usage};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command =
    Command { name: "help", arguments: "[COMMAND]", about: "show this", json: false, run };

const USAGE: &str = "\
Launches an approved MCP server with credentials that are minted for this launch alone.

usage: mcp-run [--socket PATH] SERVER [-- ARGS…]
       mcp-run [--socket PATH] COMMAND [--json]

";

const REST: &str = "
options
  --socket PATH  the broker's socket; else MCP_BROKER_SOCKET, the person's own broker, the system's
  --json         answer in JSON (status, servers, doctor)
  --version      show the version

exit codes: the server's own; 128 + n where signal n ended it; 64 usage, 69 broker or provider
unreachable, 75 try again later, 77 refused or not signed in, 78 configuration error
";

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let Some(name) = call.arguments.first() else {
        let rows = COMMANDS.iter().map(|c| vec![format!("  {} {}", c.name, c.arguments), c.about.to_owned()]);
        say::answer(&format!("{USAGE}commands\n{}{REST}", columns(&rows.collect::<Vec<_>>())));
        return Ok(0);
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        let what = format!("there is no command `{name}`");
        return Err(usage(what, format!("{}run `mcp-run help`", suggestion(name))));
    };
    let json = if command.json { " [--json]" } else { "" };
    let space = if command.arguments.is_empty() { "" } else { " " };
    let line = format!("usage: mcp-run [--socket PATH] {}{space}{}{json}\n", command.name, command.arguments);
    say::answer(&format!("{line}{}\n", command.about));
    Ok(0)
}
