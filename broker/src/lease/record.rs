//! Records of the write-ahead journal, and their lines: `CRC32 JSON`. Ids and accessors only, never a secret.

use jiff::Timestamp;
use mcp_broker_proto::channel::EndReason;
use mcp_broker_proto::names::{Label, LaunchId, LeaseId, ServerName, SessionId};
use mcp_broker_proto::session::Revocability;
use serde::{Deserialize, Serialize};

use super::state::Alive;
use crate::durable::Encoder;
use crate::fault;
use crate::provider::Handle;

/// What an entry of the journal is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum What {
    /// A credential of a launch.
    Lease(LeaseFacts),
    /// The parent of a session's credentials at one provider.
    Parent {
        /// The session.
        session: SessionId,
        /// The provider.
        provider: Label,
    },
    /// The journal was damaged where it said what this is; it can still be revoked.
    Orphan {
        /// The provider.
        provider: Label,
    },
}

/// What is known of a credential before it is minted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseFacts {
    /// The launch it is for.
    pub launch: LaunchId,
    /// The session it is under.
    pub session: SessionId,
    /// The account, so that people see what earlier sessions of theirs left.
    pub user: String,
    /// The server.
    pub server: ServerName,
    /// The scope.
    pub scope: Label,
    /// Its name in the scope.
    pub credential: Label,
    /// Who mints it.
    pub provider: Label,
    /// The ways by which it reaches the server, in words for people.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub delivered: Vec<String>,
    /// What revoking it will do, as far as could be said before it was minted.
    pub revocability: Revocability,
}

impl What {
    /// Who can end it.
    #[must_use]
    pub fn provider(&self) -> &Label {
        match self {
            Self::Lease(facts) => &facts.provider,
            Self::Parent { provider, .. } | Self::Orphan { provider } => provider,
        }
    }
}

/// One step of an entry, as it stands in the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Record {
    /// It is going to be made.
    Intent {
        /// The entry.
        id: LeaseId,
        /// What it is.
        what: What,
    },
    /// It can be revoked by this handle, and opens nothing yet. Durable before it is issued.
    Prepared {
        /// The entry.
        id: LeaseId,
        /// Who made it; said again, so that a damaged line before this one costs nothing.
        provider: Label,
        /// Names it to its provider.
        handle: Handle,
    },
    /// It is alive; also written when its life was lengthened.
    Live {
        /// The entry.
        id: LeaseId,
        /// Who made it; said again, as above.
        provider: Label,
        /// It.
        #[serde(flatten)]
        alive: Alive,
    },
    /// Its end was asked for.
    Ending {
        /// The entry.
        id: LeaseId,
        /// Why.
        reason: EndReason,
    },
    /// Nothing is left to do.
    Settled {
        /// The entry.
        id: LeaseId,
    },
    /// Nothing is left to do, and it lives on: it cannot be revoked. Says all that is known of it once more, so that
    /// no other record is needed to show it to people.
    Withheld {
        /// The entry.
        id: LeaseId,
        /// When it ends.
        until: Timestamp,
        /// What it was.
        facts: LeaseFacts,
        /// What its provider said of it for people.
        #[serde(skip_serializing_if = "Option::is_none", default)]
        detail: Option<String>,
    },
}

impl Record {
    /// The entry.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        match self {
            Self::Intent { id, .. }
            | Self::Prepared { id, .. }
            | Self::Live { id, .. }
            | Self::Ending { id, .. }
            | Self::Settled { id }
            | Self::Withheld { id, .. } => *id,
        }
    }
}

/// Writes records as lines.
#[derive(Default)]
pub(super) struct Lines {
    /// The fault points behind the records of the group that is being written.
    behind: Vec<&'static str>,
}

impl Encoder for Lines {
    type Record = Record;

    fn encode(&mut self, record: &Record, out: &mut Vec<u8>) {
        let (before, after) = points(record);
        fault::at(before);
        encode(record, out);
        if cfg!(feature = "fault-points") {
            self.behind.push(after);
        }
    }

    fn committed(&mut self) {
        self.behind.drain(..).for_each(fault::at);
    }

    fn rolled_back(&mut self) {
        self.behind.clear();
    }
}

/// The fault points before and after a record is on the disk.
fn points(record: &Record) -> (&'static str, &'static str) {
    match record {
        Record::Intent { .. } => ("journal.intent.before", "journal.intent.after"),
        Record::Prepared { .. } => ("journal.prepared.before", "journal.prepared.after"),
        Record::Live { .. } => ("journal.live.before", "journal.live.after"),
        Record::Ending { .. } => ("journal.ending.before", "journal.ending.after"),
        Record::Settled { .. } | Record::Withheld { .. } => {
            ("journal.settled.before", "journal.settled.after")
        }
    }
}

/// Appends one line.
pub fn encode(record: &Record, out: &mut Vec<u8>) {
    // Serialising these types into memory cannot fail; an empty line would be reported as damage.
    let json = serde_json::to_vec(record).unwrap_or_default();
    out.extend_from_slice(format!("{:08x} ", crc32fast::hash(&json)).as_bytes());
    out.extend_from_slice(&json);
    out.push(b'\n');
}

/// Reads one line without its line feed; `None` when it is damaged.
pub(super) fn decode(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(9)?;
    // As it was written, to the letter: a sum in another spelling is a changed one.
    if sum != format!("{:08x} ", crc32fast::hash(json)).as_bytes() {
        return None;
    }
    serde_json::from_slice(json).ok()
}
