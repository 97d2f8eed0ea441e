//! Admits a trial, whoever may use its server: writes it down, gives it a place in the register, and ends all of them
//! with the broker. Mints nothing.

use std::collections::HashMap;
use std::sync::Arc;

use mcp_broker_proto::approval::TrialRequest;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{LaunchId, SessionId};
use mcp_broker_proto::problem::{ErrorCode, Problem};
use mcp_broker_proto::session::{LaunchInfo, LaunchState};

use super::super::pace;
use super::super::registry::{Inner, Sessions};
use super::super::seat::{Launch, Seat};
use super::super::sign_in::{Person, os};
use super::super::words;
use crate::audit::{ByWhom, Event};
use crate::clock::shown;
use crate::policy::{self, Grant};

/// A trial that may begin.
pub struct AdmittedTrial {
    pub(super) seat: Seat,
    pub(super) grant: Grant,
    pub(super) person: Person,
}

impl Sessions {
    /// Writes down that a trial begins, and gives it its place.
    ///
    /// # Errors
    /// When there is no such scope, the broker stops, or it cannot be written down.
    pub async fn admit_trial(
        self: &Arc<Self>,
        by: ByWhom,
        request: &TrialRequest,
    ) -> Result<AdmittedTrial, Problem> {
        let config = Arc::clone(&self.config.borrow());
        let grant = policy::trial(&config.servers, &request.server, &request.scope);
        let grant = grant.ok_or_else(|| no_such_scope(request))?;
        let person = os::person(by.uid).await?;
        let seat = self.seat_trial(&by, &person, request)?;
        let started = Event::TrialStarted {
            launch: seat.launch,
            session: seat.session,
            user: person.user.clone(),
            server: request.server.clone(),
            scope: request.scope.clone(),
            by,
        };
        self.audit.record(started).await.map_err(|error| error.to_problem())?;
        Ok(AdmittedTrial { seat, grant, person })
    }

    fn seat_trial(
        self: &Arc<Self>,
        by: &ByWhom,
        person: &Person,
        request: &TrialRequest,
    ) -> Result<Seat, Problem> {
        let (launch, session) = (LaunchId::fresh(), SessionId::fresh());
        let info = LaunchInfo {
            id: launch,
            session,
            user: person.user.clone(),
            server: request.server.clone(),
            since: shown(self.clock.now()),
            state: LaunchState::Starting,
            parked: None,
            launcher_pid: by.pid,
            running: Vec::new(),
            approved: None,
            changed: Vec::new(),
        };
        let mut inner = self.lock();
        if inner.stopping {
            return Err(words::stopping());
        }
        pace::room(inner.launches.values().filter(|launch| launch.uid == person.uid).count())?;
        let (orders, receiver) = tokio::sync::mpsc::unbounded_channel();
        inner.launches.insert(launch, Launch::new(info, person.uid, orders));
        drop(inner);
        let uses = Arc::default();
        Ok(Seat { launch, session, uses, orders: receiver, sessions: Arc::clone(self) })
    }

    /// An admitted trial whose admin went away before it began.
    pub fn trial_never_began(&self, admitted: AdmittedTrial) {
        let launch = admitted.seat.launch;
        drop(admitted);
        self.audit.note(Event::TrialEnded { launch, reason: EndReason::LauncherGone });
    }
}

/// Under the register's lock: every trial is told to end. They belong to no session that could.
pub(in crate::session) fn end_trials(inner: &mut Inner, reason: EndReason) -> HashMap<LaunchId, Option<u64>> {
    let Inner { sessions, launches, .. } = inner;
    let trials = launches.values_mut().filter(|launch| !sessions.contains_key(&launch.info.session));
    let told = trials.map(|launch| {
        launch.end(reason);
        (launch.info.id, None)
    });
    told.collect()
}

fn no_such_scope(request: &TrialRequest) -> Problem {
    let TrialRequest { server, scope, .. } = request;
    let title = format!("the broker has no server `{server}` with a scope `{scope}`");
    let hint = "have the broker read its configuration again (SIGHUP), then approve the server again";
    Problem::new(ErrorCode::UnknownServer, title, hint)
}
