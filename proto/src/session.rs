//! What a person and an admin see: session, launches, leases, servers. Only what was verified is claimed.

use serde::{Deserialize, Serialize};

use crate::call::Changed;
use crate::channel::Containment;
use crate::names::{CallId, Label, LaunchId, LeaseId, ServerName, SessionId};

/// What revoking a credential does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocability {
    /// It stops working when revoked.
    Immediate,
    /// It works until its expiry, at most so many seconds after issue.
    Bounded {
        /// Seconds.
        seconds: u64,
    },
    /// It is a static value: it can be withheld, not revoked.
    None,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Mints.
    Active,
    /// Mints nothing until it is unlocked.
    Locked,
    /// Over; its credentials are being settled.
    Ended,
}

/// What locked a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockCause {
    /// logind asked the session's screen locker to lock (`Lock`, org.freedesktop.login1(5)).
    ScreenLock,
    /// The desktop says that its screen is locked (`LockedHint`).
    LockedHint,
    /// The session is not the active one of its seat: somebody else works there.
    Inactive,
    /// The machine is going to sleep.
    Sleep,
    /// `mcp-run lock`.
    Command,
    /// The boot clock jumped against the monotonic one: the machine slept, and nobody had announced it.
    ClockJump,
    /// logind cannot be heard, so that a lock would not be seen.
    BusLost,
    /// The session was found locked, or its state could not be read, when the broker first saw it.
    Found,
}

/// That a session is locked, and what brings it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockInfo {
    /// What locked it first.
    pub cause: LockCause,
    /// Since when (RFC 3339).
    pub since: String,
    /// What the person can do.
    pub hint: String,
}

/// The login session that a session is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginInfo {
    /// logind's id of it.
    pub id: String,
    /// Its seat, where it has one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub seat: Option<String>,
    /// Whether it came over the network.
    pub remote: bool,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionInfo {
    /// Identifier.
    pub id: SessionId,
    /// State.
    pub state: SessionState,
    /// User id of the account.
    pub uid: u32,
    /// Name of the account.
    pub user: String,
    /// When it began (RFC 3339).
    pub since: String,
    /// When it ends at the latest (RFC 3339).
    pub ends_at: String,
    /// Why it is locked, while it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub lock: Option<LockInfo>,
    /// The login session whose lock and logout are seen; without one they are not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub login: Option<LoginInfo>,
}

/// Where a lease stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeaseState {
    /// Asked for; the provider has not answered yet.
    Minting,
    /// Issued and alive.
    Live,
    /// Its end was asked for and is not verified: `expires_at` says until when it can live.
    RevocationPending,
}

/// One lease. Settled leases are in the audit log only, except for those that were withheld and are valid still.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// Identifier.
    pub id: LeaseId,
    /// The launch it belongs to.
    pub launch: LaunchId,
    /// The session it belongs to.
    pub session: SessionId,
    /// Name of the account.
    pub user: String,
    /// The server it was minted for.
    pub server: ServerName,
    /// The scope's name.
    pub scope: Label,
    /// The credential's name in the scope.
    pub credential: Label,
    /// The provider's name.
    pub provider: Label,
    /// State.
    pub state: LeaseState,
    /// When it stops working unless renewed (RFC 3339), where it ends at all.
    pub expires_at: Option<String>,
    /// When the backend itself lets it end, where that is later (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_until: Option<String>,
    /// When it is renewed, or another one takes its place, next (RFC 3339), where that is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub renews_at: Option<String>,
    /// The ways by which it reaches the server, such as `env`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub delivered: Vec<String>,
    /// What its provider says of it for people, such as the size of its policy.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// What revoking it does.
    pub revocability: Revocability,
    /// Why the last try to revoke it failed, while that is pending.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub trouble: Option<String>,
    /// It was ended and cannot be revoked: nobody is handed it any more, nothing more is done about it, and it is
    /// valid until `expires_at`.
    #[serde(skip_serializing_if = "std::ops::Not::not", default)]
    pub withheld: bool,
}

/// Where a launch stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LaunchState {
    /// Credentials are being minted for it, or its instance is starting.
    Starting,
    /// An instance runs.
    Running,
    /// No instance runs, and none is needed until the next request.
    Idle,
    /// No instance may run: [`LaunchInfo::parked`] says why.
    Parked,
}

/// One launch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaunchInfo {
    /// Identifier.
    pub id: LaunchId,
    /// Its session.
    pub session: SessionId,
    /// Name of the account.
    pub user: String,
    /// The server.
    pub server: ServerName,
    /// When it began (RFC 3339).
    pub since: String,
    /// Where it stands.
    pub state: LaunchState,
    /// Why it is parked, while it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parked: Option<String>,
    /// Process id of the launcher, for people.
    pub launcher_pid: Option<u32>,
    /// Its instances that run.
    pub running: Vec<RunningInfo>,
    /// When the server was approved (RFC 3339); nothing where it was not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub approved: Option<String>,
    /// Tools that are hidden, as the server shows them otherwise than they were approved.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub changed: Vec<Changed>,
}

