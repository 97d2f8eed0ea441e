//! Words for what the broker says of sessions, launches and credentials: one state, one phrase, wherever a
//! command shows it. Nothing is said that the wire does not say.

use mcp_broker_proto::call::Change;
use mcp_broker_proto::channel::Containment;
use mcp_broker_proto::session::{
    LaunchInfo, LaunchState, LeaseInfo, LeaseState, LockCause, LoginInfo, Revocability, SessionInfo,
    SessionState,
};

/// That lock and logout of nobody's login session are seen.
pub(super) const UNSEEN: &str =
    "lock and logout are not seen: only `mcp-run lock`, `mcp-run logout`, idle time and age end something";

/// Where a session stands.
#[must_use]
pub(super) fn state(session: &SessionInfo) -> String {
    match (session.state, &session.lock) {
        (SessionState::Active, _) => "active".to_owned(),
        (SessionState::Locked, Some(lock)) => format!("locked since {}", lock.since),
        (SessionState::Locked, None) => "locked".to_owned(),
        (SessionState::Ended, _) => "ended".to_owned(),
    }
}

/// What locked a session.
#[must_use]
pub(super) fn cause(cause: LockCause) -> &'static str {
    match cause {
        LockCause::ScreenLock => "its screen was told to lock",
        LockCause::LockedHint => "its desktop says that the screen is locked",
        LockCause::Inactive => "somebody else works at its seat",
        LockCause::Sleep => "the machine went to sleep",
        LockCause::Command => "`mcp-run lock`",
        LockCause::ClockJump => "the machine slept without announcing it",
        LockCause::BusLost => "logind could not be heard, so a lock would not have been seen",
        LockCause::Found => "it was locked, or could not be looked at, when the broker first saw it",
    }
}

/// Which login session it is.
#[must_use]
pub(super) fn login(login: &LoginInfo) -> String {
    match (&login.seat, login.remote) {
        (Some(seat), _) => format!("{} on {seat}", login.id),
        (None, true) => format!("{}, remote", login.id),
        (None, false) => format!("{}, without a seat", login.id),
    }
}

/// Where a launch stands.
#[must_use]
pub(super) fn launch(launch: &LaunchInfo) -> String {
    match (launch.state, &launch.parked) {
        (LaunchState::Starting, _) => "starting".to_owned(),
        (LaunchState::Running, _) => "running".to_owned(),
        (LaunchState::Idle, _) => "idle until the next request".to_owned(),
        (LaunchState::Parked, Some(why)) => format!("parked: {why}"),
        (LaunchState::Parked, None) => "parked".to_owned(),
    }
}

/// What holds its instance.
#[must_use]
pub(super) fn containment(containment: Option<Containment>) -> &'static str {
    match containment {
        Some(Containment::PidNamespace) => "PID namespace",
        Some(Containment::SubReaper) => "sub-reaper",
        None => "no instance",
    }
}

/// What is wrong with a tool that is hidden.
#[must_use]
pub(super) fn change(change: Change) -> &'static str {
    match change {
        Change::Added => "was not there when the server was approved",
        Change::Altered => "is defined otherwise than it was approved",
        Change::Missing => "is not there any more",
    }
}

/// Where a credential stands, and until when it can live.
#[must_use]
pub(super) fn lease(lease: &LeaseInfo) -> String {
    let bounded = !matches!(lease.revocability, Revocability::Immediate);
    let longer = lease.valid_until.as_ref().filter(|until| Some(*until) != lease.expires_at.as_ref());
    let longer = longer.map(|until| format!(", {} lets it live until {until}", lease.provider));
    let longer = longer.unwrap_or_default();
    match (lease.state, lease.expires_at.as_deref()) {
        (_, Some(until)) if lease.withheld => format!("ended, still valid until {until}"),
        (LeaseState::Minting, _) => "being minted".to_owned(),
        (LeaseState::Live, Some(until)) => format!("live, works until {until}{longer}"),
        (LeaseState::Live, None) => "live, does not expire".to_owned(),
        (LeaseState::RevocationPending, Some(until)) if bounded => {
            format!("ended here, works until it expires at {until}")
        }
        (LeaseState::RevocationPending, Some(until)) => {
            format!("revocation pending, expires at {until} at the latest")
        }
        (LeaseState::RevocationPending, None) => "revocation pending, expiry not known".to_owned(),
    }
}

/// How it reaches its server, and when another one takes its place or it is renewed.
#[must_use]
pub(super) fn delivered(lease: &LeaseInfo) -> (String, String) {
    let ways = if lease.delivered.is_empty() { "-".to_owned() } else { lease.delivered.join(", ") };
    (ways, lease.renews_at.clone().unwrap_or_else(|| "-".to_owned()))
}

/// What revoking it does.
#[must_use]
pub(super) fn revocable(revocability: Revocability) -> String {
    match revocability {
        Revocability::Immediate => "at once".to_owned(),
        Revocability::Bounded { seconds } => format!("no: bounded, {seconds} s at most"),
        Revocability::None => "no: a static value".to_owned(),
    }
}

/// Credentials that were ended and cannot be revoked, a sentence for each; nothing where there are none.
#[must_use]
pub(super) fn outliving(leases: &[&LeaseInfo]) -> String {
    if leases.is_empty() {
        return String::new();
    }
    let mut out = format!("{} cannot be revoked:\n", counted(leases.len(), "credential", "credentials"));
    for LeaseInfo { scope, credential, provider, server, expires_at, .. } in leases {
        let until = expires_at.as_deref().unwrap_or("a time that is not known");
        out.push_str(&format!("  {scope}.{credential} of {provider} for {server} is valid until {until}\n"));
    }
    out
}

/// `1 launch`, `2 launches`; regular nouns only.
#[must_use]
pub(super) fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}
