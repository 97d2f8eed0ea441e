//! `mcp-broker schema`: the JSON Schema of the configuration, for editors and people.

use super::report::{EXIT_OK, Report};
use crate::config::{KindReader, schema};

/// Runs the command.
pub(crate) fn run(kinds: &[&KindReader]) -> Report {
    Report::data(format!("{:#}\n", schema(kinds)), EXIT_OK)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a schema that does not parse must fail the test")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::testing::asked_of_nothing;
    use crate::provider::KINDS;

    #[test]
    fn names_every_kind() {
        let kinds: Vec<_> = KINDS.iter().map(|kind| &kind.reader).collect();
        let output = run(&kinds);
        for kind in kinds {
            assert!(output.out.contains(&format!("\"const\": \"{}\"", kind.name)), "{}", kind.name);
        }
        assert!(output.out.ends_with("}\n"));
    }

    /// What a kind asks for in any case is in its schema; the kind's own tests know the rest.
    #[test]
    fn kinds_describe_the_keys_they_read() {
        for kind in KINDS {
            let schemas = [kind.reader.provider_schema, kind.reader.credential_schema];
            for (asked, text) in asked_of_nothing(&kind.reader).into_iter().zip(schemas) {
                let schema: serde_json::Map<String, serde_json::Value> = serde_json::from_str(text).unwrap();
                let described: BTreeSet<_> = schema.keys().cloned().collect();
                let missing: Vec<_> = asked.difference(&described).collect();
                assert!(missing.is_empty(), "{}: {missing:?}", kind.reader.name);
            }
        }
    }
}
