//! What is read of each way, and what is said of each mistake in one: whole files in, findings out.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what is not there must fail the test")]

use std::os::unix::fs::PermissionsExt;

use mcp_broker_proto::launch::{AwsWay, Content, Injection};
use serde_json::json;

use crate::config::testing::{BROKER, SERVER, TempDir, load_files, load_with_hints};

/// Two credentials: one with the field `value`, and one whose fields nobody knows before it is there.
const TWO: &str = "[scope.a]\ntools = [\"x\"]\ncredential.db = { provider = \"fix\", number = \"1\" }\n\
    credential.cloud = { provider = \"any\" }\n";
/// Uses them, so that nothing else is said.
const USED: &str = "{ env = \"U\", value = \"{db.value}{cloud.x}\" }";

fn file_of(head: &str, ways: &str) -> String {
    format!("{head}{SERVER}{TWO}inject = [{USED}, {ways}]\n")
}

fn read(ways: &str) -> Vec<Injection> {
    let text = file_of("", ways);
    let (config, found) = load_files(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]);
    assert_eq!(found, Vec::<String>::new(), "{ways}");
    let server = config.unwrap().servers.into_values().next().unwrap();
    server.scopes.first().unwrap().inject.iter().skip(1).cloned().collect()
}

/// Every finding without its place, with its hint in brackets.
fn said(head: &str, ways: &str) -> Vec<String> {
    let text = file_of(head, ways);
    let found = load_with_hints(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]).1;
    let short = |text: &String| {
        let text = text.replace("scope.a.inject[1]", "I").replace("\n  hint: ", " [") + "]";
        let said = text.splitn(4, ':').nth(3).unwrap_or(&text).trim();
        said.trim_start_matches("error: ").trim_start_matches("warning: ").to_owned()
    };
    found.iter().map(short).collect()
}

#[track_caller]
fn check(ways: &str, want: &[&str]) {
    assert_eq!(said("", ways), want, "{ways}");
}

#[test]
fn files_are_read() {
    let ways = read(
        "{ file = \"A\", value = \"x{db.value}\" }, { file = \"B\", value = \"{db.value}\", format = \"raw\", reread = false },\n\
         { file = \"C\", format = \"dotenv\", values = { K = \"{db.value}\", HOST = \"h\" }, signal = \"HUP\" },\n\
         { file = \"D\", format = \"json\", values = { \"a b\" = \"{cloud.x}\" }, signal = \"USR2\", reread = true },\n\
         { fd = \"E\", value = \"{db.value}\" }, { file = \"F\", value = \"{db.value|base64}\", format = \"template\" }",
    );
    let name = |way: &Injection| way.name().to_owned();
    assert_eq!(ways.iter().map(name).collect::<Vec<_>>(), ["A", "B", "C", "D", "E", "F"]);
    let told: Vec<_> = ways
        .iter()
        .map(|way| match way {
            Injection::File { content, reread, signal, .. } => {
                let (kind, names) = match content {
                    Content::Text(_) => ("text", String::new()),
                    Content::Dotenv(values) => {
                        ("dotenv", values.keys().cloned().collect::<Vec<_>>().join(","))
                    }
                    Content::Json(values) => ("json", values.keys().cloned().collect::<Vec<_>>().join(",")),
                };
                format!("{kind} {names} {reread} {signal:?}")
            }
            Injection::Fd { .. } => "fd".to_owned(),
            other => panic!("{other:?}"),
        })
        .collect();
    let want = [
        "text  true None",
        "text  false None",
        "dotenv HOST,K true Some(1)",
        "json a b true Some(12)",
        "fd",
        "text  true None",
    ];
    assert_eq!(told, want);
}

#[test]
fn one_way_each() {
    let which = "`I` needs one of `env`, `file`, `fd`, `aws` and `kubeconfig` [write `{ env = \"VAR\", value = \"…\" }` \
        or `{ file = \"VAR\", value = \"…\" }`; `mcp-broker schema` describes the others]";
    check("{ env = \"A\", file = \"B\", value = \"{db.value}\" }", &[which]);
    check("{ aws = \"endpoint\", kubeconfig = \"B\", server = \"https://h\" }", &[which]);
    check("{}", &[which]);
    check("{ fil = \"A\" }", &[which, "unknown key `I.fil` [did you mean `file`?]"]);
    check(
        "{ env = \"A\", value = \"{db.value}\", format = \"raw\" }",
        &["`I.format` does not belong here [remove it: it goes with `file`, not with `env`]"],
    );
    check(
        "{ aws = \"endpoint\", value = \"{db.value}\" }",
        &["`I.value` does not belong here [remove it: it goes with `env`, `file` and `fd`, not with `aws`]"],
    );
    check("{ fd = \"A\" }", &["`I.value` is missing [add `value = …`; `mcp-broker schema` describes it]"]);
    check(
        "{ fd = \"1A\", value = \"{db.value}\" }",
        &["`I.fd` is not a variable name [use letters, digits and `_`, not a digit first]"],
    );
    check(
        "{ fd = \"U\", value = \"{db.value}\" }",
        &["variable `U` is injected twice [remove one of the two]"],
    );
}

