//! The instances of one launch: their numbers, what they hold, and what the launcher may say of each. Anything
//! out of turn is passed over, as it would stand in the audit log.

use std::collections::BTreeMap;

use mcp_broker_proto::channel::{Containment, GoneReason};
use mcp_broker_proto::names::{Label, LaunchId, LeaseId};
use mcp_broker_proto::session::RunningInfo;

use crate::audit::{AuditLog, Event};

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
    leases: Vec<LeaseId>,
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
    pub(super) fn add(&mut self, instance: u32, scope: Label, leases: Vec<LeaseId>) {
        self.alive.insert(instance, Instance { scope, leases, stage: Stage::Delivered });
    }

    /// The one that holds the lease.
    pub(super) fn with(&self, lease: LeaseId) -> Option<u32> {
        self.alive.iter().find(|(_, instance)| instance.leases.contains(&lease)).map(|(number, _)| *number)
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
        let scope = known.scope;
        self.audit.note(Event::InstanceGone { launch: self.launch, instance, scope, reason });
        known.leases
    }

    /// Forgets all of them; answers what they held.
    pub(super) fn clear(&mut self) -> Vec<LeaseId> {
        std::mem::take(&mut self.alive).into_values().flat_map(|instance| instance.leases).collect()
    }
}
