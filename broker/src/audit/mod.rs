//! The audit log: one JSON object a line, each with the hash of the line before it, from a closed set of
//! events. Cannot name a secret: no event holds one, and this module does not know the type.
//! It blocks minting when it cannot be written, and never blocks an end.

mod call;
mod event;
mod key;
mod log;
mod read;

pub use call::{Arguments, KeyedDigest, PlainDigest, ToolName};
pub use event::{Answer, ByWhom, Event, Evidence};
pub use log::AuditLog;
#[doc(hidden)]
pub use log::encoded;
pub use read::{Line, Shape, Verdict, lines, verify};

/// Name of the log in the state directory.
pub const FILE_NAME: &str = "audit.jsonl";
