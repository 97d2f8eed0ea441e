//! The story of one launch, on one screen: ask, wait for the credentials, plan, spawn, relay, tidy up.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use mcp_broker_proto::channel::{End, EndReason, ToBroker};
use mcp_broker_proto::names::ServerName;
use rustix::process::geteuid;

use crate::client::{Broker, LaunchChannel};
use crate::environment::Environment;
use crate::failure::{AGAIN, Failure, REFUSED, UNAVAILABLE};
use crate::inject;
use crate::proxy::{Outcome, Relay, Signals};
use crate::spawn::Keeper;
use crate::spawn::private::{self, PrivateDir};
use crate::{harden, say};

/// How long the broker may take to read the last word of a launch that failed.
const FAREWELL: Duration = Duration::from_secs(1);

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
    let broker = Broker::find(socket, environment)?;
    let mut channel = broker.launch(server, args)?;
    // While the broker mints. It holds no secret, and is handed nothing but the plan.
    let keeper = Keeper::start()?;
    let runtime = environment.runtime_dir(geteuid().as_raw());
    private::sweep(&runtime);
    let mut files = None;
    let outcome = serve(&mut channel, keeper, (environment, &runtime), &mut files);
    if let Some(files) = files {
        files.remove().unwrap_or_else(|failure| say::failure(&failure));
    }
    let Outcome { ended, why } = outcome?;
    if !ended.gone {
        say::note(
            "some process of the server could not be ended; its credentials are being revoked all the same",
        );
    }
    why.map_or(Ok(ended.status), Err)
}

/// From the ticket to the end of the tree. What it wrote to files is left in `files`.
fn serve(
    channel: &mut LaunchChannel,
    keeper: Keeper,
    (environment, runtime): (&Environment, &Path),
    files: &mut Option<PrivateDir>,
) -> Result<Outcome, Failure> {
    let ticket = channel.ticket()?;
    let signals = Signals::take().map_err(|e| Failure::system("take over the signals", e))?;
    let (number, scope) = (ticket.instance, ticket.scope.clone());
    let make_dir = || keeper.share(PrivateDir::make(runtime)?);
    let planned = inject::plan(ticket, environment, files, &make_dir);
    // The plan, and with it every secret that this process knows, is wiped at the end of this match.
    let spawned = match planned {
        Ok(plan) => keeper.spawn(&plan),
        Err(failure) => Err((failure, keeper.dismiss())),
    };
    let instance = spawned.map_err(|(failure, gone)| farewell(channel, gone, failure))?;
    let started = ToBroker::Started {
        instance: number,
        scope,
        pid: instance.pid(),
        containment: instance.containment(),
    };
    // Where the broker is gone already, the relay sees it first thing and ends the server.
    channel.send(&started).unwrap_or_default();
    let relay = Relay::new(instance, number, channel, signals);
    Ok(relay.map_err(|e: io::Error| Failure::system("relay the conversation", e))?.run())
}

/// Lets the broker revoke at once what was minted for nothing.
fn farewell(channel: &mut LaunchChannel, gone: bool, failure: Failure) -> Failure {
    if gone && channel.send(&ToBroker::Dead).is_ok() {
        // What the broker does not read it learns from the closed connection.
        channel.drain(Instant::now() + FAREWELL).unwrap_or_default();
    }
    failure
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
        EndReason::LauncherGone
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
