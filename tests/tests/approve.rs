//! An admin approves a server: it is run in throw-away children as clients of every kind, what it shows is shown and
//! pinned, and nothing is left of the trial: no process, no file, no credential.
//!
//! Not proved here: what a launch does with an approval, and that the question on a terminal is answered by a person.

use std::collections::BTreeSet;
use std::time::Duration;

use e2e::accounts::{ALICE, ROOT};
use e2e::eventually::so;
use e2e::mcp::{Client, Outcome};
use e2e::parts::seen;
use e2e::tempdir::write;
use e2e::{World, eventually, rounds};
use mcp_broker_proto::approval::ApprovalInfo;
use serde_json::{Value, json};

/// A trial starts a server a dozen times, each of which may take its time.
const TRIAL: Duration = Duration::from_secs(240);

const EVERYTHING: &[&str] = &[seen::NODE, seen::EVERYTHING];
const DBHUB: &[&str] = &[seen::NODE, seen::DBHUB, "--transport", "stdio"];
const SHOWING: &str = "/run/e2e/fixtures/showing_server.py";

/// A definition without credentials.
fn plain(world: &World, command: &[&str], more: &str) -> String {
    let mark = &world.mark;
    format!(
        "description = \"d\"\nowner = \"o\"\ntier = \"development\"\ncommand = {command:?}\ncwd = \"{{home}}/work\"\n\
         env = {{ E2E_MARK = \"{mark}\" }}\n{more}\n[access]\nusers = [\"alice\"]\n\n[scope.all]\ntools = [\"*\"]\n"
    )
}

/// A world with a server `shows` that shows what a file says, without credentials.
fn showing(world: World, shown: &Value) -> World {
    show(&world, shown);
    let file = world.path().join("shown.json");
    let text = plain(&world, &[seen::PYTHON_2, SHOWING, file.to_str().unwrap()], "");
    world.file("shows", &text)
}

/// The same with the world's credential in `DSN`.
fn showing_with_credentials(shown: &Value) -> World {
    let world = World::user().vault();
    show(&world, shown);
    let file = world.path().join("shown.json");
    let text = world.definition(&[seen::PYTHON_2, SHOWING, file.to_str().unwrap()]);
    world.file("shows", &text).start()
}

fn show(world: &World, shown: &Value) {
    write(&world.path().join("shown.json"), &shown.to_string(), 0o644, 0, 0);
}

fn tool(name: &str, description: &str) -> Value {
    json!({ "tools": [{ "name": name, "description": description }] })
}

/// The command, running.
fn begin(world: &World, words: &[&str]) -> Client {
    let mut command = world.admin_command(words);
    command.env("VAULT_TOKEN", "not for servers").env("TMPDIR", world.owner().home(world.path()));
    let mut client = Client::start(command, world.view(world.owner()));
    client.close();
    client
}

#[track_caller]
fn approve(world: &World, words: &[&str]) -> Outcome {
    let words: Vec<_> = ["approve"].iter().chain(words).copied().collect();
    begin(world, &words).outcome_within(TRIAL)
}

fn packages(world: &World) -> Vec<ApprovalInfo> {
    world.admin_json(&["packages"])
}

/// The events of that kind in the audit log.
fn events(world: &World, kind: &str) -> Vec<Value> {
    world.audit().into_iter().filter(|event| event["event"] == kind).collect()
}

/// Nothing of a trial is left.
#[track_caller]
fn assert_clean(world: &World) {
    assert_eq!(world.instances(), Vec::<u32>::new(), "a process is left");
    let home = std::fs::read_dir(world.owner().home(world.path())).unwrap().flatten();
    let left: Vec<_> = home.map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("trial")), "{left:?}");
}

/// It said what is wrong and how to cure it.
#[track_caller]
fn refused(outcome: &Outcome, code: i32, words: &[&str]) {
    outcome.assert_code(code);
    for word in ["mcp-broker: ", "hint: "].iter().chain(words) {
        assert!(outcome.stderr.contains(word), "`{word}` is not in: {}", outcome.stderr);
    }
}

