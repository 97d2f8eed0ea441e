//! `POST /v1/admin/trials`: parses, has the trial admitted, answers `101`, and hands the stream to the trial.

use std::sync::Arc;

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mcp_broker_proto::PROTOCOL;
use mcp_broker_proto::approval::TrialRequest;
use mcp_broker_proto::paths::UPGRADE;

use super::Api;
use super::answer::{Refusal, bad_request};
use super::launch::asks_for_channel;
use super::peer::Peer;
use crate::session::run_trial;

/// A request is no longer than this: two names.
const MAX_REQUEST: usize = 4096;

pub(super) async fn open(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Result<Response, Refusal> {
    if !asks_for_channel(request.headers()) {
        return Err(bad_request("a trial needs the launch channel"));
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| bad_request("this connection cannot become a launch channel"))?;
    let body = to_bytes(request.into_body(), MAX_REQUEST).await;
    let body = body.map_err(|_too_long| bad_request("the request for a trial is too long"))?;
    let wanted = serde_json::from_slice::<TrialRequest>(&body).ok();
    let wanted = wanted.filter(|wanted| wanted.protocol == PROTOCOL);
    let wanted = wanted.ok_or_else(|| bad_request("the request for a trial cannot be understood"))?;

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
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}
