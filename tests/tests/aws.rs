//! Credentials of AWS from the launch to after its end: a server may do what its session policy allows and no more,
//! under a name that the broker tells of, by the endpoint or the command that SDKs ask, and keeps working while its
//! credentials are replaced below it. What a lock cannot take back is told, or denied by a hook.
//!
//! Not proved here: AWS itself, for which an emulator stands that checks signatures, policies, conditions of time and
//! names of sessions; web identity, of which it checks no signature; and credentials of less than fifteen minutes,
//! which STS does not give: the condition of time in the session policy stands for them.

use std::net::TcpStream;
use std::time::Duration;

use e2e::World;
use e2e::accounts::ALICE;
use e2e::aws::{READER, Server};
use e2e::eventually::{so, within};
use e2e::mcp::Client;
use e2e::ministack::Ministack;
use e2e::parts::seen;
use serde_json::{Value, json};

fn read(client: &mut Client, bucket: &str) -> String {
    client.call("read", json!({ "bucket": bucket }))
}

/// It may do what the session policy says and nothing else that the role may. The name of its session.
#[track_caller]
fn assert_narrowed(client: &mut Client) -> String {
    assert_eq!(read(client, "notes"), "of notes");
    assert_eq!(read(client, "secret"), "refused: AccessDenied", "the role may, the session may not");
    assert_eq!(client.call("write", json!({ "bucket": "notes" })), "refused: AccessDenied");
    let who = client.call("who", json!({}));
    let (role, name) = who.rsplit_once('/').expect("an ARN");
    assert!(role.ends_with(":assumed-role/tool") && name.starts_with("mcp-"), "{who}");
    name.to_owned()
}

/// The events of the audit log that tell of the credential of a session: the end of its name is that of the lease's id.
fn told_of(world: &World, name: &str) -> Vec<Value> {
    let (_, lease) = name.rsplit_once('-').expect("a name ends with its lease");
    let of_it = |event: &Value| event["lease"].as_str().is_some_and(|id| id.ends_with(lease));
    world.audit().into_iter().filter(of_it).collect()
}

/// Where the server's endpoint listens.
fn endpoint(world: &World) -> String {
    let url = world.injected("AWS_CONTAINER_CREDENTIALS_FULL_URI").pop().expect("it was injected");
    let address = url.strip_prefix("http://").and_then(|rest| rest.split('/').next());
    address.expect("an address").to_owned()
}

