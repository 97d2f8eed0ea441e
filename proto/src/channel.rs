//! Frames of the launch channel: one JSON object a line, both ways, from the `101` until the end.
//! Whoever holds the connection is the launch; when the kernel closes it the broker revokes.

use serde::{Deserialize, Serialize};

use crate::launch::LaunchTicket;
use crate::names::Label;
use crate::problem::Problem;

/// What the broker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToLauncher {
    /// The credentials are minted: spawn.
    Ticket(Box<LaunchTicket>),
    /// They could not be minted; the channel closes.
    Refused(Problem),
    /// Still here.
    Beat,
    /// Kill the instances now, answer [`ToBroker::Dead`], tell the person.
    End(End),
}

/// What the launcher says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToBroker {
    /// Still here.
    Beat,
    /// An instance runs.
    Started {
        /// Its scope.
        scope: Label,
        /// Its process id as the launcher sees it, for people; nothing is decided by it.
        pid: u32,
        /// What holds its process tree.
        containment: Containment,
    },
    /// An instance ended by itself.
    Exited {
        /// Its scope.
        scope: Label,
        /// Exit status, or 128 + n where signal n ended it.
        status: u8,
    },
    /// No process of this launch is alive; the launch may be closed.
    Dead,
}

/// What guarantees that an instance's grandchildren end with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Containment {
    /// A PID namespace: the kernel kills every process in it (pid_namespaces(7)).
    PidNamespace,
    /// A child sub-reaper that finds and kills orphans (prctl(2), `PR_SET_CHILD_SUBREAPER`).
    SubReaper,
}

/// Why a launch must end now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct End {
    /// The reason.
    pub reason: EndReason,
    /// What the person can do.
    pub hint: String,
}

/// Every reason for which a launch ends. The audit log uses the same words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The launcher closed the channel: its server exited, its client left, or it was killed.
    LauncherGone,
    /// The launcher said so: no process is left.
    ServerExited,
    /// Nothing was heard from the launcher for too long.
    LauncherSilent,
    /// The credentials could not be minted.
    MintFailed,
    /// An admin revoked it.
    Revoked,
    /// The session was locked.
    Locked,
    /// The person logged out.
    LoggedOut,
    /// The session reached its maximum age.
    MaxAge,
    /// A credential could not be renewed further.
    CredentialEnded,
    /// The session's parent token could not be renewed in time.
    ParentLost,
    /// The broker stops.
    BrokerStopping,
    /// Left behind by a broker that died; ended at the next start.
    Recovered,
}
