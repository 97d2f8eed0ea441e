//! `/v1/session`: the caller's own session. Whose it is, the kernel says.

use axum::extract::State;
use axum::{Extension, Json};
use mcp_broker_proto::problem::ErrorCode;
use mcp_broker_proto::session::Status;

use super::Api;
use super::answer::Refusal;
use super::peer::Peer;
use crate::session::Asking;
use crate::session::sign_in::os;

type Answer = Result<Json<Status>, Refusal>;

pub(super) async fn show(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    match who(&api, &peer).await? {
        Some(asking) => status(&api, &asking),
        None => account(&api, &peer).await,
    }
}

pub(super) async fn sign_in(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    let asking = api.sessions.identify(peer.by(), &peer.caller()).await?;
    api.sessions.sign_in(&asking).await?;
    status(&api, &asking)
}

pub(super) async fn log_out(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    if let Some(asking) = who(&api, &peer).await? {
        api.sessions.log_out(&asking).await?;
        return status(&api, &asking);
    }
    api.sessions.log_out_account(peer.uid).await;
    account(&api, &peer).await
}

pub(super) async fn lock(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    if let Some(asking) = who(&api, &peer).await? {
        api.sessions.lock_session(&asking).await?;
        return status(&api, &asking);
    }
    api.sessions.lock_account(&peer.by()).await;
    account(&api, &peer).await
}

pub(super) async fn unlock(State(api): State<Api>, Extension(peer): Extension<Peer>) -> Answer {
    let asking = api.sessions.identify(peer.by(), &peer.caller()).await?;
    api.sessions.unlock_session(&asking).await?;
    status(&api, &asking)
}

/// Who asks; `None` while login sessions cannot be seen. What ends or locks then is meant for the whole account,
/// as that errs on the safe side.
async fn who(api: &Api, peer: &Peer) -> Result<Option<Asking>, Refusal> {
    match api.sessions.identify(peer.by(), &peer.caller()).await {
        Ok(asking) => Ok(Some(asking)),
        Err(problem) if problem.code == ErrorCode::LoginsUnseen => Ok(None),
        Err(problem) => Err(problem.into()),
    }
}

fn status(api: &Api, asking: &Asking) -> Answer {
    Ok(Json(api.sessions.status(&asking.person, asking.login.as_deref())))
}

async fn account(api: &Api, peer: &Peer) -> Answer {
    let person = os::person(peer.uid).await?;
    Ok(Json(api.sessions.status(&person, None)))
}
