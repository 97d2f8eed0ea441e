//! From a launch and its credential's keys to one request of STS, with everything checked that can be checked here.

use aws_sdk_sts::types::{PolicyDescriptorType, Tag};
use jiff::Timestamp;

use super::call::Call;
use super::credential::{CredentialSettings, SHORTEST};
use super::template::{self, Facts};
use super::{after, words};
use crate::provider::{Blame, MintRequest, ProviderError};

/// What is asked for, all of it checked.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) call: Call,
    pub(super) role_arn: Option<String>,
    pub(super) session_name: Option<String>,
    pub(super) external_id: Option<String>,
    pub(super) policy: Option<String>,
    pub(super) policy_arns: Vec<String>,
    pub(super) tags: Vec<(String, String)>,
    pub(super) transitive_tags: Vec<String>,
    pub(super) source_identity: Option<String>,
    /// Seconds.
    pub(super) duration: i32,
}

/// When the lease ends: what the launch is told, where STS does not end it earlier.
pub(super) fn lease_end(request: &MintRequest, settings: &CredentialSettings, now: Timestamp) -> Timestamp {
    let ttl = if settings.time_limit { request.spec.ttl } else { request.spec.ttl.max(SHORTEST) };
    // Whole seconds, as the conditions of a policy have.
    let end = after(now, ttl.min(request.horizon));
    Timestamp::from_second(end.as_second()).unwrap_or(end)
}

/// The request.
///
/// # Errors
/// Where a value that comes from the launch is nothing that STS takes.
pub(super) fn of(
    provider: &str,
    request: &MintRequest,
    settings: &CredentialSettings,
    now: Timestamp,
) -> Result<Wish, ProviderError> {
    let (session, launch) = (request.session.to_string(), request.launch.to_string());
    if !words::is_plain(&request.user) && settings_name_person(settings) {
        let what = format!("provider `{provider}`: the account's name has characters that STS does not take");
        let hint = "only A-Z, a-z, 0-9 and _ + = , . @ - may stand for {person}: leave it out of `policy`, `tags` \
            and `source_identity`";
        return Err(ProviderError::new(Blame::Config, what, hint));
    }
    let facts = Facts { person: &request.user, session: &session, launch: &launch };
    let wrong = |key: &str, fault: &str| {
        let what = format!("`{key}` of credential `{}` {fault}", request.spec.name);
        ProviderError::new(Blame::Config, what, "shorten it, or take fields out of it")
    };
    let end = settings.time_limit.then(|| lease_end(request, settings, now));
    let policy = template::policy(settings.policy.as_ref(), &settings.policy_arns, end, facts)
        .map_err(|fault| wrong("policy", &fault))?;
    let mut tags = Vec::new();
    for (key, value) in &settings.tags {
        let value = template::fill(value, facts).map_err(|fault| wrong("tags", &fault))?;
        if !words::is_tag_value(&value) {
            return Err(wrong("tags", "has a value of more than 256 characters"));
        }
        tags.push((key.clone(), value));
    }
    let source_identity = match &settings.source_identity {
        Some(text) => Some(template::fill(text, facts).map_err(|fault| wrong("source_identity", &fault))?),
        None => None,
    };
    if source_identity.as_deref().is_some_and(|text| !words::is_name(text)) {
        return Err(wrong("source_identity", "has not 2 to 64 characters with this person's name"));
    }
    Ok(Wish {
        call: settings.call,
        role_arn: settings.role_arn.clone(),
        session_name: session_name(request, settings.call),
        external_id: settings.external_id.clone(),
        policy,
        policy_arns: settings.policy_arns.clone(),
        tags,
        transitive_tags: settings.transitive_tags.clone(),
        source_identity,
        duration: duration(request, settings),
    })
}

fn settings_name_person(settings: &CredentialSettings) -> bool {
    let names = |text: &str| text.contains("{person}");
    settings.source_identity.as_deref().is_some_and(names)
        || settings.tags.values().any(|value| names(value))
        || settings.policy.as_ref().is_some_and(|policy| names(&policy.to_string()))
}

/// Seconds: no longer than the session, but at least what STS gives.
fn duration(request: &MintRequest, settings: &CredentialSettings) -> i32 {
    let whole = request.spec.ttl.min(request.horizon);
    let life = whole.clamp(SHORTEST, settings.call.longest());
    i32::try_from(life.as_secs()).unwrap_or(900)
}

/// `mcp-LAUNCH-SCOPE-LEASE`, with the random ends of the ids: launch and scope to find it by, and the lease so that
/// denying one credential does not deny the one that took its place.
fn session_name(request: &MintRequest, call: Call) -> Option<String> {
    let launch = tail(&request.launch.to_string());
    let lease = tail(&request.lease.to_string());
    match call {
        Call::SessionToken => None,
        // `Name` of a federated user has 2 to 32 characters.
        Call::FederationToken => Some(format!("mcp-{launch}-{lease}")),
        Call::AssumeRole | Call::WebIdentity => {
            let room = words::MAX_NAME - "mcp---".len() - launch.len() - lease.len();
            let scope: String = request.scope.as_str().chars().take(room).collect();
            Some(format!("mcp-{launch}-{scope}-{lease}"))
        }
    }
}

fn tail(id: &str) -> String {
    let plain: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
    plain.get(plain.len().saturating_sub(12)..).unwrap_or_default().to_owned()
}

impl Wish {
    /// As the SDK takes the managed policies.
    pub(super) fn descriptors(&self) -> Option<Vec<PolicyDescriptorType>> {
        let one = |arn: &String| PolicyDescriptorType::builder().arn(arn).build();
        (!self.policy_arns.is_empty()).then(|| self.policy_arns.iter().map(one).collect())
    }

    /// As the SDK takes the tags.
    pub(super) fn tags(&self) -> Option<Vec<Tag>> {
        let one = |(key, value): &(String, String)| Tag::builder().key(key).value(value).build().ok();
        (!self.tags.is_empty()).then(|| self.tags.iter().filter_map(one).collect())
    }
}
