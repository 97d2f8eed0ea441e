//! The approvals of one broker: read once at the start, held in memory, and replaced by `approve` only after the
//! audit log has it. A record that cannot be read counts as none, and is told of in the warnings.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mcp_broker_proto::MAX_RECORD;
use mcp_broker_proto::approval::{ApprovalInfo, ApprovalRequest};
use mcp_broker_proto::names::{Label, ServerName};
use mcp_broker_proto::plan::Record;
use mcp_broker_proto::problem::{ErrorCode, Problem};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::DIRECTORY;
use super::check::{Checked, Flaw};
use super::digest::definition_digest;
use super::files::{Files, Written};
use crate::audit::{AuditLog, ByWhom, Event};
use crate::clock::{Clock, shown};
use crate::config::{Config, ServerDefinition};

/// What a file has around its record, in bytes: names, digests, punctuation.
const OVERHEAD: usize = 16 << 10;

/// The longest file, in bytes.
pub(super) const LONGEST_FILE: usize = MAX_RECORD + OVERHEAD;

/// No more files of the directory are looked at.
const MAX_FILES: usize = 4096;

/// How a server stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is approved as it is defined now.
    Current,
    /// It was approved, and is defined otherwise now.
    Outdated,
    /// It was never approved, or what was kept of that cannot be used.
    None,
}

/// Everything about approvals that the floors above need.
pub struct Approvals {
    files: Option<Arc<Files>>,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    config: watch::Receiver<Arc<Config>>,
    kept: Mutex<Kept>,
    /// One approval at a time, so that the file and the memory never disagree.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Kept {
    approvals: BTreeMap<ServerName, Approval>,
    /// What cannot be used: words for people, by server, or by nothing for the directory itself.
    trouble: BTreeMap<Option<ServerName>, String>,
}

struct Approval {
    definition: String,
    checked: Checked,
}

/// A file of the directory.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stored {
    pub(super) server: ServerName,
    pub(super) definition: String,
    pub(super) scopes: BTreeSet<Label>,
    pub(super) record: Record,
}

impl Approvals {
    /// Reads what is kept in `state_dir`. Never fails: what cannot be used is told of by [`Self::warnings`].
    #[must_use]
    pub fn open(
        state_dir: &Path,
        audit: AuditLog,
        clock: Arc<dyn Clock>,
        config: watch::Receiver<Arc<Config>>,
    ) -> Arc<Self> {
        let path = state_dir.join(DIRECTORY);
        let mut kept = Kept::default();
        let found = Files::open(&path).and_then(|files| files.names(MAX_FILES).map(|names| (files, names)));
        let files = match found {
            Ok((files, names)) => {
                names.iter().for_each(|name| kept.take_in(&files, name));
                Some(Arc::new(files))
            }
            Err(error) => {
                let words = format!("approvals cannot be kept in `{}`: {error}", path.display());
                kept.trouble.insert(None, words);
                None
            }
        };
        let (kept, writing) = (Mutex::new(kept), tokio::sync::Mutex::new(()));
        Arc::new(Self { files, audit, clock, config, kept, writing })
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the server showed when it was approved, where it is still defined as it was then.
    #[must_use]
    pub fn record_of(&self, server: &ServerDefinition) -> Option<Arc<Record>> {
        let kept = self.lock();
        let approval = kept.approvals.get(&server.name)?;
        approval.is_of(server).then(|| Arc::clone(&approval.checked.record))
    }

    /// Why a server may not be launched: it was approved, and what was kept of that cannot be read. Its tools would
    /// else be pinned by nothing.
    #[must_use]
    pub fn unusable(&self, server: &ServerName) -> Option<Problem> {
        let damaged = self.lock().trouble.contains_key(&Some(server.clone()));
        let title = format!("the approval of server `{server}` cannot be read");
        let hint =
            format!("ask an admin to run `mcp-broker approve {server}`; the broker's log says what is wrong");
        damaged.then(|| Problem::new(ErrorCode::ConfigError, title, hint))
    }

    /// How the server stands.
    #[must_use]
    pub fn standing(&self, server: &ServerDefinition) -> Standing {
        match self.lock().approvals.get(&server.name) {
            Some(approval) if approval.is_of(server) => Standing::Current,
            Some(_) => Standing::Outdated,
            None => Standing::None,
        }
    }

    /// Every approval, also of servers that are not defined any more.
    #[must_use]
    pub fn list(&self) -> Vec<ApprovalInfo> {
        let config = Arc::clone(&self.config.borrow());
        let kept = self.lock();
        let info = |(name, approval): (&ServerName, &Approval)| ApprovalInfo {
            server: name.clone(),
            approved_at: approval.checked.record.approved_at.clone(),
            definition: approval.definition.clone(),
            current: config.servers.get(name).is_some_and(|server| approval.is_of(server)),
            tools: approval.checked.tools.clone(),
        };
        kept.approvals.iter().map(info).collect()
    }

    /// What was approved of a server, whether or not it is still defined so.
    #[must_use]
    pub fn of(&self, server: &ServerName) -> Option<ApprovalRequest> {
        let kept = self.lock();
        let Approval { definition, checked } = kept.approvals.get(server)?;
        let record = Record::clone(&checked.record);
        Some(ApprovalRequest { server: server.clone(), definition: definition.clone(), record })
    }

    /// What an admin should know: records that cannot be used.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.lock().trouble.values().cloned().collect()
    }

