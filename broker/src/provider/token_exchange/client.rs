//! Posts forms as the client that the broker is: with its secret, with a token that it signs, or with its name alone.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use mcp_broker_proto::Secret;
use reqwest::Url;
use serde::Serialize;

use super::TokenExchange;
use super::endpoints::Endpoints;
use super::form::{Form, encoded};
use super::settings::Auth;
use crate::provider::http::{Answer, Unanswered};
use crate::provider::{Blame, ProviderError, Source};

/// The life of a signed token.
const SIGNED: Duration = Duration::from_secs(60);
/// `client_assertion_type` (RFC 7523 section 2.2).
const BEARER: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// The claims of RFC 7523 section 3.
#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: i64,
    exp: i64,
}

/// A form with what authenticates the client, ready to be sent.
pub(super) struct Ready {
    form: Form,
    basic: Option<Secret>,
}

impl TokenExchange {
    /// Adds what authenticates the client. Sends nothing.
    pub(super) async fn ready(&self, mut form: Form, endpoints: &Endpoints) -> Result<Ready, ProviderError> {
        let mut basic = None;
        match &self.settings.auth {
            Auth::Basic(secret) => basic = Some(self.fetch(secret).await?),
            Auth::Post(secret) => {
                form.put("client_id", &self.settings.client_id);
                form.put_secret("client_secret", &self.fetch(secret).await?);
            }
            Auth::Signed { key, algorithm } => {
                let assertion = self.assertion(&self.fetch(key).await?, *algorithm, endpoints.audience())?;
                form.put("client_id", &self.settings.client_id);
                form.put("client_assertion_type", BEARER);
                form.put_secret("client_assertion", &assertion);
            }
            Auth::None if self.settings.client_id.is_empty() => {}
            Auth::None => form.put("client_id", &self.settings.client_id),
        }
        Ok(Ready { form, basic })
    }

    /// Sends it. A refusal is an answer.
    pub(super) async fn post(&self, url: &Url, ready: Ready) -> Result<Answer, Unanswered> {
        let Ready { form, basic } = ready;
        let make = |client: &reqwest::Client| {
            let call = client.post(url.clone()).header("Accept", "application/json");
            let call = match &basic {
                // EXPOSE: the request's header, marked as sensitive.
                Some(secret) => secret.expose(|text| {
                    call.basic_auth(encoded(&self.settings.client_id).as_str(), Some(encoded(text).as_str()))
                }),
                None => call,
            };
            form.on(call)
        };
        self.http.try_send(make).await
    }

    async fn fetch(&self, source: &Source) -> Result<Secret, ProviderError> {
        source.fetch(&self.peers).await
    }

    fn assertion(&self, key: &Secret, algorithm: Algorithm, audience: &str) -> Result<Secret, ProviderError> {
        let now = self.clock.now().as_second();
        let client = self.settings.client_id.as_str();
        let claims = Claims {
            iss: client,
            sub: client,
            aud: audience,
            jti: uuid::Uuid::new_v4().to_string(),
            iat: now,
            exp: now.saturating_add(i64::try_from(SIGNED.as_secs()).unwrap_or_default()),
        };
        // EXPOSE: the signer, which reads the key and is dropped here.
        let signed = key.expose(|pem| {
            let key = match algorithm {
                Algorithm::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()),
                Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
                _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
            };
            jsonwebtoken::encode(&Header::new(algorithm), &claims, &key?)
        });
        signed.map(Secret::new).map_err(|_unusable| {
            let hint =
                "put a key in PEM that fits `token_endpoint_auth_signing_alg` where `private_key` says";
            self.http.error(Blame::Config, "has a private key that cannot be used", hint)
        })
    }
}
