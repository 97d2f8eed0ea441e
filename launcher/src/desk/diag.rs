//! Which socket is at the other end of a loopback connection, by the kernel's word (sock_diag(7)), or by its table
//! in proc(5) where that module is missing.

use std::io::Read;
use std::net::SocketAddrV4;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
};
use rustix::process::geteuid;

/// `SOCK_DIAG_BY_FAMILY` of linux/sock_diag.h.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` of linux/netlink.h.
const REQUEST: u16 = 1;
/// `IPPROTO_TCP`.
const TCP: u8 = 6;
/// `AF_INET`.
const INET: u8 = 2;
/// Bytes of a question: `nlmsghdr` and `inet_diag_req_v2`.
const QUESTION: usize = 16 + 56;
/// Where the uid stands in an answer (`inet_diag_msg` behind `nlmsghdr`); the inode follows.
const UID: usize = 16 + 4 + 48 + 12;
/// The longest table of connections that is read, in bytes.
const MAX_TABLE: u64 = 4 << 20;

/// A way to ask the kernel.
pub(super) struct Diag(Option<OwnedFd>);

impl Diag {
    /// Opens the way, where there is one.
    pub(super) fn open() -> Self {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        Self(socket_with(AddressFamily::NETLINK, SocketType::DGRAM, flags, Some(netlink::SOCK_DIAG)).ok())
    }

    /// No way, where nobody is asked about.
    pub(super) fn nothing() -> Self {
        Self(None)
    }

    /// The inode number of the socket at `peer` that is connected to `ours`, where it belongs to this account.
    pub(super) fn inode(&self, peer: SocketAddrV4, ours: SocketAddrV4) -> Option<u64> {
        let (uid, inode) = match self.0.as_ref().map(|socket| ask(socket, peer, ours)) {
            Some(Ok(found)) => found,
            // `ENOENT` is said where it is closed, and where the module is missing: the table knows.
            _ => in_table(&table(), peer, ours)?,
        };
        // A socket that nobody holds has no number.
        (uid == geteuid().as_raw() && inode != 0).then_some(inode)
    }
}

fn question(peer: SocketAddrV4, ours: SocketAddrV4) -> Vec<u8> {
    let mut out = Vec::with_capacity(QUESTION);
    out.extend(u32::try_from(QUESTION).unwrap_or_default().to_ne_bytes());
    out.extend(BY_FAMILY.to_ne_bytes());
    out.extend(REQUEST.to_ne_bytes());
    out.extend([0; 8]);
    out.extend([INET, TCP, 0, 0]);
    // Every state.
    out.extend(u32::MAX.to_ne_bytes());
    out.extend(peer.port().to_be_bytes());
    out.extend(ours.port().to_be_bytes());
    for address in [peer, ours] {
        out.extend(address.ip().octets());
        out.extend([0; 12]);
    }
    // Any interface, any cookie.
    out.extend([0; 4]);
    out.extend([0xff; 8]);
    out
}

fn ask(socket: &OwnedFd, peer: SocketAddrV4, ours: SocketAddrV4) -> Result<(u32, u64), Errno> {
    send(socket, &question(peer, ours), SendFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let (count, _) = recv(socket, &mut answer[..], RecvFlags::DONTWAIT)?;
    read(answer.get(..count).unwrap_or_default())
}

/// Uid and inode of an answer; the error that the kernel answers with.
fn read(answer: &[u8]) -> Result<(u32, u64), Errno> {
    let four = |at: usize| -> Option<[u8; 4]> { answer.get(at..at + 4)?.try_into().ok() };
    let kind = four(4).map(|[a, b, ..]| u16::from_ne_bytes([a, b])).ok_or(Errno::PROTO)?;
    if kind != BY_FAMILY {
        let error = four(16).map_or(0, i32::from_ne_bytes);
        return Err(Errno::from_raw_os_error(
            error.checked_neg().filter(|error| *error > 0).unwrap_or(libc::EPROTO),
        ));
    }
    let number = |at| four(at).map(u32::from_ne_bytes).ok_or(Errno::PROTO);
    Ok((number(UID)?, number(UID + 4)?.into()))
}

fn table() -> String {
    let mut text = String::new();
    if let Ok(file) = std::fs::File::open("/proc/net/tcp") {
        // What cannot be read says of nobody that he is known.
        file.take(MAX_TABLE).read_to_string(&mut text).unwrap_or_default();
    }
    text
}

/// Uid and inode of a connection in the table (proc(5), `/proc/net/tcp`).
fn in_table(table: &str, peer: SocketAddrV4, ours: SocketAddrV4) -> Option<(u32, u64)> {
    let shown = |address: SocketAddrV4| {
        format!("{:08X}:{:04X}", u32::from_ne_bytes(address.ip().octets()), address.port())
    };
    let (local, remote) = (shown(peer), shown(ours));
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(1);
        if words.next()? != local || words.next()? != remote {
            return None;
        }
        let mut words = words.skip(4);
        let uid = words.next()?.parse().ok()?;
        Some((uid, words.nth(1)?.parse().ok()?))
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use std::net::{SocketAddr, TcpListener, TcpStream};

    use rustix::fs::fstat;

    use super::*;

    /// An address that no connection has.
    const LOCAL: SocketAddrV4 = SocketAddrV4::new(std::net::Ipv4Addr::LOCALHOST, 0);

    fn v4(address: SocketAddr) -> SocketAddrV4 {
        match address {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(_) => unreachable!(),
        }
    }

    #[test]
    fn the_socket_at_the_other_end() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (peer, ours) = (v4(client.local_addr().unwrap()), v4(listener.local_addr().unwrap()));
        let inode = fstat(&client).unwrap().st_ino;
        let diag = Diag::open();
        assert_eq!(diag.inode(peer, ours), Some(inode));
        assert_eq!(ask(diag.0.as_ref().unwrap(), peer, ours), Ok((geteuid().as_raw(), inode)));
        assert_eq!(Diag(None).inode(peer, ours), Some(inode), "by the table");
        let _accepted = listener.accept().unwrap();
        drop(client);
        assert_eq!(diag.inode(peer, ours), None, "nobody holds it any more");
        let nobody = SocketAddrV4::new(*peer.ip(), 1);
        assert_eq!((diag.inode(nobody, ours), Diag(None).inode(nobody, ours)), (None, None));
    }

    #[test]
    fn what_the_kernel_does_not_say() {
        for bad in [&[][..], &[0; 4], &[0; 20], &question(LOCAL, LOCAL)] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
        assert_eq!(question(LOCAL, LOCAL).len(), QUESTION);
    }
}
