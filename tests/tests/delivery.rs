//! What a file in a format says is what its readers read: dotenv lines by npm's dotenv and python-dotenv, objects by
//! Node and Python. What the readers would disagree about is not written at all.
//!
//! How files, descriptors and refreshes reach a running server is shown in the launcher's own tests, against a broker
//! that says what it is told to; whether other readers of dotenv files agree is not proved.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use e2e::parts;
use e2e::tempdir::TempDir;
use mcp_broker_proto::Secret;
use mcp_broker_proto::content::ContentError;
use mcp_broker_proto::launch::Content;
use serde_json::Value;

/// What passwords, keys and certificates are made of, and what breaks careless writers.
const VALUES: &[&str] = &[
    "",
    "plain",
    "v-approle-orders-ro-8Gk2",
    "with blanks  inside",
    " blanks at both ends ",
    "\ttab\t",
    "#first",
    "in#side",
    "behind #a blank",
    "$HOME",
    "pa$$word$1",
    "$(id)`id`",
    "\"double\"",
    "'single'",
    "it's",
    "say \"it's\"",
    "`ticks` it's",
    "back\\slash",
    "\\n is no line feed",
    "end\\",
    "two\\\\",
    "it's C:\\new",
    "it's\na line",
    "first\nsecond\n",
    "-----BEGIN KEY-----\nMIIB+/=\n-----END KEY-----\n",
    "cr\r\nlf",
    "it's\rcr",
    "a=b=c",
    "export A=b",
    "a: b",
    "ümläut 密码 🔑",
    "{\"json\": [1, 'x']}",
    "postgres://u:p%40@h:5432/db?sslmode=require&x=1",
];

/// Not to be written as dotenv.
const AMBIGUOUS: &[&str] = &["${HOME}", "a ${X:-y} b", "it's \"a\" #1", "it's\n\"a\"", "'\"", "bell\u{7}"];

fn content(
    format: fn(BTreeMap<String, mcp_broker_proto::template::Template>) -> Content,
    values: &[&str],
) -> Result<String, ContentError> {
    let names = (0..values.len()).map(|number| (format!("K{number}"), format!("{{x.f{number}}}")));
    let templates = names.map(|(name, text)| (name, text.parse().expect("a template"))).collect();
    let fields = values
        .iter()
        .enumerate()
        .map(|(number, value)| (format!("f{number}"), Secret::new((*value).to_owned())));
    let credentials = BTreeMap::from([("x".parse().expect("a name"), fields.collect())]);
    Ok(format(templates).render(&credentials)?.expose(str::to_owned))
}

/// The object that a program prints.
#[track_caller]
fn said(command: &mut Command, file: &Path) -> BTreeMap<String, String> {
    let output = command.arg(file).env_clear().env("HOME", "/nowhere").output().expect("the reader starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    let read: Value = serde_json::from_slice(&output.stdout).expect("it prints an object");
    serde_json::from_value(read).expect("an object of texts")
}

fn node(script: &str) -> Command {
    let mut node = Command::new(parts::node());
    node.args(["-e", script]);
    node
}

fn python(script: &str) -> Command {
    let mut python = Command::new(parts::folder().join("mcp-1/bin/python"));
    python.args(["-c", script]);
    python
}

fn dotenv_of_npm() -> Command {
    let module = parts::folder().join("npm/node_modules/dotenv");
    let read = "require('fs').readFileSync(process.argv[1])";
    node(&format!("console.log(JSON.stringify(require({:?}).parse({read})))", module.display().to_string()))
}

fn dotenv_of_python() -> Command {
    python("import dotenv, json, sys; print(json.dumps(dotenv.dotenv_values(sys.argv[1])))")
}

fn expected(values: &[&str]) -> BTreeMap<String, String> {
    values.iter().enumerate().map(|(number, value)| (format!("K{number}"), (*value).to_owned())).collect()
}

/// A reader of dotenv files: its name, and how it is started.
type Reader = (&'static str, fn() -> Command);

#[test]
fn dotenv_files_are_read_back_as_they_were_meant() {
    let dir = TempDir::new("dotenv");
    let file = dir.path().join("file");
    let readers: [Reader; 2] = [("npm", dotenv_of_npm), ("python", dotenv_of_python)];
    // All at once, where one may swallow the next, and in the other order.
    let backwards: Vec<_> = VALUES.iter().rev().copied().collect();
    for values in [VALUES, &backwards] {
        std::fs::write(&file, content(Content::Dotenv, values).expect("it can be written")).expect("a file");
        for (name, reader) in readers {
            assert_eq!(said(&mut reader(), &file), expected(values), "{name}");
        }
    }
}

#[test]
fn what_readers_disagree_about_is_not_written() {
    for value in AMBIGUOUS {
        let refused = content(Content::Dotenv, &["plain", value]);
        assert_eq!(refused, Err(ContentError::Ambiguous("K1".to_owned())), "{value:?}");
        assert!(content(Content::Json, &[value]).is_ok());
    }
}

#[test]
fn objects_are_read_back_as_they_were_meant() {
    let dir = TempDir::new("objects");
    let file = dir.path().join("file");
    let values: Vec<_> = VALUES.iter().chain(AMBIGUOUS).copied().collect();
    std::fs::write(&file, content(Content::Json, &values).expect("it can be written")).expect("a file");
    let of_node =
        "console.log(JSON.stringify(JSON.parse(require('fs').readFileSync(process.argv[1], 'utf8'))))";
    let of_python = "import json, sys; print(json.dumps(json.load(open(sys.argv[1], encoding='utf-8'))))";
    for mut reader in [node(of_node), python(of_python)] {
        assert_eq!(said(&mut reader, &file), expected(&values));
    }
}
