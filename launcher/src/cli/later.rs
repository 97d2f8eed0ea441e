//! Commands whose names are taken but that are not built yet: they say so instead of launching a server.

use super::{Call, Command, usage};
use crate::failure::Failure;

const fn later(
    name: &'static str,
    about: &'static str,
    run: fn(&Call<'_>) -> Result<u8, Failure>,
) -> Command {
    Command { name, arguments: "…", about, json: true, run }
}

/// `scan`.
pub(super) const SCAN: Command =
    later("scan", "find static secrets in client files (not built yet)", |_| not_built("scan"));
/// `migrate`.
pub(super) const MIGRATE: Command =
    later("migrate", "move static secrets into a provider (not built yet)", |_| not_built("migrate"));

fn not_built(name: &str) -> Result<u8, Failure> {
    Err(usage(format!("`{name}` is not built yet"), "run `mcp-run help` for what is"))
}
