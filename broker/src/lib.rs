//! `mcp-broker`: authenticates a person's login session and mints short-lived credentials for the MCP
//! servers that an admin approved. Modules in reading order, from the top floor down.
//!
//! `cli` → `app` → `api` → `session` → `lease` → `provider` → `policy`, `audit` → `config`, `clock`.
//! Nothing imports upwards; a test in `tests/` holds that.

pub mod cli;
pub mod clock;
pub mod config;
pub mod policy;
pub mod provider;
