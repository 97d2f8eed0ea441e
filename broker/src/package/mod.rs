//! Approvals: what a server showed when an admin approved it, kept in the state directory and used only while the
//! definition in force is the one that was tried. Starts no server and decides on nobody: it keeps and compares.

mod check;
mod digest;
mod files;
mod look;
mod store;

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]
mod tests;

pub use check::{Flaw, ToolDigests};
pub use digest::{canonical, definition_digest, tool_digest};
pub use look::{Kept, look};
pub use store::{Approvals, Standing};

/// Name of the directory of records in the state directory.
pub const DIRECTORY: &str = "approvals";
