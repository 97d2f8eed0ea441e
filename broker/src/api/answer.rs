//! Answers as HTTP: JSON, or a problem of RFC 9457 with its status.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use mcp_broker_proto::problem::{ErrorCode, MEDIA_TYPE, Problem};

/// A [`Problem`] on its way out.
pub(super) struct Refusal(pub(super) Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Serialising a problem into memory cannot fail.
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, MEDIA_TYPE)], body).into_response()
    }
}

/// The answer to a path that is not a route.
pub(super) async fn no_such_route() -> Refusal {
    let hint = "use mcp-run and mcp-broker of the same version as the broker";
    Problem::new(ErrorCode::NotFound, "there is no such route", hint).into()
}

/// The answer to a body that cannot be understood.
pub(super) fn bad_request(what: &str) -> Refusal {
    let hint = "use mcp-run and mcp-broker of the same version as the broker";
    Problem::new(ErrorCode::BadRequest, what, hint).into()
}
