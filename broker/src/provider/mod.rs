//! Where credentials come from. A kind is one file or folder and one line in [`KINDS`].
//! Providers do not know launches, the API or the journal: they get a request and answer with a handle
//! that is not secret, and later are given that handle back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use mcp_broker_proto::Secret;
use mcp_broker_proto::names::{Label, LaunchId, LeaseId, ServerName, SessionId};
use mcp_broker_proto::session::Revocability;
use serde::{Deserialize, Serialize};

use crate::clock::Clock;
use crate::config::{CredentialSpec, KindReader, ProviderConfig};

pub mod aws_sts;
mod error;
mod files;
pub mod github_app;
mod held;
mod http;
pub mod jwt;
mod own;
pub mod postgres;
pub mod sealed;
mod source;
pub mod token_exchange;
pub mod vault;

pub use error::{Blame, ProviderError};
pub use source::{Peers, Source};

/// Every kind: how it reads its configuration and how it is built.
pub const KINDS: &[Kind] = &[
    vault::KIND,
    sealed::KIND,
    aws_sts::KIND,
    postgres::KIND,
    github_app::KIND,
    jwt::KIND,
    token_exchange::KIND,
];

/// One provider kind.
pub struct Kind {
    /// How its tables are read; holds its name.
    pub reader: KindReader,
    /// Makes a provider from the parsed keys. Opens no connection: that happens at first use.
    pub build: Build,
}

/// How a kind makes a provider.
pub type Build = fn(&dyn ProviderConfig, &BuildDeps) -> Result<Arc<dyn Provider>, ProviderError>;

/// What a provider may be built with.
#[derive(Clone)]
pub struct BuildDeps {
    /// The provider's name, for messages.
    pub name: Label,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Where the broker keeps its state; the sealed store lives there.
    pub state_dir: std::path::PathBuf,
    /// The other providers, for a [`Source`]. Empty until all are built.
    pub peers: Peers,
}

/// Mints, renews and ends credentials of one backend.
///
/// The three steps are `prepare`, `issue`, `revoke`. Between the first two the caller makes the handle
/// durable, so that no crash leaves a credential that nobody knows of.
#[async_trait]
pub trait Provider: Send + Sync {
    /// What `revoke` will probably be able to do for a credential of this kind, before it is asked for.
    fn revocability(&self, spec: &CredentialSpec) -> Revocability;

    /// Makes what can later be revoked but opens nothing by itself.
    async fn prepare(
        &self,
        request: &MintRequest,
        parent: Option<&Parent>,
    ) -> Result<Prepared, ProviderError>;