#[test]
fn formats_that_do_not_fit() {
    let values = "write `values = { NAME = \"{credential.field}\" }`";
    check(
        "{ file = \"A\", format = \"yaml\", value = \"{db.value}\" }",
        &[
            "`I.format` has a value that is not known [write \"raw\" or \"template\" or \"dotenv\" or \"json\"]",
        ],
    );
    for format in ["dotenv", "json"] {
        let want = format!("`I.format` takes `values` [{values}]");
        check(&format!("{{ file = \"A\", format = \"{format}\", value = \"{{db.value}}\" }}"), &[&want]);
        check(&format!("{{ file = \"A\", format = \"{format}\" }}"), &[&want]);
        check(
            &format!("{{ file = \"A\", format = \"{format}\", values = {{}} }}"),
            &[&format!("`I.values` is empty [{values}]")],
        );
        check(
            &format!(
                "{{ file = \"A\", format = \"{format}\", value = \"x\", values = {{ K = \"{{db.value}}\" }} }}"
            ),
            &["`I.value` stands beside `values` [remove one of the two]"],
        );
        check(
            &format!("{{ file = \"A\", format = \"{format}\", values = {{ K = \"x\" }} }}"),
            &["`I.values` uses no credential [put what is not secret into [env]]"],
        );
    }
    for format in ["raw", "template"] {
        check(
            &format!("{{ file = \"A\", format = \"{format}\", values = {{ K = \"{{db.value}}\" }} }}"),
            &["`I.format` takes `value`, and no `values` [write `value = \"…\"`, or another format]"],
        );
    }
    check(
        "{ file = \"A\", values = { K = \"{db.value}\" } }",
        &["`I.values` needs a `format` to be written in [add `format = \"dotenv\"` or `format = \"json\"`]"],
    );
    check(
        "{ file = \"A\", format = \"json\", values = [\"{db.value}\"] }",
        &["`I.values` is a list, not a table [write a table]"],
    );
    check(
        "{ file = \"A\", format = \"json\", values = { K = 1 } }",
        &["`I.values.K` is a number, not a text [write a text]"],
    );
    for value in ["x{db.value}", "{db.value}{db.value}", "{db.value}\\n"] {
        check(
            &format!("{{ file = \"A\", format = \"raw\", value = \"{value}\" }}"),
            &[
                "`I.value` is more than one placeholder, or none [write `{credential.field}` and nothing else, or `format = \"template\"`]",
            ],
        );
    }
}

#[test]
fn names_in_files() {
    let one = |format: &str, name: &str| {
        said(
            "",
            &format!(
                "{{ file = \"A\", format = \"{format}\", values = {{ \"{name}\" = \"{{db.value}}\" }} }}"
            ),
        )
    };
    let shape = "is not a variable name [use letters, digits and `_`, not a digit first]";
    for name in ["1A", "A-B", "A B", "export A", "A=B", ""] {
        assert_eq!(one("dotenv", name), [format!("`I.values.{name}` {shape}")]);
    }
    assert!(one("dotenv", "NODE_OPTIONS").concat().contains("run other code"));
    assert_eq!(one("json", "A-B = é"), Vec::<String>::new());
    for name in [String::new(), "x".repeat(256), "a\\u0007".to_owned()] {
        let found = one("json", &name).concat();
        assert!(found.contains("is empty, too long, or holds a control character"), "{found}");
    }
    let many: Vec<_> = (0..257).map(|n| format!("K{n} = \"{{db.value}}\"")).collect();
    check(
        &format!("{{ file = \"A\", format = \"json\", values = {{ {} }} }}", many.join(", ")),
        &["`I.values` holds more than 256 names [hand them over in several files]"],
    );
    check(
        "{ file = \"A\", format = \"json\", values = { K = \"{db.pw}\" } }",
        &["credential `db` has no field `pw` [there are `value`]"],
    );
}

