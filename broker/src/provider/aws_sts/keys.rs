//! What the broker itself signs with: keys that are kept somewhere, what the SDK finds, or a token. Read for each call.

use aws_sdk_sts::config::{Credentials, ProvideCredentials};
use mcp_broker_proto::Secret;

use super::calls::Caller;
use super::settings::{Keys, Origin};
use crate::provider::{Blame, ProviderError, Source};

impl Caller {
    /// The web identity token.
    pub(super) async fn token(&self) -> Result<Secret, ProviderError> {
        match &self.origin {
            Origin::WebIdentity(path) => Source::File(path.clone()).fetch(&self.peers).await,
            _ => {
                let what = format!("provider `{}` has no web identity token", self.name);
                let hint = "write `source = { web_identity_token_file = \"/PATH\" }`, or another `call`";
                Err(ProviderError::new(Blame::Config, what, hint))
            }
        }
    }

    /// The keys.
    pub(super) async fn keys(&self) -> Result<Credentials, ProviderError> {
        let refuse = |blame, what: &str, hint: &str| {
            Err(ProviderError::new(blame, format!("provider `{}` {what}", self.name), hint))
        };
        match (&self.origin, &self.chain) {
            (Origin::Keys(keys), _) => self.kept(keys).await,
            (_, Some(chain)) => match chain.provide_credentials().await {
                Ok(keys) => Ok(keys),
                // What the SDK says of it may hold what a program printed.
                Err(_) => refuse(
                    Blame::Identity,
                    "has no keys of its own",
                    "check `source`: the profile, or the environment of the broker; the metadata service is asked \
                     only with `instance_metadata = true`",
                ),
            },
            _ => refuse(
                Blame::Config,
                "has a web identity token and no keys",
                "write `call = \"assume-role-with-web-identity\"`",
            ),
        }
    }

    async fn kept(&self, keys: &Keys) -> Result<Credentials, ProviderError> {
        let id = keys.access_key_id.fetch(&self.peers).await?;
        let secret = keys.secret_access_key.fetch(&self.peers).await?;
        let token = match &keys.session_token {
            Some(source) => Some(source.fetch(&self.peers).await?),
            None => None,
        };
        // EXPOSE: the SDK keeps keys in texts that it wipes when they are dropped, at the end of this call.
        let token = token.map(|token| token.expose(str::to_owned));
        // EXPOSE: as above.
        let (id, secret) = (id.expose(str::to_owned), secret.expose(str::to_owned));
        Ok(Credentials::new(id, secret, token, None, "mcp-broker"))
    }
}
