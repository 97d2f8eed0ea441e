//! The keys of `[provider.NAME]` of this kind. Reads and checks texts only; files are read when it connects.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::{Mode, ProviderConfig, Reader};
use crate::provider::Source;

/// `[provider.NAME]`, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// A name, an address, or the directory of a unix socket.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    /// The authorities to trust; `None`: no TLS, which only what stays on this machine may do without.
    pub(super) ca_file: Option<PathBuf>,
    pub(super) username: String,
    /// `None` on a unix socket where the server knows the account.
    pub(super) password: Option<Source>,
}

impl ProviderConfig for Settings {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }
}

impl Settings {
    /// Where it is, for messages and for handles.
    pub(super) fn place(&self) -> String {
        format!("{}:{}/{}", self.host, self.port, self.database)
    }

    pub(super) fn is_on_a_socket(&self) -> bool {
        is_socket(&self.host)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tls {
    Full,
    Off,
}

/// Reads `[provider.NAME]`.
pub(super) fn read(reader: &Reader<'_>, _mode: Mode) -> Option<Arc<dyn ProviderConfig>> {
    let host = name(reader, "host", "127.0.0.1");
    let port = port(reader);
    let database = name(reader, "database", "postgres");
    let username = if reader.has("username") {
        name(reader, "username", "")
    } else {
        reader.missing("username");
        None
    };
    let ca_file = tls(reader, host.as_deref().unwrap_or_default());
    let socket = host.as_deref().is_some_and(is_socket);
    let password = match (reader.has("password"), socket) {
        (true, _) => Source::read(reader, "password").map(Some),
        (false, true) => Some(None),
        (false, false) => {
            reader.missing("password");
            None
        }
    };
    Some(Arc::new(Settings {
        host: host?,
        port: port?,
        database: database?,
        ca_file: ca_file?,
        username: username?,
        password: password?,
    }))
}

fn name(reader: &Reader<'_>, key: &str, default: &str) -> Option<String> {
    if !reader.has(key) {
        return Some(default.to_owned());
    }
    let text = reader.text(key)?;
    if !text.is_empty() && text.len() <= 255 && !text.chars().any(|c| c.is_control() || c == ',') {
        return Some(text);
    }
    let message =
        format!("`{}` is empty, too long, or has something in it that no name has", reader.name(key));
    reader.error(key, message, "write one name");
    None
}

fn port(reader: &Reader<'_>) -> Option<u16> {
    let Some(value) = reader.json("port") else { return Some(5432) };
    let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    if port.is_none() {
        reader.error(
            "port",
            format!("`{}` is not a port", reader.name("port")),
            "write a number such as 5432",
        );
    }
    port
}

/// `Some(None)`: no TLS.
fn tls(reader: &Reader<'_>, host: &str) -> Option<Option<PathBuf>> {
    let default = if is_socket(host) { Tls::Off } else { Tls::Full };
    let tls = match reader.has("tls") {
        true => reader.word("tls", &[("verify-full", Tls::Full), ("off", Tls::Off)])?,
        false => default,
    };
    match tls {
        Tls::Full if is_socket(host) => {
            let message = format!("`{}` asks for TLS on a unix socket", reader.name("tls"));
            reader.error("tls", message, "leave it out: what goes over the socket stays on this machine");
            None
        }
        Tls::Full => {
            if !reader.has("ca_file") {
                let message =
                    format!("`{}` is missing: there is no authority to trust", reader.name("ca_file"));
                reader.error_unless_damaged("ca_file", message, CA_HINT);
                return None;
            }
            reader.path("ca_file").map(Some)
        }
        Tls::Off if reader.has("ca_file") => {
            let message = format!("`{}` is of no use without TLS", reader.name("ca_file"));
            reader.error("ca_file", message, "remove it, or remove `tls = \"off\"`");
            None
        }
        Tls::Off if is_socket(host) || is_loopback(host) => Some(None),
        Tls::Off => {
            let message = format!("`{}` would send roles and results unencrypted", reader.name("tls"));
            reader.error(
                "tls",
                message,
                "remove it and name `ca_file`; \"off\" is taken for this machine only",
            );
            None
        }
    }
}

fn is_socket(host: &str) -> bool {
    host.starts_with('/')
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

const CA_HINT: &str = "name the PEM file of the authority that signed the server's certificate, such as \
     /etc/ssl/certs/ca-certificates.crt for a public one; on this machine `tls = \"off\"` will do";

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::config::testing::read_text;

    fn check(text: &str, want: Option<&str>) {
        let (value, found) = read_text(text, |reader| read(reader, Mode::User));
        match want {
            None => assert!(value.is_some() && found.is_empty(), "{text}: {found:?}"),
            Some(want) => {
                assert!(value.is_none(), "{text}");
                assert!(found.contains(want), "{text}: {found:?}");
            }
        }
    }

    #[test]
    fn what_leaves_the_machine_is_encrypted() {
        let login = "username = \"mint\"\npassword = { file = \"/p\" }\n";
        for (keys, want) in [
            ("host = \"db.internal\"\nca_file = \"/ca.pem\"", None),
            ("host = \"db.internal\"\nca_file = \"/ca.pem\"\ntls = \"verify-full\"", None),
            ("host = \"127.0.0.1\"\ntls = \"off\"", None),
            ("host = \"::1\"\ntls = \"off\"\nport = 5433", None),
            ("host = \"/run/postgresql\"", None),
            ("host = \"db.internal\"\ntls = \"off\"", Some("unencrypted")),
            ("host = \"127.0.0.1.example.com\"\ntls = \"off\"", Some("unencrypted")),
            ("host = \"db.internal\"", Some("no authority to trust")),
            ("host = \"db.internal\"\ntls = \"prefer\"", Some("not known")),
            ("host = \"127.0.0.1\"\ntls = \"off\"\nca_file = \"/ca.pem\"", Some("of no use")),
            ("host = \"/run/postgresql\"\ntls = \"verify-full\"", Some("on a unix socket")),
            ("tls = \"off\"\nport = 0", Some("not a port")),
            ("tls = \"off\"\nport = \"x\"", Some("not a port")),
            ("tls = \"off\"\nhost = \"a,b\"", Some("no name has")),
        ] {
            check(&format!("{login}{keys}"), want);
        }
    }

    #[test]
    fn a_login_is_needed() {
        check("host = \"/run/postgresql\"\nusername = \"mint\"", None);
        check("tls = \"off\"\nusername = \"mint\"", Some("`t.password` is missing"));
        check("host = \"/run/postgresql\"", Some("`t.username` is missing"));
        check("tls = \"off\"\nusername = \"mint\"\npassword = {}", Some("either `file` or `provider`"));
    }

    /// The schemas and the readers must know the same keys.
    #[test]
    fn schemas_name_the_keys() {
        let keys = |text: &str| -> Vec<String> {
            let schema: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
            schema.into_iter().map(|(key, _)| key).collect()
        };
        let kind = super::super::KIND.reader;
        assert_eq!(
            keys(kind.provider_schema),
            ["ca_file", "database", "host", "password", "port", "tls", "username"]
        );
        assert_eq!(keys(kind.credential_schema), ["create", "drop", "grant"]);
    }
}
