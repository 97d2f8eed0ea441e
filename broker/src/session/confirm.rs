//! Answers of people to calls that wait for one: `mcp-run approve`. Only the session of the launch can give them,
//! and only while it is open.

use mcp_broker_proto::names::CallId;
use mcp_broker_proto::problem::Problem;
use mcp_broker_proto::session::ConfirmationInfo;

use super::admit::Asking;
use super::registry::{Inner, Sessions};
use super::words;

impl Sessions {
    /// Says whether a call of the session of the process that asks may go on.
    ///
    /// # Errors
    /// When the session is locked, or no such call of it waits.
    pub fn confirm(&self, asking: &Asking, call: CallId, yes: bool) -> Result<(), Problem> {
        let key = asking.key();
        let mut guard = self.lock();
        let inner = &mut *guard;
        let session = inner.sessions.iter().find(|(_, holder)| holder.key() == key);
        let (session, holder) = session.ok_or_else(|| words::nothing_waits(call))?;
        if holder.fence().is_none() {
            return Err(words::locked(holder));
        }
        let mut mine = inner.launches.values_mut().filter(|launch| launch.info.session == *session);
        // Whoever takes it out has answered it: nobody answers twice.
        match mine.any(|launch| launch.answer(call, yes, asking.by.clone())) {
            true => Ok(()),
            false => Err(words::nothing_waits(call)),
        }
    }
}

/// What waits in the session of that key.
pub(super) fn waiting(inner: &Inner, key: &super::holder::Key) -> Vec<ConfirmationInfo> {
    let Some((session, _)) = inner.sessions.iter().find(|(_, holder)| holder.key() == *key) else {
        return Vec::new();
    };
    let mine = inner.launches.values().filter(|launch| launch.info.session == *session);
    let mut waiting: Vec<_> = mine.flat_map(|launch| launch.waiting().cloned()).collect();
    waiting.sort_by_key(|info| info.id);
    waiting
}
