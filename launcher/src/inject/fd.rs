//! Injection by descriptor: the value is in a sealed file in memory that has no name anywhere, the variable holds the
//! path of its descriptor. Nothing is to be removed: it is gone with the last process that has it.

use mcp_broker_proto::launch::Injection;
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::{Building, Injector};
use crate::failure::{CONFIG, Failure};
use crate::spawn::plan::{FIRST_HANDED, MAX_HANDED};

/// Fills a memory file and sets a variable to the path of its descriptor.
pub(super) struct Fd;

impl Injector for Fd {
    fn takes(&self, injection: &Injection) -> bool {
        matches!(injection, Injection::Fd { .. })
    }

    fn inject(&self, injection: &Injection, mut into: Building<'_>) -> Result<(), Failure> {
        let Injection::Fd { name, value } = injection else { return Ok(()) };
        let value = into.render(name, value)?;
        if into.plan.handed.len() >= MAX_HANDED {
            let what = format!("the server gets more than {MAX_HANDED} values by `fd`");
            return Err(Failure::new(CONFIG, what, "ask the owner of the server to use `file` for some"));
        }
        // EXPOSE: a sealed file in memory that only the server's process tree holds.
        let file = value.expose(|text| sealed(text.as_bytes()));
        let file = file.map_err(|error| Failure::system("make a file in memory for a secret", error))?;
        let path = format!("/proc/self/fd/{}", FIRST_HANDED + into.plan.handed.len());
        into.plan.handed.push(file);
        into.set(name, Zeroizing::new(path.into_bytes()));
        Ok(())
    }
}

/// A file in memory that nobody can change any more (memfd_create(2), fcntl(2) "File Sealing").
fn sealed(content: &[u8]) -> Result<std::os::fd::OwnedFd, Errno> {
    let file = memfd_create("mcp-run", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = content;
    while !rest.is_empty() {
        let written = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest))?;
        rest = rest.get(written..).unwrap_or_default();
    }
    fchmod(&file, Mode::RUSR)?;
    fcntl_add_seals(&file, SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE)?;
    Ok(file)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn what_is_sealed_is_read_again_and_again_and_never_written() {
        let file = sealed(b"value").unwrap();
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        for _ in 0..2 {
            assert_eq!(std::fs::read(&path).unwrap(), b"value");
        }
        assert_eq!(rustix::io::pwrite(&file, b"x", 0), Err(Errno::PERM));
        assert_eq!(rustix::fs::ftruncate(&file, 0), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&file, SealFlags::FUTURE_WRITE), Err(Errno::PERM));
    }
}
