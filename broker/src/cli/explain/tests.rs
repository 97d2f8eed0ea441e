//! Whole answers of the command for small configurations.

use clap::Parser;

use super::*;
use crate::config::ServerDefinition;
use crate::config::testing::{KINDS, TempDir, places};
use crate::provider::sealed;

#[derive(clap::Parser)]
struct Cli {
    #[command(flatten)]
    args: Args,
}

const SERVER: &str = "tier = \"development\"\ncommand = [\"/bin/sh\"]\nextra_args = [\"-a\"]\n\
    access = { users = [\"alice\"], groups = [\"data\"] }\n[scope.all]\ntools = [\"*\"]\n\
    credential.db = { provider = \"p\", number = \"1\" }\ninject = [{ env = \"E\", value = \"{db.value}\" }]\n";

/// Two scopes, the second with everything that a scope can have.
const TWO_SCOPES: &str = "tier = \"development\"\ncommand = [\"/bin/sh\"]\naccess.groups = [\"data\"]\n\
    [scope.read]\ntools = [\"list\", \"get_*\"]\nresources = [\"demo://*\"]\nprompts = [\"ask\"]\n\
    [scope.write]\ntools = [\"put_*\"]\nidle = \"2m\"\nconfirm = \"10m\"\naudit_arguments = true\n\
    limits = { calls_per_minute = 30, concurrent_calls = 2, result_size = \"1MiB\" }\n\
    arguments.\"*\".db = { equals = \"orders\" }\narguments.put_row.limit = { max = 100, optional = true }\n\
    credential.db = { provider = \"p\", number = \"1\", ttl = \"1m\" }\ninject = [{ env = \"E\", value = \"{db.value}\" }]\n";

/// `bob` has the group `data` on this machine and is who runs the tests; `carol` is somebody else.
struct Two;

impl Accounts for Two {
    fn groups(&self, user: &str) -> Option<Vec<String>> {
        ["bob", "carol"].contains(&user).then(|| vec!["data".to_owned()])
    }

    fn uid(&self, user: &str) -> Option<u32> {
        self.groups(user).map(|_| if user == "bob" { places().uid } else { places().uid + 1 })
    }
}

/// Runs the command with `words` behind `--config DIR`.
fn check(words: &[&str], code: u8, want: &str) {
    check_in(Mode::System, words, code, want);
}

fn check_in(mode: Mode, words: &[&str], code: u8, want: &str) {
    check_with(mode, words, code, want, |_| ());
}

/// The same where `arrange` puts more into the directory.
fn check_with(mode: Mode, words: &[&str], code: u8, want: &str, arrange: impl Fn(&TempDir)) {
    let dir = TempDir::new();
    let broker = format!(
        "[broker]\nstate_dir = \"{}/state\"\n[provider.p]\nkind = \"fixed\"\n[provider.local]\nkind = \"sealed\"\n",
        dir.path().display()
    );
    dir.write("broker.toml", &broker);
    dir.write("servers.d/orders-db.toml", SERVER);
    dir.write("servers.d/two.toml", TWO_SCOPES);
    dir.write("servers.d/static.toml", &SERVER.replace("\"p\", number = \"1\"", "\"local\", secret = \"A\""));
    arrange(&dir);
    let words = [&["explain"], words].concat();
    let args = Cli::try_parse_from(words).unwrap().args;
    let kinds = [KINDS, &[&sealed::KIND.reader]].concat();
    let output = run(dir.path(), mode, &args, &places(), &kinds, &Two);
    assert_eq!((output.code, format!("{}{}", output.out, output.err).as_str()), (code, want));
}

#[test]
fn allowed() {
    check(
        &["--user", "bob", "orders-db", "query"],
        0,
        "allowed: `bob` and tool `query` of server `orders-db`\n  groups: data\n  yes the server is approved\n  \
        yes tier `development` can be served\n  yes `access.groups` lists group `data`\n  \
        yes no extra arguments were given\n  \
        yes scope `all` names the tool by `*`\n    \
        mints `db` from provider `p`, 900 s without renewal\n    ends its instance after 15m without a request, until the next one; \
        a lock ends it until the session is unlocked\n    nothing of it is pinned, as `mcp-broker approve` was not run\n",
    );
}

