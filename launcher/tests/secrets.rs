//! What an instance says is searched for its secrets before anybody reads it: they do not come back.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::io::Read;
use std::process::{Command, Stdio};

use scene::{Broker, Client};
use serde_json::json;

mod scene;

/// It says its secret on both streams.
const TELLS: &str = r#"
printf 'my secret is %s\n' "$DSN" >&2
while IFS= read -r line; do
    id=${line#*'"id":'}
    id=${id%%[,\}]*}
    printf '{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%s"}}\n' "$DSN"
    printf '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"%s"}]}}\n' "$id" "$DSN"
done
"#;

#[test]
fn a_secret_does_not_come_back() {
    let broker = Broker::start("secrets");
    let mut command = Command::new(env!("CARGO_BIN_EXE_mcp-run"));
    command.stderr(Stdio::piped());
    let mut client = Client::start_by(command, &broker, true);
    let mut words = client.child.stderr.take().unwrap();
    let (mut channel, _) = broker.accept();
    channel.send(&json!({
        "type": "ticket", "kind": "secrets", "launch": scene::LAUNCH, "instance": 3, "server": "t",
        "scope": "all", "idle_secs": 0, "command": ["/bin/sh", "-c", TELLS], "env": {}, "cwd": "/",
        "inject": [{ "way": "env", "name": "DSN", "value": "x:{db.pw}" }],
        "credentials": { "db": { "lease": scene::LAUNCH, "fields": { "pw": "hunter-two-22" }, "expires_at": null, "revocability": "immediate" } },
    }));
    channel.expect("started");
    let leaked = channel.of_calls("leaked");
    assert_eq!((&leaked["instance"], leaked["count"].as_u64() > Some(0)), (&json!(3), true));
    client.call(1, "tell");
    assert_eq!(client.line()["params"]["data"], "[masked]");
    assert_eq!(client.text(1), "[masked]");
    let answered = channel.of_calls("answered");
    assert_eq!(answered["masked"], 1);
    client.close();
    assert_eq!(client.wait(), 0);
    let mut said = String::new();
    words.read_to_string(&mut said).unwrap();
    assert!(said.contains("my secret is [masked]") && !said.contains("hunter"), "{said}");
    assert!(channel.of_calls("leaked")["count"].as_u64() > Some(1), "the rest is told at the end");
}
