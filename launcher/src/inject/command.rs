//! The path by which a server's programs can start this very `mcp-run`.

use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use crate::failure::{CONFIG, Failure};

/// What the kernel puts behind the path of a program whose file is gone (proc(5), `/proc/PID/exe`).
const GONE: &[u8] = b" (deleted)";

/// The running program. Where it was replaced while it runs, as by an update: the one that took its place.
///
/// # Errors
/// Where there is none at that place any more.
pub(super) fn own() -> Result<PathBuf, Failure> {
    let path =
        std::fs::read_link("/proc/self/exe").map_err(|e| Failure::system("find the program mcp-run", e))?;
    standing(path)
}

fn standing(path: PathBuf) -> Result<PathBuf, Failure> {
    if path.is_file() {
        return Ok(path);
    }
    let replaced = path
        .as_os_str()
        .as_bytes()
        .strip_suffix(GONE)
        .map(|path| PathBuf::from(std::ffi::OsString::from_vec(path.to_vec())));
    replaced.filter(|path| path.is_file()).ok_or_else(|| {
        let what = format!("the program {} is not there any more", path.display());
        Failure::new(
            CONFIG,
            what,
            "start the server again from its client, with the mcp-run that is installed now",
        )
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_was_replaced() {
        let here = own().unwrap();
        assert_eq!(here, std::env::current_exe().unwrap());
        let gone = |path: &std::path::Path| PathBuf::from(format!("{} (deleted)", path.display()));
        assert_eq!(standing(gone(&here)).unwrap(), here);
        let failure = standing(gone("/nonexistent/mcp-run".as_ref())).unwrap_err();
        assert_eq!(failure.exit, CONFIG);
    }
}