    /// Keeps what a server showed in its trial, from then on in force. It is in the audit log before it is used.
    ///
    /// # Errors
    /// Where the request is not about the definition in force, or cannot be used, or nothing can be written.
    pub async fn approve(&self, request: ApprovalRequest, by: ByWhom) -> Result<ApprovalInfo, Problem> {
        let ApprovalRequest { server, definition, mut record } = request;
        let config = Arc::clone(&self.config.borrow());
        let in_force = config.servers.get(&server).ok_or_else(|| unknown(&server))?;
        if definition_digest(in_force) != definition {
            return Err(another_definition(&server));
        }
        record.approved_at = shown(self.clock.now());
        let scopes: BTreeSet<_> = in_force.scopes.iter().map(|scope| scope.name.clone()).collect();
        let stored = Stored { server: server.clone(), definition: definition.clone(), scopes, record };
        // Serialising these types into memory cannot fail.
        let bytes = serde_json::to_vec(&stored).unwrap_or_default();
        let checked = Checked::new(stored.record, &stored.scopes).map_err(|flaw| unusable(&server, &flaw))?;
        let files = self.files.clone().ok_or_else(|| not_kept(&server, "its directory cannot be used"))?;
        let tools = checked.tools.values().map(BTreeMap::len).sum();

        let _one_at_a_time = self.writing.lock().await;
        let written = self.write(&files, &server, bytes).await?;
        let approved =
            Event::ServerApproved { server: server.clone(), by, definition: definition.clone(), tools };
        if let Err(error) = self.audit.record(approved).await {
            files.discard(&written);
            return Err(error.to_problem());
        }
        let put = tokio::task::spawn_blocking(move || files.put(&written)).await;
        if let Err(error) = put.unwrap_or_else(|_panicked| Err(io::ErrorKind::Other.into())) {
            self.audit.note(Event::ApprovalNotKept { server: server.clone() });
            return Err(not_kept(&server, &error.kind().to_string()));
        }
        let info = ApprovalInfo {
            server: server.clone(),
            approved_at: checked.record.approved_at.clone(),
            definition: definition.clone(),
            current: true,
            tools: checked.tools.clone(),
        };
        let mut kept = self.lock();
        kept.trouble.remove(&Some(server.clone()));
        kept.approvals.insert(server, Approval { definition, checked });
        Ok(info)
    }

    async fn write(
        &self,
        files: &Arc<Files>,
        server: &ServerName,
        bytes: Vec<u8>,
    ) -> Result<Written, Problem> {
        let (files, name) = (Arc::clone(files), file_name(server));
        let written = tokio::task::spawn_blocking(move || files.write_beside(&name, &bytes)).await;
        let written = written.unwrap_or_else(|_panicked| Err(io::ErrorKind::Other.into()));
        written.map_err(|error| not_kept(server, &error.kind().to_string()))
    }
}

impl Approval {
    fn is_of(&self, server: &ServerDefinition) -> bool {
        definition_digest(server) == self.definition
            && self.checked.record.variants.iter().all(|variant| {
                variant.scopes.len() == server.scopes.len()
                    && server.scopes.iter().all(|scope| variant.scopes.contains_key(&scope.name))
            })
    }
}

impl Kept {
    /// Reads one file. Anything that is no record's file by its name is left alone.
    fn take_in(&mut self, files: &Files, name: &str) {
        let Some(server) = name.strip_suffix(".json").and_then(|name| name.parse::<ServerName>().ok()) else {
            return;
        };
        match read(files, name, &server) {
            Ok(approval) => drop(self.approvals.insert(server, approval)),
            Err(why) => {
                let words = format!(
                    "server `{server}` is not launched, as `{}` cannot be used: {why}; approve it again: \
                     `mcp-broker approve {server}`",
                    files.path_of(name).display()
                );
                self.trouble.insert(Some(server), words);
            }
        }
    }
}

fn read(files: &Files, name: &str, server: &ServerName) -> Result<Approval, String> {
    let bytes = files.read(name, LONGEST_FILE).map_err(|error| error.to_string())?;
    let stored = serde_json::from_slice::<Stored>(&bytes);
    let Stored { server: named, definition, scopes, record } =
        stored.map_err(|_malformed| "it is not what a broker of this version writes".to_owned())?;
    if named != *server {
        return Err(format!("it is about server `{named}`"));
    }
    let checked = Checked::new(record, &scopes).map_err(|flaw| flaw.to_string())?;
    Ok(Approval { definition, checked })
}

fn file_name(server: &ServerName) -> String {
    format!("{server}.json")
}

fn unknown(server: &ServerName) -> Problem {
    let hint = "write servers.d/NAME.toml, have the broker read it (SIGHUP), and approve the server again";
    Problem::new(ErrorCode::UnknownServer, format!("the broker has no server `{server}`"), hint)
}

fn another_definition(server: &ServerName) -> Problem {
    let title = format!("the broker's definition of server `{server}` is another one than was tried");
    let hint = "have the broker read its configuration again (SIGHUP), then approve the server again";
    Problem::new(ErrorCode::ConfigError, title, hint)
}

fn unusable(server: &ServerName, flaw: &Flaw) -> Problem {
    let hint = match flaw {
        Flaw::TooLong => "name fewer tools, resources and prompts in the scopes of the definition",
        _ => "use mcp-broker of the same version as the running broker",
    };
    Problem::new(
        ErrorCode::BadRequest,
        format!("the record of server `{server}` cannot be used: {flaw}"),
        hint,
    )
}

fn not_kept(server: &ServerName, why: &str) -> Problem {
    let title = format!("the approval of server `{server}` cannot be kept: {why}");
    Problem::new(
        ErrorCode::StorageUnavailable,
        title,
        "see the state directory and its disk, then approve again",
    )
}
