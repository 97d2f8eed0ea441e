//! The relay between client and server: standard output carries messages only and an allowed one passes byte
//! for byte, both ways, whatever its length, without a deadlock; ends are passed on.

use std::io::Write;

use e2e::accounts::ALICE;
use e2e::eventually::so;
use e2e::http::find;
use e2e::mcp::Client;
use e2e::{World, eventually};
use serde_json::{Value, json};

/// A world whose server is `cat`: what comes back is what arrived.
fn cat() -> World {
    World::user().vault().server("cat", &["/bin/cat"]).start()
}

/// Messages whose bytes a parser that writes them again would change. `cat` asks what it was asked, and answers what
/// it was answered: only what may be asked of a client and only answers to what was asked pass.
fn odd_messages() -> Vec<Vec<u8>> {
    [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#,
        r#"  { "method" : "ping" ,"id" :"a" , "jsonrpc":"2.0"  }  "#,
        r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"ping","params":{"n":1.0,"m":1e2,"big":123456789012345678901234567890}}"#,
        r#"{"jsonrpc":"2.0","id":2,"method":"ping","params":{"text":"\u00e9\/é\ud83d\ude00 \u2028","tab":"\t"}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/x","params":{"z":1,"a":2,"nested":{"deep":[[[[{}]]]]}}}"#,
        r#"{"jsonrpc":"2.0","id" : "\u0061","result":{ }}"#,
        r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32601,"message":"no"}}"#,
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect()
}

#[test]
fn messages_pass_byte_for_byte() {
    let world = cat();
    let mut client = world.run(ALICE, &["cat"]);
    for message in odd_messages() {
        client.send(&message);
        client.send(b"\n");
        let back = client.line().expect("it comes back");
        assert_eq!(String::from_utf8_lossy(&back), String::from_utf8_lossy(&message));
    }
    assert_eq!(client.finish().code(), 0);
    assert_eq!(client.stdout.complete().iter().filter(|b| **b == b'\n').count(), odd_messages().len());
}

#[test]
fn a_message_in_pieces_is_one_message() {
    let world = cat();
    let mut client = world.run(ALICE, &["cat"]);
    let message = br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for piece in message.chunks(7) {
        client.send(piece);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    client.send(b"\n");
    assert_eq!(client.line().unwrap(), message);
}

#[test]
fn long_messages_pass_both_ways_at_once() {
    let world = World::user().vault().probe("flood", &["flood"]).start();
    let mut client = world.run(ALICE, &["flood"]);
    let mut stdin = client.take_stdin();
    let padding = "x".repeat(1 << 20);
    let message =
        format!("{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\",\"params\":\"{padding}\"}}\n");
    let length = message.len();
    let writer = std::thread::spawn(move || {
        for _ in 0..64 {
            stdin.write_all(message.as_bytes()).expect("the launcher reads on");
        }
    });
    for n in 0..64 {
        let line = client.line().expect("the server's messages arrive");
        assert!(line.len() > 1 << 20);
        assert!(find(&line[..80], format!("\"n\":{n},").as_bytes()).is_some(), "message {n} is out of order");
    }
    writer.join().unwrap();
    let last: Value = serde_json::from_slice(&client.line().expect("the count")).unwrap();
    assert_eq!(last["params"], json!({ "bytes": 64 * length, "lines": 64 }));
    assert_eq!(client.process.wait().code(), 0);
}

#[test]
fn one_very_long_message_comes_back_whole() {
    let world = cat();
    let mut client = world.run(ALICE, &["cat"]);
    let message = format!("{{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":\"{}\"}}", "z".repeat(10 << 20));
    let mut stdin = client.take_stdin();
    let sent = message.clone();
    let writer = std::thread::spawn(move || {
        stdin
            .write_all(sent.as_bytes())
            .and_then(|()| stdin.write_all(b"\n"))
            .expect("the launcher reads on");
    });
    assert!(client.line().expect("it comes back") == message.as_bytes(), "it came back changed");
    writer.join().unwrap();
}

/// The client's end of input reaches the server, which may still answer what it was asked.
#[test]
fn a_half_closed_conversation_is_finished() {
    let world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let call = json!({ "name": "sleep", "arguments": { "ms": 300 } });
    client.message(&json!({ "jsonrpc": "2.0", "id": "late", "method": "tools/call", "params": call }));
    client.close();
    let answer = std::iter::from_fn(|| client.line()).find(|line| find(line, b"\"late\"").is_some());
    assert!(answer.is_some_and(|line| find(&line, b"slept").is_some()), "the answer after the end of input");
    assert_eq!(client.process.wait().code(), 0);
}

/// What a server prints that is no message never reaches the client; it is counted, and said on standard error.
#[test]
fn rubbish_is_dropped_and_counted() {
    let world = World::user().vault().probe("noisy", &["rubbish"]).start();
    let mut client = world.launch(ALICE, "noisy");
    assert_eq!(client.call("rubbish", json!({})), "said");
    assert_eq!(client.call("echo", json!({ "a": 1 })), r#"{"a":1}"#);
    assert_eq!(client.finish().code(), 0);
    for line in client.stdout.complete().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let message: Value = serde_json::from_slice(line).expect("only messages on standard output");
        assert_eq!(message["jsonrpc"], "2.0");
    }
    let said = client.stderr.text();
    assert!(said.contains("dropped") || said.contains("not a message"), "{said}");
    assert!(!client.stdout.text().contains("have a nice day"));
}

#[test]
fn standard_error_passes_line_by_line() {
    let world = World::user().vault().probe("orders-db", &[]).start();
    let mut client = world.launch(ALICE, "orders-db");
    let text = "first line\nsecond: \u{fc}\n";
    assert_eq!(client.call("stderr", json!({ "text": text })), "said");
    client.wait_stderr("second: \u{fc}");
    assert!(client.stderr.text().contains("first line\n"));
    assert_eq!(client.call("stderr", json!({ "text": "no line feed at the end" })), "said");
    assert_eq!(client.finish().code(), 0);
    let said = String::from_utf8_lossy(&client.stderr.complete()).into_owned();
    assert!(said.contains("no line feed at the end"), "{said}");
}

/// A raw CR ends a line for some servers (Python reads with universal newlines): a second message hidden
/// behind one must not arrive as a message.
#[test]
fn a_message_hidden_behind_a_carriage_return_stays_hidden() {
    let world = cat();
    let mut client = world.run(ALICE, &["cat"]);
    client.send(b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"params\":{\"a\":\r{\"jsonrpc\":\"2.0\",\"id\":99,\"method\":\"tools/call\"}\r}}\n");
    client.send(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\r\n");
    client.close();
    let out = client.stdout.complete();
    assert!(find(&out, b"\"ping\"").is_some(), "a CR at the end of a line is harmless");
    assert!(!out[..out.len() - 2].contains(&b'\r'), "a raw CR came through: {}", client.stdout.text());
}

/// A server that closes its output has nothing more to say; the launch ends with it.
#[test]
fn a_closed_client_ends_the_server() {
    let world = World::user().vault().probe("orders-db", &[]).start();
    let client = world.launch(ALICE, "orders-db");
    assert_eq!(world.instances().len(), 1);
    drop_stdout_and_wait(client, &world);
}

fn drop_stdout_and_wait(mut client: Client, world: &World) {
    client.close();
    eventually("the instance is gone", || so(world.instances().is_empty()));
    assert_eq!(client.process.wait().code(), 0);
}
