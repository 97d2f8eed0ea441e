//! The keys of one credential of this kind. Reads and checks texts only. Names are those of the request's parameters
//! (RFC 6749 section 4.4.2, RFC 8693 section 2.1, RFC 8707 section 2).

use std::collections::BTreeSet;
use std::sync::Arc;

use mcp_broker_proto::names::Label;
use reqwest::Url;

use crate::config::{CredentialKeys, Reader};
use crate::provider::Source;

/// One credential.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) grant: Grant,
    /// Empty: what the server gives unasked.
    pub(super) scopes: BTreeSet<String>,
    pub(super) audience: Option<String>,
    pub(super) resource: Option<String>,
}

impl Credential {
    /// Whether a token is shown for it.
    pub(super) fn exchanges(&self) -> bool {
        matches!(self.grant, Grant::Exchange(_))
    }
}

/// On what ground the server gives a token.
#[derive(Debug, Clone)]
pub(super) enum Grant {
    /// The broker is the client.
    ClientCredentials,
    /// Another token says for whom it is.
    Exchange(Box<Exchange>),
}

/// What is shown in exchange, and what is wanted.
#[derive(Debug, Clone)]
pub(super) struct Exchange {
    pub(super) subject: Shown,
    pub(super) actor: Option<Shown>,
    /// A token type URI, where one is wanted.
    pub(super) requested: Option<String>,
}

/// A token that is shown.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    pub(super) from: From,
    /// Its token type URI.
    pub(super) kind: String,
}

/// Where it comes from.
#[derive(Debug, Clone)]
pub(super) enum From {
    /// It is kept somewhere.
    Kept(Source),
    /// A provider of this broker signs it, for the person and the launch.
    Signed {
        /// The provider, of a kind that signs.
        by: Label,
        /// Its audience; the server's issuer where none is written.
        audience: Option<String>,
    },
}

/// The fields of a credential; the first one is secret.
pub(super) const FIELDS: [&str; 3] = ["access_token", "token_type", "scope"];
/// Those that open nothing.
pub(super) const PLAIN: &[&str] = &["token_type", "scope"];

/// Token type URIs (RFC 8693 section 3) by their last word.
const TYPES: &[(&str, &str)] = &[
    ("access_token", ACCESS_TOKEN),
    ("jwt", JWT),
    ("id_token", "urn:ietf:params:oauth:token-type:id_token"),
    ("saml1", "urn:ietf:params:oauth:token-type:saml1"),
    ("saml2", "urn:ietf:params:oauth:token-type:saml2"),
];
/// The types that an access token may be said to be of.
const WANTED: &[(&str, &str)] = &[("access_token", ACCESS_TOKEN), ("jwt", JWT)];
pub(super) const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
pub(super) const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

/// Reads one credential.
pub(super) fn read(reader: &Reader<'_>) -> Option<CredentialKeys> {
    if !reader.has("grant_type") {
        reader.missing("grant_type");
    }
    let exchanges = reader.word("grant_type", &[("client_credentials", false), ("token-exchange", true)]);
    let scopes = scopes(reader);
    let audience = optional(reader, "audience", |text| text.bytes().all(|b| b.is_ascii_graphic()));
    // An absolute URI without a fragment (RFC 8707 section 2).
    let resource = optional(reader, "resource", |text| {
        text.bytes().all(|b| b.is_ascii_graphic()) && !text.contains('#') && text.parse::<Url>().is_ok()
    });
    let grant = match exchanges? {
        true => exchange(reader).map(|exchange| Grant::Exchange(Box::new(exchange))),
        false => no_exchange(reader).map(|()| Grant::ClientCredentials),
    };
    let settings = Credential { grant: grant?, scopes: scopes?, audience: audience?, resource: resource? };
    if settings.scopes.is_empty() && settings.audience.is_none() && settings.resource.is_none() {
        let message = format!("`{}` narrows the token to nothing", reader.path_of_table());
        let hint = "write `scope`, `audience` or `resource`: else it may do all that the client may";
        reader.error("grant_type", message, hint);
        return None;
    }
    let fields = FIELDS.map(str::to_owned).to_vec();
    Some(CredentialKeys { settings: Arc::new(settings), fields: Some(fields) })
}

/// Keys of the exchange are refused where there is none.
fn no_exchange(reader: &Reader<'_>) -> Option<()> {
    let keys =
        ["subject_token", "subject_token_type", "actor_token", "actor_token_type", "requested_token_type"];
    let mut good = Some(());
    for key in keys.into_iter().filter(|key| reader.has(key)) {
        let message = format!("`{}` does not go with client_credentials", reader.name(key));
        reader.error(key, message, "write `grant_type = \"token-exchange\"`, or leave it out");
        good = None;
    }
    good
}

fn exchange(reader: &Reader<'_>) -> Option<Exchange> {
    if !reader.has("subject_token") {
        reader.missing("subject_token");
    }
    let subject = shown(reader, "subject_token");
    let actor = match reader.has("actor_token") {
        true => shown(reader, "actor_token").map(Some),
        false => Some(None),
    };
    let key = "requested_token_type";
    let requested = if reader.has(key) { reader.word(key, WANTED).map(Some) } else { Some(None) };
    let requested = requested?.map(str::to_owned);
    Some(Exchange { subject: subject?, actor: actor?, requested })
}

fn shown(reader: &Reader<'_>, key: &str) -> Option<Shown> {
    let kind = format!("{key}_type");
    let table = reader.table(key)?;
    let from = match table.has("signed_by") {
        true => {
            let by = table.parsed("signed_by", "write the name of a [provider.NAME] of kind `jwt`");
            let audience = optional(&table, "audience", |text| text.bytes().all(|b| b.is_ascii_graphic()));
            table.finish();
            by.zip(audience).map(|(by, audience)| From::Signed { by, audience })
        }
        false => Source::read(reader, key).map(From::Kept),
    };
    let kind = match (reader.has(&kind), &from) {
        (true, _) => reader.word(&kind, TYPES),
        (false, Some(From::Signed { .. })) => Some(JWT),
        (false, _) => {
            reader.missing(&kind);
            None
        }
    };
    Some(Shown { from: from?, kind: kind?.to_owned() })
}

/// Scope tokens (RFC 6749 section 3.3), parted by single spaces.
fn scopes(reader: &Reader<'_>) -> Option<BTreeSet<String>> {
    let Some(text) = optional(reader, "scope", |text| text.split(' ').all(is_scope))? else {
        return Some(BTreeSet::new());
    };
    Some(text.split(' ').map(str::to_owned).collect())
}

/// `%x21 / %x23-5B / %x5D-7E` (RFC 6749 section 3.3).
fn is_scope(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
}

fn optional(reader: &Reader<'_>, key: &str, good: impl Fn(&str) -> bool) -> Option<Option<String>> {
    if !reader.has(key) {
        return Some(None);
    }
    let text = reader.text(key)?;
    if !text.is_empty() && text.len() <= 2048 && good(&text) {
        return Some(Some(text));
    }
    let message = format!("`{}` has something in it that does not belong there", reader.name(key));
    reader.error(key, message, HINT);
    None
}

const HINT: &str =
    "write what the server's documentation says, such as \"orders:read\" or \"https://api.example.com\"";
