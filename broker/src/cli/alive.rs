//! `sessions`, `launches`, `leases`: what is alive, as the running broker knows it.

use hyper::Method;
use mcp_broker_proto::call::{Change, Changed};
use mcp_broker_proto::paths;
use mcp_broker_proto::session::{
    LaunchInfo, LaunchState, LeaseInfo, LeaseState, LockCause, Revocability, SessionInfo, SessionState,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::admin::Ask;
use super::report::printable;
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
    list(common, args, paths::ADMIN_SESSIONS, &SESSION_HEAD, session)
}

/// `launches`.
pub(super) fn launches(common: &Common, args: &Args) -> Report {
    list(common, args, paths::ADMIN_LAUNCHES, &LAUNCH_HEAD, launch)
}

/// `leases`.
pub(super) fn leases(common: &Common, args: &Args) -> Report {
    list(common, args, paths::ADMIN_LEASES, &LEASE_HEAD, lease)
}

const SESSION_HEAD: [&str; 7] = ["SESSION", "USER", "LOGIN", "STATE", "SINCE", "ENDS AT", "TO GO ON"];
const LAUNCH_HEAD: [&str; 8] =
    ["LAUNCH", "USER", "SERVER", "APPROVED", "STATE", "SINCE", "RUNNING", "HIDDEN TOOLS"];
const LEASE_HEAD: [&str; 13] = [
    "LEASE",
    "USER",
    "SERVER",
    "SCOPE",
    "CREDENTIAL",
    "PROVIDER",
    "STATE",
    "WORKS UNTIL",
    "REVOCABLE",
    "DELIVERED BY",
    "REFRESHED NEXT",
    "VALID UNTIL",
    "DETAIL",
];

fn session(session: &SessionInfo) -> Vec<String> {
    let SessionInfo { id, user, since, ends_at, .. } = session;
    let state = match (session.state, &session.lock) {
        (SessionState::Active, _) => "active".to_owned(),
        (SessionState::Locked, Some(lock)) => format!("locked since {} ({})", lock.since, cause(lock.cause)),
        (SessionState::Locked, None) => "locked".to_owned(),
        (SessionState::Ended, _) => "ended".to_owned(),
    };
    let cure = session.lock.as_ref().map(|lock| lock.hint.clone()).unwrap_or_default();
    vec![id.to_string(), user.clone(), login(session), state, since.clone(), ends_at.clone(), cure]
}

/// The login session whose lock and logout are seen.
fn login(session: &SessionInfo) -> String {
    let Some(login) = &session.login else { return "not seen".to_owned() };
    match (&login.seat, login.remote) {
        (Some(seat), _) => format!("{} on {seat}", login.id),
        (None, true) => format!("{}, remote", login.id),
        (None, false) => login.id.clone(),
    }
}

fn cause(cause: LockCause) -> &'static str {
    match cause {
        LockCause::ScreenLock => "the screen was told to lock",
        LockCause::LockedHint => "the desktop says so",
        LockCause::Inactive => "not in front of its seat",
        LockCause::Sleep => "sleep",
        LockCause::Command => "mcp-run lock",
        LockCause::ClockJump => "a sleep that nobody announced",
        LockCause::BusLost => "logind was not heard",
        LockCause::Found => "found locked",
    }
}

fn launch(launch: &LaunchInfo) -> Vec<String> {
    let state = match (launch.state, &launch.parked) {
        (LaunchState::Starting, _) => "starting".to_owned(),
        (LaunchState::Running, _) => "running".to_owned(),
        (LaunchState::Idle, _) => "idle".to_owned(),
        (LaunchState::Parked, Some(why)) => format!("parked: {why}"),
        (LaunchState::Parked, None) => "parked".to_owned(),
    };
    let running: Vec<_> = launch.running.iter().map(|one| format!("{} {}", one.scope, one.pid)).collect();
    let or_dash = |words: Vec<String>| if words.is_empty() { "-".to_owned() } else { words.join(", ") };
    let LaunchInfo { id, user, server, since, .. } = launch;
    let approved = launch.approved.clone().unwrap_or_else(|| "no".to_owned());
    let (id, server, since) = (id.to_string(), server.to_string(), since.clone());
    vec![id, user.clone(), server, approved, state, since, or_dash(running), or_dash(hidden(launch))]
}

