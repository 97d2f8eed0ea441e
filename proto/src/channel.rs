//! Frames of the launch channel: one JSON object a line, both ways, from the `101` until the end.
//! Whoever holds the connection is the launch; when the kernel closes it the broker revokes.

use serde::{Deserialize, Serialize};

use crate::call::{Answered, Ask, Changed, Decision};
use crate::launch::{LaunchTicket, Refresh};
use crate::names::{Label, LeaseId};
use crate::plan::Plan;
use crate::problem::Problem;

/// What the broker says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToLauncher {
    /// What the launch is: the first frame, and again where the definition has changed.
    Plan(Box<Plan>),
    /// The credentials that were asked for are minted: spawn.
    Ticket(Box<LaunchTicket>),
    /// They cannot be had now. The launch goes on without that instance, and may ask again.
    Refused {
        /// The scope that they were wanted for.
        scope: Label,
        /// Why.
        problem: Problem,
    },
    /// What was decided on a call.
    Decision(Decision),
    /// Still here.
    Beat,
    /// Kill the instances now, answer [`ToBroker::Dead`], and keep the client's pipe: the launch is parked.
    Park(Park),
    /// What a launch was parked for is over: it may ask again.
    Resume,
    /// The credentials of this instance cannot be renewed any further: ask for another one, and give this one
    /// up when it is there. Until then it works on.
    Replace {
        /// The instance.
        instance: u32,
        /// It must be given up within so many seconds, as then its credentials end; 0: now.
        within_secs: u64,
    },
    /// New credentials for an instance that goes on. It is answered by one [`ToBroker::Refreshed`].
    Refresh(Box<Refresh>),
    /// A credential that an instance may ask for while it runs lives longer now.
    Renewed {
        /// Its lease.
        lease: LeaseId,
        /// When it stops working unless it is renewed again (RFC 3339).
        expires_at: String,
    },
    /// Kill the instances now, answer [`ToBroker::Dead`], tell the person.
    End(End),
}

/// What the launcher says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToBroker {
    /// Still here.
    Beat,
    /// Credentials for an instance, please. At most one request of a scope is open at a time, also while an earlier
    /// instance is not gone yet. It is answered by one [`ToLauncher::Ticket`] or [`ToLauncher::Refused`]; one that
    /// crosses a [`ToLauncher::Park`] may be refused as `session_locked`, or not answered at all.
    Want {
        /// The scope of the instance.
        scope: Label,
    },
    /// May this call go on? It is answered by one [`ToLauncher::Decision`], or by two where a person is asked.
    Ask(Ask),
    /// What the person said to a call that waits for that.
    Confirmed {
        /// The launcher's number of the call.
        call: u64,
        /// Whether it may go on.
        yes: bool,
    },
    /// What became of a call that was allowed: said once for each.
    Answered(Answered),
    /// What an instance shows otherwise than it was approved; replaces what was said of that scope before.
    Changed(Changed),
    /// Secrets of the launch were found in what an instance said, and masked.
    Leaked {
        /// The instance.
        instance: u32,
        /// How many, since this was last said.
        count: u64,
    },
    /// An instance runs.
    Started {
        /// Which one, as its ticket said.
        instance: u32,
        /// Its scope.
        scope: Label,
        /// Its process id as the launcher sees it, for people; nothing is decided by it.
        pid: u32,
        /// What holds its process tree.
        containment: Containment,
    },
    /// New credentials are where the instance finds them, or could not be put there.
    Refreshed {
        /// Which one.
        instance: u32,
        /// The leases that came with [`ToLauncher::Refresh`].
        leases: Vec<LeaseId>,
        /// Why they are not where they belong, for people: then the instance still has the old ones.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        failed: Option<String>,
    },
    /// An instance ended by itself.
    Exited {
        /// Which one.
        instance: u32,
        /// Exit status, or 128 + n where signal n ended it.
        status: u8,
    },
    /// No process of this instance is alive: its credentials may be revoked.
    Gone {
        /// Which one.
        instance: u32,
        /// Why.
        reason: GoneReason,
    },
    /// No process of this launch is alive. The answer to [`ToLauncher::Park`] and [`ToLauncher::End`]; unasked,
    /// the last word of a launch.
    Dead,
}

/// Why a launcher gave an instance up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoneReason {
    /// It ended by itself.
    Exited,
    /// Nothing was asked of it for the time that its ticket names.
    Idle,
    /// Another one took its place.
    Replaced,
    /// It could not be started, or did not answer as the one before it.
    Unusable,
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

/// Why a launch is parked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Park {
    /// What kind of reason it is.
    pub reason: ParkReason,
    /// What happened, for a person: lower case, no full stop.
    pub what: String,
    /// What the person can do.
    pub hint: String,
}

/// The kinds of reasons for which a launch is parked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ParkReason {
    /// The session is locked: wait for [`ToLauncher::Resume`].
    Locked,
    /// The credentials cannot be had or kept: ask again after a while.
    CredentialUnavailable,
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
    /// The login session is over: the system says so, or its leader has exited.
    SessionClosed,
    /// The machine is shut down.
    Shutdown,
    /// An instance was not asked for anything for a while.
    Idle,
    /// Another instance took its place.
    Replaced,
    /// The broker stops.
    BrokerStopping,
    /// A server's words held a secret, and its definition says that this ends the launch.
    SecretLeaked,
    /// A server shows tools otherwise than they were approved, which its tier does not take.
    DefinitionChanged,
    /// A trial of an approval is over.
    TrialOver,
    /// Left behind by a broker that died; ended at the next start.
    Recovered,
}
