//! What is said of a command line that cannot be understood: what is wrong, and a hint. Repeats no word that
//! may be a secret.

use std::path::Path;

use clap::CommandFactory;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::Cli;
use super::report::{EXIT_USAGE, Report};
use crate::config::shell_word;
use crate::provider::sealed::NotASecretName;

/// The report for clap's own error about `words`, the command line without the program's name. Help and
/// version are answers, not errors.
pub(super) fn report(error: &clap::Error, words: &[String]) -> Report {
    let text = error.render().to_string();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Report::success(text),
        _ if is_secret_set(words) => secret_set(error, words),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            let command = command_of(words);
            Report::failure(EXIT_USAGE, &format!("`{command}` needs a command"), &see_help(&command))
        }
        _ => {
            let hint = if lacks_an_account(error) {
                "`--user NAME` names an account here; for your own broker write `--mode user`".to_owned()
            } else {
                see_help(&command_of(words))
            };
            Report::failure(EXIT_USAGE, without_advice(&text), &hint)
        }
    }
}

/// Without clap's first word and last line, which the program's own take the place of.
fn without_advice(text: &str) -> &str {
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split("\n\nFor more information").next().unwrap_or(text).trim_end()
}

fn see_help(command: &str) -> String {
    format!("`{command} --help` says what it takes")
}

/// The command that `words` name, with the program before it.
fn command_of(words: &[String]) -> String {
    let described = Cli::command();
    let (mut at, mut name) = (&described, described.get_name().to_owned());
    for word in words {
        if let Some(below) = at.find_subcommand(word) {
            at = below;
            name.push_str(&format!(" {word}"));
        }
    }
    name
}

/// `--user` without a name, where an account is meant by it.
fn lacks_an_account(error: &clap::Error) -> bool {
    error.kind() == ErrorKind::InvalidValue
        && about(error).is_some_and(|argument| argument.starts_with("--user"))
        && matches!(error.get(ContextKind::InvalidValue), Some(ContextValue::String(value)) if value.is_empty())
}

fn about(error: &clap::Error) -> Option<&str> {
    match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(argument)) => Some(argument),
        _ => None,
    }
}

fn is_secret_set(words: &[String]) -> bool {
    let place = |wanted: &str| words.iter().position(|word| word == wanted);
    matches!((place("secret"), place("set")), (Some(secret), Some(set)) if secret < set)
}

/// Whatever stands there too much or in a wrong place may be the value, so no word is repeated.
fn secret_set(error: &clap::Error, words: &[String]) -> Report {
    let about_name = about(error).is_some_and(|argument| argument.contains("NAME"));
    let what = match error.kind() {
        ErrorKind::InvalidValue | ErrorKind::ValueValidation if about_name => {
            format!("the name {NotASecretName}")
        }
        ErrorKind::MissingRequiredArgument => "`secret set` needs the name of the value".to_owned(),
        ErrorKind::UnknownArgument | ErrorKind::TooManyValues => {
            "`secret set` takes a name and nothing else; the value comes by standard input".to_owned()
        }
        _ => "`secret set` cannot understand its options".to_owned(),
    };
    let command = format!("mcp-broker secret set NAME{}", options(words));
    let hint = if error.kind() == ErrorKind::MissingRequiredArgument {
        format!("{command} < file, or without `< file` to be asked for the value")
    } else {
        format!(
            "{command} < file. If a value was on this command line, it is in the shell's history now and other \
             programs could read it: replace it where it was issued"
        )
    };
    Report::failure(EXIT_USAGE, &what, &hint)
}

/// The options of a line that could not be parsed, as far as they say which broker is meant.
fn options(words: &[String]) -> String {
    let mut said = String::new();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).map_or("", String::as_str);
        match word.as_str() {
            "--user" => said.push_str(" --user"),
            "--mode" if ["user", "system"].contains(&next) => said.push_str(&format!(" --mode {next}")),
            "--config" if !next.is_empty() => {
                said.push_str(&format!(" --config {}", shell_word(Path::new(next))));
            }
            _ => {}
        }
    }
    said
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a line that is understood must fail the test")]
mod tests {
    use clap::Parser;

    use super::*;

    fn said(line: &str) -> Report {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        let all = ["mcp-broker"].into_iter().chain(words.iter().map(String::as_str));
        report(&Cli::try_parse_from(all).unwrap_err(), &words)
    }

    #[test]
    fn every_usage_error_ends_with_a_hint() {
        for (line, hint) in [
            ("", "`mcp-broker --help` says"),
            ("nope", "`mcp-broker --help` says"),
            ("servce", "`mcp-broker --help` says"),
            ("leases --nope", "`mcp-broker leases --help` says"),
            ("secret", "`mcp-broker secret --help` says"),
            ("secret remove", "`mcp-broker secret remove --help` says"),
            ("revoke", "`mcp-broker revoke --help` says"),
            ("completions tcsh", "`mcp-broker completions --help` says"),
            ("audit verify --head abc", "`mcp-broker audit verify --help` says"),
            ("revoke --all --user", "for your own broker write `--mode user`"),
            ("explain --user", "for your own broker write `--mode user`"),
        ] {
            let report = said(line);
            assert_eq!((report.code, report.out.as_str()), (64, ""), "{line}");
            assert!(report.err.starts_with("mcp-broker: "), "{line}: {}", report.err);
            let last = report.err.lines().last().unwrap();
            assert!(last.starts_with("hint: ") && last.contains(hint), "{line}: {}", report.err);
        }
    }

    #[test]
    fn help_is_an_answer() {
        for line in ["help", "help revoke", "check --help", "--version", "help secret set"] {
            let report = said(line);
            assert_eq!((report.code, report.err.as_str()), (0, ""), "{line}");
        }
        for line in ["help", "--help"] {
            assert!(said(line).out.contains("--mode system"), "{line}: {}", said(line).out);
        }
        assert!(said("serve --help").out.contains("MCP_BROKER_LOG"));
        assert_eq!(said("help nope").code, 64);
    }

    #[test]
    fn a_value_on_the_command_line_is_not_repeated() {
        for line in [
            "secret set TOKEN hunter2",
            "secret set TOKEN --value=hunter2",
            "secret set TOKEN=hunter2",
            "secret set --user TOKEN hunter2",
            "--config /x secret set TOKEN hunter2",
        ] {
            let report = said(line);
            assert_eq!(report.code, 64, "{line}");
            assert!(!report.err.contains("hunter2"), "{line}: {}", report.err);
            assert!(
                report.err.contains("history") && report.err.contains("< file"),
                "{line}: {}",
                report.err
            );
        }
        assert!(!said("secret set").err.contains("history"));
        let kept = said("--config /x secret set TOKEN hunter2 --user").err;
        assert!(kept.contains("secret set NAME --config /x --user < file"), "{kept}");
    }
}
