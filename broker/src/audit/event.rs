//! Everything that can stand in the audit log. Fields are ids, names, numbers and closed words, so that no
//! caller can slip a secret into one.

use std::collections::BTreeMap;

use mcp_broker_proto::call::{CallOutcome, CallReason, Change, Verdict};
use mcp_broker_proto::channel::{Containment, EndReason, GoneReason};
use mcp_broker_proto::names::{CallId, Label, LaunchId, LeaseId, ServerName, SessionId};
use mcp_broker_proto::problem::ErrorCode;
use mcp_broker_proto::session::{LockCause, Revocability, RevokeRequest};
use serde::Serialize;

use super::call::{Arguments, KeyedDigest, ToolName};
use crate::policy::Reason;

/// What brought a locked session back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// logind's `Unlock`, after a lock that was seen.
    Unlock,
    /// The desktop's hint went from locked to unlocked, and both were seen.
    LockedHint,
    /// `mcp-run unlock`, after something that is no screen lock.
    Command,
}

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ByWhom {
    /// User id that the kernel reported for the connection.
    pub uid: u32,
    /// Process id that the kernel reported, for people; nothing is decided by it.
    pub pid: Option<u32>,
}

/// How a person answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The client asked (MCP elicitation).
    Elicitation,
    /// `mcp-run approve`.
    Command,
}

