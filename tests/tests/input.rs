//! Bad input: names, arguments and configuration files that are wrong. Each gives a message with a cure and the
//! right exit code, and mints nothing.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use e2e::World;
use e2e::accounts::{ALICE, MALLORY};
use e2e::parts::seen;
use e2e::tempdir::write;

fn ready() -> World {
    World::user().vault().probe("orders-db", &[]).start()
}

#[track_caller]
fn nothing_minted(mut world: World) {
    assert_eq!(world.proxy().count("database/creds/"), 0, "nothing was asked for");
    world.assert_settled();
}

#[test]
fn a_server_that_nobody_approved() {
    let world = ready();
    world.run_to_end(ALICE, &["orders-bd"]).assert_refused(77, &["orders-bd"]);
    nothing_minted(world);
}

#[test]
fn a_server_without_access() {
    let mut world = World::user().vault();
    let nobody = world.definition(&[seen::PROBE]).replace("users = [\"alice\", \"bob\"]", "");
    let others =
        world.definition(&[seen::PROBE]).replace("users = [\"alice\", \"bob\"]", "users = [\"bob\"]");
    world = world.file("nobodys", &nobody).file("bobs", &others).start();
    for name in ["nobodys", "bobs"] {
        world.run_to_end(ALICE, &[name]).assert_refused(77, &[name]);
    }
    nothing_minted(world);
}

#[test]
fn names_that_are_none() {
    let world = ready();
    let long = "x".repeat(5000);
    for bad in ["../orders-db", "ORDERS", "orders_db", "-e", "", "orders-db\n", "órders", "$(id)", &long] {
        let outcome = world.run_to_end(ALICE, &[bad]);
        outcome.assert_refused(64, &[]);
        assert!(outcome.stderr.len() < 2000, "{bad:.20}: a message is short");
        assert!(!outcome.stderr.contains('\u{1b}'));
    }
    nothing_minted(world);
}

#[test]
fn arguments_that_are_not_allowed() {
    let world = ready();
    world.run_to_end(ALICE, &["orders-db", "--", "--write"]).assert_refused(64, &["orders-db"]);
    world.run_to_end(ALICE, &["orders-db", "--write"]).assert_refused(64, &[]);
    nothing_minted(world);
}

#[test]
fn arguments_that_are_allowed_reach_the_server() {
    let mut world = World::user().vault();
    let text =
        world.definition(&[seen::PROBE]).replace("tier =", "extra_args = [\"--limit=*\", \"--ro\"]\ntier =");
    world = world.file("orders-db", &text).start();
    let mut client = world.run(ALICE, &["orders-db", "--", "--ro", "--limit=5; rm -rf $HOME"]);
    let _ = client.initialize();
    let words = client.ask("cmdline");
    assert_eq!(words.as_array().unwrap()[1..], ["--ro", "--limit=5; rm -rf $HOME"]);
    assert_eq!(client.finish().code(), 0);
    world.run_to_end(ALICE, &["orders-db", "--", "--limit=5", "--rw"]).assert_refused(64, &[]);
    world.assert_settled();
}

#[test]
fn no_broker() {
    let world = World::user();
    let outcome = world.run_to_end(ALICE, &["orders-db"]);
    outcome.assert_refused(69, &["broker"]);
    for command in ["status", "servers"] {
        let outcome = world.run_to_end(ALICE, &[command]);
        outcome.assert_code(69);
        assert!(outcome.stderr.contains("hint: "), "{command}: {outcome:?}");
    }
}

/// A broken file: `check` says file, line and cure, and `serve` refuses with the same.
#[track_caller]
fn assert_refused(world: World, place: &str, words: &[&str]) {
    let outcome = world.admin(&["check"]);
    outcome.assert_code(78);
    assert!(outcome.stderr.contains(place), "`{place}` is not in: {}", outcome.stderr);
    for word in words.iter().chain(&["hint: "]) {
        assert!(outcome.stderr.contains(word), "`{word}` is not in: {}", outcome.stderr);
    }
    let mut world = world.start_anyway();
    let exit = world.broker().process.wait();
    assert_eq!(exit.code(), 78, "{}", world.broker().log());
    assert!(world.broker().log().contains(place), "{}", world.broker().log());
    assert_eq!(world.broker().printed(), "", "it is not ready");
}

fn with_server(change: impl Fn(&str) -> String) -> World {
    let world = World::user().vault();
    let text = change(&world.definition(&[seen::PROBE]));
    world.file("orders-db", &text)
}

#[test]
fn broken_toml() {
    assert_refused(with_server(|text| text.replace("tier = ", "tier ")), "orders-db.toml:3:", &[]);
    assert_refused(World::user().config("[session\n"), "broker.toml:", &[]);
}

