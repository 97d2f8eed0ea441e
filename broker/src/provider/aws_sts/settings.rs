//! The keys of `[provider.NAME]` of this kind. Reads and checks texts only: keys and tokens are read when they are
//! needed.

use std::any::Any;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Url;

use super::call::Call;
use super::credential::CredentialSettings;
use super::deny::guard;
use crate::config::{Misfit, Mode, ProviderConfig, Reader};
use crate::provider::Source;

/// `[provider.NAME]`, parsed.
#[derive(Clone)]
pub(super) struct StsSettings {
    /// Whose STS: the regional endpoint is asked.
    pub(super) region: String,
    /// Another server instead: https, or http to loopback.
    pub(super) endpoint: Option<Url>,
    /// What the broker itself signs with.
    pub(super) source: Origin,
    /// Whether the chain may end in the metadata service of a virtual machine.
    pub(super) instance_metadata: bool,
    /// What denies a session centrally.
    pub(super) deny: Option<Deny>,
}

/// What the broker itself signs with.
#[derive(Clone)]
pub(super) enum Origin {
    /// Environment, default profile, web identity, container.
    Chain,
    /// A profile of the SDK's files, or of one file.
    Profile { name: String, file: Option<PathBuf> },
    /// Keys that are kept somewhere.
    Keys(Box<Keys>),
    /// No keys: a signed token, for the call that takes one.
    WebIdentity(PathBuf),
}

/// Where keys are kept.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) access_key_id: Source,
    pub(super) secret_access_key: Source,
    pub(super) session_token: Option<Source>,
}

/// What denies a session centrally.
#[derive(Clone)]
pub(super) struct Deny {
    pub(super) by: DenyBy,
    /// How long it may take.
    pub(super) timeout: Duration,
}

/// How it is told.
#[derive(Clone)]
pub(super) enum DenyBy {
    /// A program: the facts in its environment, and as JSON on its standard input.
    Command(Vec<String>),
    /// `POST` of the same JSON.
    Url(Url),
}

impl ProviderConfig for StsSettings {
    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn judge_credential(&self, settings: &(dyn Any + Send + Sync)) -> Result<(), Misfit> {
        let Some(wanted) = settings.downcast_ref::<CredentialSettings>() else { return Ok(()) };
        let has_token = matches!(self.source, Origin::WebIdentity(_));
        let (what, hint) = match (wanted.call == Call::WebIdentity, has_token) {
            (true, false) => (
                "needs a web identity token, which the provider has not",
                "write `source = { web_identity_token_file = \"/PATH\" }` for the provider, or another `call`",
            ),
            (false, true) => (
                "needs keys, and the provider has a web identity token only",
                "write `call = \"assume-role-with-web-identity\"`, or another `source` for the provider",
            ),
            _ => return Ok(()),
        };
        Err(Misfit { key: "call", what: what.to_owned(), hint })
    }
}

/// Reads `[provider.NAME]`.
pub(super) fn read(reader: &Reader<'_>, _mode: Mode) -> Option<Arc<dyn ProviderConfig>> {
    let region = region(reader);
    let endpoint = if reader.has("endpoint") { url(reader, "endpoint").map(Some) } else { Some(None) };
    let instance_metadata =
        if reader.has("instance_metadata") { reader.boolean("instance_metadata") } else { Some(false) };
    let source = if reader.has("source") { origin(reader) } else { Some(Origin::Chain) };
    let deny = if reader.has("deny") { deny(reader).map(Some) } else { Some(None) };
    Some(Arc::new(StsSettings {
        region: region?,
        endpoint: endpoint?,
        source: source?,
        instance_metadata: instance_metadata?,
        deny: deny?,
    }))
}

fn region(reader: &Reader<'_>) -> Option<String> {
    let text = reader.required_text("region")?;
    let sound = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if (2..=32).contains(&text.len()) && text.chars().all(sound) {
        return Some(text);
    }
    let message = format!("`{}` is not a region", reader.name("region"));
    reader.error("region", message, "write its code, such as \"eu-central-1\"");
    None
}

