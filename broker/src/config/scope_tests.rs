//! What is read of scopes, and what is said of each mistake in one: whole files in, findings out.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what is not there must fail the test"
)]

use std::sync::Arc;
use std::time::Duration;

use mcp_broker_proto::plan::ClientRequest;
use serde_json::json;

use super::testing::{BROKER, SERVER, load_files, load_with_hints};
use super::{Confirm, LONGEST_MESSAGE, Limits, OnLeak, ServerDefinition, Start};

/// The definition that is read from `text`, which follows the least of a server file.
fn read(head: &str, text: &str) -> Arc<ServerDefinition> {
    let text = format!("{head}{SERVER}{text}");
    let (config, found) = load_files(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]);
    assert_eq!(found, Vec::<String>::new(), "{text}");
    Arc::clone(config.unwrap().servers.values().next().unwrap())
}

/// What is said of a server file whose scopes (from line 4) are `text`.
fn said(text: &str) -> Vec<String> {
    let text = format!("{SERVER}{text}");
    let got = load_files(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]).1;
    got.iter().map(|line| line.trim_start_matches("servers.d/s.toml:").to_owned()).collect()
}

#[track_caller]
fn check(text: &str, want: &[&str]) {
    assert_eq!(said(text), want, "{text}");
}

/// Checks that line 6 of a scope with the tools `get_*` and `list` gives this finding, and no other.
#[track_caller]
fn check_key(line: &str, want: &str) {
    check(&format!("[scope.a]\ntools = [\"get_*\", \"list\"]\n{line}"), &[want]);
}

/// The hint of the only finding.
fn hint(text: &str) -> String {
    let text = format!("{SERVER}{text}");
    let found = load_with_hints(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]).1;
    let [only] = found.as_slice() else { panic!("{found:?}") };
    only.split_once("\n  hint: ").unwrap().1.to_owned()
}

#[test]
fn everything_is_read() {
    let head = "start = \"eager\"\non_leak = \"end\"\nclient_requests = [\"roots\", \"sampling\"]\n";
    let server = read(
        head,
        "[scope.zz]\ntools = [\"search_objects\", \"get_*\"]\nresources = [\"demo://*\"]\nprompts = [\"ask\"]\naudit_arguments = true\n\
         limits = { calls_per_minute = 30, concurrent_calls = 2, result_size = \"1MiB\", argument_size = 65536 }\n\
         arguments.\"get_*\".limit = { max = 100, optional = true }\n\
         arguments.\"get_*\".db = { one_of = [\"a\", 1, 2.5, [true, { x = 1 }]] }\n\
         arguments.search_objects.sql = { glob = \"SELECT *\", equals = \"SELECT 1\" }\n\
         [scope.aa]\ntools = [\"write_*\"]\nidle = \"2m\"\nconfirm = \"10m\"\n\
         credential.db = { provider = \"fix\", number = \"1\" }\ninject = [{ env = \"E\", value = \"{db.value}\" }]\n\
         [scope.mm]\nprompts = [\"*_x\"]\n",
    );
    assert_eq!((server.start, server.on_leak), (Start::Eager, OnLeak::End));
    assert_eq!(Vec::from_iter(&server.client_requests), [&ClientRequest::Sampling, &ClientRequest::Roots]);
    let names: Vec<_> = server.scopes.iter().map(|scope| scope.name.as_str()).collect();
    assert_eq!(names, ["zz", "aa", "mm"]);
    let first = &server.scopes[0];
    assert_eq!(first.tools, ["search_objects", "get_*"]);
    assert_eq!((first.resources[0].as_str(), first.prompts[0].as_str()), ("demo://*", "ask"));
    assert_eq!((first.idle, first.confirm, first.audit_arguments), (None, None, true));
    let limits = Limits {
        calls_per_minute: Some(30),
        concurrent_calls: Some(2),
        result_size: 1 << 20,
        argument_size: 65_536,
    };
    assert_eq!(first.limits, limits);
    let rules: Vec<_> = first.arguments.iter().map(|rules| rules.tools.as_str()).collect();
    assert_eq!(rules, ["get_*", "search_objects"]);
    let (limit, db) = (&first.arguments[0].rules["limit"], &first.arguments[0].rules["db"]);
    assert_eq!((limit.max.clone(), limit.optional), (Some(100.into()), true));
    assert_eq!(
        (db.one_of.clone().unwrap(), db.optional),
        (vec![json!("a"), json!(1), json!(2.5), json!([true, {"x": 1}])], false)
    );
    let sql = &first.arguments[1].rules["sql"];
    assert_eq!((sql.glob.as_deref(), sql.equals.clone()), (Some("SELECT *"), Some(json!("SELECT 1"))));
    let second = &server.scopes[1];
    assert_eq!(second.idle, Some(Duration::from_secs(120)));
    assert_eq!(second.confirm, Some(Confirm::For(Duration::from_secs(600))));
    assert_eq!((second.credentials.len(), second.inject.len()), (1, 1));
    assert_eq!(server.scopes[2].tools, Vec::<String>::new());
}

