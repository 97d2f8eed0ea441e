//! A small HTTP/1.1 client over TCP and unix sockets: one request a connection, whole answers, no TLS. It is
//! the tests' own, so that nothing of the programs under test is used to judge them.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Head, as it came.
    pub head: String,
    /// Body without its transfer coding.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON; null where it is empty.
    ///
    /// # Panics
    /// When it is neither.
    #[must_use]
    pub fn json(&self) -> Value {
        if self.body.is_empty() {
            return Value::Null;
        }
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", String::from_utf8_lossy(&self.body)))
    }
}

/// What to ask.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// Method.
    pub method: &'a str,
    /// Path with its query.
    pub path: &'a str,
    /// Further headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// JSON body.
    pub body: Option<&'a Value>,
}

/// Asks a server on 127.0.0.1.
///
/// # Errors
/// When the connection cannot be made or ends early.
pub fn tcp(port: u16, ask: Ask<'_>) -> io::Result<Answer> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    exchange(stream, ask)
}

/// Asks a server on a unix socket.
///
/// # Errors
/// When the connection cannot be made or ends early.
pub fn unix(socket: &Path, ask: Ask<'_>) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    exchange(stream, ask)
}

fn exchange(mut stream: impl Read + Write, ask: Ask<'_>) -> io::Result<Answer> {
    let body = ask.body.map(Value::to_string).unwrap_or_default();
    let mut request =
        format!("{} {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", ask.method, ask.path);
    for (name, value) in ask.headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if ask.body.is_some() {
        request.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    request.push_str("\r\n");
    request.push_str(&body);
    stream.write_all(request.as_bytes())?;
    let mut raw = Vec::new();
    stream.read_to_end(&mut raw)?;
    parse(&raw).ok_or_else(|| io::Error::new(io::ErrorKind::UnexpectedEof, "not a whole answer"))
}

fn parse(raw: &[u8]) -> Option<Answer> {
    let end = find(raw, b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&raw[..end]).into_owned();
    let rest = &raw[end + 4..];
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = if let Some(length) = header(&head, "content-length") {
        rest.get(..length.parse().ok()?)?.to_vec()
    } else if header(&head, "transfer-encoding").is_some() {
        unchunk(rest)?
    } else {
        rest.to_vec()
    };
    Some(Answer { status, head, body })
}

/// The value of a header.
#[must_use]
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Where `needle` begins.
#[must_use]
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

fn unchunk(mut rest: &[u8]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let end = find(rest, b"\r\n")?;
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).ok()?.trim(), 16).ok()?;
        rest = rest.get(end + 2..)?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(rest.get(..length)?);
        rest = rest.get(length + 2..)?;
    }
}
