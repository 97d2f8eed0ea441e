//! Everything that can stand in the audit log. Fields are ids, names, numbers and closed words, so that no
//! caller can slip a secret into one.

use mcp_broker_proto::channel::{Containment, EndReason};
use mcp_broker_proto::names::{Label, LaunchId, LeaseId, ServerName, SessionId};
use mcp_broker_proto::problem::ErrorCode;
use mcp_broker_proto::session::{Revocability, RevokeRequest};
use serde::Serialize;

use crate::policy::Reason;

/// Who asked for something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ByWhom {
    /// User id that the kernel reported for the connection.
    pub uid: u32,
    /// Process id that the kernel reported, for people; nothing is decided by it.
    pub pid: Option<u32>,
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
    /// A session began.
    SessionStarted { session: SessionId, uid: u32, user: String },
    /// A session was locked: it mints nothing.
    SessionLocked { session: SessionId, by: ByWhom },
    /// A session was unlocked.
    SessionUnlocked { session: SessionId, by: ByWhom },
    /// A session is over.
    SessionEnded { session: SessionId, reason: EndReason },
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
    /// The instance of a launch runs.
    InstanceStarted { launch: LaunchId, scope: Label, pid: u32, containment: Containment },
    /// The instance of a launch ended by itself.
    InstanceExited { launch: LaunchId, scope: Label, status: u8 },
    /// A launch is over. `dead` says whether its launcher reported that no process is left.
    LaunchEnded { launch: LaunchId, reason: EndReason, dead: bool },
    /// An account was refused so often that further requests are not looked at for a while.
    LaunchesThrottled { by: ByWhom },
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
    CredentialIssued { lease: LeaseId, expires_at: Option<String>, revocability: Revocability },
    /// It was not minted.
    CredentialFailed { lease: LeaseId, code: ErrorCode },
    /// It was handed to its launch.
    CredentialDelivered { lease: LeaseId, launch: LaunchId },
    /// Its life was lengthened.
    CredentialRenewed { lease: LeaseId, expires_at: String },
    /// It is dead, and that was verified.
    CredentialRevoked { lease: LeaseId, proof: &'static str, was_gone: bool },
    /// It cannot be revoked: it is no longer handed out, and lives until then (or for ever).
    CredentialWithheld { lease: LeaseId, lives_until: Option<String> },
    /// Its end could not be verified yet; it is tried again.
    RevocationPending { lease: LeaseId, expires_at: Option<String>, attempt: u32 },
    /// It reached its expiry before its end could be verified.
    CredentialExpired { lease: LeaseId, expired_at: String },
    /// The parent of a session's credentials was made.
    ParentOpened { lease: LeaseId, session: SessionId, provider: Label },
    /// An admin pulled the kill switch.
    AdminRevoked { by: ByWhom, target: RevokeRequest, launches: usize },
}
