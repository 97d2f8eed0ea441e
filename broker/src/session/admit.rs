//! Admits a launch: which session, may it, write that down, take a seat. Every outcome is in the audit log.

use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::names::SessionId;
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::ServerInfo;

use super::registry::{Refusals, Seat, Sessions, State, locked};
use super::sign_in::{Person, os};
use crate::audit::{ByWhom, Event};
use crate::config::Config;
use crate::policy::{Decision, Grant, Subject, decide};

/// Who asks for a launch.
pub struct Asking {
    /// As the kernel reported the connection.
    pub by: ByWhom,
    /// The account.
    pub person: Person,
}

impl Asking {
    /// Looks the account up.
    ///
    /// # Errors
    /// When there is none.
    pub async fn identify(by: ByWhom) -> Result<Self, Problem> {
        let person = os::person(by.uid).await?;
        Ok(Self { by, person })
    }

    fn subject(&self) -> Subject {
        Subject { user: self.person.user.clone(), groups: self.person.groups.clone() }
    }
}

/// So many refusals an account is given in a [`REFUSAL_WINDOW`].
const MAX_REFUSALS: u32 = 60;

/// The time in which refusals are counted.
const REFUSAL_WINDOW: Duration = Duration::from_secs(60);

/// A launch that may begin.
pub struct Admitted {
    /// Its place in the register.
    pub seat: Seat,
    /// What it may have.
    pub grant: Grant,
    /// For whom.
    pub person: Person,
}

impl Sessions {
    /// An admitted launch whose launcher went away before it began.
    pub fn never_began(&self, admitted: Admitted) {
        let (launch, reason) = (admitted.seat.launch, EndReason::LauncherGone);
        drop(admitted);
        self.audit.note(Event::LaunchEnded { launch, reason, dead: true });
    }

    /// Begins the account's session, or finds the one there is.
    ///
    /// # Errors
    /// When the broker stops.
    pub fn sign_in(self: &Arc<Self>, person: &Person, config: &Config) -> Result<SessionId, Problem> {
        let (session, new) = self.open(person, config.session.max_age)?;
        if new {
            // Not waited for: what opens anything, a launch and its mint, waits for records of its own.
            self.audit.note(Event::SessionStarted { session, uid: person.uid, user: person.user.clone() });
        }
        Ok(session)
    }

    /// Decides whether this launch may begin, and gives it its seat.
    ///
    /// # Errors
    /// The problem to tell the person.
    pub async fn admit(
        self: &Arc<Self>,
        asking: Asking,
        request: &LaunchRequest,
        config: &Config,
    ) -> Result<Admitted, Problem> {
        self.throttle(&asking.by)?;
        let decision = decide(&config.servers, &request.server, &asking.subject(), &request.args);
        let grant = match decision {
            Decision::Grant(grant) => grant,
            Decision::Denial(denial) => {
                let problem = denial.to_problem();
                self.deny(&asking, request, problem.code, denial.reasons.clone());
                return Err(problem);
            }
        };
        let session = self.sign_in(&asking.person, config)?;
        let seat = match self.seat(session, &request.server, asking.by.pid) {
            Ok(seat) => seat,
            Err(problem) => {
                self.deny(&asking, request, problem.code, Vec::new());
                return Err(problem);
            }
        };
        let granted = Event::LaunchGranted {
            launch: seat.launch,
            session,
            user: asking.person.user.clone(),
            server: request.server.clone(),
            scope: grant.scope().name.clone(),
            by: asking.by,
            reasons: grant.reasons().to_vec(),
        };
        self.audit.record(granted).await.map_err(|error| error.to_problem())?;
        Ok(Admitted { seat, grant, person: asking.person })
    }

    /// What an account may launch, and why not the rest.
    pub fn servers(&self, asking: &Asking, config: &Config) -> Vec<ServerInfo> {
        let subject = asking.subject();
        let lock = self.locked_now(asking.person.uid);
        let info = |server: &Arc<crate::config::ServerDefinition>| {
            let (mut allowed, reasons) = match decide(&config.servers, &server.name, &subject, &[]) {
                Decision::Grant(grant) => (true, grant.reasons().to_vec()),
                Decision::Denial(denial) => (false, denial.reasons.clone()),
            };
            let mut reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            if let Some(problem) = &lock {
                allowed = false;
                reasons.push(problem.title.clone());
            }
            ServerInfo {
                name: server.name.clone(),
                description: server.description.clone(),
                owner: server.owner.clone(),
                tier: server.tier.as_str().to_owned(),
                allowed,
                reasons,
            }
        };
        config.servers.values().map(info).collect()
    }

    fn locked_now(&self, uid: u32) -> Option<Problem> {
        let inner = self.lock();
        let session = inner.sessions.values().find(|session| session.person.uid == uid)?;
        matches!(session.state, State::Locked).then(locked)
    }

    /// An account that is refused again and again is not looked at for the rest of a minute: each refusal is
    /// a line in the audit log, and nobody may fill the disk with them.
    fn throttle(&self, by: &ByWhom) -> Result<(), Problem> {
        let now = self.clock.boot();
        let mut inner = self.lock();
        let refusals = inner.refusals.entry(by.uid).or_default();
        if now.saturating_sub(refusals.since) > REFUSAL_WINDOW {
            *refusals = Refusals { since: now, count: 0 };
        }
        if refusals.count < MAX_REFUSALS {
            return Ok(());
        }
        if refusals.count == MAX_REFUSALS {
            refusals.count += 1;
            self.audit.note(Event::LaunchesThrottled { by: by.clone() });
        }
        let title = format!("this account was refused {MAX_REFUSALS} times within a minute");
        Err(Problem::new(
            ErrorCode::TooMany,
            title,
            "wait a minute; `mcp-run servers` says what may be launched",
        ))
    }

    fn deny(
        &self,
        asking: &Asking,
        request: &LaunchRequest,
        code: ErrorCode,
        reasons: Vec<crate::policy::Reason>,
    ) {
        if let Some(refusals) = self.lock().refusals.get_mut(&asking.by.uid) {
            refusals.count += 1;
        }
        self.audit.note(Event::LaunchDenied {
            user: asking.person.user.clone(),
            server: request.server.clone(),
            by: asking.by.clone(),
            code,
            reasons,
        });
    }
}
