//! Talks to the broker's admin socket: one request, one answer, both with limits.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::handshake;
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use mcp_broker_proto::problem::Problem;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::{Common, Report};

/// A revocation answers after 10 s at the latest with what is pending; everything else at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// No answer is longer.
const MAX_ANSWER: usize = 64 << 20;

/// Asks the broker, and waits for its answer.
///
/// # Errors
/// The report to end the command with.
pub(super) fn ask<T: DeserializeOwned>(
    common: &Common,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<T, Report> {
    let socket = common.admin_socket();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Report::failure(69, &error.to_string(), "report this"))?;
    let answer =
        runtime.block_on(async { timeout(ANSWER_LIMIT, exchange(&socket, method, path, body)).await });
    let (ok, bytes) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => return Err(unreachable(&socket, &error.to_string())),
        Err(_elapsed) => return Err(unreachable(&socket, "it did not answer in time")),
    };
    if ok {
        return serde_json::from_slice(&bytes).map_err(|_malformed| {
            let hint = "use mcp-broker of the same version as the running broker";
            Report::failure(69, "the broker's answer cannot be understood", hint)
        });
    }
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Err(Report::problem(&problem)),
        Err(_malformed) => Err(unreachable(&socket, "it did not answer as a broker does")),
    }
}

async fn exchange(
    socket: &Path,
    method: Method,
    path: &str,
    body: Vec<u8>,
) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "localhost");
    let response = sender.send_request(request.body(Full::new(Bytes::from(body)))?).await?;
    let ok = response.status().is_success();
    let bytes = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    driver.abort();
    Ok((ok, bytes))
}

fn unreachable(socket: &Path, why: &str) -> Report {
    let what = format!("cannot reach the broker at `{}`: {why}", socket.display());
    Report::failure(
        69,
        &what,
        "start it with `mcp-broker serve`; add `--user` or `--config DIR` as for the broker",
    )
}

/// The default admin socket beside a socket path.
pub(super) fn beside(socket: &Path) -> PathBuf {
    socket.with_file_name(mcp_broker_proto::paths::ADMIN_SOCKET_NAME)
}
