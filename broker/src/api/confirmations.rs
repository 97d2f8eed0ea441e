//! `POST /v1/confirmations/{id}`: what the caller says to a call that waits for a person. Which session may, the
//! kernel says.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::{Extension, Json};
use mcp_broker_proto::session::{Confirmation, Status};

use super::Api;
use super::answer::{Refusal, bad_request};
use super::peer::Peer;

pub(super) async fn answer(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Json<Status>, Refusal> {
    let call = id.parse().map_err(|_malformed| bad_request("that is not the id of a call"))?;
    let confirmation = serde_json::from_slice::<Confirmation>(&body);
    let Confirmation { yes } =
        confirmation.map_err(|_malformed| bad_request("the confirmation cannot be understood"))?;
    let asking = api.sessions.identify(peer.by(), &peer.caller()).await?;
    api.sessions.confirm(&asking, call, yes)?;
    Ok(Json(api.sessions.status(&asking.person, asking.login.as_deref())))
}
