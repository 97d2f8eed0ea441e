//! The keys of a credential of this kind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::call::Call;
use super::template::{self, Facts};
use super::{policy_file, words};
use crate::config::{CredentialKeys, Reader, length_of_time};

/// One credential, parsed.
#[derive(Debug, Clone)]
pub(super) struct CredentialSettings {
    pub(super) call: Call,
    /// The role; there for the two calls that assume one.
    pub(super) role_arn: Option<String>,
    pub(super) external_id: Option<String>,
    /// The session policy, with fields in its texts.
    pub(super) policy: Option<Value>,
    pub(super) policy_arns: Vec<String>,
    /// With fields in the values.
    pub(super) tags: BTreeMap<String, String>,
    pub(super) transitive_tags: Vec<String>,
    /// With fields in it; `None`: none is sent.
    pub(super) source_identity: Option<String>,
    /// Whether the policy ends with the lease, as STS itself gives no credential less than 15 minutes.
    pub(super) time_limit: bool,
}

/// The shortest life that STS gives (`DurationSeconds` of each call).
pub(super) const SHORTEST: Duration = Duration::from_secs(900);

/// The fields that a credential has; `region` beside them.
pub(super) const FIELDS: [&str; 5] =
    ["access_key_id", "secret_access_key", "session_token", "expiration", "region"];

/// Reads a credential's keys.
pub(super) fn read(reader: &Reader<'_>) -> Option<CredentialKeys> {
    let call = call(reader)?;
    let refused = refused(reader, call);
    let role_arn = role_arn(reader, call);
    let external_id = external_id(reader);
    let policy = policy(reader);
    let policy_arns = policy_arns(reader);
    let tags = tags(reader);
    let transitive_tags =
        if reader.has("transitive_tags") { reader.texts("transitive_tags") } else { Some(vec![]) };
    let source_identity = source_identity(reader, call);
    let time_limit = if reader.has("time_limit") { reader.boolean("time_limit") } else { Some(false) };
    if refused {
        return None;
    }
    let settings = CredentialSettings {
        call,
        role_arn: role_arn?,
        external_id: external_id?,
        policy: policy?,
        policy_arns: policy_arns?,
        tags: tags?,
        transitive_tags: transitive_tags?,
        source_identity: source_identity?,
        time_limit: time_limit?,
    };
    judge(reader, &settings)?;
    let fields = FIELDS.map(str::to_owned).to_vec();
    Some(CredentialKeys { settings: Arc::new(settings), fields: Some(fields) })
}

fn call(reader: &Reader<'_>) -> Option<Call> {
    if !reader.has("call") {
        return Some(Call::AssumeRole);
    }
    let all = [Call::AssumeRole, Call::WebIdentity, Call::SessionToken, Call::FederationToken];
    reader.word("call", &all.map(|call| (call.word(), call)))
}

/// Notes keys that the call does not take.
fn refused(reader: &Reader<'_>, call: Call) -> bool {
    let mut any = false;
    for key in call.refuses().iter().filter(|key| reader.has(key)) {
        let message = format!("`{}` is nothing that \"{}\" takes", reader.name(key), call.word());
        reader.error(key, message, "leave it out, or use another `call`");
        any = true;
    }
    any
}

fn role_arn(reader: &Reader<'_>, call: Call) -> Option<Option<String>> {
    if matches!(call, Call::SessionToken | Call::FederationToken) {
        return Some(None);
    }
    let arn = reader.required_text("role_arn")?;
    if words::account_of_role(&arn).is_some() {
        return Some(Some(arn));
    }
    let message = format!("`{}` is not the ARN of a role", reader.name("role_arn"));
    reader.error("role_arn", message, "write `arn:aws:iam::ACCOUNT:role/NAME`, with twelve digits");
    None
}

fn external_id(reader: &Reader<'_>) -> Option<Option<String>> {
    if !reader.has("external_id") {
        return Some(None);
    }
    let text = reader.text("external_id")?;
    if words::is_external_id(&text) {
        return Some(Some(text));
    }
    let message = format!("`{}` is not an external id", reader.name("external_id"));
    reader.error("external_id", message, "it has 2 to 1224 of A-Z, a-z, 0-9 and _ + = , . @ : / -");
    None
}

fn policy(reader: &Reader<'_>) -> Option<Option<Value>> {
    let (key, policy) = match (reader.has("policy"), reader.has("policy_file")) {
        (false, false) => return Some(None),
        (true, true) => {
            let message = format!("`{}` is there beside `policy`", reader.name("policy_file"));
            reader.error("policy_file", message, "write one of them");
            return None;
        }
        (true, false) => ("policy", reader.json("policy")?),
        (false, true) => {
            let path = reader.path("policy_file")?;
            match policy_file::read(&path) {
                Ok(policy) => ("policy_file", policy),
                Err((what, hint)) => {
                    reader.error("policy_file", format!("`{}` {what}", path.display()), hint);
                    return None;
                }
            }
        }
    };
    if let Some(fault) = template::fault_of_policy(&policy) {
        let hint = "write it as `{ Version = \"2012-10-17\", Statement = [{ Effect = \"Allow\", … }] }`";
        reader.error(key, format!("`{}` {fault}", reader.name(key)), hint);
        return None;
    }
    Some(Some(policy))
}

