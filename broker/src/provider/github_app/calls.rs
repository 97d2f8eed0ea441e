//! The calls to GitHub: as the app, by a signed token of ten minutes at most, and as an installation, by its token.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_broker_proto::Secret;
use mcp_broker_proto::names::LeaseId;
use mcp_broker_proto::session::Revocability;
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, Serialize};

use super::GithubApp;
use super::held::Known;
use super::narrow::{Given, Narrowed};
use super::settings::FIELD;
use crate::provider::http::Answer;
use crate::provider::{
    Blame, Handle, Healthy, Issued, MintRequest, Prepared, Proof, ProviderError, Renewed, Revocation, own,
};

/// The life of an installation token (REST API, "Create an installation access token for an app").
const LIFE: Duration = Duration::from_secs(3600);
/// For clocks that differ, and for the time that a request takes.
const MARGIN: Duration = Duration::from_secs(60);
/// The life of a signed token; GitHub takes ten minutes at most.
const SIGNED: Duration = Duration::from_secs(480);
/// A revoked token is looked for so often, so long after each other.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(300);

/// What names a token to the provider that made it.
#[derive(Serialize, Deserialize)]
struct Named {
    lease: LeaseId,
    /// It lives so long at most.
    until: Timestamp,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Deserialize)]
struct Token {
    token: Secret,
    expires_at: Timestamp,
    #[serde(flatten)]
    given: Given,
}

impl GithubApp {
    /// The handle of a token that is not made yet: it cannot live longer than this.
    pub(super) fn intent(&self, request: &MintRequest) -> Handle {
        Named { lease: request.lease, until: self.after(LIFE + MARGIN) }.to_handle()
    }

    pub(super) async fn make_token(
        &self,
        request: &MintRequest,
        prepared: &Prepared,
    ) -> Result<Issued, ProviderError> {
        let named = self.named(&prepared.handle)?;
        let asked: &Narrowed = own::credential(&request.spec)?;
        // Nothing was asked for so far.
        self.held.put(named.lease, Known::None);
        let signed = self.signed().await?;
        self.held.forget(named.lease);
        let path = format!("app/installations/{}/access_tokens", self.settings.installation_id);
        let answer = self.call(Method::POST, &path, &signed, |call| call.json(asked)).await?;
        if answer.status != 201 {
            if (400..500).contains(&answer.status) {
                self.held.put(named.lease, Known::None);
            }
            return Err(self.refusal(&answer));
        }
        let Some(Token { token, expires_at, given }) = answer.json() else {
            return Err(self.http.error(Blame::Broken, "gave a token that cannot be read", "check `api`"));
        };
        let token = Arc::new(token);
        self.held.put(named.lease, Known::Token(Arc::clone(&token)));
        if let Some(excess) = asked.excess(&given) {
            // The lease layer revokes what fails, by what is held now.
            let hint = "nothing was handed out, and the token is revoked; look at the app's installation";
            return Err(self.http.error(Blame::Refused, &format!("gave {excess}"), hint));
        }
        self.issued(request, named.lease, &token, expires_at)
    }

    fn issued(
        &self,
        request: &MintRequest,
        lease: LeaseId,
        token: &Secret,
        valid_until: Timestamp,
    ) -> Result<Issued, ProviderError> {
        if valid_until > self.after(LIFE + 5 * MARGIN) || valid_until <= self.clock.now() {
            let what = "says that a token ends at a time that cannot be";
            return Err(self.http.error(Blame::Broken, what, "set this machine's clock"));
        }
        let expires_at = self.after(request.spec.ttl.min(request.horizon)).min(valid_until);
        // EXPOSE: the copy that goes to the launch; the other one is kept to revoke it.
        let copy = token.expose(|text| Secret::new(text.to_owned()));
        Ok(Issued {
            handle: Named { lease, until: valid_until }.to_handle(),
            fields: BTreeMap::from([(FIELD.to_owned(), copy)]),
            plain: &[],
            expires_at: Some(expires_at),
            valid_until: (valid_until > expires_at).then_some(valid_until),
            detail: Some(format!("installation {}", self.settings.installation_id)),
            renewable: expires_at < valid_until,
            revocability: Revocability::Immediate,
        })
    }

    pub(super) fn lengthen(&self, handle: &Handle, ttl: Duration) -> Result<Renewed, ProviderError> {
        let named = self.named(handle)?;
        let expires_at = self.after(ttl).min(named.until);
        Ok(Renewed { expires_at, renewable: expires_at < named.until })
    }

