//! What the server answers with a token (RFC 6749 section 5.1, RFC 8693 section 2.2.1) or says of one (RFC 7662
//! section 2.2), and whether it is what was asked for. Pure.

use std::collections::BTreeSet;
use std::time::Duration;

use mcp_broker_proto::Secret;
use serde::Deserialize;
use serde_json::Value;

use super::credential::{ACCESS_TOKEN, Credential, Grant, JWT};
use crate::provider::Blame;

/// A longer token is refused.
const LONGEST_TOKEN: usize = 16 << 10;

/// An answer. Whatever is wrong beside the token does not keep the token from being read: it is to be revoked then.
#[derive(Deserialize)]
pub(super) struct Given {
    pub(super) access_token: Secret,
    pub(super) refresh_token: Option<Secret>,
    #[serde(default)]
    token_type: Value,
    #[serde(default)]
    issued_token_type: Value,
    #[serde(default)]
    expires_in: Value,
    #[serde(default)]
    scope: Value,
}

/// What makes a token unusable: who must act, what happened, and the cure.
pub(super) type Fault = (Blame, &'static str, &'static str);

/// What remains of an answer once the token is kept.
pub(super) struct Terms {
    /// Where it is told.
    pub(super) life: Option<Duration>,
    /// The words of its scope, where the answer has them.
    pub(super) scope: Option<String>,
}

impl Given {
    /// The terms, where they are no more than what was asked for.
    pub(super) fn terms(&self, asked: &Credential) -> Result<Terms, Fault> {
        // EXPOSE: looked at here and now.
        if !self.access_token.expose(is_token) {
            return Err((Blame::Broken, "gave a token with something in it that no token has", CHECK));
        }
        // `N_A` is for what is not an access token (RFC 8693 section 2.2.1); others need a key with each request.
        if !self.token_type.as_str().is_some_and(|word| word.eq_ignore_ascii_case("Bearer")) {
            let hint = "register the client for bearer tokens, without DPoP or certificates";
            return Err((Blame::Refused, "gave a token that is not a bearer token", hint));
        }
        self.check_type(asked)?;
        let scope = match &self.scope {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            _ => return Err((Blame::Broken, "tells its scope in a way that is not understood", CHECK)),
        };
        if scope.as_ref().is_some_and(|scope| is_wider(&asked.scopes, scope)) {
            return Err(WIDER);
        }
        Ok(Terms { life: self.life()?, scope })
    }

    fn check_type(&self, asked: &Credential) -> Result<(), Fault> {
        let Grant::Exchange(exchange) = &asked.grant else { return Ok(()) };
        let given = self.issued_token_type.as_str().unwrap_or("");
        // A token that was asked for as an access token may be told to be a JWT, and the other way round.
        if [ACCESS_TOKEN, JWT].contains(&given) && exchange.requested.as_deref().is_none_or(|it| it == given)
        {
            return Ok(());
        }
        let hint = "write the `requested_token_type` that the server gives: `access_token` or `jwt`";
        Err((Blame::Refused, "gave a token of another type than was asked for", hint))
    }

    fn life(&self) -> Result<Option<Duration>, Fault> {
        let seconds = match &self.expires_in {
            Value::Null => return Ok(None),
            Value::Number(number) => number.as_u64(),
            // Against the standard, and seen.
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match seconds {
            Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
            None => Err((Blame::Broken, "tells the life of a token in a way that is not understood", CHECK)),
        }
    }
}

/// What introspection says of a token.
#[derive(Deserialize)]
pub(super) struct Look {
    pub(super) active: bool,
    #[serde(default)]
    exp: Value,
    #[serde(default)]
    scope: Value,
}

impl Look {
    /// Its end, in seconds since 1970.
    pub(super) fn ends(&self) -> Option<i64> {
        self.exp.as_i64()
    }

    /// The words of its scope, where it tells them.
    pub(super) fn scope(&self) -> Option<&str> {
        self.scope.as_str()
    }

