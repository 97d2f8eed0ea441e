//! Builds vaultrs' client, in one function, with every field written out: its own builder reads the
//! environment (an unlucky `VAULT_SKIP_VERIFY` turns certificate checks off) and follows redirects with the
//! token. Does not send anything.

use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::tls::Version;
use vaultrs::api::EndpointMiddleware;
use vaultrs::client::{VaultClient, VaultClientSettings};

use super::gate::LIMITS;
use super::settings::ServerSettings;
use super::transport::{FLIGHT_LIMIT, REQUEST_LIMIT};

/// How long a connection may take to come up, TLS included.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// An idle connection is kept so long: a new one costs 5 ms with TLS.
const KEEP_IDLE: Duration = Duration::from_secs(90);

/// What was read from files for a client.
pub(super) struct TlsFiles {
    /// The authorities to trust, instead of the platform's.
    pub(super) authorities: Option<Vec<reqwest::Certificate>>,
    /// The certificate to show, and its key.
    pub(super) identity: Option<reqwest::Identity>,
}

/// vaultrs' client for a server. It holds no token: each request brings its own.
///
/// # Errors
/// What reqwest says of the certificates.
pub(super) fn build(server: &ServerSettings, files: TlsFiles) -> Result<VaultClient, reqwest::Error> {
    let address = server.address.clone();
    let mut http = reqwest::Client::builder()
        .tls_backend_rustls()
        .tls_danger_accept_invalid_certs(false)
        .tls_danger_accept_invalid_hostnames(false)
        .tls_version_min(Version::TLS_1_2)
        .https_only(address.scheme() == "https")
        .redirect(Policy::none())
        .referer(false)
        .no_proxy()
        .connect_timeout(CONNECT_LIMIT)
        .timeout(FLIGHT_LIMIT)
        .pool_idle_timeout(KEEP_IDLE)
        .pool_max_idle_per_host(LIMITS.all)
        .user_agent(concat!("mcp-broker/", env!("CARGO_PKG_VERSION")));
    // No roots are loaded where nothing is verified.
    let authorities = if address.scheme() == "http" { Some(Vec::new()) } else { files.authorities };
    if let Some(authorities) = authorities {
        http = http.tls_certs_only(authorities);
    }
    if let Some(identity) = files.identity.clone() {
        http = http.identity(identity);
    }
    let http = http.build()?;
    Ok(VaultClient {
        http: rustify::clients::reqwest::Client::new(address.as_str(), http),
        middle: EndpointMiddleware {
            token: String::new(),
            version: "v1".to_owned(),
            wrap: None,
            namespace: server.namespace.clone(),
        },
        settings: VaultClientSettings {
            address,
            ca_certs: Vec::new(),
            identity: files.identity,
            timeout: Some(REQUEST_LIMIT),
            token: String::new(),
            verify: true,
            version: 1,
            wrapping: false,
            namespace: server.namespace.clone(),
            proxy: None,
        },
    })
}