#[test]
fn a_server_may_do_what_its_session_policy_says_until_the_lock() {
    let aws = Ministack::start();
    let mut world = READER.world(&aws).start();
    let mut client = world.launch(ALICE, "notes");
    let name = assert_narrowed(&mut client);
    let lease = world.leases().pop().expect("a lease");
    assert!(lease.detail.as_deref().is_some_and(|detail| detail.contains(&name)), "{lease:?}");
    assert_eq!(lease.delivered, ["aws endpoint"]);
    let named = |event: &Value| event["detail"].as_str().is_some_and(|detail| detail.contains(&name));
    assert!(told_of(&world, &name).iter().any(named), "the audit log names the session");

    let address = endpoint(&world);
    assert!(TcpStream::connect(&address).is_ok());
    assert!(world.person(ALICE, "lock").starts_with("locked"));
    assert!(TcpStream::connect(&address).is_err(), "the endpoint is closed");
    assert_eq!(world.instances(), [0; 0]);
    let told = told_of(&world, &name);
    let withheld = told.iter().find(|event| event["event"] == "credential_withheld").expect("it is told");
    assert!(lease.expires_at.is_some() && withheld["lives_until"] == json!(lease.expires_at), "{withheld}");
    let _ = world.person(ALICE, "unlock");
    assert_ne!(assert_narrowed(&mut client), name, "what comes back has a credential of its own");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn the_command_of_a_profile_is_answered_to_the_server_alone() {
    let aws = Ministack::start();
    let mut world = Server { by: "credential_process", ..READER }.world(&aws).start();
    let mut client = world.launch(ALICE, "notes");
    let name = assert_narrowed(&mut client);
    let named = |event: &Value| event["detail"].as_str().is_some_and(|detail| detail.contains(&name));
    assert!(told_of(&world, &name).iter().any(named), "the audit log names the session");

    // The same person, with the file in hand, but none of the server's processes.
    let config = world.injected("AWS_CONFIG_FILE").pop().expect("it was injected");
    let pid = world.instances()[0];
    let profile = std::fs::read_to_string(format!("/proc/{pid}/root{config}")).expect("the file is there");
    let command =
        profile.lines().find_map(|line| line.strip_prefix("credential_process = ")).expect("a command");
    let private = command.split_once("--from ").expect("it names its file").1.trim_matches(['"', '\'']);
    let refused = world.run_to_end(ALICE, &["credential", "aws", "--from", private]);
    refused.assert_refused(77, &["only for the MCP server"]);
    assert_eq!(read(&mut client, "notes"), "of notes", "the server is still answered");
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// Half a minute is the shortest life that can be configured, so the server is watched for two ends only.
#[test]
fn a_server_works_on_while_its_credentials_are_replaced() {
    let aws = Ministack::start();
    let mut world = Server { credential: "ttl = \"30s\"\ntime_limit = true", ..READER }.world(&aws).start();
    let mut client = world.launch(ALICE, "notes");
    let (pid, first) = (client.call("pid", json!({})), assert_narrowed(&mut client));
    let mut names = vec![first];
    within(LIVES, "the credential is replaced again and again", || {
        let name = assert_narrowed(&mut client);
        if names.last() != Some(&name) {
            names.push(name);
        }
        so(names.len() == 3)
    });
    assert_eq!(client.call("pid", json!({})), pid, "it is the process that was started");
    for name in &names {
        assert!(!told_of(&world, name).is_empty(), "the audit log names {name}");
    }
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

#[test]
fn the_hook_denies_a_session_by_its_name() {
    let aws = Ministack::start();
    let command = [seen::PYTHON_AWS, seen::AWS_ADMIN, &aws.url, "deny"];
    let hook = format!("deny = {{ command = {command:?} }}");
    let mut world = Server { provider: &hook, ..READER }.world(&aws).start();
    let (mut one, mut other) = (world.launch(ALICE, "notes"), world.launch(ALICE, "notes"));
    let stolen = keys(&mut one);
    assert_eq!(aws.read(&stolen, "notes"), "of notes", "whoever has the keys may");
    let name = assert_narrowed(&mut one);
    let _ = assert_narrowed(&mut other);
    assert_eq!(one.finish().code(), 0);
    world.wait_audited("credential_denied", "command");
    assert_eq!(aws.read(&stolen, "notes"), "refused: AccessDenied", "the keys are of no use any more");
    let _ = assert_narrowed(&mut other);
    let told = told_of(&world, &name);
    let denied = told.iter().find(|event| event["event"] == "credential_denied").expect("of this session");
    assert!(denied["by"] == "command" && denied["lives_until"].is_string(), "{denied}");
    assert_eq!(other.finish().code(), 0);
    world.assert_settled();
}

/// It takes a named profile and nothing else.
#[test]
fn a_server_of_awslabs_lists_queues_and_no_topics() {
    let aws = Ministack::start();
    let server = Server {
        by: "credential_process",
        command: &[seen::PYTHON_AWS, seen::SNS_SQS],
        allowed: ["sqs:ListQueues", "*"],
        ..READER
    };
    let mut world = server.world(&aws).start();
    let mut client = world.launch(ALICE, "notes");
    let queues = client.call("list_queues", json!({ "region": "us-east-1" }));
    assert!(queues.contains("/orders"), "{queues}");
    let topics = client
        .request("tools/call", json!({ "name": "list_topics", "arguments": { "region": "us-east-1" } }));
    assert!(
        topics.to_string().contains("AccessDenied") || topics.to_string().contains("AuthorizationError"),
        "{topics}"
    );
    // It may take longer to end than a client waits.
    let _ = client.finish();
    world.assert_settled();
}

/// What the server has as keys: access key, secret key and token.
fn keys(client: &mut Client) -> [String; 3] {
    let told: Value = serde_json::from_str(&client.call("keys", json!({}))).expect("an object");
    let backwards = |name: &str| told[name].as_str().expect("a text").chars().rev().collect();
    [told["id"].as_str().expect("a text").to_owned(), backwards("secret"), backwards("token")]
}

/// So long may the replacements take that a test waits for.
const LIVES: Duration = Duration::from_secs(90);
