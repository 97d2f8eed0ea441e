//! Nothing stands by: what a server showed when it was approved is answered without it, and nothing is started until
//! something else is asked. What it shows then is compared with that.
#![expect(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use scene::{Broker, Channel, Client, TWICE, lazy, two};
use serde_json::{Value, json};

mod scene;

fn names(list: &Value) -> Vec<&str> {
    list["result"]["tools"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|tool| tool["name"].as_str())
        .collect()
}

/// A launch by this plan whose client has opened the conversation, without any instance.
fn asleep(name: &str, plan: Value) -> (Broker, Channel, Client) {
    let mut broker = Broker::start(name);
    broker.plan = plan;
    let mut client = Client::start(&broker);
    let (channel, _) = broker.accept();
    client.open();
    (broker, channel, client)
}

fn nothing_runs(client: &Client) {
    let launcher = client.child.id();
    let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children"));
    assert_eq!(children.unwrap_or_default(), "", "no process, also no keeper");
}

#[test]
fn nothing_is_started_until_a_request_needs_it() {
    let (_broker, mut channel, mut client) = asleep("lazy", lazy());
    client.request(1, "tools/list");
    assert_eq!(names(&client.line()), ["read_whoami", "write_whoami"], "the union of both scopes");
    client.request(2, "ping");
    client.line();
    client.call(3, "other");
    assert_eq!(client.line()["error"]["code"], -32602);
    nothing_runs(&client);
    assert!(channel.frames.try_recv().is_err());
    // The other scope may be the first that is needed.
    client.call(4, "write_whoami");
    channel.wanted("write");
    channel.ticket_for_command("write", 0, 0, TWICE);
    channel.expect("started");
    assert_eq!(client.text(4), "i0 yes ", "the handshake was replayed");
    client.call(5, "read_whoami");
    channel.wanted("read");
    channel.ticket_for_command("read", 1, 0, TWICE);
    channel.expect("started");
    assert_eq!(client.text(5), "i1 yes ");
    client.silent();
    // After a lock it sleeps again.
    channel.park("locked");
    channel.expect("dead");
    channel.resume();
    client.request(6, "tools/list");
    assert_eq!(names(&client.line()).len(), 2);
    nothing_runs(&client);
    assert!(channel.frames.try_recv().is_err());
    client.close();
    assert_eq!(client.wait(), 0);
}

#[test]
fn a_launch_may_be_parked_from_the_beginning() {
    let mut broker = Broker::start("lazy-park");
    broker.plan = lazy();
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.park("locked");
    channel.expect("dead");
    client.open();
    client.request(1, "tools/list");
    assert_eq!(names(&client.line()).len(), 2, "what was approved is known all the same");
    client.call(2, "read_whoami");
    let text = client.text(2);
    assert!(text.contains("the session is locked") && text.contains("executed: no"), "{text}");
    std::thread::sleep(std::time::Duration::from_secs(4));
    client.request(3, "ping");
    assert_eq!(client.line()["id"], 3, "it waits as long as it takes");
    channel.resume();
    nothing_runs(&client);
    client.call(4, "read_whoami");
    channel.wanted("read");
    channel.ticket_for_command("read", 0, 0, TWICE);
    channel.expect("started");
    assert_eq!(client.text(4), "i0 yes ");
}

#[test]
fn what_cannot_be_had_at_first_is_said_and_tried_again() {
    let (_broker, mut channel, mut client) = asleep("lazy-refused", lazy());
    client.call(1, "read_whoami");
    channel.wanted("read");
    channel.refuse("read", "provider_busy");
    assert!(client.text(1).contains("executed: no"));
    std::thread::sleep(std::time::Duration::from_millis(1100));
    client.call(2, "read_whoami");
    channel.wanted("read");
    channel.ticket_for_command("read", 0, 0, TWICE);
    assert_eq!(client.text(2), "i0 yes ");
}

#[test]
fn a_broker_that_comes_back_is_asked_for_nothing() {
    let (mut broker, channel, mut client) = asleep("lazy-away", lazy());
    drop(channel);
    broker.restart();
    let (mut channel, want) = broker.accept();
    assert!(!want);
    assert!(channel.frames.recv_timeout(scene::QUIET).is_err());
    client.call(1, "read_whoami");
    channel.wanted("read");
    channel.ticket_for_command("read", 0, 0, TWICE);
    assert_eq!(client.text(1), "i0 yes ");
}

