//! As much of an HTTP/1.1 client (RFC 9112) as the broker needs: one request on one connection, an answer
//! with a length, in chunks or until the end, or an upgrade. No redirects, no headers that we do not read.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use mcp_broker_proto::paths::UPGRADE;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use zeroize::Zeroizing;

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// The longest body of an answer, in bytes: a status with many leases.
const MAX_BODY: usize = 8 << 20;
/// Bytes that are read at once.
const PIECE: usize = 16 << 10;

/// A request.
pub struct Request<'a> {
    /// Method.
    pub method: &'static str,
    /// Path and query.
    pub path: &'a str,
    /// JSON, or nothing.
    pub body: &'a [u8],
    /// Whether to ask for the launch channel.
    pub upgrade: bool,
}

impl Request<'_> {
    fn encode(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\nHost: mcp-broker\r\n", self.method, self.path);
        head.push_str(&match self.upgrade {
            true => format!("Connection: Upgrade\r\nUpgrade: {UPGRADE}\r\n"),
            false => "Connection: close\r\n".to_owned(),
        });
        if !self.body.is_empty() {
            head.push_str("Content-Type: application/json\r\n");
        }
        head.push_str(&format!("Content-Length: {}\r\n\r\n", self.body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(self.body);
        bytes
    }
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// `Content-Length`.
    Bytes(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection ends.
    ToEnd,
}

/// The head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Status code.
    pub status: u16,
    /// Length of the body.
    pub length: Length,
}

/// A connection with a deadline for everything that happens on it.
pub struct Wire {
    stream: OwnedFd,
    until: Instant,
    /// Read but not consumed. May hold the first frames of a launch channel, so it is wiped.
    early: Zeroizing<Vec<u8>>,
}

impl Wire {
    /// Over a non-blocking stream.
    #[must_use]
    pub fn over(stream: OwnedFd, until: Instant) -> Self {
        Self { stream, until, early: Zeroizing::new(Vec::with_capacity(PIECE * 2)) }
    }

    /// Sends a request and reads the head of its answer.
    ///
    /// # Errors
    /// Where the connection ends, the time is over, or the answer is no HTTP.
    pub fn exchange(&mut self, request: &Request<'_>) -> io::Result<Head> {
        self.ask(&request.encode(), request.upgrade)
    }

    /// The same for a request that is written out already. Not a byte behind the head is read where `sparing`.
    ///
    /// # Errors
    /// As [`Self::exchange`].
    pub fn ask(&mut self, request: &[u8], sparing: bool) -> io::Result<Head> {
        let mut rest = request;
        while !rest.is_empty() {
            match rustix::net::send(&self.stream, rest, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::AGAIN) => wait(&self.stream, PollFlags::OUT, self.until)?,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        loop {
            if let Some((head, consumed)) = parse_head(&self.early)? {
                self.early.drain(..consumed);
                return Ok(head);
            }
            if self.early.len() >= MAX_HEAD {
                return Err(invalid("its head is too long"));
            }
            let count = if sparing { self.fill_one()? } else { self.fill()? };
            if count == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// Reads the body that belongs to `head`.
    ///
    /// # Errors
    /// As [`Self::exchange`], and where the body is longer than allowed.
    pub fn body(&mut self, head: &Head) -> io::Result<Vec<u8>> {
        loop {
            let ended = match head.length {
                Length::Bytes(length) if length > MAX_BODY => return Err(invalid("its body is too long")),
                Length::Bytes(length) => {
                    if let Some(body) = self.early.get(..length) {
                        return Ok(body.to_vec());
                    }
                    self.fill()? == 0
                }
                Length::Chunked => {
                    if let Some(body) = parse_chunks(&self.early)? {
                        return Ok(body);
                    }
                    self.fill()? == 0
                }
                Length::ToEnd => {
                    if self.fill()? == 0 {
                        return Ok(self.early.to_vec());
                    }
                    false
                }
            };
            if ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if self.early.len() > MAX_BODY {
                return Err(invalid("its body is too long"));
            }
        }
    }

    /// The stream, and what was read of the channel already.
    #[must_use]
    pub fn into_parts(self) -> (OwnedFd, Zeroizing<Vec<u8>>) {
        (self.stream, self.early)
    }

    /// Reads one byte. What follows the head of an upgrade may be a secret, which is not to be in memory before
    /// the keeper was cloned.
    fn fill_one(&mut self) -> io::Result<usize> {
        let mut byte = [0];
        loop {
            match rustix::io::read(&self.stream, &mut byte) {
                Err(Errno::AGAIN) => wait(&self.stream, PollFlags::IN, self.until)?,
                Err(Errno::INTR) => {}
                outcome => {
                    let count = outcome?;
                    self.early.extend_from_slice(byte.get(..count).unwrap_or_default());
                    return Ok(count);
                }
            }
        }
    }

    fn fill(&mut self) -> io::Result<usize> {
        loop {
            wait(&self.stream, PollFlags::IN, self.until)?;
            match read_wiping(&self.stream, &mut self.early) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                outcome => return Ok(outcome?),
            }
        }
    }
}

/// Reads once into `buffer`; grows it without leaving an unwiped copy behind.
///
/// # Errors
/// As read(2).
pub fn read_wiping(stream: &OwnedFd, buffer: &mut Zeroizing<Vec<u8>>) -> Result<usize, Errno> {
    if buffer.capacity() - buffer.len() < PIECE {
        let mut grown = Zeroizing::new(Vec::with_capacity(buffer.capacity().max(PIECE) * 2));
        grown.extend_from_slice(buffer);
        *buffer = grown;
    }
    rustix::io::read(stream, rustix::buffer::spare_capacity(&mut **buffer))
}

/// Appends to `buffer`; grows it without leaving an unwiped copy behind.
pub fn append_wiping(buffer: &mut Zeroizing<Vec<u8>>, bytes: &[u8]) {
    if buffer.capacity() - buffer.len() < bytes.len() {
        let room = (buffer.len() + bytes.len()) * 2;
        let mut grown = Zeroizing::new(Vec::with_capacity(room));
        grown.extend_from_slice(buffer);
        *buffer = grown;
    }
    buffer.extend_from_slice(bytes);
}

/// Waits until the stream is ready.
///
/// # Errors
/// `TimedOut` where the time is over.
pub fn wait(stream: &OwnedFd, what: PollFlags, until: Instant) -> io::Result<()> {
    let left = until.saturating_duration_since(Instant::now());
    let timeout = rustix::time::Timespec::try_from(left).ok();
    match poll(&mut [PollFd::new(stream, what)], timeout.as_ref()) {
        Ok(0) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
        Ok(_) | Err(Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// The head and its length in bytes, once it is complete (RFC 9112 sections 4 and 5).
fn parse_head(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let Some(at) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let text = bytes.get(..at).and_then(|head| std::str::from_utf8(head).ok());
    let text = text.ok_or_else(|| invalid("its head is not text"))?;
    let mut lines = text.split("\r\n");
    let status = lines.next().and_then(|line| {
        let mut words = line.strip_prefix("HTTP/1.1 ")?.splitn(2, ' ');
        words.next().filter(|code| code.len() == 3)?.parse().ok()
    });
    let status = status.ok_or_else(|| invalid("it is not HTTP/1.1"))?;
    let mut length = Length::ToEnd;
    for line in lines {
        let (name, value) = line.split_once(':').ok_or_else(|| invalid("a header has no colon"))?;
        let value = value.trim_matches([' ', '\t']);
        if name.eq_ignore_ascii_case("transfer-encoding") {
            if !value.eq_ignore_ascii_case("chunked") {
                return Err(invalid("it has an unknown transfer encoding"));
            }
            length = Length::Chunked;
        } else if name.eq_ignore_ascii_case("content-length") && length != Length::Chunked {
            let bytes = value.parse().map_err(|_no_number| invalid("its length is no number"))?;
            length = Length::Bytes(bytes);
        }
    }
    Ok(Some((Head { status, length }, at + 4)))
}

/// The whole body, once the last chunk is there (RFC 9112 section 7.1). Trailers are not read.
fn parse_chunks(mut bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut body = Vec::new();
    loop {
        let Some(at) = memchr::memmem::find(bytes, b"\r\n") else { return Ok(None) };
        let line = bytes.get(..at).and_then(|line| std::str::from_utf8(line).ok()).unwrap_or_default();
        let size = line.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_no_number| invalid("a chunk has no size"))?;
        if size == 0 {
            return Ok(Some(body));
        }
        if size > MAX_BODY {
            return Err(invalid("its body is too long"));
        }
        let Some(chunk) = bytes.get(at + 2..at + 2 + size) else { return Ok(None) };
        let Some(end) = bytes.get(at + 2 + size..at + 4 + size) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(invalid("a chunk has no end"));
        }
        body.extend_from_slice(chunk);
        bytes = bytes.get(at + 4 + size..).unwrap_or_default();
    }
}

fn invalid(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let head = |status, length| Some(Head { status, length });
        for (text, want) in [
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", head(200, Length::Bytes(5))),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\nx", head(101, Length::ToEnd)),
            ("HTTP/1.1 404 \r\nTransfer-Encoding: chunked\r\n\r\n", head(404, Length::Chunked)),
            (
                "HTTP/1.1 200\r\nContent-Length:7\r\nTransfer-Encoding: chunked\r\n\r\n",
                head(200, Length::Chunked),
            ),
            ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n", None),
        ] {
            let got = parse_head(text.as_bytes()).unwrap();
            assert_eq!(got.map(|(head, _)| head), want, "{text:?}");
        }
        let (_, consumed) = parse_head(b"HTTP/1.1 101 X\r\n\r\nrest").unwrap().unwrap();
        assert_eq!(consumed, 18);
        for bad in [
            "SSH-2.0-x\r\n\r\n",
            "HTTP/1.0 200 OK\r\n\r\n",
            "HTTP/1.1 20 OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\nnope\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        ] {
            assert!(parse_head(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn chunks() {
        let whole = b"3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
        assert_eq!(parse_chunks(whole).unwrap().unwrap(), b"abc0123456789");
        for cut in 0..whole.len() - 5 {
            assert_eq!(parse_chunks(whole.get(..cut).unwrap()).unwrap(), None, "{cut}");
        }
        for bad in ["x\r\n", "3\r\nabcd\r\n", "ffffffff\r\n", "-1\r\n"] {
            assert!(parse_chunks(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn requests() {
        let text = |upgrade| {
            let request = Request { method: "POST", path: "/v1/x", body: b"{}", upgrade };
            String::from_utf8(request.encode()).unwrap()
        };
        assert!(text(true).contains("Connection: Upgrade\r\nUpgrade: mcp-broker-launch/1\r\n"));
        assert!(text(false).contains("Connection: close\r\n"));
        assert!(text(false).ends_with("Content-Length: 2\r\n\r\n{}"));
    }
}