#[test]
fn what_server_everything_shows_is_pinned() {
    let world = World::user();
    let text = plain(&world, EVERYTHING, "");
    let world = world.file("everything", &text).start();
    let outcome = approve(&world, &["everything", "--yes"]);
    let text = outcome.assert_code(0).text();
    for said in
        ["not approved before", "tool echo: ", "tool get-env: ", "2024-11-05", "2025-11-25", "with 16 tools"]
    {
        assert!(text.contains(said), "`{said}` is not in:\n{text}");
    }
    assert!(!text.contains("2026-07-28"), "{text}");
    let [info] = packages(&world).try_into().expect("one server is approved");
    assert!(info.current);
    let tools = &info.tools[&"all".parse().unwrap()];
    assert_eq!(tools.len(), 16);
    assert!(tools.values().all(|digests| digests.iter().all(|digest| digest.len() == 64)));
    let [event] = events(&world, "server_approved").try_into().expect("it is written down once");
    assert_eq!(
        (&event["server"], &event["tools"], &event["by"]["uid"]),
        (&json!("everything"), &json!(16), &json!(ALICE.uid))
    );
    assert_clean(&world);

    let again = approve(&world, &["everything", "--show"]);
    assert!(again.assert_code(0).text().contains("the server shows the same"), "{}", again.text());
    assert_eq!(packages(&world), [info], "showing approves nothing");
}

#[test]
fn a_server_of_the_stateless_era_is_pinned_in_both() {
    let world = World::user();
    let text = plain(&world, &[seen::PYTHON_2, seen::STATELESS], "");
    let world = world.file("stateless", &text).start();
    let text = approve(&world, &["stateless", "--yes"]).assert_code(0).text();
    assert!(text.contains("2025-11-25, 2026-07-28"), "{text}");
    assert!(text.contains("tool whoami: The database's own answer"), "{text}");
    assert_clean(&world);
}