#[test]
fn defaults() {
    let server = read("", "[scope.a]\ntools = [\"*\"]\n[scope.b]\nprompts = [\"p\"]\n");
    assert_eq!((server.start, server.on_leak), (Start::Lazy, OnLeak::Mask));
    assert!(server.client_requests.is_empty());
    let scope = &server.scopes[0];
    assert_eq!(scope.limits, Limits::default());
    assert_eq!(scope.limits.result_size, LONGEST_MESSAGE);
    assert_eq!((scope.confirm, scope.audit_arguments, scope.arguments.len()), (None, false, 0));
    assert_eq!(server.scopes[1].idle, None);
    let each = read("", "[scope.a]\ntools = [\"x\"]\nconfirm = \"each\"\n");
    assert_eq!(each.scopes[0].confirm, Some(Confirm::Each));
}

#[test]
fn lists_of_patterns() {
    let one = |line: &str, want: &str| check(&format!("[scope.a]\n{line}"), &[want]);
    one(
        "idle = \"1m\"\ntools = [\"x\"]",
        "5:8: error: `scope.a.idle` is set on the first scope, whose instance has no time of its own",
    );
    one("", "4:1: error: `scope.a.tools` is missing");
    one("tools = []", "5:9: error: `scope.a.tools` is empty");
    one("tools = [\"x\"]\nprompts = []", "6:11: error: `scope.a.prompts` is empty");
    one("tools = \"x\"", "5:9: error: `scope.a.tools` is a text, not a list of texts");
    one("tools = [\"x\", 1]", "5:15: error: `scope.a.tools` is a number, not a text in this list");
    one("tools = [\"\"]", "5:10: error: `scope.a.tools` holds an empty pattern");
    one("tools = [\"a\\n\"]", "5:10: error: `scope.a.tools` holds a control character");
    one(
        "tools = [\"get_?\"]",
        "5:10: warning: `scope.a.tools` holds a character that names of tools do not have",
    );
    one(
        &format!("tools = [\"{}\"]", "x".repeat(129)),
        "5:10: error: `scope.a.tools` holds a pattern longer than 128 bytes",
    );
    check(&format!("[scope.a]\ntools = [\"{}\"]", "x".repeat(128)), &[]);
    one("resources = [\"file\"]", "5:14: error: `scope.a.resources` holds what is no URI");
    check("[scope.a]\nresources = [\"file:///x?y\", \"*\"]\nprompts = [\"ask me\"]", &[]);
    let many: Vec<_> = (0..257).map(|n| format!("\"x{n}\"")).collect();
    one(&format!("tools = [{}]", many.join(",")), "5:9: error: `scope.a.tools` holds more than 256 patterns");
}

#[test]
fn what_two_scopes_name() {
    let two = |a: &str, b: &str| format!("[scope.a]\n{a}\n[scope.b]\n{b}\n");
    check(&two("tools = [\"get_*\"]", "tools = [\"put_*\"]"), &[]);
    check(
        &two("tools = [\"x\", \"get_*\"]", "tools = [\"*_user\", \"y\", \"x\"]"),
        &[
            "7:10: error: `scope.a.tools` and `scope.b.tools` both name `get_user`",
            "7:25: error: `scope.a.tools` and `scope.b.tools` both name `x`",
        ],
    );
    check(
        &two("tools = [\"x\"]\nprompts = [\"p*\"]", "tools = [\"y\"]\nprompts = [\"*\"]"),
        &["9:12: error: `scope.a.prompts` and `scope.b.prompts` both name `p`"],
    );
    check(
        &two("resources = [\"a:*\"]", "resources = [\"a:b\"]"),
        &["7:14: error: `scope.a.resources` and `scope.b.resources` both name `a:b`"],
    );
    // A tool, a prompt and a resource of one name are three things.
    check(&two("tools = [\"*\"]\nresources = [\"*\"]", "prompts = [\"*\"]"), &[]);
    assert_eq!(
        hint(&two("tools = [\"*\"]", "tools = [\"x\"]")),
        "a tool belongs to one scope: make one of the patterns narrower"
    );
}

