//! What is said after the end of credentials that nobody can revoke: that each is valid still and until when, to the
//! person whose it was and to the admin, by brokers that start later too, and no longer than it is true.
//!
//! Not proved here: that the provider's own word on the end is right; an emulator stands for AWS.

use std::time::{Duration, Instant};

use e2e::World;
use e2e::accounts::{ALICE, BOB};
use e2e::eventually::{eventually, so, within};
use e2e::mcp::Client;
use e2e::ministack::Ministack;
use e2e::parts::seen;
use e2e::tempdir::write;
use mcp_broker_proto::session::{LeaseInfo, LeaseState};
use serde_json::{Value, json};

/// A world with the server `notes`, which reads a bucket; `hook` are further lines of its provider.
fn aws_world(aws: &Ministack, hook: &str) -> World {
    let world = World::user();
    let owner = world.owner().uid;
    let kept = |name: &str, text: &str| {
        let path = world.config_dir().join(name);
        write(&path, text, 0o600, owner, owner);
        path
    };
    let (id, secret) = (kept("aws.id", &aws.access_key_id), kept("aws.secret", &aws.secret_access_key));
    let (url, role, mark) = (&aws.url, &aws.role_arn, &world.mark);
    let provider = format!(
        r#"
[provider.aws]
kind = "aws-sts"
region = "us-east-1"
endpoint = "{url}"
source = {{ access_key_id = {{ file = {id:?} }}, secret_access_key = {{ file = {secret:?} }} }}
{hook}
"#
    );
    let command = [seen::PYTHON_AWS, seen::USES_AWS];
    let text = format!(
        r#"description = "Notes in a bucket"
owner = "platform"
tier = "development"
command = {command:?}
env = {{ E2E_MARK = "{mark}", AWS_ENDPOINT_URL = "{url}", AWS_REGION = "us-east-1", HOME = "/nowhere" }}

[access]
users = ["alice"]

[scope.read]
tools = ["*"]
inject = [{{ aws = "endpoint" }}]

[scope.read.credential.keys]
provider = "aws"
role_arn = "{role}"
policy = {{ Version = "2012-10-17", Statement = [{{ Effect = "Allow", Action = "s3:GetObject", Resource = "arn:aws:s3:::notes/*" }}] }}
"#
    );
    world.config(&provider).file("notes", &text).start()
}

/// What the server has as keys: access key, secret key and token.
fn keys(client: &mut Client) -> [String; 3] {
    let told: Value = serde_json::from_str(&client.call("keys", json!({}))).expect("an object");
    let backwards = |name: &str| told[name].as_str().expect("a text").chars().rev().collect();
    [told["id"].as_str().expect("a text").to_owned(), backwards("secret"), backwards("token")]
}

/// One credential, of that lease, is told to be valid until its end: to the person and to the admin.
#[track_caller]
fn assert_told(world: &World, lease: &LeaseInfo, until: &str) {
    let of_person = world.status(ALICE).leases;
    for told in [of_person, world.withheld()] {
        let [told] = &told[..] else { panic!("one is left: {told:?}") };
        assert!(told.withheld && told.state == LeaseState::RevocationPending, "{told:?}");
        assert_eq!((told.id, told.expires_at.as_deref()), (lease.id, Some(until)));
        assert_eq!((told.detail.as_ref(), &told.delivered), (lease.detail.as_ref(), &vec![]));
    }
    let status = world.person(ALICE, "status");
    let want = format!("ended, still valid until {until}");
    assert!(status.contains("\ncredentials that were ended and cannot be revoked\n"), "{status}");
    assert!(status.contains(&want) && status.contains(&lease.id.to_string()), "{status}");
    let leases = world.admin(&["leases"]).text();
    assert!(leases.contains("ended, still valid") && leases.contains(until), "{leases}");
}

