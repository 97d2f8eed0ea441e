//! What a launcher asks for and what it is given: [`LaunchRequest`] and [`LaunchTicket`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Secret;
use crate::names::{Label, LaunchId, LeaseId, ServerName};
use crate::secret::fields_on_wire;
use crate::session::Revocability;
use crate::template::Template;

/// Body of `POST /v1/launches`. Who asks is not in it: the kernel says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaunchRequest {
    /// [`crate::PROTOCOL`] of the launcher.
    pub protocol: u32,
    /// The approved server.
    pub server: ServerName,
    /// Extra arguments after `--`; refused where the definition does not allow them.
    #[serde(default)]
    pub args: Vec<String>,
    /// Whether credentials for the first scope's instance are asked for at once, unless the plan says
    /// [`lazy`](crate::plan::Plan::lazy). A launcher that comes back to a restarted broker asks for what it needs.
    pub want: bool,
}

/// The first frame of a launch that was granted.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum LaunchTicket {
    /// The launcher spawns the instance itself; tier `development` only.
    Secrets(SecretsTicket),
    /// A privileged helper spawned it and hands over descriptors; never a secret. Not built yet.
    Spawned(SpawnedTicket),
}

/// Everything that the launcher needs to spawn one instance.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsTicket {
    /// The launch that this connection is.
    pub launch: LaunchId,
    /// The number of the instance within the launch.
    pub instance: u32,
    /// The server's name.
    pub server: ServerName,
    /// The scope whose instance this is.
    pub scope: Label,
    /// The instance is to be given up after so many seconds without a request.
    pub idle_secs: u64,
    /// Program (absolute) and arguments, the caller's own allowed arguments appended.
    pub command: Vec<String>,
    /// Variables of the definition, not secret.
    pub env: BTreeMap<String, String>,
    /// Absolute working directory.
    pub cwd: String,
    /// The minted credentials by name.
    pub credentials: BTreeMap<Label, IssuedCredential>,
    /// How they reach the instance.
    pub inject: Vec<Injection>,
}

/// One credential of a ticket.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuedCredential {
    /// The lease in the broker's journal.
    pub lease: LeaseId,
    /// The secret fields, as the provider named them (`username`, `password`, …).
    #[serde(serialize_with = "fields_on_wire")]
    pub fields: BTreeMap<String, Secret>,
    /// When it ends unless renewed (RFC 3339), where it ends at all.
    pub expires_at: Option<String>,
    /// What revoking it does.
    pub revocability: Revocability,
}

/// One way in which a rendered value reaches the instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case", deny_unknown_fields)]
pub enum Injection {
    /// The variable `name` holds the value.
    Env {
        /// Variable.
        name: String,
        /// Value.
        value: Template,
    },
    /// A private file of mode 0600 holds the value, the variable `name` its path.
    File {
        /// Variable.
        name: String,
        /// Content.
        value: Template,
    },
}

impl Injection {
    /// The variable that the injection sets.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Env { name, .. } | Self::File { name, .. } => name,
        }
    }

    /// The template of the value.
    #[must_use]
    pub fn value(&self) -> &Template {
        match self {
            Self::Env { value, .. } | Self::File { value, .. } => value,
        }
    }
}

/// A ticket whose instance runs already; its descriptors come beside it (`SCM_RIGHTS`, unix(7)).
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpawnedTicket {
    /// The launch that this connection is.
    pub launch: LaunchId,
    /// The number of the instance within the launch.
    pub instance: u32,
    /// The server's name.
    pub server: ServerName,
    /// The scope whose instance this is.
    pub scope: Label,
    /// The instance is to be given up after so many seconds without a request.
    pub idle_secs: u64,
    /// Descriptors that follow: standard input, output and error of the instance.
    pub descriptors: u8,
}
