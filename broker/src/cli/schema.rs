//! `mcp-broker schema`: the JSON Schema of the configuration, for editors and people.

use super::report::{EXIT_OK, Report};
use crate::config::{KindReader, schema};

/// Runs the command.
pub(crate) fn run(kinds: &[&KindReader]) -> Report {
    Report::data(format!("{:#}\n", schema(kinds)), EXIT_OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::KINDS;

    #[test]
    fn names_every_kind() {
        let output = run(KINDS);
        for kind in KINDS {
            assert!(output.out.contains(&format!("\"const\": \"{}\"", kind.name)), "{}", kind.name);
        }
        assert!(output.out.ends_with("}\n"));
    }
}
