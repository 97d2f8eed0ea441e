//! `revoke`: the kill switch. Exit code 0 only when every end was verified or cannot be had by nature; 75
//! when some are still being tried.

use hyper::Method;
use mcp_broker_proto::names::{LaunchId, ServerName, SessionId};
use mcp_broker_proto::paths;
use mcp_broker_proto::session::{RevokeReport, RevokeRequest};

use super::{Common, Report, admin, alive};

/// Arguments of `revoke`: exactly one target.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Target {
    /// End one launch
    #[arg(long, value_name = "ID")]
    launch: Option<LaunchId>,
    /// End one session with all its launches
    #[arg(long, value_name = "ID")]
    session: Option<SessionId>,
    /// End the session of an account
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// End every launch of a server
    #[arg(long, value_name = "NAME")]
    server: Option<ServerName>,
    /// End everything
    #[arg(long)]
    all: bool,
}

/// `revoke`.
pub(super) fn run(common: &Common, args: Args) -> Report {
    let json = args.json;
    let request = match args.target {
        Target { launch: Some(id), .. } => RevokeRequest::Launch(id),
        Target { session: Some(id), .. } => RevokeRequest::Session(id),
        Target { user: Some(user), .. } => RevokeRequest::User(user),
        Target { server: Some(server), .. } => RevokeRequest::Server(server),
        Target { .. } => RevokeRequest::All,
    };
    // Serialising these types into memory cannot fail.
    let body = serde_json::to_vec(&request).unwrap_or_default();
    match admin::ask::<RevokeReport>(common, Method::POST, paths::ADMIN_REVOKE, body) {
        Ok(report) if json => Report { code: code(&report), ..Report::json(&report) },
        Ok(report) => Report { code: code(&report), ..Report::success(text(&report)) },
        Err(report) => report,
    }
}

fn code(report: &RevokeReport) -> u8 {
    let done = report.pending.is_empty() && report.still_running == 0 && report.unlisted_pending == 0;
    if done { 0 } else { 75 }
}

fn text(report: &RevokeReport) -> String {
    let mut text = format!(
        "launches ended: {}\ncredentials revoked and verified: {}\n",
        report.launches, report.verified
    );
    if report.not_revocable > 0 {
        text.push_str(&format!("static values withheld, not revocable: {}\n", report.not_revocable));
    }
    if report.expired > 0 {
        text.push_str(&format!("expired before their end could be verified: {}\n", report.expired));
    }
    if report.still_running > 0 {
        text.push_str(&format!("launches told to end that still run: {}\n", report.still_running));
    }
    for lease in &report.pending {
        let expires = lease.expires_at.as_deref().unwrap_or("at a time that is not known");
        let state = alive::state(lease);
        text.push_str(&format!(
            "not verified yet: {} for {}, expires {expires}: {state}\n",
            lease.id, lease.server
        ));
    }
    if report.unlisted_pending > 0 {
        text.push_str(&format!(
            "tokens above them whose end is not verified yet: {}\n",
            report.unlisted_pending
        ));
    }
    text
}
