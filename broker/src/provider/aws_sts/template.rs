//! Texts and session policies with `{person}`, `{session}` and `{launch}` in them. `{{` and `}}` stand for braces,
//! and IAM's own `${aws:username}` passes through. What is put in can be no wildcard and no variable.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::words;

/// What stands for the fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) person: &'a str,
    pub(super) session: &'a str,
    pub(super) launch: &'a str,
}

impl Facts<'_> {
    /// The shortest that the fields can become, to judge lengths before a launch: ids have 36 characters.
    pub(super) const SHORTEST: Facts<'static> = Facts {
        person: "x",
        session: "00000000-0000-0000-0000-000000000000",
        launch: "00000000-0000-0000-0000-000000000000",
    };
}

/// Fills a text in.
///
/// # Errors
/// What is wrong with it, to follow its name.
pub(super) fn fill(text: &str, facts: Facts<'_>) -> Result<String, String> {
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find(['{', '}', '$']) {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (piece, after) = piece(from, facts)?;
        out.push_str(piece);
        rest = after;
    }
    out.push_str(rest);
    Ok(out)
}

/// What the text's head becomes, and what follows it.
fn piece<'a>(from: &'a str, facts: Facts<'a>) -> Result<(&'a str, &'a str), String> {
    if from.starts_with("${") {
        let end = from.find('}').ok_or("has a `${` without its `}`")?;
        return Ok(from.split_at(end + 1));
    }
    for (head, piece) in [("$", "$"), ("{{", "{"), ("}}", "}")] {
        if let Some(after) = from.strip_prefix(head) {
            return Ok((piece, after));
        }
    }
    let field = from.strip_prefix('{').and_then(|inner| inner.split_once('}'));
    let (name, after) = field.ok_or("has a brace that belongs to nothing")?;
    let value = match name {
        "person" => facts.person,
        "session" => facts.session,
        "launch" => facts.launch,
        _ => return Err("names a field other than {person}, {session} and {launch}".to_owned()),
    };
    Ok((value, after))
}

/// Fills every text of a value in, keys apart.
pub(super) fn fill_all(value: &Value, facts: Facts<'_>) -> Result<Value, String> {
    Ok(match value {
        Value::String(text) => Value::String(fill(text, facts)?),
        Value::Array(items) => items.iter().map(|item| fill_all(item, facts)).collect::<Result<_, _>>()?,
        Value::Object(members) => {
            let filled = members.iter().map(|(key, value)| Ok((key.clone(), fill_all(value, facts)?)));
            Value::Object(filled.collect::<Result<_, String>>()?)
        }
        other => other.clone(),
    })
}

/// The session policy as text, with nothing allowed from `end` on where that is given; `None` where there is none
/// to send.
///
/// A session's permissions are those that the role *and* the session policies allow, and an explicit deny anywhere
/// wins (IAM User Guide, "Policy evaluation logic"). So each `Allow` gets the condition, and a `Deny` covers what
/// the conditions cannot: managed session policies, and resource policies that name the session itself.
pub(super) fn policy(
    written: Option<&Value>,
    managed: &[String],
    end: Option<Timestamp>,
    facts: Facts<'_>,
) -> Result<Option<String>, String> {
    let mut document = match (written, end) {
        (Some(written), _) => fill_all(written, facts)?,
        (None, None) => return Ok(None),
        // Beside managed policies an `Allow` would widen them.
        (None, Some(_)) if !managed.is_empty() => json!({ "Version": VERSION, "Statement": [] }),
        (None, Some(_)) => {
            json!({ "Version": VERSION, "Statement": [{ "Effect": "Allow", "Action": "*", "Resource": "*" }] })
        }
    };
    if let Some(end) = end {
        limit(&mut document, &end.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    }
    let text = document.to_string();
    let length = text.chars().count() + managed.iter().map(|arn| arn.chars().count()).sum::<usize>();
    if length > words::MAX_POLICY {
        return Err(format!(
            "has {length} characters with the ARNs of managed policies, and STS takes {}",
            words::MAX_POLICY
        ));
    }
    if text.chars().any(|c| u32::from(c) > 0xff) {
        return Err("has a character beyond U+00FF, which STS does not take".to_owned());
    }
    Ok(Some(text))
}

fn limit(document: &mut Value, end: &str) {
    let Some(document) = document.as_object_mut() else { return };
    let statements = match document.remove("Statement") {
        Some(Value::Array(statements)) => statements,
        Some(one) => vec![one],
        None => Vec::new(),
    };
    let mut statements: Vec<Value> = statements.into_iter().map(|one| until(one, end)).collect();
    statements.push(json!({
        "Effect": "Deny", "Action": "*", "Resource": "*",
        "Condition": { "DateGreaterThanEquals": { "aws:CurrentTime": end } },
    }));
    document.insert("Statement".to_owned(), Value::Array(statements));
}

fn until(mut statement: Value, end: &str) -> Value {
    let allows = statement.get("Effect").and_then(Value::as_str) == Some("Allow");
    if allows && let Some(members) = statement.as_object_mut() {
        let condition = members.entry("Condition").or_insert_with(|| Value::Object(Map::new()));
        if let Some(condition) = condition.as_object_mut() {
            let before = condition.entry("DateLessThan").or_insert_with(|| Value::Object(Map::new()));
            // Several values of one key are alternatives, so one that is written there stays alone: the deny is
            // what ends that statement. Keys of conditions know no case.
            if let Some(before) = before.as_object_mut()
                && !before.keys().any(|key| key.eq_ignore_ascii_case("aws:CurrentTime"))
            {
                before.insert("aws:CurrentTime".to_owned(), Value::from(end));
            }
        }
    }
    statement
}

/// What is wrong with a policy as it is written, to follow its name; STS looks closer.
pub(super) fn fault_of_policy(policy: &Value) -> Option<&'static str> {
    let Some(members) = policy.as_object() else { return Some("is not a table") };
    let statements = match members.get("Statement") {
        Some(Value::Array(statements)) => statements.as_slice(),
        Some(one) => std::slice::from_ref(one),
        None => return Some("has no `Statement`"),
    };
    let effect = |one: &Value| one.get("Effect").and_then(Value::as_str).map(str::to_owned);
    let sound = |one: &Value| matches!(effect(one).as_deref(), Some("Allow" | "Deny"));
    match statements {
        [] => Some("has no statement"),
        all if !all.iter().all(sound) => {
            Some("has a statement whose `Effect` is neither \"Allow\" nor \"Deny\"")
        }
        // A session policy says what a session may do, not who may.
        all if all.iter().any(|one| one.get("Principal").is_some() || one.get("NotPrincipal").is_some()) => {
            Some("has a `Principal`, which a session policy may not have")
        }
        _ => None,
    }
}

