//! What `lock`, `unlock` and `logout` did, by the two pictures of before and after. What the broker did not
//! verify is said to be open.

use std::collections::HashSet;

use mcp_broker_proto::names::{LaunchId, SessionId};
use mcp_broker_proto::session::{LaunchState, LeaseInfo, LeaseState, SessionInfo, SessionState, Status};

use super::status::leases;
use super::words::{self, counted};
use crate::client::Broker;
use crate::failure::{Failure, REFUSED};

/// What there was before; where it could not be seen, nothing is said of what ended.
pub(super) struct Before {
    session: Option<SessionId>,
    launches: HashSet<LaunchId>,
}

impl Before {
    /// Asks the broker. Not being able to see what there is must not keep anybody from ending it.
    pub(super) fn see(broker: &Broker) -> Self {
        broker
            .status()
            .map_or_else(|_unseen| Self { session: None, launches: HashSet::new() }, |s| Self::of(&s))
    }

    fn of(status: &Status) -> Self {
        let session = status.session.as_ref().map(|session| session.id);
        let launches = status.launches.iter().filter(|launch| Some(launch.session) == session);
        Self { session, launches: launches.map(|launch| launch.id).collect() }
    }

    /// How many are not there any more.
    fn ended(&self, after: &Status) -> usize {
        let left: HashSet<_> = after.launches.iter().map(|launch| launch.id).collect();
        self.launches.difference(&left).count()
    }
}

/// What a lock did.
pub(super) fn of_lock(before: &Before, after: &Status) -> String {
    let Some(session) = &after.session else { return of_end("the session is over", before, after) };
    let counts = count(after, session.id);
    let mut out = format!("{}\n", locked_words(session));
    let parked = "parked: their clients stay connected";
    line(
        &mut out,
        counts.parked,
        "launch is parked: its client stays connected",
        &format!("launches are {parked}"),
    );
    line(&mut out, before.ended(after), "launch ended", "launches ended");
    let open = "told to stop, and not gone yet";
    line(&mut out, counts.others(), &format!("launch was {open}"), &format!("launches were {open}"));
    if let Some(lock) = &session.lock {
        out.push_str(&format!("to go on: {}\n", lock.hint));
    }
    out + &unsettled(after, Some(session.id))
}

fn locked_words(session: &SessionInfo) -> String {
    match (session.state, &session.lock) {
        (SessionState::Locked, Some(lock)) => format!("locked since {}", lock.since),
        (SessionState::Locked, None) => "locked".to_owned(),
        _ => "locked, and unlocked again meanwhile".to_owned(),
    }
}

/// What an unlock did.
///
/// # Errors
/// Where the session is still locked: an unlock by command does not undo every lock.
pub(super) fn of_unlock(after: &Status) -> Result<String, Failure> {
    let Some(session) = &after.session else {
        return Ok(format!("unlocked; the next launch begins a session\n{}", unsettled(after, None)));
    };
    if session.state == SessionState::Locked {
        let (why, hint) = match &session.lock {
            Some(lock) => (words::cause(lock.cause), lock.hint.as_str()),
            None => ("the broker does not say why", "see `mcp-run status`"),
        };
        return Err(Failure::new(REFUSED, format!("the session is still locked: {why}"), hint));
    }
    let counts = count(after, session.id);
    let mut out = "unlocked\n".to_owned();
    line(&mut out, counts.running, "launch runs", "launches run");
    line(&mut out, counts.starting, "launch is coming back", "launches are coming back");
    let idle = "at the next request";
    line(&mut out, counts.idle, &format!("launch comes back {idle}"), &format!("launches come back {idle}"));
    line(&mut out, counts.parked, "launch is still parked", "launches are still parked");
    Ok(out + &unsettled(after, None))
}

/// What the end of a session did; `first` is the first line.
pub(super) fn of_end(first: &str, before: &Before, after: &Status) -> String {
    let mut out = format!("{first}\n");
    line(&mut out, before.ended(after), "launch ended", "launches ended");
    let left = after.launches.iter().filter(|launch| before.launches.contains(&launch.id)).count();
    let open = "told to end, and not gone yet";
    line(&mut out, left, &format!("launch was {open}"), &format!("launches were {open}"));
    out + &unsettled(after, before.session)
}

fn line(out: &mut String, count: usize, one: &str, many: &str) {
    if count > 0 {
        out.push_str(&format!("{}\n", counted(count, one, many)));
    }
}

#[derive(Default)]
struct Counts {
    parked: usize,
    running: usize,
    starting: usize,
    idle: usize,
}

impl Counts {
    fn others(&self) -> usize {
        self.running + self.starting + self.idle
    }
}

fn count(status: &Status, session: SessionId) -> Counts {
    let mut counts = Counts::default();
    for launch in status.launches.iter().filter(|launch| launch.session == session) {
        *match launch.state {
            LaunchState::Parked => &mut counts.parked,
            LaunchState::Running => &mut counts.running,
            LaunchState::Starting => &mut counts.starting,
            LaunchState::Idle => &mut counts.idle,
        } += 1;
    }
    counts
}