#[test]
fn how_many_scopes() {
    let of =
        |count: usize| (0..count).map(|n| format!("[scope.s{n}]\ntools = [\"t{n}\"]\n")).collect::<String>();
    check(&of(16), &[]);
    check(&of(17), &["36:8: error: there are more than 16 scopes"]);
    check(
        "[scope.A]\ntools = [\"x\"]",
        &["4:8: error: `scope.A` must be 1 to 63 of a-z, 0-9 and '-', and not begin with '-'"],
    );
}

#[test]
fn idle_of_other_scopes() {
    let with = |idle: &str| format!("[scope.a]\ntools = [\"x\"]\n[scope.b]\ntools = [\"y\"]\nidle = {idle}");
    check(&with("\"1s\""), &[]);
    check(&with("\"24h\""), &[]);
    check(&with("\"25h\""), &["8:8: error: `scope.b.idle` is out of range"]);
    check(&with("\"0s\""), &["8:8: error: `scope.b.idle` is out of range"]);
    check(&with("5"), &["8:8: error: `scope.b.idle` is a number, not a text such as \"10h\""]);
}

#[test]
fn limits() {
    check_key("limits = 1", "6:10: error: `scope.a.limits` is a number, not a table");
    check_key(
        "limits.calls_per_minute = 0",
        "6:27: error: `scope.a.limits.calls_per_minute` is out of range",
    );
    check_key(
        "limits.calls_per_minute = 60001",
        "6:27: error: `scope.a.limits.calls_per_minute` is out of range",
    );
    check_key(
        "limits.calls_per_minute = -1",
        "6:27: error: `scope.a.limits.calls_per_minute` is out of range",
    );
    check_key(
        "limits.calls_per_minute = \"5\"",
        "6:27: error: `scope.a.limits.calls_per_minute` is a text, not a whole number",
    );
    check_key(
        "limits.calls_per_minute = 1.5",
        "6:27: error: `scope.a.limits.calls_per_minute` is a number, not a whole number",
    );
    check_key(
        "limits.concurrent_calls = 1001",
        "6:27: error: `scope.a.limits.concurrent_calls` is out of range",
    );
    check_key("limits.calls_per_min = 1", "6:8: error: unknown key `scope.a.limits.calls_per_min`");
    check("[scope.a]\ntools = [\"x\"]\nlimits = { calls_per_minute = 60000, concurrent_calls = 1000 }", &[]);
    for (size, bytes) in
        [("\"1KiB\"", 1024), ("\"16 MiB\"", 16 << 20), ("\"2048B\"", 2048), ("4_096", 4096), ("0x800", 2048)]
    {
        let server = read("", &format!("[scope.a]\ntools = [\"x\"]\nlimits.result_size = {size}\n"));
        assert_eq!(server.scopes[0].limits.result_size, bytes, "{size}");
    }
    for size in ["\"1023B\"", "\"17MiB\"", "1023", "-1", "16777217", "\"99999999999999999999MiB\""] {
        check_key(
            &format!("limits.result_size = {size}"),
            "6:22: error: `scope.a.limits.result_size` is out of range",
        );
    }
    for size in [
        "\"1KB\"",
        "\"1kib\"",
        "\"MiB\"",
        "\"1.5MiB\"",
        "\"-1MiB\"",
        "\"5\"",
        "\"\"",
        "\"1  KiB\"",
        "\"1 MiB \"",
        "\"é1KiB\"",
    ] {
        check_key(
            &format!("limits.result_size = {size}"),
            "6:22: error: `scope.a.limits.result_size` is not a size",
        );
    }
    check_key(
        "limits.argument_size = true",
        "6:24: error: `scope.a.limits.argument_size` is true or false, not a size such as \"64KiB\"",
    );
    assert_eq!(
        hint("[scope.a]\ntools = [\"x\"]\nlimits.concurent_calls = 1"),
        "did you mean `concurrent_calls`?"
    );
}

