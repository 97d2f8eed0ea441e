//! `mcp-broker check`: parses and checks the whole configuration, and what can be seen of the machine
//! without asking anybody. Changes nothing, opens no connection.

use std::fmt::Write;
use std::path::Path;

use super::report::{EXIT_OK, Report, counted};
use super::{exposure, machine, secret};
use crate::config::diagnostic::Severity;
use crate::config::{Config, KindReader, Mode, Places, Scope, SessionSection, load, words};
use crate::policy::limit_words;

/// Runs the command on the configuration directory `dir`; `options` are the caller's, for hints.
pub(super) fn run(dir: &Path, mode: Mode, places: &Places, kinds: &[&KindReader], options: &str) -> Report {
    match load(dir, mode, places, kinds) {
        Ok(config) => accepted(&config, dir, places, options),
        Err(found) => Report::refused_configuration(&found),
    }
}

fn accepted(config: &Config, dir: &Path, places: &Places, options: &str) -> Report {
    let mut found = machine::look(config, dir, places);
    found.extend(secret::missing(config, options));
    let noted: String = config.warnings.iter().map(|warning| format!("{warning}\n")).collect();
    if found.iter().any(|finding| finding.severity == Severity::Error) {
        return Report::refused_configuration(&found).after(&noted);
    }
    let err = found.iter().fold(noted, |text, finding| format!("{text}{finding}\n"));
    let warnings = config.warnings.len() + found.len();
    Report { out: summary(config, dir, warnings), err, code: EXIT_OK }
}

fn summary(config: &Config, dir: &Path, warnings: usize) -> String {
    let mut text = format!(
        "configuration {} is good ({} mode): {}, {}, {}\n",
        dir.display(),
        config.mode.as_str(),
        counted(config.servers.len(), "server"),
        counted(config.providers.len(), "provider"),
        counted(warnings, "warning"),
    );
    let mut line = |label: &str, value: &str| {
        // Writing to a String cannot fail.
        let _infallible: Result<(), std::fmt::Error> = writeln!(text, "  {label:<9} {value}");
    };
    line("socket", &config.broker.socket.display().to_string());
    line("state", &config.broker.state_dir.display().to_string());
    line("session", &session(&config.session));
    for (name, provider) in &config.providers {
        line("provider", &format!("{name} ({})", provider.kind));
    }
    for (name, server) in &config.servers {
        line("server", &format!("{name} ({})", server.tier.as_str()));
        for scope in &server.scopes {
            line("scope", &format!("{name}.{} ({})", scope.name, contents(scope)));
        }
    }
    for (name, server) in &config.servers {
        exposure::note(server).into_iter().for_each(|note| line("note", &format!("{name}: {note}")));
    }
    text
}

/// How much of everything a scope has; what it has none of is left out, but for its credentials.
fn contents(scope: &Scope) -> String {
    let tools = match scope.tools.as_slice() {
        [all] if all == "*" => "every tool".to_owned(),
        tools => counted(tools.len(), "tool pattern"),
    };
    let counts = [
        (scope.resources.len(), "resource pattern"),
        (scope.prompts.len(), "prompt pattern"),
        (limit_words(scope, None).len(), "limit"),
    ];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, noun)| counted(count, noun));
    let all = std::iter::once(tools).chain(counts).chain([counted(scope.credentials.len(), "credential")]);
    all.collect::<Vec<_>>().join(", ")
}