#[test]
fn denied() {
    check(
        &["--user", "bob", "--group", "dev", "--group", "ops", "orders-db", "--", "-b"],
        77,
        "denied: `bob` and server `orders-db`\n  groups: dev, ops\n  yes the server is approved\n  \
        yes tier `development` can be served\n  \
        no  [access] lists neither the account nor a group of it\n  \
        no  no pattern of `extra_args` matches extra argument 1\n\
        hint: ask the admin to list you or a group of yours in [access] of the server\n",
    );
    check(
        &["--user", "bob", "orders-bd"],
        77,
        "denied: `bob` and server `orders-bd`\n  groups: data\n  no  no server of that name is approved\n\
        hint: did you mean `orders-db`? `mcp-run servers` lists yours\n",
    );
}

#[test]
fn a_static_value_has_no_ttl() {
    check(
        &["--user", "bob", "static"],
        0,
        "allowed: `bob` and server `static`\n  groups: data\n  yes the server is approved\n  \
        yes tier `development` can be served\n  yes `access.groups` lists group `data`\n  \
        yes no extra arguments were given\n  scope `all` has every tool of the server\n    \
        hands over `db` from provider `local`, does not expire: a static value\n    ends its instance after 15m without a request, until the next one; \
        a lock ends it until the session is unlocked\n  nothing of it is pinned, as `mcp-broker approve` was not run\n",
    );
}

#[test]
fn a_users_broker_serves_that_user() {
    check_in(
        Mode::User,
        &["--user", "carol", "orders-db"],
        77,
        "denied: `carol` and server `orders-db`\n  groups: data\n  \
        no  in user mode a broker serves only the account that runs it\n  yes the server is approved\n  \
        yes tier `development` can be served\n  yes `access.groups` lists group `data`\n  \
        yes no extra arguments were given\n\
        hint: let the account ask its own broker, or ask the machine's with `--mode system`\n",
    );
    let dir = TempDir::new();
    dir.write("broker.toml", "[provider.p]\nkind = \"fixed\"\n");
    dir.write("servers.d/orders-db.toml", SERVER);
    let args = Cli::try_parse_from(["explain", "--user", "bob", "orders-db"]).unwrap().args;
    assert_eq!(run(dir.path(), Mode::User, &args, &places(), KINDS, &Two).code, 0);
}

#[test]
fn unknown_account() {
    let want =
        "mcp-broker: there is no account `eve` on this machine\nhint: name its groups with `--group G`\n";
    check(&["--user", "eve", "orders-db"], 64, want);
}

#[test]
fn bad_server_name() {
    assert!(Cli::try_parse_from(["explain", "--user", "u", "../x"]).is_err());
}

/// What is said of `bob` and server `two` before its scopes.
const GRANTED: &str = "  groups: data\n  yes the server is approved\n  yes tier `development` can be served\n  \
    yes `access.groups` lists group `data`\n  yes no extra arguments were given\n";

#[test]
fn every_scope() {
    let want = format!(
        "allowed: `bob` and server `two`\n{GRANTED}  \
        scope `read` has tools `list`, `get_*`, and answers what belongs to no tool\n    \
        resources `demo://*`\n    prompts `ask`\n    mints nothing\n    \
        ends its instance after 15m without a request, until the next one; a lock ends it until the session is unlocked\n  \
        scope `write` has tools `put_*`\n    mints `db` from provider `p`, 60 s without renewal\n    \
        at most 30 calls a minute\n    at most 2 calls at once\n    arguments of at most 256 KiB\n    answers of at most 1 MiB\n    \
        `*` with `db` equal to \"orders\"\n    `put_row` with `limit` at most 100, or without it\n    \
        a person is asked before a call, whose yes holds for 10m\n    the arguments of calls stand in the audit log\n    \
        ends its instance after 2m without a request, until the next one; a lock ends it until the session is unlocked\n  nothing of it is pinned, as `mcp-broker approve` was not run\n"
    );
    check(&["--user", "bob", "two"], 0, &want);
}

#[test]
fn one_tool() {
    let want = format!(
        "allowed: `bob` and tool `put_all` of server `two`\n{GRANTED}  \
        yes scope `write` names the tool by `put_*`\n    mints `db` from provider `p`, 60 s without renewal\n    \
        at most 30 calls a minute\n    at most 2 calls at once\n    arguments of at most 256 KiB\n    answers of at most 1 MiB\n    \
        `*` with `db` equal to \"orders\"\n    \
        a person is asked before a call, whose yes holds for 10m\n    the arguments of calls stand in the audit log\n    \
        ends its instance after 2m without a request, until the next one; a lock ends it until the session is unlocked\n    nothing of it is pinned, as `mcp-broker approve` was not run\n"
    );
    check(&["--user", "bob", "two", "put_all"], 0, &want);
    let want = format!(
        "allowed: `bob` and tool `list` of server `two`\n{GRANTED}  yes scope `read` names the tool by its name\n    mints nothing\n    \
        ends its instance after 15m without a request, until the next one; a lock ends it until the session is unlocked\n    nothing of it is pinned, as `mcp-broker approve` was not run\n"
    );
    check(&["--user", "bob", "two", "list"], 0, &want);
}

