//! `serve`: the daemon.

use std::io::Write;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;

use super::common::LOG_VARIABLE;
use super::{Common, Report};
use crate::app::{App, Options, StartError, StateDirError};

/// Log levels that hold unless `MCP_BROKER_LOG` says otherwise. The HTTP and Vault libraries are off: at
/// some levels they log parts of what they send.
const QUIET: &str = "vaultrs=off,rustify=off,hyper=off,hyper_util=off,reqwest=off,rustls=off,h2=off";

/// Arguments of `serve`.
#[derive(Debug, clap::Args)]
#[command(after_help = LOG_HELP)]
pub(super) struct Args {}

/// The variable, for `--help`.
const LOG_HELP: &str = "MCP_BROKER_LOG sets what is logged to standard error: a level (error, warn, info, debug, trace), \
    or levels of modules, such as `info,mcp_broker::lease=debug`. SIGHUP reads the configuration again. \
    Without --user or --mode it is the machine's broker, also where another account than root starts it.";

/// Runs until a signal asks to stop.
pub(super) fn run(common: &Common, weaknesses: Vec<String>) -> Report {
    start_log(common.log_filter().as_deref());
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
        StartError::Provider(_) | StartError::Listen(_) | StartError::State(StateDirError::InUse { .. }) => {
            78
        }
        StartError::State(_) | StartError::File { .. } | StartError::Signals(_) => 69,
    };
    Report::failure(code, &error.to_string(), &error.hint())
}

fn start_log(log: Option<&str>) {
    let (filter, understood) = filter(log);
    let writer = || std::io::stderr();
    // Standard error may be a full disk or a closed pipe. The broker works on; the subscriber's own way to
    // tell of it would be standard error again, and a panic.
    let built = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(false)
        .log_internal_errors(false)
        .finish();
    // Only a second `serve` in one process could have set one already.
    drop(tracing::subscriber::set_global_default(Arc::new(built)));
    if !understood {
        tracing::warn!(
            "{LOG_VARIABLE} is not a filter and is left aside; write a level such as `debug`, or `info,mcp_broker::lease=debug`"
        );
    }
}

/// The filter, and whether what was asked for could be understood; else it is `info`.
fn filter(log: Option<&str>) -> (EnvFilter, bool) {
    let asked = log.filter(|asked| !asked.trim().is_empty()).unwrap_or("info");
    let built = EnvFilter::try_new(format!("{asked},{QUIET}"));
    match built {
        Ok(filter) if asked.split(',').all(names_a_level) => (filter, true),
        _ => (EnvFilter::new(format!("info,{QUIET}")), false),
    }
}

/// A part without a level is taken for the name of a module, of which everything is logged and of all others
/// nothing: what a mistyped level would lead to.
fn names_a_level(part: &str) -> bool {
    let part = part.trim();
    let level = part.rsplit_once('=').map_or(part, |(_, level)| level);
    // The empty word would be read as `error`.
    !level.is_empty() && level.parse::<tracing_subscriber::filter::LevelFilter>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        for good in ["info", "DEBUG", "off", "info,mcp_broker::lease=debug", "warn,mcp_broker=trace"] {
            assert!(filter(Some(good)).1, "{good}");
        }
        assert!(filter(None).1);
        assert!(filter(Some("")).1, "an empty variable counts as none");
        for bad in ["debg", "info,,", "mcp_broker=loud", "info,lease", "a=b=c"] {
            assert!(!filter(Some(bad)).1, "{bad}");
        }
    }

    /// Whatever another broker holds, the answer is the same: this one's configuration must be another.
    #[test]
    fn another_broker_is_a_matter_of_configuration() {
        let path = std::path::PathBuf::from("/s");
        let state = StartError::State(StateDirError::InUse { path: path.clone() });
        let socket = StartError::Listen(crate::api::ListenError::Taken { path });
        for error in [state, socket] {
            let report = refused(&error);
            assert_eq!(report.code, 78);
            assert!(report.err.contains("another broker"), "{}", report.err);
        }
    }
}
