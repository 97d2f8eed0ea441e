//! No secret in an argument, a log, the journal, the audit log, an error, or the environment of anything but
//! its own instance; none in a file outside the private runtime directory, and none there after the end.
//!
//! Not proved: memory, swap, and what a process of the same person reads from the instance itself.

use std::fs;
use std::os::unix::fs::MetadataExt;

use e2e::World;
use e2e::accounts::ALICE;
use e2e::leaks::Search;
use e2e::parts::seen;
use e2e::pg::user_and_password;
use serde_json::json;

#[test]
fn a_credential_is_nowhere_but_in_its_instance() {
    let mut world = World::user().vault().probe("orders-db", &[]);
    let dsn = "postgres://{db.username|url}:{db.password|url}@db:5432/orders";
    let mut text = world.definition(&[seen::PROBE]);
    let end = text.find("inject = ").unwrap();
    text.truncate(end);
    text.push_str(&format!(
        "inject = [{{ env = \"DSN\", value = \"{dsn}\" }}, {{ file = \"DSN_FILE\", value = \"{{db.password}}\" }}]\n"
    ));
    world = world.file("by-file", &text).start();

    let mut by_env = world.launch(ALICE, "orders-db");
    let mut by_file = world.launch(ALICE, "by-file");
    let environments = [by_env.ask("env"), by_file.ask("env")];
    let passwords: Vec<String> = world.injected("DSN").iter().map(|dsn| user_and_password(dsn).1).collect();
    assert_eq!(passwords.len(), 2);
    let path = environments[1]["DSN_FILE"].as_str().expect("the path of the file").to_owned();
    let inside =
        path.strip_prefix(&format!("/run/user/{}/", ALICE.uid)).expect("it is in the runtime directory");
    let content = fs::read_to_string(world.runtime_dir(ALICE).join(inside)).expect("it is there");
    assert!(passwords.contains(&content), "the file holds it");
    assert_eq!(by_file.call("read", json!({ "path": path })), "[masked]", "and the server may not say it");
    assert_eq!(
        by_file.call("stat", json!({ "path": path })),
        json!({ "mode": 0o600, "uid": ALICE.uid }).to_string()
    );
    assert!(environments[0].get("VAULT_TOKEN").is_none() && environments[0].get("BAO_TOKEN").is_none());

    let printed: Vec<(&str, Vec<u8>)> = [
        ("status", vec!["status"]),
        ("status --json", vec!["status", "--json"]),
        ("servers", vec!["servers", "--json"]),
        ("doctor", vec!["doctor"]),
    ]
    .into_iter()
    .map(|(name, words)| {
        let outcome = world.run_to_end(ALICE, &words);
        (name, [outcome.stdout, outcome.stderr.into_bytes()].concat())
    })
    .chain([
        ("leases", world.admin(&["leases", "--json"]).stdout),
        ("audit", world.admin(&["audit", "show"]).stdout),
    ])
    .collect();

    let tokens = world.proxy().tokens();
    assert!(tokens.len() >= 4, "control, parent and two children: {}", tokens.len());
    let search = |world: &World| {
        let named = passwords.iter().map(|value| ("a password", value.as_str()));
        let all: Vec<_> = named.chain(tokens.iter().map(|value| ("a token", value.as_str()))).collect();
        Search::of(&all).below(world.path()).below(world.runtime())
    };
    let mut during = search(&world).except(world.runtime_dir(ALICE));
    for (name, bytes) in &printed {
        during = during.printed(name, bytes.clone());
    }
    for pid in world.instances() {
        during = during.allow(pid);
    }
    during.assert_clean();

    assert_eq!(by_env.finish().code(), 0);
    assert_eq!(by_file.finish().code(), 0);
    world.assert_settled();
    search(&world)
        .printed("the launchers' standard error", [by_env.stderr.bytes(), by_file.stderr.bytes()].concat())
        .printed("the broker's output", world.broker().printed())
        .assert_clean();
}

/// An error of OpenBao may repeat what it was sent; nothing of it goes further.
#[test]
fn an_error_repeats_nothing() {
    use e2e::fault::Fault;
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut said = String::new();
    for fault in [Fault::status(500), Fault::status(403), Fault::status(400), Fault::broken_json()] {
        world.proxy().heal();
        world.proxy().always("database/creds/", fault);
        said += &world.run_to_end(ALICE, &["orders-db"]).stderr;
    }
    assert!(said.contains("hint: "), "{said}");
    Search::of(&[("a reply's text", "canary-in-a-reply")])
        .below(world.path())
        .printed("the launchers' standard error", said)
        .printed("the audit log", world.admin(&["audit", "show"]).stdout)
        .assert_clean();
    world.proxy().heal();
    world.assert_settled();
}

/// The instance finds what its definition names, what a person's programs need, and three descriptors.
#[test]
fn an_instance_inherits_nothing() {
    let world = World::user().vault().probe("orders-db", &[]).start();
    let mut command = world.command(ALICE, seen::LAUNCHER);
    command.arg("orders-db");
    let poison = [
        "LD_PRELOAD",
        "NODE_OPTIONS",
        "PYTHONPATH",
        "BASH_ENV",
        "VAULT_TOKEN",
        "AWS_PROFILE",
        "HTTP_PROXY",
        "DSN",
    ];
    for name in poison {
        command.env(name, "/nowhere/poison");
    }
    let mut client = e2e::mcp::Client::start(command, world.view(ALICE));
    let _ = client.initialize();
    let environment = client.ask("env");
    let names: Vec<&String> = environment.as_object().unwrap().keys().collect();
    for (name, value) in environment.as_object().unwrap() {
        assert!(!value.as_str().unwrap().contains("poison"), "{name} came through: {names:?}");
    }
    assert_eq!(environment["E2E_MARK"], world.mark);
    let fds = client.ask("fds");
    let numbers: Vec<&String> = fds.as_object().unwrap().keys().collect();
    assert_eq!(numbers, ["0", "1", "2"], "{fds}");
    assert_eq!(client.finish().code(), 0);
}

/// The kernel gives a process that cannot be dumped to root (proc(5)), so that others of the same user cannot
/// read its memory or environment, and it leaves no core.
#[test]
fn the_broker_and_the_launcher_cannot_be_dumped() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let client = world.launch(ALICE, "orders-db");
    for (name, pid) in [("broker", world.broker().process.pid()), ("launcher", client.process.pid())] {
        assert_eq!(
            fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(),
            0,
            "{name} can be read by its user"
        );
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert!(core.split_whitespace().nth(4) == Some("0"), "{name}: {core}");
    }
}