#[test]
fn a_tool_that_does_not_exist() {
    for (tool, shown, hint) in [
        ("lits", "lits", "did you mean `list`?"),
        ("\u{1b}[2J", "\\u{1b}[2J", "add it to `tools` of the scope whose credentials it needs"),
    ] {
        let want = format!(
            "denied: `bob` and tool `{shown}` of server `two`\n{GRANTED}  \
            no  no scope names the tool, so for a client it does not exist\n    \
            scope `read` has tools `list`, `get_*`\n    scope `write` has tools `put_*`\nhint: {hint}\n"
        );
        check(&["--user", "bob", "two", tool], 77, &want);
    }
}

#[test]
fn a_tool_of_a_server_that_is_not_theirs() {
    let want = "denied: `bob` and tool `list` of server `two`\n  groups: dev\n  yes the server is approved\n  \
        yes tier `development` can be served\n  no  [access] lists neither the account nor a group of it\n  \
        yes no extra arguments were given\n\
        hint: ask the admin to list you or a group of yours in [access] of the server\n";
    check(&["--user", "bob", "--group", "dev", "two", "list"], 77, want);
}

/// Writes what is kept of server `two`, which showed `list` in scope `read`, for the digest of a definition.
fn approve(dir: &TempDir, digest: impl Fn(&ServerDefinition) -> String) {
    let kinds = [KINDS, &[&sealed::KIND.reader]].concat();
    let config =
        load(dir.path(), Mode::System, &places(), &kinds).map_err(|found| format!("{found:?}")).unwrap();
    let server = config.servers.values().find(|server| server.name.as_str() == "two").unwrap();
    let lists =
        |tools: &str| format!("{{\"tools\":{tools},\"resources\":null,\"templates\":null,\"prompts\":null}}");
    let (read, write, digest) = (lists("[1]"), lists("[]"), digest(server));
    let text = format!(
        "{{\"server\":\"two\",\"definition\":\"{digest}\",\"scopes\":[\"read\",\"write\"],\"record\":{{\"approved_at\":\"2026-11-24T12:00:00Z\",\
        \"items\":[\"{{}}\",\"{{\\\"name\\\":\\\"list\\\"}}\"],\"variants\":[{{\"revision\":\"2025-11-25\",\"capable\":false,\"discovery\":0,\
        \"scopes\":{{\"read\":{read},\"write\":{write}}}}}]}}}}"
    );
    dir.write("state/approvals/two.json", &text);
}

#[test]
fn what_is_pinned() {
    let ends = |idle: &str| {
        format!(
            "    ends its instance after {idle} without a request, until the next one; a lock ends it until the session is unlocked\n"
        )
    };
    let list = format!(
        "allowed: `bob` and tool `list` of server `two`\n{GRANTED}  yes scope `read` names the tool by its name\n    mints nothing\n{}",
        ends("15m")
    );
    let words = ["--user", "bob", "two", "list"];
    let current = |dir: &TempDir| approve(dir, crate::package::definition_digest);
    let want = format!("{list}    pinned as it was shown at 2026-11-24T12:00:00Z: SHA-256 DIGEST…\n");
    let digest = crate::package::tool_digest("{\"name\":\"list\"}");
    check_with(Mode::System, &words, 0, &want.replace("DIGEST", digest.get(..12).unwrap()), current);
    let want = format!(
        "{list}    nothing of it is pinned, as its definition has changed since it was approved at 2026-11-24T12:00:00Z\n"
    );
    check_with(Mode::System, &words, 0, &want, |dir| approve(dir, |_| "0".repeat(64)));
    let want = format!("{list}    what is pinned of it cannot be read here: it is no record\n");
    check_with(Mode::System, &words, 0, &want, |dir| dir.write("state/approvals/two.json", "{}"));
    let want = format!(
        "denied: `bob` and tool `get_a` of server `two`\n{GRANTED}  yes scope `read` names the tool by `get_*`\n    mints nothing\n{}  \
        no  the server did not show the tool when it was approved at 2026-11-24T12:00:00Z, so it is hidden\n\
        hint: if the server has it now, run `mcp-broker approve two`\n",
        ends("15m")
    );
    check_with(Mode::System, &["--user", "bob", "two", "get_a"], 77, &want, current);
}