/// The broker sees what it decides on, so there it is no longer than a frame can hold.
#[test]
fn arguments_that_are_judged_are_not_too_long() {
    let rule = "arguments.list.n = { max = 1 }\n";
    let scope = |more: &str| format!("[scope.a]\ntools = [\"list\"]\n{rule}{more}");
    assert_eq!(read("", &scope("")).scopes[0].limits.argument_size, 256 << 10);
    assert_eq!(read("", &scope("limits.argument_size = \"1KiB\"\n")).scopes[0].limits.argument_size, 1024);
    check(
        &scope("limits.argument_size = \"257KiB\"\n"),
        &["7:24: error: `scope.a.limits.argument_size` is out of range"],
    );
}

#[test]
fn confirm() {
    for bad in ["\"always\"", "\"\"", "true"] {
        check_key(
            &format!("confirm = {bad}"),
            "6:11: error: `scope.a.confirm` has a value that is not known",
        );
    }
    check_key("confirm = 10", "6:11: error: `scope.a.confirm` is a number, not a text such as \"10h\"");
    check_key("confirm = \"10\"", "6:11: error: `scope.a.confirm` is not a length of time");
    check_key("confirm = \"9s\"", "6:11: error: `scope.a.confirm` is out of range");
    check_key("confirm = \"13h\"", "6:11: error: `scope.a.confirm` is out of range");
    check_key(
        "audit_arguments = \"yes\"",
        "6:19: error: `scope.a.audit_arguments` is a text, not true or false",
    );
}

#[test]
fn what_acts_on_no_tool() {
    check(
        "[scope.a]\nprompts = [\"x\"]\nconfirm = \"each\"\nlimits = {}\naudit_arguments = true",
        &[
            "6:11: warning: `scope.a.confirm` acts on calls of tools, and the scope has none",
            "7:10: warning: `scope.a.limits` acts on calls of tools, and the scope has none",
            "8:19: warning: `scope.a.audit_arguments` acts on calls of tools, and the scope has none",
        ],
    );
}

#[test]
fn rules_for_arguments() {
    check_key("arguments = 1", "6:13: error: `scope.a.arguments` is a number, not a table");
    check_key("arguments.list = 1", "6:18: error: `scope.a.arguments.list` is a number, not a table");
    check_key("arguments.list = {}", "6:11: error: `scope.a.arguments.list` has no rule");
    check_key("arguments.list.n = 1", "6:20: error: `scope.a.arguments.list.n` is a number, not a table");
    check_key("arguments.list.n = {}", "6:20: error: `scope.a.arguments.list.n` has no rule");
    check_key(
        "arguments.list.n = { optional = true }",
        "6:20: error: `scope.a.arguments.list.n` has no rule",
    );
    check_key(
        "arguments.list.\"\" = { max = 1 }",
        "6:16: error: `scope.a.arguments.list.` is no name of an argument",
    );
    check_key(
        "arguments.list.n = { max = 1, min = 0 }",
        "6:31: error: unknown key `scope.a.arguments.list.n.min`",
    );
    check_key(
        "arguments.other.n = { max = 1 }",
        "6:11: error: `scope.a.arguments.other` names no tool of the scope",
    );
    check_key(
        "arguments.\"*x\".n = { glob = \"*\" }",
        "6:29: warning: `scope.a.arguments.*x.n.glob` allows every text without a line feed",
    );
    check_key(
        "arguments.\"put_*\".n = { max = 1 }",
        "6:11: error: `scope.a.arguments.put_*` names no tool of the scope",
    );
    check_key("arguments.\"\".n = { max = 1 }", "6:11: error: `scope.a.arguments` holds an empty pattern");
    check_key(
        "arguments.list.n = { glob = \"a\\nb\" }",
        "6:29: error: `scope.a.arguments.list.n.glob` holds a NUL or a line feed",
    );
    check_key(
        "arguments.list.n = { glob = 1 }",
        "6:29: error: `scope.a.arguments.list.n.glob` is a number, not a text",
    );
    check_key(
        "arguments.list.n = { one_of = [] }",
        "6:31: error: `scope.a.arguments.list.n.one_of` holds no value, or more than 256",
    );
    check_key(
        "arguments.list.n = { one_of = 1 }",
        "6:31: error: `scope.a.arguments.list.n.one_of` is a number, not a list",
    );
    check_key(
        "arguments.list.n = { max = \"1\" }",
        "6:28: error: `scope.a.arguments.list.n.max` is a text, not a number",
    );
    check_key(
        "arguments.list.n = { max = 1, optional = 1 }",
        "6:42: error: `scope.a.arguments.list.n.optional` is a number, not true or false",
    );
    check(
        "[scope.a]\nprompts = [\"x\"]\narguments.x.n = { max = 1 }",
        &["6:11: error: `scope.a.arguments.x` names no tool of the scope"],
    );
    assert_eq!(
        hint("[scope.a]\ntools = [\"x\"]\narguments.x.n = { equal = 1, max = 1 }"),
        "did you mean `equals`?"
    );
}

