//! What `check` sees of the machine beside the configuration's own files: directories, programs, files that
//! providers name. Looks at names, owners and modes; reads nothing, asks nobody, changes nothing.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use mcp_broker_proto::paths::SYSTEM_ACCOUNT;
use nix::unistd::User;
use serde_json::Value;

use crate::config::diagnostic::{Diagnostic, Severity};
use crate::config::{Config, Mode, Places, shell_word};

/// Everything that is to be said; errors are what `serve` would refuse.
pub(super) fn look(config: &Config, dir: &Path, places: &Places) -> Vec<Diagnostic> {
    let owners = Owners::of(config.mode, places.uid);
    let mut found = Vec::new();
    if config.servers.is_empty() {
        let what = "no server is defined, so nobody can launch anything";
        let cure = "write NAME.toml there for each server; deploy/examples has whole files";
        found.push(warning(&dir.join("servers.d"), what, cure));
    }
    found.extend(state_dir(&config.broker.state_dir, &owners));
    if config.mode == Mode::User && config.broker.socket.starts_with(&places.runtime_dir) {
        found.extend(runtime_dir(&places.runtime_dir, places.uid));
    }
    for (name, section) in &config.providers {
        let mut named = Vec::new();
        files_of(&section.written, &format!("provider.{name}"), &mut named);
        found.extend(named.iter().filter_map(|file| file.fault(&owners)));
    }
    for (name, server) in &config.servers {
        let program = server.command.first().map(Path::new);
        found.extend(program.and_then(|path| program_fault(name.as_str(), path)));
    }
    found
}

fn warning(path: &Path, message: impl Into<String>, hint: impl Into<String>) -> Diagnostic {
    Diagnostic {
        file: path.to_owned(),
        place: None,
        severity: Severity::Warning,
        message: message.into(),
        hint: hint.into(),
    }
}

/// Who may own what the broker uses.
struct Owners {
    /// The account that the broker runs as, where that can be known.
    broker: Option<u32>,
    /// Who checks.
    caller: u32,
}

impl Owners {
    fn of(mode: Mode, caller: u32) -> Self {
        let account = || Some(User::from_name(SYSTEM_ACCOUNT).ok()??.uid.as_raw());
        let broker = match mode {
            Mode::User => Some(caller),
            Mode::System => account().or((caller != 0).then_some(caller)),
        };
        Self { broker, caller }
    }

    /// Whether `uid` is neither the broker nor who checks. Never where the broker's account is not known.
    fn is_stranger(&self, uid: u32) -> bool {
        self.broker.is_some_and(|broker| uid != broker) && uid != self.caller
    }

    /// The account for a `chown`.
    fn name(&self) -> String {
        self.broker.unwrap_or(self.caller).to_string()
    }
}

fn state_dir(path: &Path, owners: &Owners) -> Option<Diagnostic> {
    // One that is not there yet is made by `serve` or by systemd, private from the start.
    let found = std::fs::symlink_metadata(path).ok()?;
    let word = shell_word(path);
    let (what, hint) = if !found.is_dir() {
        ("is not a directory".to_owned(), "move it away, or set another `broker.state_dir`".to_owned())
    } else if owners.is_stranger(found.uid()) {
        let cure =
            format!("as root: `chown -R {}: {word}`, or set another `broker.state_dir`", owners.name());
        (format!("belongs to another account (uid {})", found.uid()), cure)
    } else if found.mode() & 0o077 != 0 {
        let mode = found.mode() & 0o7777;
        (format!("is open to others (mode {mode:04o})"), format!("make it private: `chmod 0700 {word}`"))
    } else {
        return None;
    };
    let severity = Severity::Error;
    Some(Diagnostic { severity, ..warning(path, format!("the state directory {what}"), hint) })
}

/// The login makes it, so it is missing in a bare `su` or in a container.
fn runtime_dir(path: &Path, uid: u32) -> Option<Diagnostic> {
    let what = match std::fs::metadata(path) {
        Err(error) => format!("cannot be used: {}", error.kind()),
        Ok(found) if !found.is_dir() => "is not a directory".to_owned(),
        Ok(found) if found.uid() != uid => format!("belongs to another account (uid {})", found.uid()),
        Ok(found) if found.mode() & 0o022 != 0 => {
            format!("can be changed by others (mode {:04o})", found.mode() & 0o7777)
        }
        Ok(_) => return None,
    };
    let hint = "log in so that systemd makes it (`loginctl enable-linger` keeps it), set XDG_RUNTIME_DIR to a \
                private directory, or set `socket` in [broker]";
    Some(warning(path, format!("the runtime directory, where the sockets belong, {what}"), hint))
}

/// A file that a provider's section names.
struct NamedFile {
    /// The dotted path of its key.
    key: String,
    path: PathBuf,
    /// Whether it holds a secret, so that nobody else may even read it.
    private: bool,
}

/// Every `*_file` of a section, at any depth: the kinds agree on that ending.
fn files_of(section: &Value, path: &str, named: &mut Vec<NamedFile>) {
    let Some(keys) = section.as_object() else { return };
    for (key, value) in keys {
        let name = format!("{path}.{key}");
        match value.as_str() {
            Some(text) if key.ends_with("_file") && text.starts_with('/') => {
                let private = !["ca_file", "cert_file"].contains(&key.as_str());
                named.push(NamedFile { key: name, path: PathBuf::from(text), private });
            }
            _ => files_of(value, &name, named),
        }
    }
}

