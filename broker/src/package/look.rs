//! Looks at what is kept of one server, for commands that do not ask the running broker. Changes nothing, and makes
//! no directory; whether the file may be used is the broker's to say, so this is for showing only.

use std::io::{self, Read};
use std::path::Path;

use mcp_broker_proto::names::ServerName;
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::DIRECTORY;
use super::check::{Checked, ToolDigests};
use super::digest::definition_digest;
use super::store::{LONGEST_FILE, Stored};
use crate::config::ServerDefinition;

/// What is kept of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// When it was approved (RFC 3339).
    pub approved_at: String,
    /// Whether the definition is still the one that was tried; otherwise the record is not used.
    pub current: bool,
    /// Digests of the tools that it showed.
    pub tools: ToolDigests,
}

/// What is kept of `server` in `state_dir`; nothing where it was never approved.
///
/// # Errors
/// Where the record cannot be read, or cannot be used.
pub fn look(state_dir: &Path, server: &ServerDefinition) -> io::Result<Option<Kept>> {
    let Some(bytes) = read(state_dir, &server.name)? else { return Ok(None) };
    let stored: Stored =
        serde_json::from_slice(&bytes).map_err(|_damaged| io::Error::other("it is no record"))?;
    let current = stored.server == server.name && stored.definition == definition_digest(server);
    let checked = Checked::new(stored.record, &stored.scopes).map_err(io::Error::other)?;
    Ok(Some(Kept { approved_at: checked.record.approved_at.clone(), current, tools: checked.tools }))
}

fn read(state_dir: &Path, server: &ServerName) -> io::Result<Option<Vec<u8>>> {
    // Without NONBLOCK the open of a pipe in its place would wait for a writer.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let path = state_dir.join(DIRECTORY).join(format!("{server}.json"));
    let fd = match rustix::fs::open(path, flags, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    if !FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode).is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(LONGEST_FILE).unwrap_or(u64::MAX).saturating_add(1);
    std::fs::File::from(fd).take(limit).read_to_end(&mut bytes)?;
    if bytes.len() > LONGEST_FILE {
        return Err(io::Error::other(format!("it is larger than {LONGEST_FILE} bytes")));
    }
    Ok(Some(bytes))
}
