//! Opens the way to the server, and on a unix socket looks who is at its other end. Logs in nowhere.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use tokio::net::{TcpStream, UnixStream};

use super::Postgres;
use crate::provider::{Blame, ProviderError, files};

impl Postgres {
    pub(super) async fn reach_host(&self, doing: &str) -> Result<TcpStream, ProviderError> {
        let (host, port) = (self.settings.host.as_str(), self.settings.port);
        let stream = TcpStream::connect((host, port)).await;
        let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
        stream.map_err(|_error| self.name.out_of_reach(doing))
    }

    /// The socket of the server in the directory that `host` names (PostgreSQL manual, `unix_socket_directories`).
    pub(super) async fn reach_socket(&self, doing: &str) -> Result<UnixStream, ProviderError> {
        let dir = Path::new(&self.settings.host);
        let path = dir.join(format!(".s.PGSQL.{}", self.settings.port));
        let unreachable = |_error: io::Error| self.name.out_of_reach(doing);
        let stream = UnixStream::connect(&path).await.map_err(unreachable)?;
        let peer = stream.peer_cred().map_err(unreachable)?.uid();
        if may_answer(dir, peer, rustix::process::geteuid().as_raw()) {
            return Ok(stream);
        }
        let what = format!(
            "is answered for at {} by uid {peer}, which need not be the server's account",
            path.display()
        );
        let hint = "give the server a directory for its socket (`unix_socket_directories`) that is its account's, below \
             directories that only root can change, such as /run/postgresql";
        Err(self.name.error(Blame::Config, &what, hint))
    }
}

/// Whether a program of `peer` may be the server: one of root, of the broker's own account, or of the account that has
/// the directory, where nobody else could have put that there. A directory for everybody proves nothing.
fn may_answer(dir: &Path, peer: u32, me: u32) -> bool {
    if peer == 0 || peer == me {
        return true;
    }
    let owner = std::fs::metadata(dir).ok().filter(std::fs::Metadata::is_dir).map(|meta| meta.uid());
    owner == Some(peer) && lies_safe(dir)
}

fn lies_safe(dir: &Path) -> bool {
    let above = |path: &Path| path.parent().is_some_and(|above| files::strict_way(above).is_ok());
    std::fs::canonicalize(dir).is_ok_and(|real| above(dir) && above(&real))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::config::testing::TempDir;

    /// The owner of a directory below one where anybody may make one proves nothing. Other owners can be had by root
    /// only; for anybody else the half of it that needs them is not proved.
    #[test]
    fn who_may_answer() {
        let me = rustix::process::geteuid().as_raw();
        let dir = TempDir::new();
        assert!(may_answer(dir.path(), me, me) && may_answer(dir.path(), 0, me));
        assert!(!may_answer(dir.path(), 4711, 4712), "neither the owner nor the broker");
        assert!(!may_answer(Path::new("/nowhere"), 4711, 4712));
        if me == 0 {
            let sockets = dir.path().join("sockets");
            dir.write("sockets/x", "");
            rustix::fs::chown(&sockets, Some(rustix::fs::Uid::from_raw(4711)), None).unwrap();
            assert!(!may_answer(&sockets, 4711, 0), "it lies below one for everybody");
            let safe = Path::new("/run").join(format!("mcp-broker-test-{}", std::process::id()));
            std::fs::create_dir(&safe).unwrap();
            rustix::fs::chown(&safe, Some(rustix::fs::Uid::from_raw(4711)), None).unwrap();
            let answers = (may_answer(&safe, 4711, 0), may_answer(&safe, 4712, 0));
            std::fs::remove_dir(&safe).unwrap();
            assert_eq!(answers, (true, false));
        }
    }
}
