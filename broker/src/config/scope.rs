//! Reads the scope of a server file: the credentials it needs and how they reach the instance.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use mcp_broker_proto::launch::Injection;
use mcp_broker_proto::names::Label;
use mcp_broker_proto::template::{FILTERS, Template, TemplateError};

use super::broker_toml::Providers;
use super::kinds::KindReader;
use super::model::{CredentialSpec, Limits, Scope};
use super::reader::Reader;
use super::schema::keys_of;
use super::server::CREDENTIAL_HINT;
use super::shapes::secret_shape;
use super::variables::check_variable;

/// Keys that act on single tools.
pub(super) const PER_TOOL_KEYS: &[&str] =
    &["limits", "confirm", "resources", "prompts", "audit_arguments", "arguments"];
/// Why they are refused.
pub(super) const PER_TOOL_REASON: &str = "nothing tells one tool's call from another's";

/// Reads `[scope.*]`, of which there must be exactly one; `None` when a mistake was noted.
pub(super) fn read_only_one(
    top: &Reader<'_>,
    env: &BTreeMap<String, String>,
    providers: &Providers,
    kinds: &[&KindReader],
) -> Option<Scope> {
    let scopes = top.table("scope");
    let keys = scopes.as_ref().map(Reader::keys).unwrap_or_default();
    let Some(scopes) = scopes.filter(|_| !keys.is_empty()) else {
        top.error_unless_damaged("scope", "there is no scope, so no tool exists", SCOPE_HINT);
        return None;
    };
    let mut only = None;
    for (index, (key, span)) in keys.into_iter().enumerate() {
        if index > 0 {
            let message = format!("`{}` is not supported yet: a server has one scope", scopes.name(&key));
            scopes.error_at(&span, message, "move it into a server of its own");
        }
        let name = key.parse::<Label>();
        if let Err(error) = &name {
            scopes.error_at(&span, format!("`{}` {error}", scopes.name(&key)), "choose another name");
        }
        let scope = scopes.table(&key).map(|table| {
            idle(&table, index);
            read(table, env, providers, kinds)
        });
        if index == 0
            && let (Ok(name), Some((credentials, inject))) = (name, scope)
        {
            only = Some(Scope {
                name,
                tools: vec!["*".to_owned()],
                resources: Vec::new(),
                prompts: Vec::new(),
                idle: None,
                limits: Limits::default(),
                confirm: None,
                arguments: Vec::new(),
                audit_arguments: false,
                credentials,
                inject,
            });
        }
    }
    only
}

fn read(
    table: Reader<'_>,
    env: &BTreeMap<String, String>,
    providers: &Providers,
    kinds: &[&KindReader],
) -> (Vec<CredentialSpec>, Vec<Injection>) {
    tools(&table);
    let credentials =
        table.table("credential").map(|all| credentials(&all, providers, kinds)).unwrap_or_default();
    let inject = inject(&table, env, &credentials);
    for credential in &credentials {
        let used = inject
            .iter()
            .flat_map(|way| way.value().fields())
            .any(|(name, _)| name.as_str() == credential.key);
        if !used {
            let message = format!("credential `{}` is minted but nothing injects it", credential.key);
            table.warning_at(&credential.span, message, "use it in `inject`, or remove it");
        }
    }
    for key in PER_TOOL_KEYS {
        table.not_built(key, PER_TOOL_REASON);
    }
    table.finish();
    (credentials.into_iter().filter_map(|credential| credential.spec).collect(), inject)
}

/// Later scopes may be given up sooner; the first one is what the launch itself runs on.
fn idle(table: &Reader<'_>, index: usize) {
    table.known("idle");
    if index == 0 && table.holds("idle") {
        let message = format!(
            "`{}` is set on the first scope, whose instance has no time of its own",
            table.name("idle")
        );
        table.error("idle", message, "remove it, and set `idle` in [session] of broker.toml");
    }
}