#[test]
fn signals() {
    let file = |more: &str| format!("{{ file = \"A\", value = \"{{db.value}}\", {more} }}");
    check(
        &file("signal = \"SIGHUP\""),
        &["`I.signal` has a value that is not known [write \"HUP\", without SIG]"],
    );
    for bad in ["KILL", "TERM", "SIGKILL", "hup", ""] {
        check(
            &file(&format!("signal = \"{bad}\"")),
            &["`I.signal` has a value that is not known [write \"HUP\" or \"USR1\" or \"USR2\"]"],
        );
    }
    check(
        &file("signal = \"HUP\", reread = false"),
        &["`I.signal` is sent after a replacement, and nothing is replaced [remove it, or `reread = false`]"],
    );
    check(&file("reread = \"no\""), &["`I.reread` is a text, not true or false [write true or false]"]);
}

#[test]
fn aws() {
    let ways = read("{ aws = \"endpoint\" }");
    let want = Injection::Aws { credential: "cloud".parse().unwrap(), by: AwsWay::Endpoint };
    assert_eq!(ways, [want], "the only one that may have the fields");
    let ways = read("{ aws = \"credential_process\", credential = \"cloud\" }");
    let want = Injection::Aws { credential: "cloud".parse().unwrap(), by: AwsWay::CredentialProcess };
    assert_eq!(ways, [want]);
    check(
        "{ aws = true }",
        &["`I.aws` is true or false, not the text \"endpoint\" or \"credential_process\" \
            [write the text \"endpoint\" or \"credential_process\"]"],
    );
    check(
        "{ aws = \"imds\" }",
        &["`I.aws` has a value that is not known [write \"endpoint\" or \"credential_process\"]"],
    );
    check(
        "{ aws = \"endpoint\", credential = \"db\" }",
        &["credential `db` has not the fields `access_key_id` and `secret_access_key` \
            [name another one, or hand its fields over by `file` or `env`]"],
    );
    check(
        "{ aws = \"endpoint\", credential = \"no\" }",
        &["the scope has no credential `no` [there are `db`, `cloud`]"],
    );
}

#[test]
fn aws_has_its_variables_for_itself() {
    let hint = "[remove one of the two: `aws` alone says where SDKs find their credential]";
    for name in ["AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_EC2_METADATA_DISABLED", "AWS_ACCESS_KEY_ID"] {
        let want = format!("variable `{name}` is set besides `aws` {hint}");
        let env = format!("{{ env = \"{name}\", value = \"{{db.value}}\" }}");
        check(&format!("{env}, {{ aws = \"endpoint\" }}"), &[&want]);
        check(&format!("{{ aws = \"endpoint\" }}, {env}"), &[&want]);
        assert_eq!(said(&format!("env.{name} = \"x\"\n"), "{ aws = \"endpoint\" }"), [want]);
    }
    check(
        "{ aws = \"endpoint\" }, { aws = \"credential_process\" }",
        &[&format!("variable `AWS_CONTAINER_CREDENTIALS_FULL_URI` is set besides `aws` {hint}")],
    );
    assert_eq!(said("env.AWS_REGION = \"eu-central-1\"\n", "{ aws = \"endpoint\" }"), Vec::<String>::new());
}

#[test]
fn which_credential() {
    let scope = |credentials: &str, way: &str| {
        let text = format!("{SERVER}[scope.a]\ntools = [\"x\"]\n{credentials}inject = [{way}]\n");
        load_with_hints(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]).1.join("|")
    };
    let none = scope("", "{ aws = \"endpoint\" }");
    assert!(none.contains("7:") || none.contains("the scope has no credential with the fields"), "{none}");
    let db = "credential.db = { provider = \"fix\", number = \"1\" }\n";
    let other = scope(db, "{ aws = \"endpoint\" }, { env = \"A\", value = \"{db.value}\" }");
    assert!(other.contains("the scope has no credential with the fields `access_key_id`"), "{other}");
    let two = "credential.x = { provider = \"any\" }\ncredential.y = { provider = \"any\" }\n";
    let several = scope(two, "{ aws = \"endpoint\" }, { env = \"A\", value = \"{x.a}{y.a}\" }");
    assert!(
        several.contains("the scope has several credentials that `scope.a.inject[0]` could mean"),
        "{several}"
    );
    assert!(several.contains("add `credential = \"NAME\"`: there are `x`, `y`"), "{several}");
}

const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIU\n-----END CERTIFICATE-----\n";

/// A kubeconfig with an authority that is `text`, of this mode: what is read of it, or said.
fn with_authority(text: &str, mode: u32) -> Result<Injection, String> {
    let dir = TempDir::new();
    dir.write("ca.pem", text);
    let path = dir.path().join("ca.pem");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    let way = format!(
        "{{ kubeconfig = \"KUBECONFIG\", credential = \"cloud\", server = \"https://k:6443\", authority = \"{}\" }}",
        path.display()
    );
    let text = file_of("", &way);
    let (config, found) = load_files(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]);
    let Some(config) = config else { return Err(found.concat()) };
    Ok(config.servers.into_values().next().unwrap().scopes.first().unwrap().inject.last().unwrap().clone())
}

