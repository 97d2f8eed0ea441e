//! Arguments become a command. One file a command, one line in [`COMMANDS`]; help, completion and the
//! suggestion for a mistyped command all read that table.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use lexopt::{Arg, Parser};
use mcp_broker_proto::names::{BadName, ServerName};

use crate::client::Broker;
use crate::environment::Environment;
use crate::failure::{Failure, USAGE};
use crate::run;

mod approve;
mod completions;
mod credential;
mod doctor;
mod help;
mod later;
mod lock;
mod login;
mod logout;
mod outcome;
#[cfg(test)]
mod samples;
mod servers;
mod status;
mod text;
mod unlock;
mod words;

/// A command.
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its own arguments, for help.
    pub arguments: &'static str,
    /// What it does, for help and completion.
    pub about: &'static str,
    /// Whether it takes `--json`.
    pub json: bool,
    /// Does it.
    pub run: fn(&Call<'_>) -> Result<u8, Failure>,
}

/// Every command of `mcp-run`, in the order of the help text.
pub const COMMANDS: &[Command] = &[
    login::COMMAND,
    logout::COMMAND,
    lock::COMMAND,
    unlock::COMMAND,
    status::COMMAND,
    approve::COMMAND,
    servers::COMMAND,
    doctor::COMMAND,
    completions::COMMAND,
    credential::COMMAND,
    help::COMMAND,
    later::SCAN,
    later::MIGRATE,
];

/// One call of a command.
pub struct Call<'a> {
    /// What it was given, its name and the options taken out.
    pub arguments: &'a [String],
    /// Whether to answer in JSON.
    pub json: bool,
    /// `--socket`.
    pub socket: Option<&'a Path>,
    /// The process environment.
    pub environment: &'a Environment,
}

impl Call<'_> {
    /// The broker.
    ///
    /// # Errors
    /// Where it is not found or not to be trusted.
    pub fn broker(&self) -> Result<Broker, Failure> {
        Broker::find(self.socket, self.environment)
    }
}

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Launch { server: String, args: Vec<String> },
    Command { name: &'static str, arguments: Vec<String>, json: bool },
    Version,
}

/// Runs the command line; answers the exit code.
///
/// # Errors
/// Whatever the command fails with.
pub fn run(args: impl Iterator<Item = OsString>, environment: &Environment) -> Result<u8, Failure> {
    let (request, socket) = parse(args)?;
    match request {
        Request::Version => {
            crate::say::answer(concat!("mcp-run ", env!("CARGO_PKG_VERSION"), "\n"));
            Ok(0)
        }
        Request::Launch { server, args } => {
            run::launch(server_name(&server)?, args, socket.as_deref(), environment)
        }
        Request::Command { name, arguments, json } => {
            let call = Call { arguments: &arguments, json, socket: socket.as_deref(), environment };
            match COMMANDS.iter().find(|command| command.name == name) {
                Some(command) => (command.run)(&call),
                None => Err(usage("there is no such command", "run `mcp-run help`")),
            }
        }
    }
}

fn parse(args: impl Iterator<Item = OsString>) -> Result<(Request, Option<PathBuf>), Failure> {
    let mut parser = Parser::from_args(args);
    let (mut socket, mut json, mut word) = (None, false, None);
    let mut arguments = Vec::new();
    while let Some(arg) = parser.next().map_err(|e| bad(&e))? {
        match arg {
            Arg::Long("socket") => socket = Some(PathBuf::from(parser.value().map_err(|e| bad(&e))?)),
            Arg::Long("json") => json = true,
            Arg::Long("no") if word.as_deref() == Some(approve::COMMAND.name) => {
                arguments.push(approve::NO.to_owned());
            }
            Arg::Long("from") if word.as_deref() == Some(credential::COMMAND.name) => {
                arguments.push(credential::FROM.to_owned());
                arguments.push(text(parser.value().map_err(|e| bad(&e))?)?);
            }
            Arg::Long("device") if word.as_deref() == Some("login") => return Err(login::device()),
            Arg::Short('V') | Arg::Long("version") => return Ok((Request::Version, socket)),
            Arg::Short('h') | Arg::Long("help") => {
                let arguments = word.into_iter().collect();
                return Ok((Request::Command { name: help::COMMAND.name, arguments, json: false }, socket));
            }
            Arg::Value(value) if word.is_none() => {
                word = Some(text(value)?);
                // What follows `--` is the server's, not ours.
                if let Some(rest) =
                    parser.try_raw_args().filter(|rest| rest.as_slice().first().is_some_and(|a| a == "--"))
                {
                    arguments = rest.skip(1).map(text).collect::<Result<_, _>>()?;
                    break;
                }
            }
            Arg::Value(value) => arguments.push(text(value)?),
            other => return Err(bad(&other.unexpected())),
        }
    }
    let Some(word) = word else {
        return Err(usage("there is neither a server nor a command", "run `mcp-run help`"));
    };
    Ok((request(word, arguments, json)?, socket))
}

