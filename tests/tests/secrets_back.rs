//! A secret that a server says never reaches the client: not as it is, not in a form that an encoding gives it, not by
//! any of the ways on which a server's words travel, also where they come in pieces. The broker hears of it, and ends
//! the launch where the definition says so.
//!
//! Not proved: a server that encrypts it, spells it backwards or says it bit by bit.

use e2e::World;
use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::http::find;
use e2e::mcp::Client;
use e2e::parts::seen;
use e2e::pg::user_and_password;
use e2e::sdk::Sdk;
use e2e::world::Scope;
use e2e::{PATIENCE, eventually};
use serde_json::{Value, json};

const FORMS: [&str; 9] = [
    "raw",
    "json",
    "percent",
    "hex",
    "HEX",
    "base64",
    "base64 after one byte",
    "base64 after two bytes",
    "base64 for urls",
];
const WAYS: [&str; 9] =
    ["result", "structured", "resource", "error", "message", "notification", "stderr", "junk", "split"];
/// What stands where a secret stood.
const MASK: &str = "[masked]";

/// A scope with a password that encodings change, as it is and inside an address.
fn scope(tools: &[&str]) -> Scope {
    let inject =
        r#"inject = [{ env = "DSN", value = "@DSN@" }, { env = "PASSWORD", value = "{db.password}" }]"#;
    Scope::of("read", tools).reads().inject(inject)
}

fn world(command: &[&str], tools: &[&str], top: &str) -> World {
    let world = World::user().vault();
    world.bao().odd_passwords();
    world.scoped("orders-db", command, top, &[scope(tools)]).start()
}

/// The password that the instance really has, as the kernel knows it.
#[track_caller]
fn password(world: &World) -> String {
    let [password] = &world.injected("PASSWORD")[..] else { panic!("one instance runs") };
    let [dsn] = &world.injected("DSN")[..] else { panic!("one instance runs") };
    assert_eq!(&user_and_password(dsn).1, password);
    assert!(password.len() >= 20 && password.contains(['/', '+', '%', '"', '\\']), "it has odd characters");
    password.clone()
}

/// What must not be there, by name. Of base64 that begins inside a longer text the digits that are the secret's alone.
fn needles(secret: &str) -> Vec<(String, Vec<u8>)> {
    let bytes = secret.as_bytes();
    let json = Value::from(secret).to_string();
    let inside = json[1..json.len() - 1].to_owned();
    let twice = Value::from(inside.as_str()).to_string();
    let percent = |byte: &u8| match byte {
        plain if plain.is_ascii_alphanumeric() || b"-._~".contains(plain) => char::from(*plain).to_string(),
        other => format!("%{other:02X}"),
    };
    let mut all: Vec<(String, String)> = vec![
        ("raw".into(), secret.to_owned()),
        ("JSON".into(), inside),
        ("JSON twice".into(), twice[1..twice.len() - 1].to_owned()),
        ("percent".into(), bytes.iter().map(percent).collect()),
        ("hex".into(), bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        ("HEX".into(), bytes.iter().map(|byte| format!("{byte:02X}")).collect()),
    ];
    for (name, last) in [("base64", ['+', '/']), ("base64 for urls", ['-', '_'])] {
        for before in 0..3 {
            let padded = [&b"==="[..before], bytes].concat();
            let digits = base64(&padded, last);
            let (from, whole) = ([0, 2, 3][before], padded.len() / 3 * 4);
            all.push((format!("{name} after {before}"), digits[from..whole].to_owned()));
        }
    }
    all.into_iter().map(|(name, text)| (name, text.into_bytes())).collect()
}

fn base64(bytes: &[u8], last: [char; 2]) -> String {
    let digits: Vec<char> = ('A'..='Z').chain('a'..='z').chain('0'..='9').chain(last).collect();
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let at = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = at(0) << 16 | at(1) << 8 | at(2);
        out.extend([18, 12, 6, 0].map(|shift| digits[(word >> shift & 63) as usize]));
    }
    out
}

/// The forms of the secret that are in everything that the client was given.
fn found(needles: &[(String, Vec<u8>)], client: &Client) -> Vec<String> {
    let printed = [client.stdout.bytes(), client.stderr.bytes()].concat();
    needles.iter().filter(|(_, n)| find(&printed, n).is_some()).map(|(name, _)| name.clone()).collect()
}

/// Has the probe tell it in each form by each way, and calls `judge` after each.
fn everything_told(client: &mut Client, mut judge: impl FnMut(&mut Client, &str)) {
    for form in FORMS {
        for way in WAYS {
            let arguments = json!({ "variable": "PASSWORD", "form": form, "way": way });
            let answer = client.request("tools/call", json!({ "name": "secret", "arguments": arguments }));
            assert!(answer["error"]["message"] != "no such way", "{answer}");
            judge(client, &format!("{form} by {way}"));
        }
    }
}

