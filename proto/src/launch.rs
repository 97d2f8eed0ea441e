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
    /// Names of the fields that open nothing, such as `username`: a server may say them.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub plain: Vec<String>,
    /// When it stops working unless renewed (RFC 3339), where it ends at all.
    pub expires_at: Option<String>,
    /// What revoking it does.
    pub revocability: Revocability,
}

/// New credentials for an instance that goes on: each takes the place of the one of the same name.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// The instance.
    pub instance: u32,
    /// The credentials by name. Where an injection uses one of them, every other that it uses is here too.
    pub credentials: BTreeMap<Label, IssuedCredential>,
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
    /// A private file of mode 0600 holds the content, the variable `name` its path.
    File {
        /// Variable.
        name: String,
        /// Content.
        content: Content,
        /// Whether the server reads it again: then new credentials are put in its place, below the running server.
        /// Otherwise the instance is replaced.
        reread: bool,
        /// Sent to the server's first process after the content was replaced, as `SIGHUP` is: its number.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        signal: Option<u8>,
    },
    /// A sealed memory file holds the value (memfd_create(2)); the variable `name` has the path of its descriptor.
    Fd {
        /// Variable.
        name: String,
        /// Content.
        value: Template,
    },
    /// The variables by which AWS SDKs find a credential that refreshes.
    Aws {
        /// The credential, of a kind with `access_key_id`, `secret_access_key` and `session_token`.
        credential: Label,
        /// What the SDK asks.
        by: AwsWay,
    },
    /// A kubeconfig file whose user asks `mcp-run credential`; the variable `name` has its path.
    Kubeconfig {
        /// Variable, usually `KUBECONFIG`.
        name: String,
        /// The credential, with the field `token`, or `client_certificate` and `client_key`.
        credential: Label,
        /// URL of the API server.
        server: String,
        /// PEM of the authority that the API server's certificate is checked against; the system's where there is none.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        authority: Option<String>,
        /// Namespace of the context.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        namespace: Option<String>,
    },
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "format", content = "value", rename_all = "snake_case")]
pub enum Content {
    /// The rendered template.
    Text(Template),
    /// Lines `NAME="value"`, as dotenv files have them.
    Dotenv(BTreeMap<String, Template>),
    /// A JSON object of strings.
    Json(BTreeMap<String, Template>),
}

/// What an AWS SDK asks for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AwsWay {
    /// The container credential endpoint (`AWS_CONTAINER_CREDENTIALS_FULL_URI`).
    Endpoint,
    /// The `credential_process` of a generated profile.
    CredentialProcess,
}

impl Injection {
    /// The variable that the injection is known by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Env { name, .. }
            | Self::File { name, .. }
            | Self::Fd { name, .. }
            | Self::Kubeconfig { name, .. } => name,
            Self::Aws { by: AwsWay::Endpoint, .. } => "AWS_CONTAINER_CREDENTIALS_FULL_URI",
            Self::Aws { by: AwsWay::CredentialProcess, .. } => "AWS_CONFIG_FILE",
        }
    }

    /// The templates of what it hands over; none where it hands over a whole credential.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Env { value, .. } | Self::Fd { value, .. } => vec![value],
            Self::File { content, .. } => content.templates(),
            Self::Aws { .. } | Self::Kubeconfig { .. } => Vec::new(),
        }
    }

    /// The credentials that it uses, some perhaps more than once.
    #[must_use]
    pub fn credentials(&self) -> Vec<&Label> {
        match self {
            Self::Aws { credential, .. } | Self::Kubeconfig { credential, .. } => vec![credential],
            _ => self.templates().into_iter().flat_map(Template::fields).map(|(name, _)| name).collect(),
        }
    }

    /// Whether new credentials reach a server that runs.
    #[must_use]
    pub fn refreshes(&self) -> bool {
        match self {
            Self::Env { .. } | Self::Fd { .. } => false,
            Self::File { reread, .. } => *reread,
            Self::Aws { .. } | Self::Kubeconfig { .. } => true,
        }
    }

    /// Whether the server asks for its credential while it runs, and is told until when that may be kept.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        matches!(self, Self::Aws { .. } | Self::Kubeconfig { .. })
    }

    /// The way, in a word or two for people.
    #[must_use]
    pub fn way(&self) -> &'static str {
        match self {
            Self::Env { .. } => "env",
            Self::File { .. } => "file",
            Self::Fd { .. } => "fd",
            Self::Aws { by: AwsWay::Endpoint, .. } => "aws endpoint",
            Self::Aws { by: AwsWay::CredentialProcess, .. } => "credential_process",
            Self::Kubeconfig { .. } => "kubeconfig",
        }
    }
}

impl Content {
    /// Its templates.
    #[must_use]
    pub fn templates(&self) -> Vec<&Template> {
        match self {
            Self::Text(value) => vec![value],
            Self::Dotenv(values) | Self::Json(values) => values.values().collect(),
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