#[test]
fn an_unknown_key() {
    let world = with_server(|text| text.replace("owner", "ownr"));
    assert_refused(world, "orders-db.toml:2:1", &["ownr", "owner"]);
    assert_refused(
        World::user().config("[sesion]\nmax_age = \"1h\"\n"),
        "broker.toml:",
        &["sesion", "session"],
    );
}

#[test]
fn a_field_that_the_credential_does_not_have() {
    let world = with_server(|text| text.replace("{db.password|url}", "{db.passwort|url}"));
    assert_refused(world, "orders-db.toml:", &["passwort"]);
    let world = with_server(|text| text.replace("{db.password|url}", "{db.password|rot13}"));
    assert_refused(world, "orders-db.toml:", &["filter", "base64"]);
    let world = with_server(|text| text.replace("{db.password|url}", "{database.password|url}"));
    assert_refused(world, "orders-db.toml:", &["database"]);
}

#[test]
fn what_is_not_built_yet_is_refused_and_says_so() {
    let second = |text: &str| format!("{text}\n[scope.write]\ntools = [\"w\"]\n");
    assert_refused(with_server(second), "orders-db.toml:", &["scope"]);
    assert_refused(
        with_server(|t| t.replace("development", "sensitive")),
        "orders-db.toml:3:",
        &["sensitive"],
    );
    assert_refused(
        with_server(|t| format!("{t}\n[sandbox]\nnetwork = []\n")),
        "orders-db.toml:",
        &["sandbox"],
    );
}

#[test]
fn every_mistake_at_once() {
    let world = with_server(|text| text.replace("owner", "ownr").replace("development", "regulated"));
    world.write_server("second", "command = 5\n");
    let outcome = world.admin(&["check"]);
    outcome.assert_code(78);
    for word in ["ownr", "regulated", "second.toml"] {
        assert!(outcome.stderr.contains(word), "`{word}` is not in: {}", outcome.stderr);
    }
}

#[test]
fn files_that_others_can_change() {
    let set = |world: &World, path: &str, mode: u32| {
        fs::set_permissions(world.config_dir().join(path), fs::Permissions::from_mode(mode)).unwrap();
    };
    let world = with_server(str::to_owned);
    set(&world, "servers.d/orders-db.toml", 0o664);
    assert_refused(world, "orders-db.toml", &["writable"]);
    let world = with_server(str::to_owned);
    set(&world, "broker.toml", 0o646);
    assert_refused(world, "broker.toml", &["writable"]);
    let world = with_server(str::to_owned);
    set(&world, "servers.d", 0o777);
    assert_refused(world, "servers.d", &["writable"]);
    let world = with_server(str::to_owned);
    set(&world, "secret_id", 0o644);
    let world = world.start();
    let outcome = world.run_to_end(ALICE, &["orders-db"]);
    outcome.assert_refused(outcome.code, &["secret_id"]);
    assert!([77, 78].contains(&outcome.code), "{outcome:?}");
    assert!(world.users().is_empty());
}

#[test]
fn a_file_of_somebody_else() {
    let world = with_server(str::to_owned);
    let path = world.config_dir().join("servers.d/orders-db.toml");
    std::os::unix::fs::chown(&path, Some(MALLORY.uid), None).unwrap();
    assert_refused(world, "orders-db.toml", &["own"]);
}

#[test]
fn a_server_with_the_name_of_a_command() {
    let world = World::user().vault();
    let text = world.definition(&[seen::PROBE]);
    assert_refused(world.file("status", &text), "status.toml", &["status"]);
}

/// A secret in a configuration file is not repeated by the message about it.
#[test]
fn a_message_does_not_repeat_a_value() {
    let world = World::user().config("[provider.bao]\nkind = \"vault\"\naddress = \"http://127.0.0.1:1\"\ntoken = \"hvs.canary-in-the-file\"\n");
    let outcome = world.admin(&["check"]);
    outcome.assert_code(78);
    assert!(outcome.stderr.contains("token") && !outcome.stderr.contains("canary"), "{}", outcome.stderr);
}

#[test]
fn no_configuration_at_all() {
    let world = World::user();
    for entry in fs::read_dir(world.config_dir()).unwrap().flatten() {
        let _ = fs::remove_file(entry.path());
    }
    let outcome = world.admin(&["check"]);
    outcome.assert_code(78);
    assert!(outcome.stderr.contains("hint: "), "{outcome:?}");
    write(&world.config_dir().join("broker.toml"), "", 0o644, ALICE.uid, ALICE.uid);
    world.admin(&["check"]).assert_code(0);
}