#[test]
fn a_lock_a_logout_a_kill_and_a_restart_say_until_when_it_lives() {
    let aws = Ministack::start();
    let mut world = aws_world(&aws, "");
    let mut client = world.launch(ALICE, "notes");
    let stolen = keys(&mut client);
    let lease = world.leases().pop().expect("a lease");
    let until = lease.expires_at.clone().expect("it ends");
    let line = format!("  read.keys of aws for notes is valid until {until}\n");

    let locked = world.person(ALICE, "lock");
    assert!(locked.contains(&format!("1 credential cannot be revoked:\n{line}")), "{locked}");
    assert!(!locked.contains("not settled yet"), "{locked}");
    assert_eq!(aws.read(&stolen, "notes"), "of notes", "it is true");
    assert_told(&world, &lease, &until);
    let again = world.person(ALICE, "logout");
    assert!(again.contains(&line), "{again}");
    assert_told(&world, &lease, &until);
    client.outcome().assert_code(77);

    // Twice: the second broker reads what the first one found.
    for _ in 0..2 {
        world.restart();
        assert_told(&world, &lease, &until);
    }
    let revoked = world.admin(&["revoke", "--server", "notes"]);
    revoked.assert_code(0);
    let want = format!("cannot be revoked: read.keys of aws for notes, valid until {until}");
    assert!(revoked.text().contains(&want), "{}", revoked.text());
    world.admin(&["revoke", "--server", "another"]).assert_code(64);
    world.assert_settled();
}

/// A broker that was killed while the credential was in use: the next one ends it, as far as that goes, and tells.
#[test]
fn what_a_crash_left_is_told_as_well() {
    let aws = Ministack::start();
    let mut world = aws_world(&aws, "");
    let mut client = world.launch(ALICE, "notes");
    let stolen = keys(&mut client);
    let lease = world.leases().pop().expect("a lease");
    let until = lease.expires_at.clone().expect("it ends");
    world.broker().kill9();
    // A client that is there comes back with another credential.
    client.process.kill9();
    world.restart();
    eventually("it was ended", || so(world.leases().is_empty() && world.withheld().len() == 1));
    assert_told(&world, &lease, &until);
    assert_eq!(aws.read(&stolen, "notes"), "of notes");
    world.assert_settled();
}

#[test]
fn what_a_hook_denied_is_not_said_to_be_valid() {
    let aws = Ministack::start();
    let command = [seen::PYTHON_AWS, seen::AWS_ADMIN, &aws.url, "deny"];
    let mut world = aws_world(&aws, &format!("deny = {{ command = {command:?} }}"));
    let mut client = world.launch(ALICE, "notes");
    let stolen = keys(&mut client);
    assert_eq!(client.finish().code(), 0);
    world.wait_audited("credential_denied", "command");
    assert_eq!(aws.read(&stolen, "notes"), "refused: AccessDenied");
    eventually("nothing is left to say", || so(world.status(ALICE).leases.is_empty()));
    assert!(world.withheld().is_empty());
    world.assert_settled();
}

/// A token of half a minute, which is the shortest that there is.
#[test]
fn each_is_told_to_its_own_person_and_until_its_end_only() {
    let provider = "\n[provider.own]\nkind = \"jwt\"\nissuer = \"https://broker.example.com\"\n";
    let world = World::system();
    let text = format!(
        r#"description = "An API"
owner = "platform"
tier = "development"
command = [{:?}]
env = {{ E2E_MARK = "{}" }}

[access]
users = ["alice", "bob"]

[scope.read]
tools = ["*"]
credential.api = {{ provider = "own", audience = "https://api.example.com", ttl = "30s" }}
inject = [{{ env = "TOKEN", value = "{{api.token}}" }}]
"#,
        seen::PROBE,
        world.mark
    );
    let mut world = world.config(provider).file("api", &text).start();
    let began = Instant::now();
    let mut client = world.launch(ALICE, "api");
    let id = world.leases().pop().expect("a lease").id;
    assert_eq!(client.finish().code(), 0);
    eventually("it is told", || so(world.status(ALICE).leases.iter().any(|lease| lease.withheld)));
    let told = world.status(ALICE).leases;
    assert!(told.len() == 1 && told[0].id == id, "{told:?}");
    for command in [&["status", "--json"][..], &["status"], &["lock"], &["logout"]] {
        let outcome = world.run_to_end(BOB, command);
        let text = format!("{}{}", outcome.text(), outcome.stderr);
        assert!(
            !text.contains(&id.to_string()) && !text.contains("cannot be revoked"),
            "{command:?}: {text}"
        );
    }
    within(Duration::from_secs(60), "it has ended", || so(world.withheld().is_empty()));
    assert!(began.elapsed() >= Duration::from_secs(29), "it is not forgotten before its end");
    assert!(world.status(ALICE).leases.is_empty());
    world.assert_settled();
}