    /// Whether it says that the token may more than was asked for.
    pub(super) fn is_wider(&self, asked: &Credential) -> bool {
        self.scope().is_some_and(|scope| is_wider(&asked.scopes, scope))
    }
}

/// Whether the server gave less than was asked for, as it may (RFC 6749 section 3.3).
pub(super) fn is_narrower(asked: &BTreeSet<String>, given: &str) -> bool {
    asked.iter().any(|word| !given.split_ascii_whitespace().any(|given| given == word))
}

pub(super) const WIDER: Fault = (
    Blame::Refused,
    "gave a scope that was not asked for",
    "nothing was handed out, and the token is revoked where the server can; look at the client's registration",
);

const CHECK: &str = "check the endpoints, and what the server is";

/// Whether the server gave more than was asked for. Who asks for no scope takes the default (RFC 6749 section 3.3).
fn is_wider(asked: &BTreeSet<String>, given: &str) -> bool {
    !asked.is_empty() && given.split_ascii_whitespace().any(|word| !asked.contains(word))
}

/// VSCHAR without the space (RFC 6749 appendix A.12): it is to fit into a header.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_TOKEN && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether it has the form of a JWS or JWE (RFC 7519 section 3), which a resource server can check by itself.
pub(super) fn is_jwt(token: &str) -> bool {
    let parts: Vec<_> = token.split('.').collect();
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let header = parts.first().is_some_and(|header| !header.is_empty());
    header && [3, 5].contains(&parts.len()) && parts.iter().all(|part| part.bytes().all(plain))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::credential::{Exchange, From, Shown};
    use super::*;
    use crate::provider::Source;

    fn asked(scopes: &[&str], exchange: Option<Option<&str>>) -> Credential {
        let grant = match exchange {
            None => Grant::ClientCredentials,
            Some(requested) => Grant::Exchange(Box::new(Exchange {
                subject: Shown { from: From::Kept(Source::File("/x".into())), kind: JWT.to_owned() },
                actor: None,
                requested: requested.map(str::to_owned),
            })),
        };
        let scopes = scopes.iter().map(|&word| word.to_owned()).collect();
        Credential { grant, scopes, audience: None, resource: None }
    }

    fn terms(asked: &Credential, rest: &str) -> Result<Terms, Fault> {
        let text = format!(r#"{{"access_token":"abc"{rest}}}"#);
        serde_json::from_str::<Given>(&text).unwrap().terms(asked)
    }

    #[test]
    fn scopes_are_compared_word_by_word() {
        for (scopes, given, good) in [
            (&["a", "b"][..], r#","scope":"b a""#, true),
            (&["a", "b"], r#","scope":"a""#, true),
            (&["a", "b"], r#","scope":"""#, true),
            (&["a", "b"], "", true),
            (&["a", "b"], r#","scope":"a b c""#, false),
            (&["a", "b"], r#","scope":"A""#, false),
            (&["a:read"], r#","scope":"a""#, false),
            (&["a"], r#","scope":["a"]"#, false),
            (&[], r#","scope":"whatever""#, true),
        ] {
            let bearer = format!(r#","token_type":"bearer"{given}"#);
            assert_eq!(terms(&asked(scopes, None), &bearer).is_ok(), good, "{scopes:?} {given}");
        }
        for (given, narrower) in [("a b", false), ("b a c", false), ("a", true), ("", true), ("a bb", true)] {
            assert_eq!(is_narrower(&asked(&["a", "b"], None).scopes, given), narrower, "{given}");
        }
    }

    #[test]
    fn lives_are_whole_seconds() {
        for (given, want) in [
            ("", Ok(None)),
            (r#","expires_in":null"#, Ok(None)),
            (r#","expires_in":60"#, Ok(Some(60))),
            (r#","expires_in":"60""#, Ok(Some(60))),
            (r#","expires_in":-1"#, Err(())),
            (r#","expires_in":1.5"#, Err(())),
            (r#","expires_in":"soon""#, Err(())),
            (r#","expires_in":[60]"#, Err(())),
        ] {
            let got = terms(&asked(&["a"], None), &format!(r#","token_type":"Bearer"{given}"#));
            let got = got.map(|terms| terms.life.map(|life| life.as_secs())).map_err(|_fault| ());
            assert_eq!(got, want, "{given}");
        }
    }

    #[test]
    fn types_are_what_was_asked_for() {
        let exchange = |requested| asked(&["a"], Some(requested));
        for (asked, given, good) in [
            (asked(&["a"], None), r#","token_type":"DPoP""#.to_owned(), false),
            (asked(&["a"], None), String::new(), false),
            (asked(&["a"], None), r#","token_type":"BEARER""#.to_owned(), true),
            (exchange(None), typed("Bearer", ACCESS_TOKEN), true),
            (exchange(None), typed("Bearer", JWT), true),
            (exchange(None), r#","token_type":"Bearer""#.to_owned(), false),
            (exchange(None), typed("Bearer", "urn:ietf:params:oauth:token-type:id_token"), false),
            (exchange(None), typed("N_A", ACCESS_TOKEN), false),
            (exchange(Some(JWT)), typed("Bearer", JWT), true),
            (exchange(Some(JWT)), typed("Bearer", ACCESS_TOKEN), false),
        ] {
            assert_eq!(terms(&asked, &given).is_ok(), good, "{given}");
        }
    }

    fn typed(kind: &str, issued: &str) -> String {
        format!(r#","token_type":"{kind}","issued_token_type":"{issued}""#)
    }

    #[test]
    fn the_shape_of_a_jwt_is_known() {
        for (token, want) in [
            ("aa.bb.cc", true),
            ("aa.bb.", true),
            ("aa..bb.cc.dd", true),
            ("aa.bb", false),
            ("aa.b+.cc", false),
            (".bb.cc", false),
            ("2YotnFZFEjr1zCsicMWpAA", false),
        ] {
            assert_eq!(is_jwt(token), want, "{token}");
        }
    }

    #[test]
    fn a_token_fits_into_a_header() {
        let long = "a".repeat(LONGEST_TOKEN + 1);
        for (token, want) in
            [("a", true), ("", false), ("a b", false), ("a\r\nb", false), ("ä", false), (&long, false)]
        {
            assert_eq!(is_token(token), want, "{}", token.len());
        }
    }
}
