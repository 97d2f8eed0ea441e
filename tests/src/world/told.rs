//! What a world's programs tell of sessions, launches and credentials, and waits until they and the databases agree.

use std::thread::sleep;
use std::time::Duration;

use mcp_broker_proto::session::{LaunchState, LockCause, SessionInfo, SessionState, Status};

use super::World;
use crate::accounts::Account;
use crate::eventually::{eventually, so, within};

/// A screen that was locked for less than a second was not unlocked by a person; this is a little more.
const SHORTEST_LOCK: Duration = Duration::from_millis(1300);

impl World {
    /// What `mcp-run status` shows a person.
    #[track_caller]
    #[must_use]
    pub fn status(&self, account: Account) -> Status {
        let outcome = self.run_to_end(account, &["status", "--json"]);
        outcome.assert_code(0);
        serde_json::from_slice(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {}", outcome.text()))
    }

    /// A command of a person that succeeds; what it prints.
    #[track_caller]
    pub fn person(&self, account: Account, command: &str) -> String {
        let outcome = self.run_to_end(account, &[command]);
        outcome.assert_code(0);
        outcome.text()
    }

    /// How often an event, with that word in it, is in the audit log.
    #[track_caller]
    #[must_use]
    pub fn audited(&self, event: &str, word: &str) -> usize {
        self.audit().iter().filter(|told| told["event"] == event && told.to_string().contains(word)).count()
    }

    /// Waits until it is there.
    #[track_caller]
    pub fn wait_audited(&self, event: &str, word: &str) {
        eventually(&format!("{event} with `{word}` is in the audit log"), || {
            so(self.audited(event, word) > 0)
        });
    }

    /// Waits until no process of an instance and no minted user is there, whatever becomes of the launches.
    #[track_caller]
    pub fn assert_dark(&self) {
        self.assert_dark_within(crate::PATIENCE);
    }

    /// The same within another bound.
    #[track_caller]
    pub fn assert_dark_within(&self, patience: Duration) {
        within(patience, "every process of an instance is gone", || so(self.instances().is_empty()));
        within(patience, "every minted user is gone", || so(self.users().is_empty()));
        within(patience, "every session of one is cut", || so(self.pg().sessions(&self.role) == 0));
    }

    /// The sessions of a person that are not over, as the admin sees them: no login session is needed for that.
    #[track_caller]
    #[must_use]
    pub fn sessions(&self, account: Account) -> Vec<SessionInfo> {
        let all: Vec<SessionInfo> = self.admin_json(&["sessions"]);
        all.into_iter().filter(|s| s.uid == account.uid && s.state != SessionState::Ended).collect()
    }

    fn one_is(&self, account: Account, state: SessionState) -> Option<SessionInfo> {
        self.sessions(account).into_iter().find(|session| session.state == state)
    }

    /// Waits until a session of the person is locked, for that reason.
    #[track_caller]
    pub fn assert_locked(&self, account: Account, cause: LockCause) {
        let session = eventually("the session is locked", || self.one_is(account, SessionState::Locked));
        let lock = session.lock.expect("a locked session says why");
        assert_eq!(lock.cause, cause);
        assert!(!lock.hint.is_empty() && !lock.since.is_empty(), "{lock:?}");
    }

    /// Whether a session of the person is locked right now.
    #[track_caller]
    #[must_use]
    pub fn is_locked(&self, account: Account) -> bool {
        self.one_is(account, SessionState::Locked).is_some()
    }

    /// Waits until a session of the person is active.
    #[track_caller]
    pub fn assert_active(&self, account: Account) {
        let _ = eventually("the session is active", || self.one_is(account, SessionState::Active));
    }

    /// Waits until there are so many launches, all of them parked with a reason.
    #[track_caller]
    pub fn assert_parked(&self, count: usize) {
        eventually(&format!("{count} launches are parked"), || {
            let launches = self.launches();
            let parked = launches.iter().filter(|l| l.state == LaunchState::Parked && l.parked.is_some());
            so(launches.len() == count && parked.count() == count)
        });
    }

    /// Lets a lock that was seen last as long as one must before its end counts.
    pub fn outlast_the_shortest_lock(&self) {
        sleep(SHORTEST_LOCK);
    }
}