#[test]
fn kubeconfig() {
    let ways =
        read("{ kubeconfig = \"KUBECONFIG\", server = \"http://127.0.0.1:8080\", namespace = \"team-a\" }");
    let want = json!([{ "way": "kubeconfig", "name": "KUBECONFIG", "credential": "cloud",
        "server": "http://127.0.0.1:8080", "namespace": "team-a" }]);
    assert_eq!(serde_json::to_value(&ways).unwrap(), want);
    let text = format!("Subject: CN=x\n{CERTIFICATE}and\n{CERTIFICATE}");
    match with_authority(&text, 0o644).unwrap() {
        Injection::Kubeconfig { authority, .. } => assert_eq!(authority.unwrap(), CERTIFICATE.repeat(2)),
        other => panic!("{other:?}"),
    }
    let with =
        |more: &str| said("", &format!("{{ kubeconfig = \"K\", credential = \"cloud\", {more} }}")).concat();
    for (server, want) in [
        ("http://k.example.com", "is not encrypted"),
        ("ftp://k", "is neither https nor http"),
        ("https://u:p@k", "has more in it"),
        ("https://k?x=1", "has more in it"),
        ("k:6443/", "is neither https nor http"),
        ("kubernetes", "is not a URL"),
    ] {
        let found = with(&format!("server = \"{server}\""));
        assert!(found.contains(want), "{server}: {found}");
    }
    assert!(with("namespace = \"x\"").contains("`I.server` is missing"));
    for name in ["", "A", "a_b", "-a", "a-", &"a".repeat(64)] {
        let found = with(&format!("server = \"https://k\", namespace = \"{name}\""));
        assert!(found.contains("is no name of a namespace"), "{name}: {found}");
    }
}

#[test]
fn authorities_that_cannot_be_trusted() {
    for (text, mode, want) in [
        (CERTIFICATE, 0o664, "writable by group or others (mode 0664)"),
        (CERTIFICATE, 0o602, "writable by group or others (mode 0602)"),
        ("nothing", 0o600, "holds no certificate in PEM"),
        ("-----BEGIN CERTIFICATE-----\nMIIB", 0o600, "has a certificate without its end"),
        (
            "-----BEGIN CERTIFICATE-----\n%%%%\n-----END CERTIFICATE-----",
            0o600,
            "has a certificate that is not one",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            0o600,
            "has a certificate that is not one",
        ),
        ("-----BEGIN EC PRIVATE KEY-----\nMIIB\n", 0o600, "holds a private key"),
        (&CERTIFICATE.repeat(1000), 0o600, "the file is longer than 64 KiB"),
    ] {
        let found = with_authority(text, mode).unwrap_err();
        assert!(found.contains("the file of `scope.a.inject[1].authority`"), "{found}");
        assert!(found.contains(want), "{found}");
    }
    let way = |path: &str| {
        let way = "kubeconfig = \"K\", credential = \"cloud\", server = \"https://k\"";
        said("", &format!("{{ {way}, authority = \"{path}\" }}")).concat()
    };
    assert!(way("/no/such/ca.pem").contains("does not exist"), "{}", way("/no/such/ca.pem"));
    assert!(way("ca.pem").contains("is not an absolute path"));
    assert!(way("/").contains("not a regular file"));
}

#[test]
fn no_value_is_repeated() {
    let canary = "hunter2hunter2";
    for way in [
        format!("{{ file = \"A\", format = \"{canary}\", value = \"{{db.value}}\" }}"),
        format!("{{ file = \"A\", format = \"json\", values = {{ K = \"{{{canary}}}\" }} }}"),
        format!("{{ file = \"A\", format = \"raw\", value = \"{canary}{{db.value}}\" }}"),
        format!("{{ file = \"A\", value = \"{{db.value}}\", signal = \"{canary}\" }}"),
        format!("{{ aws = \"{canary}\" }}"),
        format!("{{ kubeconfig = \"K\", credential = \"cloud\", server = \"https://u:{canary}@h\" }}"),
        format!(
            "{{ kubeconfig = \"K\", credential = \"cloud\", server = \"https://h\", namespace = \"{canary}!\" }}"
        ),
    ] {
        let found = said("", &way).concat();
        assert!(!found.is_empty() && !found.contains(canary), "{found}");
    }
}