fn request(word: String, arguments: Vec<String>, json: bool) -> Result<Request, Failure> {
    let Some(command) = COMMANDS.iter().find(|command| command.name == word) else {
        if json {
            return Err(usage("a launch takes no --json", "write arguments of the server behind `--`"));
        }
        return Ok(Request::Launch { server: word, args: arguments });
    };
    if json && !command.json {
        return Err(usage(format!("`{word}` takes no --json"), format!("run `mcp-run help {word}`")));
    }
    if command.arguments.is_empty() && !arguments.is_empty() {
        return Err(usage(format!("`{word}` takes no arguments"), format!("run `mcp-run {word}`")));
    }
    Ok(Request::Command { name: command.name, arguments, json })
}

/// A server's name, or the command that was probably meant.
fn server_name(word: &str) -> Result<ServerName, Failure> {
    word.parse().map_err(|error: BadName| {
        usage(format!("`{}` {error}", shown(word)), format!("{}run `mcp-run servers`", suggestion(word)))
    })
}

/// What was typed, fit for a message: control characters escaped, and not the whole of something endless.
#[must_use]
pub fn shown(word: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = word.chars().take(MOST).flat_map(char::escape_debug).collect();
    if word.chars().count() > MOST {
        short.push('…');
    }
    short
}

/// `did you mean …? `, where a command is near; else nothing.
#[must_use]
pub fn suggestion(word: &str) -> String {
    if word.len() > 32 {
        return String::new();
    }
    let near = COMMANDS.iter().map(|command| (distance(command.name, word), command.name));
    match near.min().filter(|(distance, _)| *distance <= 2) {
        Some((_, name)) => format!("did you mean `mcp-run {name}`? else "),
        None => String::new(),
    }
}

/// A mistake in the command line.
#[must_use]
pub fn usage(what: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure::new(USAGE, what, hint)
}

fn bad(error: &lexopt::Error) -> Failure {
    usage(error.to_string(), "run `mcp-run help`; arguments of a server come behind `--`")
}

fn text(value: OsString) -> Result<String, Failure> {
    value.into_string().map_err(|value| {
        let what = format!("the argument `{}` is not UTF-8", shown(&value.to_string_lossy()));
        usage(what, "only text can be handed to the broker")
    })
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, x) in a.chars().enumerate() {
        let (mut diagonal, mut left) = (i, i + 1);
        for (cell, y) in row.iter_mut().skip(1).zip(b.chars()) {
            let here = (diagonal + usize::from(x != y)).min(left + 1).min(*cell + 1);
            diagonal = std::mem::replace(cell, here);
            left = here;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may stop at the first surprise")]
mod tests {
    use mcp_broker_proto::names::RESERVED;

    use super::*;

    fn parsed(line: &str) -> Result<(Request, Option<PathBuf>), Failure> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn check(line: &str, want: Request) {
        assert_eq!(parsed(line).unwrap().0, want, "{line}");
    }

    #[test]
    fn requests() {
        let launch = |server: &str, args: &[&str]| Request::Launch {
            server: server.into(),
            args: args.iter().map(|&arg| arg.into()).collect(),
        };
        check("orders-db", launch("orders-db", &[]));
        check("orders-db -- --json -x status", launch("orders-db", &["--json", "-x", "status"]));
        check("orders-db --", launch("orders-db", &[]));
        check("--socket /s orders-db", launch("orders-db", &[]));
        assert_eq!(parsed("orders-db --socket=/s").unwrap().1, Some("/s".into()));
        check("status --json", Request::Command { name: "status", arguments: vec![], json: true });
        check("--json status", Request::Command { name: "status", arguments: vec![], json: true });
        check(
            "completions fish",
            Request::Command { name: "completions", arguments: vec!["fish".into()], json: false },
        );
        check(
            "status --help",
            Request::Command { name: "help", arguments: vec!["status".into()], json: false },
        );
        for line in ["approve ID --no", "approve --no ID"] {
            let Request::Command { name: "approve", mut arguments, json: false } = parsed(line).unwrap().0
            else {
                unreachable!("{line}")
            };
            arguments.sort();
            assert_eq!(arguments, ["--no", "ID"], "{line}");
        }
        let arguments = ["aws", "--from", "/f"].map(str::to_owned).to_vec();
        check("credential aws --from=/f", Request::Command { name: "credential", arguments, json: false });
        check("-h", Request::Command { name: "help", arguments: vec![], json: false });
        check("--version", Request::Version);
    }

    #[test]
    fn mistakes() {
        for line in [
            "",
            "--nope",
            "status x",
            "lock --json",
            "orders-db --json",
            "orders-db -x",
            "--socket",
            "orders-db --no",
            "--no approve ID",
            "--from /f credential aws",
            "credential aws --from",
            "status --from /f",
            "approve --no=x ID",
        ] {
            assert_eq!(parsed(line).map(|_| ()).unwrap_err().exit, 64, "{line}");
        }
    }

    #[test]
    fn suggestions() {
        assert!(suggestion("Status").contains("`mcp-run status`"));
        assert!(suggestion("logn").contains("`mcp-run login`"));
        assert_eq!(suggestion("orders-db"), "");
        assert_eq!(server_name("Orders").unwrap_err().exit, 64);
    }

    #[test]
    fn no_server_can_hide_behind_a_command() {
        for command in COMMANDS {
            assert!(RESERVED.contains(&command.name), "{}", command.name);
        }
    }
}