fn url(reader: &Reader<'_>, key: &str) -> Option<Url> {
    let text = reader.required_text(key)?;
    let wrong = |what: &str, hint: &str| {
        reader.error(key, format!("`{}` {what}", reader.name(key)), hint);
        None
    };
    let Ok(url) = text.parse::<Url>() else { return wrong("is not a URL", "write `https://HOST`") };
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return wrong("has a login or a fragment in it", "write host, port and path only");
    }
    match url.scheme() {
        "https" if url.host_str().is_some() => Some(url),
        "http" if is_loopback(&url) => Some(url),
        "http" => {
            wrong("is not encrypted", "use https; plain http is taken for 127.0.0.1, ::1 and localhost only")
        }
        _ => wrong("is neither https nor http", "write `https://HOST`"),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or("").trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

fn origin(reader: &Reader<'_>) -> Option<Origin> {
    let table = reader.table("source")?;
    let origin =
        match (table.has("profile"), table.has("access_key_id"), table.has("web_identity_token_file")) {
            (true, false, false) => profile(&table),
            (false, true, false) => keys(&table),
            (false, false, true) => table.path("web_identity_token_file").map(Origin::WebIdentity),
            _ => {
                let hint = "write one of `profile`, `access_key_id` with `secret_access_key`, and \
                `web_identity_token_file`; leave `source` out for the usual chain";
                reader.error("source", format!("`{}` does not say one source", reader.name("source")), hint);
                table.known("secret_access_key");
                table.known("session_token");
                None
            }
        };
    table.finish();
    origin
}

fn profile(table: &Reader<'_>) -> Option<Origin> {
    let file = if table.has("file") { table.path("file").map(Some) } else { Some(None) };
    Some(Origin::Profile { name: table.required_text("profile")?, file: file? })
}

fn keys(table: &Reader<'_>) -> Option<Origin> {
    if !table.has("secret_access_key") {
        table.missing("secret_access_key");
    }
    let access_key_id = Source::read(table, "access_key_id");
    let secret_access_key = Source::read(table, "secret_access_key");
    let session_token =
        if table.has("session_token") { Source::read(table, "session_token").map(Some) } else { Some(None) };
    Some(Origin::Keys(Box::new(Keys {
        access_key_id: access_key_id?,
        secret_access_key: secret_access_key?,
        session_token: session_token?,
    })))
}

fn deny(reader: &Reader<'_>) -> Option<Deny> {
    let table = reader.table("deny")?;
    let timeout = table.duration_within("timeout", SHORTEST..=LONGEST, USUAL);
    let by = match (table.has("command"), table.has("url")) {
        (true, false) => command(&table).map(DenyBy::Command),
        (false, true) => url(&table, "url").map(DenyBy::Url),
        _ => {
            let message = format!("`{}` needs either `command` or `url`", reader.name("deny"));
            reader.error("deny", message, "write `{ command = [\"/PATH\"] }` or `{ url = \"https://…\" }`");
            None
        }
    };
    table.finish();
    Some(Deny { by: by?, timeout: timeout? })
}

fn command(table: &Reader<'_>) -> Option<Vec<String>> {
    let words = table.texts("command")?;
    let (what, hint) = if !words.first().is_some_and(|program| program.starts_with('/')) {
        let hint = "write the program with its whole path, then its arguments";
        ("does not begin with an absolute path".to_owned(), hint)
    } else if let Err(what) = guard(&words) {
        let hint = "it, what it is given to run, and the directories on the way must be there and nobody's but \
                    root's or the broker's to change";
        (what, hint)
    } else {
        return Some(words);
    };
    table.error("command", format!("`{}` {what}", table.name("command")), hint);
    None
}

/// The least and the most time of a deny hook, below the time of one try to revoke.
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(12);
/// Where none is written.
const USUAL: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::read_text;

    #[test]
    fn providers() {
        let key = "access_key_id = { file = \"/a\" }";
        for (text, want) in [
            ("region = \"eu-central-1\"", None),
            ("region = \"r1\"\nendpoint = \"http://127.0.0.1:4566\"", None),
            ("region = \"r1\"\nsource = { profile = \"work\" }\ninstance_metadata = true", None),
            ("region = \"r1\"\nsource = { web_identity_token_file = \"/t\" }", None),
            ("region = \"r1\"\ndeny = { command = [\"/bin/true\", \"x\"], timeout = \"3s\" }", None),
            ("region = \"r1\"\ndeny = { url = \"https://deny.example/x?y=1\" }", None),
            ("", Some("`t.region` is missing")),
            ("region = \"EU\"", Some("is not a region")),
            ("region = \"r1\"\nendpoint = \"http://sts.example\"", Some("is not encrypted")),
            ("region = \"r1\"\nendpoint = \"ftp://sts.example\"", Some("neither https nor http")),
            ("region = \"r1\"\nsource = {}", Some("does not say one source")),
            (
                "region = \"r1\"\nsource = { profile = \"a\", web_identity_token_file = \"/t\" }",
                Some("one source"),
            ),
            ("region = \"r1\"\nsource = { profile = \"a\", fiel = \"/t\" }", Some("unknown key")),
            ("region = \"r1\"\ndeny = {}", Some("either `command` or `url`")),
            ("region = \"r1\"\ndeny = { command = [\"deny\"] }", Some("absolute path")),
            ("region = \"r1\"\ndeny = { command = [\"/nowhere/d\"] }", Some("cannot be run")),
            ("region = \"r1\"\ndeny = { command = [\"/bin/true\"], timeout = \"1h\" }", Some("out of range")),
            ("region = \"r1\"\ndeny = { url = \"http://deny.example\" }", Some("is not encrypted")),
        ] {
            check(text, want);
        }
        check(
            &format!("region = \"r1\"\nsource = {{ {key}, secret_access_key = {{ file = \"/b\" }} }}"),
            None,
        );
        check(&format!("region = \"r1\"\nsource = {{ {key} }}"), Some("secret_access_key` is missing"));
    }

    fn check(text: &str, want: Option<&str>) {
        let (config, found) = read_text(text, |reader| read(reader, Mode::System));
        match want {
            None => assert!(config.is_some() && found.is_empty(), "{text}: {found}"),
            Some(want) => assert!(found.contains(want), "{text}: {found}"),
        }
    }
}
