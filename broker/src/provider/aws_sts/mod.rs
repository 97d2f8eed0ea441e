//! Credentials of AWS STS: a role, a session or a federated user of short life, narrowed by a session policy. STS
//! cannot revoke one: `revoke` says until when it is valid, after a deny hook where one is configured.
//!
//! In reading order: `settings`, `call`, `credential`, `words`, `template`, `policy_file`; `wish`, `calls`, `keys`,
//! `chain`, `fault`, `handle`, `deny`.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use mcp_broker_proto::Secret;
use mcp_broker_proto::session::Revocability;
use tokio::sync::Semaphore;

use super::{
    Blame, BuildDeps, Handle, Healthy, Issued, Kind, MINT_LIMIT, MintRequest, Parent, Prepared, Provider,
    ProviderError, Renewed, Revocation, own,
};
use crate::clock::Clock;
use crate::config::{CredentialSpec, KindReader, ProviderConfig};

mod call;
mod calls;
mod chain;
mod credential;
mod deny;
mod fault;
mod handle;
mod keys;
mod policy_file;
mod settings;
mod template;
mod wish;
mod words;

use credential::{CredentialSettings, SHORTEST};
use handle::Held;

/// The kind.
pub const KIND: Kind = Kind {
    reader: KindReader {
        name: "aws-sts",
        provider: settings::read,
        credential: credential::read,
        default_ttl: SHORTEST,
        provider_schema: include_str!("provider.schema.json"),
        credential_schema: include_str!("credential.schema.json"),
    },
    build,
};

/// So far may the clocks of this machine and of STS be apart: AWS takes signatures of five minutes.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// So many names of sessions that STS refused, or that were not handed out, are remembered.
const MAX_REFUSED: usize = 4096;

struct Sts {
    name: String,
    region: String,
    deny: Option<settings::Deny>,
    caller: calls::Caller,
    clock: Arc<dyn Clock>,
    /// Handles of which it is certain that nothing was made.
    refused: Mutex<VecDeque<Handle>>,
    /// Ends that STS told of sessions that were not handed out, by the handle that says what was expected.
    ends: Mutex<VecDeque<(Handle, Timestamp)>>,
    /// For the deny hook.
    turns: Semaphore,
}

fn build(config: &dyn ProviderConfig, deps: &BuildDeps) -> Result<Arc<dyn Provider>, ProviderError> {
    let settings: &settings::StsSettings = own::keys(config, &deps.name)?;
    let (name, clock) = (deps.name.to_string(), Arc::clone(&deps.clock));
    let caller = calls::Caller::new(name.clone(), settings, deps.peers.clone(), Arc::clone(&clock));
    let (region, deny) = (settings.region.clone(), settings.deny.clone());
    let (refused, ends, turns) = (Mutex::default(), Mutex::default(), Semaphore::new(deny::AT_ONCE));
    Ok(Arc::new(Sts { name, region, deny, caller, clock, refused, ends, turns }))
}

#[async_trait]
impl Provider for Sts {
    fn revocability(&self, spec: &CredentialSpec) -> Revocability {
        let limited = wanted(spec).is_ok_and(|settings| settings.time_limit);
        let life = if limited { spec.ttl } else { spec.ttl.max(SHORTEST) };
        Revocability::Bounded { seconds: life.as_secs() }
    }

    /// Without the network: names the session that `issue` asks for, and says when it would end at the latest.
    async fn prepare(&self, request: &MintRequest, _: Option<&Parent>) -> Result<Prepared, ProviderError> {
        let settings = wanted(&request.spec)?;
        let wish = wish::of(&self.name, request, settings, self.clock.now())?;
        let life = Duration::from_secs(u64::try_from(wish.duration).unwrap_or_default());
        let account = wish.role_arn.as_deref().and_then(words::account_of_role);
        let held = Held {
            call: wish.call.word().to_owned(),
            session_name: wish.session_name.clone(),
            role_arn: wish.role_arn.clone(),
            account: account.map(str::to_owned),
            until: after(self.clock.now(), life + MINT_LIMIT),
        };
        Ok(Prepared { handle: held.to_handle(), opener: None })
    }

    async fn issue(&self, request: &MintRequest, prepared: Prepared) -> Result<Issued, ProviderError> {
        let settings = wanted(&request.spec)?;
        let now = self.clock.now();
        let wish = wish::of(&self.name, request, settings, now)?;
        let made = self.caller.make(&wish).await.map_err(|failure| {
            if failure.refused {
                keep(&self.refused, prepared.handle.clone());
            }
            failure.error
        })?;
        let mut held = Held::read(&prepared.handle, &self.name)?;
        held.until = made.expires_at;
        self.judge_clock(&wish, &made, now).inspect_err(|_wrong| {
            keep(&self.ends, (prepared.handle.clone(), made.expires_at));
        })?;
        Ok(self.issued(request, settings, &held, made, now))
    }