fn policy_arns(reader: &Reader<'_>) -> Option<Vec<String>> {
    if !reader.has("policy_arns") {
        return Some(Vec::new());
    }
    let arns = reader.texts("policy_arns")?;
    let message = if arns.len() > words::MAX_POLICY_ARNS {
        format!("has {} entries, and STS takes {}", arns.len(), words::MAX_POLICY_ARNS)
    } else if arns.iter().all(|arn| words::is_policy_arn(arn)) {
        return Some(arns);
    } else {
        "has something in it that is not the ARN of a managed policy".to_owned()
    };
    let hint = "write ARNs such as \"arn:aws:iam::aws:policy/ReadOnlyAccess\", at most ten";
    reader.error("policy_arns", format!("`{}` {message}", reader.name("policy_arns")), hint);
    None
}

fn tags(reader: &Reader<'_>) -> Option<BTreeMap<String, String>> {
    if !reader.has("tags") {
        return Some(BTreeMap::new());
    }
    let table = reader.table("tags")?;
    let (mut tags, mut sound, mut seen) = (BTreeMap::new(), true, std::collections::BTreeSet::new());
    let mut wrong = |key: &str, what: &str| {
        table.error(key, format!("`{}` {what}", table.name(key)), TAG_HINT);
        sound = false;
    };
    for (key, _) in table.keys() {
        let Some(value) = table.text(&key) else {
            wrong(&key, "is no tag");
            continue;
        };
        if !words::is_tag_key(&key) {
            wrong(&key, "is not a key of a tag");
        } else if !seen.insert(key.to_lowercase()) {
            wrong(&key, "is there twice, as the keys of tags know no case");
        } else {
            match template::fill(&value, Facts::SHORTEST) {
                Ok(filled) if words::is_tag_value(&filled) => {}
                Ok(_) => wrong(&key, "is not a value of a tag"),
                Err(fault) => wrong(&key, &fault),
            }
        }
        tags.insert(key, value);
    }
    if tags.len() > words::MAX_TAGS {
        let message =
            format!("`{}` has {} tags, and STS takes {}", reader.name("tags"), tags.len(), words::MAX_TAGS);
        reader.error("tags", message, "leave some out");
        return None;
    }
    sound.then_some(tags)
}

/// The person where nothing is written; none for an empty text, and for calls that take none.
fn source_identity(reader: &Reader<'_>, call: Call) -> Option<Option<String>> {
    if !reader.has("source_identity") {
        return Some((call == Call::AssumeRole).then(|| "{person}".to_owned()));
    }
    let text = reader.text("source_identity")?;
    if text.is_empty() {
        return Some(None);
    }
    let fault = match template::fill(&text, Facts { person: "xx", ..Facts::SHORTEST }) {
        Ok(filled) if words::is_name(&filled) => return Some(Some(text)),
        Ok(_) => "is not a source identity".to_owned(),
        Err(fault) => fault,
    };
    let message = format!("`{}` {fault}", reader.name("source_identity"));
    reader.error(
        "source_identity",
        message,
        "it has 2 to 64 of A-Z, a-z, 0-9 and _ + = , . @ -; \"\" sends none",
    );
    None
}

/// What can be said only of all keys together.
fn judge(reader: &Reader<'_>, settings: &CredentialSettings) -> Option<()> {
    let unknown = settings.transitive_tags.iter().find(|key| !settings.tags.contains_key(*key));
    if let Some(key) = unknown {
        let message = format!("`{}` names `{key}`, which is none of `tags`", reader.name("transitive_tags"));
        reader.error("transitive_tags", message, "name keys of `tags` only");
        return None;
    }
    let bare = settings.policy.is_none() && settings.policy_arns.is_empty();
    if settings.call == Call::FederationToken && bare && !settings.time_limit {
        let message = format!("`{}` is missing: such a session could do nothing", reader.name("policy"));
        reader.error("policy", message, "write `policy`, `policy_file` or `policy_arns`");
        return None;
    }
    let end = settings.time_limit.then_some(jiff::Timestamp::UNIX_EPOCH);
    let shortest = template::policy(settings.policy.as_ref(), &settings.policy_arns, end, Facts::SHORTEST);
    if let Err(fault) = shortest {
        let key = if reader.holds("policy_file") { "policy_file" } else { "policy" };
        reader.error(key, format!("`{}` {fault}", reader.name(key)), POLICY_HINT);
        return None;
    }
    ttl(reader, settings)
}

