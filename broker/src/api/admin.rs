//! The admin socket's routes: what is alive, and the kill switch.

use axum::body::Bytes;
use axum::extract::State;
use axum::{Extension, Json};
use mcp_broker_proto::session::{LaunchInfo, LeaseInfo, RevokeReport, RevokeRequest, SessionInfo};

use super::Api;
use super::answer::{Refusal, bad_request};
use super::peer::Peer;

pub(super) async fn sessions(State(api): State<Api>) -> Json<Vec<SessionInfo>> {
    Json(api.sessions.sessions())
}

pub(super) async fn launches(State(api): State<Api>) -> Json<Vec<LaunchInfo>> {
    Json(api.sessions.launches())
}

pub(super) async fn leases(State(api): State<Api>) -> Json<Vec<LeaseInfo>> {
    Json(api.leases.infos().into_iter().chain(api.leases.withheld()).collect())
}

pub(super) async fn revoke(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    body: Bytes,
) -> Result<Json<RevokeReport>, Refusal> {
    let request = serde_json::from_slice::<RevokeRequest>(&body);
    let request = request.map_err(|_malformed| bad_request("the revocation cannot be understood"))?;
    Ok(Json(api.sessions.revoke(request, peer.by()).await?))
}