/// Tools that are hidden, and why. Their names come from servers.
fn hidden(launch: &LaunchInfo) -> Vec<String> {
    let of_scope = |changed: &Changed| -> Vec<String> {
        let word = |(tool, change): (&String, &Change)| {
            let why = match change {
                Change::Added => "new",
                Change::Altered => "changed",
                Change::Missing => "missing",
            };
            format!("{} ({why})", printable(tool))
        };
        changed.tools.iter().map(word).collect()
    };
    launch.changed.iter().flat_map(of_scope).collect()
}

fn lease(lease: &LeaseInfo) -> Vec<String> {
    vec![
        lease.id.to_string(),
        lease.user.clone(),
        lease.server.to_string(),
        lease.scope.to_string(),
        lease.credential.to_string(),
        lease.provider.to_string(),
        state(lease),
        lease.expires_at.clone().unwrap_or_else(|| "-".to_owned()),
        revocable(lease.revocability),
        if lease.delivered.is_empty() { "-".to_owned() } else { lease.delivered.join(", ") },
        lease.renews_at.clone().unwrap_or_else(|| "-".to_owned()),
        // Where the backend lets it live on, though it does not work any more.
        lease.valid_until.clone().unwrap_or_else(|| "-".to_owned()),
        printable(lease.detail.as_deref().unwrap_or_default()),
    ]
}

/// What is true of a lease, in a few words.
pub(super) fn state(lease: &LeaseInfo) -> String {
    if lease.withheld {
        return "ended, still valid".to_owned();
    }
    let state = match (lease.state, lease.revocability) {
        (LeaseState::Minting, _) => "minting",
        (LeaseState::Live, _) => "live",
        (LeaseState::RevocationPending, Revocability::Immediate) => "revocation pending",
        // Nothing is pending that could be had: it works until it expires.
        (LeaseState::RevocationPending, _) => "ended, works until it expires",
    };
    match &lease.trouble {
        Some(trouble) => format!("{state}: {trouble}"),
        None => state.to_owned(),
    }
}

/// A line about a credential that was ended and cannot be revoked.
pub(super) fn outliving(lease: &LeaseInfo) -> String {
    let LeaseInfo { scope, credential, provider, server, .. } = lease;
    let until = lease.expires_at.as_deref().unwrap_or("a time that is not known");
    let detail =
        lease.detail.as_deref().map(|detail| format!(" ({})", printable(detail))).unwrap_or_default();
    format!(
        "cannot be revoked: {scope}.{credential} of {provider} for {server}, valid until {until}{detail}\n"
    )
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

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a sample that cannot be made must fail the test"
)]
mod tests {
    use mcp_broker_proto::channel::Containment;
    use mcp_broker_proto::session::{LockInfo, LoginInfo, RunningInfo};

    use super::*;

    const ID: &str = "0199f3a8-0000-7000-8000-000000000001";

    /// A session, locked by `lock`, whose login session has that seat or is remote; the cells that depend on it.
    fn check_session(lock: Option<LockCause>, login: Option<(Option<&str>, bool)>, want: [&str; 3]) {
        let told = SessionInfo {
            id: ID.parse().unwrap(),
            state: if lock.is_some() { SessionState::Locked } else { SessionState::Active },
            uid: 7,
            user: "alice".to_owned(),
            since: "T0".to_owned(),
            ends_at: "T8".to_owned(),
            lock: lock.map(|cause| LockInfo { cause, since: "T1".to_owned(), hint: "unlock it".to_owned() }),
            login: login.map(|(seat, remote)| LoginInfo {
                id: "3".to_owned(),
                seat: seat.map(str::to_owned),
                remote,
            }),
        };
        let [login, state, cure] = want;
        assert_eq!(session(&told), [ID, "alice", login, state, "T0", "T8", cure]);
    }