    pub(super) async fn end_token(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        let named = self.named(handle)?;
        let token = match self.held.get(named.lease) {
            Some(Known::Token(token)) => token,
            Some(Known::None) => {
                self.held.forget(named.lease);
                return Ok(Revocation::AlreadyGone(Proof::Object));
            }
            // It was lost with the process or the connection that had it.
            None => return Ok(Revocation::ExpiresAt(Some(named.until))),
        };
        let answer = self.call(Method::DELETE, "installation/token", &token, |call| call).await?;
        let was_gone = match answer.status {
            204 => false,
            401 => true,
            _ => return Err(self.refusal(&answer)),
        };
        if !was_gone {
            self.see_it_refused(&token).await?;
        }
        self.held.forget(named.lease);
        Ok(if was_gone { Revocation::AlreadyGone(Proof::Token) } else { Revocation::Revoked(Proof::Token) })
    }

    /// The proof: a request with the token is answered 401.
    async fn see_it_refused(&self, token: &Secret) -> Result<(), ProviderError> {
        for _ in 0..LOOKS {
            let path = "installation/repositories?per_page=1";
            if self.call(Method::GET, path, token, |call| call).await?.status == 401 {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Err(self.http.error(Blame::Broken, "still takes a token that it revoked", "it is tried again"))
    }

    pub(super) async fn look(&self) -> Result<Healthy, ProviderError> {
        let signed = self.signed().await?;
        let answer = self.call(Method::GET, "app", &signed, |call| call).await?;
        if answer.status != 200 {
            return Err(self.refusal(&answer));
        }
        Ok(Healthy { detail: format!("app {}", self.settings.app_id), warning: None })
    }

    /// A token of the app's own (RS256). Dated back, for clocks that differ.
    async fn signed(&self) -> Result<Secret, ProviderError> {
        let pem = self.settings.private_key.fetch(&self.peers).await?;
        let now = self.clock.now().as_second();
        let (back, life) = (i64::try_from(MARGIN.as_secs()), i64::try_from(SIGNED.as_secs()));
        let (iat, exp) = (now - back.unwrap_or_default(), now + life.unwrap_or_default());
        let claims = Claims { iss: &self.settings.app_id, iat, exp };
        // EXPOSE: the signer, which reads the key and is dropped here.
        let signed = pem.expose(|pem| {
            let key = EncodingKey::from_rsa_pem(pem.as_bytes())?;
            jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key)
        });
        signed.map(Secret::new).map_err(|_unusable| {
            let hint = "put the RSA key that GitHub gave you, in PEM, where `private_key` says";
            self.http.error(Blame::Config, "has a private key that cannot be used", hint)
        })
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        token: &Secret,
        with: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, ProviderError> {
        let url = format!("{}/{path}", self.settings.api.as_str().trim_end_matches('/'));
        let make = |client: &reqwest::Client| {
            let call = client.request(method, url).header("Accept", "application/vnd.github+json");
            // EXPOSE: the request's header, marked as sensitive.
            let call = token.expose(|text| call.bearer_auth(text));
            with(call.header("X-GitHub-Api-Version", "2022-11-28"))
        };
        self.http.send(make).await
    }

    fn refusal(&self, answer: &Answer) -> ProviderError {
        let status = answer.status;
        let (blame, what, hint) = match status {
            401 => (
                Blame::Identity,
                "does not accept the app's key",
                "check `app_id`, `private_key` and this machine's clock",
            ),
            403 if answer.retry_after.is_some() => (Blame::Busy(None), "asks to come back later", "wait"),
            403 => (Blame::Refused, "does not allow it", "see whether the installation is suspended"),
            404 => {
                (Blame::Config, "has no such installation of the app", "check `installation_id` and `api`")
            }
            422 => (
                Blame::Refused,
                "does not give such a token",
                "the installation must have each of `repositories`, and at least `permissions`",
            ),
            500.. => (Blame::Unreachable, "has trouble of its own", "try again; see its status page"),
            _ => (Blame::Broken, "gave an answer that is not understood", "check `api`"),
        };
        self.http.error(blame, &format!("{what} (status {status})"), hint)
    }

    fn named(&self, handle: &Handle) -> Result<Named, ProviderError> {
        let named = serde_json::from_value(handle.0.clone());
        named.map_err(|_foreign| {
            self.http.error(Blame::Broken, "was given a handle of another kind", own::REPORT)
        })
    }

    fn after(&self, life: Duration) -> Timestamp {
        let span = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
        self.clock.now().checked_add(span).unwrap_or(Timestamp::MAX)
    }
}

impl Named {
    fn to_handle(&self) -> Handle {
        Handle(serde_json::to_value(self).unwrap_or_default())
    }
}
