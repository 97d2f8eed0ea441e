//! `serve`: the daemon.

use std::io::Write;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use super::{Common, Report};
use crate::app::{App, Options, StartError};

/// Log levels that hold unless `MCP_BROKER_LOG` says otherwise. The HTTP and Vault libraries are off: at
/// some levels they log parts of what they send.
const QUIET: &str = "vaultrs=off,rustify=off,hyper=off,hyper_util=off,reqwest=off,rustls=off,h2=off";

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {}

/// Runs until a signal asks to stop.
pub(super) fn run(common: &Common, weaknesses: Vec<String>) -> Report {
    start_log(common.log_filter());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            return Report::failure(69, &format!("cannot start: {error}"), "see the limits of this account");
        }
    };
    runtime.block_on(serve(common, weaknesses))
}

async fn serve(common: &Common, weaknesses: Vec<String>) -> Report {
    let config_dir = match common.config_dir() {
        Ok(dir) => dir,
        Err(report) => return report,
    };
    let (mode, places) = (common.mode(), common.places());
    let app = match App::start(Options { mode, config_dir, places, weaknesses }).await {
        Ok(app) => app,
        Err(error) => return refused(&error),
    };
    for warning in app.warnings() {
        tracing::warn!("{warning}");
    }
    let ready = app.ready_line();
    // The one line on standard output; whoever started the broker may have closed it.
    drop(writeln!(std::io::stdout(), "{ready}"));
    match app.run().await {
        0 => Report::success(String::new()),
        pending => {
            let what = format!("stopped with {pending} credentials whose end is not verified yet");
            Report::failure(75, &what, "start the broker again: it goes on with them")
        }
    }
}

fn refused(error: &StartError) -> Report {
    let code = match error {
        StartError::Config(found) => return Report::refused_configuration(found),
        StartError::Provider(_) | StartError::Listen(_) => 78,
        StartError::State(_) | StartError::File { .. } | StartError::Signals(_) => 69,
    };
    Report::failure(code, &error.to_string(), &error.hint())
}

fn start_log(log: Option<String>) {
    let filter = format!("{},{QUIET}", log.as_deref().unwrap_or("info"));
    let filter =
        EnvFilter::try_new(&filter).unwrap_or_else(|_malformed| EnvFilter::new(format!("info,{QUIET}")));
    let writer = || std::io::stderr();
    let built =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false).finish();
    // Only a second `serve` in one process could have set one already.
    drop(tracing::subscriber::set_global_default(Arc::new(built)));
}
