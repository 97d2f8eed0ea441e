//! The keys of `[provider.NAME]` of this kind. Reads and checks texts only: files are read at login, and
//! what the server has is found out when it is asked.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::path::SecretPath;
use super::path::is_segment;
use crate::config::{Misfit, Mode, ProviderConfig, Reader};

/// A parent dies so long after its last renewal where nothing else is written.
const DEFAULT_DEAD_MAN: Duration = Duration::from_secs(300);
/// The shortest that a busy broker can keep up with.
const MIN_DEAD_MAN: Duration = Duration::from_secs(3);
/// Longer would be no dead man's switch.
const MAX_DEAD_MAN: Duration = Duration::from_secs(3600);

/// `[provider.NAME]`, parsed.
#[derive(Clone)]
pub(super) struct ServerSettings {
    /// Where the server is: https, or http to loopback.
    pub(super) address: Url,
    /// The authority that issued its certificate, instead of the platform's.
    pub(super) ca_file: Option<PathBuf>,
    /// The namespace that everything happens in.
    pub(super) namespace: Option<String>,
    /// How the broker itself signs in.
    pub(super) auth: AuthMethod,
    /// The token role of parents.
    pub(super) session_role: String,
    /// The token role of children.
    pub(super) launch_role: String,
    /// The period of a parent's token.
    pub(super) dead_man: Duration,
}

/// How the broker itself signs in.
#[derive(Clone)]
pub(super) enum AuthMethod {
    /// `auth/MOUNT/login` with a role id and a secret id.
    AppRole { mount: String, role_id: String, secret_id_file: PathBuf },
    /// `auth/MOUNT/login` with a TLS client certificate.
    Cert { mount: String, role: String, cert_file: PathBuf, key_file: PathBuf },
    /// `auth/MOUNT/login` with a signed token from a file.
    Jwt { mount: String, role: String, token_file: PathBuf },
    /// A token from a file.
    Token { token_file: PathBuf },
}

impl ProviderConfig for ServerSettings {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn judge_secret(&self, path: &str, _: Option<&str>) -> Option<Result<(), Misfit>> {
        let hint = "write the path, such as \"secret/data/NAME\" for KV version 2";
        let bad = path.parse::<SecretPath>().map(drop);
        Some(bad.map_err(|bad| Misfit { key: "path", what: bad.to_string(), hint }))
    }
}

/// Reads `[provider.NAME]`.
pub(super) fn read(reader: &Reader<'_>, _mode: Mode) -> Option<Arc<dyn ProviderConfig>> {
    reader.not_built("person", "signing in at the server as the person comes with OIDC");
    let address = address(reader);
    let namespace = namespace(reader);
    let auth = auth(reader);
    let session_role = role(reader, "session_role", "mcp-session");
    let launch_role = role(reader, "launch_role", "mcp-launch");
    let dead_man = dead_man(reader);
    let ca_file = reader.path("ca_file");
    Some(Arc::new(ServerSettings {
        address: address?,
        ca_file,
        namespace: namespace?,
        auth: auth?,
        session_role: session_role?,
        launch_role: launch_role?,
        dead_man: dead_man?,
    }))
}

