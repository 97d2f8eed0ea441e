//! `/v1/admin/approvals`: what was approved, of all servers and of one, and an admin's yes to what a server showed in its trial.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::{Extension, Json};
use mcp_broker_proto::MAX_RECORD;
use mcp_broker_proto::approval::{ApprovalInfo, ApprovalRequest};
use mcp_broker_proto::names::ServerName;
use mcp_broker_proto::problem::{ErrorCode, Problem};

use super::Api;
use super::answer::{Refusal, bad_request};
use super::peer::Peer;

/// What a request has around its record, in bytes: a name, a digest, punctuation.
const OVERHEAD: usize = 4096;

/// A record is longer than any other body.
pub(super) fn limit() -> DefaultBodyLimit {
    DefaultBodyLimit::max(MAX_RECORD + OVERHEAD)
}

pub(super) async fn list(State(api): State<Api>) -> Json<Vec<ApprovalInfo>> {
    Json(api.approvals.list())
}

/// What was approved of one server, as it was posted.
pub(super) async fn show(
    State(api): State<Api>,
    Path(server): Path<ServerName>,
) -> Result<Json<ApprovalRequest>, Refusal> {
    let nothing = || {
        let title = format!("server `{server}` is not approved");
        Problem::new(ErrorCode::NothingThere, title, format!("`mcp-broker approve {server}` does that"))
    };
    Ok(Json(api.approvals.of(&server).ok_or_else(nothing)?))
}

pub(super) async fn approve(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Json<ApprovalInfo>, Refusal> {
    let request = serde_json::from_slice::<ApprovalRequest>(&body);
    let request = request.map_err(|_malformed| bad_request("the approval cannot be understood"))?;
    // In a task of its own: where the connection is dropped, audit log, file and memory still say the same.
    let by = peer.by();
    let approving = tokio::spawn(async move { api.approvals.approve(request, by).await });
    let approved = approving.await.map_err(|_panicked| {
        let hint = "see the broker's log, then `mcp-broker packages` for what is in force";
        Problem::new(ErrorCode::Internal, "the approval failed inside the broker", hint)
    })?;
    Ok(Json(approved?))
}
