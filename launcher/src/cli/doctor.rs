//! `mcp-run doctor`: what a launch needs, checked one by one, each with its cure.

use mcp_broker_proto::PROTOCOL;
use mcp_broker_proto::session::{Health, SessionState};
use serde::Serialize;

use super::text::json;
use super::{Call, Command};
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
    checks.push(Check::weak(
        "lock signals",
        "the screen's lock, sleep and logout are not watched yet",
        "run `mcp-run lock` or `mcp-run logout` when you leave",
    ));
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
    checks.push(session(broker));
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

fn session(broker: &Broker) -> Check {
    let session = match broker.status() {
        Ok(status) => status.session,
        Err(failure) => return Check::bad("session", failure),
    };
    match session.map(|session| (session.state, session)) {
        None => Check::ok("session", "none yet; the first launch begins one"),
        Some((SessionState::Active, session)) => {
            Check::ok("session", format!("active, {} until {}", session.user, session.ends_at))
        }
        Some((SessionState::Locked, _)) => Check::bad(
            "session",
            Failure::new(REFUSED, "locked: nothing is launched", "run `mcp-run unlock`"),
        ),
        Some((SessionState::Ended, _)) => {
            Check::bad("session", Failure::new(REFUSED, "ended", "run `mcp-run login`"))
        }
    }
}

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
mod tests {
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

    #[test]
    fn a_weak_check_does_not_fail() {
        assert_eq!(namespace(false).exit, 0);
        assert_eq!(namespace(false).verdict, Verdict::Weak);
    }
}
