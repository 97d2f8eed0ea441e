//! What a refusal of STS means and what cures it. Its text is searched for known words and numbers, and never
//! passed on: it can quote the request.

use aws_sdk_sts::config::http::HttpResponse;
use aws_sdk_sts::error::{ProvideErrorMetadata, SdkError};
use jiff::Timestamp;

use super::call::Call;
use crate::provider::{Blame, ProviderError};

/// A failed call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) error: ProviderError,
    /// Whether STS said no, so that nothing was made.
    pub(super) refused: bool,
}

/// About what a call was, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    /// The provider's name.
    pub(super) provider: &'a str,
    /// `None` for a look at the broker's own identity.
    pub(super) call: Option<Call>,
    /// When the answer came.
    pub(super) now: Timestamp,
}

/// The parts of a refusal that something is read from.
struct Reply<'a> {
    status: u16,
    code: &'a str,
    text: &'a str,
    date: Option<&'a str>,
}

/// Reads a failure of the SDK.
pub(super) fn of<E: ProvideErrorMetadata>(about: About<'_>, error: &SdkError<E, HttpResponse>) -> Failure {
    let name = about.provider;
    let raw = error.raw_response();
    let (what, hint) = match error {
        SdkError::ServiceError(service) => {
            let reply = Reply {
                status: raw.map_or(0, |raw| raw.status().as_u16()),
                code: service.err().code().unwrap_or(""),
                text: service.err().message().unwrap_or(""),
                date: raw.and_then(|raw| raw.headers().get("date")),
            };
            return refusal(about, &reply);
        }
        SdkError::TimeoutError(_) => ("did not answer in time", REACH),
        SdkError::DispatchFailure(failure) if failure.is_timeout() => ("did not answer in time", REACH),
        SdkError::DispatchFailure(failure) if failure.is_io() => ("cannot be reached", REACH),
        SdkError::DispatchFailure(_) => ("cannot be reached over TLS", REACH),
        SdkError::ResponseError(_) => {
            let what = format!("STS of provider `{name}` gave an answer that cannot be read");
            let hint = "check that `endpoint` is an STS, and that no proxy is in between";
            return Failure { error: ProviderError::new(Blame::Broken, what, hint), refused: false };
        }
        _ => {
            let what = format!("a request to STS of provider `{name}` could not be built");
            let hint = "check `region` and `endpoint`";
            return Failure { error: ProviderError::new(Blame::Config, what, hint), refused: true };
        }
    };
    let error = ProviderError::new(Blame::Unreachable, format!("STS of provider `{name}` {what}"), hint);
    Failure { error, refused: false }
}

const REACH: &str = "see whether the endpoint of its region can be reached from here";

fn refusal(about: About<'_>, reply: &Reply<'_>) -> Failure {
    let doing = about.call.map_or("get-caller-identity", Call::word);
    let (blame, what, hint) = meaning(about, reply);
    let what = format!("provider `{}`: {what} ({doing}, {})", about.provider, word(reply.code));
    let refused = (400..500).contains(&reply.status);
    Failure { error: ProviderError::new(blame, what, hint), refused }
}

type Meaning = (Blame, String, String);

fn meaning(about: About<'_>, reply: &Reply<'_>) -> Meaning {
    let says = |word: &str| reply.text.contains(word);
    let say = |(blame, what, hint): Known| (blame, what.to_owned(), hint.to_owned());
    match reply.code {
        "AccessDenied" | "AccessDeniedException" => denied(about.call, reply.text),
        "ValidationError" if says("MaxSessionDuration") || says("DurationSeconds") => duration(reply.text),
        "PackedPolicyTooLarge" | "PackedPolicyTooLargeException" => packed(reply.text),
        "ExpiredToken" | "ExpiredTokenException" if about.call == Some(Call::WebIdentity) => {
            say(EXPIRED_IDENTITY)
        }
        "RequestExpired" | "RequestTimeTooSkewed" => skewed(about.now, reply.date),
        "SignatureDoesNotMatch" | "InvalidSignatureException"
            if says("expired") || says("not yet current") =>
        {
            skewed(about.now, reply.date)
        }
        code => say(known(code).unwrap_or(if reply.status >= 500 { FAULT } else { REFUSED })),
    }
}

/// Who must act, what happened, what to do.
type Known = (Blame, &'static str, &'static str);

