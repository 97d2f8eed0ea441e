//! `mcp-broker check`: parses and checks the whole configuration, and what can be seen of the machine
//! without asking anybody. Changes nothing, opens no connection.

use std::fmt::Write;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::report::{EXIT_OK, Report, counted};
use crate::config::{Config, KindReader, Mode, Places, load};

/// Runs the command on the configuration directory `dir`.
pub(super) fn run(dir: &Path, mode: Mode, places: &Places, kinds: &[&KindReader]) -> Report {
    match load(dir, mode, places, kinds) {
        Ok(config) => accepted(&config, dir, places),
        Err(found) => Report::refused_configuration(&found),
    }
}

fn accepted(config: &Config, dir: &Path, places: &Places) -> Report {
    let mut warnings = config.warnings.clone();
    warnings.extend(state_dir_warning(&config.broker.state_dir, places.uid));
    for (name, server) in &config.servers {
        let program = server.command.first().map(Path::new);
        warnings.extend(program.and_then(|path| program_warning(name.as_str(), path)));
    }
    let err: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
    Report { out: summary(config, dir, warnings.len()), err, code: EXIT_OK }
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
    for (name, provider) in &config.providers {
        line("provider", &format!("{name} ({})", provider.kind));
    }
    for (name, server) in &config.servers {
        let credentials = counted(server.scope.credentials.len(), "credential");
        line("server", &format!("{name} ({}, {credentials})", server.tier.as_str()));
    }
    text
}

fn state_dir_warning(path: &Path, uid: u32) -> Option<String> {
    // One that is not there yet is made by `serve` or by systemd, private from the start.
    let found = std::fs::symlink_metadata(path).ok()?;
    let (what, cure) = if !found.is_dir() {
        ("is not a directory".to_owned(), "move it away, or set another `broker.state_dir`")
    } else if found.mode() & 0o077 != 0 {
        (format!("is open to others (mode {:04o})", found.mode() & 0o7777), "make it private: `chmod 0700`")
    } else if found.uid() != uid && uid != 0 {
        (
            format!("belongs to uid {}", found.uid()),
            "run the broker as its owner, or set another `broker.state_dir`",
        )
    } else {
        return None;
    };
    Some(format!("{}: warning: the state directory {what}\n  hint: {cure}", path.display()))
}

fn program_warning(server: &str, path: &Path) -> Option<String> {
    let (what, cure) = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ("does not exist", "install it, or correct `command`")
        }
        // Its directory may be closed to whoever checks and open to the person who launches.
        Err(_unknowable) => return None,
        Ok(found) => program_fault(&found)?,
    };
    Some(format!("{}: warning: the program of server `{server}` {what}\n  hint: {cure}", path.display()))
}

fn program_fault(found: &Metadata) -> Option<(&'static str, &'static str)> {
    if !found.is_file() || found.mode() & 0o111 == 0 {
        Some(("is not an executable file", "correct `command`, or `chmod +x`"))
    } else if found.mode() & 0o002 != 0 {
        Some(("can be replaced by everybody", "take that away: `chmod o-w`"))
    } else {
        None
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::testing::{KINDS, TempDir, places};

    fn check(dir: &TempDir) -> Report {
        let output = run(dir.path(), Mode::System, &places(), KINDS);
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
            provider  p (fixed)\n  server    a (development, 0 credentials)\n";
        assert_eq!(check(&dir), Report { out: want.to_owned(), err: String::new(), code: 0 });
    }

    #[test]
    fn warnings_of_the_machine() {
        let dir = TempDir::new();
        dir.write("broker.toml", &broker_file(&dir));
        dir.write("program", "");
        for (name, program) in [("a", "absent"), ("b", "program"), ("c", "state")] {
            let text = format!("command = [\"{}/{program}\"]\n{SERVER}", dir.path().display());
            dir.write(&format!("servers.d/{name}.toml"), &text);
        }
        dir.write("state/f", "");
        std::fs::set_permissions(dir.path().join("state"), std::fs::Permissions::from_mode(0o750)).unwrap();
        let output = check(&dir);
        let lines: Vec<_> = output.err.lines().filter(|line| !line.starts_with("  hint: ")).collect();
        assert_eq!(
            (output.code, lines.as_slice()),
            (
                0,
                &[
                    "DIR/state: warning: the state directory is open to others (mode 0750)",
                    "DIR/absent: warning: the program of server `a` does not exist",
                    "DIR/program: warning: the program of server `b` is not an executable file",
                    "DIR/state: warning: the program of server `c` is not an executable file",
                ][..]
            )
        );
        assert!(output.out.contains("3 servers, 1 provider, 4 warnings"), "{}", output.out);
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
