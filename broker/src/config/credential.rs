//! Reads the credentials of a scope: which provider mints each, for how long, and that provider's own keys.

use std::time::Duration;

use mcp_broker_proto::names::Label;

use super::broker_toml::Providers;
use super::kinds::{CredentialKeys, KindReader};
use super::model::CredentialSpec;
use super::reader::Reader;
use super::schema::keys_of;
use crate::fault;

/// One credential as far as it could be read.
pub(super) struct Credential {
    pub(super) key: String,
    pub(super) span: std::ops::Range<usize>,
    pub(super) spec: Option<CredentialSpec>,
    /// Its fields, where the kind knows them.
    pub(super) fields: Option<Vec<String>>,
}

/// Reads `credential.*` of a scope; mistakes are noted.
pub(super) fn credentials(all: &Reader<'_>, providers: &Providers, kinds: &[&KindReader]) -> Vec<Credential> {
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
) -> Option<(Label, Duration, CredentialKeys)> {
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
    let provider: Option<Label> = provider.and_then(|name| name.parse().ok());
    let section = provider.as_ref().and_then(|name| providers.sections.get(name));
    if let (Some(keys), Some(section)) = (&keys, section)
        && let Err(misfit) = section.config.judge_credential(&*keys.settings)
    {
        table.error(misfit.key, format!("`{}` {}", table.name(misfit.key), misfit.what), misfit.hint);
    }
    table.finish();
    Some((provider?, ttl?, keys?))
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

/// How long a credential may live without renewal.
const TTL: std::ops::RangeInclusive<Duration> = fault::SHORTEST_TTL..=Duration::from_secs(24 * 3600);
