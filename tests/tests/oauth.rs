//! Access tokens of an OAuth 2.0 server from the launch to after its end: a server gets one with the scope of its
//! tools and no more, in the person's name where it is exchanged, and it is inactive after a lock and after the end. One
//! that is delivered in a file is replaced below the running server. What goes wrong is told with its cure.
//!
//! The authorization server is npm oidc-provider. Client credentials, introspection, revocation and signed tokens for a
//! resource are its own; the grant of RFC 8693 is not, and is added by the fixture with the package's means.
//!
//! Not proved here: servers of other makers; `client_secret_post`, `private_key_jwt`, lost answers and limits of rate,
//! which a double stands for in the broker's own tests; and that a replaced token is revoked a minute later, as those
//! here live for less: they are revoked at their end.

use std::path::PathBuf;
use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::idp::{Idp, SECRET};
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::tempdir::write;
use e2e::{World, eventually};
use mcp_broker_proto::session::Revocability;
use serde_json::{Value, json};

/// How the server `orders` gets its token.
struct Orders<'a> {
    client: &'a str,
    secret: &'a str,
    /// Keys of the credential.
    credential: &'a str,
    inject: &'a str,
    /// Another provider; `PUBLISHED` stands for a directory of the broker's.
    provider: &'a str,
}

const READS: Orders<'_> = Orders {
    client: "broker",
    secret: SECRET,
    credential: "grant_type = \"client_credentials\", scope = \"orders:read\"",
    inject: "{ env = \"TOKEN\", value = \"{api.access_token}\" }, { env = \"MAY\", value = \"{api.token_type} {api.scope}\" }",
    provider: "",
};

/// It reads its token from a file.
const IN_A_FILE: &str = "{ file = \"TOKEN_FILE\", value = \"{api.access_token}\" }";

fn world(idp: &Idp, orders: &Orders<'_>) -> World {
    let Orders { client, secret, credential, inject, provider } = orders;
    let world = World::user();
    let owner = world.owner().uid;
    let kept = world.config_dir().join("client.secret");
    write(&kept, secret, 0o600, owner, owner);
    let published = world.state_dir().join("public").display().to_string();
    let provider = provider.replace("PUBLISHED", &published);
    let provider = format!(
        "\n[provider.idp]\nkind = \"token-exchange\"\nissuer = \"{}\"\nclient_id = \"{client}\"\nclient_secret = {{ file = {kept:?} }}\n{provider}",
        idp.issuer()
    );
    let text = format!(
        r#"description = "Orders"
owner = "platform"
tier = "development"
command = [{:?}]
env = {{ E2E_MARK = "{}" }}

[access]
users = ["alice"]

[scope.read]
tools = ["*"]
credential.api = {{ provider = "idp", ttl = "5m", {credential} }}
inject = [{inject}]
"#,
        seen::PROBE,
        world.mark
    );
    world.config(&provider).file("orders", &text).start()
}

fn token(world: &World) -> String {
    eventually("the token was injected", || world.injected("TOKEN").pop())
}

fn told(world: &World, event: &str) -> Vec<Value> {
    world.audit().into_iter().filter(|told| told["event"] == event).collect()
}

#[test]
fn a_token_of_the_client_is_active_while_the_server_may_work() {
    let idp = Idp::start(600);
    let mut world = world(&idp, &READS);
    let mut client = world.launch(ALICE, "orders");
    let first = token(&world);
    let said = idp.introspect(&first);
    assert_eq!(
        (&said["active"], &said["scope"], &said["client_id"]),
        (&json!(true), &json!("orders:read"), &json!("broker"))
    );
    assert_eq!(world.injected("MAY"), ["Bearer orders:read"]);
    let lease = world.leases().remove(0);
    assert_eq!(lease.revocability, Revocability::Immediate, "introspection knows it");
    assert!(lease.valid_until.is_some(), "the end that the server gives it is told");

    let shown = world.person(ALICE, "status");
    assert!(shown.contains("at once") && !shown.contains(&first), "{shown}");

    assert!(world.person(ALICE, "lock").starts_with("locked"));
    eventually("the token is inactive after the lock", || so(!idp.is_active(&first)));
    world.wait_audited("credential_revoked", "token");
    let _ = world.person(ALICE, "unlock");
    assert_eq!(client.call("echo", json!({})), "{}");
    let second = token(&world);
    assert!(second != first && idp.is_active(&second));

    client.close();
    client.outcome().assert_code(0);
    eventually("the token is inactive after the end", || so(!idp.is_active(&second)));
    world.assert_settled();
    assert_eq!(told(&world, "credential_revoked").len(), 2);
    let audit = json!(world.audit()).to_string();
    assert!(!audit.contains(&first) && !audit.contains(&second) && !audit.contains(SECRET));
}