    #[test]
    fn sessions_say_what_locked_them_and_what_brings_them_back() {
        check_session(None, None, ["not seen", "active", ""]);
        check_session(None, Some((Some("seat0"), false)), ["3 on seat0", "active", ""]);
        check_session(None, Some((None, true)), ["3, remote", "active", ""]);
        check_session(None, Some((None, false)), ["3", "active", ""]);
        let locked = [
            (LockCause::Sleep, "locked since T1 (sleep)"),
            (LockCause::ScreenLock, "locked since T1 (the screen was told to lock)"),
            (LockCause::Inactive, "locked since T1 (not in front of its seat)"),
        ];
        for (cause, state) in locked {
            check_session(Some(cause), None, ["not seen", state, "unlock it"]);
        }
    }

    #[test]
    fn launches_say_where_they_stand() {
        let running = |pid: u32| RunningInfo {
            instance: 0,
            scope: "all".parse().unwrap(),
            pid,
            containment: Containment::PidNamespace,
        };
        let approved = |is: bool| is.then(|| "T1".to_owned());
        let check = |state, parked: Option<&str>, pid: Option<u32>, want: [&str; 2]| {
            let told = LaunchInfo {
                id: ID.parse().unwrap(),
                session: ID.parse().unwrap(),
                user: "alice".to_owned(),
                server: "orders-db".parse().unwrap(),
                since: "T0".to_owned(),
                state,
                parked: parked.map(str::to_owned),
                launcher_pid: None,
                running: pid.into_iter().map(running).collect(),
                approved: approved(pid.is_some()),
                changed: vec![Changed {
                    scope: "all".parse().unwrap(),
                    tools: [("a".to_owned(), Change::Added), ("b\u{7}".to_owned(), Change::Altered)].into(),
                }],
            };
            let at = if pid.is_some() { "T1" } else { "no" };
            let hidden = "a (new), b\\u{7} (changed)";
            assert_eq!(launch(&told), [ID, "alice", "orders-db", at, want[0], "T0", want[1], hidden]);
        };
        check(LaunchState::Running, None, Some(42), ["running", "all 42"]);
        check(LaunchState::Starting, None, None, ["starting", "-"]);
        check(LaunchState::Idle, None, None, ["idle", "-"]);
        let why = "the session is locked";
        check(LaunchState::Parked, Some(why), None, ["parked: the session is locked", "-"]);
    }

    #[test]
    fn a_lease_that_cannot_be_revoked_is_not_called_pending() {
        let check = |now, revocability, trouble: Option<&str>, want: &str| {
            let told = LeaseInfo {
                id: ID.parse().unwrap(),
                launch: ID.parse().unwrap(),
                session: ID.parse().unwrap(),
                user: "alice".to_owned(),
                server: "orders-db".parse().unwrap(),
                scope: "read".parse().unwrap(),
                credential: "db".parse().unwrap(),
                provider: "bao".parse().unwrap(),
                state: now,
                expires_at: Some("T9".to_owned()),
                valid_until: Some("T10".to_owned()),
                renews_at: Some("T8".to_owned()),
                delivered: vec!["env".to_owned(), "file".to_owned()],
                detail: Some("a role\u{7}".to_owned()),
                revocability,
                trouble: trouble.map(str::to_owned),
                withheld: false,
            };
            assert_eq!(state(&told), want);
            let late = LeaseInfo { withheld: true, ..told.clone() };
            assert_eq!(state(&late), "ended, still valid");
            let cells = lease(&told);
            assert_eq!(cells[7], "T9");
            assert_eq!(cells[9..], ["env, file", "T8", "T10", "a role\\u{7}"]);
        };
        let pending = LeaseState::RevocationPending;
        check(LeaseState::Live, Revocability::Immediate, None, "live");
        check(LeaseState::Minting, Revocability::Immediate, None, "minting");
        check(pending, Revocability::Immediate, None, "revocation pending");
        check(pending, Revocability::Immediate, Some("no answer"), "revocation pending: no answer");
        check(pending, Revocability::Bounded { seconds: 9 }, None, "ended, works until it expires");
    }
}
