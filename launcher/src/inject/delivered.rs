//! What an instance was given and can be given anew while it runs: its private directory, and the ways that refresh.
//! Holds no secret: the broker sends all that a way is made of.

use std::collections::BTreeSet;

use mcp_broker_proto::launch::{Injection, Refresh};
use mcp_broker_proto::names::{Label, LeaseId};

use super::{lend, secrets_in, unmade};
use crate::desk::Desk;
use crate::failure::{CONFIG, Failure, UNAVAILABLE};
use crate::proxy::redact::Secrets;
use crate::spawn::private::PrivateDir;

/// The leases that a refresh is about.
#[must_use]
pub fn leases(refresh: &Refresh) -> Vec<LeaseId> {
    refresh.credentials.values().map(|credential| credential.lease).collect()
}

/// What was delivered to one instance. What answers requests for a credential takes the new one once the files are in
/// place, as that step cannot fail.
#[derive(Default)]
pub struct Delivered {
    /// Its private files.
    pub(super) files: Option<PrivateDir>,
    /// The ways by which new credentials reach it.
    pub(super) renewing: Vec<Injection>,
    /// What it may ask for while it runs.
    pub desk: Option<Desk>,
    /// The credentials that it has in some way besides that cannot be changed any more.
    pub(super) fixed: BTreeSet<Label>,
}

impl Delivered {
    /// What the server may not say besides once it has these credentials; to be called before it has them. The
    /// refresh is as it was afterwards.
    #[must_use]
    pub fn secrets(&self, refresh: &mut Refresh) -> Secrets {
        secrets_in(&mut refresh.credentials, &self.renewing)
    }

    /// Puts new credentials in the place of the old ones: all of them or, where it fails, none. Answers with the
    /// signals that the server is to be told by, each once.
    ///
    /// # Errors
    /// Where one cannot be delivered; what the instance had it has then still.
    pub fn refresh(&mut self, refresh: Refresh) -> Result<Vec<u8>, Failure> {
        let mut credentials = refresh.credentials;
        if let Some(name) = credentials.keys().find(|name| self.fixed.contains(*name)) {
            let what = format!("credential `{name}` is where it cannot be changed while the server runs");
            return Err(Failure::new(CONFIG, what, "start the server anew"));
        }
        let touched = self
            .renewing
            .iter()
            .filter(|way| way.credentials().iter().any(|name| credentials.contains_key(*name)));
        let touched: Vec<_> = touched.cloned().collect();
        // Looked at first, as nothing can be taken back of what the server may have asked for already.
        let served = self.desk.as_ref().map(|desk| desk.prepare(&credentials)).transpose()?;
        let fields = lend(&mut credentials);
        let (mut contents, mut signals) = (Vec::new(), BTreeSet::new());
        for way in &touched {
            let Injection::File { name, content, signal, .. } = way else { continue };
            let content = content.render(&fields).map_err(|error| unmade(name, &error))?;
            contents.push((name.as_str(), content));
            signals.extend(*signal);
        }
        if !contents.is_empty() {
            let files = self.files.as_ref().ok_or_else(|| {
                Failure::new(UNAVAILABLE, "the server's secret files are gone", "start the server anew")
            })?;
            files.replace(&contents)?;
        }
        if let (Some(desk), Some(served)) = (&mut self.desk, served) {
            desk.take(served);
        }
        Ok(signals.into_iter().collect())
    }

    /// Removes the files.
    ///
    /// # Errors
    /// Where one is still there; the failure names the directory.
    pub fn remove(&mut self) -> Result<(), Failure> {
        self.renewing.clear();
        self.files.take().map_or(Ok(()), |files| files.remove())
    }
}
