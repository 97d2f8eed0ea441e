//! The JSON Schema of the files, for editors and people: a checked-in frame, completed with what each
//! provider kind says of its own keys. The readers decide; a test keeps the two from drifting apart.

use serde_json::{Map, Value, json};

use super::kinds::KindReader;

/// One document (JSON Schema draft 2020-12) with `broker` and `server` under `$defs`.
#[must_use]
pub fn schema(kinds: &[&KindReader]) -> Value {
    let mut document = object(FRAME);
    let provider: Value = kinds.iter().map(|kind| provider_schema(kind)).collect();
    let credential: Value = kinds.iter().map(|kind| credential_schema(kind)).collect();
    if let Some(Value::Object(definitions)) = document.get_mut("$defs") {
        definitions.insert("provider".to_owned(), json!({ "oneOf": provider }));
        // Which provider a name stands for is in the other file, so any kind's keys will do here.
        definitions.insert("credential".to_owned(), json!({ "anyOf": credential }));
    }
    Value::Object(document)
}

/// The keys that a kind's schema text describes.
pub(super) fn keys_of(text: &str) -> impl Iterator<Item = String> {
    object(text).into_iter().map(|(key, _)| key)
}

fn provider_schema(kind: &KindReader) -> Value {
    let mut keys = object(kind.provider_schema);
    keys.insert("kind".to_owned(), json!({ "const": kind.name }));
    closed(kind.name, keys, &["kind"])
}

fn credential_schema(kind: &KindReader) -> Value {
    let mut keys = object(kind.credential_schema);
    keys.insert("provider".to_owned(), json!({ "$ref": "#/$defs/label", "description": PROVIDER }));
    keys.insert("ttl".to_owned(), json!({ "$ref": "#/$defs/duration", "description": TTL }));
    closed(kind.name, keys, &["provider"])
}

fn closed(title: &str, properties: Map<String, Value>, required: &[&str]) -> Value {
    json!({
        "title": title, "type": "object", "properties": properties,
        "required": required, "additionalProperties": false,
    })
}

/// The texts are constants of the program; a test parses each of them.
fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_default()
}

const FRAME: &str = include_str!("schema.json");
const PROVIDER: &str = "Name of a provider of broker.toml.";
const TTL: &str = "The longest life without renewal, 30s to 24h; without it the kind's own.";

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a schema that does not hold together must fail the test"
)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::super::broker_toml::{self, Providers};
    use super::super::diagnostic::Sink;
    use super::super::load::with_top;
    use super::super::testing::{FIXED, OPEN, places};
    use super::super::{Mode, server};
    use super::*;

    /// Kinds that give up at once ask for nothing.
    const KINDS: &[&KindReader] = &[&FIXED, &OPEN];

    type Keys = BTreeSet<(String, String)>;

    /// Every key of the schema at `pointer` and below, as (path of the table, key); `*` stands for any name.
    fn schema_keys(document: &Value, at: &Value, path: &str, keys: &mut Keys) {
        if let Some(reference) = at["$ref"].as_str() {
            let target = document.pointer(reference.trim_start_matches('#')).unwrap();
            return schema_keys(document, target, path, keys);
        }
        let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
        for (key, schema) in at["properties"].as_object().into_iter().flatten() {
            keys.insert((path.to_owned(), key.clone()));
            schema_keys(document, schema, &below(key), keys);
        }
        for alternative in ["oneOf", "anyOf"] {
            for schema in at[alternative].as_array().into_iter().flatten() {
                schema_keys(document, schema, path, keys);
            }
        }
        if at["additionalProperties"].is_object() {
            keys.insert((path.to_owned(), "*".to_owned()));
            schema_keys(document, &at["additionalProperties"], &below("*"), keys);
        }
        if at["items"].is_object() {
            schema_keys(document, &at["items"], &format!("{path}[0]"), keys);
        }
    }

    /// The keys that the readers asked for while they read `text`, in which `any` and `other` are every name.
    fn asked_keys(text: &str, read: impl FnOnce(super::super::Reader<'_>)) -> Keys {
        let sink = Sink::new(Path::new("f"), text.to_owned());
        with_top(&sink, read);
        let starred = |text: &str| {
            text.split('.')
                .map(|part| if ["any", "other"].contains(&part) { "*" } else { part })
                .map(|part| if part.starts_with("inject[") { "inject[0]" } else { part })
                .collect::<Vec<_>>()
                .join(".")
        };
        let asked = sink.asked();
        let found = sink.into_found();
        assert!(found.is_empty(), "{found:?}");
        asked.iter().map(|(path, key)| (starred(path), starred(key))).collect()
    }

    fn check(definition: &str, asked: &Keys) {
        let document = schema(KINDS);
        let mut keys = Keys::new();
        schema_keys(&document, &document["$defs"][definition], "", &mut keys);
        assert_eq!(&keys, asked);
    }

    #[test]
    fn broker_file() {
        let text =
            "[broker]\n[identity]\n[session]\nresume = {}\n[provider.any]\nkind = \"fixed\"\n[audit]\n";
        check(
            "broker",
            &asked_keys(text, |top| drop(broker_toml::read(top, Mode::System, &places(), KINDS))),
        );
    }

    #[test]
    fn server_file() {
        let text = "tier = \"development\"\ncommand = [\"/bin/true\"]\nenv = { any = \"x\" }\n[access]\nusers = [\"u\"]\n\
            [scope.any]\ntools = [\"any\"]\nlimits = {}\narguments.any.any = { max = 1 }\n\
            credential.any = { provider = \"p\", number = \"1\" }\n\
            inject = [{ file = \"V\", value = \"{any.value}\" }, { env = \"W\", value = \"{any.value}\" },\n\
            { file = \"X\", format = \"json\", values = { any = \"{any.value}\" } }, { fd = \"Y\", value = \"{any.value}\" }]\n\
            [scope.other]\ntools = [\"x\"]\nidle = \"1m\"\ncredential.any = { provider = \"q\" }\n\
            inject = [{ aws = \"endpoint\" }, { kubeconfig = \"K\", server = \"https://k\" }]\n";
        let mut providers = Providers::default();
        providers.kinds.insert("p".to_owned(), Some("fixed"));
        providers.kinds.insert("q".to_owned(), Some("open"));
        let read =
            |top: super::super::Reader<'_>| drop(server::read(top, "s".parse().unwrap(), &providers, KINDS));
        check("server", &asked_keys(text, read));
    }

    #[test]
    fn constants_parse() {
        assert!(!object(FRAME).is_empty());
        for kind in KINDS {
            for text in [kind.provider_schema, kind.credential_schema] {
                assert!(serde_json::from_str::<Map<String, Value>>(text).is_ok(), "{}", kind.name);
            }
        }
    }
}