#[test]
fn a_token_is_exchanged_in_the_name_of_the_person() {
    let mut idp = Idp::start(600);
    let exchange = Orders {
        credential: "grant_type = \"token-exchange\", scope = \"orders:read\", subject_token = { signed_by = \"own\" }",
        provider: "[provider.own]\nkind = \"jwt\"\nissuer = \"https://broker.example.com\"\npublish = \"PUBLISHED\"\n",
        ..READS
    };
    let mut world = world(&idp, &exchange);
    let published = world.state_dir().join("public/.well-known/jwks.json");
    let published = world.inside(&published);
    // Nobody whom the server trusts said who the person is.
    let strangers = idp.dir_file("strangers.json", r#"{"keys":[]}"#);
    idp.change("jwks", json!(strangers));
    let mut refused = world.run(ALICE, &["orders"]);
    refused.close();
    refused.wait_stderr("does not accept the exchange, or the token that was shown");
    refused.wait_stderr("hint: see that `subject_token` is good");

    idp.change("jwks", json!(published));
    let mut client = world.launch(ALICE, "orders");
    let token = token(&world);
    let said = idp.introspect(&token);
    assert_eq!((&said["sub"], &said["scope"]), (&json!("alice"), &json!("orders:read")));
    client.close();
    client.outcome().assert_code(0);
    eventually("the token is inactive", || so(!idp.is_active(&token)));
    world.assert_settled();
    assert_eq!(told(&world, "credential_revoked").len(), 1);
}

/// oidc-provider does not revoke a signed token, and who checks it by its signature would not know.
#[test]
fn a_signed_token_is_told_to_live_on() {
    let idp = Idp::start(600);
    let credential = "grant_type = \"client_credentials\", scope = \"orders:read\", resource = \"https://api.example.com/\"";
    let mut world = world(&idp, &Orders { credential, ..READS });
    let mut client = world.launch(ALICE, "orders");
    let token = token(&world);
    assert_eq!(token.split('.').count(), 3);
    let lease = world.leases().remove(0);
    let Revocability::Bounded { seconds } = lease.revocability else { panic!("{lease:?}") };
    assert!((1..=600).contains(&seconds));
    let shown = world.person(ALICE, "status");
    assert!(shown.contains("bounded") && !shown.contains("at once"), "{shown}");
    assert!(
        lease.detail.as_ref().is_some_and(|detail| detail.contains("without asking the server")),
        "{lease:?}"
    );
    client.close();
    client.outcome().assert_code(0);
    world.assert_settled();
    let withheld = told(&world, "credential_withheld");
    assert_eq!(
        withheld[0]["lives_until"],
        json!(lease.valid_until.expect("later than the ttl")),
        "{withheld:?}"
    );
    assert!(told(&world, "credential_revoked").is_empty());
}

#[test]
fn what_the_server_refuses_is_told_with_its_cure() {
    let idp = Idp::start(600);
    for (orders, what, cure) in [
        (
            Orders { secret: "another", ..READS },
            "provider `idp` does not accept the broker as its client (`invalid_client`)",
            "hint: check `client_id`, the secret or key",
        ),
        (
            Orders { credential: "grant_type = \"client_credentials\", scope = \"orders:all\"", ..READS },
            "provider `idp` does not give such a scope (`invalid_scope`)",
            "hint: write a `scope` that the server knows",
        ),
        (
            Orders {
                credential: "grant_type = \"client_credentials\", scope = \"orders:read\", resource = \"https://other.example.com/\"",
                ..READS
            },
            "provider `idp` does not give tokens for this target (`invalid_target`)",
            "hint: check `audience` and `resource`",
        ),
    ] {
        let mut world = world(&idp, &orders);
        let mut client = world.run(ALICE, &["orders"]);
        client.close();
        client.wait_stderr(what);
        client.wait_stderr(cure);
        world.assert_settled();
        // It is certain that there is nothing to be revoked.
        assert!(
            told(&world, "credential_revoked").is_empty() && told(&world, "credential_withheld").is_empty()
        );
    }
}

#[test]
fn a_wider_scope_is_refused_and_the_token_revoked() {
    let mut idp = Idp::start(600);
    idp.change("more", json!("orders:write"));
    let mut world = world(&idp, &READS);
    let mut client = world.run(ALICE, &["orders"]);
    client.close();
    client.wait_stderr("gave a scope that was not asked for");
    world.assert_settled();
    assert!(!told(&world, "credential_revoked").is_empty());
    assert_eq!(world.injected("TOKEN"), [""; 0]);
}

#[test]
fn a_server_that_is_down_is_told_at_the_launch() {
    let mut idp = Idp::start(600);
    idp.down();
    let mut world = world(&idp, &READS);
    let mut client = world.run(ALICE, &["orders"]);
    client.close();
    client.wait_stderr("provider `idp` cannot be reached");
    client.wait_stderr("hint: check the network, that the server is up");
    world.assert_settled();
    assert!(told(&world, "credential_withheld").is_empty(), "nothing was asked for");
}

/// Only the token itself can be named to the server, and it died with the broker that held it.
#[test]
fn after_a_crash_the_end_is_told() {
    let idp = Idp::start(600);
    let mut world = world(&idp, &READS);
    let mut client = world.launch(ALICE, "orders");
    let token = token(&world);
    let lease = world.leases().remove(0);
    world.broker().kill9();
    client.close();
    world.restart();
    world.assert_settled();
    assert!(idp.is_active(&token), "nobody ended it");
    assert!(told(&world, "credential_revoked").is_empty());
    let withheld = told(&world, "credential_withheld");
    assert_eq!(
        withheld[0]["lives_until"],
        json!(lease.valid_until.expect("later than the ttl")),
        "{withheld:?}"
    );
}

fn path_of_token(client: &mut Client) -> String {
    client.ask("env")["TOKEN_FILE"].as_str().expect("it was injected").to_owned()
}

/// What is in the server's file: from outside, as what the server itself says is masked.
fn in_file(world: &World, path: &str) -> Option<String> {
    let pid = world.instances().pop()?;
    let path = PathBuf::from(format!("/proc/{pid}/root{path}"));
    std::fs::read_to_string(path).ok().filter(|text| !text.is_empty())
}

#[test]
fn a_file_gets_another_token_before_the_first_one_ends() {
    let idp = Idp::start(LIFE);
    let mut world = world(&idp, &Orders { inject: IN_A_FILE, ..READS });
    let mut client = world.launch(ALICE, "orders");
    let path = path_of_token(&mut client);
    let pids = world.instances();
    let mut tokens = vec![in_file(&world, &path).expect("a token")];
    within(PATIENCE, "the token is replaced twice", || {
        let token = in_file(&world, &path)?;
        if tokens.last() != Some(&token) {
            assert!(idp.is_active(tokens.last().expect("one")), "the old one was good until then");
            assert!(idp.is_active(&token));
            tokens.push(token);
        }
        so(tokens.len() == 3)
    });
    assert_eq!(world.instances(), pids, "it is the process that was started");
    assert_eq!(client.call("echo", json!({})), "{}");
    within(PATIENCE, "the first one is ended and seen to be", || {
        so(!idp.is_active(&tokens[0]) && world.audited("credential_revoked", "token") > 0)
    });
    client.close();
    client.outcome().assert_code(0);
    world.assert_settled();
    assert!(tokens.iter().all(|token| !idp.is_active(token)));
    assert!(told(&world, "credential_withheld").is_empty());
}

/// The old token is served until its end, nothing is called revoked before the server said so, and the next token comes
/// when the server is back.
#[test]
fn a_server_that_is_down_at_a_refresh_is_waited_for() {
    let mut idp = Idp::start(LIFE);
    let mut world = world(&idp, &Orders { inject: IN_A_FILE, ..READS });
    let mut client = world.launch(ALICE, "orders");
    let path = path_of_token(&mut client);
    let (pids, token) = (world.instances(), in_file(&world, &path).expect("a token"));
    idp.down();
    eventually("the refresh failed", || so(world.audited("credential_failed", "provider_unreachable") > 0));
    assert_eq!(in_file(&world, &path).as_ref(), Some(&token), "the old one is served");
    assert_eq!(client.call("echo", json!({})), "{}");
    within(PATIENCE, "its end came, and nobody could be told", || {
        so(world.audited("revocation_pending", "provider_unreachable") > 0)
    });
    assert!(told(&world, "credential_revoked").is_empty());
    idp.up();
    let next = within(PATIENCE, "the next one comes with the server", || {
        in_file(&world, &path).filter(|next| *next != token && idp.is_active(next))
    });
    assert_eq!(world.instances(), pids, "it is the process that was started");
    world.wait_audited("credential_revoked", "token");
    client.close();
    client.outcome().assert_code(0);
    world.assert_settled();
    assert!(!idp.is_active(&next));
}

/// The life of a token that is replaced while a test waits.
const LIFE: u64 = 15;
/// So long may that take.
const PATIENCE: Duration = Duration::from_secs(90);
