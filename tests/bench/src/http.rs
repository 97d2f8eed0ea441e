//! A client over kept connections, for load: one request after the other on a stream, nothing parsed but what
//! is needed. The same client asks the product and the floor.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

/// No answer takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A kept connection.
pub struct Kept<S: Read + Write> {
    stream: BufReader<S>,
    /// Sent with every request, each with its line end.
    pub headers: String,
}

impl Kept<TcpStream> {
    /// To 127.0.0.1.
    #[must_use]
    pub fn tcp(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the server listens");
        stream.set_nodelay(true).expect("a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self { stream: BufReader::new(stream), headers: String::new() }
    }
}

impl Kept<UnixStream> {
    /// To a unix socket.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn unix(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self { stream: BufReader::new(stream), headers: String::new() })
    }

    /// The stream, once the server has changed its protocol, with what was read of it.
    #[must_use]
    pub fn upgraded(self) -> BufReader<UnixStream> {
        self.stream
    }
}

impl<S: Read + Write> Kept<S> {
    /// Asks; answers with status and body.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn ask(&mut self, method: &str, path: &str, body: &str) -> io::Result<(u16, Vec<u8>)> {
        self.send(method, path, body)?;
        self.answer()
    }

    /// Sends a request, and waits for nothing.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn send(&mut self, method: &str, path: &str, body: &str) -> io::Result<()> {
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n{body}",
            body.len(),
            self.headers
        );
        self.stream.get_mut().write_all(request.as_bytes())
    }

    /// Reads the answer to what was sent: status and body.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn answer(&mut self) -> io::Result<(u16, Vec<u8>)> {
        let mut line = self.line()?;
        let status = line.get(9..12).and_then(|code| code.parse().ok()).ok_or_else(|| broken(&line))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(|_no_number| broken(&line))?;
            }
            chunked |= line.starts_with("transfer-encoding: chunked");
        }
        let mut body = Vec::new();
        loop {
            if chunked {
                line = self.line()?;
                length = usize::from_str_radix(&line, 16).map_err(|_no_number| broken(&line))?;
            }
            let from = body.len();
            body.resize(from + length, 0);
            self.stream.read_exact(&mut body[from..])?;
            if !chunked {
                return Ok((status, body));
            }
            self.line()?;
            if length == 0 {
                return Ok((status, body));
            }
        }
    }

    fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        line.truncate(line.trim_end().len());
        Ok(line)
    }

    /// Asks for JSON.
    ///
    /// # Panics
    /// When the answer is an error, or none.
    pub fn json(&mut self, method: &str, path: &str, body: &str) -> Value {
        self.send(method, path, body).unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        self.answered(&format!("{method} {path}"))
    }

    /// Reads the JSON that answers `what`.
    ///
    /// # Panics
    /// When the answer is an error, or none.
    pub fn answered(&mut self, what: &str) -> Value {
        let (status, body) = self.answer().unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(status < 400, "{what}: {status} {}", String::from_utf8_lossy(&body));
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") }
    }
}

fn broken(line: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {line}"))
}
