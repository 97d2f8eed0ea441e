//! Loads a configuration directory: the same files give the same answer, nothing is kept between two loads.
//! So a reload is a second load, and whoever asked keeps the old value when the new one is refused.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mcp_broker_proto::names::ServerName;
use toml::de::DeTable;

use super::broker_toml::{self, BrokerFile, Providers};
use super::diagnostic::{Diagnostic, Severity, Sink};
use super::files::{CheckedDir, Entry, Refusal, finding};
use super::kinds::KindReader;
use super::model::{Config, Mode, ServerDefinition};
use super::places::Places;
use super::reader::Reader;
use super::server;

/// Reads and checks everything under `dir`. Warnings are in [`Config::warnings`].
///
/// # Errors
/// Every finding, warnings included, where at least one of them is an error; in order of file and place.
pub fn load(
    dir: &Path,
    mode: Mode,
    places: &Places,
    kinds: &[&KindReader],
) -> Result<Config, Vec<Diagnostic>> {
    let mut found = Vec::new();
    let config = match CheckedDir::open(dir, places.uid) {
        Ok(mut open) => {
            found.append(&mut open.faults);
            read_all(&open, mode, places, kinds, &mut found)
        }
        Err(refusal) => {
            found.extend(explain_refusal(
                refusal,
                dir,
                &format!("make it, with a {BROKER_FILE} in it; {MINIMAL}"),
            ));
            None
        }
    };
    found.sort_by(|a, b| (&a.file, a.place).cmp(&(&b.file, b.place)));
    match config {
        Some(mut config) if found.iter().all(|finding| finding.severity == Severity::Warning) => {
            config.warnings = found.iter().map(ToString::to_string).collect();
            Ok(config)
        }
        _ => Err(found),
    }
}

