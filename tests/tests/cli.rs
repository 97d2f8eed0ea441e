//! The two command lines: help, usage errors, completions, JSON, and the decisions that `explain` tells.

use e2e::World;
use e2e::accounts::ALICE;
use e2e::mcp::Outcome;
use serde_json::Value;

fn run(words: &[&str]) -> Outcome {
    World::user().run_to_end(ALICE, words)
}

fn broker(words: &[&str]) -> Outcome {
    World::user().admin_as(ALICE, words)
}

#[test]
fn help_names_every_command() {
    let text = run(&["--help"]).assert_code(0).text();
    for word in ["status", "servers", "doctor", "lock", "logout", "completions", "SERVER"] {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    let text = broker(&["--help"]).assert_code(0).text();
    for word in [
        "serve", "check", "explain", "approve", "packages", "secret", "sessions", "launches", "leases",
        "revoke", "audit", "schema",
    ] {
        assert!(text.contains(word), "`{word}` is not in: {text}");
    }
    for command in [
        "serve", "check", "explain", "approve", "packages", "secret", "sessions", "launches", "leases",
        "revoke", "audit", "schema",
    ] {
        let outcome = broker(&[command, "--help"]);
        assert!(outcome.assert_code(0).text().len() > 40, "{command}: {outcome:?}");
    }
}

#[test]
fn versions() {
    assert!(run(&["--version"]).assert_code(0).text().starts_with("mcp-run "));
    assert!(broker(&["--version"]).assert_code(0).text().starts_with("mcp-broker "));
}

#[test]
fn usage_errors() {
    for words in [&[][..], &["--socket"], &["--nope"], &["status", "--nope"], &["completions", "tcsh"]] {
        run(words).assert_refused(64, &[]);
    }
    for words in [&[][..], &["nope"], &["leases", "--nope"], &["revoke"], &["revoke", "--all", "--user", "x"]]
    {
        let outcome = broker(words);
        outcome.assert_code(64);
        assert_eq!(outcome.text(), "", "{words:?}");
        assert!(!outcome.stderr.is_empty(), "{words:?}");
    }
}

/// Commands of later parts are words that no server may bear, and say what they are.
#[test]
fn reserved_words() {
    for word in mcp_broker_proto::names::RESERVED {
        let outcome = run(&[word]);
        assert_ne!(outcome.code, 77, "{word} was taken for a server: {outcome:?}");
    }
}

#[test]
fn completions() {
    for (shell, checker) in [("bash", Some("/bin/bash")), ("zsh", None), ("fish", None)] {
        let text = run(&["completions", shell]).assert_code(0).text();
        assert!(text.contains("mcp-run") && text.contains("status"), "{shell}: {text}");
        if let Some(checker) = checker {
            let mut child = std::process::Command::new(checker).args(["-n", "-c", &text]).spawn().unwrap();
            assert!(child.wait().unwrap().success(), "{shell} cannot read it");
        }
    }
}

#[test]
fn the_schema_is_json_schema() {
    let schema: Value = serde_json::from_slice(&broker(&["schema"]).assert_code(0).stdout).unwrap();
    let text = schema.to_string();
    for word in ["$schema", "provider", "vault", "sealed", "max_age"] {
        assert!(text.contains(word), "`{word}` is not in the schema");
    }
}

#[test]
fn explain_tells_the_decision_and_its_reasons() {
    let world = World::user().vault().probe("orders-db", &[]);
    let config = world.config_dir();
    let explain = |user: &str| {
        let config = config.to_str().unwrap();
        // The machine's broker: an own one has but its owner to decide about.
        let words = ["explain", "--mode", "system", "--config", config, "--user", user, "orders-db"];
        world.admin_as(ALICE, &words)
    };
    let yes = explain("bob");
    assert!(yes.assert_code(0).text().contains("allowed"), "{yes:?}");
    let no = explain("mallory");
    assert!(no.assert_code(77).text().contains("denied"), "{no:?}");
    assert_eq!(world.proxy().seen().len(), 0, "nobody was asked");
}

#[test]
fn json_for_programs() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let sessions: Vec<mcp_broker_proto::session::SessionInfo> = world.admin_json(&["sessions"]);
    assert_eq!((sessions.len(), sessions[0].user.as_str()), (1, "alice"));
    assert_eq!(world.launches().len(), 1);
    assert_eq!(world.leases().len(), 1);
    for words in [&["servers", "--json"][..], &["status", "--json"], &["doctor", "--json"]] {
        let outcome = world.run_to_end(ALICE, words);
        let _: Value =
            serde_json::from_slice(&outcome.stdout).unwrap_or_else(|e| panic!("{words:?}: {e}: {outcome:?}"));
    }
    for words in [&["sessions"][..], &["launches"], &["leases"]] {
        assert!(
            world.admin(words).assert_code(0).text().contains("alice") || words == ["leases"],
            "{words:?}"
        );
    }
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn the_audit_log_tells_the_whole_story() {
    let mut world = World::user().vault().probe("orders-db", &[]).start();
    assert_eq!(world.launch(ALICE, "orders-db").finish().code(), 0);
    world.assert_settled();
    let events = world.audit();
    let text: String = events.iter().map(|event| format!("{event}\n")).collect();
    for word in ["alice", "orders-db", "lease_and_token"] {
        assert!(text.contains(word), "`{word}` is not in:\n{text}");
    }
    assert!(events.len() >= 4, "granted, minted, ended, revoked:\n{text}");
    assert!(world.admin(&["audit", "show"]).assert_code(0).text().contains("orders-db"));
}

#[test]
fn doctor_tells_what_is_wrong() {
    let world = World::user().vault().probe("orders-db", &[]).start();
    let well = world.run_to_end(ALICE, &["doctor"]);
    well.assert_code(0);
    world.proxy().down();
    let ill = world.run_to_end(ALICE, &["doctor"]);
    assert_ne!(ill.code, 0);
    let said = format!("{}{}", ill.text(), ill.stderr);
    assert!(said.contains("bao") && (said.contains("hint: ") || said.contains("cure: ")), "{said}");
}
