//! `mcp-run login`: begins the session. With operating-system sign-in being logged in is enough.

use mcp_broker_proto::session::{SessionInfo, SessionState};

use super::{Call, Command, usage, words};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command =
    Command { name: "login", arguments: "", about: "begin the session", json: false, run };

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let status = call.broker()?.login()?;
    match status.session {
        Some(session) => say::answer(&signed_in(&session)),
        None => say::answer("the broker began no session\n"),
    }
    Ok(0)
}

fn signed_in(session: &SessionInfo) -> String {
    let mut out = format!(
        "signed in as {} until {}\nbeing logged in to this machine is enough here: a launch signs in by itself\n",
        session.user, session.ends_at
    );
    if session.state == SessionState::Locked {
        out.push_str(&format!("{}: nothing is launched\n", words::state(session)));
    }
    if let Some(lock) = &session.lock {
        out.push_str(&format!("to go on: {}\n", lock.hint));
    }
    if session.login.is_none() {
        out.push_str(&format!("{}\n", words::UNSEEN));
    }
    out
}

/// `--device` belongs to sign-in with an identity provider.
pub(super) fn device() -> Failure {
    usage(
        "`login --device` is not built yet: this broker signs in by the operating system",
        "run `mcp-run login`; being logged in to this machine is enough",
    )
}