const EXPIRED_IDENTITY: Known =
    (Blame::Identity, "the web identity token has expired", "let whoever writes the token file renew it");
const FAULT: Known = (Blame::Busy(None), "STS has a fault of its own", "try again in a moment");
const REFUSED: Known = (
    Blame::Refused,
    "STS refused",
    "look the code up in the API reference of the call, and the request in CloudTrail",
);

/// Codes that say all by themselves.
fn known(code: &str) -> Option<Known> {
    Some(match code {
        "ValidationError" => (
            Blame::Config,
            "STS does not take one of the values",
            "compare the credential's keys with the API reference of the call",
        ),
        "MalformedPolicyDocument" | "MalformedPolicyDocumentException" => (
            Blame::Config,
            "STS does not understand the session policy",
            "check actions, resources and conditions; IAM's policy validator names the place",
        ),
        "ExpiredToken" | "ExpiredTokenException" => (
            Blame::Identity,
            "the broker's own keys have expired",
            "sign in again where they come from, or name a source that renews itself",
        ),
        "InvalidIdentityToken" | "InvalidIdentityTokenException" | "IDPRejectedClaim" => (
            Blame::Identity,
            "the web identity token is not accepted",
            "its issuer must be an identity provider of the account, and audience and subject must fit the trust \
             policy of the role",
        ),
        "IDPCommunicationError" | "IDPCommunicationErrorException" => (
            Blame::Busy(None),
            "STS cannot reach the identity provider that signed the token",
            "try again; if it stays, look at the identity provider",
        ),
        "RegionDisabled" | "RegionDisabledException" => (
            Blame::Config,
            "STS is not activated in this region for the account",
            "activate it in the account settings of IAM, or name another `region`",
        ),
        "SignatureDoesNotMatch"
        | "InvalidSignatureException"
        | "InvalidClientTokenId"
        | "UnrecognizedClientException"
        | "InvalidAccessKeyId"
        | "MissingAuthenticationToken"
        | "IncompleteSignature" => (
            Blame::Identity,
            "the broker's own keys are not accepted",
            "check `source`: keys that were deleted, or a secret that belongs to another key",
        ),
        code if code.contains("Throttl")
            || matches!(code, "RequestLimitExceeded" | "TooManyRequestsException") =>
        {
            (Blame::Busy(None), "STS asks to come back later", "try again in a moment")
        }
        _ => return None,
    })
}

fn denied(call: Option<Call>, text: &str) -> Meaning {
    let (what, hint) = if text.contains("sts:TagSession") {
        (
            "session tags are not allowed",
            "allow `sts:TagSession` in the trust policy of the role, and to the broker",
        )
    } else if text.contains("sts:SetSourceIdentity") {
        (
            "a source identity is not allowed",
            "allow `sts:SetSourceIdentity` in the trust policy of the role and to the broker, or write \
             `source_identity = \"\"`",
        )
    } else if matches!(call, Some(Call::AssumeRole | Call::WebIdentity)) {
        (
            "the role may not be assumed by the broker",
            "its trust policy must name the broker's identity, with the `external_id` if it asks for one, and with \
             `sts:TagSession` and `sts:SetSourceIdentity` where tags or a source identity are sent; a role that \
             does not exist looks the same",
        )
    } else {
        ("the broker's identity may not do this", "allow the call to it in IAM")
    };
    (Blame::Refused, what.to_owned(), hint.to_owned())
}

fn duration(text: &str) -> Meaning {
    let (what, hint) = if text.contains("chaining") {
        (
            "a role that is assumed with keys of another role lives one hour at most",
            "write a `ttl` of at most \"1h\", or give the broker keys that are no role's",
        )
    } else if text.contains("MaxSessionDuration") {
        (
            "the role does not allow so long a session",
            "write a shorter `ttl`, or raise the role's maximum session duration",
        )
    } else {
        (
            "STS does not allow so long or so short a session",
            "write a `ttl` between \"15m\" and what the role allows",
        )
    };
    (Blame::Config, what.to_owned(), hint.to_owned())
}