/// Credentials whose end is open: every pending one, and whatever is left of the session that was ended. Before them
/// those of that session that cannot be revoked.
fn unsettled(status: &Status, ended: Option<SessionId>) -> String {
    let of_it = |lease: &&LeaseInfo| Some(lease.session) == ended;
    let (withheld, open): (Vec<_>, Vec<_>) = status.leases.iter().partition(|lease| lease.withheld);
    let is_open = |lease: &&LeaseInfo| lease.state == LeaseState::RevocationPending || of_it(lease);
    let withheld: Vec<_> = withheld.into_iter().filter(of_it).collect();
    words::outliving(&withheld)
        + &leases("not settled yet", &open.into_iter().filter(is_open).collect::<Vec<_>>())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::super::samples::{id, launch, lease, session, status};
    use super::*;

    fn before(launches: &[String]) -> Before {
        Before::of(&status(Some(&session(1, "active", "")), &[], launches, &[]))
    }

    const LOCKED: &str = r#","lock":{"cause":"command","since":"T1","hint":"run `mcp-run unlock`"}"#;

    fn check_lock(launches: &[String], leases: &[String], want: &str) {
        let two = before(&[launch(2, 1, "running", ""), launch(3, 1, "idle", "")]);
        let after = status(Some(&session(1, "locked", LOCKED)), &[], launches, leases);
        assert_eq!(of_lock(&two, &after), want);
    }

    #[test]
    fn a_lock_says_what_became_of_each() {
        let end = "to go on: run `mcp-run unlock`\n";
        let parked = launch(2, 1, "parked", r#","parked":"the session is locked""#);
        check_lock(&[], &[], &format!("locked since T1\n2 launches ended\n{end}"));
        check_lock(
            &[parked.clone(), launch(3, 1, "parked", "")],
            &[],
            &format!("locked since T1\n2 launches are parked: their clients stay connected\n{end}"),
        );
        check_lock(
            std::slice::from_ref(&parked),
            &[],
            &format!(
                "locked since T1\n1 launch is parked: its client stays connected\n1 launch ended\n{end}"
            ),
        );
        check_lock(
            &[parked, launch(3, 1, "running", "")],
            &[],
            &format!(
                "locked since T1\n1 launch is parked: its client stays connected\n\
                1 launch was told to stop, and not gone yet\n{end}"
            ),
        );
        // Another session of the account works on, and its launches are not counted.
        check_lock(&[launch(9, 8, "running", "")], &[], &format!("locked since T1\n2 launches ended\n{end}"));
    }

    #[test]
    fn what_is_not_verified_is_said() {
        let leases = [
            lease(4, 1, "live", r#""T9""#, r#""immediate""#, ""),
            lease(5, 8, "live", r#""T9""#, r#""immediate""#, ""),
            lease(6, 7, "revocation_pending", r#""T9""#, r#""immediate""#, r#","trouble":"`bao` is down""#),
        ];
        let after = status(Some(&session(1, "locked", LOCKED)), &[], &[], &leases);
        let said = of_lock(&before(&[]), &after);
        for want in [
            "not settled yet",
            &id(4),
            &id(6),
            "revocation pending, expires at T9 at the latest",
            "`bao` is down",
        ] {
            assert!(said.contains(want), "{want}: {said}");
        }
        assert!(!said.contains(&id(5)), "another session's: {said}");
        let said = of_unlock(&status(Some(&session(1, "active", "")), &[], &[], &leases)).unwrap();
        assert!(said.contains(&id(6)) && !said.contains(&id(4)), "{said}");
    }

    #[test]
    fn what_cannot_be_revoked_is_told_with_its_end() {
        let late = |number, session| {
            let bounded = r#"{"bounded":{"seconds":60}}"#;
            lease(number, session, "revocation_pending", r#""T9""#, bounded, r#","withheld":true"#)
        };
        let line = "  read.db of bao for orders-db is valid until T9\n";
        let end = "to go on: run `mcp-run unlock`\n";
        let one = format!("locked since T1\n2 launches ended\n{end}1 credential cannot be revoked:\n{line}");
        check_lock(&[], &[late(4, 1)], &one);
        // Another session's is not this lock's to tell of.
        check_lock(&[], &[late(4, 1), late(5, 7)], &one);
        let two = before(&[]);
        let said = of_end("logged out", &two, &status(None, &[], &[], &[late(4, 1), late(6, 1)]));
        assert_eq!(said, format!("logged out\n2 credentials cannot be revoked:\n{line}{line}"));
        let said = of_unlock(&status(Some(&session(1, "active", "")), &[], &[], &[late(4, 1)])).unwrap();
        assert_eq!(said, "unlocked\n", "nothing is open");
    }

    #[test]
    fn an_unlock_that_does_not_unlock_is_no_success() {
        let hint = r#","lock":{"cause":"screen_lock","since":"T1","hint":"unlock the screen"}"#;
        let failure = of_unlock(&status(Some(&session(1, "locked", hint)), &[], &[], &[])).unwrap_err();
        assert_eq!(
            (failure.exit, failure.what.as_str(), failure.hint.as_str()),
            (77, "the session is still locked: its screen was told to lock", "unlock the screen")
        );
        let launches = [
            launch(2, 1, "starting", ""),
            launch(3, 1, "idle", ""),
            launch(4, 1, "parked", ""),
            launch(5, 1, "running", ""),
        ];
        let said = of_unlock(&status(Some(&session(1, "active", "")), &[], &launches, &[])).unwrap();
        assert_eq!(
            said,
            "unlocked\n1 launch runs\n1 launch is coming back\n1 launch comes back at the next request\n\
            1 launch is still parked\n"
        );
    }

    #[test]
    fn an_end() {
        let two = before(&[launch(2, 1, "running", ""), launch(3, 1, "parked", "")]);
        let after = status(None, &[], &[launch(3, 1, "parked", "")], &[]);
        assert_eq!(
            of_end("logged out", &two, &after),
            "logged out\n1 launch ended\n1 launch was told to end, and not gone yet\n"
        );
        assert_eq!(of_lock(&two, &status(None, &[], &[], &[])), "the session is over\n2 launches ended\n");
    }
}
