//! The broker as `mcp-run` sees it: typed requests over a socket whose owner was checked, and the launch
//! channel. Every answer has a size cap and a time limit; every failure says the cure.

use std::path::Path;
use std::time::{Duration, Instant};

use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::names::CallId;
use mcp_broker_proto::paths;
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::{Confirmation, Health, ServerInfo, Status};
use serde::de::DeserializeOwned;

use crate::environment::Environment;
use crate::failure::{Failure, UNAVAILABLE};
use http::{Request, Wire};
use socket::Socket;

pub mod channel;
pub mod counter;
pub mod dial;
pub mod http;
pub mod socket;

pub use channel::LaunchChannel;
pub use dial::{Dial, Dialer};

/// How long a request may take; a health check that asks the providers takes the longest.
const REQUEST_TIME: Duration = Duration::from_secs(15);

/// Why there is no launch.
#[derive(Debug)]
pub enum NoLaunch {
    /// The broker says no.
    Refused(Problem),
    /// There is no broker, or it cannot be used.
    Failed(Failure),
}

impl From<Failure> for NoLaunch {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl From<NoLaunch> for Failure {
    fn from(no: NoLaunch) -> Self {
        match no {
            NoLaunch::Refused(problem) => problem.into(),
            NoLaunch::Failed(failure) => failure,
        }
    }
}

/// A broker whose socket was found and whose owner was checked.
pub struct Broker {
    socket: Socket,
}

impl Broker {
    /// Finds the broker: the socket that was named, else the person's own, else the system's.
    ///
    /// # Errors
    /// Where there is none, or where it belongs to somebody who is not to be trusted.
    pub fn find(named: Option<&Path>, environment: &Environment) -> Result<Self, Failure> {
        Ok(Self { socket: Socket::find(named, environment)? })
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// How the broker does; with `providers` it asks each of them.
    ///
    /// # Errors
    /// Where it cannot be reached or answers with a problem.
    pub fn health(&self, providers: bool) -> Result<Health, Failure> {
        let query = if providers { "?providers=true" } else { "" };
        self.ask("GET", &format!("{}{query}", paths::HEALTH))
    }

    /// The caller's session, launches and leases.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub fn status(&self) -> Result<Status, Failure> {
        self.ask("GET", paths::SESSION)
    }

    /// Signs in; answers the session.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub fn login(&self) -> Result<Status, Failure> {
        self.ask("POST", paths::SESSION)
    }

    /// Ends the session; answers what is left of it.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub fn logout(&self) -> Result<Status, Failure> {
        self.ask("DELETE", paths::SESSION)
    }

    /// Locks the session.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub fn lock(&self) -> Result<Status, Failure> {
        self.ask("POST", paths::SESSION_LOCK)
    }

    /// Unlocks the session.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub fn unlock(&self) -> Result<Status, Failure> {
        self.ask("POST", paths::SESSION_UNLOCK)
    }

    /// What the caller may launch, and why not the others.
    ///
    /// # Errors
    /// As [`Self::health`].
    pub fn servers(&self) -> Result<Vec<ServerInfo>, Failure> {
        self.ask("GET", paths::SERVERS)
    }

    /// Says whether a call that waits for the person may go on.
    ///
    /// # Errors
    /// As [`Self::health`], and where no such call of the caller's session waits.
    pub fn confirm(&self, call: CallId, yes: bool) -> Result<Status, Failure> {
        let body = serde_json::to_vec(&Confirmation { yes }).map_err(|e| self.broken(&e.to_string()))?;
        self.ask_with("POST", &format!("{}/{call}", paths::CONFIRMATIONS), &body)
    }

    /// Asks for a launch; the answer is the channel that it lives on.
    ///
    /// # Errors
    /// As [`Self::health`]; a refusal is a problem.
    pub fn launch(&self, request: &LaunchRequest) -> Result<LaunchChannel, NoLaunch> {
        let until = Instant::now() + REQUEST_TIME;
        let mut wire = Wire::over(self.socket.connect(until)?, until);
        let body = serde_json::to_vec(request).map_err(|e| self.broken(&e.to_string()))?;
        let request = Request { method: "POST", path: paths::LAUNCHES, body: &body, upgrade: true };
        let head = wire.exchange(&request).map_err(|e| self.lost(&e))?;
        if head.status == 101 {
            let (stream, early) = wire.into_parts();
            return Ok(LaunchChannel::over(stream, &early));
        }
        let body = wire.body(&head).map_err(|e| self.lost(&e))?;
        match serde_json::from_slice(&body) {
            Ok(problem) => Err(NoLaunch::Refused(problem)),
            Err(_) => Err(self.refusal(head.status, &body).into()),
        }
    }

    fn ask<T: DeserializeOwned>(&self, method: &'static str, path: &str) -> Result<T, Failure> {
        self.ask_with(method, path, b"")
    }

    fn ask_with<T: DeserializeOwned>(
        &self,
        method: &'static str,
        path: &str,
        body: &[u8],
    ) -> Result<T, Failure> {
        let until = Instant::now() + REQUEST_TIME;
        let mut wire = Wire::over(self.socket.connect(until)?, until);
        let request = Request { method, path, body, upgrade: false };
        let head = wire.exchange(&request).map_err(|e| self.lost(&e))?;
        let body = wire.body(&head).map_err(|e| self.lost(&e))?;
        if !(200..300).contains(&head.status) {
            return Err(self.refusal(head.status, &body));
        }
        serde_json::from_slice(&body).map_err(|error| self.broken(&error.to_string()))
    }

    fn refusal(&self, status: u16, body: &[u8]) -> Failure {
        match serde_json::from_slice::<Problem>(body) {
            Ok(problem) => problem.into(),
            Err(_) => self.broken(&format!("status {status} without a problem")),
        }
    }

    fn lost(&self, error: &std::io::Error) -> Failure {
        let what = format!("the broker at {} did not answer: {error}", self.socket.path().display());
        Failure::new(UNAVAILABLE, what, "look at the broker's log, and run `mcp-run doctor`")
    }

    fn broken(&self, why: &str) -> Failure {
        let what =
            format!("the broker at {} answered something unusable: {why}", self.socket.path().display());
        Failure::new(UNAVAILABLE, what, "install the mcp-run that belongs to this broker")
    }
}
