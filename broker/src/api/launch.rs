//! `POST /v1/launches`: parses, has the launch admitted, answers `101`, and hands the stream to the launch.

use std::sync::Arc;

use axum::Extension;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use mcp_broker_proto::PROTOCOL;
use mcp_broker_proto::launch::LaunchRequest;
use mcp_broker_proto::paths::UPGRADE;
use mcp_broker_proto::problem::{ErrorCode, Problem};

use super::Api;
use super::answer::{Refusal, bad_request};
use super::peer::Peer;
use crate::session::{PeerWatch, run};

/// A launch request is no longer than this: a name and a few arguments.
const MAX_REQUEST: usize = 64 * 1024;

pub(super) async fn open(
    State(api): State<Api>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Result<Response, Refusal> {
    if !asks_for_channel(request.headers()) {
        return Err(bad_request("a launch needs the launch channel"));
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| bad_request("this connection cannot become a launch channel"))?;
    let body = to_bytes(request.into_body(), MAX_REQUEST).await;
    let body = body.map_err(|_too_long| bad_request("the launch request is too long"))?;
    let wanted = parse(&body)?;

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
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

pub(super) fn asks_for_channel(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes() == UPGRADE.as_bytes())
}

fn parse(body: &[u8]) -> Result<LaunchRequest, Refusal> {
    #[derive(serde::Deserialize)]
    struct Version {
        protocol: u32,
    }
    // The revision first, so that a launcher of another one is told so and not that its body is wrong.
    let version = serde_json::from_slice::<Version>(body);
    let version = version.map_err(|_malformed| bad_request("the launch request cannot be understood"))?;
    if version.protocol != PROTOCOL {
        let title = format!("the launcher speaks revision {}, the broker {PROTOCOL}", version.protocol);
        let hint = "install mcp-run and mcp-broker of the same version";
        return Err(Problem::new(ErrorCode::ProtocolVersion, title, hint).into());
    }
    serde_json::from_slice(body).map_err(|_malformed| bad_request("the launch request cannot be understood"))
}
