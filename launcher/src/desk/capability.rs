//! The private file that lets a program of the instance ask at the desk: where its socket is, what to ask for, and a
//! token. Written by the launcher, read by `mcp-run credential`.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// The longest such file, in bytes.
pub const MAX_FILE: usize = 8 << 10;
/// First line: how the rest is to be read.
const VERSION: &str = "mcp-run capability 1";

/// What such a file says.
pub struct Capability<'a> {
    /// The unix socket.
    pub socket: PathBuf,
    /// What to ask for.
    pub path: &'a str,
    /// The token.
    pub token: &'a str,
}

/// The content of a file.
pub(super) fn write(socket: &Path, path: &str, token: &str) -> Zeroizing<Vec<u8>> {
    let parts = [VERSION.as_bytes(), path.as_bytes(), token.as_bytes(), socket.as_os_str().as_bytes()];
    let size = parts.iter().map(|part| part.len() + 1).sum();
    let mut out = Zeroizing::new(Vec::with_capacity(size));
    for part in parts {
        out.extend_from_slice(part);
        out.push(b'\n');
    }
    out
}

/// Reads it; nothing where it is something else.
#[must_use]
pub fn read(content: &[u8]) -> Option<Capability<'_>> {
    let text = std::str::from_utf8(content).ok()?.strip_suffix('\n')?;
    let mut lines = text.splitn(4, '\n');
    let [version, path, token, socket] = [lines.next()?, lines.next()?, lines.next()?, lines.next()?];
    let plain = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let fits =
        version == VERSION && plain(path) && path.starts_with('/') && plain(token) && socket.starts_with('/');
    fits.then(|| Capability { socket: socket.into(), path, token })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn there_and_back() {
        let content = write(Path::new("/run/user/7/a b/s"), "/v1/aws/db", "t0k3n");
        let read = |content: &[u8]| read(content).map(|c| (c.socket, c.path.to_owned(), c.token.to_owned()));
        let want = ("/run/user/7/a b/s".into(), "/v1/aws/db".to_owned(), "t0k3n".to_owned());
        assert_eq!(read(&content), Some(want));
        assert_eq!(content.len(), content.capacity());
        for cut in 0..content.len() {
            assert_eq!(read(content.get(..cut).unwrap()), None, "{cut}");
        }
        for bad in ["", "mcp-run capability 2\n/p\nt\n/s\n", "mcp-run capability 1\n/p\r\nX: y\nt\n/s\n"] {
            assert_eq!(read(bad.as_bytes()), None, "{bad}");
        }
    }
}
