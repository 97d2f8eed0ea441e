//! `GET /v1/servers`: what the caller may launch, and why not the rest.

use axum::extract::State;
use axum::{Extension, Json};
use mcp_broker_proto::session::ServerInfo;

use super::Api;
use super::answer::Refusal;
use super::peer::Peer;

pub(super) async fn list(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
) -> Result<Json<Vec<ServerInfo>>, Refusal> {
    let asking = api.sessions.identify(peer.by(), &peer.caller()).await?;
    Ok(Json(api.sessions.servers(&asking)))
}
