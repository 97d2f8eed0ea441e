//! Reads `broker.toml`: the sections about the broker itself, sign-in, providers and audit.
//! What the providers' own keys mean is the kinds' business.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use mcp_broker_proto::names::Label;
use mcp_broker_proto::paths;

use super::kinds::KindReader;
use super::model::Mode;
use super::needs;
use super::places::Places;
use super::reader::Reader;
use super::schema::keys_of;
use super::sections::{BrokerSection, ProviderSection, SessionSection};
use super::session::{self, SignIn};

/// What `broker.toml` says.
pub(super) struct BrokerFile {
    pub(super) broker: Option<BrokerSection>,
    pub(super) session: SessionSection,
    pub(super) providers: Providers,
}

/// The providers as far as they could be read; a server file is checked against all of them.
#[derive(Default)]
pub(super) struct Providers {
    pub(super) sections: BTreeMap<Label, ProviderSection>,
    /// The kind of every table `[provider.NAME]`, `None` where it is not known.
    pub(super) kinds: BTreeMap<String, Option<&'static str>>,
    /// Whether a provider may exist that could not be read: then an unknown one is not reported.
    pub(super) incomplete: bool,
}

/// Reads the whole file.
pub(super) fn read(top: Reader<'_>, mode: Mode, places: &Places, kinds: &[&KindReader]) -> BrokerFile {
    let broker = match top.table("broker") {
        Some(table) => broker_section(table, mode, places),
        None => defaults(&top, mode, places),
    };
    let sign_in = top.table("identity").map_or(SignIn::Os, identity);
    let session = match top.table("session") {
        Some(table) => session::read(table, mode, sign_in),
        None => session::defaults(mode),
    };
    let providers =
        top.table("provider").map(|table| read_providers(&table, mode, kinds)).unwrap_or_default();
    needs::judge(&top, &providers);
    if let Some(table) = top.table("audit") {
        table.not_built("otlp", "audit records are written to the file only");
        table.finish();
    }
    top.finish();
    BrokerFile { broker, session, providers }
}

fn broker_section(table: Reader<'_>, mode: Mode, places: &Places) -> Option<BrokerSection> {
    let socket = socket_path(&table, "socket");
    let admin_socket = socket_path(&table, "admin_socket");
    let state_dir = table.path("state_dir");
    if let (Some(socket), Some(admin)) = (&socket, &admin_socket)
        && socket == admin
    {
        table.error("admin_socket", "the two sockets are one", "give `admin_socket` another path");
    }
    let default_state = if table.has("state_dir") { None } else { default_state_dir(&table, mode, places) };
    table.finish();
    let socket = socket.unwrap_or_else(|| places.socket(mode));
    let admin_socket = admin_socket.unwrap_or_else(|| beside(&socket));
    Some(BrokerSection { socket, admin_socket, state_dir: state_dir.or(default_state)? })
}

fn defaults(top: &Reader<'_>, mode: Mode, places: &Places) -> Option<BrokerSection> {
    let socket = places.socket(mode);
    let admin_socket = beside(&socket);
    Some(BrokerSection { socket, admin_socket, state_dir: default_state_dir(top, mode, places)? })
}

fn default_state_dir(table: &Reader<'_>, mode: Mode, places: &Places) -> Option<PathBuf> {
    let state_dir = places.state_dir(mode);
    if state_dir.is_none() {
        let hint = "set `state_dir` in [broker], or HOME or XDG_STATE_HOME in the broker's environment";
        table.error_at(&table.span(), "there is no place for the broker's state", hint);
    }
    state_dir
}

/// The admin socket's place where only the other one is written.
fn beside(socket: &Path) -> PathBuf {
    socket.with_file_name(paths::ADMIN_SOCKET_NAME)
}

fn socket_path(table: &Reader<'_>, key: &str) -> Option<PathBuf> {
    let path = table.path(key)?;
    let length = path.as_os_str().len();
    if length > MAX_SOCKET_PATH {
        let message = format!("`{}` is {length} bytes long", table.name(key));
        table.error(
            key,
            message,
            format!("a socket's path has at most {MAX_SOCKET_PATH} bytes; choose a shorter one"),
        );
        return None;
    }
    Some(path)
}

fn identity(table: Reader<'_>) -> SignIn {
    let sign_in = match table.not_built_value("sign_in", "oidc", OIDC_REASON) {
        true => SignIn::Oidc,
        false => table.word("sign_in", &[("os", SignIn::Os)]).unwrap_or(SignIn::Os),
    };
    for key in ["issuer", "client_id", "groups_claim"] {
        table.not_built(key, OIDC_REASON);
    }
    table.finish();
    sign_in
}

fn read_providers(table: &Reader<'_>, mode: Mode, kinds: &[&KindReader]) -> Providers {
    let mut providers = Providers::default();
    for (key, span) in table.keys() {
        providers.kinds.insert(key.clone(), None);
        let name = key.parse::<Label>();
        if let Err(error) = &name {
            table.error_at(&span, format!("`{}` {error}", table.name(&key)), "choose another name");
        }
        let Some(section) = table.table(&key) else { continue };
        let Some(kind) = kind_of(&section, kinds) else { continue };
        providers.kinds.insert(key.clone(), Some(kind.name));
        let config = (kind.provider)(&section, mode);
        if config.is_none() {
            section.given_up(keys_of(kind.provider_schema));
        }
        section.finish();
        if let (Ok(name), Some(config)) = (name, config) {
            let written = table.json(&key).unwrap_or_default();
            providers.sections.insert(name, ProviderSection { kind: kind.name, written, config });
        }
    }
    providers
}

fn kind_of<'k>(section: &Reader<'_>, kinds: &[&'k KindReader]) -> Option<&'k KindReader> {
    if !section.has("kind") {
        section.missing("kind");
        return None;
    }
    let words: Vec<_> = kinds.iter().map(|kind| (kind.name, *kind)).collect();
    section.word("kind", &words)
}

/// Why nothing that needs an identity provider is accepted.
pub(super) const OIDC_REASON: &str = "people sign in with their account on this machine";

/// `sun_path` holds 108 bytes with the final NUL (unix(7)).
const MAX_SOCKET_PATH: usize = 107;
