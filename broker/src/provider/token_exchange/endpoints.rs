//! Where the server's endpoints are: written by the admin, or told by its metadata (RFC 8414, OpenID Connect
//! Discovery 1.0), which counts only where it names exactly the issuer that was asked for.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::TokenExchange;
use super::settings::Server;
use crate::provider::{Blame, ProviderError, http};

/// Metadata is asked for again after this time.
const FRESH: Duration = Duration::from_secs(3600);

/// The addresses of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Endpoints {
    /// Where it was found by metadata.
    pub(super) issuer: Option<String>,
    pub(super) token: Url,
    pub(super) revocation: Option<Url>,
    pub(super) introspection: Option<Url>,
}

impl Endpoints {
    /// Who a signed token of the client's is for.
    pub(super) fn audience(&self) -> &str {
        self.issuer.as_deref().unwrap_or(self.token.as_str())
    }

    /// What is not there to end a token and to prove it, and what to do.
    pub(super) fn lack(&self) -> Option<(&'static str, &'static str)> {
        let hint =
            "keep the life of its tokens short, or write `revocation_endpoint` and `introspection_endpoint`";
        match (&self.revocation, &self.introspection) {
            (None, _) => Some(("the server revokes no tokens: each lives until its end", hint)),
            (_, None) => {
                Some(("the server does not tell whether a token is active: none is seen to end", hint))
            }
            _ => None,
        }
    }
}

/// What metadata told last, and when on the boot clock.
#[derive(Default)]
pub(super) struct Found(Mutex<Option<(Duration, Arc<Endpoints>)>>);

/// What matters of the metadata (RFC 8414 section 2).
#[derive(Deserialize)]
struct Metadata {
    issuer: String,
    token_endpoint: String,
    revocation_endpoint: Option<String>,
    introspection_endpoint: Option<String>,
}

impl TokenExchange {
    /// The endpoints, asked for where they are not known or were long ago.
    pub(super) async fn endpoints(&self) -> Result<Arc<Endpoints>, ProviderError> {
        let issuer = match &self.settings.server {
            Server::Written(endpoints) => return Ok(Arc::clone(endpoints)),
            Server::Issuer(issuer) => issuer,
        };
        let mut held = self.found.0.lock().await;
        let now = self.clock.boot();
        if let Some((_, endpoints)) = held.as_ref().filter(|(at, _)| now.saturating_sub(*at) < FRESH) {
            return Ok(Arc::clone(endpoints));
        }
        let endpoints = Arc::new(self.discovered(issuer).await?);
        *held = Some((now, Arc::clone(&endpoints)));
        Ok(endpoints)
    }

    /// The endpoints as far as they are known without asking.
    pub(super) fn known_endpoints(&self) -> Option<Arc<Endpoints>> {
        match &self.settings.server {
            Server::Written(endpoints) => Some(Arc::clone(endpoints)),
            Server::Issuer(_) => self.found.0.try_lock().ok()?.as_ref().map(|(_, found)| Arc::clone(found)),
        }
    }

    async fn discovered(&self, issuer: &str) -> Result<Endpoints, ProviderError> {
        let mut status = 0;
        for url in well_known(issuer) {
            let answer = self.http.send(|client| client.get(url)).await?;
            status = answer.status;
            if status != 200 {
                continue;
            }
            let Some(metadata) = answer.json::<Metadata>() else {
                return Err(self.metadata_error("tells nothing that is understood"));
            };
            if metadata.issuer != issuer {
                let what = "is another issuer than the one that is configured";
                let hint = "write `issuer` exactly as the server's metadata has it, to the last slash";
                return Err(self.http.error(Blame::Config, what, hint));
            }
            let unusable = || self.metadata_error("names an endpoint that is not https");
            return metadata.endpoints().ok_or_else(unusable);
        }
        if status >= 500 {
            let what = format!("has trouble of its own (status {status})");
            return Err(self.http.error(Blame::Unreachable, &what, "try again; see its status page"));
        }
        let what = format!("has no metadata where its issuer says (status {status})");
        let hint = "check `issuer`, or write `token_endpoint` and the other endpoints";
        Err(self.http.error(Blame::Config, &what, hint))
    }

    fn metadata_error(&self, what: &str) -> ProviderError {
        let hint = "check `issuer`, or write `token_endpoint` and the other endpoints";
        self.http.error(Blame::Broken, &format!("has metadata that {what}"), hint)
    }
}

impl Metadata {
    fn endpoints(&self) -> Option<Endpoints> {
        let optional = |text: &Option<String>| match text {
            Some(text) => http::endpoint(text).map(Some),
            None => Some(None),
        };
        Some(Endpoints {
            issuer: Some(self.issuer.clone()),
            token: http::endpoint(&self.token_endpoint)?,
            revocation: optional(&self.revocation_endpoint)?,
            introspection: optional(&self.introspection_endpoint)?,
        })
    }
}

/// Where metadata may be: between host and path (RFC 8414 section 3.1), or behind the path (OpenID Connect
/// Discovery 1.0 section 4).
fn well_known(issuer: &str) -> impl Iterator<Item = Url> + use<> {
    let bare = issuer.trim_end_matches('/');
    let before = bare.parse::<Url>().ok().map(|mut url| {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("/.well-known/oauth-authorization-server{path}"));
        url
    });
    let behind = format!("{bare}/.well-known/openid-configuration").parse().ok();
    [before, behind].into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_looked_for_at_both_places() {
        let all = |issuer: &str| well_known(issuer).map(|url| url.to_string()).collect::<Vec<_>>();
        let host = "https://id.example.com";
        for issuer in [host.to_owned(), format!("{host}/")] {
            let behind = format!("{host}/.well-known/openid-configuration");
            assert_eq!(all(&issuer), [format!("{host}/.well-known/oauth-authorization-server"), behind]);
        }
        let behind = format!("{host}/realms/a/.well-known/openid-configuration");
        let before = format!("{host}/.well-known/oauth-authorization-server/realms/a");
        assert_eq!(all(&format!("{host}/realms/a")), [before, behind]);
    }
}
