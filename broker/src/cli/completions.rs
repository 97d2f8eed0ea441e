//! `completions`: prints a completion script for a shell, made from the command line's own description.

use clap::Command;
use clap_complete::Shell;

use super::Report;

/// Arguments of the command.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs it on the description of the whole command line.
pub(super) fn run(args: &Args, mut described: Command) -> Report {
    let name = described.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut described, name, &mut script);
    Report::success(String::from_utf8_lossy(&script).into_owned())
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_shell_completes_the_commands() {
        for shell in Shell::value_variants() {
            let described = Command::new("mcp-broker").subcommand(Command::new("revoke"));
            let report = run(&Args { shell: *shell }, described);
            assert!(report.out.contains("mcp-broker") && report.out.contains("revoke"), "{shell}");
        }
    }
}
