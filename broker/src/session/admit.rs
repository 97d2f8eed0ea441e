//! Admits a launch: which session, may it, write that down, take a seat. Every outcome is in the audit log.

use std::sync::Arc;

use jiff::SignedDuration;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::names::{LaunchId, SessionId};
use mcp_broker_proto::plan::Record;
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::{LaunchInfo, LaunchState, LockCause, ServerInfo};
use tokio::sync::OnceCell;

use super::holder::{self, Holder, Key};
use super::lock::{Lock, Notice};
use super::login::{Caller, Login};
use super::pace::{self, Allowed};
use super::plan;
use super::registry::Sessions;
use super::seat::Seat;
use super::sign_in::{Person, os};
use super::words;
use crate::audit::{ByWhom, Event};
use crate::clock::shown;
use crate::config::{OnLock, ServerDefinition};
use crate::policy::{Decision, Grant, Reason, Subject, approved_tools, decide, describe};

/// Who asks.
pub struct Asking {
    /// As the kernel reported the connection.
    pub by: ByWhom,
    /// The account.
    pub person: Person,
    /// The login session that the process is bound to, where login sessions are known.
    pub login: Option<Arc<Login>>,
}

impl Asking {
    pub(super) fn key(&self) -> Key {
        Key::of(self.person.uid, self.login.as_deref())
    }
}

/// A launch that may begin.
pub struct Admitted {
    /// Its place in the register.
    pub seat: Seat,
    /// What was asked for.
    pub request: LaunchRequest,
    /// What it may have, decided just now.
    pub grant: Grant,
    /// For whom.
    pub person: Person,
}

pub(super) fn subject(person: &Person) -> Subject {
    Subject { user: person.user.clone(), groups: person.groups.clone() }
}

impl Sessions {
    /// Finds out who a process is: its account, and its login session.
    ///
    /// # Errors
    /// When there is no such account, or it is not clear in which login session.
    pub async fn identify(&self, by: ByWhom, caller: &Caller) -> Result<Asking, Problem> {
        let person = os::person(by.uid).await?;
        let login = self.logins.login_of(caller).await?.map(Arc::new);
        Ok(Asking { by, person, login })
    }

    /// An admitted launch whose launcher went away before it began.
    pub fn never_began(&self, admitted: Admitted) {
        let (launch, reason) = (admitted.seat.launch, EndReason::LauncherGone);
        drop(admitted);
        self.audit.note(Event::LaunchEnded { launch, reason, dead: true });
    }

    /// Begins the session of the process that asks, or finds the one there is.
    ///
    /// # Errors
    /// When the broker stops, or the login session is over or cannot be looked at.
    pub async fn sign_in(self: &Arc<Self>, asking: &Asking) -> Result<SessionId, Problem> {
        let (session, established) = self.open(asking)?;
        let Some(login) = &asking.login else { return Ok(session) };
        // Looked at after the register knows of it, so that nothing that happens in between is missed.
        established.get_or_try_init(|| self.look_at(session, login, Notice::First)).await?;
        Ok(session)
    }

    fn open(self: &Arc<Self>, asking: &Asking) -> Result<(SessionId, Arc<OnceCell<()>>), Problem> {
        let (key, person) = (asking.key(), &asking.person);
        let max_age = self.config.borrow().session.max_age;
        let mut guard = self.lock();
        let inner = &mut *guard;
        if inner.stopping {
            return Err(words::stopping());
        }
        if let Some((id, holder)) = inner.sessions.iter_mut().find(|(_, holder)| holder.key() == key) {
            holder.person = person.clone();
            return Ok((*id, Arc::clone(&holder.established)));
        }
        let most = self.config.borrow().session.mints_per_minute;
        inner.paces.begins(person.uid, self.clock.boot(), most)?;
        let id = SessionId::fresh();
        let now = self.clock.now();
        let ends_at =
            now.saturating_add(SignedDuration::try_from(max_age).unwrap_or_default()).unwrap_or(now);
        let login = asking.login.clone();
        let place = holder::place(person.uid, login.as_deref());
        let mut lock = inner.marks.lock_of(&place, self.clock.boot());
        if inner.asleep {
            let begun = || Lock::shut(LockCause::Sleep, false, self.clock.boot());
            lock.get_or_insert_with(begun).take(Notice::Lock(LockCause::Sleep), self.clock.boot());
        }
        let mut holder = Holder::begin(person.clone(), login.clone(), lock, (ends_at, max_age), &*self.clock);
        holder.uses = inner.rested.take(&key);
        let established = Arc::clone(&holder.established);
        inner.sessions.insert(id, holder);
        if let (Some(newborn), Some(login)) = (&inner.newborn, &login) {
            drop(newborn.send(Arc::clone(login)));
        }
        // Not waited for: what opens anything, a launch and its mint, waits for records of its own.
        let login = login.map(|login| login.id.clone());
        let (uid, user) = (person.uid, person.user.clone());
        self.audit.note(Event::SessionStarted { session: id, uid, user, login });
        self.watch_age(id);
        Ok((id, established))
    }

    pub(super) fn session_of(&self, key: &Key) -> Option<SessionId> {
        let inner = self.lock();
        inner.sessions.iter().find(|(_, holder)| holder.key() == *key).map(|(id, _)| *id)
    }

