//! What goes over the socket between `mcp-run` and `mcp-broker`: names, messages, problems, paths.
//! No I/O, no async, no clock: both programs and the tests read this crate to know the contract.
#![deny(unsafe_code)]
#![warn(missing_docs)]

pub mod approval;
pub mod call;
pub mod channel;
pub mod content;
pub mod launch;
pub mod names;
pub mod paths;
pub mod pattern;
pub mod plan;
pub mod problem;
pub mod secret;
pub mod session;
pub mod template;
#[expect(unsafe_code, reason = "an allocator cannot be written without; the file does nothing else")]
pub mod wipe;

pub use secret::Secret;

/// Revision of the launch channel. A broker refuses a launcher of another revision with
/// [`problem::ErrorCode::ProtocolVersion`]; golden files in `tests/` pin every message of a revision.
pub const PROTOCOL: u32 = 4;

/// The longest frame that either side of a launch channel accepts, in bytes, line feed included.
pub const MAX_FRAME: usize = 1 << 20;

/// How often each side of a launch channel sends a [beat](channel::ToBroker::Beat), in seconds.
pub const BEAT_SECS: u64 = 5;

/// After so many seconds without a frame the other side of a launch channel counts as gone.
pub const SILENCE_SECS: u64 = 15;

/// For so long, in seconds, a program may keep a credential that can be revoked and that it was handed out while it
/// runs, or until the credential's end where that comes sooner; then it has to ask again.
pub const KEEP_SECS: u64 = 45;

/// A credential that can be revoked lives on for so long, in seconds, after another one has taken its place, unless it
/// ends sooner: until nobody may keep it any more, and a little for the requests that were made with it last.
pub const GRACE_SECS: u64 = KEEP_SECS + 15;

/// How long a launcher waits for the decision on a call, in seconds; then the call fails.
pub const DECISION_SECS: u64 = 1;

/// How long a person has to confirm a call, in seconds; no answer is a no.
pub const CONFIRM_SECS: u64 = 45;

/// The longest arguments that are sent to the broker whole, in bytes of JSON.
pub const MAX_AUDITED_ARGUMENTS: usize = 64 << 10;

/// The most tools that a launcher reports as changed.
pub const MAX_CHANGED: usize = 256;

/// The longest record of an approval, in bytes of JSON.
pub const MAX_RECORD: usize = 512 << 10;
