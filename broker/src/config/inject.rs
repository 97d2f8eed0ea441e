//! Reads how the credentials of a scope reach its instance: variables and private files, with templates as values.

use std::collections::{BTreeMap, BTreeSet};

use mcp_broker_proto::launch::{Content, Injection};
use mcp_broker_proto::names::Label;
use mcp_broker_proto::template::{FILTERS, Template, TemplateError};

use super::credential::Credential;
use super::reader::Reader;
use super::server::CREDENTIAL_HINT;
use super::shapes::secret_shape;
use super::variables::check_variable;

/// Reads `inject` of a scope; mistakes are noted.
pub(super) fn inject(
    table: &Reader<'_>,
    env: &BTreeMap<String, String>,
    credentials: &[Credential],
) -> Vec<Injection> {
    let mut taken = BTreeSet::new();
    let mut ways = Vec::new();
    for way in table.tables("inject") {
        let file = way.has("file");
        if way.has("env") == file && !LATER_WAYS.iter().any(|key| way.holds(key)) {
            way.error_at(
                &way.span(),
                format!("`{}` needs either `env` or `file`", way.path_of_table()),
                INJECT_HINT,
            );
        }
        let name = variable(&way, if file { "file" } else { "env" }, env, &mut taken);
        let value = template(&way, credentials);
        for key in LATER_WAYS {
            way.not_built(key, "values reach an instance as a variable or a private file");
        }
        way.finish();
        if let (Some(name), Some(value)) = (name, value) {
            ways.push(match file {
                true => Injection::File { name, content: Content::Text(value), reread: false, signal: None },
                false => Injection::Env { name, value },
            });
        }
    }
    ways
}

fn variable(
    way: &Reader<'_>,
    key: &str,
    env: &BTreeMap<String, String>,
    taken: &mut BTreeSet<String>,
) -> Option<String> {
    let name = way.text(key)?;
    if let Err(bad) = check_variable(&name) {
        way.error(key, format!("`{}` {}", way.name(key), bad.message()), bad.hint());
        return None;
    }
    if env.contains_key(&name) {
        way.error(key, format!("variable `{name}` is set in [env] too"), "remove one of the two");
    }
    if !taken.insert(name.clone()) {
        way.error(key, format!("variable `{name}` is injected twice"), "remove one of the two");
    }
    Some(name)
}

fn template(way: &Reader<'_>, credentials: &[Credential]) -> Option<Template> {
    let text = way.required_text("value")?;
    let template = match text.parse::<Template>() {
        Ok(template) => template,
        Err(error) => {
            let (message, hint) = template_mistake(&error);
            way.error("value", format!("`{}` {message}", way.name("value")), hint);
            return None;
        }
    };
    for (name, field) in template.fields() {
        if let Err((message, hint)) = check_field(name, field, credentials) {
            way.error("value", message, hint);
        }
    }
    if let Some(kind) = template.texts().find_map(secret_shape) {
        way.warning("value", format!("`{}` seems to hold {kind}", way.name("value")), CREDENTIAL_HINT);
    } else if template.fields().next().is_none() {
        let message = format!("`{}` uses no credential", way.name("value"));
        way.warning("value", message, "put what is not secret into [env]");
    }
    if template.texts().any(|text| text.contains('\0')) {
        way.error("value", format!("`{}` holds a NUL", way.name("value")), "remove it");
    }
    Some(template)
}

/// Words for a template that does not parse. The text between the braces may be a secret: it stays unsaid.
fn template_mistake(error: &TemplateError) -> (&'static str, String) {
    match error {
        TemplateError::Unbalanced => ("has an unbalanced brace", BRACE_HINT.to_owned()),
        TemplateError::Filter(_) => {
            ("has a filter that is not known", format!("there are {}", FILTERS.join(", ")))
        }
        TemplateError::Placeholder(_)
        | TemplateError::UnknownCredential(_)
        | TemplateError::UnknownField(..) => {
            ("has a placeholder that is not `{credential.field}`", BRACE_HINT.to_owned())
        }
    }
}

fn check_field(name: &Label, field: &str, credentials: &[Credential]) -> Result<(), (String, String)> {
    let Some(credential) = credentials.iter().find(|credential| credential.key == name.as_str()) else {
        let known: Vec<_> = credentials.iter().map(|credential| format!("`{}`", credential.key)).collect();
        let hint = match known.as_slice() {
            [] => format!("add `credential.{name} = {{ provider = …, … }}` to the scope"),
            known => format!("there are {}", known.join(", ")),
        };
        return Err((TemplateError::UnknownCredential(name.to_string()).to_string(), hint));
    };
    match &credential.fields {
        Some(fields) if !fields.iter().any(|known| known == field) => {
            let known: Vec<_> = fields.iter().map(|known| format!("`{known}`")).collect();
            let message = TemplateError::UnknownField(name.to_string(), field.to_owned()).to_string();
            Err((message, format!("there are {}", known.join(", "))))
        }
        _ => Ok(()),
    }
}

/// Ways of later parts.
const LATER_WAYS: &[&str] = &["fd", "aws", "kubeconfig", "format"];

const INJECT_HINT: &str = "write `{ env = \"VAR\", value = \"…\" }` or `{ file = \"VAR\", value = \"…\" }`";
const BRACE_HINT: &str =
    "write `{credential.field}` or `{credential.field|filter}`, and `{{` or `}}` for a brace itself";
