//! The life of one entry: `Intended → Prepared → Live → Ending → settled`. A transition takes the old state
//! and answers with the next, or hands the old one back; nothing else changes a state.

use jiff::Timestamp;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::session::Revocability;
use serde::{Deserialize, Serialize};

use super::record::Record;
use crate::provider::Handle;

/// Where an entry stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Written down; nothing was made yet, as far as is known.
    Intended,
    /// It can be revoked; it may be being issued right now.
    Prepared(Handle),
    /// Alive.
    Live(Alive),
    /// To be ended. Without a handle there is nothing to revoke but the parent.
    Ending(Ending),
    /// Nothing is left to do; such entries leave the book.
    Settled,
}

/// A live credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alive {
    /// Names it to its provider.
    pub handle: Handle,
    /// When it stops working unless renewed, where it ends at all.
    pub expires_at: Option<Timestamp>,
    /// When the backend itself lets it end, where that is later.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub valid_until: Option<Timestamp>,
    /// What its provider says of it for people.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub detail: Option<String>,
    /// What revoking it does.
    pub revocability: Revocability,
}

impl Alive {
    /// One of which no more is known.
    #[must_use]
    pub fn new(handle: Handle, expires_at: Option<Timestamp>, revocability: Revocability) -> Self {
        Self { handle, expires_at, valid_until: None, detail: None, revocability }
    }
}

/// A credential that is being ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// Names it to its provider, where it got so far.
    pub handle: Option<Handle>,
    /// When it ends by itself, where that is known.
    pub expires_at: Option<Timestamp>,
    /// What its provider says of it for people.
    pub detail: Option<String>,
    /// What revoking it does, where it was issued as far as is known.
    pub revocability: Option<Revocability>,
    /// Why.
    pub reason: EndReason,
    /// Why the last try failed.
    pub trouble: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
}

/// A step that cannot follow the state: a defect, or a damaged journal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a lease cannot go from {from} to {to}")]
pub struct IllegalStep {
    /// The state.
    pub from: &'static str,
    /// The step.
    pub to: &'static str,
}

impl State {
    /// Takes the step that `record` tells of.
    ///
    /// # Errors
    /// When that step cannot follow.
    pub fn step(self, record: &Record) -> Result<Self, IllegalStep> {
        match (self, record) {
            (Self::Intended, Record::Prepared { handle, .. }) => Ok(Self::Prepared(handle.clone())),
            (Self::Intended | Self::Prepared(_) | Self::Live(_), Record::Live { alive, .. }) => {
                Ok(Self::Live(alive.clone()))
            }
            (state, Record::Ending { reason, .. }) => state.end(*reason),
            // A credential that was issued while its end was already asked for: revoke it by what is known now.
            (Self::Ending(ending), Record::Live { alive, .. }) => Ok(Self::Ending(Ending {
                handle: Some(alive.handle.clone()),
                expires_at: alive.valid_until.or(alive.expires_at),
                detail: alive.detail.clone(),
                revocability: Some(alive.revocability),
                ..ending
            })),
            (Self::Ending(ending), Record::Prepared { handle, .. }) => {
                Ok(Self::Ending(Ending { handle: Some(handle.clone()), ..ending }))
            }
            (Self::Intended | Self::Ending(_), Record::Settled { .. } | Record::Withheld { .. }) => {
                Ok(Self::Settled)
            }
            (state, record) => Err(IllegalStep { from: state.word(), to: word(record) }),
        }
    }

    fn end(self, reason: EndReason) -> Result<Self, IllegalStep> {
        let (handle, expires_at, detail, revocability) = match self {
            Self::Intended => (None, None, None, None),
            Self::Prepared(handle) => (Some(handle), None, None, None),
            Self::Live(alive) => {
                let end = alive.valid_until.or(alive.expires_at);
                (Some(alive.handle), end, alive.detail, Some(alive.revocability))
            }
            // The first reason stays.
            Self::Ending(ending) => return Ok(Self::Ending(ending)),
            Self::Settled => return Err(IllegalStep { from: "settled", to: "ending" }),
        };
        let (trouble, attempts) = (None, 0);
        Ok(Self::Ending(Ending { handle, expires_at, detail, revocability, reason, trouble, attempts }))
    }

    /// The word for messages.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Intended => "intended",
            Self::Prepared(_) => "prepared",
            Self::Live(_) => "live",
            Self::Ending(_) => "ending",
            Self::Settled => "settled",
        }
    }
}

fn word(record: &Record) -> &'static str {
    match record {
        Record::Intent { .. } => "intended",
        Record::Prepared { .. } => "prepared",
        Record::Live { .. } => "live",
        Record::Ending { .. } => "ending",
        Record::Settled { .. } | Record::Withheld { .. } => "settled",
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::panic, reason = "tests may")]
mod tests {
    use super::*;
    use mcp_broker_proto::names::LeaseId;

    fn handle() -> Handle {
        Handle(serde_json::json!({"accessor": "a"}))
    }

    fn provider() -> mcp_broker_proto::names::Label {
        "bao".parse().unwrap()
    }

    fn alive(handle: Handle) -> Alive {
        Alive::new(handle, None, Revocability::Immediate)
    }

    fn walk(steps: &str) -> Result<&'static str, IllegalStep> {
        let id = LeaseId::fresh();
        let mut state = State::Intended;
        for step in steps.chars() {
            let record = match step {
                'p' => Record::Prepared { id, provider: provider(), handle: handle() },
                'l' => Record::Live { id, provider: provider(), alive: alive(handle()) },
                'e' => Record::Ending { id, reason: EndReason::Revoked },
                _ => Record::Settled { id },
            };
            state = state.step(&record)?;
        }
        Ok(state.word())
    }

    #[test]
    fn walks() {
        for (steps, want) in [
            ("", "intended"),
            ("p", "prepared"),
            ("pl", "live"),
            ("l", "live"),
            ("pll", "live"),
            ("ple", "ending"),
            ("plee", "ending"),
            ("ples", "settled"),
            ("es", "settled"),
            ("s", "settled"),
            ("epls", "settled"),
        ] {
            assert_eq!(walk(steps), Ok(want), "{steps}");
        }
        // Nothing that may be alive is settled without being ended first.
        for steps in ["ps", "pls", "ls", "ess", "ese", "sp", "lp"] {
            assert!(walk(steps).is_err(), "{steps}");
        }
    }

    #[test]
    fn a_late_issue_is_revoked_by_its_lease() {
        let id = LeaseId::fresh();
        let ended = State::Intended
            .step(&Record::Prepared { id, provider: provider(), handle: handle() })
            .and_then(|state| state.step(&Record::Ending { id, reason: EndReason::Locked }));
        let late = Handle(serde_json::json!({"accessor": "a", "lease": "l"}));
        let state = ended
            .unwrap()
            .step(&Record::Live { id, provider: provider(), alive: alive(late.clone()) })
            .unwrap();
        let State::Ending(ending) = state else { panic!("not ending") };
        assert_eq!((ending.handle, ending.reason), (Some(late), EndReason::Locked));
    }
}