    /// Decides whether this launch may begin, and gives it its seat.
    ///
    /// # Errors
    /// The problem to tell the person.
    pub async fn admit(
        self: &Arc<Self>,
        by: ByWhom,
        caller: &Caller,
        request: LaunchRequest,
    ) -> Result<Admitted, Problem> {
        self.throttle(&by)?;
        let asking = match self.identify(by.clone(), caller).await {
            Ok(asking) => asking,
            Err(problem) => {
                self.lock().paces.refused(by.uid);
                let (server, code) = (request.server.clone(), problem.code);
                self.audit.note(Event::LauncherTurnedAway { server, by, code });
                return Err(problem);
            }
        };
        self.admit_as(asking, request).await
    }

    pub(super) async fn admit_as(
        self: &Arc<Self>,
        asking: Asking,
        request: LaunchRequest,
    ) -> Result<Admitted, Problem> {
        let grant = match self.decide(&request, &asking.person) {
            Ok(grant) => grant,
            Err((problem, reasons)) => {
                self.deny(&asking, &request, problem.code, reasons);
                return Err(problem);
            }
        };
        if let Some(problem) = self.approvals.unusable(&grant.server().name) {
            self.deny(&asking, &request, problem.code, grant.reasons().to_vec());
            return Err(problem);
        }
        let session = self.sign_in(&asking).await?;
        let record = self.approvals.record_of(grant.server());
        let lazy = plan::is_lazy(grant.server(), record.is_some());
        // Where a lock ends launches, none begins in it either.
        let waits = lazy && self.config.borrow().session.on_lock == OnLock::Park;
        let info = self.seated(&asking, &request, record.as_deref(), lazy);
        let seat = match self.seat(session, info, waits) {
            Ok(seat) => seat,
            Err(problem) => {
                let again = problem.code == ErrorCode::SessionLocked && self.refused_again(session);
                if !again {
                    self.deny(&asking, &request, problem.code, Vec::new());
                }
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
        Ok(Admitted { seat, request, grant, person: asking.person })
    }

    fn seated(
        &self,
        asking: &Asking,
        request: &LaunchRequest,
        record: Option<&Record>,
        lazy: bool,
    ) -> LaunchInfo {
        LaunchInfo {
            id: LaunchId::fresh(),
            session: SessionId::fresh(),
            user: asking.person.user.clone(),
            server: request.server.clone(),
            since: shown(self.clock.now()),
            state: if request.want && !lazy { LaunchState::Starting } else { LaunchState::Idle },
            parked: None,
            launcher_pid: asking.by.pid,
            running: Vec::new(),
            approved: record.map(|record| record.approved_at.clone()),
            changed: Vec::new(),
        }
    }

    /// What the policy in force says to a launch.
    pub(super) fn decide(
        &self,
        request: &LaunchRequest,
        person: &Person,
    ) -> Result<Grant, (Problem, Vec<Reason>)> {
        let config = Arc::clone(&self.config.borrow());
        match decide(&config.servers, &request.server, &subject(person), &request.args) {
            Decision::Grant(grant) => Ok(grant),
            Decision::Denial(denial) => Err((denial.to_problem(), denial.reasons.clone())),
        }
    }

    /// What an account may launch, and why not the rest.
    pub fn servers(&self, asking: &Asking) -> Vec<ServerInfo> {
        let config = Arc::clone(&self.config.borrow());
        let subject = subject(&asking.person);
        let lock = self.session_of(&asking.key()).and_then(|session| self.lock_problem(session));
        let info = |server: &Arc<ServerDefinition>| {
            let record = self.approvals.record_of(server);
            let (mut allowed, reasons) = match decide(&config.servers, &server.name, &subject, &[]) {
                Decision::Grant(grant) => (true, grant.reasons().to_vec()),
                Decision::Denial(denial) => (false, denial.reasons.clone()),
            };
            let mut reasons: Vec<_> = reasons.iter().map(ToString::to_string).collect();
            let approved = record.as_deref().map(approved_tools);
            let scopes = if allowed { describe(server, approved.as_ref()) } else { Vec::new() };
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
                approved: record.map(|record| record.approved_at.clone()),
                scopes,
            }
        };
        config.servers.values().map(info).collect()
    }

    fn lock_problem(&self, session: SessionId) -> Option<Problem> {
        let inner = self.lock();
        let holder = inner.sessions.get(&session)?;
        holder.lock().cause().map(|_| words::locked(holder))
    }

    /// Whether the session refused a launch before, since it was locked: a client that asks again and again
    /// gets one line in the audit log, and their number at the unlock.
    fn refused_again(&self, session: SessionId) -> bool {
        let mut inner = self.lock();
        let Some(holder) = inner.sessions.get_mut(&session) else { return false };
        holder.refused += 1;
        holder.refused > 1
    }

    /// An account that is refused again and again is not looked at for the rest of a minute.
    fn throttle(&self, by: &ByWhom) -> Result<(), Problem> {
        match self.lock().paces.allows(by.uid, self.clock.boot()) {
            Allowed::Ask => Ok(()),
            Allowed::WaitFromNow => {
                self.audit.note(Event::LaunchesThrottled { by: by.clone() });
                Err(pace::wait())
            }
            Allowed::Wait => Err(pace::wait()),
        }
    }

    fn deny(&self, asking: &Asking, request: &LaunchRequest, code: ErrorCode, reasons: Vec<Reason>) {
        if code != ErrorCode::SessionLocked {
            self.lock().paces.refused(asking.by.uid);
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