#[test]
fn no_form_of_a_secret_reaches_the_client_by_any_way() {
    let mut world = world(&[seen::PROBE], &["secret", "echo"], "");
    let mut client = world.launch(ALICE, "orders-db");
    let needles = needles(&password(&world));
    everything_told(&mut client, |client, what| {
        assert_eq!(found(&needles, client), [""; 0], "{what}");
    });
    // The words about it are still there, so that it is the secret which is masked, and not the message.
    for form in FORMS {
        let text = client.call("secret", json!({ "variable": "PASSWORD", "form": form, "way": "result" }));
        assert!(text.starts_with("before ") && text.ends_with(" after"), "{form}: {text}");
        assert!(text.contains(MASK), "{form}: {text}");
    }
    assert_eq!(client.call("echo", json!({ "a": "b" })), r#"{"a":"b"}"#, "the launch goes on");
    assert_eq!(client.finish().code(), 0);
    assert_eq!(found(&needles, &client), [""; 0]);
    world.wait_audited("secrets_masked", "");
    world.assert_settled();
}

/// The control: the same words of the same server without the launcher are seen in every form.
#[test]
fn the_judge_sees_every_form() {
    let world = World::user();
    let secret = "a/b+c%d\"e\\f g<h>i&j-0123";
    let needles = needles(secret);
    let mut seen_forms = std::collections::BTreeSet::new();
    for form in FORMS {
        for way in WAYS {
            let mut command = world.command(ALICE, seen::PROBE);
            command.env("PASSWORD", secret);
            let mut client = Client::start(command, world.view(ALICE));
            let arguments = json!({ "variable": "PASSWORD", "form": form, "way": way });
            client.message(&json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": { "name": "secret", "arguments": arguments } }));
            assert_eq!(client.finish().code(), 0);
            let _ = (client.stdout.complete(), client.stderr.complete());
            let found = found(&needles, &client);
            assert!(!found.is_empty(), "{form} by {way} is not seen");
            seen_forms.extend(found);
        }
    }
    assert!(seen_forms.len() > FORMS.len(), "{seen_forms:?}");
}

/// The reference server's tool that shows its environment, through a client of each generation.
#[test]
fn the_tool_that_shows_its_environment_does_not_show_the_secret() {
    for sdk in [Sdk::One, Sdk::Two] {
        let mut world = world(&[seen::NODE, seen::EVERYTHING, "stdio"], &["*"], "");
        let mut pipe = world.converse(ALICE, sdk, "orders-db");
        let text = pipe.must_call("get-env", json!({}));
        assert!(text.contains("E2E_MARK") && text.contains("PASSWORD") && text.contains(MASK), "{text}");
        let secret = password(&world);
        let printed = [text.into_bytes(), pipe.stderr.bytes()].concat();
        for (name, needle) in needles(&secret) {
            assert!(find(&printed, &needle).is_none(), "{sdk:?}: {name}");
        }
        let _ = pipe.finish();
        world.assert_settled();
    }
}

/// One that says a secret before anybody asked it, as servers do that print their settings when they start.
#[test]
fn what_a_server_says_at_its_start_is_masked() {
    let script = format!("echo \"connected to $DSN with $PASSWORD\" >&2; exec {}", seen::PROBE);
    let mut world = world(&["/bin/sh", "-c", &script], &["echo"], "");
    let mut client = world.launch(ALICE, "orders-db");
    let needles = needles(&password(&world));
    client.wait_stderr("connected to");
    client.wait_stderr(MASK);
    assert_eq!(client.call("echo", json!({})), "{}");
    assert_eq!(client.finish().code(), 0);
    assert_eq!(found(&needles, &client), [""; 0]);
    world.assert_settled();
}

#[test]
fn a_leak_ends_the_launch_where_the_definition_says_so() {
    let mut world = world(&[seen::PROBE], &["secret", "echo"], "on_leak = \"end\"");
    let mut client = world.launch(ALICE, "orders-db");
    let needles = needles(&password(&world));
    assert_eq!(client.call("echo", json!({})), "{}");
    let arguments = json!({ "variable": "PASSWORD", "form": "raw", "way": "result" });
    let _ = client.try_request("tools/call", json!({ "name": "secret", "arguments": arguments }));
    let outcome = client.outcome_within(PATIENCE);
    outcome.assert_code(77);
    assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    assert_eq!(found(&needles, &client), [""; 0], "it was masked all the same");
    world.assert_settled();
    world.wait_audited("launch_ended", "secret_leaked");
}

/// A secret of the last instance is as little to be said by the next one: it is gone by then.
#[test]
fn masking_goes_on_after_a_swap() {
    let mut world = world(&[seen::PROBE], &["secret", "exit"], "");
    let mut client = world.launch(ALICE, "orders-db");
    let first = password(&world);
    let _ = client.request("tools/call", json!({ "name": "exit", "arguments": {} }));
    let tell =
        json!({ "name": "secret", "arguments": { "variable": "PASSWORD", "form": "raw", "way": "result" } });
    eventually("another instance answers", || {
        so(client.request("tools/call", tell.clone())["result"]["isError"] != true)
    });
    let second = password(&world);
    assert_ne!(first, second);
    for secret in [first, second] {
        assert_eq!(found(&needles(&secret), &client), [""; 0]);
    }
    assert_eq!(client.finish().code(), 0);
    world.assert_settled();
}
