//! `revoke`: the kill switch. Exit code 0 only when every end was verified or cannot be had by nature; 75
//! when some are still being tried.

use std::path::Path;

use hyper::Method;
use mcp_broker_proto::names::{LaunchId, ServerName, SessionId};
use mcp_broker_proto::paths;
use mcp_broker_proto::session::{RevokeReport, RevokeRequest};

use super::admin::Ask;
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
    let ask = Ask { method: Method::POST, path: paths::ADMIN_REVOKE, body };
    admin::ask(common, ask, |report, socket| answer(&report, json, socket))
}

fn answer(report: &RevokeReport, json: bool, socket: &Path) -> Report {
    let said = if json { Report::json(report) } else { Report::success(text(report)) };
    Report { code: code(report), ..said }.after(&admin::answered_by(socket))
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
        text.push_str(&format!("withheld, as they cannot be revoked: {}\n", report.not_revocable));
    }
    for lease in &report.withheld {
        text.push_str(&alive::outliving(lease));
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a sample that cannot be made must fail the test")]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_revoked_is_told_with_its_end() {
        let lease = r#"{"id":"0199f3a8-0000-7000-8000-000000000001","launch":"0199f3a8-0000-7000-8000-000000000001",
            "session":"0199f3a8-0000-7000-8000-000000000001","user":"alice","server":"orders-db","scope":"read",
            "credential":"keys","provider":"aws","state":"revocation_pending","expires_at":"T9",
            "detail":"its name\u0007","revocability":{"bounded":{"seconds":900}},"withheld":true}"#;
        let report = format!(
            r#"{{"launches":1,"still_running":0,"verified":0,"not_revocable":1,"expired":0,"pending":[],
            "unlisted_pending":0,"withheld":[{lease}]}}"#
        );
        let said = answer(&serde_json::from_str(&report).unwrap(), false, Path::new("/s"));
        let want = "launches ended: 1\ncredentials revoked and verified: 0\n\
            withheld, as they cannot be revoked: 1\n\
            cannot be revoked: read.keys of aws for orders-db, valid until T9 (its name\\u{7})\n";
        assert_eq!((said.out.as_str(), said.code), (want, 0));
    }

    #[test]
    fn says_which_broker_it_was() {
        let report = RevokeReport {
            launches: 1,
            still_running: 0,
            verified: 1,
            not_revocable: 0,
            expired: 0,
            pending: Vec::new(),
            unlisted_pending: 0,
            withheld: Vec::new(),
        };
        for json in [false, true] {
            let said = answer(&report, json, Path::new("/run/x/admin.sock"));
            assert_eq!(said.code, 0);
            assert_eq!(said.err, "mcp-broker: answered by the broker at `/run/x/admin.sock`\n");
        }
        let unsettled = RevokeReport { unlisted_pending: 1, ..report };
        assert_eq!(answer(&unsettled, false, Path::new("/s")).code, 75);
    }
}
