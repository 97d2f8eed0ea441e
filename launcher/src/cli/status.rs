//! `mcp-run status`: session, launches and leases as the broker verified them, and what it warns of.

use mcp_broker_proto::channel::Containment;
use mcp_broker_proto::session::{LaunchInfo, LeaseInfo, LeaseState, Revocability, SessionState, Status};
use serde::Serialize;

use super::text::{columns, heading, json};
use super::{Call, Command};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "status",
    arguments: "",
    about: "show the session, its launches and its credentials",
    json: true,
    run,
};

/// The answer to a program.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(flatten)]
    status: &'a Status,
    warnings: &'a [String],
}

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let broker = call.broker()?;
    let (status, health) = (broker.status()?, broker.health(false)?);
    if call.json {
        return json(&Answer { status: &status, warnings: &health.warnings });
    }
    say::answer(&render(&status, &health.warnings));
    Ok(0)
}

fn render(status: &Status, warnings: &[String]) -> String {
    let mut out = match &status.session {
        Some(session) => {
            let state = match session.state {
                SessionState::Active => "active",
                SessionState::Locked => "locked",
                SessionState::Ended => "ended",
            };
            format!(
                "session  {state}, {} (uid {}), since {}, ends {} at the latest\n",
                session.user, session.uid, session.since, session.ends_at
            )
        }
        None => "session  none; a launch or `mcp-run login` begins one\n".to_owned(),
    };
    out.push_str(&section("launches", &status.launches, &LAUNCH_HEAD, launch));
    out.push_str(&section("credentials", &status.leases, &LEASE_HEAD, lease));
    for warning in warnings {
        out.push_str(&format!("\nwarning: {warning}\n"));
    }
    out
}

/// What is not settled after a lock or a logout, in words; nothing where all is.
pub(super) fn left(status: &Status) -> String {
    section("not settled yet", &status.leases, &LEASE_HEAD, lease)
}

const LAUNCH_HEAD: [&str; 5] = ["SERVER", "SINCE", "PID", "CONTAINED BY", "LAUNCH"];
const LEASE_HEAD: [&str; 5] = ["SERVER", "CREDENTIAL", "STATE", "REVOCABLE", "LEASE"];

fn section<T>(title: &str, items: &[T], head: &[&str], row: fn(&T) -> Vec<String>) -> String {
    if items.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = [heading(head)].into_iter().chain(items.iter().map(row)).collect();
    format!("\n{title}\n{}", columns(&rows))
}

fn launch(launch: &LaunchInfo) -> Vec<String> {
    let contained = match launch.containment {
        Some(Containment::PidNamespace) => "PID namespace",
        Some(Containment::SubReaper) => "sub-reaper",
        None => "not started",
    };
    let pid = launch.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    vec![launch.server.to_string(), launch.since.clone(), pid, contained.into(), launch.id.to_string()]
}

fn lease(lease: &LeaseInfo) -> Vec<String> {
    let until = lease.expires_at.as_deref();
    let mut state = match (lease.state, until) {
        (LeaseState::Minting, _) => "being minted".to_owned(),
        (LeaseState::Live, Some(until)) => format!("live, expires at {until}"),
        (LeaseState::Live, None) => "live, does not expire".to_owned(),
        (LeaseState::RevocationPending, Some(until)) => format!("pending, expires at {until}"),
        (LeaseState::RevocationPending, None) => "pending, does not expire".to_owned(),
    };
    if let Some(trouble) = &lease.trouble {
        state.push_str(&format!(" ({trouble})"));
    }
    let revocable = match lease.revocability {
        Revocability::Immediate => "at once".to_owned(),
        Revocability::Bounded { seconds } => format!("within {seconds} s"),
        Revocability::None => "no: a static value".to_owned(),
    };
    let name = format!("{}.{} of {}", lease.scope, lease.credential, lease.provider);
    vec![lease.server.to_string(), name, state, revocable, lease.id.to_string()]
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_claimed_that_is_not_known() {
        let id = "0199f3a8-0000-7000-8000-000000000000";
        let lease = |state: &str, expires: &str, revocability: &str| {
            format!(
                r#"{{"id":"{id}","launch":"{id}","session":"{id}","user":"a","server":"s","scope":"read","credential":"db",
                "provider":"bao","state":"{state}","expires_at":{expires},"revocability":{revocability}}}"#
            )
        };
        let text = format!(
            r#"{{"session":null,"launches":[{{"id":"{id}","session":"{id}","user":"a","server":"s","since":"T0",
            "launcher_pid":1,"pid":null,"containment":null}}],"leases":[{},{},{}]}}"#,
            lease("live", "null", r#""none""#),
            lease("revocation_pending", r#""T1""#, r#""immediate""#),
            lease("minting", "null", r#"{"bounded":{"seconds":60}}"#)
        );
        let shown = render(&serde_json::from_str(&text).unwrap(), &["weak key file".into()]);
        for want in [
            "session  none",
            "not started",
            "live, does not expire",
            "no: a static value",
            "pending, expires at T1",
            "being minted",
            "within 60 s",
            "warning: weak key file",
        ] {
            assert!(shown.contains(want), "{want}:\n{shown}");
        }
    }
}
