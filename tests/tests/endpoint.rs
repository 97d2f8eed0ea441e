//! The endpoint that AWS SDKs ask, below servers that are not started again: whole lives of credentials pass under one
//! process, each under a name that the emulator's log has, and what a hundred threads ask for at once costs one call.
//! While STS is down the old credential is served until its end, then nothing, then a new one. Nothing of the person's
//! and no metadata service of a machine is ever asked instead.
//!
//! Not proved here: AWS itself, for which an emulator stands; SDKs of other languages than Python and JavaScript. The
//! lives are shorter than STS and the configuration allow, by a broker for tests and by a condition in the session
//! policy, which the emulator holds to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use e2e::World;
use e2e::accounts::ALICE;
use e2e::aws::{READER, Server};
use e2e::eventually::{so, within};
use e2e::fault::FaultProxy;
use e2e::mcp::Client;
use e2e::metadata::Metadata;
use e2e::ministack::Ministack;
use e2e::parts::seen;
use e2e::tempdir::write;
use serde_json::{Value, json};

/// The life of a credential here; another one takes its place when two thirds are over.
const LIFE: Duration = Duration::from_secs(12);
const SHORT: &str = "ttl = \"12s\"\ntime_limit = true\nsource_identity = \"{person}\"";
/// A busy machine may take so long for what is to happen.
const LONG: Duration = Duration::from_secs(90);

/// What STS was asked to assume, as the emulator has it in its log.
fn assumed(aws: &Ministack) -> Vec<Value> {
    let asked = aws.log().into_iter().map(|mut call| call["requestParameters"].take());
    asked.filter(|asked| asked["Action"] == "AssumeRole").collect()
}

/// The server's credentials are those of this launch, each under a name of its own and the person's identity.
#[track_caller]
fn assert_of_the_launch(world: &World, assumed: &[Value]) {
    let launch = world.launches().pop().expect("it runs").id.to_string();
    let (_, end) = launch.rsplit_once('-').expect("an id");
    let mut names = BTreeSet::new();
    for call in assumed {
        let name = call["RoleSessionName"].as_str().expect("it has a name");
        assert!(name.starts_with(&format!("mcp-{end}-read-")), "{name} of {launch}");
        assert_eq!(call["SourceIdentity"], "alice", "{call}");
        names.insert(name);
    }
    assert_eq!(names.len(), assumed.len(), "each has a name of its own");
}

fn endpoint(world: &World) -> String {
    let url = world.injected("AWS_CONTAINER_CREDENTIALS_FULL_URI").pop().expect("it was injected");
    url.strip_prefix("http://").and_then(|rest| rest.split('/').next()).expect("an address").to_owned()
}

/// As the broker shows times.
fn now() -> String {
    let date = Command::new("/bin/date").args(["-u", "+%Y-%m-%dT%H:%M:%SZ"]).output().expect("date(1) runs");
    String::from_utf8_lossy(&date.stdout).trim().to_owned()
}

#[test]
fn a_server_of_awslabs_outlives_its_credentials() {
    let aws = Ministack::start();
    let server = Server {
        credential: SHORT,
        command: &[seen::PYTHON_AWS, seen::SNS_SQS],
        allowed: ["sqs:ListQueues", "*"],
        ..READER
    };
    let mut world = server.world(&aws).with_fault_points().start();
    let mut client = world.launch(ALICE, "notes");
    let begun = Instant::now();
    let processes = world.instances();
    within(LONG, "three whole lives are over", || {
        let queues = client.call_on("list_queues", json!({ "region": "us-east-1" }));
        assert!(queues.contains("/orders"), "{queues}");
        std::thread::sleep(Duration::from_millis(200));
        so(begun.elapsed() > 3 * LIFE)
    });
    assert_eq!(world.instances(), processes, "it is the process that was started");
    let assumed = assumed(&aws);
    assert!(assumed.len() >= 4, "{assumed:?}");
    assert_of_the_launch(&world, &assumed);
    let listed = |call: &Value| call["eventName"] == "ListQueues";
    let key = |call: Value| call["userIdentity"]["accessKeyId"].as_str().map(str::to_owned);
    let keys: BTreeSet<_> = aws.log().into_iter().filter(listed).filter_map(key).collect();
    assert!(keys.len() >= 4, "the calls were made with {keys:?}");

    let address = endpoint(&world);
    assert!(TcpStream::connect(&address).is_ok());
    assert!(world.person(ALICE, "lock").starts_with("locked"));
    assert!(TcpStream::connect(&address).is_err(), "the endpoint is closed");
    assert_eq!(world.instances(), [0; 0]);
    let _ = world.person(ALICE, "unlock");
    assert!(client.call_on("list_queues", json!({ "region": "us-east-1" })).contains("/orders"));
    // It may take longer to end than a client waits.
    let _ = client.finish();
    world.assert_settled();
}

/// It takes the default chain of the SDK, which here ends in a command that is started for each call.
#[test]
fn another_server_of_awslabs_asks_by_a_command() {
    let aws = Ministack::start();
    let server = Server {
        credential: "source_identity = \"{person}\"",
        by: "credential_process",
        command: &[seen::PYTHON_AWS, seen::IAM],
        allowed: ["iam:ListRoles", "*"],
        ..READER
    };
    let mut world = server.world(&aws).start();
    let mut client = world.launch(ALICE, "notes");
    let roles = client.call_on("list_roles", json!({}));
    assert!(roles.contains("role/tool"), "{roles}");
    let groups = client.request("tools/call", json!({ "name": "list_groups", "arguments": {} }));
    assert_eq!(groups["result"]["isError"], true, "the role may, the session may not: {groups}");
    assert_of_the_launch(&world, &assumed(&aws));
    let _ = client.finish();
    world.assert_settled();
}

