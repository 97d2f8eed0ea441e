//! How much each scope of a server is used in a session, and whose yes holds there: for all of its launches together,
//! as a limit that a new launch begins anew would be none; nor is one that a logout sets back, so that a session of the
//! same login goes on with the meters of the last one. A yes is gone with its session. It is told the time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mcp_broker_proto::names::{Label, ServerName};

use super::holder::Key;
use crate::config::ServerDefinition;
use crate::policy::{Meter, Usage};

/// So many servers of a session are remembered beside those that have a launch. Names that reloads have brought and
/// taken away again would pile up otherwise.
const MOST_UNUSED: usize = 256;

/// Sessions that are over and whose meters are remembered.
const MOST_RESTED: usize = 64;

/// The meters of sessions that are over, the last one at the end.
#[derive(Default)]
pub(super) struct Rested(Vec<(Key, Servers)>);

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

impl Rested {
    /// A session is over.
    pub(super) fn keep(&mut self, key: Key, uses: Servers) {
        uses.forget_yes();
        if self.0.len() >= MOST_RESTED {
            self.0.remove(0);
        }
        self.0.push((key, uses));
    }

    /// What a session of that login begins with.
    pub(super) fn take(&mut self, key: &Key) -> Servers {
        let at = self.0.iter().position(|(rested, _)| rested == key);
        at.map(|at| self.0.remove(at).1).unwrap_or_default()
    }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a name that is none must fail the test")]
mod tests {
    use super::*;
    use crate::config::plain;

    #[test]
    fn a_session_goes_on_with_the_meters_of_the_last_one() {
        let (server, scope): (ServerName, Label) = ("s".parse().unwrap(), "all".parse().unwrap());
        let (now, key) = (Duration::from_secs(1000), |uid| Key::of(uid, None));
        let definition = Arc::new(plain::server("s"));
        let mut first = Servers::default();
        first.of(&server).begin(&scope, now);
        first.of(&server).remember_yes(&scope, now * 2, &definition);
        let mut rested = Rested::default();
        rested.keep(key(1), first);
        assert_eq!(rested.take(&key(2)).of(&server).usage(&scope, now).last_minute, 0, "it is somebody else");
        let next = rested.take(&key(1)).of(&server);
        assert_eq!(next.usage(&scope, now).last_minute, 1);
        assert!(!next.remembers_yes(&scope, now, &definition));
        assert_eq!(rested.take(&key(1)).of(&server).usage(&scope, now).last_minute, 0, "it is taken once");
        for uid in 0..200 {
            rested.keep(key(uid), Servers::default());
        }
        assert_eq!(rested.0.len(), MOST_RESTED);
    }
}
