//! The launch channel: frames both ways on the stream that the broker upgraded. It never blocks, and what was
//! read is wiped, as a ticket holds secrets. What the frames mean is the relay's affair.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use mcp_broker_proto::MAX_FRAME;
use mcp_broker_proto::channel::{ToBroker, ToLauncher};
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use zeroize::{Zeroize, Zeroizing};

use super::http::{append_wiping, read_wiping, wait};

/// The most that may wait to be sent: what a client that sends many calls at once makes be asked. A broker that
/// leaves more unread counts as gone.
const MAX_WAITING: usize = 8 << 20;

/// A buffer larger than this is given back as soon as it is empty.
const KEPT: usize = 64 << 10;

/// Bytes that are looked at to find the end of a frame. All of them are wiped each time, so they are few: a longer
/// frame comes in several reads.
const PEEKED: usize = 4 << 10;

/// One launch, as long as this connection lives.
pub struct LaunchChannel {
    stream: OwnedFd,
    inbound: Zeroizing<Vec<u8>>,
    outbound: Vec<u8>,
}

impl LaunchChannel {
    /// Over the upgraded stream, with what was read of it already.
    #[must_use]
    pub fn over(stream: OwnedFd, early: &[u8]) -> Self {
        let mut inbound = Zeroizing::new(Vec::with_capacity(early.len()));
        inbound.extend_from_slice(early);
        Self { stream, inbound, outbound: Vec::new() }
    }

