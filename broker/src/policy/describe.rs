//! What a person is shown of a server's scopes: tools, credentials, limits. No path of a provider is in it.

use std::collections::{BTreeMap, BTreeSet};

use mcp_broker_proto::names::Label;
use mcp_broker_proto::pattern;
use mcp_broker_proto::plan::Record;
use mcp_broker_proto::session::ScopeInfo;

use super::rule_words::limit_words;
use crate::config::{Scope, ServerDefinition};

/// Names of the tools that each scope's instance showed when the server was approved.
pub type ApprovedTools = BTreeMap<Label, BTreeSet<String>>;

/// The scopes of a server in their order. With `approved`, tools are those of it that the scope's patterns name;
/// without, they are the patterns.
#[must_use]
pub fn describe(definition: &ServerDefinition, approved: Option<&ApprovedTools>) -> Vec<ScopeInfo> {
    definition.scopes.iter().map(|scope| info(scope, approved)).collect()
}

/// The names in a record. An item without one names no tool.
#[must_use]
pub fn approved_tools(record: &Record) -> ApprovedTools {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let mut tools = ApprovedTools::new();
    for (scope, lists) in record.variants.iter().flat_map(|variant| &variant.scopes) {
        let items = lists.tools.iter().flatten().filter_map(|place| record.item(*place));
        let names = items.filter_map(|item| serde_json::from_str::<Named>(item).ok());
        tools.entry(scope.clone()).or_default().extend(names.map(|named| named.name));
    }
    tools
}

/// The scope that has the tool, and the pattern that names it. At most one scope does.
#[must_use]
pub fn scope_of<'a>(definition: &'a ServerDefinition, tool: &str) -> Option<(&'a Scope, &'a str)> {
    definition.scopes.iter().find_map(|scope| {
        let pattern = scope.tools.iter().find(|pattern| pattern::matches(pattern, tool))?;
        Some((scope, pattern.as_str()))
    })
}

fn info(scope: &Scope, approved: Option<&ApprovedTools>) -> ScopeInfo {
    let of_record = |all: &ApprovedTools| {
        let tools = all.get(&scope.name).into_iter().flatten();
        tools.filter(|tool| scope.names_tool(tool)).cloned().collect()
    };
    let credential = |spec: &crate::config::CredentialSpec| format!("{} from {}", spec.name, spec.provider);
    ScopeInfo {
        name: scope.name.clone(),
        tools: approved.map_or_else(|| scope.tools.clone(), of_record),
        resources: scope.resources.clone(),
        prompts: scope.prompts.clone(),
        credentials: scope.credentials.iter().map(credential).collect(),
        limits: limit_words(scope, None),
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a scope that is not there must fail the test"
)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use mcp_broker_proto::plan::{Lists, Variant};

    use super::*;
    use crate::config::CredentialSpec;
    use crate::policy::testing::server_of;

    #[test]
    fn the_scope_of_a_tool() {
        let definition = server_of(&[("read", &["x", "get_*"]), ("write", &["put_*"])]);
        let found = |tool| scope_of(&definition, tool).map(|(scope, pattern)| (scope.name.as_str(), pattern));
        assert_eq!(found("get_a"), Some(("read", "get_*")));
        assert_eq!(found("put_"), Some(("write", "put_*")));
        assert_eq!((found("put"), found("get_\n"), found("")), (None, None, None));
    }

    #[test]
    fn tools_of_the_record_or_patterns() {
        let credential = CredentialSpec {
            name: "db".parse().unwrap(),
            provider: "bao".parse().unwrap(),
            ttl: Duration::from_secs(60),
            settings: Arc::new("database/creds/canary"),
        };
        let mut definition = server_of(&[("read", &["get_*", "list"]), ("write", &["put_*"])]);
        definition.scopes[0].credentials = vec![credential];
        let shown = describe(&definition, None);
        assert_eq!(
            (shown[0].name.as_str(), &shown[0].tools[..]),
            ("read", &["get_*".to_owned(), "list".to_owned()][..])
        );
        assert_eq!(shown[0].credentials, ["db from bao"]);
        assert!(!format!("{shown:?}").contains("canary"));

        let record = Record {
            approved_at: String::new(),
            items: [
                r#"{"name":"get_a"}"#,
                r#"{"name":"put_a"}"#,
                r#"{"title":"x"}"#,
                r#"{"name":"get_b","x":1}"#,
            ]
            .map(str::to_owned)
            .to_vec(),
            variants: [vec![0, 1, 2, 99], vec![3]]
                .map(|tools| Variant {
                    revision: String::new(),
                    capable: false,
                    discovery: 0,
                    scopes: BTreeMap::from([(
                        "read".parse().unwrap(),
                        Lists { tools: Some(tools), ..Lists::default() },
                    )]),
                })
                .to_vec(),
        };
        let shown = describe(&definition, Some(&approved_tools(&record)));
        assert_eq!(shown[0].tools, ["get_a", "get_b"]);
        assert_eq!(shown[1].tools, Vec::<String>::new());
    }
}