/// One thing that happened.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The broker accepts connections.
    BrokerStarted { version: &'static str, mode: &'static str, servers: usize, boot_id: String },
    /// The broker has ended everything that it could and stops.
    BrokerStopped { pending: usize },
    /// A torn last line, left by a crash, was cut off this log.
    AuditRepaired { bytes: u64 },
    /// A torn last record, left by a crash, was cut off the journal.
    JournalRepaired { bytes: u64 },
    /// The journal is damaged in the middle: everything in it that can be read is revoked.
    JournalDamaged { unreadable: usize, kept_as: Option<String> },
    /// A new configuration is in force.
    ConfigReloaded { servers: usize },
    /// A new configuration was refused; the old one stays in force.
    ConfigRefused { errors: usize },
    /// A session began, bound to a login session where those are known.
    SessionStarted { session: SessionId, uid: u32, user: String, login: Option<String> },
    /// A session was locked: it mints nothing. `by` is there where somebody asked for it.
    SessionLocked { session: SessionId, cause: LockCause, by: Option<ByWhom> },
    /// What a locked session had is ended, apart from so many credentials whose end is not verified yet.
    SessionCleared { session: SessionId, pending: usize },
    /// A session was unlocked, after so many launches were refused.
    SessionUnlocked { session: SessionId, evidence: Evidence, refused: u64, by: Option<ByWhom> },
    /// A session is over, and so is what it had, apart from so many credentials whose end is not verified yet.
    SessionEnded { session: SessionId, reason: EndReason, pending: usize },
    /// Policy allowed a launch.
    LaunchGranted {
        launch: LaunchId,
        session: SessionId,
        user: String,
        server: ServerName,
        scope: Label,
        by: ByWhom,
        reasons: Vec<Reason>,
    },
    /// A launch was refused.
    LaunchDenied { user: String, server: ServerName, by: ByWhom, code: ErrorCode, reasons: Vec<Reason> },
    /// A launch was refused, as it is not clear whose it would be.
    LauncherTurnedAway { server: ServerName, by: ByWhom, code: ErrorCode },
    /// A launch asked for another instance, and policy does not allow it any more.
    InstanceDenied { launch: LaunchId, scope: Label, code: ErrorCode, reasons: Vec<Reason> },
    /// An instance of a launch runs.
    InstanceStarted { launch: LaunchId, instance: u32, scope: Label, pid: u32, containment: Containment },
    /// An instance of a launch ended by itself.
    InstanceExited { launch: LaunchId, instance: u32, scope: Label, status: u8 },
    /// The launcher says that an instance that runs has new credentials; or with `failed` that they could not be put
    /// where they belong.
    InstanceRefreshed {
        launch: LaunchId,
        instance: u32,
        leases: Vec<LeaseId>,
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    },
    /// The launcher says that no process of an instance is left.
    InstanceGone { launch: LaunchId, instance: u32, scope: Label, reason: GoneReason },
    /// A launch has no instance and may not have one. `dead` says whether its launcher reported that no process
    /// is left; where it did not, it was killed.
    LaunchParked { launch: LaunchId, reason: EndReason, dead: bool },
    /// What a launch was parked for is over.
    LaunchResumed { launch: LaunchId },
    /// A launch is over. `dead` says whether its launcher reported that no process is left.
    LaunchEnded { launch: LaunchId, reason: EndReason, dead: bool },
    /// A call of a tool was decided on; twice where a person was asked. `tool` is missing where it is no name.
    /// `arguments` are there only where the definition asks for them, and once.
    CallDecided {
        call: CallId,
        launch: LaunchId,
        scope: Label,
        tool: Option<ToolName>,
        verdict: Verdict,
        reason: CallReason,
        size: u64,
        digest: KeyedDigest,
        #[serde(skip_serializing_if = "Option::is_none")]
        arguments: Option<Arguments>,
    },
    /// A person answered whether a call may go on. `by` is there where that was not over the launch itself.
    CallConfirmed { call: CallId, user: String, yes: bool, how: Answer, by: Option<ByWhom> },
    /// A call that was allowed, or waited for a person, is over, as its launcher says; `unknown` where the launcher
    /// went away.
    CallAnswered {
        call: CallId,
        outcome: CallOutcome,
        instance: Option<u32>,
        size: u64,
        millis: u64,
        masked: u64,
    },
    /// An instance shows these tools otherwise than they were approved: they are hidden. All such tools of the
    /// scope whose names are names.
    ToolsChanged { launch: LaunchId, scope: Label, tools: BTreeMap<ToolName, Change> },
    /// So many secrets of the launch were found in what an instance said, and masked.
    SecretsMasked { launch: LaunchId, instance: u32, scope: Label, count: u64 },
    /// A launch was denied so many calls in a minute that further denials of it are not written down.
    DenialsNotWritten { launch: LaunchId },
    /// An account was refused so often that further requests are not looked at for a while.
    LaunchesThrottled { by: ByWhom },
    /// An admin tries a scope of a server with its credentials, to approve the server: a launch of its own, under a
    /// session of its own.
    TrialStarted {
        launch: LaunchId,
        session: SessionId,
        user: String,
        server: ServerName,
        scope: Label,
        by: ByWhom,
    },
    /// The trial is over.
    TrialEnded { launch: LaunchId, reason: EndReason },
    /// A credential is about to be minted.
    CredentialIntended {
        lease: LeaseId,
        launch: LaunchId,
        session: SessionId,
        server: ServerName,
        scope: Label,
        credential: Label,
        provider: Label,
        ttl_seconds: u64,
    },
    /// It was minted.
    CredentialIssued {
        lease: LeaseId,
        expires_at: Option<String>,
        revocability: Revocability,
        /// What its provider says of it, such as the name of its role session; never a secret.
        #[serde(skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// It was not minted.
    CredentialFailed { lease: LeaseId, code: ErrorCode },
    /// Its provider wrapped it for the broker, and somebody else opened that first: whoever it was reads along between
    /// the two, or holds the broker's answers. It is revoked.
    WrappingOpened { lease: LeaseId },
    /// It was handed to its launch.
    CredentialDelivered { lease: LeaseId, launch: LaunchId },
    /// Its life was lengthened.
    CredentialRenewed { lease: LeaseId, expires_at: String },
    /// It is dead, and that was verified.
    CredentialRevoked { lease: LeaseId, proof: &'static str, was_gone: bool },
    /// It cannot be revoked: it is no longer handed out, and lives until then (or for ever).
    CredentialWithheld { lease: LeaseId, lives_until: Option<String> },
    /// It cannot be revoked and is valid until then; an admin's program or server was told, and says that its use is
    /// denied.
    CredentialDenied { lease: LeaseId, by: &'static str, lives_until: String },
    /// Its end could not be verified yet, or whoever is to deny it did not do so; it is tried again.
    RevocationPending { lease: LeaseId, expires_at: Option<String>, attempt: u32, code: ErrorCode },
    /// It reached its expiry before its end could be verified.
    CredentialExpired { lease: LeaseId, expired_at: String },
    /// The parent of a session's credentials was made.
    ParentOpened { lease: LeaseId, session: SessionId, provider: Label },
    /// An admin approved a server as it showed itself: the definition's digest, and how many tools were recorded.
    ServerApproved { server: ServerName, by: ByWhom, definition: String, tools: usize },
    /// What was approved could not be kept after all: it is not in force.
    ApprovalNotKept { server: ServerName },
    /// An admin pulled the kill switch.
    AdminRevoked { by: ByWhom, target: RevokeRequest, launches: usize },
}

/// What a record takes in memory, in bytes, apart from what can be long in it.
const RECORD: usize = 512;

impl Event {
    /// About how much memory it takes, in bytes.
    pub(super) fn weight(&self) -> usize {
        let long = match self {
            Self::CallDecided { arguments: Some(arguments), .. } => arguments.len(),
            Self::ToolsChanged { tools, .. } => tools.keys().map(|name| name.as_str().len() + 64).sum(),
            _ => 0,
        };
        RECORD + long
    }
}