fn packed(text: &str) -> Meaning {
    let percent = text.split('%').next().and_then(|before| {
        let digits = before.trim_end();
        let start = digits.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        digits.get(start..)?.parse::<u32>().ok()
    });
    let size = percent.map_or(String::new(), |percent| format!(", at {percent} % of what STS takes"));
    let what = format!("session policy and tags are too large when packed{size}");
    let hint = "STS packs policies and tags into a form of its own with a limit of its own: shorten the policy, send \
        fewer tags, or put the policy into a managed one and name it in `policy_arns`";
    (Blame::Config, what, hint.to_owned())
}

fn skewed(now: Timestamp, date: Option<&str>) -> Meaning {
    let there = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()).map(|zoned| zoned.timestamp());
    let off = there.map(|there| now.as_second() - there.as_second());
    let what = match off {
        Some(off) if off < 0 => format!("this machine's clock is {} s behind that of STS", -off),
        Some(off) if off > 0 => format!("this machine's clock is {off} s ahead of that of STS"),
        _ => "this machine's clock differs from that of STS".to_owned(),
    };
    (Blame::Config, what, "set the clock, and let a time service keep it".to_owned())
}

/// The code, where it is a word as the API reference has them.
fn word(code: &str) -> &str {
    let sound =
        (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'.');
    if sound { code } else { "no code" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(call: Call, status: u16, code: &str, text: &str, want: (Blame, &str)) {
        let now = "2026-03-01T10:10:00Z".parse().unwrap_or_default();
        let about = About { provider: "aws", call: Some(call), now };
        let date = Some("Sun, 01 Mar 2026 10:00:00 GMT");
        let failure = refusal(about, &Reply { status, code, text, date });
        let shown = format!("{}; {}", failure.error.what, failure.error.hint);
        assert_eq!(failure.error.blame, want.0, "{shown}");
        assert!(shown.contains(want.1), "{shown}");
        assert!(!shown.contains("CANARY"), "{shown}");
        assert_eq!(failure.refused, status < 500);
    }

    #[test]
    fn refusals() {
        use Call::{AssumeRole, SessionToken, WebIdentity};
        for (call, status, code, text, blame, want) in [
            (
                AssumeRole,
                403,
                "AccessDenied",
                "not authorized to perform: sts:AssumeRole CANARY",
                Blame::Refused,
                "trust policy",
            ),
            (AssumeRole, 403, "AccessDenied", "perform: sts:TagSession on", Blame::Refused, "session tags"),
            (
                AssumeRole,
                403,
                "AccessDenied",
                "perform: sts:SetSourceIdentity on",
                Blame::Refused,
                "source identity is",
            ),
            (SessionToken, 403, "AccessDenied", "", Blame::Refused, "may not do this"),
            (
                AssumeRole,
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.",
                Blame::Config,
                "raise the role's maximum",
            ),
            (
                AssumeRole,
                400,
                "ValidationError",
                "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.",
                Blame::Config,
                "one hour at most",
            ),
            (
                AssumeRole,
                400,
                "PackedPolicyTooLarge",
                "Packed size: 113% of CANARY",
                Blame::Config,
                "at 113 % of",
            ),
            (AssumeRole, 400, "MalformedPolicyDocument", "CANARY", Blame::Config, "session policy"),
            (AssumeRole, 400, "ExpiredToken", "", Blame::Identity, "own keys have expired"),
            (
                WebIdentity,
                400,
                "ExpiredTokenException",
                "",
                Blame::Identity,
                "web identity token has expired",
            ),
            (WebIdentity, 400, "InvalidIdentityToken", "", Blame::Identity, "not accepted"),
            (AssumeRole, 403, "RegionDisabled", "", Blame::Config, "not activated"),
            (AssumeRole, 403, "RegionDisabledException", "CANARY", Blame::Config, "not activated"),
            (
                AssumeRole,
                403,
                "SignatureDoesNotMatch",
                "Signature expired: 2026 is now earlier than",
                Blame::Config,
                "600 s ahead",
            ),
            (
                AssumeRole,
                403,
                "SignatureDoesNotMatch",
                "The request signature",
                Blame::Identity,
                "own keys are not accepted",
            ),
            (AssumeRole, 400, "Throttling", "Rate exceeded", Blame::Busy(None), "come back later"),
            (AssumeRole, 500, "InternalFailure", "", Blame::Busy(None), "fault of its own"),
            (AssumeRole, 400, "x CANARY", "CANARY", Blame::Refused, "no code"),
        ] {
            check(call, status, code, text, (blame, want));
        }
    }
}
