//! `/v1/admin/approvals`: what was approved, and an admin's yes to what a server showed in its trial.

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::{Extension, Json};
use mcp_broker_proto::MAX_RECORD;
use mcp_broker_proto::session::{ApprovalInfo, ApprovalRequest};

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

pub(super) async fn approve(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Json<ApprovalInfo>, Refusal> {
    let request = serde_json::from_slice::<ApprovalRequest>(&body);
    let request = request.map_err(|_malformed| bad_request("the approval cannot be understood"))?;
    Ok(Json(api.approvals.approve(request, peer.by()).await?))
}