fn address(reader: &Reader<'_>) -> Option<Url> {
    let text = reader.required_text("address")?;
    let wrong = |what: &str, hint: &str| {
        reader.error("address", format!("`{}` {what}", reader.name("address")), hint);
        None
    };
    let form = "write `https://HOST:PORT` and nothing behind it";
    let Ok(url) = text.parse::<Url>() else { return wrong("is not a URL", form) };
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if !plain || url.fragment().is_some() || url.path() != "/" || url.host_str().is_none() {
        return wrong("has more in it than a host and a port", form);
    }
    match url.scheme() {
        "https" => Some(url),
        "http" if is_loopback(&url) => Some(url),
        "http" => {
            wrong("is not encrypted", "use https; plain http is taken for 127.0.0.1, ::1 and localhost only")
        }
        _ => wrong("is neither https nor http", form),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn namespace(reader: &Reader<'_>) -> Option<Option<String>> {
    let Some(text) = reader.text("namespace") else { return Some(None) };
    let trimmed = text.trim_matches('/');
    if trimmed.split('/').all(is_segment) {
        return Some(Some(trimmed.to_owned()));
    }
    let message = format!("`{}` is not a namespace", reader.name("namespace"));
    reader.error("namespace", message, "write its path, such as \"team-a\" or \"org/team-a\"");
    None
}

fn dead_man(reader: &Reader<'_>) -> Option<Duration> {
    if !reader.has("dead_man") {
        return Some(DEFAULT_DEAD_MAN);
    }
    let life = reader.duration("dead_man")?;
    if life.subsec_nanos() == 0 && (MIN_DEAD_MAN..=MAX_DEAD_MAN).contains(&life) {
        return Some(life);
    }
    let message = format!("`{}` is not between 3 seconds and 1 hour", reader.name("dead_man"));
    reader.error(
        "dead_man",
        message,
        "\"5m\" is a good value; it must equal `token_period` of the session role",
    );
    None
}

fn role(reader: &Reader<'_>, key: &str, default: &str) -> Option<String> {
    if !reader.has(key) {
        return Some(default.to_owned());
    }
    segment(reader, key)
}

/// A required text that becomes one segment of a path.
fn segment(reader: &Reader<'_>, key: &str) -> Option<String> {
    let text = reader.required_text(key)?;
    if is_segment(&text) {
        return Some(text);
    }
    let message = format!("`{}` is not a name of A-Z, a-z, 0-9, `_`, `.` and `-`", reader.name(key));
    reader.error(key, message, "write the name only, without slashes");
    None
}

fn mount(reader: &Reader<'_>, default: &str) -> Option<String> {
    if !reader.has("mount") {
        return Some(default.to_owned());
    }
    let text = reader.text("mount")?;
    let trimmed = text.trim_matches('/');
    if trimmed.split('/').all(is_segment) && !trimmed.starts_with("auth/") {
        return Some(trimmed.to_owned());
    }
    let message = format!("`{}` is not the path of an auth method", reader.name("mount"));
    reader.error("mount", message, format!("write it without `auth/`, such as \"{default}\""));
    None
}

fn file(reader: &Reader<'_>, key: &str) -> Option<PathBuf> {
    if !reader.has(key) {
        reader.missing(key);
        return None;
    }
    reader.path(key)
}

#[derive(Clone, Copy)]
enum Word {
    AppRole,
    Cert,
    Jwt,
    Token,
}

const METHODS: &[(&str, Word)] =
    &[("approle", Word::AppRole), ("cert", Word::Cert), ("jwt", Word::Jwt), ("token", Word::Token)];

fn auth(reader: &Reader<'_>) -> Option<AuthMethod> {
    if !reader.has("auth") {
        reader.missing("auth");
        return None;
    }
    let table = reader.table("auth")?;
    if !table.has("method") {
        table.missing("method");
        return None;
    }
    let method = match table.word("method", METHODS)? {
        Word::AppRole => {
            let (mount, role_id) = (mount(&table, "approle"), segment(&table, "role_id"));
            let secret_id_file = file(&table, "secret_id_file");
            Some(AuthMethod::AppRole { mount: mount?, role_id: role_id?, secret_id_file: secret_id_file? })
        }
        Word::Cert => {
            let (mount, role) = (mount(&table, "cert"), segment(&table, "role"));
            let (cert_file, key_file) = (file(&table, "cert_file"), file(&table, "key_file"));
            let (cert_file, key_file) = (cert_file?, key_file?);
            Some(AuthMethod::Cert { mount: mount?, role: role?, cert_file, key_file })
        }
        Word::Jwt => {
            let (mount, role) = (mount(&table, "jwt"), segment(&table, "role"));
            let token_file = file(&table, "token_file");
            Some(AuthMethod::Jwt { mount: mount?, role: role?, token_file: token_file? })
        }
        Word::Token => {
            table.warning(
                "method",
                format!(
                    "`{}` is \"token\": when that token ends, somebody must put a new one there",
                    table.name("method")
                ),
                "use \"approle\", \"cert\" or \"jwt\": with these the broker signs in again by itself",
            );
            file(&table, "token_file").map(|token_file| AuthMethod::Token { token_file })
        }
    };
    table.finish();
    method
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    use crate::config::diagnostic::Severity;
    use crate::config::testing::read_table;

    /// Reads `text` as a table; answers what was read, and the findings as text.
    pub(in super::super) fn read_text<T>(
        text: &str,
        read: impl FnOnce(&Reader<'_>) -> Option<T>,
    ) -> (Option<T>, Vec<(Severity, String)>) {
        let (value, found) = read_table("provider.bao", text, read);
        (value, found.into_iter().map(|f| (f.severity, format!("{} | {}", f.message, f.hint))).collect())
    }

    fn check(text: &str, errors: &[&str]) {
        let (value, found) = read_text(text, |reader| read(reader, Mode::User));
        let found: Vec<_> = found.into_iter().filter(|(severity, _)| *severity == Severity::Error).collect();
        assert_eq!(found.len(), errors.len(), "{text}: {found:?}");
        for ((_, message), want) in found.iter().zip(errors) {
            assert!(message.contains(want), "{text}: {message}");
        }
        assert!(value.is_some() || !errors.is_empty(), "{text}: refused without a word");
    }

    const APPROLE: &str = "auth = { method = \"approle\", role_id = \"r\", secret_id_file = \"/s\" }";

    #[test]
    fn addresses() {
        for good in
            ["https://bao.example.com:8200", "http://127.0.0.1:8200", "http://[::1]:1", "http://localhost"]
        {
            check(&format!("address = \"{good}\"\n{APPROLE}"), &[]);
        }
        for (bad, why) in [
            ("http://bao.example.com", "not encrypted"),
            ("http://127.0.0.1.example.com", "not encrypted"),
            ("https://u:p@bao", "more in it"),
            ("https://bao/vault", "more in it"),
            ("https://bao/?a", "more in it"),
            ("ftp://bao/", "neither"),
            ("bao:8200", "more in it"),
            ("", "not a URL"),
        ] {
            check(&format!("address = \"{bad}\"\n{APPROLE}"), &[why]);
        }
    }

    #[test]
    fn methods() {
        let with = |auth: &str| format!("address = \"https://bao\"\nauth = {auth}");
        check(&with("{ method = \"cert\", role = \"r\", cert_file = \"/c\", key_file = \"/k\" }"), &[]);
        check(&with("{ method = \"jwt\", mount = \"corp/jwt\", role = \"r\", token_file = \"/t\" }"), &[]);
        check(&with("{ method = \"token\", token_file = \"/t\" }"), &[]);
        check(&with("{ method = \"ldap\" }"), &["not known"]);
        check(&with("{ }"), &["`provider.bao.auth.method` is missing"]);
        check(&with("{ method = \"approle\" }"), &["role_id` is missing", "secret_id_file` is missing"]);
        check(&with("{ method = \"token\", token_file = \"t\" }"), &["not an absolute path"]);
        check(&with("{ method = \"token\", token_file = \"/t\", role = \"r\" }"), &["unknown key"]);
        check(
            &with("{ method = \"jwt\", mount = \"auth/jwt\", role = \"r\", token_file = \"/t\" }"),
            &["auth method"],
        );
        check(&with("{ method = \"jwt\", role = \"../r\", token_file = \"/t\" }"), &["not a name"]);
        check("address = \"https://bao\"", &["`provider.bao.auth` is missing"]);
    }

    #[test]
    fn the_rest() {
        let with = |more: &str| format!("address = \"https://bao\"\n{APPROLE}\n{more}");
        check(
            &with("namespace = \"a/b/\"\ndead_man = \"90s\"\nsession_role = \"s\"\nlaunch_role = \"l\""),
            &[],
        );
        check(&with("namespace = \"a/../b\""), &["not a namespace"]);
        check(&with("dead_man = \"1500ms\""), &["not between"]);
        check(&with("dead_man = \"2h\""), &["not between"]);
        check(&with("session_role = \"a/b\""), &["not a name"]);
        check(&with("person = { method = \"jwt\" }"), &["not supported yet"]);
        check(&with("dead_men = \"5m\""), &["unknown key"]);
    }

    #[test]
    fn a_bare_token_is_warned_about() {
        let text = "address = \"https://bao\"\nauth = { method = \"token\", token_file = \"/t\" }";
        let (_, found) = read_text(text, |reader| read(reader, Mode::User));
        assert!(found.iter().any(|(severity, _)| *severity == Severity::Warning), "{found:?}");
    }
}
