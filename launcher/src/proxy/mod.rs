//! The relay between the client, the instances of its server, and the broker. The pure parts first: what a
//! line is, what the conversation owes, how a launch lives; then what moves the bytes.

pub mod backend;
pub mod backoff;
pub mod calls;
pub mod filter;
pub mod heart;
pub mod leaks;
pub mod life;
pub mod lines;
pub mod message;
pub mod outbox;
pub mod port;
pub mod redact;
pub mod relay;
pub mod rule;
pub mod shutdown;
pub mod signals;
pub mod sink;
pub mod source;
pub mod talk;

pub use relay::{Outcome, Relay};
pub use signals::Signals;
