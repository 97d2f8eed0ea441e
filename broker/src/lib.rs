//! `mcp-broker`: authenticates a person's login session and mints short-lived credentials for the MCP
//! servers that an admin approved. Modules in reading order, from the top floor down.
//!
//! `cli` → `app` → `api`, `watch` → `logind` → `session` → `lease` → `provider` → `policy`, `package` → `audit` →
//! `config`, `durable`, `clock`, `fault`.
//! Nothing imports upwards; a test in `tests/` holds that.

pub mod api;
pub mod app;
pub mod audit;
mod cli;
pub mod clock;
pub mod config;
pub mod durable;
pub mod fault;
pub mod harden;
mod inherit;
pub mod lease;
pub mod logind;
pub mod package;
pub mod policy;
pub mod provider;
pub mod session;
pub mod watch;

pub use cli::main;

use mcp_broker_proto::wipe::Wiping;

#[global_allocator]
static ALLOCATOR: Wiping = Wiping;
