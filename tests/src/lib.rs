//! The harness: real parts, started on free ports and ended with the test. A part that is missing fails the
//! test; nothing is skipped. It drives the two programs from outside and never links them.
//!
//! What no test here can prove: they run as root, logind is a double, and other people are other user ids that a
//! child of the test took by `setresuid(2)`; nobody signed in, no screen locked and no machine slept.

pub mod accounts;
pub mod aws;
pub mod bao;
pub mod broker;
pub mod eventually;
pub mod fault;
pub mod github;
pub mod http;
pub mod idp;
pub mod leaks;
pub mod logind;
pub mod mcp;
pub mod metadata;
pub mod ministack;
pub mod parts;
pub mod pg;
pub mod pipe;
pub mod process;
pub mod sdk;
pub mod tempdir;
pub mod view;
pub mod world;

pub use eventually::{PATIENCE, eventually};
pub use world::World;

/// How often a test with random moments tries: the specification's count with `tests/run --full`, else fewer.
#[must_use]
pub fn rounds(reduced: usize, full: usize) -> usize {
    if std::env::var_os("E2E_FULL").is_some() { full } else { reduced }
}