/// Makes a top reader of a file's content, its syntax errors noted, and reads with it.
pub(super) fn with_top<T>(sink: &Sink, read: impl FnOnce(Reader<'_>) -> T) -> T {
    let (document, errors) = DeTable::parse_recoverable(sink.text());
    for error in errors.iter().take(MAX_SYNTAX_ERRORS) {
        // The message is the parser's own words about what it expected; it quotes nothing of the file.
        sink.syntax_error(error.span().as_ref(), error.message());
    }
    read(Reader::new(sink, document.get_ref(), document.span(), String::new()))
}

fn read_all(
    dir: &CheckedDir,
    mode: Mode,
    places: &Places,
    kinds: &[&KindReader],
    found: &mut Vec<Diagnostic>,
) -> Option<Config> {
    let file = broker_file(dir, mode, places, kinds, found);
    let incomplete = Providers { incomplete: true, ..Providers::default() };
    let providers = file.as_ref().map_or(&incomplete, |file| &file.providers);
    let servers = servers(dir, providers, kinds, found);
    no_policies(dir, found);
    let BrokerFile { broker, session, providers } = file?;
    Some(Config {
        mode,
        broker: broker?,
        session,
        providers: providers.sections,
        servers,
        warnings: Vec::new(),
    })
}

fn broker_file(
    dir: &CheckedDir,
    mode: Mode,
    places: &Places,
    kinds: &[&KindReader],
    found: &mut Vec<Diagnostic>,
) -> Option<BrokerFile> {
    let path = dir.path_of(BROKER_FILE);
    let text = match dir.read(BROKER_FILE) {
        Ok(text) => text,
        Err(refusal) => {
            found.extend(explain_refusal(refusal, &path, &format!("write it; {MINIMAL}")));
            return None;
        }
    };
    let sink = Sink::new(&path, text);
    let mut file = with_top(&sink, |top| broker_toml::read(top, mode, places, kinds));
    file.providers.incomplete |= sink.is_damaged();
    found.extend(sink.into_found());
    Some(file)
}

fn servers(
    dir: &CheckedDir,
    providers: &Providers,
    kinds: &[&KindReader],
    found: &mut Vec<Diagnostic>,
) -> BTreeMap<ServerName, Arc<ServerDefinition>> {
    let mut servers = BTreeMap::new();
    let Some(folder) = folder(dir, SERVERS_DIR, found) else { return servers };
    for entry in entries(&folder, found) {
        let Some(name) = server_name(&folder, &entry, found) else { continue };
        let path = folder.path_of(&entry.name);
        match folder.read(&entry.name) {
            Ok(text) => {
                let sink = Sink::new(&path, text);
                let server = with_top(&sink, |top| server::read(top, name.clone(), providers, kinds));
                servers.extend(server.map(|server| (name, Arc::new(server))));
                found.extend(sink.into_found());
            }
            Err(refusal) => {
                found.extend(explain_refusal(refusal, &path, "load again; it was removed just now"))
            }
        }
    }
    servers
}

/// The server whose file `entry` is, if it is one.
fn server_name(folder: &CheckedDir, entry: &Entry, found: &mut Vec<Diagnostic>) -> Option<ServerName> {
    let file = &entry.name;
    if file.starts_with('.') || LEFT_BEHIND.iter().any(|end| file.ends_with(end)) {
        return None;
    }
    let path = folder.path_of(file);
    if entry.is_dir {
        found.push(finding(
            &path,
            "a directory among the server files",
            "move it elsewhere; files in it are not read",
        ));
        return None;
    }
    let Some(stem) = file.strip_suffix(".toml") else {
        let hint = "name it NAME.toml, or move it elsewhere";
        found.push(Diagnostic {
            severity: Severity::Warning,
            ..finding(&path, "not read: its name does not end in .toml", hint)
        });
        return None;
    };
    let name = stem.parse::<ServerName>();
    if let Err(error) = &name {
        found.push(finding(
            &path,
            format!("the file's name is the server's, which {error}"),
            "rename the file",
        ));
    }
    name.ok()
}

/// Cedar policies are refused: to leave one unread could allow what it forbids.
fn no_policies(dir: &CheckedDir, found: &mut Vec<Diagnostic>) {
    let Some(folder) = folder(dir, POLICIES_DIR, found) else { return };
    for entry in entries(&folder, found) {
        if entry.name.ends_with(".cedar") {
            let message = "policy files are not supported yet: [access] of each server decides alone";
            let hint = "remove it; it is refused so that nothing is weaker than it was written";
            found.push(finding(&folder.path_of(&entry.name), message, hint));
        }
    }
}

fn folder(dir: &CheckedDir, name: &str, found: &mut Vec<Diagnostic>) -> Option<CheckedDir> {
    match dir.subdirectory(name) {
        Ok(mut folder) => {
            found.append(&mut folder.faults);
            Some(folder)
        }
        Err(Refusal::Absent) => None,
        Err(refusal) => {
            found.extend(explain_refusal(refusal, &dir.path_of(name), ""));
            None
        }
    }
}

fn entries(folder: &CheckedDir, found: &mut Vec<Diagnostic>) -> Vec<Entry> {
    folder.entries().unwrap_or_else(|bad| {
        found.push(bad);
        Vec::new()
    })
}

fn explain_refusal(refusal: Refusal, path: &Path, cure: &str) -> Vec<Diagnostic> {
    match refusal {
        Refusal::Absent => vec![finding(path, "does not exist", cure)],
        Refusal::Bad(bad) => vec![bad],
        Refusal::Unsafe(faults) => faults,
    }
}

const BROKER_FILE: &str = "broker.toml";
const SERVERS_DIR: &str = "servers.d";
const POLICIES_DIR: &str = "policies.d";

/// What editors and package managers leave behind; dotfiles are left alone as well.
const LEFT_BEHIND: &[&str] = &[
    "~",
    ".bak",
    ".orig",
    ".rej",
    ".swp",
    ".tmp",
    ".dpkg-old",
    ".dpkg-new",
    ".dpkg-dist",
    ".rpmnew",
    ".rpmsave",
];

/// So many syntax errors of one file are shown: most of the later ones follow from the first.
const MAX_SYNTAX_ERRORS: usize = 20;

const MINIMAL: &str = "the least that is useful:\n    [provider.local]\n    kind = \"sealed\"";

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a finding that is not there must fail the test"
)]
mod tests {
    use super::super::testing::{BROKER, KINDS, SCOPE, SERVER, TempDir, load_files, places};
    use super::super::{LogindUse, OnLock};
    use super::*;

