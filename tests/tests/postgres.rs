//! Roles that the broker makes in PostgreSQL itself, without a Vault: each launch has its own, with the rights that
//! were granted to it, and after the launch neither the role nor its sessions are there.
//!
//! Not proved here: login on a unix socket, and versions of PostgreSQL other than the one that is installed.

use std::process::Stdio;
use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::pg;
use e2e::process::spawn;
use e2e::tempdir::write;
use e2e::view::View;
use e2e::{World, eventually};
use serde_json::json;

/// A world whose provider is the test's PostgreSQL, with what the credential says besides.
fn world(credential: &str) -> World {
    prepared(World::user(), "vaultadmin", "tls = \"off\"", &format!("{credential} ttl = \"15m\"")).start()
}

/// The same, not started, by another login and way of connecting.
fn prepared(world: World, login: &str, way: &str, credential: &str) -> World {
    let server = pg::shared();
    let owner = world.owner().uid;
    let kept = |name: &str, text: &str| {
        let path = world.config_dir().join(name);
        write(&path, text, 0o600, owner, owner);
        path
    };
    let secret = kept("admin", &format!("{}\n", server.password));
    let authority = kept("ca.pem", &server.authority);
    let way = way.replace("CA", &format!("{authority:?}"));
    with_keys(
        world,
        &format!("{way}\nusername = \"{login}\"\npassword = {{ file = {secret:?} }}"),
        credential,
    )
}

/// The same with these keys of the provider.
fn with_keys(world: World, keys: &str, credential: &str) -> World {
    let (port, mark) = (pg::shared().port, &world.mark);
    let provider = format!("\n[provider.db]\nkind = \"postgres\"\nport = {port}\n{keys}\n");
    let text = format!(
        r#"description = "Orders database"
owner = "data-platform"
tier = "development"
command = [{:?}]
env = {{ E2E_MARK = "{mark}" }}

[access]
users = ["alice"]

[scope.read]
tools = ["*"]
credential.db = {{ provider = "db", {credential} }}
inject = [{{ env = "DSN", value = "postgres://{{db.username|url}}:{{db.password|url}}@127.0.0.1:{port}/postgres" }}]
"#,
        seen::PROBE
    );
    world.config(&provider).file("orders-db", &text)
}

fn exists(user: &str) -> bool {
    pg::shared().sql(&format!("SELECT count(*) FROM pg_roles WHERE rolname = '{user}'")) != "0"
}

/// The address that the one instance got, and its user.
fn got(world: &World) -> (String, String) {
    let dsn = eventually("the credential was injected", || world.injected("DSN").pop());
    let (user, _) = pg::user_and_password(&dsn);
    (dsn, user)
}

