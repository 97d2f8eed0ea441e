//! The decision on one `tools/call`: what the launcher asks, what the broker says, what became of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{CallId, Label};

/// A call of the client, to be decided on. Nothing of it has reached a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// The launcher's number of the call: unique on this connection.
    pub call: u64,
    /// The scope that the tool belongs to.
    pub scope: Label,
    /// The revision of the scope's plan by which the rest was made.
    pub revision: u32,
    /// The tool.
    pub tool: String,
    /// Length of its arguments, in bytes of JSON; 0 where it has none.
    pub size: u64,
    /// SHA-256 of those bytes, in hexadecimal.
    pub sha256: String,
    /// The arguments that the plan names for the tool, where the call has them: JSON text by name.
    pub named: BTreeMap<String, String>,
    /// All arguments as JSON text, where the plan asks for them and they are short enough
    /// ([`crate::MAX_AUDITED_ARGUMENTS`]).
    pub whole: Option<String>,
    /// Whether the client can ask the person by itself (MCP elicitation).
    pub elicits: bool,
}

/// What the broker says to a call. [`Verdict::Pending`] is followed by another one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decision {
    /// The launcher's number of the call.
    pub call: u64,
    /// The decision's id, as in the audit log; also what `mcp-run approve` takes.
    pub id: CallId,
    /// Yes, no, or not yet.
    pub verdict: Verdict,
    /// Why, as programs know it.
    pub reason: CallReason,
    /// What happened, for a person: lower case, no full stop. Empty where the call may go on.
    pub what: String,
    /// What the person can do. Empty where the call may go on.
    pub hint: String,
}

/// Yes, no, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The call may go on.
    Allow,
    /// It may not.
    Deny,
    /// A person is asked: [`crate::CONFIRM_SECS`] for an answer, and no answer is a no.
    Pending,
}

/// Why a call was decided so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallReason {
    /// The scope names the tool, and every limit and rule is kept.
    Allowed,
    /// The person said yes.
    Confirmed,
    /// The person is asked.
    AwaitsConfirmation,
    /// The person said no.
    Declined,
    /// The person said nothing in time.
    NotConfirmed,
    /// The session is locked.
    SessionLocked,
    /// The session is over.
    SessionOver,
    /// Policy does not allow the launch any more.
    AccessLost,
    /// The scope does not name the tool, or there is no such scope any more.
    NotInScope,
    /// The definition is another one than the call was made by.
    PlanChanged,
    /// The server shows the tool otherwise than it was approved.
    Changed,
    /// Too many calls in the last minute.
    TooManyPerMinute,
    /// Too many calls at once.
    TooManyAtOnce,
    /// The arguments are longer than allowed.
    ArgumentsTooLong,
    /// An argument is not one of those that are allowed.
    ArgumentRefused,
    /// The audit log cannot be written.
    AuditUnavailable,
}

/// What became of a call that was allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answered {
    /// The launcher's number of the call.
    pub call: u64,
    /// How it ended.
    pub outcome: CallOutcome,
    /// The instance that it was sent to, where it was.
    pub instance: Option<u32>,
    /// Length of the answer's line, in bytes.
    pub size: u64,
    /// Milliseconds from the decision to the answer.
    pub millis: u64,
    /// Secrets that were masked in the answer.
    pub masked: u64,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOutcome {
    /// With a result.
    Result,
    /// With a result that says that the tool failed (`isError`).
    ToolError,
    /// With a JSON-RPC error.
    Error,
    /// With a task, or with a question to the client: the call goes on under another request.
    Continued,
    /// The client took it back.
    Cancelled,
    /// The answer was longer than allowed, and was withheld.
    ResultTooLong,
    /// It never reached a server.
    NotSent,
    /// The server ended before it answered.
    Unknown,
}

/// Tools that an instance shows otherwise than they were approved, or not at all; they are hidden.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Changed {
    /// The instance's scope.
    pub scope: Label,
    /// All such tools of it, and what is wrong with each: at most [`crate::MAX_CHANGED`].
    pub tools: BTreeMap<String, Change>,
}

/// What is wrong with a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// It was not there when the server was approved.
    Added,
    /// Its definition is another one.
    Altered,
    /// It is not there any more.
    Missing,
}
