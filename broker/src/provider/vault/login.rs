//! One login of the broker itself: reads the files, builds the client, signs in by the configured method.
//! Keeps nothing; whoever asks keeps the result.

use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::Secret;
use zeroize::Zeroizing;

use super::answer::{Answer, NewAuth};
use super::calls;
use super::client::{self, TlsFiles};
use super::fault::ServerName;
use super::files;
use super::gate::{Gate, Urgency};
use super::settings::{AuthMethod, ServerSettings};
use super::transport::Transport;
use crate::clock::Clock;
use crate::provider::{Blame, ProviderError};

/// A login serves everybody who waits for it.
const URGENCY: Urgency = Urgency::Revocation;

/// What a login needs to know.
#[derive(Clone)]
pub(super) struct LoginDeps {
    pub(super) name: ServerName,
    pub(super) settings: Arc<ServerSettings>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Arc<dyn Clock>,
}

/// A token of the broker, and the way to the server that it goes with: a certificate is checked again when
/// the token that was had for it is renewed.
pub(super) struct SignedIn {
    pub(super) transport: Arc<Transport>,
    pub(super) token: Secret,
    /// How long it lives from now; `None` for ever.
    pub(super) life: Option<Duration>,
    pub(super) renewable: bool,
    /// Which server it is, where it says so: its `cluster_id`.
    pub(super) cluster: Option<String>,
}

/// Reads the files anew, and connects. Signs in nowhere.
pub(super) async fn connect(deps: &LoginDeps) -> Result<(Arc<Transport>, Option<Secret>), ProviderError> {
    let settings = Arc::clone(&deps.settings);
    let read = tokio::task::spawn_blocking(move || read_files(&settings)).await;
    let (tls, secret) =
        read.unwrap_or_else(|_panicked| Err(bad_files(&deps.name, "the files cannot be read")))?;
    let client = client::build(&deps.settings, tls)
        .map_err(|_error| bad_files(&deps.name, "the certificates and the key cannot be used together"))?;
    let transport = Transport::new(client, Arc::clone(&deps.gate), Arc::clone(&deps.clock));
    Ok((Arc::new(transport), secret))
}

/// Signs in.
pub(super) async fn sign_in(deps: &LoginDeps) -> Result<SignedIn, ProviderError> {
    let (transport, secret) = connect(deps).await?;
    let call = match (&deps.settings.auth, &secret) {
        (AuthMethod::AppRole { mount, role_id, .. }, Some(secret)) => {
            calls::login(mount, ("role_id", role_id), Some(("secret_id", secret)))
        }
        (AuthMethod::Jwt { mount, role, .. }, Some(secret)) => {
            calls::login(mount, ("role", role), Some(("jwt", secret)))
        }
        (AuthMethod::Cert { mount, role, .. }, _) => calls::login(mount, ("name", role), None),
        (AuthMethod::Token { .. }, Some(_)) => calls::lookup_self(),
        (_, None) => return Err(bad_files(&deps.name, "the secret to sign in with was not read")),
    };
    if let (AuthMethod::Token { .. }, Some(token)) = (&deps.settings.auth, secret) {
        let sent = transport.send(call, Some(&token), URGENCY).await;
        let answer = sent.map_err(|fault| deps.name.fault(fault))?;
        let (life, renewable) = found_token(deps, &answer)?;
        let cluster = cluster(deps, &transport).await?;
        return Ok(SignedIn { transport, token, life, renewable, cluster });
    }
    let answer = transport.send(call, None, URGENCY).await.map_err(|fault| deps.name.fault(fault))?;
    if !answer.is_ok() {
        return Err(refused(deps, &answer));
    }
    let Some(NewAuth { client_token, lease_duration, renewable, .. }) = answer.auth() else {
        return Err(deps.name.unreadable("a login"));
    };
    let cluster = cluster(deps, &transport).await?;
    Ok(SignedIn { transport, token: client_token, life: life(lease_duration), renewable, cluster })
}

/// 0 is how the servers write "for ever".
pub(super) fn life(seconds: u64) -> Option<Duration> {
    (seconds > 0).then(|| Duration::from_secs(seconds))
}

