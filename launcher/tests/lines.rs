//! What becomes of lines that are no messages, and of servers that do not read.

use serde_json::{Value, json};

use scene::running;

mod scene;

#[test]
fn what_is_no_message_is_answered() {
    let (_broker, _channel, mut client) = running("no-message", 0);
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(17 << 20));
    for (line, code) in [
        (b"[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]".as_slice(), -32600),
        (b"{\"id\":1,\"method\":", -32700),
        (b"{\"id\":1,\"id\":2,\"method\":\"ping\"}", -32700),
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
