//! The broker as an issuer: short signed tokens with person, launch and scope, and the public keys to verify them by.
//! Nobody asks the broker whether a token is good, so it cannot be revoked: it lives until its end, which is near.
//! In reading order: `settings`, `key`, `store`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use mcp_broker_proto::Secret;
use mcp_broker_proto::session::Revocability;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    Blame, BuildDeps, Handle, Healthy, Issued, Kind, MintRequest, Parent, Prepared, Provider, ProviderError,
    Renewed, Revocation, own,
};
use crate::clock::Clock;
use crate::config::{CredentialSpec, KindReader, ProviderConfig};

mod key;
mod settings;
mod store;

/// The kind.
pub const KIND: Kind = Kind {
    reader: KindReader {
        name: "jwt",
        provider: settings::read,
        credential: settings::credential,
        default_ttl: Duration::from_secs(5 * 60),
        provider_schema: include_str!("provider.schema.json"),
        credential_schema: include_str!("credential.schema.json"),
    },
    build,
};

/// One issuer.
struct Issuer {
    name: String,
    settings: settings::Settings,
    clock: Arc<dyn Clock>,
    path: PathBuf,
    keys: Mutex<Option<store::Keys>>,
}

fn build(config: &dyn ProviderConfig, deps: &BuildDeps) -> Result<Arc<dyn Provider>, ProviderError> {
    let settings: &settings::Settings = own::keys(config, &deps.name)?;
    Ok(Arc::new(Issuer {
        name: deps.name.to_string(),
        settings: settings.clone(),
        clock: Arc::clone(&deps.clock),
        path: store::path(&deps.state_dir, deps.name.as_str()),
        keys: Mutex::default(),
    }))
}

/// The set of public keys (RFC 7517) of the issuer `name`, as a text. For the command line: makes nothing.
///
/// # Errors
/// Where the broker has made none yet, or they cannot be read.
pub fn published(state_dir: &Path, name: &str) -> Result<String, ProviderError> {
    let path = store::path(state_dir, name);
    let keys = store::read(&path).map_err(|error| {
        let what = format!("the keys of provider `{name}` in {} cannot be read: {error}", path.display());
        ProviderError::new(
            Blame::Config,
            what,
            "start the broker: it makes them when the first token or its health is asked for",
        )
    })?;
    Ok(format!("{:#}\n", keys.jwks()))
}

/// Between the handle and the token that it names there is not more time than a mint may take.
const MARGIN: Duration = super::MINT_LIMIT;

/// So long is a token good that only says whom something is asked for.
const VOUCHED: Duration = Duration::from_secs(60);

impl Issuer {
    fn error(&self, blame: Blame, what: &str, hint: &str) -> ProviderError {
        ProviderError::new(blame, format!("provider `{}` {what}", self.name), hint)
    }

    /// Does `work` with the keys of now: read, made, or rotated first where that is due.
    async fn with_keys<T>(&self, work: impl FnOnce(&store::Keys) -> T) -> Result<T, ProviderError> {
        let mut held = self.keys.lock().await;
        let now = self.clock.now();
        let (path, settings, old) = (self.path.clone(), self.settings.clone(), held.take());
        let got = tokio::task::spawn_blocking(move || {
            let keys = match old {
                Some(keys) => keys,
                None => store::Keys::open(&path, &settings, now)?,
            };
            if keys.are_due(&settings, now) { keys.rotated(&path, &settings, now) } else { Ok(keys) }
        });
        let got = got.await.unwrap_or_else(|_panicked| Err(std::io::Error::other("it failed")));
        let keys = got.map_err(|error| {
            let what = format!("cannot keep or publish its keys ({}): {error}", self.path.display());
            self.error(
                Blame::Config,
                &what,
                "check the state directory, and that the broker may write to `publish`",
            )
        })?;
        Ok(work(held.insert(keys)))
    }

