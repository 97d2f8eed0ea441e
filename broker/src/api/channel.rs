//! How a request becomes a channel: the upgrade it asks for, its body, and the `101` that answers it (RFC 9110
//! sections 7.8 and 15.2.2). Launches and trials are both asked for so.

use axum::body::{Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::upgrade::OnUpgrade;
use mcp_broker_proto::PROTOCOL;
use mcp_broker_proto::paths::UPGRADE;
use mcp_broker_proto::problem::{ErrorCode, Problem};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::answer::{Refusal, bad_request};

/// The connection to be, and what is asked for; `what` names it, as in "a launch".
pub(super) async fn asked<T: DeserializeOwned>(
    mut request: Request,
    what: &str,
    most: usize,
) -> Result<(OnUpgrade, T), Refusal> {
    if !is_asked_for(request.headers()) {
        return Err(bad_request(&format!("{what} needs the launch channel")));
    }
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let upgrade = upgrade.ok_or_else(|| bad_request("this connection cannot become a launch channel"))?;
    let body = to_bytes(request.into_body(), most).await;
    let body = body.map_err(|_too_long| bad_request(&format!("the request for {what} is too long")))?;
    Ok((upgrade, parse(&body, what)?))
}

/// The answer that makes the connection a channel.
pub(super) fn opened() -> Response {
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
}

pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes() == UPGRADE.as_bytes())
}

fn parse<T: DeserializeOwned>(body: &Bytes, what: &str) -> Result<T, Refusal> {
    #[derive(Deserialize)]
    struct Version {
        protocol: u32,
    }
    let odd = || bad_request(&format!("the request for {what} cannot be understood"));
    // The revision first, so that a launcher of another one is told so and not that its body is wrong.
    let version = serde_json::from_slice::<Version>(body).map_err(|_malformed| odd())?;
    if version.protocol != PROTOCOL {
        let title = format!("the launcher speaks revision {}, the broker {PROTOCOL}", version.protocol);
        let hint = "install mcp-run and mcp-broker of the same version";
        return Err(Problem::new(ErrorCode::ProtocolVersion, title, hint).into());
    }
    serde_json::from_slice(body).map_err(|_malformed| odd())
}