/// What JSON has no form for, and numbers that would be others than were written.
#[test]
fn values_that_are_not_exact() {
    for (value, why) in [
        ("1979-05-27", "a date, which would have to be a text"),
        ("9223372036854775808", "an integer of more than 64 bits"),
        ("inf", "no finite number"),
        ("nan", "no finite number"),
        ("1e400", "no finite number"),
        ("9007199254740993.0", "a number with too many digits"),
        ("0.10000000000000000001", "a number with too many digits"),
    ] {
        check_key(
            &format!("arguments.list.n = {{ equals = {value} }}"),
            &format!("6:31: error: `scope.a.arguments.list.n.equals` holds {why}"),
        );
    }
    check_key(
        "arguments.list.n = { one_of = [1, { a = [nan] }] }",
        "6:42: error: `scope.a.arguments.list.n.one_of` holds no finite number",
    );
    for (value, want) in [
        ("9223372036854775807", json!(i64::MAX)),
        ("0x10", json!(16)),
        ("+1.5", json!(1.5)),
        ("1_000.5", json!(1000.5)),
        ("1e3", json!(1000.0)),
        ("0.1", json!(0.1)),
        ("-0.0", json!(-0.0)),
    ] {
        let server =
            read("", &format!("[scope.a]\ntools = [\"x\"]\narguments.x.n = {{ equals = {value} }}\n"));
        assert_eq!(server.scopes[0].arguments[0].rules["n"].equals, Some(want), "{value}");
    }
}

#[test]
fn words_of_the_server() {
    let check = |line: &str, want: &str| {
        let text = format!("{line}\n{SERVER}[scope.a]\ntools = [\"x\"]\n");
        let got = load_with_hints(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]).1;
        assert_eq!(got, [format!("servers.d/s.toml:{want}")]);
    };
    check(
        "start = \"late\"",
        "1:9: error: `start` has a value that is not known\n  hint: write \"lazy\" or \"eager\"",
    );
    check(
        "on_leak = \"warn\"",
        "1:11: error: `on_leak` has a value that is not known\n  hint: write \"mask\" or \"end\"",
    );
    check(
        "client_requests = [\"root\"]",
        "1:20: error: `client_requests` holds a word that is not known\n  hint: did you mean \"roots\"?",
    );
    check(
        "client_requests = [\"x\"]",
        "1:20: error: `client_requests` holds a word that is not known\n  hint: write \"sampling\", \"elicitation\" or \"roots\"",
    );
    check(
        "confirm = \"each\"",
        "1:1: error: `confirm` does not belong here\n  hint: move it into a scope, below `[scope.NAME]`",
    );
}

#[test]
fn keys_in_the_wrong_place() {
    check_key("start = \"eager\"", "6:1: error: `scope.a.start` does not belong here");
    check_key("limts = {}", "6:1: error: unknown key `scope.a.limts`");
    assert_eq!(hint("[scope.a]\ntools = [\"x\"]\nlimts = {}"), "did you mean `limits`?");
    assert_eq!(
        hint("[scope.a]\ntools = [\"x\"]\n[scope.b]\ntools = [\"y\"]\nidel = 1"),
        "did you mean `idle`?"
    );
}

#[test]
fn no_value_is_repeated() {
    let canary = "hunter2hunter2";
    for line in [
        format!("confirm = \"{canary}\""),
        format!("limits.result_size = \"{canary}\""),
        format!("arguments.list.n = {{ glob = \"{canary}\\n\" }}"),
        format!("arguments.list.n = {{ equals = {{ {canary} = nan }} }}"),
        format!("arguments.list.n = {{ one_of = \"{canary}\" }}"),
        format!("arguments.list.n = {{ max = \"{canary}\" }}"),
        format!("resources = [\"{canary}\"]"),
        format!("prompts = [\"{canary}\\u0000\"]"),
    ] {
        let text = format!("{SERVER}[scope.a]\ntools = [\"list\"]\n{line}\n");
        let found = load_with_hints(&[("broker.toml", BROKER), ("servers.d/s.toml", &text)]).1;
        assert!(!found.is_empty() && !found.iter().any(|text| text.contains(canary)), "{found:?}");
    }
}