impl NamedFile {
    fn fault(&self, owners: &Owners) -> Option<Diagnostic> {
        let (what, hint) = match std::fs::metadata(&self.path) {
            Err(error)
                if error.kind() == ErrorKind::PermissionDenied && owners.broker != Some(owners.caller) =>
            {
                // Its directory may be closed to whoever checks and open to the broker.
                return None;
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                ("does not exist".to_owned(), format!("put it there, or correct `{}`", self.key))
            }
            Err(error) => (format!("cannot be read: {}", error.kind()), "let the broker read it".to_owned()),
            Ok(found) => self.fault_of(&found, owners)?,
        };
        Some(warning(&self.path, format!("the file of `{}` {what}", self.key), hint))
    }

    fn fault_of(&self, found: &Metadata, owners: &Owners) -> Option<(String, String)> {
        let (word, bits) = (shell_word(&self.path), found.mode() & 0o7777);
        let (others, mode) = if self.private { (0o077, "600") } else { (0o022, "644") };
        let chown = || format!("`chown {} {word}`", owners.name());
        if !found.is_file() {
            Some(("is not a plain file".to_owned(), format!("correct `{}`", self.key)))
        } else if found.uid() != 0 && owners.is_stranger(found.uid()) {
            Some((format!("belongs to another account (uid {})", found.uid()), chown()))
        } else if bits & others != 0 {
            let verb = if self.private { "read" } else { "changed" };
            Some((format!("can be {verb} by others (mode {bits:04o})"), format!("`chmod {mode} {word}`")))
        } else if found.uid() == 0 && owners.broker.is_some_and(|uid| uid != 0) && bits & 0o044 == 0 {
            Some(("belongs to root, so the broker cannot read it".to_owned(), chown()))
        } else {
            None
        }
    }
}

fn program_fault(server: &str, path: &Path) -> Option<Diagnostic> {
    let word = shell_word(path);
    let (what, hint) = match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            ("does not exist", "install it, or correct `command`".to_owned())
        }
        // Its directory may be closed to whoever checks and open to the person who launches.
        Err(_unknowable) => return None,
        Ok(found) if !found.is_file() || found.mode() & 0o111 == 0 => {
            ("is not an executable file", format!("correct `command`, or `chmod +x {word}`"))
        }
        Ok(found) if found.mode() & 0o002 != 0 => {
            ("can be replaced by everybody", format!("take that away: `chmod o-w {word}`"))
        }
        Ok(_) => return None,
    };
    Some(warning(path, format!("the program of server `{server}` {what}"), hint))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test that cannot set up its files must fail")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::testing::{TempDir, places};

    fn set_mode(path: &Path, mode: u32) {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn state_directories() {
        let dir = TempDir::new();
        let mine = Owners { broker: Some(places().uid), caller: places().uid };
        let others = Owners { broker: Some(places().uid + 1), caller: places().uid + 1 };
        let unknown = Owners { broker: None, caller: places().uid + 1 };
        assert_eq!(state_dir(&dir.path().join("absent"), &mine), None);
        assert_eq!(state_dir(dir.path(), &mine), None);
        assert_eq!(state_dir(dir.path(), &unknown), None);
        let found = state_dir(dir.path(), &others).unwrap();
        assert_eq!(found.severity, Severity::Error);
        assert!(found.message.contains("another account"), "{found}");
        assert!(found.hint.contains(&format!("chown -R {}: {}", places().uid + 1, dir.path().display())));
    }

    #[test]
    fn runtime_directories() {
        let dir = TempDir::new();
        assert_eq!(runtime_dir(dir.path(), places().uid), None);
        for (path, uid) in [(dir.path().join("absent"), places().uid), (dir.path().into(), places().uid + 1)]
        {
            assert!(runtime_dir(&path, uid).unwrap().hint.contains("XDG_RUNTIME_DIR"));
        }
        set_mode(dir.path(), 0o777);
        assert!(runtime_dir(dir.path(), places().uid).is_some());
    }

    #[test]
    fn files_that_providers_name() {
        let dir = TempDir::new();
        for (name, mode) in [("ca", 0o644), ("wide", 0o666), ("id", 0o600), ("open", 0o640)] {
            dir.write(name, "x");
            set_mode(&dir.path().join(name), mode);
        }
        let uid = places().uid;
        let owners = Owners { broker: Some(uid), caller: uid };
        let check = |key: &str, file: &str, want: &str| {
            let auth = serde_json::json!({ key: dir.path().join(file), "mount": "/m" });
            let mut named = Vec::new();
            files_of(&serde_json::json!({ "auth": auth, "kind": "vault" }), "provider.p", &mut named);
            let found: Vec<_> = named.iter().filter_map(|file| file.fault(&owners)).collect();
            let said = found.first().map_or("", |finding| finding.message.as_str());
            let want = if want.is_empty() {
                String::new()
            } else {
                format!("the file of `provider.p.auth.{key}` {want}")
            };
            assert_eq!(said, want, "{key} {file}");
            assert!(found.iter().all(|finding| finding.severity == Severity::Warning));
        };
        check("ca_file", "ca", "");
        check("ca_file", "wide", "can be changed by others (mode 0666)");
        check("secret_id_file", "id", "");
        check("secret_id_file", "open", "can be read by others (mode 0640)");
        check("token_file", "absent", "does not exist");
        check("key_file", "", "is not a plain file");
    }
}
