//! `/v1/session`: the caller's own session. Whose it is, the kernel says.

use axum::extract::State;
use axum::{Extension, Json};
use mcp_broker_proto::session::Status;

use super::Api;
use super::answer::Refusal;
use super::peer::Peer;
use crate::session::Asking;

type Answer = Result<Json<Status>, Refusal>;

pub(super) async fn show(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    let asking = who(&api, &peer).await?;
    status(&api, &asking)
}

pub(super) async fn sign_in(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    let asking = who(&api, &peer).await?;
    api.sessions.sign_in(&asking).await?;
    status(&api, &asking)
}

pub(super) async fn log_out(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    let asking = who(&api, &peer).await?;
    api.sessions.log_out(&asking).await?;
    status(&api, &asking)
}

pub(super) async fn lock(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    let asking = who(&api, &peer).await?;
    api.sessions.lock_session(&asking).await?;
    status(&api, &asking)
}

pub(super) async fn unlock(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    let asking = who(&api, &peer).await?;
    api.sessions.unlock_session(&asking).await?;
    status(&api, &asking)
}

async fn who(api: &Api, peer: &Peer) -> Result<Asking, Refusal> {
    Ok(api.sessions.identify(peer.by(), &peer.caller()).await?)
}

fn status(api: &Api, asking: &Asking) -> Answer {
    Ok(Json(api.sessions.status(&asking.person, asking.login.as_deref())))
}
