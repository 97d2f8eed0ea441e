//! Finding the broker again after it was lost, without keeping anybody waiting: a thread that lives for one
//! try. While it lives no process may be cloned: whoever has a [`Dial`] takes its outcome first.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::names::ServerName;
use rustix::pipe::{PipeFlags, pipe_with};

use super::{Broker, LaunchChannel, NoLaunch};
use crate::environment::Environment;
use crate::failure::Failure;

/// Stack of the thread, in bytes.
const STACK: usize = 256 << 10;

/// What a launch is asked for with.
pub struct Dialer {
    socket: Option<PathBuf>,
    environment: Environment,
    server: ServerName,
    args: Vec<String>,
}

impl Dialer {
    /// For one server.
    #[must_use]
    pub fn new(
        socket: Option<PathBuf>,
        environment: Environment,
        server: ServerName,
        args: Vec<String>,
    ) -> Self {
        Self { socket, environment, server, args }
    }

    /// Asks for the launch, and waits for the answer.
    ///
    /// # Errors
    /// Where there is no broker, or where it says no.
    pub fn call(&self, want: bool) -> Result<LaunchChannel, NoLaunch> {
        // A broker that was started again listens on another file of the same name.
        let broker = Broker::find(self.socket.as_deref(), &self.environment)?;
        let (server, args) = (self.server.clone(), self.args.clone());
        broker.launch(&LaunchRequest { protocol: mcp_broker_proto::PROTOCOL, server, args, want })
    }

    /// The environment of the launch.
    #[must_use]
    pub fn environment(&self) -> &Environment {
        &self.environment
    }

    /// Begins to ask for the launch again. Credentials are asked for when its plan is known.
    ///
    /// # Errors
    /// Where no thread can be had.
    pub fn begin(self: &Arc<Self>) -> Result<Dial, Failure> {
        let failed = |e: std::io::Error| Failure::system("look for the broker again", e);
        let (done, alive) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| failed(e.into()))?;
        let dialer = Arc::clone(self);
        let call = move || {
            let outcome = dialer.call(false);
            drop(alive);
            outcome
        };
        let thread = Builder::new().stack_size(STACK).spawn(call).map_err(failed)?;
        Ok(Dial { thread, done })
    }
}

/// A try that is under way. Its descriptor hangs up when it is over.
pub struct Dial {
    thread: JoinHandle<Result<LaunchChannel, NoLaunch>>,
    done: OwnedFd,
}

impl Dial {
    /// The outcome, of a try that is over.
    ///
    /// # Errors
    /// As [`Dialer::call`].
    pub fn finish(self) -> Result<LaunchChannel, NoLaunch> {
        self.thread.join().unwrap_or_else(|_panicked| {
            Err(Failure::system("look for the broker again", std::io::ErrorKind::Other).into())
        })
    }
}

impl AsFd for Dial {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }
}
