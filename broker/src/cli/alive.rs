//! `sessions`, `launches`, `leases`: what is alive, as the running broker knows it.

use hyper::Method;
use mcp_broker_proto::paths;
use mcp_broker_proto::session::{LaunchInfo, LeaseInfo, LeaseState, Revocability, SessionInfo, SessionState};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::admin::Ask;
use super::table::table;
use super::{Common, Report, admin};

/// Arguments of the three commands.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// `sessions`.
pub(super) fn sessions(common: &Common, args: &Args) -> Report {
    list(
        common,
        args,
        paths::ADMIN_SESSIONS,
        &["SESSION", "USER", "STATE", "SINCE", "ENDS AT"],
        |s: &SessionInfo| {
            let state = match s.state {
                SessionState::Active => "active",
                SessionState::Locked => "locked",
                SessionState::Ended => "ended",
            };
            vec![s.id.to_string(), s.user.clone(), state.to_owned(), s.since.clone(), s.ends_at.clone()]
        },
    )
}

/// `launches`.
pub(super) fn launches(common: &Common, args: &Args) -> Report {
    list(
        common,
        args,
        paths::ADMIN_LAUNCHES,
        &["LAUNCH", "USER", "SERVER", "SINCE", "PID"],
        |l: &LaunchInfo| {
            let pid = l.pid.map_or("-".to_owned(), |pid| pid.to_string());
            vec![l.id.to_string(), l.user.clone(), l.server.to_string(), l.since.clone(), pid]
        },
    )
}

/// `leases`.
pub(super) fn leases(common: &Common, args: &Args) -> Report {
    let columns = ["LEASE", "USER", "SERVER", "CREDENTIAL", "PROVIDER", "STATE", "EXPIRES AT", "REVOCABLE"];
    list(common, args, paths::ADMIN_LEASES, &columns, |lease: &LeaseInfo| {
        vec![
            lease.id.to_string(),
            lease.user.clone(),
            lease.server.to_string(),
            lease.credential.to_string(),
            lease.provider.to_string(),
            state(lease),
            lease.expires_at.clone().unwrap_or_else(|| "-".to_owned()),
            revocable(lease.revocability),
        ]
    })
}

/// What is true of a lease, in a few words.
pub(super) fn state(lease: &LeaseInfo) -> String {
    match (lease.state, &lease.trouble) {
        (LeaseState::Minting, _) => "minting".to_owned(),
        (LeaseState::Live, _) => "live".to_owned(),
        (LeaseState::RevocationPending, None) => "revocation pending".to_owned(),
        (LeaseState::RevocationPending, Some(trouble)) => format!("revocation pending: {trouble}"),
    }
}

fn revocable(revocability: Revocability) -> String {
    match revocability {
        Revocability::Immediate => "yes".to_owned(),
        Revocability::Bounded { seconds } => format!("no, lives at most {seconds} s"),
        Revocability::None => "no".to_owned(),
    }
}

fn list<T: Serialize + DeserializeOwned>(
    common: &Common,
    args: &Args,
    path: &str,
    columns: &[&str],
    row: impl Fn(&T) -> Vec<String>,
) -> Report {
    let ask = Ask { method: Method::GET, path, body: Vec::new() };
    admin::ask(common, ask, |items: Vec<T>, _| {
        if args.json {
            Report::json(&items)
        } else {
            Report::success(table(columns, &items.iter().map(row).collect::<Vec<_>>()))
        }
    })
}