fn session(session: &SessionSection) -> String {
    let SessionSection { max_age, idle, on_lock, logind, resume, mints_per_minute } = session;
    format!(
        "max_age {}, idle {}, on_lock {}, resume {}, logind {}, mints_per_minute {mints_per_minute}",
        words(*max_age),
        words(*idle),
        on_lock.as_str(),
        resume.as_str(),
        logind.as_str()
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::testing::{KINDS, TempDir, places};

    fn check(dir: &TempDir) -> Report {
        let output = run(dir.path(), Mode::System, &places(), KINDS, "");
        let shorten = |text: &str| text.replace(&dir.path().display().to_string(), "DIR");
        Report { out: shorten(&output.out), err: shorten(&output.err), code: output.code }
    }

    fn broker_file(dir: &TempDir) -> String {
        format!("[broker]\nstate_dir = \"{}/state\"\n[provider.p]\nkind = \"fixed\"\n", dir.path().display())
    }

    const SERVER: &str = "tier = \"development\"\naccess.users = [\"u\"]\n[scope.all]\ntools = [\"*\"]\n";

    #[test]
    fn good() {
        let dir = TempDir::new();
        dir.write("broker.toml", &broker_file(&dir));
        dir.write("servers.d/a.toml", &format!("command = [\"/bin/sh\"]\n{SERVER}"));
        let want = "configuration DIR is good (system mode): 1 server, 1 provider, 0 warnings\n  \
            socket    /run/mcp-broker/broker.sock\n  state     DIR/state\n  \
            session   max_age 10h, idle 15m, on_lock park, resume unlock, logind required, mints_per_minute 600\n  \
            provider  p (fixed)\n  server    a (development)\n  scope     a.all (every tool, 0 credentials)\n";
        assert_eq!(check(&dir), Report { out: want.to_owned(), err: String::new(), code: 0 });
    }

    #[test]
    fn scopes_are_counted() {
        let dir = TempDir::new();
        dir.write("broker.toml", &broker_file(&dir));
        let scopes = "[scope.read]\ntools = [\"a\", \"b*\"]\nresources = [\"x:*\"]\n\
            credential.c = { provider = \"p\", number = \"1\" }\ninject = [{ env = \"T\", value = \"{c.value}\" }]\n\
            [scope.ask]\nprompts = [\"p\", \"q\"]\n[scope.write]\ntools = [\"w\"]\nconfirm = \"each\"\nlimits.calls_per_minute = 3\n";
        let text =
            format!("tier = \"development\"\ncommand = [\"/bin/sh\"]\naccess.users = [\"u\"]\n{scopes}");
        dir.write("servers.d/a.toml", &text);
        let output = check(&dir);
        let want = "  server    a (development)\n  \
            scope     a.read (2 tool patterns, 1 resource pattern, 1 credential)\n  \
            scope     a.ask (0 tool patterns, 2 prompt patterns, 0 credentials)\n  \
            scope     a.write (1 tool pattern, 2 limits, 0 credentials)\n";
        assert_eq!((output.err.as_str(), output.code), ("", 0));
        let (lines, note) = output.out.split_once("  note      ").unwrap();
        assert!(lines.ends_with(want), "{}", output.out);
        assert!(note.starts_with("a: `T` can be read by") && note.lines().count() == 1, "{note}");
    }

    #[test]
    fn warnings_of_the_machine() {
        let dir = TempDir::new();
        dir.write("broker.toml", &broker_file(&dir));
        dir.write("program", "");
        for (name, program) in [("a", "absent"), ("b", "program"), ("c", "servers.d")] {
            let text = format!("command = [\"{}/{program}\"]\n{SERVER}", dir.path().display());
            dir.write(&format!("servers.d/{name}.toml"), &text);
        }
        let output = check(&dir);
        let lines: Vec<_> = output.err.lines().filter(|line| !line.starts_with("  hint: ")).collect();
        assert_eq!(
            (output.code, lines.as_slice()),
            (
                0,
                &[
                    "DIR/absent: warning: the program of server `a` does not exist",
                    "DIR/program: warning: the program of server `b` is not an executable file",
                    "DIR/servers.d: warning: the program of server `c` is not an executable file",
                ][..]
            )
        );
        assert!(output.out.contains("3 servers, 1 provider, 3 warnings"), "{}", output.out);
    }

    /// The whole files that people begin with are right, but for what is on their machines.
    #[test]
    fn the_examples_are_good() {
        let readers: Vec<_> = crate::provider::KINDS.iter().map(|kind| &kind.reader).collect();
        let user = [("user/", Mode::User)];
        let machine = ["", "aws/", "oauth/"].map(|folder| (folder, Mode::System));
        for (folder, mode) in machine.into_iter().chain(user) {
            let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples").join(folder);
            let dir = TempDir::new();
            let mut servers = 0;
            for entry in std::fs::read_dir(examples.join("servers.d")).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let text = std::fs::read_to_string(examples.join("servers.d").join(&name)).unwrap();
                dir.write(&format!("servers.d/{name}"), &text);
                servers += 1;
            }
            dir.write("broker.toml", &std::fs::read_to_string(examples.join("broker.toml")).unwrap());
            let config = load(dir.path(), mode, &places(), &readers)
                .unwrap_or_else(|found| unreachable!("{folder}: {found:?}"));
            assert_eq!((config.servers.len(), config.warnings), (servers, Vec::<String>::new()), "{folder}");
        }
    }

    /// What `serve` would refuse is refused here.
    #[test]
    fn a_state_directory_that_cannot_be_used() {
        let dir = TempDir::new();
        dir.write("broker.toml", &broker_file(&dir));
        dir.write("state/f", "");
        std::fs::set_permissions(dir.path().join("state"), std::fs::Permissions::from_mode(0o750)).unwrap();
        let output = check(&dir);
        let want = "DIR/servers.d: warning: no server is defined, so nobody can launch anything\n  \
            hint: write NAME.toml there for each server; deploy/examples has whole files\n\
            DIR/state: error: the state directory is open to others (mode 0750)\n  \
            hint: make it private: `chmod 0700 DIR/state`\n\
            mcp-broker: the configuration is refused: 1 error, 1 warning\n";
        assert_eq!(output, Report { out: String::new(), err: want.to_owned(), code: 78 });
    }

    #[test]
    fn a_value_that_is_not_sealed() {
        let dir = TempDir::new();
        dir.write("broker.toml", &broker_file(&dir).replace("fixed", "sealed"));
        let credential = "credential.t = { provider = \"p\", secret = \"TOKEN\" }\n";
        let inject = "inject = [{ env = \"T\", value = \"{t.value}\" }]\n";
        dir.write("servers.d/a.toml", &format!("command = [\"/bin/sh\"]\n{SERVER}{credential}{inject}"));
        let kinds = [&crate::provider::sealed::KIND.reader];
        let output = run(dir.path(), Mode::User, &places(), &kinds, " --user --config /c");
        let want = "warning: server `a` needs the value `TOKEN`, which is not sealed\n  \
            hint: mcp-broker secret set TOKEN --user --config /c\n";
        assert!(output.code == 0 && output.err.contains(want), "{output:?}");
    }

    #[test]
    fn bad() {
        let dir = TempDir::new();
        dir.write("broker.toml", "x = 1\n");
        dir.write("servers.d/notes", "");
        let want = "DIR/broker.toml:1:1: error: unknown key `x`\n  \
            hint: known keys here: `audit`, `broker`, `identity`, `provider`, `session`\n\
            DIR/servers.d/notes: warning: not read: its name does not end in .toml\n  \
            hint: name it NAME.toml, or move it elsewhere\n\
            mcp-broker: the configuration is refused: 1 error, 1 warning\n";
        assert_eq!(check(&dir), Report { out: String::new(), err: want.to_owned(), code: 78 });
    }
}
