//! Why a desk does not answer: each with its status, a code and words that an SDK shows to people.

use serde_json::json;

/// A refusal. None of them makes an SDK look elsewhere: it asked here, and here is no credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not HTTP, or not in the one way that it is understood here.
    Malformed,
    /// Came through a proxy or a browser.
    Forwarded,
    /// For another host.
    Misdirected,
    /// Not a `GET`.
    Method,
    /// Nothing has this path.
    Unknown,
    /// Without the token, or with another one.
    Token,
    /// Not of the server's process tree.
    Stranger,
    /// It took too long to ask.
    Slow,
    /// The credential has ended, and no other has come.
    Ended,
    /// The launch is locked, parked or over.
    Withheld,
}

impl Refusal {
    /// The status line's code and words (RFC 9110 section 15).
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Malformed | Self::Forwarded => "400 Bad Request",
            Self::Misdirected => "421 Misdirected Request",
            Self::Method => "405 Method Not Allowed",
            Self::Unknown => "404 Not Found",
            Self::Token => "401 Unauthorized",
            Self::Stranger | Self::Withheld => "403 Forbidden",
            Self::Ended => "503 Service Unavailable",
            Self::Slow => "408 Request Timeout",
        }
    }

    /// For programs.
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Malformed => "MalformedRequest",
            Self::Forwarded => "ForwardedRequest",
            Self::Misdirected => "WrongHost",
            Self::Method => "MethodNotAllowed",
            Self::Unknown => "NotFound",
            Self::Token => "WrongToken",
            Self::Stranger => "NotOfThisServer",
            Self::Slow => "RequestTimeout",
            Self::Ended => "CredentialEnded",
            Self::Withheld => "CredentialWithheld",
        }
    }

    /// What happened, and what to do.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Malformed => ("the request cannot be understood", "ask as an AWS SDK does"),
            Self::Forwarded => (
                "the request came through a proxy or a browser",
                "ask from the server itself, without a proxy",
            ),
            Self::Misdirected => ("the request is for another host", "ask at the address in the variable"),
            Self::Method => ("only GET is answered here", "ask as an AWS SDK does"),
            Self::Unknown => ("there is nothing at this path", "ask at the address in the variable"),
            Self::Token => {
                ("the authorization token is wrong or missing", "take it from the file in the variable")
            }
            Self::Stranger => (
                "this credential is only for the MCP server that it was minted for, and its children",
                "start the program from that server, or ask for a server of its own",
            ),
            Self::Slow => ("the request took too long", "ask again"),
            Self::Ended => (
                "the credential has ended and no new one could be minted yet",
                "try again in a minute; if it stays so, run `mcp-run doctor`",
            ),
            Self::Withheld => (
                "the credential is withheld: the session is locked or the launch is over",
                "see `mcp-run status`",
            ),
        }
    }

    /// What is in the answer: `message` alone where only that is shown.
    pub(super) fn body(self, hint_apart: bool) -> Vec<u8> {
        let (what, hint) = self.words();
        let body = match hint_apart {
            true => json!({ "code": self.code(), "message": what, "hint": hint }),
            false => json!({ "code": self.code(), "message": format!("{what}; {hint}") }),
        };
        body.to_string().into_bytes()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn every_refusal_is_an_error_with_a_cure() {
        use Refusal::{
            Ended, Forwarded, Malformed, Method, Misdirected, Slow, Stranger, Token, Unknown, Withheld,
        };
        let all =
            [Malformed, Forwarded, Misdirected, Method, Unknown, Token, Stranger, Slow, Ended, Withheld];
        for refusal in all {
            assert!(refusal.status().starts_with(['4', '5']), "{refusal:?}");
            let told: Value = serde_json::from_slice(&refusal.body(false)).unwrap();
            assert_eq!(told["code"], refusal.code());
            let apart: Value = serde_json::from_slice(&refusal.body(true)).unwrap();
            let (what, hint) = (apart["message"].as_str().unwrap(), apart["hint"].as_str().unwrap());
            assert_eq!(told["message"], format!("{what}; {hint}"));
            assert!(!what.ends_with('.') && !hint.is_empty(), "{refusal:?}");
        }
    }
}