fn tools(table: &Reader<'_>) {
    if !table.has("tools") {
        table.missing("tools");
    }
    let Some(tools) = table.texts("tools") else { return };
    if tools != ["*"] {
        let message = "`tools` other than [\"*\"] is not supported yet: the instance would answer every tool all the same";
        table.error(
            "tools",
            message,
            "write `tools = [\"*\"]`, and give the credentials no more than every tool may do",
        );
    }
}

/// One credential as far as it could be read.
struct Credential {
    key: String,
    span: std::ops::Range<usize>,
    spec: Option<CredentialSpec>,
    /// Its fields, where the kind knows them.
    fields: Option<Vec<String>>,
}

fn credentials(all: &Reader<'_>, providers: &Providers, kinds: &[&KindReader]) -> Vec<Credential> {
    let mut found = Vec::new();
    for (key, span) in all.keys() {
        let name = key.parse::<Label>();
        if let Err(error) = &name {
            all.error_at(&span, format!("`{}` {error}", all.name(&key)), "choose another name");
        }
        let read = all.table(&key).and_then(|table| credential(table, providers, kinds));
        let (spec, fields) = match (name, read) {
            (Ok(name), Some((provider, ttl, keys))) => {
                (Some(CredentialSpec { name, provider, ttl, settings: keys.settings }), keys.fields)
            }
            _ => (None, None),
        };
        found.push(Credential { key, span, spec, fields });
    }
    found
}

fn credential(
    table: Reader<'_>,
    providers: &Providers,
    kinds: &[&KindReader],
) -> Option<(Label, Duration, super::CredentialKeys)> {
    let provider = table.required_text("provider");
    let kind = provider.as_deref().and_then(|name| kind_of(&table, name, providers, kinds));
    let Some(kind) = kind else {
        // Which other keys there may be is the kind's to say, so they are not judged.
        table.duration_within("ttl", TTL, *TTL.start());
        return None;
    };
    let ttl = table.duration_within("ttl", TTL, kind.default_ttl);
    let keys = (kind.credential)(&table);
    if keys.is_none() {
        table.given_up(keys_of(kind.credential_schema));
    }
    table.finish();
    Some((provider?.parse().ok()?, ttl?, keys?))
}

fn kind_of<'k>(
    table: &Reader<'_>,
    name: &str,
    providers: &Providers,
    kinds: &[&'k KindReader],
) -> Option<&'k KindReader> {
    if !providers.kinds.contains_key(name) && !providers.incomplete {
        let known: Vec<_> = providers.kinds.keys().map(|name| format!("`{name}`")).collect();
        let hint = match known.as_slice() {
            [] => "add a table [provider.NAME] to broker.toml".to_owned(),
            known => format!("there are {}; others are added to broker.toml", known.join(", ")),
        };
        table.error(
            "provider",
            format!("`{}` names no provider of broker.toml", table.name("provider")),
            hint,
        );
    }
    let kind = (*providers.kinds.get(name)?)?;
    kinds.iter().find(|known| known.name == kind).copied()
}

fn inject(table: &Reader<'_>, env: &BTreeMap<String, String>, credentials: &[Credential]) -> Vec<Injection> {
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
            ways.push(if file { Injection::File { name, value } } else { Injection::Env { name, value } });
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

/// How long a credential may live without renewal.
const TTL: std::ops::RangeInclusive<Duration> = Duration::from_secs(30)..=Duration::from_secs(24 * 3600);

/// Ways of later parts.
const LATER_WAYS: &[&str] = &["fd", "aws", "kubeconfig", "format"];

const SCOPE_HINT: &str = "add a table such as [scope.all] with `tools = [\"*\"]`";
const INJECT_HINT: &str = "write `{ env = \"VAR\", value = \"…\" }` or `{ file = \"VAR\", value = \"…\" }`";
const BRACE_HINT: &str =
    "write `{credential.field}` or `{credential.field|filter}`, and `{{` or `}}` for a brace itself";
