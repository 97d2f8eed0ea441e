//! `mcp-run status`: sessions, launches and leases as the broker verified them, what waits for the person, and what
//! the broker warns of.

use std::collections::BTreeSet;

use mcp_broker_proto::names::{ServerName, SessionId};
use mcp_broker_proto::session::{ConfirmationInfo, LaunchInfo, LeaseInfo, SessionInfo, Status};
use serde::Serialize;

use super::text::{columns, heading, json};
use super::{Call, Command, shown, words};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "status",
    arguments: "",
    about: "show your sessions, launches, credentials, and the calls that wait for you",
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
        Some(own) => session(own),
        None => "session  none; a launch or `mcp-run login` begins one\n".to_owned(),
    };
    out.push_str(&waiting(&status.confirmations));
    out.push_str(&section("other sessions of this account", &OTHER_HEAD, &status.others, other));
    out.push_str(&launches(status));
    out.push_str(&hidden(&status.launches));
    let (ended, open): (Vec<_>, Vec<_>) = status.leases.iter().partition(|lease| lease.withheld);
    out.push_str(&leases("credentials", &open));
    out.push_str(&leases("credentials that were ended and cannot be revoked", &ended));
    for warning in warnings {
        out.push_str(&format!("\nwarning: {warning}\n"));
    }
    out
}

/// A session of the caller's own, and what brings it back.
fn session(session: &SessionInfo) -> String {
    let SessionInfo { user, uid, since, ends_at, .. } = session;
    let mut out = format!(
        "session  {}, {user} (uid {uid}), since {since}, ends {ends_at} at the latest\n",
        words::state(session)
    );
    if let Some(lock) = &session.lock {
        out.push_str(&format!("locked   {}\nto go on {}\n", words::cause(lock.cause), lock.hint));
    }
    out + &match &session.login {
        Some(login) => format!("login    {}; its lock and logout are seen\n", words::login(login)),
        None => format!("login    none: {}\n", words::UNSEEN),
    }
}

fn other(session: &SessionInfo) -> Vec<String> {
    let (why, cure) = match &session.lock {
        Some(lock) => (words::cause(lock.cause).to_owned(), lock.hint.clone()),
        None => ("-".to_owned(), String::new()),
    };
    vec![session.id.to_string(), login(session), words::state(session), session.ends_at.clone(), why, cure]
}

fn login(session: &SessionInfo) -> String {
    session.login.as_ref().map_or_else(|| "not seen".to_owned(), words::login)
}

/// Calls that wait for the person: the most urgent that there can be.
fn waiting(calls: &[ConfirmationInfo]) -> String {
    section("calls that wait for you; --no refuses", &WAITING_HEAD, calls, |call: &ConfirmationInfo| {
        let command = format!("mcp-run approve {}", call.id);
        let (server, scope) = (call.server.to_string(), call.scope.to_string());
        vec![server, scope, shown(&call.tool), call.until.clone(), command]
    })
}

/// Tools that are hidden, once a server, as every launch of it sees the same.
fn hidden(launches: &[LaunchInfo]) -> String {
    let mut rows = BTreeSet::new();
    let mut servers: BTreeSet<&ServerName> = BTreeSet::new();
    for launch in launches {
        for changed in &launch.changed {
            for (tool, change) in &changed.tools {
                servers.insert(&launch.server);
                rows.insert((&launch.server, &changed.scope, tool, words::change(*change)));
            }
        }
    }
    let rows: Vec<_> = rows.into_iter().collect();
    let title = "hidden tools: the server shows them otherwise than they were approved";
    let mut out = section(title, &HIDDEN_HEAD, &rows, |(server, scope, tool, why)| {
        vec![server.to_string(), scope.to_string(), shown(tool), (*why).to_owned()]
    });
    for server in servers {
        out.push_str(&format!(
            "to show them again: whoever runs the broker looks at them and runs `mcp-broker approve {server}`\n"
        ));
    }
    out
}

/// The launches; with several sessions, of which login session each is.
fn launches(status: &Status) -> String {
    let one = status.others.is_empty();
    let head: &[&str] = if one { LAUNCH_HEAD.split_at(1).1 } else { &LAUNCH_HEAD };
    section("launches", head, &status.launches, |launch: &LaunchInfo| {
        let mut cells = if one { Vec::new() } else { vec![login_of(status, launch.session)] };
        let running: Vec<_> =
            launch.running.iter().map(|one| format!("{} (pid {})", one.scope, one.pid)).collect();
        let running = if running.is_empty() { "-".to_owned() } else { running.join(", ") };
        let containment = launch.running.first().map(|one| one.containment);
        cells.extend([launch.server.to_string(), words::launch(launch), launch.since.clone(), running]);
        cells.extend([words::containment(containment).to_owned(), launch.id.to_string()]);
        cells
    })
}