/// The SDK for JavaScript asks anew where less than five minutes are left, which is each time here.
#[test]
fn another_sdk_outlives_its_credentials() {
    let aws = Ministack::start();
    let module = format!("{}/npm/node_modules/x.js", seen::PARTS);
    let command = [seen::NODE, seen::USES_AWS_BY_NODE, &module];
    let server = Server { credential: SHORT, command: &command, ..READER };
    let mut world = server.world(&aws).with_fault_points().start();
    let mut client = world.launch(ALICE, "notes");
    let mut keys = BTreeSet::new();
    within(LONG, "there were three credentials", || {
        assert_eq!(client.call_on("read", json!({ "bucket": "notes" })), "of notes");
        assert_eq!(client.call_on("read", json!({ "bucket": "secret" })), "refused: 403");
        keys.insert(client.call_on("id", json!({})));
        std::thread::sleep(Duration::from_millis(200));
        so(keys.len() == 3)
    });
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// What a person has of AWS is in the way of nothing, and nothing is asked but the endpoint.
#[test]
fn a_hundred_threads_cost_one_call_and_find_nothing_else() {
    let (aws, metadata) = (Ministack::start(), Metadata::start());
    let environment = format!(r#", AWS_EC2_METADATA_SERVICE_ENDPOINT = "{}""#, metadata.url());
    let server = Server { environment: &environment, ..READER };
    let mut world = server.world(&aws);
    world.set_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", Some(metadata.url()));
    let mut world = world.start();
    let home = ALICE.home(world.path());
    std::fs::create_dir_all(home.join(".aws")).expect("the home is ours");
    let keys = "[default]\naws_access_key_id = AKIAPERSON\naws_secret_access_key = x\n";
    write(&home.join(".aws/credentials"), keys, 0o644, ALICE.uid, ALICE.uid);
    let mut command = world.command(ALICE, seen::LAUNCHER);
    command.arg("notes").env("AWS_ACCESS_KEY_ID", "AKIAPERSON").env("AWS_SECRET_ACCESS_KEY", "x");
    command.env("AWS_SHARED_CREDENTIALS_FILE", home.join(".aws/credentials"));
    command.env("AWS_WEB_IDENTITY_TOKEN_FILE", "/dev/null").env("AWS_ROLE_ARN", &aws.role_arn);
    let mut client = Client::start(command, world.view(ALICE));
    let _ = client.initialize();

    let found = client.ask("keys");
    assert_eq!(found["method"], "container-role", "{found}");
    assert_eq!(found["profiles"], json!(["default"]));
    let environment = client.ask("environment");
    assert!(!environment.to_string().contains("AKIA"), "{environment}");
    assert!(environment.get("AWS_ROLE_ARN").is_none(), "{environment}");

    let many = client.call_on("many", json!({ "count": 100 }));
    let many: BTreeMap<String, u64> = serde_json::from_str(&many).expect("counts by key");
    assert_eq!(many, BTreeMap::from([(found["id"].as_str().expect("a key").to_owned(), 100)]));
    assert_eq!(assumed(&aws).len(), 1, "all of them have what was minted for the launch");
    assert_eq!(metadata.asked(), 0);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}

/// The broker, too, asks a metadata service for its own keys only where its configuration says so.
#[test]
fn no_metadata_service_is_asked_unless_that_is_written() {
    let (aws, metadata) = (Ministack::start(), Metadata::start());
    for (provider, asked) in [("", false), ("instance_metadata = true", true)] {
        let mut world = Server { provider, keys: false, ..READER }.world(&aws);
        world.set_variable("AWS_EC2_METADATA_SERVICE_ENDPOINT", Some(metadata.url()));
        let world = world.start();
        let refused = world.run_to_end(ALICE, &["notes"]);
        assert_ne!(refused.code, 0, "there are no keys");
        assert_eq!(metadata.asked() > 0, asked, "`{provider}`: {}", refused.stderr);
    }
}

/// The old credential is served to its end, nothing after that, and a new one as soon as there is one.
#[test]
fn a_server_gets_over_an_sts_that_is_down() {
    let aws = Ministack::start();
    let proxy = FaultProxy::before(aws.port);
    let mut world =
        Server { credential: SHORT, sts: Some(proxy.port), ..READER }.world(&aws).with_fault_points().start();
    let mut client = world.launch(ALICE, "notes");
    let mut read = || client.call_on("read", json!({ "bucket": "notes" }));
    assert_eq!(read(), "of notes");
    let processes = world.instances();
    let (assumed_before, end) = (assumed(&aws).len(), world.leases().pop().expect("a lease").expires_at);
    proxy.down();
    let mut served = 0;
    let refused = within(LONG, "what it has ends", || {
        let answer = read();
        // The last one may be on its way when it ends.
        let good = ["of notes", "refused: AccessDenied", "refused: expired"].contains(&answer.as_str());
        served += u32::from(good);
        (!good).then_some(answer)
    });
    assert!(served > 1 && end.is_some_and(|end| end <= now()), "served {served} times, and to the end");
    assert!(refused.contains("CredentialRetrievalError"), "{refused}");
    assert_eq!(assumed(&aws).len(), assumed_before);
    proxy.heal();
    within(LONG, "there is a new one", || so(read() == "of notes"));
    assert_eq!(world.instances(), processes, "it is the process that was started");
    assert!(assumed(&aws).len() > assumed_before);
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}
