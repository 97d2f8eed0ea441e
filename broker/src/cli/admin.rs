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

use super::report::EXIT_REFUSED;
use super::{Common, Report};

/// A revocation answers after 10 s at the latest with what is pending; everything else at once.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// No answer is longer.
const MAX_ANSWER: usize = 64 << 20;

/// One request to the broker.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    pub(super) body: Vec<u8>,
}

/// Asks the broker, and makes a report of its answer; `render` is given the socket too.
pub(super) fn ask<T: DeserializeOwned>(
    common: &Common,
    ask: Ask<'_>,
    render: impl FnOnce(T, &Path) -> Report,
) -> Report {
    let (socket, note) = match common.admin_socket() {
        Ok(found) => found,
        Err(report) => return report,
    };
    let answer = answer(common, &socket, ask);
    answer.map_or_else(|report| report, |answer| render(answer, &socket)).after(&note)
}

/// The same without a report: what the broker answered.
///
/// # Errors
/// The report on why there is no answer.
pub(super) fn answer<T: DeserializeOwned>(common: &Common, socket: &Path, ask: Ask<'_>) -> Result<T, Report> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Report::failure(69, &error.to_string(), "report this"))?;
    let answer = runtime.block_on(async { timeout(ANSWER_LIMIT, exchange(socket, ask)).await });
    let (ok, bytes) = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if is_forbidden(error.as_ref()) => return Err(forbidden("the admin socket", socket)),
        Ok(Err(error)) => return Err(unreachable(common, socket, &error.to_string())),
        Err(_elapsed) => return Err(unreachable(common, socket, "it did not answer in time")),
    };
    if ok {
        return serde_json::from_slice(&bytes).map_err(|_malformed| {
            let hint = "use mcp-broker of the same version as the running broker";
            Report::failure(69, "the broker's answer cannot be understood", hint)
        });
    }
    match serde_json::from_slice::<Problem>(&bytes) {
        Ok(problem) => Err(Report::problem(&problem).after(&answered_by(socket))),
        Err(_malformed) => Err(unreachable(common, socket, "it did not answer as a broker does")),
    }
}

async fn exchange(
    socket: &Path,
    ask: Ask<'_>,
) -> Result<(bool, Bytes), Box<dyn std::error::Error + Send + Sync>> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let request = Request::builder().method(ask.method).uri(ask.path).header("host", "localhost");
    let response = sender.send_request(request.body(Full::new(Bytes::from(ask.body)))?).await?;
    let ok = response.status().is_success();
    let bytes = Limited::new(response.into_body(), MAX_ANSWER).collect().await?.to_bytes();
    driver.abort();
    Ok((ok, bytes))
}

fn unreachable(common: &Common, socket: &Path, why: &str) -> Report {
    let what = format!("cannot reach the broker at `{}`: {why}", socket.display());
    let hint = format!(
        "start it by its unit or with `mcp-broker serve{}`; `--user`, `--mode` and `--config` name another one",
        common.options()
    );
    Report::failure(69, &what, &hint)
}

fn is_forbidden(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

/// Names the broker that answered: an account can have more than one.
pub(super) fn answered_by(socket: &Path) -> String {
    format!("mcp-broker: answered by the broker at `{}`\n", socket.display())
}

/// The system keeps `what` at `path` from this account.
pub(super) fn forbidden(what: &str, path: &Path) -> Report {
    let message = format!("only root and the broker's account may use {what} `{}`", path.display());
    Report::failure(EXIT_REFUSED, &message, "run the same command with `sudo`")
}

/// The default admin socket beside a socket path.
pub(super) fn beside(socket: &Path) -> PathBuf {
    socket.with_file_name(mcp_broker_proto::paths::ADMIN_SOCKET_NAME)
}

#[cfg(test)]
mod tests {
    use std::io::{Error, ErrorKind};

    use super::*;

    #[test]
    fn a_socket_of_another_account_is_a_refusal() {
        assert!(is_forbidden(&Error::from(ErrorKind::PermissionDenied)));
        assert!(!is_forbidden(&Error::from(ErrorKind::ConnectionRefused)));
        let report = forbidden("the admin socket", Path::new("/s"));
        assert_eq!(report.code, 77);
        assert!(report.err.contains("`/s`\nhint: ") && report.err.contains("sudo"), "{}", report.err);
    }
}
