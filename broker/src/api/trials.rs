//! `POST /v1/admin/trials`: has the trial admitted, answers `101`, and hands the stream to the trial.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::Response;
use hyper_util::rt::TokioIo;
use mcp_broker_proto::approval::TrialRequest;

use super::Api;
use super::answer::Refusal;
use super::channel;
use super::peer::Peer;
use crate::session::run_trial;

/// A request is no longer than this: two names.
const MAX_REQUEST: usize = 4096;

pub(super) async fn open(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Refusal> {
    let (upgrade, wanted) = channel::asked::<TrialRequest>(request, "a trial", MAX_REQUEST).await?;

    let admitted = api.sessions.admit_trial(peer.by(), &wanted).await?;
    let sessions = Arc::clone(&api.sessions);
    tokio::spawn(async move {
        match upgrade.await {
            Ok(stream) => run_trial(sessions, admitted, Arc::new(peer), TokioIo::new(stream)).await,
            Err(error) => {
                tracing::info!(%error, "an admin went away before the trial began");
                sessions.trial_never_began(admitted);
            }
        }
    });
    Ok(channel::opened())
}
