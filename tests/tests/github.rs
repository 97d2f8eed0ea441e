//! Installation tokens of a GitHub app: narrowed to what the scope says, refused where they are wider, and revoked at
//! the end of the launch.
//!
//! Not proved here: GitHub itself, which a double stands for that quotes its documentation. It verifies the app's
//! signature with openssl.

use std::time::Duration;

use e2e::accounts::ALICE;
use e2e::eventually::{so, within};
use e2e::github::{APP, Github, INSTALLATION};
use e2e::http::{Ask, tcp};
use e2e::parts::seen;
use e2e::tempdir::write;
use e2e::{World, eventually};

fn world(github: &Github, repository: &str) -> World {
    world_with(github, &github.key(), repository, "").start()
}

/// The same, not started, with another key of the app's and further words of the credential.
fn world_with(github: &Github, key: &str, repository: &str, more: &str) -> World {
    let text = key;
    let world = World::user();
    let owner = world.owner().uid;
    let key = world.config_dir().join("app.pem");
    write(&key, text, 0o600, owner, owner);
    let provider = format!(
        "\n[provider.hub]\nkind = \"github-app\"\napp_id = \"{APP}\"\ninstallation_id = \"{INSTALLATION}\"\napi = \"http://127.0.0.1:{}\"\nprivate_key = {{ file = {key:?} }}\n",
        github.port
    );
    let text = format!(
        r#"description = "Repositories"
owner = "platform"
tier = "development"
command = [{:?}]
env = {{ E2E_MARK = "{}" }}

[access]
users = ["alice"]

[scope.read]
tools = ["*"]
credential.hub = {{ provider = "hub", repositories = ["{repository}"], permissions = {{ contents = "read" }}{more} }}
inject = [{{ env = "TOKEN", value = "{{hub.token}}" }}]
"#,
        seen::PROBE,
        world.mark
    );
    world.config(&provider).file("hub", &text)
}

fn status(github: &Github, token: &str, method: &str, path: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    let ask = Ask { method, path, headers: &[("Authorization", &bearer)], body: None };
    tcp(github.port, ask).expect("the double answers").status
}

#[test]
fn a_token_is_narrowed_and_revoked() {
    let github = Github::start();
    let mut world = world(&github, "orders");
    let mut client = world.launch(ALICE, "hub");
    let token = eventually("the token was injected", || world.injected("TOKEN").pop());
    assert_eq!(github.alive(), std::slice::from_ref(&token));
    assert_eq!(status(&github, &token, "GET", "/repos/acme/orders/contents/"), 200);
    assert_eq!(status(&github, &token, "GET", "/repos/acme/pay/contents/"), 404);
    let lease = world.leases().remove(0);
    assert!(lease.valid_until.is_some(), "the hour of GitHub's own is told");

    client.close();
    client.outcome().assert_code(0);
    eventually("the token is revoked", || so(github.alive().is_empty()));
    assert_eq!(status(&github, &token, "GET", "/repos/acme/orders/contents/"), 401);
    world.assert_settled();
    let calls = github.calls();
    assert!(calls.contains(&"GET /installation/repositories 401".to_owned()), "seen to be dead: {calls:?}");
    let audit = world.admin(&["audit", "show", "--json"]);
    let text = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(text.contains("credential_revoked") && !text.contains(&token), "{text}");
}

#[test]
fn a_wider_token_is_refused_and_revoked() {
    let github = Github::start();
    github.be_generous();
    let mut world = world(&github, "orders");
    let mut client = world.run(ALICE, &["hub"]);
    client.close();
    client.wait_stderr("was not asked for");
    eventually("it was revoked", || {
        so(github.calls().contains(&"DELETE /installation/token 204".to_owned()) && github.alive().is_empty())
    });
    world.assert_settled();
}

#[test]
fn a_repository_that_the_installation_has_not_is_refused_with_the_cure() {
    let github = Github::start();
    let mut world = world(&github, "secrets");
    let mut client = world.run(ALICE, &["hub"]);
    client.close();
    client.wait_stderr("the installation must have each of `repositories`");
    world.assert_settled();
}

/// The token died with the broker that held it: until when it lives is what can be told.
#[test]
fn after_a_crash_the_end_is_told() {
    let github = Github::start();
    let mut world = world(&github, "orders");
    let mut client = world.launch(ALICE, "hub");
    world.broker().kill9();
    client.close();
    world.restart();
    world.assert_settled();
    assert_eq!(github.alive().len(), 1);
    let audit = world.admin(&["audit", "show", "--json"]);
    let text = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(text.contains("credential_withheld") && text.contains("lives_until"), "{text}");
}

/// GitHub's hour goes on; what is lengthened is how long the launch has it.
#[test]
fn a_token_in_use_is_lengthened_and_stays_the_same() {
    let github = Github::start();
    let mut world = world_with(&github, &github.key(), "orders", ", ttl = \"30s\"").start();
    let mut client = world.launch(ALICE, "hub");
    let token = eventually("the token was injected", || world.injected("TOKEN").pop());
    let first = world.leases().remove(0);
    let later = within(Duration::from_secs(60), "its end is later", || {
        world.leases().pop().filter(|lease| lease.expires_at > first.expires_at)
    });
    assert_eq!((later.id, later.valid_until), (first.id, first.valid_until), "it is the same token");
    assert_eq!(github.alive(), [token], "no other was made");
    assert_eq!(client.finish().code(), 0);
    eventually("the token is revoked", || so(github.alive().is_empty()));
    world.assert_settled();
}

#[test]
fn doctor_says_whether_the_key_is_the_apps() {
    let (github, other) = (Github::start(), Github::start());
    for (key, code, want) in [
        (github.key(), 0, format!("hub (github-app): app {APP}")),
        (other.key(), 69, "does not accept the app's key".to_owned()),
        ("no key".to_owned(), 69, "has a private key that cannot be used".to_owned()),
    ] {
        let world = world_with(&github, &key, "orders", "").start();
        let doctor = world.run_to_end(ALICE, &["doctor"]);
        let said = format!("{}{}", doctor.text(), doctor.stderr);
        assert!(doctor.code == code && said.contains(&want), "{want}: {said}");
        assert!(!said.contains("no key"), "{said}");
    }
}
