//! Where the SDK finds keys of the broker's own: environment, profiles, a token file, a container. The metadata service
//! of a virtual machine only where the configuration says so.

use aws_config::ecs::EcsCredentialsProvider;
use aws_config::environment::EnvironmentVariableCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::meta::credentials::CredentialsProviderChain;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_sdk_sts::config::retry::RetryConfig;
use aws_sdk_sts::config::timeout::TimeoutConfig;
use aws_sdk_sts::config::{BehaviorVersion, Region, SharedCredentialsProvider};

use super::settings::{Origin, StsSettings};

/// What the SDK reads itself; `None` for what is read here.
pub(super) fn chain(
    settings: &StsSettings,
    region: &Region,
    timeouts: TimeoutConfig,
) -> Option<SharedCredentialsProvider> {
    let config = ProviderConfig::without_region()
        .with_region(Some(region.clone()))
        .with_retry_config(RetryConfig::standard().with_max_attempts(2))
        .with_timeout_config(timeouts);
    let config = config.with_behavior_version(Some(BehaviorVersion::v2026_01_12()));
    // A profile may name the metadata service as its source; without leave it finds the broker's environment there.
    let profiles = |name: Option<&str>, file: Option<&std::path::Path>| {
        let mut builder = ProfileFileCredentialsProvider::builder().configure(&config);
        if !settings.instance_metadata {
            builder = builder.with_custom_provider(METADATA, EnvironmentVariableCredentialsProvider::new());
        }
        if let Some(name) = name {
            builder = builder.profile_name(name);
        }
        if let Some(file) = file {
            builder = only(builder, file);
        }
        builder.build()
    };
    match &settings.source {
        Origin::Keys(_) | Origin::WebIdentity(_) => None,
        Origin::Profile { name, file } => {
            Some(SharedCredentialsProvider::new(profiles(Some(name), file.as_deref())))
        }
        Origin::Chain => {
            let environment = EnvironmentVariableCredentialsProvider::new();
            let token = WebIdentityTokenCredentialsProvider::builder().configure(&config).build();
            let container = EcsCredentialsProvider::builder().configure(&config).build();
            let chain = CredentialsProviderChain::first_try("Environment", environment)
                .or_else("Profile", profiles(None, None))
                .or_else("WebIdentityToken", token)
                .or_else("EcsContainer", container);
            Some(SharedCredentialsProvider::new(if settings.instance_metadata {
                chain.or_else(METADATA, ImdsCredentialsProvider::builder().configure(&config).build())
            } else {
                chain
            }))
        }
    }
}

/// Its name in `credential_source` of a profile.
const METADATA: &str = "Ec2InstanceMetadata";

#[expect(deprecated, reason = "what takes its place is in a crate that only the SDK itself needs")]
fn only(
    builder: aws_config::profile::credentials::Builder,
    file: &std::path::Path,
) -> aws_config::profile::credentials::Builder {
    use aws_config::profile::profile_file::{ProfileFileKind, ProfileFiles};
    builder.profile_files(ProfileFiles::builder().with_file(ProfileFileKind::Config, file).build())
}