/// A tool whose definition is another one than was approved does not exist until it is approved again.
#[test]
fn a_tool_that_is_not_as_approved_is_hidden() {
    let mut plan = lazy();
    plan["record"]["items"][1] = json!(r#"{"name":"read_whoami","description":"as it was"}"#);
    let (_broker, mut channel, mut client) = asleep("changed", plan);
    client.request(1, "tools/list");
    assert_eq!(names(&client.line()).len(), 2);
    client.call(2, "read_whoami");
    channel.wanted("read");
    channel.ticket_for_command("read", 0, 0, TWICE);
    channel.expect("started");
    let said = channel.of_calls("changed");
    assert_eq!((&said["scope"], &said["tools"]), (&json!("read"), &json!({ "read_whoami": "altered" })));
    let answer = client.line();
    assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(2), &json!(-32602)), "{answer}");
    client.lists_changed();
    assert_eq!(channel.of_calls("answered")["outcome"], "not_sent");
    client.request(3, "tools/list");
    assert_eq!(names(&client.line()), ["write_whoami"]);
    client.call(4, "read_whoami");
    assert_eq!(client.line()["error"]["code"], -32602);
}

/// The same where the instance is there from the beginning: calls wait until it has shown its tools.
#[test]
fn a_tool_is_compared_before_it_is_called() {
    let mut plan = lazy();
    plan["lazy"] = json!(false);
    plan["record"]["items"][1] = json!(r#"{"name":"read_whoami","description":"as it was"}"#);
    let mut broker = Broker::start("changed-eager");
    broker.plan = plan;
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.ticket_for_command("read", 0, 0, TWICE);
    channel.expect("started");
    client.call(1, "read_whoami");
    assert_eq!(client.line()["error"]["code"], -32602, "before any handshake too");
    client.open();
    client.request(2, "tools/list");
    let listed = std::iter::from_fn(|| Some(client.line())).find(|line| line["id"] == 2);
    assert_eq!(listed.as_ref().map(names), Some(vec!["write_whoami"]));
}

#[test]
fn without_a_record_what_another_scope_lists_is_told() {
    let mut plan = two();
    plan["scopes"][1]["tools"] = json!(["write_*", "extra"]);
    let (_broker, mut channel, mut client) = scene::running_by("union", plan);
    client.request(1, "tools/list");
    assert_eq!(names(&client.line()), ["read_whoami", "write_whoami"]);
    client.call(2, "write_whoami");
    channel.wanted("write");
    let server = TWICE.replace(r#"{"name":"other"}"#, r#"{"name":"extra"}"#);
    channel.ticket_for_command("write", 1, 0, &server);
    channel.expect("started");
    let told: Vec<_> = [client.line(), client.line()].into();
    assert!(told.iter().any(|line| line["method"] == "notifications/tools/list_changed"), "{told:?}");
    client.request(3, "tools/list");
    assert_eq!(names(&client.line()), ["read_whoami", "write_whoami", "extra"]);
}

/// One that tries the stateless era first and then makes a handshake: what is listed for it is listed after that.
#[test]
fn a_client_that_falls_back_to_a_handshake() {
    let mut plan = lazy();
    plan["lazy"] = json!(false);
    let mut broker = Broker::start("falls-back");
    broker.plan = plan;
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    let server = TWICE.replace("case $line in", "case $line in *server/discover*) say '\"id\":'\"$id\"',\"error\":{\"code\":-32601,\"message\":\"no\"}' ;; *tools/list*) [ -n \"$greeted\" ] && say '\"id\":'\"$id\"',\"result\":{\"tools\":[{\"name\":\"read_whoami\"}]}' || say '\"id\":'\"$id\"',\"error\":{\"code\":1,\"message\":\"no\"}' ;;");
    channel.ticket_for_command("read", 0, 0, &server);
    channel.expect("started");
    client.send(&json!({ "jsonrpc": "2.0", "id": 7, "method": "server/discover", "params": { "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} } } }));
    assert_eq!(client.line()["error"]["code"], -32601, "the server's own answer");
    client.open();
    client.call(1, "read_whoami");
    assert_eq!(client.text(1), "i0 yes ");
    // The client's half is closed while its call waits for the list.
    client.close();
    assert_eq!(client.wait(), 0);
}

/// The server that was approved knew handshakes only: a client that tries the stateless era first learns that.
#[test]
fn discovery_of_a_server_that_knows_handshakes_only_starts_nothing() {
    let mut broker = Broker::start("no-discovery");
    broker.plan = lazy();
    let mut client = Client::start(&broker);
    let (channel, _) = broker.accept();
    client.send(&json!({ "jsonrpc": "2.0", "id": "d", "method": "server/discover", "params": { "_meta": {
        "io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {} } } }));
    assert_eq!(client.line()["error"]["code"], -32601);
    client.open();
    client.request(1, "tools/list");
    assert_eq!(names(&client.line()).len(), 2);
    nothing_runs(&client);
    assert!(channel.frames.try_recv().is_err());
}
