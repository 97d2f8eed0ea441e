//! The instances of one launch: their numbers, what they hold, and what the launcher may say of each. Anything
//! out of turn is passed over, as it would stand in the audit log.

use std::collections::BTreeMap;

use mcp_broker_proto::channel::{Containment, GoneReason};
use mcp_broker_proto::names::{Label, LaunchId, LeaseId};
use mcp_broker_proto::session::RunningInfo;

use crate::audit::{AuditLog, Event};
use crate::policy::Grant;

/// No scope has more instances at once: one that works, one that takes its place, and two that finish.
const MOST_OF_SCOPE: usize = 4;

/// No launch has more instances at once, those included that are being minted for.
const MOST: usize = 16;

/// The instances of a launch.
pub(super) struct Instances {
    launch: LaunchId,
    audit: AuditLog,
    next: u32,
    alive: BTreeMap<u32, Instance>,
}

struct Instance {
    scope: Label,
    /// What it was started by.
    grant: Grant,
    /// The credentials that it lives on.
    holds: Vec<(Label, LeaseId)>,
    /// Those that were sent after it was started, and are not said to be where they belong.
    sent: Vec<(Label, LeaseId)>,
    /// Leases that others have taken the place of.
    retired: Vec<LeaseId>,
    /// Another one is to take its place.
    leaves: bool,
    stage: Stage,
}

/// What the launcher said of it last.
#[derive(PartialEq, Eq)]
enum Stage {
    /// Nothing: it has its ticket.
    Delivered,
    /// That it runs, under this number and in that containment.
    Started(u32, Containment),
    /// That it ended by itself.
    Exited,
}

impl Instance {
    fn leases(self) -> impl Iterator<Item = LeaseId> {
        self.holds.into_iter().chain(self.sent).map(|(_, lease)| lease).chain(self.retired)
    }

    /// Its number and its containment, while it runs.
    fn runs(&self) -> Option<(u32, Containment)> {
        match self.stage {
            Stage::Started(pid, containment) => Some((pid, containment)),
            Stage::Delivered | Stage::Exited => None,
        }
    }
}

impl Instances {
    /// None yet.
    pub(super) fn new(launch: LaunchId, audit: AuditLog) -> Self {
        Self { launch, audit, next: 0, alive: BTreeMap::new() }
    }

