//! From what went wrong on the way to a server, or in its answer, to who must act and how. Looks at status
//! codes and at a few known words of the server; none of its text gets into an error.

use std::time::Duration;

use crate::provider::{Blame, ProviderError};

/// What went wrong before there was an answer that could be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("too many requests are waiting")]
    Queue,
    #[error("no answer in time")]
    Timeout,
    #[error("no connection")]
    Connect,
    #[error("certificate not accepted")]
    Certificate,
    #[error("connection lost")]
    Lost,
    #[error("answer too large")]
    TooLarge,
    #[error("told to come back later")]
    Later(Duration),
    #[error("request cannot be built")]
    Request,
    #[error("not wrapped as asked for")]
    NotWrapped,
    #[error("wrapped answer was opened before")]
    Opened,
}

impl Fault {
    /// Whether the server may be working on the request still.
    pub(super) fn leaves_it_running(self) -> bool {
        matches!(self, Self::Timeout | Self::Lost | Self::TooLarge)
    }
}

/// Whether a status comes from something in between that gave up waiting (RFC 9110 sections 15.6.3 and 15.6.5),
/// and so says nothing about what the server makes of the request.
pub(super) fn is_from_between(status: u16) -> bool {
    matches!(status, 502 | 504)
}

/// What a refusal of the server is about, as far as that can be told from its words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    /// `Vault is sealed` (503).
    Sealed,
    /// The server knows no such lease (400 from `sys/leases/lookup` and `renew`).
    NoSuchLease,
    /// The server knows no such accessor (400 or 403 from `auth/token/lookup-accessor`).
    NoSuchAccessor,
    /// The lease cannot be renewed (400).
    NotRenewable,
    /// No secrets engine or auth method is mounted there (404).
    NoRoute,
    /// The server knows no such wrapping token: it was opened before, or has ended (400).
    NoSuchWrapping,
    /// Anything else, or nothing that could be read.
    Other,
}

impl Complaint {
    /// Reads `{"errors": […]}`.
    pub(super) fn of(body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Errors {
            errors: Vec<String>,
        }
        let Ok(Errors { errors }) = serde_json::from_slice(body) else { return Self::Other };
        let known = [
            ("Vault is sealed", Self::Sealed),
            ("invalid lease", Self::NoSuchLease),
            ("lease not found", Self::NoSuchLease),
            ("invalid accessor", Self::NoSuchAccessor),
            ("lease is not renewable", Self::NotRenewable),
            ("no handler for route", Self::NoRoute),
            ("wrapping token is not valid", Self::NoSuchWrapping),
        ];
        let has = |words: &str| errors.iter().any(|error| error.contains(words));
        known.iter().find(|(words, _)| has(words)).map_or(Self::Other, |(_, complaint)| *complaint)
    }
}

/// Names a server in messages.
#[derive(Debug, Clone)]
pub(super) struct ServerName {
    /// The provider's name in the configuration.
    pub(super) provider: String,
    /// Its address.
    pub(super) address: String,
}

impl ServerName {
    /// An error about this server; `what` goes on from its name.
    pub(super) fn error(&self, blame: Blame, what: &str, hint: impl Into<String>) -> ProviderError {
        ProviderError::new(blame, format!("provider `{}` {what}", self.provider), hint)
    }