/// The configuration reads `ttl` itself and notes what is no length of time.
fn ttl(reader: &Reader<'_>, settings: &CredentialSettings) -> Option<()> {
    let written = reader.json("ttl");
    let Some(ttl) = written.as_ref().and_then(Value::as_str).and_then(length_of_time) else {
        return Some(());
    };
    let name = reader.name("ttl");
    if ttl < SHORTEST && !settings.time_limit {
        let hint =
            "write at least \"15m\", or `time_limit = true`, so that the policy ends earlier than STS can";
        reader.error("ttl", format!("`{name}` is shorter than the 900 s that STS gives at least"), hint);
        return None;
    }
    let longest = settings.call.longest();
    if ttl > longest {
        let hours = longest.as_secs() / 3600;
        let message =
            format!("`{name}` is longer than the {hours} h that \"{}\" gives", settings.call.word());
        reader.error("ttl", message, format!("write at most \"{hours}h\"; a role may allow less"));
        return None;
    }
    Some(())
}

const TAG_HINT: &str = "keys have 1 to 128 and values at most 256 letters, digits, spaces and _ . : / = + - @, and \
    `aws:` is AWS's own; values may have {person}, {session} and {launch} in them";
const POLICY_HINT: &str = "shorten it, or name a managed policy in `policy_arns`; {person}, {session} and {launch} \
    are filled in, and braces are written twice";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::read_text;

    const ROLE: &str = "role_arn = \"arn:aws:iam::123456789012:role/tool\"";
    const ALLOW: &str =
        "policy = { Statement = [{ Effect = \"Allow\", Action = \"s3:*\", Resource = \"*\" }] }";

    fn check(text: &str, want: Option<&str>) {
        let (keys, found) = read_text(text, |reader| {
            reader.known("ttl");
            read(reader)
        });
        match want {
            None => assert!(keys.is_some() && found.is_empty(), "{text}: {found}"),
            Some(want) => assert!(keys.is_none() && found.contains(want), "{text}: {found}"),
        }
    }

    #[test]
    fn assumed_roles() {
        for (rest, want) in [
            ("", None),
            (ALLOW, None),
            (
                "external_id = \"e-1\"\nsource_identity = \"mcp-{person}\"\ntags = { team = \"{person}\" }",
                None,
            ),
            ("ttl = \"2m\"\ntime_limit = true", None),
            ("ttl = \"12h\"", None),
            ("ttl = \"899s\"", Some("shorter than the 900 s")),
            ("ttl = \"13h\"", Some("longer than the 12 h")),
            ("external_id = \"a b\"", Some("not an external id")),
            ("source_identity = \"a b\"", Some("not a source identity")),
            ("source_identity = \"{user}\"", Some("names a field")),
            ("tags = { \"a*\" = \"x\" }", Some("not a key of a tag")),
            ("tags = { a = \"<\" }", Some("not a value of a tag")),
            ("tags = { a = \"1\", A = \"2\" }", Some("know no case")),
            ("tags = { a = 1 }", Some("not a text")),
            ("tags = { a = \"1\" }\ntransitive_tags = [\"b\"]", Some("none of `tags`")),
            ("policy = \"{}\"", Some("is not a table")),
            ("policy = { Statement = [{ Effect = \"Allow\", Action = \"{x}\" }] }", Some("names a field")),
            ("policy_file = \"/nowhere/at/all.json\"", Some("cannot be read")),
            ("policy_arns = [\"arn:aws:iam::1:policy/x\"]", Some("managed policy")),
            ("call = \"assume\"", Some("not known")),
        ] {
            check(&format!("{ROLE}\n{rest}"), want);
        }
        check("", Some("`t.role_arn` is missing"));
        check("role_arn = \"arn:aws:iam::1:role/x\"", Some("not the ARN of a role"));
        let long = |length: usize| {
            let base = r#"{"Statement":[{"Action":"","Effect":"Allow"}]}"#.len();
            let action = "x".repeat(length - base);
            format!("{ROLE}\npolicy = {{ Statement = [{{ Effect = \"Allow\", Action = \"{action}\" }}] }}")
        };
        check(&long(2048), None);
        check(&long(2049), Some("has 2049 characters"));
    }

    #[test]
    fn other_calls() {
        for (text, want) in [
            ("call = \"get-session-token\"\nttl = \"24h\"", None),
            (
                "call = \"get-session-token\"\ntime_limit = true",
                Some("nothing that \"get-session-token\" takes"),
            ),
            ("call = \"get-federation-token\"", Some("could do nothing")),
            ("call = \"get-federation-token\"\nsource_identity = \"x\"", Some("takes")),
        ] {
            check(text, want);
        }
        check(&format!("call = \"get-federation-token\"\n{ALLOW}"), None);
        check(&format!("call = \"assume-role-with-web-identity\"\n{ROLE}\n{ALLOW}"), None);
        check(
            &format!("call = \"assume-role-with-web-identity\"\n{ROLE}\ntags = {{ a = \"b\" }}"),
            Some("takes"),
        );
    }
}
