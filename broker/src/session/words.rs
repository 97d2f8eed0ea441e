//! What people are told about sessions: what happened, and what they can do.

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{CallId, Label, ServerName};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::LockCause;

use super::holder::Holder;
use super::lock::{Lock, Obstacle};

/// What locked it, in words.
pub(super) fn locked_by(cause: LockCause) -> &'static str {
    match cause {
        LockCause::ScreenLock | LockCause::LockedHint => "the screen is locked",
        LockCause::Inactive => "another session is active on this seat",
        LockCause::Sleep => "the machine went to sleep",
        LockCause::Command => "the session was locked with `mcp-run lock`",
        LockCause::ClockJump => "the machine slept without telling",
        LockCause::BusLost => "logind could not be heard",
        LockCause::Found => "the session is locked",
    }
}

/// What opens it again, in words.
pub(super) fn way_back(lock: &Lock) -> &'static str {
    match lock.obstacle() {
        Some(Obstacle::Screen) => {
            "unlock the screen; where its locker does not tell logind, run `loginctl unlock-session` after that"
        }
        Some(Obstacle::Inactive) => "go back to the session's own screen, then run `mcp-run unlock`",
        Some(Obstacle::Blind) => "the broker waits for logind; run `mcp-run unlock` when it is back",
        Some(Obstacle::Asleep) => "wake the machine, then run `mcp-run unlock`",
        None => "run `mcp-run unlock`",
    }
}

/// Nothing is minted for a locked session.
pub(super) fn locked(holder: &Holder) -> Problem {
    Problem::new(ErrorCode::SessionLocked, locked_by(holder.cause()), way_back(holder.lock()))
}

/// `mcp-run unlock` is no evidence here.
pub(super) fn still_locked(lock: &Lock) -> Problem {
    let what = match lock.obstacle() {
        Some(Obstacle::Screen) => "the screen was locked, and its unlocking was not seen",
        Some(Obstacle::Inactive) => "another session is active on this seat",
        Some(Obstacle::Blind) => "logind cannot be heard, so a locked screen would not be seen",
        Some(Obstacle::Asleep) => "the machine is going to sleep",
        None => "the session is locked",
    };
    Problem::new(ErrorCode::SessionLocked, what, way_back(lock))
}

pub(super) fn stopping() -> Problem {
    Problem::new(ErrorCode::Stopping, "the broker is stopping", "try again when it runs again")
}

pub(super) fn session_over() -> Problem {
    let hint = "run `mcp-run login`, then start the server again";
    Problem::new(ErrorCode::NotSignedIn, "the session is over", hint)
}

pub(super) fn no_session() -> Problem {
    Problem::new(ErrorCode::NotSignedIn, "there is no session", "`mcp-run login` or a launch begins one")
}

pub(super) fn being_stilled() -> Problem {
    let hint = "it is tried again by itself";
    Problem::new(ErrorCode::SessionLocked, "the launch is being parked", hint)
}

/// A launch asked for more instances than it can use, or again and again.
pub(super) fn too_fast() -> Problem {
    let title = "the launch asks for credentials too often";
    Problem::new(ErrorCode::TooMany, title, "it is tried again by itself after a while")
}

/// The definition in force has no such scope.
pub(super) fn no_such_scope(server: &ServerName, scope: &Label) -> Problem {
    let title = format!("server `{server}` has no scope `{scope}`");
    Problem::new(ErrorCode::NoAccess, title, "the definition has changed: start the server again")
}

/// An instance that runs cannot take what the definition in force would give it.
pub(super) fn other_definition(server: &ServerName) -> Problem {
    let title = format!("the definition of server `{server}` has changed since its instance was started");
    Problem::new(ErrorCode::ConfigError, title, "another instance takes its place by itself")
}

/// A call to answer that is not there, or not for who answers.
pub(super) fn nothing_waits(call: CallId) -> Problem {
    let title = format!("no call `{call}` of this session waits for an answer");
    Problem::new(ErrorCode::NothingThere, title, "`mcp-run status` lists the calls that do")
}

/// What the person can do about an end that was not theirs.
pub(super) fn after_end(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Revoked => "an admin ended it; ask them before you start the server again",
        EndReason::Locked => "unlock the session (see `mcp-run status`), then start the server again",
        EndReason::LoggedOut | EndReason::MaxAge | EndReason::SessionClosed => {
            "run `mcp-run login`, then start the server again"
        }
        EndReason::CredentialEnded => "start the server again to get a new credential",
        EndReason::ParentLost => "run `mcp-run doctor`; the provider could not be reached in time",
        EndReason::BrokerStopping | EndReason::Shutdown => {
            "start the server again when the broker runs again"
        }
        EndReason::SecretLeaked => "tell the server's owner that it showed a secret",
        EndReason::DefinitionChanged => {
            "ask an admin to approve the server as it is now (`mcp-broker approve`)"
        }
        EndReason::LauncherSilent => "the launcher did not answer; start the server again",
        EndReason::LauncherGone
        | EndReason::ServerExited
        | EndReason::MintFailed
        | EndReason::Idle
        | EndReason::Replaced
        | EndReason::TrialOver
        | EndReason::Recovered => "start the server again",
    }
}

pub(super) fn login_over() -> Problem {
    let hint = "log in again, then start the server again";
    Problem::new(ErrorCode::NoLoginSession, "the login session of this process is over", hint)
}

pub(super) fn restless() -> Problem {
    let title = "the login session of this process changes too fast to be looked at";
    Problem::new(ErrorCode::LoginsUnseen, title, "try again in a moment")
}