fn login_of(status: &Status, id: SessionId) -> String {
    if status.session.as_ref().is_some_and(|own| own.id == id) {
        return "this".to_owned();
    }
    status.others.iter().find(|other| other.id == id).map_or_else(|| "ended".to_owned(), login)
}

/// A table of credentials below `title`; nothing where there are none.
pub(super) fn leases(title: &str, leases: &[&LeaseInfo]) -> String {
    section(title, &LEASE_HEAD, leases, |lease: &&LeaseInfo| {
        let name = format!("{}.{} of {}", lease.scope, lease.credential, lease.provider);
        let revocable = words::revocable(lease.revocability);
        let (ways, next) = words::delivered(lease);
        // The words of a provider about it, and what keeps it from its end, are never both there for long.
        let notes: Vec<_> = lease.trouble.iter().chain(&lease.detail).map(|note| shown(note)).collect();
        let (server, id) = (lease.server.to_string(), lease.id.to_string());
        vec![server, name, ways, words::lease(lease), next, revocable, id, notes.join("; ")]
    })
}

const OTHER_HEAD: [&str; 6] = ["SESSION", "LOGIN", "STATE", "ENDS AT", "LOCKED BY", "TO GO ON"];
const WAITING_HEAD: [&str; 5] = ["SERVER", "SCOPE", "TOOL", "UNTIL", "TO LET IT GO ON"];
const LAUNCH_HEAD: [&str; 7] =
    ["LOGIN", "SERVER", "STATE", "SINCE", "RUNNING SCOPES", "CONTAINED BY", "LAUNCH"];
const HIDDEN_HEAD: [&str; 4] = ["SERVER", "SCOPE", "TOOL", "WHY"];
const LEASE_HEAD: [&str; 8] =
    ["SERVER", "CREDENTIAL", "DELIVERED BY", "STATE", "REFRESHED NEXT", "REVOCABLE", "LEASE", "NOTES"];

