//! What a launch is: its scopes, what each of them may do, and what was recorded when an admin approved the server.
//! It holds no secret, and what the launcher learns here only narrows: each call is decided by the broker besides.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::names::{Label, LaunchId, ServerName};

/// What a launch is. The first frame after the upgrade, and again where the definition has changed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The launch that this connection is.
    pub launch: LaunchId,
    /// The server's name.
    pub server: ServerName,
    /// Its scopes in the order of the definition; never none. The first one answers what belongs to no tool.
    pub scopes: Vec<ScopePlan>,
    /// What the server may ask of the client.
    pub client_requests: Vec<ClientRequest>,
    /// Whether nothing is started until a request needs it: discovery is answered from the record.
    pub lazy: bool,
    /// What the server showed when it was approved; nothing where it was not.
    pub record: Option<Record>,
}

/// One scope of a server. Patterns are exact names, or hold `*` for any text ([`crate::pattern`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScopePlan {
    /// Its name.
    pub name: Label,
    /// The number of the plan that it came with: an [`Ask`](crate::call::Ask) says by which one it was made.
    pub revision: u32,
    /// Its tools.
    pub tools: Vec<String>,
    /// Its resources, by URI.
    pub resources: Vec<String>,
    /// Its prompts.
    pub prompts: Vec<String>,
    /// The longest answer to a call, in bytes of its line.
    pub result_bytes: u64,
    /// The longest arguments of a call, in bytes of JSON.
    pub argument_bytes: u64,
    /// Names of arguments that the broker has to see, by pattern of tools.
    pub named: BTreeMap<String, Vec<String>>,
    /// Whether it has to see all of them, for the audit log.
    pub whole_arguments: bool,
}

/// What a server may ask of the client (MCP 2025-11-25, client features).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientRequest {
    /// `sampling/createMessage`.
    Sampling,
    /// `elicitation/create`.
    Elicitation,
    /// `roots/list`.
    Roots,
}

/// What a server showed when it was approved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// When (RFC 3339).
    pub approved_at: String,
    /// Results and definitions as JSON text, each once: what the rest names by its place here.
    pub items: Vec<String>,
    /// What it showed, by revision of the protocol and by what the client could do.
    pub variants: Vec<Variant>,
}

/// What a server shows to clients of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// The revision that the client asked for (`2025-11-25`), or talks (`2026-07-28`).
    pub revision: String,
    /// Whether the client offered everything that a client can offer (sampling, elicitation, roots), or nothing.
    pub capable: bool,
    /// The result of `initialize` or `server/discover` of the first scope's instance: its place among the items.
    pub discovery: usize,
    /// What each scope's instance lists.
    pub scopes: BTreeMap<Label, Lists>,
}

/// What an instance lists: places among the items. `None` where it does not answer that method.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lists {
    /// `tools/list`.
    pub tools: Option<Vec<usize>>,
    /// `resources/list`.
    pub resources: Option<Vec<usize>>,
    /// `resources/templates/list`.
    pub templates: Option<Vec<usize>>,
    /// `prompts/list`.
    pub prompts: Option<Vec<usize>>,
}

impl Record {
    /// An item by its place.
    #[must_use]
    pub fn item(&self, place: usize) -> Option<&str> {
        self.items.get(place).map(String::as_str)
    }
}