    /// The number of the next one.
    pub(super) fn number(&mut self) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        number
    }

    /// One that is given its ticket.
    pub(super) fn add(&mut self, instance: u32, grant: Grant, holds: Vec<(Label, LeaseId)>) {
        let (scope, sent, retired) = (grant.scope().name.clone(), Vec::new(), Vec::new());
        let (leaves, stage) = (false, Stage::Delivered);
        self.alive.insert(instance, Instance { scope, grant, holds, sent, retired, leaves, stage });
    }

    /// The one that lives on the lease, and the name of the credential.
    pub(super) fn with(&self, lease: LeaseId) -> Option<(u32, Label)> {
        self.alive.iter().find_map(|(number, instance)| {
            let held = instance.holds.iter().chain(&instance.sent).find(|(_, held)| *held == lease);
            held.map(|(name, _)| (*number, name.clone()))
        })
    }

    /// The decision that it was started by, where it is there and is not to leave.
    pub(super) fn staying(&self, instance: u32) -> Option<&Grant> {
        self.alive.get(&instance).filter(|known| !known.leaves).map(|known| &known.grant)
    }

    /// Another one is to take its place; false where that was known, or it is not there.
    pub(super) fn leaves(&mut self, instance: u32) -> bool {
        self.alive.get_mut(&instance).is_some_and(|known| !std::mem::replace(&mut known.leaves, true))
    }

    /// The leases that it lives on, by the names of their credentials.
    pub(super) fn holds(&self, instance: u32) -> &[(Label, LeaseId)] {
        self.alive.get(&instance).map_or(&[], |known| &known.holds)
    }

    /// It is sent new credentials while it runs.
    pub(super) fn send(&mut self, instance: u32, new: Vec<(Label, LeaseId)>) {
        if let Some(known) = self.alive.get_mut(&instance) {
            known.sent.extend(new);
        }
    }

    /// What it was sent is where it belongs: answers what that took the place of. What is not `open` any more is
    /// forgotten.
    pub(super) fn took(&mut self, instance: u32, open: impl Fn(LeaseId) -> bool) -> Vec<LeaseId> {
        let Some(known) = self.alive.get_mut(&instance) else { return Vec::new() };
        let new = std::mem::take(&mut known.sent);
        let old = known.holds.extract_if(.., |(name, _)| new.iter().any(|(taken, _)| taken == name));
        let old: Vec<_> = old.map(|(_, lease)| lease).collect();
        known.holds.extend(new);
        known.retired.retain(|lease| open(*lease));
        known.retired.extend(&old);
        old
    }

    /// What it was sent could not be put where it belongs: answers with that.
    pub(super) fn gave_back(&mut self, instance: u32) -> Vec<LeaseId> {
        let known = self.alive.get_mut(&instance);
        let sent = known.map(|known| std::mem::take(&mut known.sent)).unwrap_or_default();
        sent.into_iter().map(|(_, lease)| lease).collect()
    }

    /// Whether there is none.
    pub(super) fn none(&self) -> bool {
        self.alive.is_empty()
    }

    /// Whether there are as many as the scope or the launch can use, with so many more that are being minted for.
    pub(super) fn full(&self, scope: &Label, minting: usize) -> bool {
        let of_scope = self.alive.values().filter(|instance| instance.scope == *scope).count();
        of_scope >= MOST_OF_SCOPE || self.alive.len() + minting >= MOST
    }

    /// Whether the launch goes on without that one: another one of its scope runs, or one of another scope is
    /// there.
    pub(super) fn others_go_on(&self, instance: u32) -> bool {
        let Some(scope) = self.scope_of(instance) else { return false };
        let goes_on = |other: &Instance| other.scope != *scope || other.runs().is_some();
        self.alive.iter().any(|(number, other)| *number != instance && goes_on(other))
    }

    /// The scope of an instance that is there.
    pub(super) fn scope_of(&self, instance: u32) -> Option<&Label> {
        self.alive.get(&instance).map(|instance| &instance.scope)
    }

    /// Those that run.
    pub(super) fn running(&self) -> Vec<RunningInfo> {
        let running = |(number, instance): (&u32, &Instance)| {
            let (pid, containment) = instance.runs()?;
            Some(RunningInfo { instance: *number, scope: instance.scope.clone(), pid, containment })
        };
        self.alive.iter().filter_map(running).collect()
    }

    /// The launcher says that it runs; false where that cannot be.
    pub(super) fn started(&mut self, instance: u32, pid: u32, containment: Containment) -> bool {
        let Some(known) = self.alive.get_mut(&instance) else { return false };
        if known.stage != Stage::Delivered {
            return false;
        }
        known.stage = Stage::Started(pid, containment);
        let (launch, scope) = (self.launch, known.scope.clone());
        self.audit.note(Event::InstanceStarted { launch, instance, scope, pid, containment });
        true
    }

    /// The launcher says that it ended by itself.
    pub(super) fn exited(&mut self, instance: u32, status: u8) {
        let Some(known) = self.alive.get_mut(&instance) else { return };
        if known.runs().is_some() {
            known.stage = Stage::Exited;
            let (launch, scope) = (self.launch, known.scope.clone());
            self.audit.note(Event::InstanceExited { launch, instance, scope, status });
        }
    }

    /// The launcher says that nothing of it is left; answers what it held.
    pub(super) fn gone(&mut self, instance: u32, reason: GoneReason) -> Vec<LeaseId> {
        let Some(known) = self.alive.remove(&instance) else { return Vec::new() };
        let scope = known.scope.clone();
        self.audit.note(Event::InstanceGone { launch: self.launch, instance, scope, reason });
        known.leases().collect()
    }

    /// Forgets all of them; answers what they held.
    pub(super) fn clear(&mut self) -> Vec<LeaseId> {
        std::mem::take(&mut self.alive).into_values().flat_map(Instance::leases).collect()
    }
}
