//! Secrets that the broker itself needs, such as the key of another provider: values of KV, read with the broker's own
//! identity. Reads nothing that would have to be ended, and keeps nothing.

use std::collections::BTreeMap;

use mcp_broker_proto::Secret;

use super::Vault;
use super::answer::Answer;
use super::calls;
use super::fault::Complaint;
use super::gate::Urgency;
use super::path::SecretPath;
use crate::provider::{Blame, ProviderError};

/// The most that one secret may hold, all fields together, in bytes.
const MAX_SECRET: usize = 64 << 10;
/// The most fields taken.
const MAX_FIELDS: usize = 64;

impl Vault {
    /// All text fields of a KV secret, of version 1 or 2 by its answer.
    pub(super) async fn own_secret(&self, path: &str) -> Result<BTreeMap<String, Secret>, ProviderError> {
        let parsed = path.parse::<SecretPath>().map_err(|bad| {
            let what = format!("cannot read a secret at `{path}`, which {bad}");
            self.name.error(
                Blame::Config,
                &what,
                "write the path, such as \"secret/data/NAME\" for KV version 2",
            )
        })?;
        let answer = self.identity.call(|| calls::look_up_secret(&parsed), Urgency::Normal).await?;
        if !answer.is_ok() {
            return Err(self.refused_own(&answer, path));
        }
        let doing = format!("reading `{path}`");
        let lease = answer.lease().ok_or_else(|| self.name.unreadable(&doing))?;
        if !lease.id.is_empty() {
            // Under the broker's own token it would live for long.
            self.end_lease(&lease.id).await?;
            let what = format!("has something at `{path}` that is made when it is read");
            return Err(self.name.error(Blame::Config, &what, "name a secret of a KV engine"));
        }
        let fields = answer.texts().ok_or_else(|| self.name.unreadable(&doing))?;
        let size: usize = fields.iter().map(|(name, value)| name.len() + value.len()).sum();
        if fields.len() > MAX_FIELDS || size > MAX_SECRET {
            let what = format!("has more than 64 KiB or {MAX_FIELDS} fields at `{path}`");
            return Err(self.name.error(
                Blame::Config,
                &what,
                "keep what the broker needs in a secret of its own",
            ));
        }
        if fields.is_empty() {
            let what = format!("has no text at `{path}`");
            return Err(self.name.error(Blame::Missing, &what, "put a field with a text there"));
        }
        Ok(fields)
    }

    fn refused_own(&self, answer: &Answer, path: &str) -> ProviderError {
        let complaint = answer.complaint();
        match answer.status {
            403 => {
                let what = format!("does not let the broker itself read `{path}`");
                let hint = format!(
                    "add to the policy of the broker's own identity: path \"{path}\" {{ capabilities = [\"read\"] }} \
                     (deploy/vault/policies/own-secret.hcl)"
                );
                self.name.error(Blame::Identity, &what, hint)
            }
            404 if complaint != Complaint::NoRoute => {
                let what = format!("has nothing at `{path}`");
                let hint = "put it there, or correct the path: KV version 2 is read at MOUNT/data/NAME";
                self.name.error(Blame::Missing, &what, hint)
            }
            status => {
                let cure = format!("mount a KV engine there, or correct the path `{path}`");
                self.name.refusal(status, complaint, &format!("reading `{path}`"), &cure)
            }
        }
    }
}
