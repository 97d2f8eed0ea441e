//! `mcp-run doctor`: what a launch needs, checked one by one, each with its cure.

use std::collections::{BTreeMap, BTreeSet};

use mcp_broker_proto::PROTOCOL;
use mcp_broker_proto::session::{Health, LeaseInfo, SessionInfo, SessionState};
use serde::Serialize;

use super::text::json;
use super::{Call, Command, words};
use crate::client::Broker;
use crate::failure::{CONFIG, Failure, REFUSED, UNAVAILABLE};
use crate::{say, spawn};

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "doctor",
    arguments: "",
    about: "check what a launch needs and say the cure",
    json: true,
    run,
};

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    /// Works, but weaker than it could be.
    Weak,
    Bad,
}

/// One check.
#[derive(Debug, Serialize)]
struct Check {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    cure: Option<String>,
    /// Exit code, where it is what stops a launch.
    #[serde(skip)]
    exit: u8,
}

impl Check {
    fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, verdict: Verdict::Ok, detail: detail.into(), cure: None, exit: 0 }
    }

    fn weak(name: &'static str, detail: impl Into<String>, cure: &str) -> Self {
        Self { name, verdict: Verdict::Weak, detail: detail.into(), cure: Some(cure.to_owned()), exit: 0 }
    }

    fn bad(name: &'static str, failure: Failure) -> Self {
        let Failure { exit, what, hint } = failure;
        Self { name, verdict: Verdict::Bad, detail: what, cure: Some(hint), exit }
    }
}

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let mut checks = Vec::new();
    match call.broker() {
        Ok(broker) => check_broker(&broker, &mut checks),
        Err(failure) => checks.push(Check::bad("socket", failure)),
    }
    checks.push(namespace(spawn::namespace_available()));
    if call.json {
        json(&checks)?;
    } else {
        say::answer(&render(&checks));
    }
    Ok(checks.iter().map(|check| check.exit).find(|exit| *exit != 0).unwrap_or(0))
}

fn check_broker(broker: &Broker, checks: &mut Vec<Check>) {
    let socket = broker.socket();
    let place =
        format!("{}, owner uid {}, mode {:04o}", socket.path().display(), socket.owner(), socket.mode());
    checks.push(Check::ok("socket", place));
    let health = match broker.health(true) {
        Ok(health) => health,
        Err(failure) => return checks.push(Check::bad("broker", failure)),
    };
    checks.push(protocol(&health));
    match broker.status() {
        Ok(status) => {
            checks.push(session(status.session.as_ref()));
            checks.push(lock_signals(status.session.as_ref()));
            checks.extend(exposed(&status.leases));
        }
        Err(failure) => checks.push(Check::bad("session", failure)),
    }
    for provider in &health.providers {
        let detail = format!("{} ({}): {}", provider.name, provider.kind, provider.detail);
        let hint = provider.hint.as_deref().unwrap_or("look at the broker's log, and ask your administrator");
        checks.push(match provider.ok {
            true => Check::ok("provider", detail),
            false => Check::bad("provider", Failure::new(UNAVAILABLE, detail, hint)),
        });
    }
    for warning in &health.warnings {
        checks.push(Check::weak("warning", warning, "ask your administrator; the broker's log says more"));
    }
}

fn protocol(health: &Health) -> Check {
    let detail = format!("version {}, {} mode, protocol {}", health.version, health.mode, health.protocol);
    if health.protocol == PROTOCOL {
        return Check::ok("broker", detail);
    }
    let what = format!("{detail}, but this mcp-run speaks protocol {PROTOCOL}");
    Check::bad("broker", Failure::new(CONFIG, what, "install mcp-run and mcp-broker of the same version"))
}

fn session(session: Option<&SessionInfo>) -> Check {
    let name = "session";
    let Some(session) = session else { return Check::ok(name, "none yet; the first launch begins one") };
    match (session.state, &session.lock) {
        (SessionState::Active, _) => {
            Check::ok(name, format!("active, {} until {}", session.user, session.ends_at))
        }
        (SessionState::Locked, Some(lock)) => {
            let what =
                format!("locked since {}, so nothing is launched: {}", lock.since, words::cause(lock.cause));
            Check::bad(name, Failure::new(REFUSED, what, &lock.hint))
        }
        (SessionState::Locked, None) => {
            Check::bad(name, Failure::new(REFUSED, "locked, so nothing is launched", "run `mcp-run unlock`"))
        }
        (SessionState::Ended, _) => Check::bad(name, Failure::new(REFUSED, "ended", "run `mcp-run login`")),
    }
}

/// Whether the end of the person's presence would be seen. Which screen locker there is cannot be seen from
/// here, so what it must do is said.
fn lock_signals(session: Option<&SessionInfo>) -> Check {
    let name = "lock signals";
    let Some(session) = session else {
        return Check::weak(
            name,
            "whether lock and logout are seen shows when a session has begun",
            "run `mcp-run login`, then `mcp-run doctor` again",
        );
    };
    let Some(login) = &session.login else { return Check::weak(name, words::UNSEEN, UNSEEN_CURE) };
    let lockers = if login.seat.is_some() { LOCKERS } else { "" };
    let login = words::login(login);
    Check::ok(name, format!("lock and logout of login session {login} are seen through logind{lockers}"))
}

