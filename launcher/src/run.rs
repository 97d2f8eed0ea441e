//! The story of one launch, on one screen: ask, take the signals, relay until the end, say what ended it.

use std::path::Path;
use std::time::{Duration, Instant};

use mcp_broker_proto::channel::{End, EndReason};
use mcp_broker_proto::names::ServerName;
use rustix::process::geteuid;

use crate::client::{Dialer, LaunchChannel, NoLaunch};
use crate::environment::Environment;
use crate::failure::{AGAIN, Failure, REFUSED, UNAVAILABLE};
use crate::proxy::{Outcome, Relay, Signals};
use crate::spawn::private;
use crate::{harden, say};

/// How long the broker may refuse a launch for a reason that passes, before the person is told.
const PATIENCE: Duration = Duration::from_secs(3);
/// Pause between two tries in that time.
const PAUSE: Duration = Duration::from_millis(500);

/// One launch from the request to the exit code.
///
/// # Errors
/// Whatever ended it that was not the server's own end.
pub fn launch(
    server: ServerName,
    args: Vec<String>,
    socket: Option<&Path>,
    environment: &Environment,
) -> Result<u8, Failure> {
    harden::now()?;
    let dialer = Dialer::new(socket.map(Path::to_owned), environment.clone(), server, args);
    let channel = call(&dialer)?;
    let signals = Signals::take().map_err(|e| Failure::system("take over the signals", e))?;
    let runtime = environment.runtime_dir(geteuid().as_raw());
    let relay = Relay::new(dialer, runtime.clone(), channel, signals);
    private::sweep(&runtime);
    // Spawns an instance when its credentials come, keeps the client's pipe when it goes, until the end.
    let Outcome { ended, why } = relay.run();
    if !ended.gone {
        say::note(
            "some process of the server could not be ended; its credentials are being revoked all the same",
        );
    }
    why.map_or(Ok(ended.status), Err)
}

/// Asks for the launch; a refusal that passes is waited on for a moment.
fn call(dialer: &Dialer) -> Result<LaunchChannel, Failure> {
    let until = Instant::now() + PATIENCE;
    loop {
        match dialer.call(true) {
            Err(NoLaunch::Refused(problem)) if problem.code.is_passing() && Instant::now() < until => {
                std::thread::sleep(PAUSE);
            }
            outcome => return Ok(outcome?),
        }
    }
}

/// What the broker's reason for an end means for the person.
#[must_use]
pub fn ended(end: &End) -> Failure {
    let (exit, what) = match end.reason {
        EndReason::Revoked => (REFUSED, "the launch was revoked by an administrator"),
        EndReason::Locked => (REFUSED, "the launch was ended because the session is locked"),
        EndReason::LoggedOut => (REFUSED, "the launch was ended because you logged out"),
        EndReason::MaxAge => (REFUSED, "the launch was ended because the session reached its maximum age"),
        EndReason::CredentialEnded => {
            (AGAIN, "the launch was ended because its credential could not be renewed further")
        }
        EndReason::BrokerStopping => (UNAVAILABLE, "the launch was ended because the broker stops"),
        EndReason::ParentLost => {
            (UNAVAILABLE, "the launch was ended because the session's parent token could not be renewed")
        }
        EndReason::MintFailed => {
            (UNAVAILABLE, "the launch was ended because its credentials could not be minted")
        }
        EndReason::LauncherSilent => {
            (UNAVAILABLE, "the launch was ended because the broker heard nothing from mcp-run")
        }
        EndReason::SessionClosed => (REFUSED, "the launch was ended because the login session is over"),
        EndReason::Shutdown => (UNAVAILABLE, "the launch was ended because the machine is shut down"),
        EndReason::SecretLeaked => (REFUSED, "the launch was ended because the server showed a secret"),
        EndReason::DefinitionChanged => {
            (REFUSED, "the launch was ended because the server shows tools that were not approved")
        }
        EndReason::LauncherGone
        | EndReason::TrialOver
        | EndReason::ServerExited
        | EndReason::Idle
        | EndReason::Replaced
        | EndReason::Recovered => (UNAVAILABLE, "the launch was ended by the broker"),
    };
    Failure::new(exit, what, end.hint.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_of_ends() {
        for (reason, exit) in [
            (EndReason::Revoked, 77),
            (EndReason::Locked, 77),
            (EndReason::LoggedOut, 77),
            (EndReason::MaxAge, 77),
            (EndReason::CredentialEnded, 75),
            (EndReason::BrokerStopping, 69),
            (EndReason::ParentLost, 69),
        ] {
            let failure = ended(&End { reason, hint: "do".into() });
            assert_eq!((failure.exit, failure.hint.as_str()), (exit, "do"), "{reason:?}");
        }
    }
}