    /// There was no answer.
    pub(super) fn fault(&self, fault: Fault) -> ProviderError {
        let address = &self.address;
        match fault {
            Fault::Queue => self.error(
                Blame::Busy(None),
                "has too many requests waiting for it",
                "try again in a few seconds; if it stays so, look at the load of the server",
            ),
            Fault::Timeout => self.error(
                Blame::Unreachable,
                &format!("did not answer in time at {address}"),
                "check that the server is up and not overloaded; `mcp-run doctor` tries it again",
            ),
            Fault::Connect | Fault::Lost => self.error(
                Blame::Unreachable,
                &format!("cannot be reached at {address}"),
                "check the network, that the server is up, and `address`",
            ),
            Fault::Certificate => self.error(
                Blame::Config,
                &format!("has a certificate that is not accepted, at {address}"),
                "set `ca_file` to the authority that issued it, and use the name that it was issued for",
            ),
            Fault::TooLarge => self.error(
                Blame::Broken,
                "sent an answer larger than 1 MiB",
                "check that `address` is an OpenBao or Vault server and the path holds one secret",
            ),
            Fault::Later(wait) => self.error(
                Blame::Busy(Some(wait)),
                &format!("asks to come back in {} s", wait.as_secs()),
                "wait; if it stays so, raise the server's rate limit quota for the broker",
            ),
            Fault::NotWrapped => self.error(
                Blame::Broken,
                "did not wrap a credential as it was asked to, or wrapped something else",
                "check what stands between the broker and the server: it may have exchanged the answer",
            ),
            Fault::Opened => self.error(
                Blame::Incident,
                "handed out a wrapped credential that somebody had opened before the broker: it is revoked",
                "take this for an intrusion: somebody between the broker and the server reads along; look for \
                 `sys/wrapping/unwrap` in the server's audit log",
            ),
            Fault::Request => self.error(
                Blame::Config,
                "cannot be asked: the request cannot be built",
                "check `address` and `namespace`",
            ),
        }
    }

    /// The answer was a refusal; `doing` says what was asked, such as ``reading `a/b` ``, and `cure` what
    /// helps where the server refuses just that.
    pub(super) fn refusal(
        &self,
        status: u16,
        complaint: Complaint,
        doing: &str,
        cure: &str,
    ) -> ProviderError {
        let said = |what: &str| format!("{what} {doing} (status {status})");
        match (status, complaint) {
            (503, Complaint::Sealed) => {
                self.error(Blame::Unreachable, "is sealed", "unseal it: `bao operator unseal`")
            }
            (404, Complaint::NoRoute) => {
                self.error(Blame::Config, &said("has nothing mounted where it was asked for"), cure)
            }
            (300..=399, _) => self.error(
                Blame::Config,
                &said("answered with a redirect, which is not followed,"),
                "set `address` to the active node or to a load balancer that picks it",
            ),
            (429, _) => self.error(
                Blame::Busy(None),
                "asks to come back later",
                "wait; if it stays so, raise the server's rate limit quota for the broker",
            ),
            (400..=499, _) => self.error(Blame::Refused, &said("refused"), cure),
            (502..=504, _) => self.error(
                Blame::Unreachable,
                &said("could not serve"),
                "check the server's own health and what stands in front of it",
            ),
            _ => self.error(Blame::Broken, &said("failed at"), "look into the server's log for the reason"),
        }
    }

    /// The answer could not be read.
    pub(super) fn unreadable(&self, doing: &str) -> ProviderError {
        self.error(
            Blame::Broken,
            &format!("sent an answer that cannot be used to {doing}"),
            "check that `address` is an OpenBao or Vault server, and what stands in front of it",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_words_are_told_apart() {
        let table: &[(&str, Complaint)] = &[
            (r#"{"errors":["Vault is sealed"]}"#, Complaint::Sealed),
            (r#"{"errors":["invalid lease"]}"#, Complaint::NoSuchLease),
            (r#"{"errors":["lease not found"]}"#, Complaint::NoSuchLease),
            ("{\"errors\":[\"1 error occurred:\\n\\t* invalid accessor\\n\\n\"]}", Complaint::NoSuchAccessor),
            (r#"{"errors":["permission denied"]}"#, Complaint::Other),
            (r#"{"errors":[]}"#, Complaint::Other),
            (r#"invalid accessor"#, Complaint::Other),
            ("", Complaint::Other),
        ];
        for (body, want) in table {
            assert_eq!(Complaint::of(body.as_bytes()), *want, "{body}");
        }
    }

    #[test]
    fn blame_follows_the_status() {
        let server = ServerName { provider: "bao".into(), address: "https://bao".into() };
        let table = [
            (503, Complaint::Sealed, Blame::Unreachable),
            (503, Complaint::Other, Blame::Unreachable),
            (404, Complaint::NoRoute, Blame::Config),
            (307, Complaint::Other, Blame::Config),
            (429, Complaint::Other, Blame::Busy(None)),
            (403, Complaint::Other, Blame::Refused),
            (500, Complaint::Other, Blame::Broken),
        ];
        for (status, complaint, want) in table {
            assert_eq!(server.refusal(status, complaint, "asking", "cure").blame, want, "{status}");
        }
    }
}
