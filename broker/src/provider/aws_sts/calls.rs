//! The calls themselves: one client of the SDK, keys of the broker's own, a bounded number of tries. Never asks the
//! metadata service of a virtual machine unless it was told to.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Config, Credentials, Region, SharedCredentialsProvider};
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_sts::{Client, types};
use jiff::Timestamp;
use mcp_broker_proto::Secret;
use tokio::time::{Instant, sleep, timeout_at};

use super::call::Call;
use super::chain::chain;
use super::fault::{self, About, Failure};
use super::settings::{Origin, StsSettings};
use super::wish::Wish;
use crate::clock::Clock;
use crate::provider::{Blame, Peers, ProviderError};

/// All of one call, with reading the keys and every try, below `MINT_LIMIT`.
const LIMIT: Duration = Duration::from_millis(8500);
/// One try.
const TRY: Duration = Duration::from_secs(4);
/// Of it, to connect.
const CONNECT: Duration = Duration::from_secs(2);
/// So many tries; only what may pass by itself is tried again.
const TRIES: u32 = 3;
/// Before the second try; doubled before the third.
const PAUSE: Duration = Duration::from_millis(200);

/// What came of it.
pub(super) struct Made {
    pub(super) access_key_id: String,
    pub(super) secret_access_key: Secret,
    pub(super) session_token: Secret,
    pub(super) expires_at: Timestamp,
    /// Per cent of what STS takes.
    pub(super) packed: Option<i32>,
}

/// What STS says of the size: the older field speaks of policies and tags, the newer one of the whole token.
macro_rules! packed {
    ($answer:expr) => {{
        #[expect(
            deprecated,
            reason = "what took its place measures something else, and not every STS sends it"
        )]
        let packed = $answer.packed_policy_size();
        packed
    }};
}
/// One STS, asked with one identity.
pub(super) struct Caller {
    pub(super) name: String,
    client: Client,
    pub(super) origin: Origin,
    /// For an origin that the SDK reads.
    pub(super) chain: Option<SharedCredentialsProvider>,
    pub(super) peers: Peers,
    clock: Arc<dyn Clock>,
}