    /// What a token says, and its end.
    fn claims(&self, request: &MintRequest, audience: &str, life: Duration) -> (Value, Timestamp) {
        let now = self.clock.now();
        let ends = now.as_second().saturating_add(i64::try_from(life.as_secs()).unwrap_or(i64::MAX));
        let claims = json!({
            "iss": self.settings.issuer, "aud": audience, "sub": request.user,
            "iat": now.as_second(), "nbf": now.as_second(), "exp": ends, "jti": request.lease.to_string(),
            "launch": request.launch.to_string(), "server": request.server.to_string(),
            "server_scope": request.scope.to_string(),
        });
        (claims, Timestamp::from_second(ends).unwrap_or(now))
    }

    async fn signed(&self, claims: &Value) -> Result<Secret, ProviderError> {
        let token = self.with_keys(|keys| keys.sign(claims)).await?;
        let mut token = token.ok_or_else(|| {
            let hint = "remove its file from the state directory";
            self.error(Blame::Config, "has a key that cannot be used", hint)
        })?;
        Ok(Secret::new(std::mem::take(&mut *token)))
    }

    fn after(&self, life: Duration) -> Timestamp {
        let span = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        self.clock.now().checked_add(span).unwrap_or(Timestamp::MAX)
    }

    fn handle(request: &MintRequest, until: Timestamp) -> Handle {
        Handle(json!({ "jti": request.lease.to_string(), "until": until }))
    }
}

fn life(request: &MintRequest) -> Duration {
    request.spec.ttl.min(request.horizon).max(Duration::from_secs(1))
}

#[async_trait]
impl Provider for Issuer {
    fn revocability(&self, spec: &CredentialSpec) -> Revocability {
        Revocability::Bounded { seconds: spec.ttl.as_secs() }
    }

    async fn prepare(&self, request: &MintRequest, _: Option<&Parent>) -> Result<Prepared, ProviderError> {
        let until = self.after(life(request) + MARGIN);
        Ok(Prepared { handle: Self::handle(request, until), opener: None })
    }

    async fn issue(&self, request: &MintRequest, _: Prepared) -> Result<Issued, ProviderError> {
        let asked: &settings::Credential = own::credential(&request.spec)?;
        let life = life(request);
        let (mut claims, expires_at) = self.claims(request, &asked.audience, life);
        if let (Some(scope), Some(claims)) = (&asked.scope, claims.as_object_mut()) {
            claims.insert("scope".to_owned(), json!(scope));
        }
        let token = self.signed(&claims).await?;
        Ok(Issued {
            handle: Self::handle(request, expires_at),
            fields: BTreeMap::from([(settings::FIELD.to_owned(), token)]),
            plain: &[],
            expires_at: Some(expires_at),
            valid_until: None,
            detail: Some(format!("jti {}", request.lease)),
            renewable: false,
            revocability: Revocability::Bounded { seconds: life.as_secs() },
        })
    }

    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        let until = handle.0.get("until").and_then(|until| until.as_str()?.parse().ok());
        match until {
            Some(until) => Ok(Revocation::ExpiresAt(Some(until))),
            None => Err(self.error(Blame::Broken, "was given a handle of another kind", own::REPORT)),
        }
    }

    async fn renew(&self, _: &Handle, _: Duration) -> Result<Renewed, ProviderError> {
        Err(self.error(Blame::Config, "signs another token instead of renewing one", own::REPORT))
    }

    /// It is shown once, at once, and then no more.
    async fn vouch(&self, request: &MintRequest, audience: &str) -> Result<Secret, ProviderError> {
        let (claims, _) = self.claims(request, audience, VOUCHED);
        self.signed(&claims).await
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        let kid = self.with_keys(|keys| keys.kid.clone()).await?;
        let warning = self.settings.publish.is_none().then(|| {
            let hint = "set `publish`, or serve what `mcp-broker jwks` prints";
            ("its public keys are published nowhere".to_owned(), hint.to_owned())
        });
        Ok(Healthy { detail: format!("signs with key {kid}"), warning })
    }
}
