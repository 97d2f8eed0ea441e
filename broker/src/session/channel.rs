//! The launch channel as frames: one JSON object a line, capped in size, written within a time limit.
//! A frame with secrets is wiped once it is written.

use std::io;
use std::time::Duration;

use mcp_broker_proto::MAX_FRAME;
use mcp_broker_proto::channel::{ToBroker, ToLauncher};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};
use tokio::time::timeout;
use zeroize::Zeroizing;

/// What most frames fit in, in bytes: what is kept of a buffer that a longer one needed.
const USUAL: usize = 4096;

/// A launcher that does not take a frame within this time counts as gone.
const WRITE_LIMIT: Duration = Duration::from_secs(2);

/// Splits a stream into its two directions.
pub(super) fn split<S: AsyncRead + AsyncWrite>(stream: S) -> (Reader<S>, Writer<S>) {
    let (read, write) = tokio::io::split(stream);
    (Reader { stream: read, buffer: Vec::with_capacity(USUAL), scanned: 0 }, Writer { stream: write })
}

/// Frames from the launcher.
pub(super) struct Reader<S> {
    stream: ReadHalf<S>,
    buffer: Vec<u8>,
    scanned: usize,
}

impl<S: AsyncRead> Reader<S> {
    /// The next frame; `None` when the launcher closed the stream. May be dropped at any time without loss.
    ///
    /// # Errors
    /// When the stream breaks, or a frame is too long or not one.
    pub(super) async fn next(&mut self) -> io::Result<Option<ToBroker>> {
        loop {
            let unseen = self.buffer.get(self.scanned..).unwrap_or(&[]);
            if let Some(at) = unseen.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.scanned + at).collect();
                self.scanned = 0;
                if self.buffer.is_empty() {
                    self.buffer.shrink_to(USUAL);
                }
                return serde_json::from_slice(&line).map(Some).map_err(|_not_a_frame| broken());
            }
            self.scanned = self.buffer.len();
            if self.buffer.len() >= MAX_FRAME {
                return Err(broken());
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Ok(None);
            }
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a frame of the launch channel")
}

/// Frames to the launcher.
pub(super) struct Writer<S> {
    stream: WriteHalf<S>,
}

impl<S: AsyncWrite> Writer<S> {
    /// Writes one frame.
    ///
    /// # Errors
    /// When the launcher is gone, or does not take it in time.
    pub(super) async fn send(&mut self, frame: &ToLauncher) -> io::Result<()> {
        let mut bytes = Zeroizing::new(serde_json::to_vec(frame)?);
        bytes.push(b'\n');
        let write = async {
            self.stream.write_all(&bytes).await?;
            self.stream.flush().await
        };
        timeout(WRITE_LIMIT, write).await.map_err(|_elapsed| io::Error::from(io::ErrorKind::TimedOut))?
    }
}
