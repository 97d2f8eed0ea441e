//! What becomes of lines that are no messages, and of servers that do not read.
#![expect(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use serde_json::{Value, json};

use scene::{Broker, Client, running};

mod scene;

#[test]
fn what_is_no_message_is_answered() {
    let (_broker, _channel, mut client) = running("no-message", 0);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(17 << 20));
    for (line, code) in [
        (b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]".as_slice(), -32600),
        (b"{\"id\":1,\"method\":", -32700),
        (b"{\"id\":1,\"id\":2,\"method\":\"ping\"}", -32600),
        (b"{\"id\":1,\"method\":\"\xff\"}", -32700),
        (long.as_bytes(), -32700),
    ] {
        client.raw(line);
        let answer = client.line();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&Value::Null, &json!(code)));
    }
    client.raw(b"");
    client.call(7, "whoami");
    assert_eq!(client.text(7), "i0 yes ", "an empty line is nothing");
}

/// It may have closed its input for good: what it was asked is answered, and another one takes over.
#[test]
fn a_server_that_closes_its_input_and_lives_on_is_replaced() {
    let broker = Broker::start("deaf");
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.ticket_of(
        0,
        0,
        "read x; echo '{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}'; exec <&-; exec sleep 1000",
    );
    channel.expect("started");
    client.request(1, "x");
    assert_eq!(client.line()["id"], 1);
    client.call(2, "x");
    channel.gone(0, "unusable");
    channel.expect("want");
    let text = client.text(2);
    assert!(text.contains("closed its input"), "{text}");
    client.call(3, "whoami");
    channel.ticket(1, 0);
    channel.expect("started");
    assert_eq!(client.text(3), "i1  ");
}

/// An answer that does not pass is none that the client waits for.
#[test]
fn a_request_whose_answer_is_dropped_is_answered() {
    let broker = Broker::start("dropped");
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    let server = r#"
        read x; head -c 17000000 /dev/zero | tr '\0' x | sed 's/^/{"result":{"a":"/; s/$/"},"jsonrpc":"2.0","id":1}/'; echo
        read x; read y; printf '{"jsonrpc":"2.0","id":3,"result":{},"result":{}}\n'
        read x; sleep 1000"#;
    channel.ticket_of(0, 0, server);
    channel.expect("started");
    client.call(1, "x");
    let answer = client.line();
    assert_eq!(answer["id"], 1);
    assert_eq!(answer["result"]["_meta"]["mcp-run/reason"], "result_too_long");
    assert_eq!(channel.of_calls("answered")["outcome"], "result_too_long");
    client.call(2, "x");
    client.request(3, "x");
    let answer = client.line();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(3), &json!(1004)));
    client.raw(br#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":2}}"#);
    assert_eq!(channel.of_calls("answered")["outcome"], "cancelled");
}

/// What has to be said again to the next instance is kept, and is not kept at any length.
#[test]
fn what_is_too_long_to_be_kept_is_refused() {
    let (_broker, _channel, mut client) = running("kept", 0);
    let long = "x".repeat(257 << 10);
    for (id, method) in [(1, "initialize"), (2, "logging/setLevel")] {
        client.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": { "a": long } }));
        let answer = client.line();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(id), &json!(-32602)));
        assert!(answer["error"]["message"].as_str().is_some_and(|words| words.contains("256 KiB")));
    }
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized", "params": { "a": long } }));
    client.silent();
    client.call(3, "whoami");
    assert_eq!(client.text(3), "i0 yes ", "nothing of it has reached the server");
}
