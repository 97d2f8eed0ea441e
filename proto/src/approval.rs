//! The approval of a server: what its trial asks for, what the admin's command records, and what is shown of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{Label, ServerName};
use crate::plan::Record;

/// Body of `POST /v1/admin/trials` on the admin socket, with [`crate::paths::UPGRADE`]: credentials for a trial run of
/// one scope. The broker answers with one [`crate::channel::ToLauncher::Ticket`] or
/// [`crate::channel::ToLauncher::Refused`], and revokes when the connection closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialRequest {
    /// [`crate::PROTOCOL`] of the caller.
    pub protocol: u32,
    /// The server.
    pub server: ServerName,
    /// The scope.
    pub scope: Label,
}

/// Body of `POST /v1/admin/approvals` on the admin socket: what a server showed in its trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRequest {
    /// The server.
    pub server: ServerName,
    /// The definition that was tried: what [`ApprovalInfo::definition`] is compared with.
    pub definition: String,
    /// What it showed.
    pub record: Record,
}

/// One approval: answer to `GET /v1/admin/approvals` is a list of these.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovalInfo {
    /// The server.
    pub server: ServerName,
    /// When (RFC 3339).
    pub approved_at: String,
    /// SHA-256 over what is run (command, variables, working directory, scopes' names), in hexadecimal.
    pub definition: String,
    /// Whether the definition in force is still that one; the record is not used otherwise.
    pub current: bool,
    /// SHA-256 of each tool's definition in its canonical form, in hexadecimal, by scope and tool. More than one
    /// where the server shows it differently to different clients.
    pub tools: BTreeMap<Label, BTreeMap<String, Vec<String>>>,
}
