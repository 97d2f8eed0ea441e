//! Where an instance can ask: a port of the loopback interface for AWS SDKs, and a unix socket in the private directory
//! for `mcp-run credential`. Each tells by its own means whether who has come belongs to the instance.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrAny, SocketFlags, SocketType, acceptfrom_with, bind, getsockname, listen,
    socket_with,
};

use super::diag::Diag;
use crate::spawn::kin::Kin;

/// Connections that the kernel keeps until they are taken; it may cut that (listen(2)).
pub(super) const BACKLOG: i32 = 2048;
/// What `mcp-run credential` names as host.
pub const COUNTER_HOST: &str = "mcp-run";

/// By which door somebody came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Via {
    /// The port.
    Port,
    /// The unix socket.
    Counter,
}

/// One door.
pub(super) struct Door {
    socket: OwnedFd,
    /// Which one.
    pub(super) via: Via,
    /// The only host that is answered for.
    pub(super) host: String,
    ours: SocketAddrV4,
    diag: Diag,
}

impl Door {
    /// A free port of 127.0.0.1.
    ///
    /// # Errors
    /// Where there is none.
    pub(super) fn port() -> Result<Self, Errno> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
        listen(&socket, BACKLOG)?;
        let ours = v4(getsockname(&socket)?).ok_or(Errno::AFNOSUPPORT)?;
        Ok(Self { socket, via: Via::Port, host: ours.to_string(), ours, diag: Diag::open() })
    }

    /// Over a unix socket that listens.
    pub(super) fn counter(socket: OwnedFd) -> Self {
        let ours = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0);
        Self { socket, via: Via::Counter, host: COUNTER_HOST.to_owned(), ours, diag: Diag::nothing() }
    }

    /// Takes the next one, and says whether it belongs to the tree.
    ///
    /// # Errors
    /// `AGAIN` where nobody waits, else as accept(2).
    pub(super) fn accept(&self, kin: &mut Kin) -> Result<(OwnedFd, bool), Errno> {
        let (stream, from) = acceptfrom_with(&self.socket, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        let known = match self.via {
            Via::Counter => kin.connected(&stream),
            Via::Port => {
                let inode = from.and_then(v4).and_then(|peer| self.diag.inode(peer, self.ours));
                inode.is_some_and(|inode| kin.holds(inode))
            }
        };
        Ok((stream, known))
    }
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn v4(address: SocketAddrAny) -> Option<SocketAddrV4> {
    SocketAddrV4::try_from(address).ok()
}
