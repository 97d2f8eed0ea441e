//! `mcp-run`: the person's command line, and the launcher of one approved MCP server.
//! Modules in reading order; `run` tells the story of a launch on one screen.
//!
//! One thread, no async runtime: the program clones itself to hold the server's process tree, which
//! only a single-threaded process may do safely, and it starts in under a millisecond when it is static.
//! A second thread lives only while a lost broker is looked for, when nothing can be cloned.
#![deny(unsafe_code)]

use std::process::ExitCode;

use mcp_broker_proto::wipe::Wiping;

pub mod cli;
pub mod client;
pub mod desk;
pub mod environment;
pub mod failure;
pub mod harden;
pub mod inject;
pub mod proxy;
pub mod run;
pub mod say;
pub mod spawn;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

/// The whole program: arguments in, exit code out.
#[must_use]
pub fn main() -> ExitCode {
    match cli::run(std::env::args_os().skip(1), &environment::Environment::of_process()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            say::failure(&failure);
            ExitCode::from(failure.exit)
        }
    }
}