    /// Creates the credential. Must not be dropped while it runs unless the caller then waits for the
    /// backend to come to rest before it revokes: [`REST`].
    async fn issue(&self, request: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError>;

    /// Ends a credential and says the truth about it. Idempotent; also for a handle from `prepare` alone.
    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError>;

    /// Ends what of a credential would outlive `parent`, which is about to be revoked, and answers whether the rest
    /// needs nothing but that: then the caller revokes the parent, and asks [`Provider::fallen`] what became of it.
    /// Proves nothing yet. `false` where it is to be ended by `revoke`.
    async fn shed(&self, handle: &Handle, parent: &Handle) -> Result<bool, ProviderError> {
        let _ = (handle, parent);
        Ok(false)
    }

    /// The truth about a credential whose parent was proved to be gone, and how that ended: an error where it is
    /// still there. Whether it had ended by itself before is not said.
    async fn fallen(&self, handle: &Handle, parent: &Revocation) -> Result<Revocation, ProviderError> {
        let _ = parent;
        self.revoke(handle).await
    }

    /// Asks for another `ttl` of life. Called at two thirds of the true remaining life.
    async fn renew(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError>;

    /// Makes the parent of a session's credentials, where the backend has such a thing.
    async fn open_session(&self, session: &SessionTag) -> Result<Option<Parent>, ProviderError> {
        let _ = session;
        Ok(None)
    }

    /// Keeps the parent alive; answers with its life from now. Revoking it is `revoke` with its handle.
    async fn renew_session(&self, parent: &Parent) -> Result<Duration, ProviderError> {
        Ok(parent.period)
    }

    /// Reads a secret that the broker itself needs, by the provider's own identity. Not every kind keeps some.
    async fn look_up(&self, path: &str) -> Result<BTreeMap<String, Secret>, ProviderError> {
        let what = format!("`{path}` is to be read from a provider of a kind that keeps no secrets");
        Err(ProviderError::new(Blame::Config, what, "name a provider of kind `vault` or `sealed`"))
    }

    /// Says in a token that it signs whom `request` is for, to `audience`. Not every kind signs.
    async fn vouch(&self, request: &MintRequest, audience: &str) -> Result<Secret, ProviderError> {
        let _ = audience;
        let what =
            format!("a token for {} is to be signed by a provider of a kind that signs none", request.user);
        Err(ProviderError::new(Blame::Config, what, "name a provider of kind `jwt` in `signed_by`"))
    }

    /// Whether what was issued can be ended by this handle alone, and not by the one of `prepare`. Then nothing is
    /// delivered before the handle is durable.
    fn hangs_on(&self, handle: &Handle) -> bool {
        let _ = handle;
        false
    }

    /// Whether something is left of what this handle names after its end: then its revocation is tried on, and not given
    /// up when the end is past.
    fn lingers(&self, handle: &Handle) -> bool {
        let _ = handle;
        false
    }

    /// Whether the backend can be reached and lets the broker do its work. Answers within a few seconds.
    async fn health(&self) -> Result<Healthy, ProviderError>;
}

/// How long a backend may take to finish a request whose connection was dropped. Revoking a token sooner
/// can leave a database user behind that no lease knows (measured on OpenBao 2.7.2: none of 110 after 0.3 s).
pub const REST: Duration = Duration::from_secs(2);

/// A whole mint must be done in this time: prepare, issue, and shortening.
pub const MINT_LIMIT: Duration = Duration::from_secs(10);

/// Whose session a parent is made for. Goes into the backend's own records for correlation.
#[derive(Debug, Clone)]
pub struct SessionTag {
    /// The session.
    pub session: SessionId,
    /// The account.
    pub user: String,
}

/// One credential that a grant allows. Made by the lease layer from a `Grant`.
#[derive(Debug, Clone)]
pub struct MintRequest {
    /// The lease that it becomes.
    pub lease: LeaseId,
    /// The launch it is for.
    pub launch: LaunchId,
    /// The session it is under.
    pub session: SessionId,
    /// The account.
    pub user: String,
    /// The server.
    pub server: ServerName,
    /// The scope.
    pub scope: Label,
    /// What to mint.
    pub spec: CredentialSpec,
    /// The longest that the credential may live, renewed or not: what is left of the session.
    pub horizon: Duration,
    /// The ways by which it reaches the server, in words for people.
    pub delivered: Vec<String>,
    /// Whether another credential can take its place below a running server: then it is asked for earlier.
    pub refreshes: bool,
}

/// The parent of a session's credentials at one provider.
pub struct Parent {
    /// Names it to `revoke`; goes into the journal.
    pub handle: Handle,
    /// Lets it make children; never leaves memory.
    pub token: Secret,
    /// Its life without renewal.
    pub period: Duration,
}

/// What names a credential to the provider that made it: ids and accessors, never a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handle(pub serde_json::Value);

/// The result of the first step.
pub struct Prepared {
    /// Names it to `revoke`; goes into the journal before `issue`.
    pub handle: Handle,
    /// Opens the credential to `issue`, where the backend needs that; never leaves memory.
    pub opener: Option<Secret>,
}

/// The result of the second step.
pub struct Issued {
    /// Names it to `revoke` and `renew` from now on; goes into the journal.
    pub handle: Handle,
    /// The fields, most of them secret.
    pub fields: BTreeMap<String, Secret>,
    /// Names of the fields that open nothing: a server may say them.
    pub plain: &'static [&'static str],
    /// When it stops working unless renewed, where it ends at all.
    pub expires_at: Option<Timestamp>,
    /// When the backend itself lets it end, where that is later.
    pub valid_until: Option<Timestamp>,
    /// What there is to say of it for people; never a secret.
    pub detail: Option<String>,
    /// Whether `renew` can lengthen it.
    pub renewable: bool,
    /// What `revoke` can do for it, now that the backend has said what it is.
    pub revocability: Revocability,
}

/// The result of a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewed {
    /// The new end.
    pub expires_at: Timestamp,
    /// Whether it can be renewed again.
    pub renewable: bool,
}

/// What became of a credential that was to be ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Revocation {
    /// It is dead; this is how that was verified.
    Revoked(Proof),
    /// It was gone before; verified as well.
    AlreadyGone(Proof),
    /// It cannot be revoked and ends at that time, or never by itself.
    ExpiresAt(Option<Timestamp>),
    /// It cannot be revoked and is valid until then, but whoever was told says that its use is denied. Not verified.
    Denied {
        /// When it ends.
        until: Timestamp,
        /// Who was told.
        by: Denier,
    },
    /// The backend refused to make it.
    NeverMade,
}

/// What of an admin's was told to deny a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Denier {
    /// A program.
    Command,
    /// A server.
    Url,
    /// The server that made it, by which not everybody who takes it asks.
    Server,
}

impl Denier {
    /// The word for messages and for the audit log.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Url => "url",
            Self::Server => "server",
        }
    }
}

/// How the end of a credential was verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    /// The backend no longer knows the lease, nor the token it hung under.
    LeaseAndToken,
    /// The backend no longer knows the lease; the token it hung under ended with the parent above that, which this
    /// broker revoked, and which the backend no longer knows either.
    LeaseAndParent,
    /// The backend no longer knows the token; no lease was known.
    Token,
    /// The backend no longer knows the object itself.
    Object,
}

/// What a healthy backend says of itself, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Healthy {
    /// Such as `OpenBao 2.7.2, unsealed`.
    pub detail: String,
    /// Something to mend that does not stop it.
    pub warning: Option<(String, String)>,
}
