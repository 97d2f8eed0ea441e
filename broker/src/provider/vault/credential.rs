//! The keys of a credential of this kind.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::engine::{self, Place};
use super::path::SecretPath;
use crate::config::{CredentialKeys, Reader};

/// One credential, parsed.
#[derive(Debug, Clone)]
pub(super) struct CredentialSettings {
    /// What is read or written.
    pub(super) path: SecretPath,
    /// The policies of the child that does it. Never empty.
    pub(super) policies: Vec<String>,
    /// Whether it is read or written.
    pub(super) method: Method,
    /// Parameters.
    pub(super) data: Map<String, Value>,
    /// The engine behind the path.
    pub(super) place: Place,
    /// Asked for wrapped, in a token that lives so long and is opened at once.
    pub(super) wrap: Option<Duration>,
}

/// The shortest and the longest life of a wrapping token: it is opened as soon as it is there.
const WRAPS: std::ops::RangeInclusive<Duration> = Duration::from_secs(5)..=Duration::from_secs(300);

/// How a path is asked for its credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
    /// `GET`.
    Read,
    /// `POST`.
    Write,
}

/// Reads a credential's keys.
pub(super) fn read(reader: &Reader<'_>) -> Option<CredentialKeys> {
    if !reader.has("path") {
        reader.missing("path");
    }
    let path = reader.parsed::<SecretPath>("path", "write a path such as \"database/creds/orders-ro\"");
    let policies = policies(reader);
    let word = match reader.has("engine") {
        true => Some(reader.word("engine", &engine::words())?),
        false => None,
    };
    let place = path.as_ref().map(|path| engine::place(path, word));
    let is_written = place.as_ref().is_some_and(|place| place.engine.is_written());
    let method = match reader.has("method") {
        true => reader.word("method", &[("read", Method::Read), ("write", Method::Write)]),
        false => Some(if is_written { Method::Write } else { Method::Read }),
    };
    let (data, wrap) = (data(reader, method), wrap(reader));
    let (path, method, place) = (path?, method?, place?);
    if let Some(cure) = engine::refuse(&path, word) {
        reader.error("path", format!("`{}` is `{path}`, which is no credential", reader.name("path")), cure);
        return None;
    }
    let fields = place.engine.fields();
    let fields = fields.map(|names| names.iter().map(|name| (*name).to_owned()).collect());
    let settings = CredentialSettings { path, policies: policies?, method, data: data?, place, wrap: wrap? };
    Some(CredentialKeys { settings: Arc::new(settings), fields })
}

fn wrap(reader: &Reader<'_>) -> Option<Option<Duration>> {
    if !reader.has("wrap") {
        return Some(None);
    }
    let life = reader.duration("wrap")?;
    if life.subsec_nanos() == 0 && WRAPS.contains(&life) {
        return Some(Some(life));
    }
    let message = format!("`{}` is not between 5 seconds and 5 minutes", reader.name("wrap"));
    reader.error("wrap", message, "write \"60s\": the broker opens what was wrapped at once");
    None
}

fn policies(reader: &Reader<'_>) -> Option<Vec<String>> {
    let hint = "name the policies that may read this path and nothing else, such as [\"orders-ro\"]";
    let refuse = |what: &str, hint: &str| {
        reader.error("policies", format!("`{}` {what}", reader.name("policies")), hint);
        None
    };
    if !reader.has("policies") {
        return refuse(
            "is missing: without it the server would grant everything that the launch role may",
            hint,
        );
    }
    let policies = reader.texts("policies")?;
    if policies.is_empty() {
        return refuse("is empty: the server would grant everything that the launch role may", hint);
    }
    if policies.iter().any(|policy| policy == "root") {
        return refuse("names `root`, which no launch may have", hint);
    }
    let is_name = |policy: &String| {
        !policy.is_empty()
            && policy.bytes().all(|b| {
                b.is_ascii_lowercase()
                    || b.is_ascii_digit()
                    || matches!(b, b'_' | b'.' | b'-' | b':' | b'/' | b'@')
            })
    };
    if !policies.iter().all(is_name) {
        return refuse(
            "has something in it that is not a policy's name",
            "policy names are lower case, without spaces",
        );
    }
    Some(policies)
}

fn data(reader: &Reader<'_>, method: Option<Method>) -> Option<Map<String, Value>> {
    let Some(value) = reader.json("data") else { return Some(Map::new()) };
    let Value::Object(data) = value else {
        let message = format!("`{}` is not a table", reader.name("data"));
        reader.error(
            "data",
            message,
            "write the parameters as a table, such as { common_name = \"a.example\" }",
        );
        return None;
    };
    let nested = data.values().any(|value| value.is_object() || value.is_array());
    if method == Some(Method::Read) && nested {
        let message =
            format!("`{}` has a list or table in it, which a read cannot carry", reader.name("data"));
        reader.error("data", message, "use method = \"write\", or texts and numbers only");
        return None;
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::provider::vault::settings::tests::read_text;

    fn check(text: &str, want: Result<Option<&[&str]>, &str>) {
        let (keys, found) = read_text(text, read);
        match want {
            Ok(fields) => {
                assert!(found.is_empty(), "{text}: {found:?}");
                let fields = fields.map(|f| f.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
                assert_eq!(keys.and_then(|keys| keys.fields), fields, "{text}");
            }
            Err(why) => {
                assert!(found.iter().any(|(_, message)| message.contains(why)), "{text}: {found:?}");
            }
        }
    }

    #[test]
    fn credentials() {
        let p = "policies = [\"orders-ro\"]";
        let db: &[&str] = &["username", "password"];
        check(&format!("path = \"database/creds/orders-ro\"\n{p}"), Ok(Some(db)));
        check(&format!("path = \"secret/data/x\"\n{p}"), Ok(None));
        let pki = crate::provider::vault::engine::Engine::PkiIssue.fields();
        check(&format!("path = \"pki/issue/x\"\n{p}\ndata = {{ a = [1] }}"), Ok(pki));
        check(&format!("path = \"a/b/issue/x\"\nengine = \"pki\"\n{p}\nwrap = \"60s\""), Ok(pki));
        check(&format!("path = \"a/b\"\nengine = \"ldap\"\n{p}"), Err("not known"));
        check(&format!("path = \"a/b\"\nwrap = \"1h\"\n{p}"), Err("5 minutes"));
        check(&format!("path = \"transit/keys/x\"\n{p}"), Err("which is no credential | transit works with"));
        check(&format!("path = \"a/b\"\n{p}\nmethod = \"read\"\ndata = {{ a = 1 }}"), Ok(None));
        check(&format!("path = \"a/b\"\n{p}\ndata = {{ a = [1] }}"), Err("a read cannot carry"));
        check(&format!("path = \"a/b\"\n{p}\ndata = 3"), Err("not a table"));
        check(&format!("path = \"a/b\"\n{p}\nmethod = \"list\""), Err("not known"));
        check(&format!("path = \"v1/a/b\"\n{p}"), Err("begins with `v1/`"));
        check(&format!("path = \"a/../b\"\n{p}"), Err("segments of"));
        check(p, Err("`provider.bao.path` is missing"));
        check("path = \"a/b\"", Err("`provider.bao.policies` is missing"));
        check("path = \"a/b\"\npolicies = []", Err("is empty"));
        check("path = \"a/b\"\npolicies = [\"root\"]", Err("names `root`"));
        check("path = \"a/b\"\npolicies = [\"A b\"]", Err("not a policy's name"));
        check(&format!("path = \"a/b\"\n{p}\nfield = \"x\""), Err("unknown key"));
    }
}