fn section<T>(title: &str, head: &[&str], items: &[T], row: impl Fn(&T) -> Vec<String>) -> String {
    if items.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = [heading(head)].into_iter().chain(items.iter().map(row)).collect();
    format!("\n{title}\n{}", columns(&rows))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::super::samples::{confirmation, id, launch, lease, session, status};
    use super::*;

    const LONG: &str = r#","valid_until":"T9","renews_at":"T5","delivered":["aws endpoint","file"],
        "detail":"policy 41 % full""#;
    const LATE: &str = r#","withheld":true"#;
    const SEAT: &str = r#","login":{"id":"3","seat":"seat0","remote":false}"#;

    #[test]
    fn a_session_and_what_brings_it_back() {
        let shown = render(&status(Some(&session(1, "active", SEAT)), &[], &[], &[]), &[]);
        let want = "session  active, alice (uid 7), since T0, ends T8 at the latest\n\
            login    3 on seat0; its lock and logout are seen\n";
        assert_eq!(shown, want);

        let lock =
            r#","lock":{"cause":"sleep","since":"T1","hint":"unlock the screen, or run `mcp-run unlock`"}"#;
        let shown = render(&status(Some(&session(1, "locked", lock)), &[], &[], &[]), &[]);
        let want = "session  locked since T1, alice (uid 7), since T0, ends T8 at the latest\n\
            locked   the machine went to sleep\nto go on unlock the screen, or run `mcp-run unlock`\n\
            login    none: lock and logout are not seen: only `mcp-run lock`, `mcp-run logout`, idle time and age end something\n";
        assert_eq!(shown, want);
    }

    #[test]
    fn nothing_is_claimed_that_is_not_known() {
        let leases = [
            lease(4, 1, "live", "null", r#""none""#, ""),
            lease(5, 1, "revocation_pending", r#""T1""#, r#""immediate""#, r#","trouble":"no answer""#),
            lease(6, 1, "revocation_pending", r#""T2""#, r#"{"bounded":{"seconds":60}}"#, ""),
            lease(7, 1, "minting", "null", r#""immediate""#, ""),
            lease(8, 1, "live", r#""T3""#, r#""immediate""#, ""),
            lease(9, 1, "revocation_pending", "null", r#""immediate""#, ""),
            lease(10, 1, "live", r#""T4""#, r#"{"bounded":{"seconds":60}}"#, LONG),
            lease(11, 1, "revocation_pending", r#""T5""#, r#"{"bounded":{"seconds":60}}"#, LATE),
        ];
        let shown = render(&status(None, &[], &[], &leases), &["weak key file".into()]);
        let lines: Vec<_> = shown.lines().collect();
        for (number, want) in [
            (4, "live, does not expire  "),
            (4, "no: a static value"),
            (5, "revocation pending, expires at T1 at the latest"),
            (5, "no answer"),
            (6, "ended here, works until it expires at T2"),
            (6, "no: bounded, 60 s at most"),
            (7, "being minted"),
            (8, "live, works until T3"),
            (10, "aws endpoint, file  live, works until T4, bao lets it live until T9  T5"),
            (10, "policy 41 % full"),
            (9, "revocation pending, expiry not known"),
            (11, "ended, still valid until T5"),
            (11, "no: bounded, 60 s at most"),
        ] {
            let line = lines.iter().find(|line| line.contains(&id(number))).unwrap();
            assert!(line.contains(want), "{want}: {line}");
        }
        let at = |text: &str| shown.find(text);
        assert!(at(&id(10)) < at("\ncredentials that were ended and cannot be revoked\n"), "{shown}");
        assert!(at("\ncredentials that were ended and cannot be revoked\n") < at(&id(11)), "{shown}");
        assert!(
            shown.starts_with("session  none") && shown.ends_with("\nwarning: weak key file\n"),
            "{shown}"
        );
    }

    #[test]
    fn launches_say_where_they_stand() {
        let launches = [
            launch(2, 1, "running", "").replace(
                "[]",
                r#"[{"instance":0,"scope":"read","pid":42,"containment":"sub-reaper"},
                    {"instance":3,"scope":"write","pid":57,"containment":"sub-reaper"}]"#,
            ),
            launch(3, 1, "idle", ""),
            launch(4, 1, "starting", ""),
            launch(5, 1, "parked", r#","parked":"`bao` does not answer""#),
        ];
        let shown = render(&status(Some(&session(1, "active", SEAT)), &[], &launches, &[]), &[]);
        for want in [
            "SERVER     STATE",
            "orders-db  running",
            "read (pid 42), write (pid 57)  sub-reaper",
            "idle until the next request",
            "starting",
            "parked: `bao` does not answer",
            "no instance",
        ] {
            assert!(shown.contains(want), "{want}:\n{shown}");
        }
    }

    #[test]
    fn what_waits_comes_with_its_command() {
        let mut status = status(Some(&session(1, "active", SEAT)), &[], &[launch(2, 1, "running", "")], &[]);
        status.confirmations = vec![confirmation(7, "write_row"), confirmation(8, "rm\u{1b}[2J\nx")];
        let shown = render(&status, &[]);
        let at = |text: &str| shown.find(text).unwrap_or_else(|| unreachable!("{text}:\n{shown}"));
        assert!(at("calls that wait for you; --no refuses\nSERVER ") < at("\nlaunches\n"));
        let row = format!("orders-db  write  write_row       T2     mcp-run approve {}\n", id(7));
        assert!(at(&row) < at(&id(8)), "{shown}");
        assert!(shown.contains("rm\\u{1b}[2J\\nx"), "{shown}");
    }

    #[test]
    fn hidden_tools_come_with_the_cure() {
        let changed = r#","changed":[{"scope":"read","tools":{"drop":"added","get":"altered"}},
            {"scope":"write","tools":{"put\u0007":"missing"}}]"#;
        let launches = [launch(2, 1, "running", changed), launch(3, 1, "idle", changed)];
        let shown = render(&status(None, &[], &launches, &[]), &[]);
        for want in [
            "\nhidden tools: ",
            "orders-db  read   drop      was not there when the server was approved\n",
            "orders-db  read   get       is defined otherwise than it was approved\n",
            "orders-db  write  put\\u{7}  is not there any more\n",
            "runs `mcp-broker approve orders-db`\n",
        ] {
            assert_eq!(shown.matches(want).count(), 1, "{want}:\n{shown}");
        }
    }

    #[test]
    fn other_sessions_are_told_apart() {
        let remote = r#","login":{"id":"c5","remote":true}"#;
        let lock = r#","lock":{"cause":"inactive","since":"T1","hint":"go back to your desktop"}"#;
        let others = [session(8, "active", remote), session(9, "locked", lock)];
        let launches = [launch(2, 1, "running", ""), launch(3, 8, "running", ""), launch(4, 9, "idle", "")];
        let shown = render(&status(Some(&session(1, "active", SEAT)), &others, &launches, &[]), &[]);
        for want in [
            "c5, remote",
            "locked since T1",
            "somebody else works at its seat",
            "go back to your desktop",
            "LOGIN       SERVER",
            "this        orders-db",
            "c5, remote  orders-db",
            "not seen    orders-db",
        ] {
            assert!(shown.contains(want), "{want}:\n{shown}");
        }
    }
}
