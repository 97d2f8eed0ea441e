//! `POST /v1/launches`: has the launch admitted, answers `101`, and hands the stream to the launch.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::problem::{ErrorCode, Problem};

use super::Api;
use super::answer::Refusal;
use super::channel;
use super::peer::Peer;
use crate::session::{PeerWatch, run};

/// A launch request is no longer than this: a name and a few arguments.
const MAX_REQUEST: usize = 64 * 1024;

pub(super) async fn open(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refusal> {
    let (upgrade, wanted) = channel::asked::<LaunchRequest>(request, "a launch", MAX_REQUEST).await?;

    let admitted = api.sessions.admit(peer.by(), &peer.caller(), wanted).await?;
    if !peer.alive() {
        api.sessions.never_began(admitted);
        let hint = "start the server again";
        return Err(Problem::new(ErrorCode::PeerGone, "the process that asked is gone", hint).into());
    }
    let sessions = Arc::clone(&api.sessions);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(stream) => run(sessions, admitted, Arc::new(peer), TokioIo::new(stream)).await,
            Err(error) => {
                tracing::info!(%error, "a launcher went away before its launch began");
                sessions.never_began(admitted);
            }
        }
    });
    Ok(channel::opened())
}