/// The version of the policy language (IAM JSON policy elements: `Version`).
pub(super) const VERSION: &str = "2012-10-17";

#[cfg(test)]
#[expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const FACTS: Facts<'_> = Facts { person: "alice", session: "s-1", launch: "l-1" };

    #[test]
    fn texts() {
        for (text, want) in [
            ("plain", Ok("plain")),
            ("home/{person}/{session}/{launch}", Ok("home/alice/s-1/l-1")),
            ("{{person}}", Ok("{person}")),
            ("home/${aws:username}/*", Ok("home/${aws:username}/*")),
            ("${aws:PrincipalTag/team, 'x'}{person}", Ok("${aws:PrincipalTag/team, 'x'}alice")),
            ("${*}${?}${$}", Ok("${*}${?}${$}")),
            ("5$ {person}", Ok("5$ alice")),
            ("{user}", Err("names a field")),
            ("{person", Err("belongs to nothing")),
            ("person}", Err("belongs to nothing")),
            ("${aws:x", Err("without its")),
        ] {
            match (fill(text, FACTS), want) {
                (Ok(got), Ok(want)) => assert_eq!(got, want, "{text}"),
                (Err(got), Err(want)) => assert!(got.contains(want), "{text}: {got}"),
                (got, want) => unreachable!("{text}: {got:?}, not {want:?}"),
            }
        }
    }

    fn rendered(written: Option<&Value>, managed: &[String], end: bool) -> Value {
        let end = end.then(|| "2026-03-01T10:00:00Z".parse().unwrap());
        serde_json::from_str(&policy(written, managed, end, FACTS).unwrap().unwrap()).unwrap()
    }

    #[test]
    fn limits_in_time() {
        let all = rendered(None, &[], true);
        assert_eq!(
            all["Statement"][0]["Condition"]["DateLessThan"]["aws:CurrentTime"],
            "2026-03-01T10:00:00Z"
        );
        assert_eq!(all["Statement"][1]["Effect"], "Deny");
        let managed = ["arn:aws:iam::aws:policy/ReadOnlyAccess".to_owned()];
        let only_deny = rendered(None, &managed, true);
        assert_eq!(only_deny["Statement"].as_array().unwrap().len(), 1);
        assert_eq!(only_deny["Statement"][0]["Effect"], "Deny");
        let written = json!({"Version": VERSION, "Statement": {
            "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/{person}/${aws:username}",
            "Condition": {"DateLessThan": {"AWS:currenttime": "2026-01-01T00:00:00Z"}},
        }});
        let kept = rendered(Some(&written), &[], true);
        let before = kept["Statement"][0]["Condition"]["DateLessThan"].as_object().unwrap();
        assert_eq!(before.len(), 1);
        assert_eq!(kept["Statement"][0]["Resource"], "arn:aws:s3:::b/alice/${aws:username}");
        assert_eq!(policy(None, &[], None, FACTS), Ok(None));
    }

    #[test]
    fn lengths() {
        let of = |length: usize| {
            let base = json!({"Statement": []}).to_string().len() + "\"Sid\":\"\",".len();
            policy(Some(&json!({"Sid": "x".repeat(length - base), "Statement": []})), &[], None, FACTS)
        };
        assert_eq!(of(2048).unwrap().unwrap().len(), 2048);
        assert!(of(2049).unwrap_err().contains("2049"));
    }

    #[test]
    fn faults() {
        for (policy, want) in [
            (json!({"Statement": {"Effect": "Allow"}}), None),
            (json!(1), Some("not a table")),
            (json!({}), Some("no `Statement`")),
            (json!({"Statement": []}), Some("no statement")),
            (json!({"Statement": [{"Effect": "allow"}]}), Some("neither")),
            (json!({"Statement": [{"Effect": "Allow", "Principal": "*"}]}), Some("Principal")),
        ] {
            match (fault_of_policy(&policy), want) {
                (None, None) => {}
                (Some(got), Some(want)) => assert!(got.contains(want), "{got}"),
                (got, want) => unreachable!("{policy}: {got:?}, not {want:?}"),
            }
        }
    }
}