/// Asked at each login, and never left open: accessors and leases mean nothing at another server.
async fn cluster(deps: &LoginDeps, transport: &Transport) -> Result<Option<String>, ProviderError> {
    #[derive(serde::Deserialize)]
    struct Health {
        cluster_id: Option<String>,
    }
    let sent = transport.send(calls::health(), None, URGENCY).await;
    let answer = sent.map_err(|fault| deps.name.fault(fault))?;
    if !answer.is_ok() {
        let cure = "check that `address` is an OpenBao or Vault server";
        return Err(deps.name.refusal(answer.status, answer.complaint(), "telling its health", cure));
    }
    let health: Health = answer.plain().ok_or_else(|| deps.name.unreadable("a look at its health"))?;
    Ok(health.cluster_id)
}

/// The life of the token from the file, and whether it can be renewed.
fn found_token(deps: &LoginDeps, answer: &Answer) -> Result<(Option<Duration>, bool), ProviderError> {
    #[derive(serde::Deserialize)]
    struct Token {
        ttl: u64,
        renewable: bool,
    }
    if !answer.is_ok() {
        return Err(refused(deps, answer));
    }
    let Some(Token { ttl, renewable }) = answer.data() else {
        return Err(deps.name.unreadable("a token lookup"));
    };
    Ok((life(ttl), renewable))
}

/// The server answered the login with a refusal.
fn refused(deps: &LoginDeps, answer: &Answer) -> ProviderError {
    let (what, cure) = match &deps.settings.auth {
        AuthMethod::AppRole { mount, secret_id_file, .. } => (
            format!("the AppRole login at `auth/{mount}`"),
            format!(
                "check `role_id` (`bao read auth/{mount}/role/ROLE/role-id`) and write a new secret id into `{}` \
                 (`bao write -f -field=secret_id auth/{mount}/role/ROLE/secret-id`)",
                secret_id_file.display()
            ),
        ),
        AuthMethod::Cert { mount, role, cert_file, .. } => (
            format!("the certificate login at `auth/{mount}` as `{role}`"),
            format!("check that `{}` has not expired and that the role trusts it", cert_file.display()),
        ),
        AuthMethod::Jwt { mount, role, token_file } => (
            format!("the JWT login at `auth/{mount}` as `{role}`"),
            format!(
                "check that the token in `{}` is fresh and that the role's bounds fit it",
                token_file.display()
            ),
        ),
        AuthMethod::Token { token_file } => (
            "the token of the broker".to_owned(),
            format!("it has ended or was revoked: write a new one into `{}`", token_file.display()),
        ),
    };
    match answer.status {
        400..=499 if answer.status != 429 => {
            let said = format!("does not accept {what} (status {})", answer.status);
            deps.name.error(Blame::Identity, &said, cure)
        }
        status => deps.name.refusal(status, answer.complaint(), &what, &cure),
    }
}

fn read_files(settings: &ServerSettings) -> Result<(TlsFiles, Option<Secret>), ProviderError> {
    let unusable = |path: &std::path::Path, what: &str| {
        let shown = path.display();
        ProviderError::new(
            Blame::Config,
            format!("`{shown}` does not hold {what} (PEM)"),
            "name the right file",
        )
    };
    let mut authorities = None;
    if let Some(path) = &settings.ca_file {
        let found = reqwest::Certificate::from_pem_bundle(&files::certificates(path)?).unwrap_or_default();
        if found.is_empty() {
            return Err(unusable(path, "a certificate"));
        }
        authorities = Some(found);
    }
    let (mut identity, mut secret) = (None, None);
    match &settings.auth {
        AuthMethod::AppRole { secret_id_file: path, .. }
        | AuthMethod::Jwt { token_file: path, .. }
        | AuthMethod::Token { token_file: path } => secret = Some(files::secret(path)?),
        AuthMethod::Cert { cert_file, key_file, .. } => {
            let (cert, key) = (files::certificates(cert_file)?, files::key(key_file)?);
            let mut both = Zeroizing::new(Vec::with_capacity(cert.len() + key.len() + 1));
            both.extend_from_slice(&cert);
            both.push(b'\n');
            both.extend_from_slice(&key);
            let found = reqwest::Identity::from_pem(&both);
            identity =
                Some(found.map_err(|_error| unusable(cert_file, "a certificate, or the key file its key"))?);
        }
    }
    Ok((TlsFiles { authorities, identity }, secret))
}

fn bad_files(name: &ServerName, what: &str) -> ProviderError {
    name.error(
        Blame::Config,
        &format!("cannot be connected to: {what}"),
        "check `ca_file` and the files of `auth`",
    )
}
