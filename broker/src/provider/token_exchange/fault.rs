//! What a refusal means and how it is cured (RFC 6749 section 5.2, RFC 7009 section 2.2.1, RFC 8693 section 2.2.2,
//! RFC 8707 section 2). Looks at the code alone: what else the server writes may quote a secret.

use serde::Deserialize;

use super::TokenExchange;
use crate::provider::http::Answer;
use crate::provider::{Blame, ProviderError};

#[derive(Deserialize)]
struct Refusal {
    error: String,
}

type Told = (Blame, &'static str, &'static str);

/// Whether the server says with this answer that it did not do it.
pub(super) fn is_refusal(answer: &Answer) -> bool {
    (300..500).contains(&answer.status)
}

/// Whether the server cannot revoke tokens of this form (RFC 7009 section 2.2.1).
pub(super) fn is_not_revocable(answer: &Answer) -> bool {
    let told = answer.json().is_some_and(|Refusal { error }| error == "unsupported_token_type");
    answer.status == 400 && told
}

impl TokenExchange {
    pub(super) fn refusal(&self, answer: &Answer, exchanges: bool) -> ProviderError {
        let code = answer.json().map(|Refusal { error }| error).unwrap_or_default();
        let told = by_code(&code, exchanges).map(|told| (told, code.as_str()));
        let ((blame, what, hint), code) = told.unwrap_or((by_status(answer.status), ""));
        let what = match code {
            "" => format!("{what} (status {})", answer.status),
            code => format!("{what} (`{code}`)"),
        };
        self.http.error(blame, &what, hint)
    }
}

fn by_code(code: &str, exchanges: bool) -> Option<Told> {
    Some(match code {
        "invalid_client" => (
            Blame::Identity,
            "does not accept the broker as its client",
            "check `client_id`, the secret or key, and that `token_endpoint_auth_method` is the registered one",
        ),
        "invalid_scope" => (
            Blame::Refused,
            "does not give such a scope",
            "write a `scope` that the server knows and that this client may have",
        ),
        "invalid_target" => (
            Blame::Refused,
            "does not give tokens for this target",
            "check `audience` and `resource`, and that this client may have tokens for them",
        ),
        "invalid_grant" if exchanges => (
            Blame::Refused,
            "does not accept the token that was shown",
            "see that `subject_token` is not expired, that the server trusts its issuer, and that its audience is right",
        ),
        // Also what RFC 8693 section 2.2.2 wants for a subject or actor token that is not good.
        "invalid_request" if exchanges => (
            Blame::Refused,
            "does not accept the exchange, or the token that was shown",
            "see that `subject_token` is good for this server, and that its type and the other keys are right",
        ),
        "invalid_grant" | "invalid_request" => (
            Blame::Refused,
            "does not accept the request",
            "compare the keys of the credential with the server's documentation",
        ),
        "unauthorized_client" => (
            Blame::Refused,
            "does not let this client use this grant",
            "allow the `grant_type` in the client's registration",
        ),
        "unsupported_grant_type" => (
            Blame::Config,
            "does not know this grant",
            "choose another `grant_type`, or switch it on at the server",
        ),
        "temporarily_unavailable" | "server_error" => {
            (Blame::Unreachable, "has trouble of its own", "try again; see its status page")
        }
        "slow_down" => (Blame::Busy(None), "asks to come back later", "wait"),
        _ => return None,
    })
}

fn by_status(status: u16) -> Told {
    match status {
        401 => (
            Blame::Identity,
            "does not accept the broker as its client",
            "check `client_id`, the secret or key, and `token_endpoint_auth_method`",
        ),
        403 => (Blame::Refused, "does not allow it", "see what the client is registered for"),
        404 | 405 => (Blame::Config, "has no such endpoint", "check `issuer`, or the endpoints"),
        500.. => (Blame::Unreachable, "has trouble of its own", "try again; see its status page"),
        _ => (Blame::Broken, "gave an answer that is not understood", "check `issuer`, or the endpoints"),
    }
}
