//! `mcp-run completions SHELL`: a completion script, written from the command table. Server names are
//! asked from the broker when completing, so that they are never stale.

use super::approve::{self, NO};
use super::credential::{self, FROM};
use super::{COMMANDS, Call, Command, usage};
use crate::failure::Failure;
use crate::say;

/// The command.
pub(super) const COMMAND: Command = Command {
    name: "completions",
    arguments: "bash|zsh|fish",
    about: "print a completion script",
    json: false,
    run,
};

/// Names of the servers, one a line; empty where the broker is not there.
const SERVERS: &str = "mcp-run servers 2>/dev/null | awk '!NF { exit } NR > 1 && $2 == \"yes\" { print $1 }'";
/// Calls that wait for the person, one a line.
const WAITING: &str = "mcp-run status 2>/dev/null | awk '/ mcp-run approve [0-9a-f-]+$/ { print $NF }'";

fn run(call: &Call<'_>) -> Result<u8, Failure> {
    let script = match call.arguments {
        [shell] if shell == "bash" => bash(),
        [shell] if shell == "zsh" => zsh(),
        [shell] if shell == "fish" => fish(),
        _ => return Err(usage("`completions` takes one shell", "write bash, zsh or fish")),
    };
    say::answer(&script);
    Ok(0)
}

fn names(with: impl Fn(&Command) -> bool) -> String {
    let names: Vec<_> = COMMANDS.iter().filter(|command| with(command)).map(|command| command.name).collect();
    names.join(" ")
}

fn bash() -> String {
    let (all, json) = (names(|_| true), names(|command| command.json).replace(' ', "|"));
    let (verb, credential) = (approve::COMMAND.name, credential::COMMAND.name);
    format!(
        r#"_mcp_run() {{
  local word="${{COMP_WORDS[COMP_CWORD]}}" command="${{COMP_WORDS[1]}}" words
  case "${{COMP_WORDS[COMP_CWORD-1]}}" in
    --socket) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word"); return ;;
    completions) words="bash zsh fish" ;;
    help) words="{all}" ;;
    *) if [ "$COMP_CWORD" -eq 1 ]; then words="{all} --socket --version --help $({SERVERS})"
       else case "$command" in
         {verb}) words="{NO} $({WAITING})" ;;
         {credential}) words="aws kubernetes {FROM}" ;;
         {json}) words="--json" ;;
       esac; fi ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$word")
}}
complete -F _mcp_run mcp-run
"#
    )
}

fn zsh() -> String {
    let lines: String =
        COMMANDS.iter().map(|command| format!("    '{}:{}'\n", command.name, command.about)).collect();
    let json = names(|command| command.json).replace(' ', "|");
    let (verb, credential) = (approve::COMMAND.name, credential::COMMAND.name);
    format!(
        r#"#compdef mcp-run
_mcp_run() {{
  local -a commands servers
  commands=(
{lines}  )
  servers=(${{(f)"$({SERVERS})"}})
  if [[ $words[CURRENT-1] == --socket ]]; then _files; return; fi
  if (( CURRENT == 2 )); then
    _describe command commands
    compadd -a servers
    compadd -- --socket --version --help
    return
  fi
  case $words[2] in
    completions) compadd bash zsh fish ;;
    help) _describe command commands ;;
    {credential}) compadd -- aws kubernetes {FROM} ;;
    {verb}) compadd -- {NO} ${{(f)"$({WAITING})"}} ;;
    {json}) compadd -- --json ;;
  esac
}}
compdef _mcp_run mcp-run
"#
    )
}

fn fish() -> String {
    let mut out = String::from("complete -c mcp-run -f\n");
    let first = "complete -c mcp-run -n __fish_use_subcommand";
    for command in COMMANDS {
        out.push_str(&format!("{first} -a {} -d '{}'\n", command.name, command.about));
    }
    out.push_str(&format!("{first} -a '({})'\n", SERVERS.replace('\'', "\\'")));
    out.push_str("complete -c mcp-run -l socket -r -F -d 'socket of the broker'\n");
    out.push_str("complete -c mcp-run -l version -d 'show the version'\n");
    let json = names(|command| command.json);
    out.push_str(&format!("complete -c mcp-run -n '__fish_seen_subcommand_from {json}' -l json\n"));
    out.push_str("complete -c mcp-run -n '__fish_seen_subcommand_from completions' -a 'bash zsh fish'\n");
    let seen = format!("complete -c mcp-run -n '__fish_seen_subcommand_from {}'", credential::COMMAND.name);
    out.push_str(&format!(
        "{seen} -a 'aws kubernetes'\n{seen} -l from -r -F -d 'private file of the launch'\n"
    ));
    let waiting = WAITING.replace('\'', "\\'");
    let seen = format!("complete -c mcp-run -n '__fish_seen_subcommand_from {}'", approve::COMMAND.name);
    out.push_str(&format!("{seen} -l no -d 'refuse the call'\n{seen} -a '({waiting})'\n"));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_script_knows_every_command() {
        for script in [bash(), zsh(), fish()] {
            for command in COMMANDS {
                assert!(script.contains(command.name), "{} in {script}", command.name);
                assert!(!command.about.contains('\''), "{}: quotes would break the scripts", command.about);
            }
            assert!(script.contains("mcp-run approve [0-9a-f-]+"), "{script}");
        }
    }
}
