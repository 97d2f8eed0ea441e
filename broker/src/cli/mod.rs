//! The command line: one file a command, one line each here. Commands answer with a [`Report`]; this prints it.

mod admin;
mod alive;
mod approve;
mod audit;
mod check;
mod common;
mod completions;
mod explain;
mod exposure;
mod jwks;
mod machine;
mod packages;
mod report;
mod revoke;
mod schema;
mod secret;
mod serve;
mod table;
mod usage;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use common::{Common, Mine};
use report::Report;

use crate::app::readers;

/// Just-in-time credentials for local MCP servers: the broker and its admin commands.
#[derive(Debug, Parser)]
#[command(name = "mcp-broker", bin_name = "mcp-broker", version, after_help = common::WHICH_BROKER)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker until a signal ends it; SIGHUP reads the configuration again
    Serve(Mine<serve::Args>),
    /// Parse and check the whole configuration
    Check(Mine<NoArgs>),
    /// Show a decision with each reason, without minting anything
    Explain(explain::Args),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print the public keys of a provider that signs tokens (RFC 7517)
    Jwks(Mine<jwks::Args>),
    /// Change the sealed provider's store; values are read from standard input only
    Secret(Mine<secret::SecretArgs>),
    /// List the sessions: locked or not and why, and what brings them back
    Sessions(Mine<alive::Args>),
    /// List the launches: running, idle or parked
    Launches(Mine<alive::Args>),
    /// List the credentials whose end is not verified, and until when each can live
    Leases(Mine<alive::Args>),
    /// End launches or sessions and revoke their credentials
    Revoke(revoke::Args),
    /// Try a server in throw-away runs, show what it shows, and have that pinned
    Approve(Mine<approve::Args>),
    /// List what is approved, and whether it is still in force
    Packages(Mine<packages::Args>),
    /// Read or check the audit log
    Audit(Mine<audit::Args>),
    /// Print a completion script for a shell
    Completions(completions::Args),
}

/// A command that takes nothing of its own.
#[derive(Debug, clap::Args)]
struct NoArgs {}

/// The whole program.
pub fn main() -> ExitCode {
    let weaknesses = crate::harden::harden();
    install_crypto();
    let words: Vec<String> =
        std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::report(&error, &words).print(),
    };
    run(cli.command, cli.common.remember(), weaknesses).unwrap_or_else(|report| report).print()
}

/// # Errors
/// The report on options that contradict each other.
fn run(command: Command, common: Common, weaknesses: Vec<String>) -> Result<Report, Report> {
    Ok(match command {
        // Alone it means the machine's: systemd starts it as an account that is not root.
        Command::Serve(args) => serve::run(&common.with(&args)?, weaknesses),
        Command::Check(args) => offline(&common.with(&args)?.of_account(), |dir, common| {
            check::run(dir, common.mode(), &common.places(), &readers(), common.options())
        }),
        Command::Explain(args) => offline(&common.of_account(), |dir, common| {
            explain::run(dir, common.mode(), &args, &common.places(), &readers(), &explain::OfMachine)
        }),
        Command::Schema => schema::run(&readers()),
        Command::Jwks(args) => offline(&common.with(&args)?.of_account(), |dir, common| {
            jwks::run(dir, common.mode(), &common.places(), &readers(), &args.rest)
        }),
        Command::Secret(args) => secret::command(&common.with(&args)?.of_account(), args.rest),
        Command::Sessions(args) => alive::sessions(&common.with(&args)?.of_account(), &args.rest),
        Command::Launches(args) => alive::launches(&common.with(&args)?.of_account(), &args.rest),
        Command::Leases(args) => alive::leases(&common.with(&args)?.of_account(), &args.rest),
        Command::Revoke(args) => revoke::run(&common.of_account(), args),
        Command::Approve(args) => approve::run(&common.with(&args)?.of_account(), &args.rest),
        Command::Packages(args) => packages::run(&common.with(&args)?.of_account(), &args.rest),
        Command::Audit(args) => audit::run(&common.with(&args)?.of_account(), args.rest),
        Command::Completions(args) => completions::run(&args, <Cli as clap::CommandFactory>::command()),
    })
}

fn offline(common: &Common, command: impl FnOnce(&std::path::Path, &Common) -> Report) -> Report {
    match common.config_dir() {
        Ok(dir) => command(&dir, common),
        Err(report) => report,
    }
}

/// One crypto stack for everything in the tree.
fn install_crypto() {
    // The first call in the process: nothing can have installed another one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    if jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default().is_err() {
        tracing::debug!("the crypto provider was installed before");
    }
}