impl Caller {
    pub(super) fn new(name: String, settings: &StsSettings, peers: Peers, clock: Arc<dyn Clock>) -> Self {
        let region = Region::new(settings.region.clone());
        let timeouts =
            TimeoutConfig::builder().connect_timeout(CONNECT).operation_attempt_timeout(TRY).build();
        let mut config = Config::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .region(region.clone())
            // Tries are counted here: whether an earlier one may have made something has to be known.
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts.clone());
        if let Some(endpoint) = &settings.endpoint {
            config = config.endpoint_url(endpoint.as_str().trim_end_matches('/'));
        }
        let chain = chain(settings, &region, timeouts);
        let client = Client::from_conf(config.build());
        Self { name, client, origin: settings.source.clone(), chain, peers, clock }
    }

    /// Whether the broker has a web identity token in place of keys.
    pub(super) fn has_token(&self) -> bool {
        matches!(self.origin, Origin::WebIdentity(_))
    }

    /// Makes a credential.
    pub(super) async fn make(&self, wish: &Wish) -> Result<Made, Failure> {
        let deadline = Instant::now() + LIMIT;
        if wish.call == Call::WebIdentity {
            let token = self.within(deadline, self.token()).await?;
            let made = self.tried(Some(wish.call), deadline, || self.web_identity(wish, &token)).await?;
            return made.ok_or_else(|| self.empty());
        }
        let keys = self.within(deadline, self.keys()).await?;
        let made = self.tried(Some(wish.call), deadline, || self.signed(wish, &keys)).await?;
        made.ok_or_else(|| self.empty())
    }

    /// Account and ARN of the broker's own identity; `None` where it has a token only, which was read.
    pub(super) async fn identity(&self) -> Result<Option<(String, String)>, Failure> {
        let deadline = Instant::now() + LIMIT;
        if self.has_token() {
            self.within(deadline, self.token()).await?;
            return Ok(None);
        }
        let keys = self.within(deadline, self.keys()).await?;
        let ask = || async {
            let answer =
                self.client.get_caller_identity().customize().config_override(signing(&keys)).send().await?;
            let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
            Ok::<_, SdkError<_, HttpResponse>>(Some((text(answer.account()), text(answer.arn()))))
        };
        self.tried(None, deadline, ask).await
    }

    async fn within<T>(
        &self,
        deadline: Instant,
        work: impl Future<Output = Result<T, ProviderError>>,
    ) -> Result<T, Failure> {
        let done = timeout_at(deadline, work).await.unwrap_or_else(|_elapsed| {
            let what = format!("the keys of provider `{}` could not be read in time", self.name);
            Err(ProviderError::new(Blame::Unreachable, what, "see whether their source can be reached"))
        });
        // Nothing was asked of STS, so nothing was made.
        done.map_err(|error| Failure { error, refused: true })
    }

    /// Tries while it may pass and there is time.
    async fn tried<T, E, F>(
        &self,
        call: Option<Call>,
        deadline: Instant,
        ask: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        E: ProvideErrorMetadata,
        F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
    {
        let mut unclear = false;
        let mut tries = 1;
        loop {
            let asked = timeout_at(deadline, ask()).await;
            let mut failure = match asked {
                Ok(Ok(made)) => return Ok(made),
                Ok(Err(error)) => {
                    fault::of(About { provider: &self.name, call, now: self.clock.now() }, &error)
                }
                Err(_elapsed) => self.late(),
            };
            unclear |= !failure.refused;
            failure.refused = !unclear;
            let pause = PAUSE * 2_u32.pow(tries - 1);
            if tries == TRIES || !failure.error.is_passing() || Instant::now() + pause >= deadline {
                return Err(failure);
            }
            tries += 1;
            sleep(pause).await;
        }
    }

    /// Something may have been made.
    fn empty(&self) -> Failure {
        let what = format!("STS of provider `{}` answered without credentials", self.name);
        let hint = "check that `endpoint` is an STS, and that no proxy is in between";
        Failure { error: ProviderError::new(Blame::Broken, what, hint), refused: false }
    }

    fn late(&self) -> Failure {
        let what = format!("STS of provider `{}` did not answer in time", self.name);
        let hint = "see whether the endpoint of its region can be reached from here";
        Failure { error: ProviderError::new(Blame::Unreachable, what, hint), refused: false }
    }

    async fn signed(
        &self,
        wish: &Wish,
        keys: &Credentials,
    ) -> Result<Option<Made>, SdkError<aws_sdk_sts::Error, HttpResponse>> {
        let arns = wish.descriptors();
        let policy = wish.policy.clone();
        let tags = wish.tags();
        match wish.call {
            Call::AssumeRole | Call::WebIdentity => {
                let request = self.client.assume_role().set_role_arn(wish.role_arn.clone());
                let request = request.set_role_session_name(wish.session_name.clone()).set_policy(policy);
                let request = request.set_policy_arns(arns).set_tags(tags).duration_seconds(wish.duration);
                let transitive = Some(wish.transitive_tags.clone()).filter(|keys| !keys.is_empty());
                let request =
                    request.set_transitive_tag_keys(transitive).set_external_id(wish.external_id.clone());
                let request = request.set_source_identity(wish.source_identity.clone());
                let answer =
                    request.customize().config_override(signing(keys)).send().await.map_err(general)?;
                Ok(made(answer.credentials(), packed!(answer)))
            }
            Call::SessionToken => {
                let request = self.client.get_session_token().duration_seconds(wish.duration);
                let answer =
                    request.customize().config_override(signing(keys)).send().await.map_err(general)?;
                Ok(made(answer.credentials(), None))
            }
            Call::FederationToken => {
                let request = self.client.get_federation_token().set_name(wish.session_name.clone());
                let request = request.set_policy(policy).set_policy_arns(arns).set_tags(tags);
                let request = request.duration_seconds(wish.duration);
                let answer =
                    request.customize().config_override(signing(keys)).send().await.map_err(general)?;
                Ok(made(answer.credentials(), packed!(answer)))
            }
        }
    }

    async fn web_identity(
        &self,
        wish: &Wish,
        token: &Secret,
    ) -> Result<Option<Made>, SdkError<aws_sdk_sts::Error, HttpResponse>> {
        let request = self.client.assume_role_with_web_identity().set_role_arn(wish.role_arn.clone());
        let request =
            request.set_role_session_name(wish.session_name.clone()).set_policy(wish.policy.clone());
        let request = request.set_policy_arns(wish.descriptors()).duration_seconds(wish.duration);
        // EXPOSE: the SDK's request holds the token as text until it was sent.
        let request = token.expose(|token| request.web_identity_token(token));
        let answer = request.send().await.map_err(general)?;
        Ok(made(answer.credentials(), packed!(answer)))
    }
}

fn signing(keys: &Credentials) -> aws_sdk_sts::config::Builder {
    Config::builder().credentials_provider(keys.clone())
}

/// One error type for the four calls: only code and text are looked at.
fn general<E>(error: SdkError<E, HttpResponse>) -> SdkError<aws_sdk_sts::Error, HttpResponse>
where
    aws_sdk_sts::Error: From<E>,
{
    error.map_service_error(aws_sdk_sts::Error::from)
}

/// `None` where the answer has no credentials in it.
fn made(keys: Option<&types::Credentials>, packed: Option<i32>) -> Option<Made> {
    let keys = keys?;
    let expires_at = Timestamp::from_second(keys.expiration().secs()).ok()?;
    let whole = !keys.access_key_id().is_empty() && !keys.secret_access_key().is_empty();
    whole.then(|| Made {
        access_key_id: keys.access_key_id().to_owned(),
        secret_access_key: Secret::new(keys.secret_access_key().to_owned()),
        session_token: Secret::new(keys.session_token().to_owned()),
        expires_at,
        packed,
    })
}