/// One instance that runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningInfo {
    /// Its number within the launch.
    pub instance: u32,
    /// Its scope.
    pub scope: Label,
    /// Its process id as the launcher sees it.
    pub pid: u32,
    /// What holds its process tree.
    pub containment: Containment,
}

/// One call that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfirmationInfo {
    /// What `mcp-run approve` takes.
    pub id: CallId,
    /// The launch.
    pub launch: LaunchId,
    /// The server.
    pub server: ServerName,
    /// The scope.
    pub scope: Label,
    /// The tool.
    pub tool: String,
    /// Until when it waits (RFC 3339).
    pub until: String,
}

/// Body of `POST /v1/confirmations/{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// Whether the call may go on.
    pub yes: bool,
}

/// How a provider does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderInfo {
    /// Name.
    pub name: Label,
    /// Kind.
    pub kind: String,
    /// Whether it answered just now.
    pub ok: bool,
    /// What it said, or why it did not.
    pub detail: String,
    /// What to do, where there is something to do.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hint: Option<String>,
}

/// Answer to `GET /v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Version of the broker.
    pub version: String,
    /// [`crate::PROTOCOL`] of the broker.
    pub protocol: u32,
    /// `user` or `system`.
    pub mode: String,
    /// Things that are weaker than they could be, and broken reloads: for people.
    pub warnings: Vec<String>,
    /// The providers; asked for with `?providers=true` only, as that asks each of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<ProviderInfo>,
}

/// Answer to `GET /v1/session`, and of the routes that change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The caller's session, where there is one.
    pub session: Option<SessionInfo>,
    /// Other sessions of the same account.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub others: Vec<SessionInfo>,
    /// Launches of all of them.
    pub launches: Vec<LaunchInfo>,
    /// Leases of all of them, and those of earlier sessions that are not settled yet; then whatever of the account's
    /// was withheld and is valid still.
    pub leases: Vec<LeaseInfo>,
    /// Calls that wait for the person.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub confirmations: Vec<ConfirmationInfo>,
}

/// One server as a person sees it: answer to `GET /v1/servers` is a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerInfo {
    /// Name.
    pub name: ServerName,
    /// The admin's words.
    pub description: String,
    /// Who answers for it.
    pub owner: String,
    /// How sensitive what it reaches is.
    pub tier: String,
    /// Whether this person may launch it now.
    pub allowed: bool,
    /// Each reason for the decision.
    pub reasons: Vec<String>,
    /// When it was approved (RFC 3339); nothing where it was not.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub approved: Option<String>,
    /// What its tools may do. Empty for those who may not use it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub scopes: Vec<ScopeInfo>,
}

/// One scope of a server as a person sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeInfo {
    /// Its name.
    pub name: Label,
    /// Its tools: those of the approval record that its patterns match, or the patterns where there is none.
    pub tools: Vec<String>,
    /// Patterns of its resources, by URI.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub resources: Vec<String>,
    /// Patterns of its prompts.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub prompts: Vec<String>,
    /// Its credentials, by name and provider.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub credentials: Vec<String>,
    /// Its limits and rules, each in words.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub limits: Vec<String>,
}

/// Body of `POST /v1/admin/revoke` on the admin socket: exactly one of the keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RevokeRequest {
    /// One launch.
    Launch(LaunchId),
    /// One session with all its launches; it ends.
    Session(SessionId),
    /// Every session of an account.
    User(String),
    /// Every launch of a server.
    Server(ServerName),
    /// Everything.
    All,
}

/// Answer to a revocation: what was verified, and what is still pending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeReport {
    /// Launches that were ended: no process of theirs is left, or their launcher was killed.
    pub launches: usize,
    /// Launches that were told to end and have not yet.
    pub still_running: usize,
    /// Leases whose end was verified.
    pub verified: usize,
    /// Those that were withheld and cannot be revoked: static values, and what lives until its own end.
    pub not_revocable: usize,
    /// Leases that reached their expiry before their end could be verified.
    pub expired: usize,
    /// Leases whose end is not verified yet.
    pub pending: Vec<LeaseInfo>,
    /// Tokens above leases, and credentials that a damaged journal could not name, that are being ended.
    pub unlisted_pending: usize,
    /// Leases of what was meant that cannot be revoked and are valid still, whenever they were withheld.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub withheld: Vec<LeaseInfo>,
}