#[test]
fn a_launch_has_a_role_of_its_own_that_ends_with_it() {
    let mut world = world(r#"grant = ["app_ro"],"#);
    let mut client = world.launch(ALICE, "orders-db");
    let (dsn, user) = got(&world);
    let server = pg::shared();
    assert!(user.starts_with("mcp_") && user.len() == 53, "{user}");

    let read = server.run(&dsn, "SELECT body FROM notes");
    assert_eq!(String::from_utf8_lossy(&read.stdout).trim(), "hello");
    let wrote = server.run(&dsn, "INSERT INTO notes VALUES (2, 'x')");
    assert!(String::from_utf8_lossy(&wrote.stderr).contains("permission denied"));
    // The server never had the password, so no log of it can have it.
    let kept = server.sql(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{user}'"));
    let (_, password) = pg::user_and_password(&dsn);
    assert!(kept.starts_with("SCRAM-SHA-256$4096:") && !kept.contains(&password));
    let life = server.sql(&format!(
        "SELECT rolvaliduntil BETWEEN now() + '14 min' AND now() + '16 min' FROM pg_roles WHERE rolname = '{user}'"
    ));
    assert_eq!(life, "t");
    let told = &world.leases()[0];
    assert_eq!(
        told.detail.as_deref(),
        Some(format!("role {user}, whose sessions only the broker ends").as_str())
    );

    let mut psql = server.psql(&dsn);
    psql.args(["-c", "SELECT pg_sleep(600)"]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut thief = spawn(psql, View::new());
    let sessions = format!("SELECT count(*) FROM pg_stat_activity WHERE usename = '{user}'");
    eventually("the credential is in use", || so(server.sql(&sessions) == "1"));

    client.close();
    client.outcome().assert_code(0);
    eventually("the role is gone", || so(!exists(&user)));
    assert_ne!(thief.wait().code(), 0, "the open connection was cut");
    assert!(!server.run(&dsn, "SELECT 1").status.success());
    world.assert_settled();
    let audit = world.admin(&["audit", "show", "--json"]);
    let text = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(text.contains("credential_revoked") && text.contains("\"object\""), "{text}");
    assert!(!text.contains(&password));
}

#[test]
fn a_role_that_was_granted_objects_is_dropped_too() {
    let grants = r#"create = ["CREATE ROLE {name} LOGIN PASSWORD {password} VALID UNTIL {until}", "GRANT SELECT ON lent TO {name}"],"#;
    let server = pg::shared();
    server.sql("CREATE TABLE lent (body text); GRANT SELECT ON lent TO vaultadmin WITH GRANT OPTION");
    let mut world = world(grants);
    let mut client = world.launch(ALICE, "orders-db");
    let (dsn, user) = got(&world);
    assert!(server.run(&dsn, "SELECT body FROM lent").status.success());
    client.close();
    eventually("the role is gone", || so(!exists(&user)));
    world.assert_settled();
    assert_eq!(server.sql("SELECT count(*) FROM lent"), "0", "the table is still there");
}

/// What it owns is neither dropped nor given to the broker's login; the role has no power any more meanwhile.
#[test]
fn a_role_that_owns_objects_is_kept_and_reported() {
    let mut world = world(r#"grant = ["app_ro"],"#);
    let mut client = world.launch(ALICE, "orders-db");
    let (dsn, user) = got(&world);
    let server = pg::shared();
    server.sql(&format!("CREATE TABLE owned_{user} (x int); ALTER TABLE owned_{user} OWNER TO {user}"));
    client.close();
    let pending = || {
        let leases = world.leases();
        leases
            .into_iter()
            .find(|lease| serde_json::to_string(lease).is_ok_and(|text| text.contains("owns objects")))
    };
    let _ = eventually("the lease is pending and says why", pending);
    assert!(exists(&user) && !server.run(&dsn, "SELECT 1").status.success());
    server.sql(&format!("REASSIGN OWNED BY {user} TO admin; DROP OWNED BY {user}"));
    eventually("the role is gone", || so(!exists(&user)));
    world.assert_settled();
    server.sql(&format!("DROP TABLE owned_{user}"));
}

#[test]
fn after_a_crash_the_role_is_found_by_the_journal() {
    let mut world = world(r#"grant = ["app_ro"],"#);
    let mut client = world.launch(ALICE, "orders-db");
    let (_, user) = got(&world);
    world.broker().kill9();
    client.close();
    assert!(exists(&user), "nobody could have dropped it");
    world.restart();
    eventually("the role is gone", || so(!exists(&user)));
    world.assert_settled();
}

/// An authority that signed nothing here.
const OTHER_AUTHORITY: &str = include_str!("../fixtures/other-authority.pem");

const READS: &str = r#"grant = ["app_ro"]"#;

#[test]
fn a_server_on_another_machine_is_spoken_to_in_tls_and_under_its_own_name_only() {
    let server = pg::shared();
    let encrypted = || {
        let login =
            |line: &&str| line.contains("user=vaultadmin") && line.contains("application_name=mcp-broker");
        server.log().lines().filter(login).filter(|line| line.contains("SSL enabled")).count()
    };
    let before = encrypted();
    let way = "host = \"127.0.0.1\"\nca_file = CA";
    let mut world = prepared(World::user(), "vaultadmin", way, READS).start();
    let mut client = world.launch(ALICE, "orders-db");
    let (_, user) = got(&world);
    assert!(exists(&user));
    assert!(encrypted() > before, "the server says that the login was encrypted");
    assert_eq!(client.finish().code(), 0);
    eventually("the role is gone", || so(!exists(&user)));
    world.assert_settled();

    // Its certificate is for the address only; and another authority did not sign it.
    for way in ["host = \"localhost\"\nca_file = CA", "host = \"127.0.0.1\"\nca_file = OTHER"] {
        let world = World::user();
        let owner = world.owner().uid;
        let other = world.config_dir().join("other.pem");
        write(&other, OTHER_AUTHORITY, 0o600, owner, owner);
        let way = way.replace("OTHER", &format!("{other:?}"));
        let mut world = prepared(world, "vaultadmin", &way, READS).start();
        let mut client = world.run(ALICE, &["orders-db"]);
        client.close();
        client.wait_stderr("has a certificate that is not trusted");
        // Whether anything was made can only be asked of the server itself.
        let trouble = eventually("it is owed and says why", || world.leases().pop()?.trouble);
        assert!(trouble.contains("has a certificate that is not trusted"), "{trouble}");
        assert!(world.instances().is_empty());
        world.broker().kill9();
    }
}

#[test]
fn a_role_that_is_in_use_is_lengthened_on_the_server() {
    let mut world =
        prepared(World::user(), "vaultadmin", "tls = \"off\"", &format!("{READS}, ttl = \"30s\"")).start();
    let mut client = world.launch(ALICE, "orders-db");
    let (dsn, user) = got(&world);
    let server = pg::shared();
    let end = || {
        server
            .sql(&format!("SELECT extract(epoch FROM rolvaliduntil) FROM pg_roles WHERE rolname = '{user}'"))
    };
    let (first, told) = (end(), world.leases()[0].expires_at.clone());
    within(Duration::from_secs(60), "its end is later", || so(end() != first));
    assert_eq!(world.injected("DSN"), std::slice::from_ref(&dsn), "it is the same credential");
    let late = format!("SELECT rolvaliduntil > to_timestamp({first}) FROM pg_roles WHERE rolname = '{user}'");
    assert_eq!(server.sql(&late), "t");
    eventually("its new end is told", || so(world.leases()[0].expires_at > told));
    assert!(server.run(&dsn, "SELECT 1").status.success());
    assert_eq!(client.finish().code(), 0);
    eventually("the role is gone", || so(!exists(&user)));
    world.assert_settled();
}

#[test]
fn doctor_says_what_the_login_of_the_broker_may_and_may_not() {
    let server = pg::shared();
    server.sql(&format!("CREATE ROLE plain LOGIN PASSWORD '{}'", server.password));
    server.sql(&format!("CREATE ROLE maker LOGIN CREATEROLE PASSWORD '{}'", server.password));
    for (login, code, want) in [
        ("vaultadmin", 0, "PostgreSQL 1"),
        ("admin", 0, "`admin` is a superuser"),
        ("maker", 0, "`maker` may not end sessions"),
        ("plain", 69, "does not let `plain` make roles"),
        ("nobody", 69, "does not accept the broker's login"),
    ] {
        let world = prepared(World::user(), login, "tls = \"off\"", READS).start();
        let doctor = world.run_to_end(ALICE, &["doctor"]);
        let said = format!("{}{}", doctor.text(), doctor.stderr);
        assert!(said.contains(want), "{login}: {said}");
        assert_eq!(doctor.code, code, "{login}: {said}");
        assert_eq!(
            said.contains("superuser") || said.contains("may not end sessions"),
            ["admin", "maker"].contains(&login)
        );
    }
}

/// An admin's own way of dropping a role, and one that drops nothing.
#[test]
fn the_statements_of_drop_are_run_and_not_believed() {
    let server = pg::shared();
    let own = r#"grant = ["app_ro"], drop = ["GRANT {name} TO CURRENT_USER", "DROP OWNED BY {name}", "DROP ROLE {name}"],"#;
    let mut world_of = world(own);
    let mut client = world_of.launch(ALICE, "orders-db");
    let (_, user) = got(&world_of);
    server.sql(&format!("CREATE TABLE owned_{user} (x int); ALTER TABLE owned_{user} OWNER TO {user}"));
    assert_eq!(client.finish().code(), 0);
    eventually("the role is gone", || so(!exists(&user)));
    assert_eq!(
        server.sql(&format!("SELECT to_regclass('owned_{user}') IS NULL")),
        "t",
        "so is what it owned"
    );
    world_of.assert_settled();

    let mut world = world(r#"grant = ["app_ro"], drop = ["ALTER ROLE {name} CONNECTION LIMIT 0"],"#);
    let mut client = world.launch(ALICE, "orders-db");
    let (_, user) = got(&world);
    client.close();
    let trouble = eventually("the lease is pending and says why", || world.leases().pop()?.trouble);
    assert!(trouble.contains("after its `drop`"), "{trouble}");
    assert!(exists(&user));
    server.sql(&format!("DROP OWNED BY {user}; DROP ROLE {user}"));
    eventually("its end is found", || so(world.leases().is_empty()));
    world.assert_settled();
}

/// Before it was made there is nothing to drop; after it was made, and before anybody has its password, there is.
#[test]
fn a_broker_that_dies_while_it_makes_a_role_leaves_none() {
    for (point, made) in [("mint.durable", false), ("mint.issued", true)] {
        let world = World::user().with_fault_points();
        let mut world = prepared(world, "vaultadmin", "tls = \"off\"", READS);
        world.set_variable("MCP_BROKER_FAULT", Some(format!("{point}:1")));
        let mut world = world.start();
        let mut client = world.run(ALICE, &["orders-db"]);
        let params = json!({ "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {} });
        let _ = client.try_request("initialize", params);
        assert_eq!(world.broker().process.wait().code(), 137, "it dies where it was told to");
        client.process.kill9();
        let journal = std::fs::read_to_string(world.state_dir().join("journal")).expect("there is a journal");
        let role = journal.split("\"role\":\"").nth(1).and_then(|rest| rest.split('"').next());
        let role = role.expect("the intent names the role").to_owned();
        assert_eq!(exists(&role), made, "{point}");
        world.set_variable("MCP_BROKER_FAULT", None);
        let mut world = world.start();
        eventually("nothing is owed", || so(world.leases().is_empty()));
        assert!(!exists(&role), "{point}");
        world.assert_settled();
    }
}

/// The store that keeps the admin's password is changed under a live role: it is dropped all the same, and the next
/// launch has one.
#[test]
fn after_a_reload_the_role_is_dropped() {
    let world = World::user().config("\n[provider.store]\nkind = \"sealed\"\nkey = \"file\"\n");
    let keys = "tls = \"off\"\nusername = \"vaultadmin\"\npassword = { provider = \"store\", path = \"pg\" }";
    let mut world = with_keys(world, keys, &format!("{READS}, ttl = \"15m\"")).start();
    let mut set = Client::start(world.admin_command(&["secret", "set", "pg"]), world.view(ALICE));
    set.send(pg::shared().password.as_bytes());
    set.close();
    set.outcome().assert_code(0);
    let mut client = world.launch(ALICE, "orders-db");
    let (_, user) = got(&world);

    let file = world.config_dir().join("broker.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    let owner = world.owner().uid;
    write(&file, &text.replace("key = \"file\"\n", ""), 0o644, owner, owner);
    world.broker().reload();
    world.wait_audited("config_reloaded", "");
    client.close();
    client.outcome().assert_code(0);
    eventually("the role is gone", || so(!exists(&user)));
    let mut next = world.launch(ALICE, "orders-db");
    let roles = || world.injected("DSN").into_iter().map(|dsn| pg::user_and_password(&dsn).0);
    let fresh = eventually("the next launch has a role", || roles().find(|role| *role != user));
    assert!(exists(&fresh));
    next.close();
    eventually("that role is gone too", || so(!exists(&fresh)));
    world.assert_settled();
}