    /// Reads what is there; false at the end of the stream.
    ///
    /// # Errors
    /// As read(2).
    pub fn read(&mut self) -> io::Result<bool> {
        match read_wiping(&self.stream, &mut self.inbound) {
            Ok(count) => Ok(count > 0),
            Err(Errno::AGAIN | Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, but no byte of a second frame: what follows may hold a secret, which is not to be in memory yet.
    ///
    /// # Errors
    /// As recv(2).
    pub fn read_one(&mut self) -> io::Result<bool> {
        let mut seen = Zeroizing::new([0; PEEKED]);
        let (there, _) = match recv(&self.stream, &mut seen[..], RecvFlags::PEEK) {
            Ok(read) => read,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
            Err(error) => return Err(error.into()),
        };
        let bytes = seen.get(..there).unwrap_or_default();
        let count = memchr::memchr(b'\n', bytes).map_or(there, |at| at + 1);
        let (read, _) =
            match recv(&self.stream, seen.get_mut(..count).unwrap_or_default(), RecvFlags::empty()) {
                Ok(read) => read,
                Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                Err(error) => return Err(error.into()),
            };
        append_wiping(&mut self.inbound, seen.get(..read).unwrap_or_default());
        Ok(read > 0)
    }

    /// Whether a part of a frame was read: it may hold a secret.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.inbound.is_empty()
    }

    /// The next frame that was read completely.
    ///
    /// # Errors
    /// Where it is no frame, or too long.
    pub fn next_frame(&mut self) -> io::Result<Option<ToLauncher>> {
        let Some(at) = memchr::memchr(b'\n', &self.inbound) else {
            return match self.inbound.len() < MAX_FRAME {
                true => Ok(None),
                false => Err(io::Error::new(io::ErrorKind::InvalidData, "a frame is too long")),
            };
        };
        let line = self.inbound.get(..at).unwrap_or_default();
        // The words of the parser may quote the frame, which can hold a secret.
        let frame = serde_json::from_slice(line)
            .map_err(|_quotes| io::Error::new(io::ErrorKind::InvalidData, "a frame cannot be understood"));
        self.consume(at + 1);
        frame.map(Some)
    }

    fn consume(&mut self, count: usize) {
        self.inbound.copy_within(count.., 0);
        let left = self.inbound.len() - count;
        if let Some(stale) = self.inbound.get_mut(left..) {
            stale.zeroize();
        }
        self.inbound.truncate(left);
        if left == 0 && self.inbound.capacity() > KEPT {
            self.inbound = Zeroizing::default();
        }
    }

    /// Queues a frame for the next [`Self::flush`]: what is said at once goes with one call of the kernel.
    ///
    /// # Errors
    /// Where the broker has read nothing for too long.
    pub fn queue(&mut self, frame: &ToBroker) -> io::Result<()> {
        self.outbound.extend(serde_json::to_vec(frame)?);
        self.outbound.push(b'\n');
        if self.outbound.len() > MAX_WAITING { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }

    /// Sends what waits, as far as it goes.
    ///
    /// # Errors
    /// Where the broker is gone.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.outbound.is_empty() {
            match send(&self.stream, &self.outbound, SendFlags::NOSIGNAL) {
                Ok(count) => drop(self.outbound.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if self.outbound.capacity() > KEPT {
            self.outbound = Vec::new();
        }
        Ok(())
    }

    /// Sends everything that waits, at most until then.
    ///
    /// # Errors
    /// As [`Self::flush`], and where the time is over.
    pub fn drain(&mut self, until: Instant) -> io::Result<()> {
        loop {
            self.flush()?;
            if self.outbound.is_empty() {
                return Ok(());
            }
            wait(&self.stream, PollFlags::OUT, until)?;
        }
    }

    /// Whether something waits to be sent.
    #[must_use]
    pub fn waiting(&self) -> bool {
        !self.outbound.is_empty()
    }
}

impl AsFd for LaunchChannel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    fn pair(early: &[u8]) -> (UnixStream, LaunchChannel) {
        let (broker, launcher) = UnixStream::pair().unwrap();
        launcher.set_nonblocking(true).unwrap();
        (broker, LaunchChannel::over(launcher.into(), early))
    }

    #[test]
    fn frames_in_pieces() {
        let (mut broker, mut channel) = pair(br#"{"type":"be"#);
        assert!(channel.next_frame().unwrap().is_none());
        broker.write_all(b"at\"}\n{\"type\":\"beat\"}\nnonsense\n").unwrap();
        assert!(channel.read().unwrap());
        for _ in 0..2 {
            assert!(matches!(channel.next_frame().unwrap(), Some(ToLauncher::Beat)));
        }
        assert!(channel.next_frame().is_err());
        assert!(channel.next_frame().unwrap().is_none());
        drop(broker);
        assert!(!channel.read().unwrap());
    }

    #[test]
    fn frames_that_change_the_launch() {
        let park = r#"{"type":"park","reason":"locked","what":"locked","hint":"unlock"}"#;
        let text = format!(
            "{park}\n{{\"type\":\"resume\"}}\n{{\"type\":\"replace\",\"instance\":3,\"within_secs\":30}}\n"
        );
        let (_broker, mut channel) = pair(text.as_bytes());
        assert!(
            matches!(channel.next_frame().unwrap(), Some(ToLauncher::Park(park)) if park.hint == "unlock")
        );
        assert!(matches!(channel.next_frame().unwrap(), Some(ToLauncher::Resume)));
        let replace = channel.next_frame().unwrap();
        assert!(matches!(replace, Some(ToLauncher::Replace { instance: 3, within_secs: 30 })));
    }

    /// Arguments that are shown whole make a long frame, and a client may send many calls at once.
    #[test]
    fn a_burst_is_no_sign_of_a_dead_broker() {
        let (_broker, mut channel) = pair(b"");
        let scope = "x".repeat(63).parse().unwrap();
        let want = ToBroker::Want { scope };
        for number in 0..20_000 {
            assert!(channel.queue(&want).and_then(|()| channel.flush()).is_ok(), "{number}");
        }
        assert!(channel.waiting());
    }

    #[test]
    fn a_frame_alone() {
        let (mut broker, mut channel) = pair(b"");
        assert!(channel.read_one().unwrap() && !channel.holds(), "nothing is there");
        broker.write_all(b"{\"type\":\"beat\"}\n{\"type\":\"re").unwrap();
        assert!(channel.read_one().unwrap());
        assert!(matches!(channel.next_frame().unwrap(), Some(ToLauncher::Beat)));
        assert!(!channel.holds(), "not a byte more was taken");
        assert!(channel.read_one().unwrap() && channel.holds());
        broker.write_all(b"sume\"}\n").unwrap();
        assert!(channel.read_one().unwrap());
        assert!(matches!(channel.next_frame().unwrap(), Some(ToLauncher::Resume)));
        drop(broker);
        assert!(!channel.read_one().unwrap());
    }

    #[test]
    fn frames_out() {
        let (mut broker, mut channel) = pair(b"");
        channel.queue(&ToBroker::Beat).unwrap();
        channel.queue(&ToBroker::Dead).unwrap();
        assert!(channel.waiting());
        channel.flush().unwrap();
        let mut got = [0; 32];
        broker.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"{\"type\":\"beat\"}\n{\"type\":\"dead\"}\n");
        let mut beat = || channel.queue(&ToBroker::Beat).and_then(|()| channel.flush());
        let stuffed = (0..1_000_000).map(|_| beat()).find(Result::is_err);
        assert!(stuffed.is_some(), "a broker that never reads is noticed");
    }
}
