//! Secrets that one provider reads from another: whether that one is there, keeps any, and can have one under that
//! path. Said when the file is read, so that no launch is the first to learn it. Reads no secret.

use std::ops::Range;

use mcp_broker_proto::names::Label;

use super::broker_toml::Providers;
use super::reader::Reader;

/// A secret that a table names.
#[derive(Debug, Clone)]
pub(super) struct Need {
    /// Dotted path of the table.
    table: String,
    provider: (Label, Range<usize>),
    path: (String, Range<usize>),
    field: Option<(String, Range<usize>)>,
}

/// What is wrong with one key, where it takes two tables to see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The key.
    pub key: &'static str,
    /// What is wrong, to follow the key's name.
    pub what: String,
    /// What to do.
    pub hint: &'static str,
}

impl Reader<'_> {
    /// Notes that this table names a secret of another provider, by its keys `provider`, `path` and `field`.
    pub(crate) fn needs_secret(&self, provider: &Label, path: &str, field: Option<&str>) {
        self.sink.need(Need {
            table: self.path.clone(),
            provider: (provider.clone(), self.span_of("provider")),
            path: (path.to_owned(), self.span_of("path")),
            field: field.map(|field| (field.to_owned(), self.span_of("field"))),
        });
    }
}

/// Judges every need of the file, when all its providers were read.
pub(super) fn judge(top: &Reader<'_>, providers: &Providers) {
    for need in top.sink.needs() {
        let (name, span) = &need.provider;
        let key = format!("{}.provider", need.table);
        let known = providers.kinds.contains_key(name.as_str());
        // The path of the table is `provider.NAME.…`, and a name has no dot.
        if need.table.split('.').nth(1) == Some(name.as_str()) {
            let hint = "name another one, of kind `vault` or `sealed`, or write `file`";
            top.error_at(span, format!("`{key}` names the provider itself"), hint);
        } else if let Some(section) = providers.sections.get(name) {
            let field = need.field.as_ref().map(|(field, _)| field.as_str());
            let Some(judged) = section.config.judge_secret(&need.path.0, field) else {
                let message =
                    format!("`{key}` names a provider of kind `{}`, which keeps no secrets", section.kind);
                top.error_at(span, message, "name a provider of kind `vault` or `sealed`");
                continue;
            };
            if let Err(misfit) = judged {
                let field = need.field.as_ref().filter(|_| misfit.key == "field");
                let span = field.map_or(&need.path.1, |(_, span)| span);
                top.error_at(span, format!("`{}.{}` {}", need.table, misfit.key, misfit.what), misfit.hint);
            }
        } else if !known && !top.is_damaged() {
            let hint = "add it to broker.toml, or correct the name";
            top.error_at(span, format!("`{key}` names no provider of broker.toml"), hint);
        }
    }
}
