//! The command line: one file a command, one line each here. Commands answer with a [`Report`]; this prints it.

mod admin;
mod alive;
mod audit;
mod check;
mod common;
mod explain;
mod report;
mod revoke;
mod schema;
mod secret;
mod serve;
mod table;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use common::{Common, Mine};
use report::Report;

use crate::app::readers;
use crate::session::sign_in::os;

/// Just-in-time credentials for local MCP servers: the broker and its admin commands.
#[derive(Debug, Parser)]
#[command(name = "mcp-broker", version, disable_help_subcommand = true)]
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
    /// Change the sealed provider's store; values are read from standard input only
    Secret(Mine<secret::SecretArgs>),
    /// List what sessions there are
    Sessions(Mine<alive::Args>),
    /// List what runs
    Launches(Mine<alive::Args>),
    /// List the credentials that are not settled
    Leases(Mine<alive::Args>),
    /// End launches or sessions and revoke their credentials
    Revoke(revoke::Args),
    /// Read or check the audit log
    Audit(Mine<audit::Args>),
}

/// A command that takes nothing of its own.
#[derive(Debug, clap::Args)]
struct NoArgs {}

/// The whole program.
pub fn main() -> ExitCode {
    let weaknesses = crate::harden::harden();
    install_crypto();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error).print(),
    };
    run(cli.command, cli.common, weaknesses).print()
}

fn run(command: Command, common: Common, weaknesses: Vec<String>) -> Report {
    match command {
        Command::Serve(args) => serve::run(&common.with(&args), weaknesses),
        Command::Check(args) => offline(&common.with(&args), |dir, common| {
            check::run(dir, common.mode(), &common.places(), &readers())
        }),
        Command::Explain(args) => offline(&common.of_account(), |dir, common| {
            explain::run(dir, common.mode(), &args, &common.places(), &readers(), os::groups_of_account)
        }),
        Command::Schema => schema::run(&readers()),
        Command::Secret(args) => secret::command(common.with(&args), args.rest),
        Command::Sessions(args) => alive::sessions(&common.admin(&args), &args.rest),
        Command::Launches(args) => alive::launches(&common.admin(&args), &args.rest),
        Command::Leases(args) => alive::leases(&common.admin(&args), &args.rest),
        Command::Revoke(args) => revoke::run(&common.of_account(), args),
        Command::Audit(args) => audit::run(&common.admin(&args), args.rest),
    }
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

fn usage(error: &clap::Error) -> Report {
    let text = error.render().to_string();
    match error.kind() {
        clap::error::ErrorKind::DisplayHelp | clap::error::ErrorKind::DisplayVersion => Report::success(text),
        _ => {
            let text = text.strip_prefix("error: ").unwrap_or(&text);
            Report { out: String::new(), err: format!("mcp-broker: {text}"), code: 64 }
        }
    }
}
