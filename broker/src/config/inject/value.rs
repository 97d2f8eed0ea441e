//! Reads templates: each placeholder is of a credential that the scope has, and text that looks like a secret is
//! told of. Never repeats a value.

use mcp_broker_proto::names::Label;
use mcp_broker_proto::template::{FILTERS, Template, TemplateError};

use crate::config::credential::Credential;
use crate::config::reader::Reader;
use crate::config::server::CREDENTIAL_HINT;
use crate::config::shapes::secret_shape;

/// The template `value`, which is all that its way hands over.
pub(super) fn only(one: &Reader<'_>, credentials: &[Credential]) -> Option<Template> {
    if !one.has("value") {
        one.missing("value");
    }
    let template = template(one, "value", credentials)?;
    if template.fields().next().is_none() && template.texts().find_map(secret_shape).is_none() {
        warn_of_no_use(one, "value");
    }
    Some(template)
}

/// Tells that what `key` says holds nothing of a credential.
pub(super) fn warn_of_no_use(one: &Reader<'_>, key: &str) {
    let message = format!("`{}` uses no credential", one.name(key));
    one.warning(key, message, "put what is not secret into [env]");
}

/// The template at `key`.
pub(super) fn template(one: &Reader<'_>, key: &str, credentials: &[Credential]) -> Option<Template> {
    let text = one.text(key)?;
    let template = match text.parse::<Template>() {
        Ok(template) => template,
        Err(error) => {
            let (message, hint) = template_mistake(&error);
            one.error(key, format!("`{}` {message}", one.name(key)), hint);
            return None;
        }
    };
    for (name, field) in template.fields() {
        if let Err((message, hint)) = check_field(name, field, credentials) {
            one.error(key, message, hint);
        }
    }
    if let Some(kind) = template.texts().find_map(secret_shape) {
        one.warning(key, format!("`{}` seems to hold {kind}", one.name(key)), CREDENTIAL_HINT);
    }
    if template.texts().any(|text| text.contains('\0')) {
        one.error(key, format!("`{}` holds a NUL", one.name(key)), "remove it");
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
    let credential = named(name, credentials)?;
    match &credential.fields {
        Some(fields) if !fields.iter().any(|known| known == field) => {
            let known: Vec<_> = fields.iter().map(|known| format!("`{known}`")).collect();
            let message = TemplateError::UnknownField(name.to_string(), field.to_owned()).to_string();
            Err((message, format!("there are {}", known.join(", "))))
        }
        _ => Ok(()),
    }
}

/// The credential of that name, or what is wrong with the name and its cure.
pub(super) fn named<'c>(
    name: &Label,
    credentials: &'c [Credential],
) -> Result<&'c Credential, (String, String)> {
    credentials.iter().find(|credential| credential.key == name.as_str()).ok_or_else(|| {
        let known: Vec<_> = credentials.iter().map(|credential| format!("`{}`", credential.key)).collect();
        let hint = match known.as_slice() {
            [] => format!("add `credential.{name} = {{ provider = …, … }}` to the scope"),
            known => format!("there are {}", known.join(", ")),
        };
        (TemplateError::UnknownCredential(name.to_string()).to_string(), hint)
    })
}

const BRACE_HINT: &str =
    "write `{credential.field}` or `{credential.field|filter}`, and `{{` or `}}` for a brace itself";