/// The servers that have a credential in their environment now, each once.
fn exposed(leases: &[LeaseInfo]) -> Vec<Check> {
    let mut servers: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for lease in leases.iter().filter(|lease| lease.delivered.iter().any(|way| way == "env")) {
        servers.entry(lease.server.as_str()).or_default().insert(lease.credential.as_str());
    }
    let check = |(server, credentials): (&str, BTreeSet<&str>)| {
        let names: Vec<_> = credentials.into_iter().map(|name| format!("`{name}`")).collect();
        let detail = format!("{server} has {} in its environment, {EXPOSED}", names.join(", "));
        Check::weak("delivery", detail, EXPOSED_CURE)
    };
    servers.into_iter().map(check).collect()
}

const EXPOSED: &str = "which every program of yours can read (/proc/PID/environ) and whatever it starts inherits, and \
    which stays as it was at its start";
const EXPOSED_CURE: &str = "ask the owner of the server whether it can read a file, or uses an AWS SDK (`aws = \"endpoint\"`): such \
    credentials refresh while it runs";
const UNSEEN_CURE: &str = "run `mcp-run lock` or `mcp-run logout` when you leave; where logind runs, begin the \
    session from a login session of your own";
const LOCKERS: &str = ", if the screen locker tells it: GNOME and KDE do; swaylock, hyprlock and i3lock need a \
    line from deploy/lock";

fn namespace(available: bool) -> Check {
    let name = "containment";
    match available {
        true => Check::ok(name, "a PID namespace holds each server's process tree"),
        false => Check::weak(
            name,
            "no PID namespace can be had; a sub-reaper holds each server's process tree",
            "allow user namespaces for mcp-run (on Ubuntu an AppArmor profile with `userns,`)",
        ),
    }
}

fn render(checks: &[Check]) -> String {
    let mut out = String::new();
    for check in checks {
        let word = match check.verdict {
            Verdict::Ok => "ok  ",
            Verdict::Weak => "weak",
            Verdict::Bad => "bad ",
        };
        out.push_str(&format!("{word}  {}: {}\n", check.name, check.detail));
        if let Some(cure) = &check.cure {
            out.push_str(&format!("      cure: {cure}\n"));
        }
    }
    out
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "a test may stop at the first surprise")]
mod tests {
    use super::super::samples::{lease, session as own, status};
    use super::*;

    #[test]
    fn protocols() {
        let health = |protocol| Health {
            version: "1".into(),
            protocol,
            mode: "user".into(),
            warnings: vec![],
            providers: vec![],
        };
        assert_eq!(protocol(&health(PROTOCOL)).exit, 0);
        let check = protocol(&health(PROTOCOL + 1));
        assert_eq!((check.exit, check.verdict), (78, Verdict::Bad));
        assert!(render(&[check]).contains("cure: install"));
    }

    fn told(session: &str) -> SessionInfo {
        let status = status(Some(session), &[], &[], &[]);
        status.session.unwrap()
    }

    #[test]
    fn a_session_that_is_not_bound_to_a_login_is_weak() {
        let unbound = lock_signals(Some(&told(&own(1, "active", ""))));
        assert_eq!((unbound.verdict, unbound.exit), (Verdict::Weak, 0));
        assert!(unbound.detail.contains("not seen"), "{unbound:?}");
        assert_eq!(lock_signals(None).verdict, Verdict::Weak);
        let desk = told(&own(1, "active", r#","login":{"id":"3","seat":"seat0","remote":false}"#));
        let desk = lock_signals(Some(&desk));
        assert!(desk.verdict == Verdict::Ok && desk.detail.contains("login session 3 on seat0"), "{desk:?}");
        assert!(desk.detail.contains("hyprlock"), "{desk:?}");
        let remote = told(&own(1, "active", r#","login":{"id":"c5","remote":true}"#));
        let remote = lock_signals(Some(&remote));
        assert!(remote.verdict == Verdict::Ok && !remote.detail.contains("locker"), "{remote:?}");
    }

    #[test]
    fn a_locked_session_says_what_locked_it() {
        let lock = r#","lock":{"cause":"bus_lost","since":"T1","hint":"unlock again"}"#;
        let check = session(Some(&told(&own(1, "locked", lock))));
        assert_eq!((check.exit, check.cure.as_deref()), (77, Some("unlock again")));
        assert!(check.detail.contains("logind could not be heard"), "{check:?}");
    }

    #[test]
    fn a_server_with_credentials_in_its_environment_is_told_of_once() {
        let of = |more: &[&str]| {
            let leases: Vec<_> =
                more.iter().map(|more| lease(1, 1, "live", "null", r#""immediate""#, more)).collect();
            exposed(&status(None, &[], &[], &leases).leases)
        };
        let checks = of(&[r#","delivered":["env","file"]"#, r#","delivered":["env"]"#, ""]);
        let [only] = checks.as_slice() else { panic!("{checks:?}") };
        assert_eq!((only.verdict, only.exit), (Verdict::Weak, 0));
        assert!(only.detail.starts_with("orders-db has `db` in its environment"), "{only:?}");
        assert!(of(&[r#","delivered":["file"]"#]).is_empty());
    }

    #[test]
    fn a_weak_check_does_not_fail() {
        assert_eq!(namespace(false).exit, 0);
        assert_eq!(namespace(false).verdict, Verdict::Weak);
    }
}
