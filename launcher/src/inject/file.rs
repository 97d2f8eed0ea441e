//! Injection by file: the value is in a private file, the variable holds its path. It stays out of the
//! server's environment, and of the environment of everything that the server starts.

use std::os::unix::ffi::OsStrExt;

use mcp_broker_proto::launch::Injection;
use zeroize::Zeroizing;

use super::{Building, Injector, unmade};
use crate::failure::Failure;

/// Writes a file and sets a variable to its path.
pub(super) struct File;

impl Injector for File {
    fn takes(&self, injection: &Injection) -> bool {
        matches!(injection, Injection::File { .. })
    }

    fn inject(&self, injection: &Injection, mut into: Building<'_>) -> Result<(), Failure> {
        let Injection::File { name, content, .. } = injection else { return Ok(()) };
        let content = content.render(into.credentials).map_err(|error| unmade(name, &error))?;
        let files = into.directory()?;
        // EXPOSE: a file of mode 0600 on memory-backed storage, removed when the server is gone.
        let path = content.expose(|text| files.write(name, text.as_bytes()))?;
        let path = Zeroizing::new(path.as_os_str().as_bytes().to_vec());
        into.set(name, path);
        Ok(())
    }
}
