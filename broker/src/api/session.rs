//! `/v1/session`: the caller's own session. Whose it is, the kernel says.

use std::sync::Arc;

use axum::extract::State;
use axum::{Extension, Json};
use mcp_broker_proto::session::Status;

use super::Api;
use super::answer::Refusal;
use super::peer::Peer;
use crate::session::sign_in::os;

type Answer = Result<Json<Status>, Refusal>;

pub(super) async fn show(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    status(&api, &peer).await
}

pub(super) async fn sign_in(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    let config = Arc::clone(&api.config.borrow());
    let person = os::person(peer.uid).await?;
    api.sessions.sign_in(&person, &config)?;
    Ok(Json(api.sessions.status(&person)))
}

pub(super) async fn log_out(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    api.sessions.log_out(peer.uid).await?;
    status(&api, &peer).await
}

pub(super) async fn lock(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    api.sessions.lock_session(peer.by()).await?;
    status(&api, &peer).await
}

pub(super) async fn unlock(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    api.sessions.unlock_session(peer.by())?;
    status(&api, &peer).await
}

async fn status(api: &Api, peer: &Peer) -> Answer {
    let person = os::person(peer.uid).await?;
    Ok(Json(api.sessions.status(&person)))
}
