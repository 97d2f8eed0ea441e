//! `mcp-broker schema`: the JSON Schema of the configuration, for editors and people.

use super::output::{EXIT_OK, Output};
use crate::config::{KindReader, schema};

/// The command has no arguments.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {}

/// Runs the command.
pub(crate) fn run(Args {}: &Args, kinds: &[&KindReader]) -> Output {
    Output::data(format!("{:#}\n", schema(kinds)), EXIT_OK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::KINDS;

    #[test]
    fn names_every_kind() {
        let output = run(&Args {}, KINDS);
        for kind in KINDS {
            assert!(output.stdout.contains(&format!("\"const\": \"{}\"", kind.name)), "{}", kind.name);
        }
        assert!(output.stdout.ends_with("}\n"));
    }
}