    async fn revoke(&self, handle: &Handle) -> Result<Revocation, ProviderError> {
        let mut held = Held::read(handle, &self.name)?;
        if self.forget(handle) {
            return Ok(Revocation::NeverMade);
        }
        held.until = self.told_end(handle).map_or(held.until, |told| told.max(held.until));
        match &self.deny {
            Some(hook) if held.until > self.clock.now() => {
                let by = deny::deny(hook, &self.turns, &self.name, &held).await?;
                Ok(Revocation::Denied { until: held.until, by })
            }
            _ => Ok(Revocation::ExpiresAt(Some(held.until))),
        }
    }

    async fn renew(&self, _: &Handle, _: Duration) -> Result<Renewed, ProviderError> {
        let what = format!("a credential of provider `{}` cannot be renewed, only replaced", self.name);
        Err(ProviderError::new(Blame::Config, what, own::REPORT))
    }

    async fn health(&self) -> Result<Healthy, ProviderError> {
        let identity = self.caller.identity().await.map_err(|failure| failure.error)?;
        let detail = match identity {
            None => format!("{}, with a web identity token, which is there", self.region),
            Some((account, arn)) => {
                format!("{}, account {}, as {}", self.region, digits(&account), sort(&arn))
            }
        };
        Ok(Healthy { detail, warning: None })
    }
}

impl Sts {
    fn issued(
        &self,
        request: &MintRequest,
        settings: &CredentialSettings,
        held: &Held,
        made: calls::Made,
        now: Timestamp,
    ) -> Issued {
        let leased = wish::lease_end(request, settings, now);
        let expires_at = leased.min(made.expires_at);
        let valid_until = Some(made.expires_at).filter(|until| *until > expires_at);
        let life = if settings.time_limit { expires_at } else { made.expires_at };
        let seconds = u64::try_from(life.as_second() - now.as_second()).unwrap_or_default();
        let name = held.session_name.as_deref().unwrap_or("no session name");
        let packed = made.packed.map_or(String::new(), |size| format!(", policy packed to {size} %"));
        let limit = if settings.time_limit { ", policy ends with the lease" } else { "" };
        let fields = BTreeMap::from([
            ("access_key_id".to_owned(), Secret::new(made.access_key_id)),
            ("secret_access_key".to_owned(), made.secret_access_key),
            ("session_token".to_owned(), made.session_token),
            ("expiration".to_owned(), Secret::new(expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())),
            ("region".to_owned(), Secret::new(self.region.clone())),
        ]);
        Issued {
            handle: held.to_handle(),
            fields,
            plain: &["access_key_id", "expiration", "region"],
            expires_at: Some(expires_at),
            valid_until,
            detail: Some(format!("{} {name}{packed}{limit}", held.call)),
            renewable: false,
            revocability: Revocability::Bounded { seconds },
        }
    }

    /// What STS says of the end tells how far the clocks are apart. A limit in time by a wrong clock would be none.
    fn judge_clock(
        &self,
        wish: &wish::Wish,
        made: &calls::Made,
        now: Timestamp,
    ) -> Result<(), ProviderError> {
        let asked = SignedDuration::from_secs(i64::from(wish.duration));
        let off = made.expires_at.duration_since(now) - asked;
        // Sessions of the root user are shorter than asked for, which says nothing of clocks.
        if off <= MAX_SKEW && (off >= -MAX_SKEW || wish.call == call::Call::SessionToken) {
            return Ok(());
        }
        let (word, seconds) = if off.is_negative() { ("ahead of", -off) } else { ("behind", off) };
        let seconds = seconds.as_secs();
        let what =
            format!("provider `{}`: this machine's clock is {seconds} s {word} that of STS", self.name);
        Err(ProviderError::new(Blame::Config, what, "set the clock, and let a time service keep it"))
    }

    /// Not forgotten, as a deny hook may have to be told again.
    fn told_end(&self, handle: &Handle) -> Option<Timestamp> {
        let ends = self.ends.lock().unwrap_or_else(PoisonError::into_inner);
        ends.iter().find(|(of, _)| of == handle).map(|(_, end)| *end)
    }

    fn forget(&self, handle: &Handle) -> bool {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        let before = refused.len();
        refused.retain(|one| one != handle);
        refused.len() < before
    }
}

fn keep<T>(all: &Mutex<VecDeque<T>>, one: T) {
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.push_back(one);
    if all.len() > MAX_REFUSED {
        all.pop_front();
    }
}

fn after(now: Timestamp, life: Duration) -> Timestamp {
    let span = SignedDuration::try_from(life).unwrap_or(SignedDuration::MAX);
    now.checked_add(span).unwrap_or(Timestamp::MAX)
}

fn wanted(spec: &CredentialSpec) -> Result<&CredentialSettings, ProviderError> {
    own::credential(spec)
}

fn digits(account: &str) -> String {
    account.chars().filter(char::is_ascii_digit).take(12).collect()
}

/// What an ARN names, without the name.
fn sort(arn: &str) -> &'static str {
    let name = arn.splitn(6, ':').nth(5).unwrap_or("");
    match name.split('/').next().unwrap_or("") {
        "user" => "a user",
        "assumed-role" => "an assumed role: what it assumes lives one hour at most",
        "federated-user" => "a federated user",
        "root" => "the root user, which can assume no role",
        _ => "an identity of another kind",
    }
}

#[cfg(test)]
mod tests;
