//! Roles that the broker makes in PostgreSQL itself, without a Vault: each launch has its own, with the rights that
//! were granted to it, and after the launch neither the role nor its sessions are there.
//!
//! Not proved here: TLS to a server with a certificate, the renewal of a role, login on a unix socket, and versions of
//! PostgreSQL other than the one that is installed.

use std::process::Stdio;

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::parts::seen;
use e2e::pg;
use e2e::process::spawn;
use e2e::tempdir::write;
use e2e::view::View;
use e2e::{World, eventually};

/// A world whose provider is the test's PostgreSQL, with what the credential says besides.
fn world(credential: &str) -> World {
    let world = World::user();
    let server = pg::shared();
    let owner = world.owner().uid;
    let secret = world.config_dir().join("admin");
    write(&secret, &format!("{}\n", server.password), 0o600, owner, owner);
    let (port, mark) = (server.port, &world.mark);
    let provider = format!(
        "\n[provider.db]\nkind = \"postgres\"\nport = {port}\ntls = \"off\"\nusername = \"vaultadmin\"\npassword = {{ file = {secret:?} }}\n"
    );
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
credential.db = {{ provider = "db", {credential} ttl = "15m" }}
inject = [{{ env = "DSN", value = "postgres://{{db.username|url}}:{{db.password|url}}@127.0.0.1:{port}/postgres" }}]
"#,
        seen::PROBE
    );
    world.config(&provider).file("orders-db", &text).start()
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
    assert_eq!(told.detail.as_deref(), Some(format!("role {user}").as_str()));

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
