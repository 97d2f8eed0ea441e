//! Admits a launch: which session, may it, write that down, take a seat. Every outcome is in the audit log.

use std::sync::Arc;

use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::names::SessionId;
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::ServerInfo;

use super::registry::{Seat, Sessions, State, locked};
use super::sign_in::{Person, os};
use crate::audit::{ByWhom, Event};
use crate::config::Config;
use crate::durable::DurableError;
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
    /// Begins the account's session, or finds the one there is.
    ///
    /// # Errors
    /// When the broker stops, or the session's beginning cannot be written down.
    pub async fn sign_in(self: &Arc<Self>, person: &Person, config: &Config) -> Result<SessionId, Problem> {
        let (session, new) = self.open(person, config.session.max_age)?;
        if new {
            let event = Event::SessionStarted { session, uid: person.uid, user: person.user.clone() };
            if let Err(error) = self.audit.record(event).await {
                self.lock().sessions.remove(&session);
                return Err(storage(&error));
            }
            self.watch_age(session);
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
        let session = self.sign_in(&asking.person, config).await?;
        let decision = decide(&config.servers, &request.server, &asking.subject(), &request.args);
        let grant = match decision {
            Decision::Grant(grant) => grant,
            Decision::Denial(denial) => {
                let problem = denial.to_problem();
                self.deny(&asking, request, problem.code, denial.reasons.clone());
                return Err(problem);
            }
        };
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
        self.audit.record(granted).await.map_err(|error| storage(&error))?;
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

    fn deny(
        &self,
        asking: &Asking,
        request: &LaunchRequest,
        code: ErrorCode,
        reasons: Vec<crate::policy::Reason>,
    ) {
        self.audit.note(Event::LaunchDenied {
            user: asking.person.user.clone(),
            server: request.server.clone(),
            by: asking.by.clone(),
            code,
            reasons,
        });
    }
}

fn storage(error: &DurableError) -> Problem {
    let hint = "free disk space or mend the disk; nothing is launched until the broker can write";
    Problem::new(ErrorCode::StorageUnavailable, error.to_string(), hint)
}