    /// Checks what is said of one broker file beside no servers.
    fn check_broker(text: &str, want: &[&str]) {
        assert_eq!(load_files(&[("broker.toml", text)]).1, want, "{text}");
    }

    /// Checks what is said of a server file; `scope` follows the scope's `tools`.
    fn check_server(head: &str, scope: &str, want: &[&str]) {
        let text = format!("{head}\n{SERVER}{SCOPE}{scope}");
        let got = load_files(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]).1;
        let got: Vec<_> = got.iter().map(|line| line.trim_start_matches("servers.d/s.toml:")).collect();
        assert_eq!(got, want, "{text}");
    }

    /// Checks that the lines after the scope's `tools` (from line 7) give exactly one finding, of that text.
    fn check_scope(scope: &str, want: &str) {
        check_server("", scope, &[want]);
    }

    #[test]
    fn everything_is_read() {
        let broker = "[broker]\nsocket = \"/s/b.sock\"\nstate_dir = \"/st\"\n[identity]\nsign_in = \"os\"\n\
            [session]\nmax_age = \"2h\"\nidle = \"5m\"\non_lock = \"end\"\nresume = \"unlock\"\nlogind = \"optional\"\n[audit]\n[provider.fix]\nkind = \"fixed\"\n";
        let server = "description = \"D\"\nowner = \"O\"\ntier = \"development\"\ncommand = [\"/bin/x\", \"-y\"]\n\
            extra_args = [\"--db=*\"]\nenv = { A = \"1\" }\ncwd = \"{home}/w\"\n[access]\nusers = [\"u\"]\ngroups = [\"g\"]\n\
            [scope.all]\ntools = [\"*\"]\ncredential.db = { provider = \"fix\", ttl = \"5m\", number = \"7\" }\n\
            inject = [{ env = \"E\", value = \"x{db.value|url}\" }, { file = \"F\", value = \"{db.value}\" }]\n";
        let (config, found) = load_files(&[("broker.toml", broker), ("servers.d/orders-db.toml", server)]);
        assert_eq!(found, Vec::<String>::new());
        let config = config.unwrap();
        assert_eq!(config.broker.socket, Path::new("/s/b.sock"));
        assert_eq!(config.broker.admin_socket, Path::new("/s/admin.sock"));
        assert_eq!(config.broker.state_dir, Path::new("/st"));
        assert_eq!((config.session.max_age.as_secs(), config.session.idle.as_secs()), (7200, 300));
        assert_eq!((config.session.on_lock, config.session.logind), (OnLock::End, LogindUse::Optional));
        let server = &config.servers[&"orders-db".parse().unwrap()];
        assert_eq!((server.description.as_str(), server.owner.as_str()), ("D", "O"));
        assert_eq!(server.command, ["/bin/x", "-y"]);
        assert_eq!(
            (server.extra_args.as_slice(), server.env["A"].as_str()),
            (&["--db=*".to_owned()][..], "1")
        );
        assert_eq!(server.cwd, "{home}/w");
        assert_eq!((server.access.users[0].as_str(), server.access.groups[0].as_str()), ("u", "g"));
        let credential = &server.scopes[0].credentials[0];
        assert_eq!((credential.provider.as_str(), credential.ttl.as_secs()), ("fix", 300));
        assert_eq!(credential.settings.downcast_ref::<String>().unwrap(), "7");
        let ways: Vec<_> =
            server.scopes[0].inject.iter().map(mcp_broker_proto::launch::Injection::name).collect();
        assert_eq!(ways, ["E", "F"]);
    }

    #[test]
    fn defaults() {
        let (config, _) = load_files(&[
            ("broker.toml", BROKER),
            ("servers.d/s.toml", &format!("{SERVER}{SCOPE}credential.c = {{ provider = \"any\" }}")),
        ]);
        let config = config.unwrap();
        assert_eq!(config.broker.socket, Path::new("/run/mcp-broker/broker.sock"));
        assert_eq!(config.broker.admin_socket, Path::new("/run/mcp-broker/admin.sock"));
        assert_eq!(config.broker.state_dir, Path::new("/var/lib/mcp-broker"));
        assert_eq!((config.session.max_age.as_secs(), config.session.idle.as_secs()), (36000, 900));
        assert_eq!((config.session.on_lock, config.session.logind), (OnLock::Park, LogindUse::Required));
        let server = &config.servers[&"s".parse().unwrap()];
        assert_eq!(server.cwd, "{home}");
        assert_eq!(server.scopes[0].credentials[0].ttl.as_secs(), 900);
    }

    #[test]
    fn every_mistake_at_once() {
        let broker =
            "[broker]\nsokcet = \"/x\"\nstate_dir = \"x\"\n[provider.fix]\nkind = \"fixed\"\ngreeting = 1\n";
        let server = "tier = \"sensitive\"\ncommand = [\"true\"]\npackage = {}\n[scope.a]\ntools = [\"x\"]\n[scope.b]\ntools = [\"*\"]\nbad = 1\n";
        let files = [
            ("broker.toml", broker),
            ("servers.d/Bad.toml", ""),
            ("servers.d/s.toml", server),
            ("servers.d/t.toml", "x"),
        ];
        assert_eq!(
            load_files(&files).1,
            [
                "broker.toml:2:1: error: unknown key `broker.sokcet`",
                "broker.toml:3:13: error: `broker.state_dir` is not an absolute path",
                "broker.toml:6:12: error: `provider.fix.greeting` is a number, not a text",
                "servers.d/Bad.toml: error: the file's name is the server's, which must be 1 to 63 of a-z, 0-9 and '-', and not begin with '-'",
                "servers.d/s.toml:1:1: warning: nobody may use this server",
                "servers.d/s.toml:1:8: error: `tier = \"sensitive\"` is not supported yet: only a privileged helper could keep its secrets from the person's other programs",
                "servers.d/s.toml:2:12: error: the program in `command` is not an absolute path",
                "servers.d/s.toml:3:1: error: `package` is not supported yet: packages are neither pinned nor verified, so `command` names a program",
                "servers.d/s.toml:7:10: error: `scope.a.tools` and `scope.b.tools` both name `x`",
                "servers.d/s.toml:8:1: error: unknown key `scope.b.bad`",
                "servers.d/t.toml:1:2: error: not TOML: key with no value, expected `=`",
            ]
        );
    }

    #[test]
    fn broker_file() {
        check_broker("", &[]);
        check_broker(
            "[session]\nmax_age = \"59s\"",
            &["broker.toml:2:11: error: `session.max_age` is out of range"],
        );
        check_broker(
            "[session]\nmax_age = \"25h\"",
            &["broker.toml:2:11: error: `session.max_age` is out of range"],
        );
        check_broker(
            "[session]\nmax_age = 5",
            &["broker.toml:2:11: error: `session.max_age` is a number, not a text such as \"10h\""],
        );
        check_broker(
            "[session]\nmax_age = \"x\"",
            &["broker.toml:2:11: error: `session.max_age` is not a length of time"],
        );
        check_broker(
            "[session]\nresume = \"sign-in\"",
            &[
                "broker.toml:2:10: error: `session.resume = \"sign-in\"` can never be met: with `sign_in = \"os\"` there is nothing to ask a person for",
            ],
        );
        check_broker(
            "[session]\nresume = \"sign-in\"\n[identity]\nsign_in = \"oidc\"",
            &[
                "broker.toml:2:10: error: `session.resume = \"sign-in\"` is not supported yet: people sign in with their account on this machine",
                "broker.toml:4:11: error: `identity.sign_in = \"oidc\"` is not supported yet: people sign in with their account on this machine",
            ],
        );
        check_broker(
            "[identity]\nsign_in = \"oidc\"\nissuer = \"x\"",
            &[
                "broker.toml:2:11: error: `identity.sign_in = \"oidc\"` is not supported yet: people sign in with their account on this machine",
                "broker.toml:3:1: error: `identity.issuer` is not supported yet: people sign in with their account on this machine",
            ],
        );
        check_broker(
            "[audit]\notlp = \"x\"",
            &[
                "broker.toml:2:1: error: `audit.otlp` is not supported yet: audit records are written to the file only",
            ],
        );
        check_broker("[provider.x]", &["broker.toml:1:1: error: `provider.x.kind` is missing"]);
        check_broker(
            "[provider.x]\nkind = \"aws-sts\"",
            &["broker.toml:2:8: error: `provider.x.kind` has a value that is not known"],
        );
        check_broker(
            "[provider.X]\nkind = \"fixed\"",
            &[
                "broker.toml:1:11: error: `provider.X` must be 1 to 63 of a-z, 0-9 and '-', and not begin with '-'",
            ],
        );
        check_broker(
            "[broker]\nsocket = \"/a\"\nadmin_socket = \"/a\"",
            &["broker.toml:3:16: error: the two sockets are one"],
        );
        let long = format!("[broker]\nsocket = \"/{}\"", "x".repeat(107));
        check_broker(&long, &["broker.toml:2:10: error: `broker.socket` is 108 bytes long"]);
        check_broker(
            "a = 1\na = 2",
            &["broker.toml:1:1: error: unknown key `a`", "broker.toml:2:1: error: not TOML: duplicate key"],
        );
    }

    #[test]
    fn a_kind_that_gives_up_is_an_error() {
        let provider = "[provider.m]\nkind = \"mute\"\nlater = 1\nother = 2\n";
        check_broker(
            provider,
            &[
                "broker.toml:1:1: error: `provider.m` cannot be used",
                "broker.toml:4:1: error: unknown key `provider.m.other`",
            ],
        );
        let scope = "credential.c = { provider = \"m\", later = 1, other = 2 }\ninject = [{ env = \"A\", value = \"{c.x}\" }]";
        let files = [("broker.toml", provider), ("servers.d/s.toml", &format!("{SERVER}{SCOPE}{scope}"))];
        assert_eq!(
            load_files(&files).1[2..],
            [
                "servers.d/s.toml:6:16: error: `scope.all.credential.c` cannot be used",
                "servers.d/s.toml:6:45: error: unknown key `scope.all.credential.c.other`",
            ]
        );
    }

    #[test]
    fn user_mode_without_a_home() {
        let dir = TempDir::new();
        dir.write("broker.toml", "");
        let places = Places { state_home: None, ..places() };
        let found = load(dir.path(), Mode::User, &places, KINDS).err().unwrap();
        assert_eq!(found[0].message, "there is no place for the broker's state");
        dir.write("broker.toml", "[broker]\nstate_dir = \"/s\"");
        assert!(load(dir.path(), Mode::User, &places, KINDS).is_ok());
    }

    #[test]
    fn server_keys() {
        check_server("", "", &[]);
        check_server(
            "extra_args = [\"--x\", \"*\"]",
            "",
            &["1:22: warning: a pattern of `extra_args` allows every argument, options too"],
        );
        check_server(
            "extra_args = [\"a\\u0000\"]",
            "",
            &["1:15: error: a pattern of `extra_args` holds a NUL or a line feed"],
        );
        check_server(
            "env.LD_PRELOAD = \"/x\"",
            "",
            &[
                "1:5: error: `env.LD_PRELOAD` makes a loader or an interpreter run other code, so it cannot be set",
            ],
        );
        check_server("env.\"A-B\" = \"x\"", "", &["1:5: error: `env.A-B` is not a variable name"]);
        check_server(
            "env.U = \"postgres://a:pw1@h/\"",
            "",
            &["1:9: error: `env.U` seems to hold a URL with a password"],
        );
        check_server("cwd = \"tmp\"", "", &["1:7: error: `cwd` is neither absolute nor below `{home}`"]);
        check_server("cwd = \"{home}x\"", "", &["1:7: error: `cwd` is neither absolute nor below `{home}`"]);
        check_server("cwd = \"{home}/../x\"", "", &["1:7: error: `cwd` holds `..` or a NUL"]);
        check_server(
            "access.groups = [\"*\", \"\"]",
            "",
            &[
                "1:18: error: `access.groups` holds a `*`, which is no pattern here",
                "1:23: error: `access.groups` holds an empty name or one with control characters",
            ],
        );
        check_server("comand = 1", "", &["1:1: error: unknown key `comand`"]);
        for key in ["package", "sandbox"] {
            let got = load_files(&[
                ("broker.toml", ""),
                ("servers.d/s.toml", &format!("{key} = 1\n{SERVER}{SCOPE}")),
            ])
            .1;
            assert!(got.len() == 1 && got[0].contains(" is not supported yet: "), "{got:?}");
        }
    }

    #[test]
    fn absent_server_keys() {
        let check = |text: &str, want: &[&str]| {
            assert_eq!(load_files(&[("broker.toml", ""), ("servers.d/s.toml", text)]).1, want, "{text}");
        };
        check(
            "",
            &[
                "servers.d/s.toml:1:1: error: `tier` is missing",
                "servers.d/s.toml:1:1: error: `command` is missing",
                "servers.d/s.toml:1:1: warning: nobody may use this server",
                "servers.d/s.toml:1:1: error: there is no scope, so no tool exists",
            ],
        );
        check(
            &format!("{SERVER}scope = {{}}"),
            &["servers.d/s.toml:4:9: error: there is no scope, so no tool exists"],
        );
        check(&format!("{SERVER}[scope.a]"), &["servers.d/s.toml:4:1: error: `scope.a.tools` is missing"]);
        let empty =
            "tier = \"development\"\ncommand = []\naccess.users = [\"u\"]\n[scope.a]\ntools = [\"*\"]";
        check(empty, &["servers.d/s.toml:2:11: error: `command` is empty"]);
    }

    #[test]
    fn scopes() {
        let db = "credential.db = { provider = \"fix\", number = \"1\" }\n";
        let used = "inject = [{ env = \"A\", value = \"{db.value}\" }]";
        let inject =
            |list: &str| format!("{db}inject = [{{ env = \"A\", value = \"{{db.value}}\" }}, {list}]");
        check_server("", &format!("{db}{used}"), &[]);
        check_scope(db, "7:12: warning: credential `db` is minted but nothing injects it");
        check_scope(
            &inject("{ env = \"A\", value = \"{db.value}\" }"),
            "8:56: error: variable `A` is injected twice",
        );
        check_scope(
            &inject("{ env = \"LD_X\", value = \"{db.value}\" }"),
            "8:56: error: `scope.all.inject[1].env` makes a loader or an interpreter run other code, so it cannot be set",
        );
        check_scope(
            &inject("{ env = \"B\", value = \"{no.value}\" }"),
            "8:69: error: the scope has no credential `no`",
        );
        check_scope(
            &inject("{ env = \"B\", value = \"{db.pw}\" }"),
            "8:69: error: credential `db` has no field `pw`",
        );
        check_scope(
            &inject("{ env = \"B\", value = \"{db.value|hex}\" }"),
            "8:69: error: `scope.all.inject[1].value` has a filter that is not known",
        );
        check_scope(
            &inject("{ env = \"B\", value = \"{db.value\" }"),
            "8:69: error: `scope.all.inject[1].value` has an unbalanced brace",
        );
        check_scope(
            &inject("{ env = \"B\", value = \"plain\" }"),
            "8:69: warning: `scope.all.inject[1].value` uses no credential",
        );
        check_scope(
            &inject("{ value = \"{db.value}\" }"),
            "8:48: error: `scope.all.inject[1]` needs one of `env`, `file`, `fd`, `aws` and `kubeconfig`",
        );
        check_scope(
            "credential.db = { provider = \"no\" }\ninject = [{ env = \"A\", value = \"{db.x}\" }]",
            "7:30: error: `scope.all.credential.db.provider` names no provider of broker.toml",
        );
        check_scope(
            "credential.db = { provider = \"any\", ttl = \"29s\" }\ninject = [{ env = \"A\", value = \"{db.x}\" }]",
            "7:43: error: `scope.all.credential.db.ttl` is out of range",
        );
        check_scope(
            "credential.db = { provider = \"any\", number = \"1\" }\ninject = [{ env = \"A\", value = \"{db.x}\" }]",
            "7:37: error: unknown key `scope.all.credential.db.number`",
        );
        check_scope(
            "credential.db = { provider = \"any\" }\ninject = [{ env = \"A\", value = \"http://u:pw1@h/{db.x}\" }]",
            "8:32: warning: `scope.all.inject[0].value` seems to hold a URL with a password",
        );
        check_scope(
            "idle = \"2m\"",
            "7:8: error: `scope.all.idle` is set on the first scope, whose instance has no time of its own",
        );
        check_server(
            "env.A = \"1\"",
            &format!("{db}{used}"),
            &["8:19: error: variable `A` is set in [env] too"],
        );
    }

    #[test]
    fn no_value_is_repeated() {
        let canary = "hunter2hunter2";
        for scope in [
            format!("inject = [{{ env = \"A\", value = \"{{{canary}}}\" }}]"),
            format!("inject = [{{ env = \"A\", value = '{{\"p\": \"{canary}\"}}' }}]"),
            format!("inject = [{{ env = \"A\", value = \"{{db.x|{canary}}}\" }}]"),
            format!("tools = {canary}"),
            format!("tools = \"{canary}"),
            format!("idle = \"{canary}\"\ncredential.c = {{ provider = \"{canary}\", ttl = \"{canary}\" }}"),
        ] {
            let dir = TempDir::new();
            dir.write("broker.toml", BROKER);
            dir.write("servers.d/s.toml", &format!("{SERVER}{SCOPE}{scope}\n"));
            let found = load(dir.path(), Mode::System, &places(), KINDS).err().unwrap();
            assert!(!found.is_empty());
            for finding in found {
                assert!(!finding.to_string().contains(canary), "{finding}");
            }
        }
    }

    #[test]
    fn a_broken_file_is_read_as_far_as_it_goes() {
        let text = "tier = \"development\"\ncwd = tmp\nowner = 1\n";
        let got = load_files(&[("broker.toml", ""), ("servers.d/s.toml", text)]).1;
        assert_eq!(got.len(), 2, "{got:?}");
        assert!(got[0].starts_with("servers.d/s.toml:2:7: error: not TOML: "), "{got:?}");
        assert_eq!(got[1], "servers.d/s.toml:3:9: error: `owner` is a number, not a text");
    }

    #[test]
    fn depth_is_bounded() {
        let longest = 250 * 1024;
        for text in [
            format!("a = {}", "[".repeat(longest)),
            format!("a = {}", "{a=".repeat(longest / 3)),
            format!("a{} = 1", ".a".repeat(longest / 2)),
            format!("[a{}]", ".a".repeat(longest / 2)),
            "[[a]]\n".repeat(longest / 6),
            "= ".repeat(longest / 2),
        ] {
            let (config, found) = load_files(&[("broker.toml", &text)]);
            assert!(config.is_none() && (1..=21).contains(&found.len()), "{}", found.len());
        }
    }

    #[test]
    fn a_broken_broker_file_blames_no_server() {
        let server = format!(
            "{SERVER}{SCOPE}credential.c = {{ provider = \"bao\" }}\ninject = [{{ env = \"A\", value = \"{{c.x}}\" }}]"
        );
        let files = [("broker.toml", "[provider.bao\nkind = \"fixed\""), ("servers.d/s.toml", &server)];
        let found = load_files(&files).1;
        assert!(found.iter().all(|line| line.starts_with("broker.toml:")), "{found:?}");
        let found = load_files(&[("servers.d/s.toml", &server)]).1;
        assert_eq!(found, ["broker.toml: error: does not exist"]);
    }

    #[test]
    fn other_files() {
        let ok = format!("{SERVER}{SCOPE}");
        let files = [
            ("broker.toml", ""),
            ("servers.d/s.toml", ok.as_str()),
            ("servers.d/s.toml~", "x"),
            ("servers.d/.s.toml.swp", "x"),
            ("servers.d/notes.md", "x"),
            ("policies.d/README", "x"),
        ];
        let (config, found) = load_files(&files);
        assert_eq!(config.unwrap().servers.len(), 1);
        assert_eq!(found, ["servers.d/notes.md: warning: not read: its name does not end in .toml"]);
        let found = load_files(&[
            ("broker.toml", ""),
            ("policies.d/a.cedar", ""),
            ("servers.d/d/x.toml", ""),
            ("servers.d/status.toml", ""),
        ])
        .1;
        assert_eq!(
            found,
            [
                "policies.d/a.cedar: error: policy files are not supported yet: [access] of each server decides alone",
                "servers.d/d: error: a directory among the server files",
                "servers.d/status.toml: error: the file's name is the server's, which is a command of mcp-run, so no server may bear it",
            ]
        );
    }

    #[test]
    fn too_many_files() {
        let dir = TempDir::new();
        dir.write("broker.toml", "");
        for index in 0..1001 {
            dir.write(&format!("servers.d/{index}.bak"), "");
        }
        let found = load(dir.path(), Mode::System, &places(), KINDS).err().unwrap();
        assert_eq!(found[0].message, "the directory holds more than 1000 entries");
    }

    /// A directory that others may write to refuses everything, and hides nothing of what is in it.
    #[test]
    fn files_are_checked_behind_an_untrusted_directory() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new();
        dir.write("broker.toml", "x = 1\n[session]\nmax_age = 5\n");
        dir.write("servers.d/s.toml", &format!("tier = \"sensitive\"\n{SCOPE}"));
        for name in ["", "servers.d"] {
            let wide = std::fs::Permissions::from_mode(0o777);
            std::fs::set_permissions(dir.path().join(name), wide).unwrap();
        }
        let found = load(dir.path(), Mode::System, &places(), KINDS).err().unwrap();
        let prefix = dir.path().display().to_string();
        let said: Vec<_> = found.iter().map(|d| d.to_string().replace(&prefix, "DIR")).collect();
        for want in [
            "DIR: error: writable by group or others (mode 0777)\n  hint: take that away: `chmod go-w DIR`",
            "DIR/servers.d: error: writable by group or others (mode 0777)\n  hint: take that away: `chmod go-w DIR/servers.d`",
            "DIR/broker.toml:1:1: error: unknown key `x`",
            "write a text such as \"10h\"",
            "write `tier = \"development\"`; the other tiers need that helper, which does not exist yet",
        ] {
            assert!(said.iter().any(|line| line.contains(want)), "{want} is not in {said:#?}");
        }
    }

    #[test]
    fn an_untrusted_file_is_an_error_of_the_whole() {
        use std::os::unix::fs::PermissionsExt;
        let dir = TempDir::new();
        dir.write("broker.toml", "");
        dir.write("servers.d/s.toml", &format!("{SERVER}{SCOPE}"));
        for (name, good, bad) in [
            ("servers.d/s.toml", 0o644, 0o666),
            ("servers.d", 0o755, 0o775),
            ("broker.toml", 0o600, 0o620),
            ("", 0o700, 0o707),
        ] {
            let path = dir.path().join(name);
            let set = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            set(bad);
            let found = load(dir.path(), Mode::System, &places(), KINDS).err().unwrap();
            assert!(
                found.len() == 1 && found[0].message.starts_with("writable by group or others"),
                "{name} {found:?}"
            );
            set(good);
            assert!(load(dir.path(), Mode::System, &places(), KINDS).is_ok(), "{name}");
        }
    }
}