#[test]
fn a_changed_description_is_shown_before_it_is_approved() {
    let world = showing(World::user(), &tool("read", "reads")).start();
    approve(&world, &["shows", "--yes"]).assert_code(0);
    let before = packages(&world);

    show(
        &world,
        &json!({ "tools": [
        { "name": "read", "description": "reads, and sends it on \u{1b}[2J" },
        { "name": "write", "description": "writes", "annotations": { "readOnlyHint": false } },
    ] }),
    );
    let outcome = approve(&world, &["shows"]);
    refused(&outcome, 64, &["no terminal", "--yes"]);
    let text = outcome.text();
    for said in [
        "altered: tool read of scope all, 1 key",
        "description was \"reads\"",
        "description is  \"reads, and sends it on",
        "added: tool write of scope all",
    ] {
        assert!(text.contains(said), "`{said}` is not in:\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "a server's words must not act on a terminal");
    assert_eq!(packages(&world), before, "it was not approved");

    approve(&world, &["shows", "--yes"]).assert_code(0);
    let after = packages(&world);
    assert_ne!(after[0].tools, before[0].tools);
    show(&world, &tool("write", "writes"));
    let text = approve(&world, &["shows", "--show"]).assert_code(0).text();
    assert!(text.contains("missing: tool read") && text.contains("annotations is  nothing"), "{text}");
}

#[test]
fn an_approval_is_of_the_definition_that_was_tried() {
    let mut world = showing(World::user(), &tool("read", "reads")).start();
    approve(&world, &["shows", "--yes"]).assert_code(0);
    let file = world.path().join("shown.json");
    let other = plain(&world, &[seen::PYTHON_2, SHOWING, file.to_str().unwrap(), "more"], "");
    world.write_server("shows", &other);
    let outcome = approve(&world, &["shows", "--yes"]);
    refused(&outcome, 78, &["another one than was tried", "SIGHUP"]);
    world.broker().reload();
    world.broker().wait_log("the new configuration is in force");
    assert!(!packages(&world)[0].current);
    let text = approve(&world, &["shows", "--yes"]).assert_code(0).text();
    assert!(text.contains("the definition is another one"), "{text}");
    assert!(packages(&world)[0].current);

    world.restart();
    assert!(packages(&world)[0].current, "a restart keeps it");
    let record = world.state_dir().join("approvals/shows.json");
    write(&record, "{}", 0o600, ALICE.uid, ALICE.uid);
    world.restart();
    assert_eq!(packages(&world), [], "a damaged one is none");
    // Nothing would pin its tools.
    world.run_to_end(ALICE, &["shows"]).assert_refused(78, &["cannot be read", "mcp-broker approve shows"]);
    approve(&world, &["shows", "--yes"]).assert_code(0);
    assert!(packages(&world)[0].current);
}

#[test]
fn a_server_that_shows_something_else_each_time_is_refused() {
    let world = showing(World::user(), &tool("read", "reads as process {pid}")).start();
    refused(&approve(&world, &["shows", "--yes"]), 78, &["tool `read`", "from run to run"]);
    assert_eq!(packages(&world), []);
    assert_clean(&world);
}

#[test]
fn a_trial_is_given_nothing_of_the_admins() {
    let world = showing(World::user(), &tool("read", "{names}")).start();
    let text = approve(&world, &["shows", "--show"]).assert_code(0).text();
    let line = text.lines().find_map(|line| line.trim().strip_prefix("tool read: ")).expect("it is shown");
    let names: BTreeSet<_> = line.split(' ').collect();
    // Python's own start adds LC_CTYPE where no language is set (PEP 538).
    let known = ["E2E_MARK", "HOME", "LC_CTYPE", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER"];
    assert!(names.is_subset(&known.into()), "{names:?}");
    assert!(names.contains("E2E_MARK") && names.contains("HOME"), "{names:?}");
}

#[test]
fn root_runs_a_trial_as_somebody_else() {
    let world = showing(World::system(), &tool("read", "as {uid} {USER}, not {names}")).start();
    let text = approve(&world, &["shows", "--show"]).assert_code(0).text();
    assert!(text.contains("tool read: as 65534 nobody, not "), "{text}");
    let text = approve(&world, &["shows", "--show", "--as", "bob"]).assert_code(0).text();
    assert!(text.contains("as 64102 bob, not "), "{text}");
    refused(&approve(&world, &["shows", "--show", "--as", "root"]), 64, &["not run as root"]);
    assert_eq!(world.owner(), ROOT);
}

#[test]
fn what_leaves_its_process_group_is_killed_too() {
    let mut shown = tool("read", "reads");
    shown["flees"] = json!(true);
    let world = showing(World::user(), &shown).start();
    approve(&world, &["shows", "--yes"]).assert_code(0);
    assert_clean(&world);
}

#[test]
fn dbhub_needs_its_credentials_and_they_are_gone_after() {
    let mut world = World::user().vault().server("orders-db", DBHUB).start();
    let outcome = approve(&world, &["orders-db", "--yes"]);
    refused(&outcome, 78, &["scope `read`", "--with-credentials"]);
    assert_eq!(events(&world, "credential_intended"), Vec::<Value>::new(), "a trial without mints nothing");

    let text = approve(&world, &["orders-db", "--yes", "--with-credentials"]).assert_code(0).text();
    assert!(text.contains("tool execute_sql: "), "{text}");
    assert_eq!(world.users(), Vec::<String>::new(), "it ends with the command");
    world.assert_settled();
    let [started] = events(&world, "trial_started").try_into().expect("one scope is one trial");
    assert_eq!(
        (&started["server"], &started["scope"], &started["user"]),
        (&json!("orders-db"), &json!("read"), &json!("alice"))
    );
    let ids =
        |kind| events(&world, kind).into_iter().map(|event| event["launch"].clone()).collect::<Vec<_>>();
    assert_eq!(ids("trial_ended"), [started["launch"].clone()]);
    assert_eq!(ids("credential_intended"), [started["launch"].clone()]);
    assert_eq!(ids("credential_delivered"), [started["launch"].clone()]);
    assert_eq!(events(&world, "credential_revoked").len(), 2, "the credential and the parent above it");
    let kept = std::fs::read_to_string(world.state_dir().join("approvals/orders-db.json")).unwrap();
    assert!(!kept.contains("v-approle") && !kept.contains(&world.role), "no minted user is in the record");
}

#[test]
fn what_a_server_says_of_its_credential_is_neither_shown_nor_kept() {
    let world = showing_with_credentials(&tool("read", "reads {DSN}"));
    let outcome = approve(&world, &["shows", "--yes", "--with-credentials"]);
    refused(&outcome, 78, &["tool `read` holds a credential"]);
    assert!(
        !outcome.text().contains("postgres://") && !outcome.stderr.contains("postgres://"),
        "{outcome:?}"
    );
    assert_eq!(packages(&world), []);

    show(&world, &json!({ "ends": true, "says": "cannot open {DSN}", "tools": [] }));
    let outcome = approve(&world, &["shows", "--yes", "--with-credentials"]);
    refused(&outcome, 78, &["exit status: 3", "cannot open [masked]"]);
    assert!(!outcome.stderr.contains("postgres://"), "{outcome:?}");
}

/// A trial that has its credential and waits for its server.
fn waiting() -> (World, Client) {
    let world = showing_with_credentials(&json!({ "silent": true, "tools": [] }));
    let client = begin(&world, &["approve", "shows", "--yes", "--with-credentials"]);
    eventually("the credential is there", || (world.users().len() == 1).then_some(()));
    eventually("the server runs", || (!world.instances().is_empty()).then_some(()));
    (world, client)
}

#[test]
fn a_killed_command_takes_its_credential_along() {
    let (mut world, mut client) = waiting();
    client.process.kill9();
    world.assert_settled();
    eventually("its end is written down", || so(events(&world, "trial_ended").len() == 1));
}

/// Of itself: it never reads, so it would not see that nobody is there any more.
#[test]
fn a_killed_command_takes_its_server_along() {
    let world = World::user();
    let text = plain(&world, &["/usr/bin/sleep", "600"], "");
    let world = world.file("sleeps", &text).start();
    let mut client = begin(&world, &["approve", "sleeps", "--yes"]);
    eventually("the server runs", || (!world.instances().is_empty()).then_some(()));
    client.process.kill9();
    eventually("the server is gone", || world.instances().is_empty().then_some(()));
}

/// It is there, and does nothing more: its credential is not to live as long as a trial may.
#[test]
fn a_command_that_is_stopped_is_silent() {
    let (mut world, client) = waiting();
    client.process.signal(libc::SIGSTOP);
    eventually("its end is written down", || so(events(&world, "trial_ended").len() == 1));
    assert_eq!(events(&world, "trial_ended")[0]["reason"], "launcher_silent");
    world.assert_settled();
}

#[test]
fn a_command_that_is_told_to_stop_leaves_nothing() {
    let (mut world, mut client) = waiting();
    client.process.signal(libc::SIGTERM);
    refused(&client.outcome_within(TRIAL), 143, &["interrupted", "nothing was approved"]);
    assert_clean(&world);
    world.assert_settled();
}

#[test]
fn the_kill_switch_ends_a_trial() {
    let (mut world, mut client) = waiting();
    world.admin(&["revoke", "--server", "shows"]).assert_code(0);
    refused(&client.outcome_within(TRIAL), 78, &["ended the trial"]);
    assert_eq!(world.users(), Vec::<String>::new());
    world.assert_settled();
    eventually("its end is written down", || so(events(&world, "trial_ended").len() == 1));
    assert_eq!(events(&world, "trial_ended")[0]["reason"], "revoked");
}

#[test]
fn a_broker_that_stops_ends_a_trial() {
    let (mut world, mut client) = waiting();
    assert_eq!(world.broker().term().code(), 0);
    assert_eq!(world.users(), Vec::<String>::new());
    refused(&client.outcome_within(TRIAL), 78, &["trial"]);
}

#[test]
fn a_broker_that_is_killed_settles_a_trial_at_its_next_start() {
    let (mut world, mut client) = waiting();
    world.broker().kill9();
    refused(&client.outcome_within(TRIAL), 78, &["connection to the broker"]);
    world.restart();
    world.assert_settled();
}

#[test]
fn a_list_is_read_to_its_last_page() {
    let names = ["a", "b", "c", "d"];
    let tools: Vec<_> = names.iter().map(|name| json!({ "name": name, "description": "pages" })).collect();
    let world = showing(World::user(), &json!({ "paged": true, "tools": tools })).start();
    let text = approve(&world, &["shows", "--yes"]).assert_code(0).text();
    assert!(text.contains("with 4 tools"), "{text}");
}

/// Two scopes of one server: each has its own trial, and what neither names is nowhere.
#[test]
fn what_no_scope_names_stays_out() {
    let world = World::user();
    let text = plain(&world, EVERYTHING, "");
    let scopes = "[scope.read]\ntools = [\"echo\", \"get-*\", \"nope\"]\nresources = [\"demo://*\"]\n\n\
                  [scope.write]\ntools = [\"trigger-*\"]\nprompts = [\"simple-*\"]\n";
    let text = text.replace("[scope.all]\ntools = [\"*\"]\n", scopes);
    let world = world.file("everything", &text).start();
    let text = approve(&world, &["everything", "--yes"]).assert_code(0).text();
    for said in [
        "pattern `nope` matches no tool",
        "in no scope, so hidden: gzip-file-as-resource, ",
        "prompt simple-prompt: ",
        "resource template demo://resource/dynamic/text/{resourceId}: ",
        "with 12 tools",
    ] {
        assert!(text.contains(said), "`{said}` is not in:\n{text}");
    }
    assert!(!text.contains("prompt args-prompt"), "{text}");
    let [info] = packages(&world).try_into().expect("one server is approved");
    let names = |scope: &str| info.tools[&scope.parse().unwrap()].keys().cloned().collect::<Vec<_>>();
    assert!(names("read").contains(&"get-env".to_owned()) && names("read").len() == 9, "{:?}", names("read"));
    assert!(names("write").iter().all(|name| name.starts_with("trigger-")), "{:?}", names("write"));
    // What the server says of itself names its tools, too; no definition of a hidden one is kept.
    let kept = std::fs::read(world.state_dir().join("approvals/everything.json")).unwrap();
    let kept: Value = serde_json::from_slice(&kept).unwrap();
    let items = kept["record"]["items"].as_array().unwrap().iter();
    let items: Vec<Value> = items.map(|item| serde_json::from_str(item.as_str().unwrap()).unwrap()).collect();
    assert!(items.iter().any(|item| item["name"] == "get-env"), "{items:?}");
    assert!(!items.iter().any(|item| item["name"] == "toggle-simulated-logging"), "{items:?}");
}

/// At any moment: before the mint, during it, after it.
#[test]
fn whenever_the_command_is_killed_nothing_is_left() {
    let mut world = showing_with_credentials(&json!({ "silent": true, "tools": [] }));
    for round in 0..rounds(6, 60) {
        let mut client = begin(&world, &["approve", "shows", "--yes", "--with-credentials"]);
        std::thread::sleep(Duration::from_millis(40 * u64::try_from(round % 12).unwrap()));
        client.process.kill9();
    }
    world.assert_settled();
    // A trial without a lease leaves nothing to wait for, and its end is written when the broker is told.
    let count = |event| events(&world, event).len();
    eventually("every trial that began has ended", || {
        let started = count("trial_started");
        so(started > 0 && started == count("trial_ended"))
    });
}

#[test]
fn what_is_not_there_is_said() {
    let world = showing(World::user(), &tool("read", "reads")).start();
    refused(&approve(&world, &["show", "--yes"]), 64, &["no server `show`", "did you mean `shows`"]);
    refused(&world.admin(&["packages", "--verify"]), 64, &["--verify"]);
    let gone = showing(World::user(), &tool("read", "reads"));
    refused(&approve(&gone, &["shows", "--yes"]), 69, &["cannot reach the broker"]);
}
