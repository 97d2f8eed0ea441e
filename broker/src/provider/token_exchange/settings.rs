//! The keys of `[provider.NAME]` of this kind. Reads and checks texts only. Names are those of RFC 8414 and of dynamic
//! client registration (RFC 7591, OpenID Connect Discovery), where there is one.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::Algorithm;

use super::endpoints::Endpoints;
use crate::config::{Mode, ProviderConfig, Reader};
use crate::provider::{Source, http};

/// `[provider.NAME]`, parsed.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) server: Server,
    /// Empty where the broker does not say who it is.
    pub(super) client_id: String,
    pub(super) auth: Auth,
    pub(super) access_tokens: Option<TokenForm>,
    /// No token of the server lives longer.
    pub(super) longest_life: Duration,
    pub(super) ca_file: Option<PathBuf>,
}

/// Where the server is.
#[derive(Debug, Clone)]
pub(super) enum Server {
    /// It tells its endpoints in its metadata; the text must be in there exactly.
    Issuer(String),
    /// They are written.
    Written(Arc<Endpoints>),
}

/// How the broker shows that it is the client (RFC 6749 section 2.3, RFC 7523 section 2.2).
#[derive(Debug, Clone)]
pub(super) enum Auth {
    /// The secret in the header of HTTP Basic.
    Basic(Source),
    /// The secret in the body.
    Post(Source),
    /// A token that it signs.
    Signed {
        /// PEM.
        key: Source,
        /// Of what kind it is.
        algorithm: Algorithm,
    },
    /// Not at all: the subject token speaks for itself.
    None,
}

/// What resource servers do with an access token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenForm {
    /// They check its signature and its end, and ask nobody.
    Jwt,
    /// They ask the server about each.
    Opaque,
}

impl ProviderConfig for Settings {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Method {
    Basic,
    Post,
    Signed,
    None,
}

const METHODS: &[(&str, Method)] = &[
    ("client_secret_basic", Method::Basic),
    ("client_secret_post", Method::Post),
    ("private_key_jwt", Method::Signed),
    ("none", Method::None),
];

const ALGORITHMS: &[(&str, Algorithm)] = &[
    ("RS256", Algorithm::RS256),
    ("PS256", Algorithm::PS256),
    ("ES256", Algorithm::ES256),
    ("EdDSA", Algorithm::EdDSA),
];

const METHOD: &str = "token_endpoint_auth_method";
const ALGORITHM: &str = "token_endpoint_auth_signing_alg";
const SHORTEST_LIFE: Duration = Duration::from_secs(60);
const DEFAULT_LIFE: Duration = Duration::from_secs(24 * 3600);
const LONGEST_LIFE: Duration = Duration::from_secs(31 * 24 * 3600);

/// Reads `[provider.NAME]`.
pub(super) fn read(reader: &Reader<'_>, _mode: Mode) -> Option<Arc<dyn ProviderConfig>> {
    let server = server(reader);
    let method = if reader.has(METHOD) { reader.word(METHOD, METHODS) } else { Some(Method::Basic) };
    let client_id = client_id(reader, method);
    let auth = method.and_then(|method| auth(reader, method));
    let access_tokens = match reader.has("access_tokens") {
        true => {
            reader.word("access_tokens", &[("jwt", TokenForm::Jwt), ("opaque", TokenForm::Opaque)]).map(Some)
        }
        false => Some(None),
    };
    let longest_life = reader.duration_within("longest_life", SHORTEST_LIFE..=LONGEST_LIFE, DEFAULT_LIFE);
    let ca_file = if reader.has("ca_file") { reader.path("ca_file").map(Some) } else { Some(None) };
    Some(Arc::new(Settings {
        server: server?,
        client_id: client_id?,
        auth: auth?,
        access_tokens: access_tokens?,
        longest_life: longest_life?,
        ca_file: ca_file?,
    }))
}

fn server(reader: &Reader<'_>) -> Option<Server> {
    let optional =
        |key: &str| if reader.has(key) { http::address(reader, key).map(Some) } else { Some(None) };
    let (revocation, introspection) = (optional("revocation_endpoint"), optional("introspection_endpoint"));
    match (reader.has("issuer"), reader.has("token_endpoint")) {
        (true, false) => {
            for key in ["revocation_endpoint", "introspection_endpoint"] {
                if reader.has(key) {
                    let message = format!("`{}` does not go with `issuer`", reader.name(key));
                    reader.error(key, message, "write all endpoints, or let the server's metadata tell them");
                }
            }
            http::address(reader, "issuer")?;
            // Compared as it is written, so not as the address parses.
            reader.text("issuer").map(Server::Issuer)
        }
        (false, true) => {
            let token = http::address(reader, "token_endpoint")?;
            let (revocation, introspection) = (revocation?, introspection?);
            Some(Server::Written(Arc::new(Endpoints { issuer: None, token, revocation, introspection })))
        }
        (true, true) => {
            let message = format!("`{}` does not go with `issuer`", reader.name("token_endpoint"));
            reader.error("token_endpoint", message, "write one of the two");
            None
        }
        (false, false) => {
            reader.missing("issuer");
            None
        }
    }
}

fn client_id(reader: &Reader<'_>, method: Option<Method>) -> Option<String> {
    if method == Some(Method::None) && !reader.has("client_id") {
        return Some(String::new());
    }
    let text = reader.required_text("client_id")?;
    // VSCHAR (RFC 6749 appendix A.1).
    if !text.is_empty() && text.len() <= 1024 && text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Some(text);
    }
    let message = format!("`{}` is not an id", reader.name("client_id"));
    reader.error("client_id", message, "copy it from the client's registration");
    None
}

fn auth(reader: &Reader<'_>, method: Method) -> Option<Auth> {
    let source = |key: &str| {
        if !reader.has(key) {
            reader.missing(key);
        }
        Source::read(reader, key)
    };
    let (wanted, auth): (&[&str], _) = match method {
        Method::Basic => (&["client_secret"], source("client_secret").map(Auth::Basic)),
        Method::Post => (&["client_secret"], source("client_secret").map(Auth::Post)),
        Method::Signed => {
            let algorithm = match reader.has(ALGORITHM) {
                true => reader.word(ALGORITHM, ALGORITHMS),
                false => Some(Algorithm::RS256),
            };
            let key = source("private_key");
            let auth = key.zip(algorithm).map(|(key, algorithm)| Auth::Signed { key, algorithm });
            (&["private_key", ALGORITHM], auth)
        }
        Method::None => (&[], Some(Auth::None)),
    };
    for key in ["client_secret", "private_key", ALGORITHM] {
        if !wanted.contains(&key) && reader.has(key) {
            let message = format!("`{}` does not go with this `{METHOD}`", reader.name(key));
            reader.error(key, message, "leave it out, or choose the method that uses it");
        }
    }
    auth
}
