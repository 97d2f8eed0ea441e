//! How much each scope of a server is used in a session, and whose yes holds there: for all of its launches together,
//! as a limit that a new launch begins anew would be none. Gone with the session. It is told the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_broker_proto::names::{Label, ServerName};

use crate::config::ServerDefinition;
use crate::policy::{Meter, Usage};

/// So many servers of a session are remembered beside those that have a launch. Names that reloads have brought and
/// taken away again would pile up otherwise.
const MOST_UNUSED: usize = 256;

/// The servers of one session.
#[derive(Default)]
pub(super) struct Servers(BTreeMap<ServerName, Arc<Uses>>);

/// The scopes of one server in one session; only those that the definition has or had.
#[derive(Default)]
pub(super) struct Uses(Mutex<BTreeMap<Label, Use>>);

#[derive(Default)]
struct Use {
    meter: Meter,
    /// A person's yes: until when it holds on the boot clock, and what was in force when it was given.
    yes: Option<(Duration, Arc<ServerDefinition>)>,
}

impl Servers {
    /// The uses of a server.
    pub(super) fn of(&mut self, server: &ServerName) -> Arc<Uses> {
        if self.0.len() > MOST_UNUSED {
            self.0.retain(|_, uses| Arc::strong_count(uses) > 1);
        }
        Arc::clone(self.0.entry(server.clone()).or_default())
    }

    /// No yes holds any more.
    pub(super) fn forget_yes(&self) {
        for uses in self.0.values() {
            uses.lock().values_mut().for_each(|used| used.yes = None);
        }
    }
}

impl Uses {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Label, Use>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much a scope is used.
    pub(super) fn usage(&self, scope: &Label, now: Duration) -> Usage {
        self.lock().get_mut(scope).map_or_else(Usage::default, |used| used.meter.usage(now))
    }

    /// A call of a scope begins.
    pub(super) fn begin(&self, scope: &Label, now: Duration) {
        self.lock().entry(scope.clone()).or_default().meter.begin(now);
    }

    /// It is over.
    pub(super) fn end(&self, scope: &Label) {
        if let Some(used) = self.lock().get_mut(scope) {
            used.meter.end();
        }
    }

    /// A person said yes to a call, and that holds until then, under this definition.
    pub(super) fn remember_yes(&self, scope: &Label, until: Duration, under: &Arc<ServerDefinition>) {
        self.lock().entry(scope.clone()).or_default().yes = Some((until, Arc::clone(under)));
    }

    /// Whether an earlier yes holds. One that was given under another configuration does not.
    pub(super) fn remembers_yes(&self, scope: &Label, now: Duration, under: &Arc<ServerDefinition>) -> bool {
        let mut uses = self.lock();
        let Some(used) = uses.get_mut(scope) else { return false };
        let holds =
            |(until, given): &(Duration, Arc<ServerDefinition>)| now < *until && Arc::ptr_eq(given, under);
        if !used.yes.as_ref().is_some_and(holds) {
            used.yes = None;
        }
        used.yes.is_some()
    }
}
