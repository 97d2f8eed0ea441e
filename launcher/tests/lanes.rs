//! Several instances below one pipe, one a scope: each starts when it is needed, gets what is its own though both use
//! the same ids, and comes and goes without the other noticing.
#![expect(clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use scene::{Broker, Client, TWICE, running_both, running_two};
use serde_json::{Value, json};

mod scene;

/// Until everything that was said so far has been taken.
fn both_have_heard(client: &mut Client) {
    for (id, tool) in [(998, "write_whoami"), (999, "read_whoami")] {
        client.call(id, tool);
        client.text(id);
    }
}

#[test]
fn another_scope_starts_at_the_first_call_of_one_of_its_tools() {
    let (_broker, mut channel, mut client) = running_two("lane-start");
    client.send(
        &json!({ "jsonrpc": "2.0", "id": 1, "method": "logging/setLevel", "params": { "level": "info" } }),
    );
    assert_eq!(client.line()["id"], 1);
    client.call(2, "write_whoami");
    client.call(3, "read_whoami");
    channel.wanted("write");
    assert_eq!(client.text(3), "i0 yes set", "nobody waits for another scope");
    channel.ticket_for_command("write", 1, 0, TWICE);
    let started = channel.expect("started");
    assert_eq!((&started["instance"], &started["scope"]), (&json!(1), &json!("write")));
    client.lists_changed();
    assert_eq!(client.text(2), "i1 yes set", "the handshake and the level were replayed");
    client.close();
    assert_eq!(client.wait(), 0);
}

#[test]
fn requests_of_both_under_the_same_id_reach_the_client_and_come_back() {
    let (_broker, _channel, mut client) = running_both("lane-ids", 0);
    let asked: Vec<_> = [(5, "read_ask"), (6, "write_ask")]
        .map(|(id, tool)| {
            client.call(id, tool);
            client.line()
        })
        .into();
    assert_eq!(asked[0]["id"], 0);
    assert_ne!(asked[1]["id"], 0, "that one is taken");
    let tokens: Vec<_> =
        asked.iter().map(|asked| asked["params"]["_meta"]["progressToken"].clone()).collect();
    assert_eq!(tokens[0], 7);
    assert_ne!(tokens[1], 7);
    for (number, asked) in [(1, &asked[1]), (0, &asked[0])] {
        let token = &asked["params"]["_meta"]["progressToken"];
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": { "progressToken": token, "progress": 1 } }));
        let heard = client.line();
        assert_eq!(heard["params"]["to"], format!("i{number}"));
        assert_eq!(heard["params"]["line"]["params"]["progressToken"], 7);
        client.send(&json!({ "jsonrpc": "2.0", "id": asked["id"], "result": { "roots": [number] } }));
        let heard = client.line();
        assert_eq!(heard["params"]["to"], format!("i{number}"));
        assert_eq!(
            heard["params"]["line"],
            json!({ "jsonrpc": "2.0", "id": 0, "result": { "roots": [number] } })
        );
    }
}

#[test]
fn what_the_client_takes_back_or_tells_reaches_who_is_meant() {
    let (_broker, _channel, mut client) = running_both("lane-cancel", 0);
    for (id, tool, who) in [(5, "write_hang", "i1"), (6, "read_hang", "i0")] {
        client.call(id, tool);
        both_have_heard(&mut client);
        client.send(
            &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": { "requestId": id } }),
        );
        let heard = client.line();
        assert_eq!(
            (&heard["params"]["to"], &heard["params"]["line"]["params"]["requestId"]),
            (&json!(who), &json!(id))
        );
    }
    client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/roots/list_changed" }));
    let mut heard: Vec<_> =
        [client.line(), client.line()].map(|line| line["params"]["to"].to_string()).into();
    heard.sort();
    assert_eq!(heard, ["\"i0\"", "\"i1\""], "everybody");
}

#[test]
fn tasks_of_both_under_the_same_id_are_told_apart() {
    let (_broker, _channel, mut client) = running_both("lane-tasks", 0);
    let mut tasks: Vec<Value> = Vec::new();
    for tool in ["read_task", "write_task"] {
        client.call(5, tool);
        tasks.push(client.line()["result"]["task"]["taskId"].clone());
    }
    assert_eq!(tasks[0], "t");
    assert_ne!(tasks[1], "t");
    for (number, task) in tasks.iter().enumerate() {
        client
            .send(&json!({ "jsonrpc": "2.0", "id": 7, "method": "tasks/get", "params": { "taskId": task } }));
        let got = client.line();
        assert_eq!(
            (&got["result"]["statusMessage"], &got["result"]["taskId"]),
            (&json!(format!("i{number}")), task)
        );
    }
    client
        .send(&json!({ "jsonrpc": "2.0", "id": 8, "method": "tasks/get", "params": { "taskId": "other" } }));
    assert_eq!(client.line()["error"]["code"], -32602, "nobody runs that");
}

#[test]
fn one_that_crashes_leaves_the_other_alone() {
    let (_broker, mut channel, mut client) = running_both("lane-crash", 0);
    client.call(1, "read_sleep");
    client.call(2, "write_die");
    assert_eq!(channel.expect("exited")["instance"], 1);
    channel.gone(1, "exited");
    assert!(client.text(2).contains("executed: unknown"));
    assert_eq!(client.text(1), "slept i0");
    // It comes back when it is needed, and no sooner.
    client.call(3, "write_whoami");
    channel.wanted("write");
    channel.ticket_for_command("write", 2, 0, TWICE);
    channel.expect("started");
    assert_eq!(client.text(3), "i2 yes ");
    // And the other way round.
    client.call(4, "read_die");
    channel.expect("exited");
    channel.gone(0, "exited");
    channel.wanted("read");
    assert!(client.text(4).contains("executed: unknown"));
    client.call(5, "write_whoami");
    assert_eq!(client.text(5), "i2 yes ");
}

#[test]
fn one_that_is_not_used_rests_and_leaves_the_other_alone() {
    let (_broker, mut channel, mut client) = running_both("lane-idle", 1);
    channel.gone(1, "idle");
    client.call(1, "read_whoami");
    assert_eq!(client.text(1), "i0 yes ");
    client.call(2, "write_whoami");
    channel.wanted("write");
    channel.ticket_for_command("write", 2, 0, TWICE);
    channel.expect("started");
    assert_eq!(client.text(2), "i2 yes ");
}

#[test]
fn a_swap_of_one_is_no_matter_of_the_other() {
    let (_broker, mut channel, mut client) = running_both("lane-swap", 0);
    client.call(1, "write_sleep");
    channel.send(&json!({ "type": "replace", "instance": 1, "within_secs": 60 }));
    channel.wanted("write");
    channel.ticket_for_command("write", 2, 0, TWICE);
    channel.expect("started");
    assert_eq!(client.text(1), "slept i1");
    channel.gone(1, "replaced");
    client.call(2, "write_whoami");
    client.call(3, "read_whoami");
    let mut texts =
        [client.line(), client.line()].map(|line| line["result"]["content"][0]["text"].to_string());
    texts.sort();
    assert_eq!(texts, ["\"i0 yes \"", "\"i2 yes \""]);
}

#[test]
fn a_lock_ends_both_and_only_the_first_comes_back_by_itself() {
    let (_broker, mut channel, mut client) = running_both("lane-lock", 0);
    client.call(1, "write_hang");
    client.call(2, "read_hang");
    both_have_heard(&mut client);
    channel.park("locked");
    channel.expect("dead");
    for _ in 0..2 {
        assert!(client.line().to_string().contains("executed: unknown"));
    }
    client.call(3, "write_whoami");
    assert!(client.text(3).contains("the session is locked"));
    channel.resume();
    channel.wanted("read");
    channel.ticket_for_command("read", 2, 0, TWICE);
    channel.expect("started");
    client.lists_changed();
    client.call(4, "write_whoami");
    channel.wanted("write");
    // What is refused for one is no matter of the other.
    channel.refuse("write", "provider_busy");
    assert!(client.text(4).contains("executed: no"));
    client.call(5, "read_whoami");
    assert_eq!(client.text(5), "i2 yes ");
}

#[test]
fn a_broker_that_comes_back_is_asked_for_what_has_to_be_there() {
    let (mut broker, channel, mut client) = running_both("lane-away", 0);
    drop(channel);
    broker.restart();
    let (mut channel, want) = broker.accept();
    assert!(!want);
    channel.wanted("read");
    channel.ticket_for_command("read", 0, 0, TWICE);
    channel.expect("started");
    client.lists_changed();
    client.call(1, "write_whoami");
    channel.wanted("write");
    channel.ticket_for_command("write", 1, 0, TWICE);
    channel.expect("started");
    assert_eq!(client.text(1), "i1 yes ");
}

#[test]
fn what_was_asked_of_a_scope_before_the_client_left_is_answered() {
    let (_broker, mut channel, mut client) = running_two("lane-leave");
    client.call(1, "write_whoami");
    client.close();
    channel.wanted("write");
    std::thread::sleep(std::time::Duration::from_millis(200));
    channel.ticket_for_command("write", 1, 0, TWICE);
    while channel.frame()["type"] != "started" {}
    client.lists_changed();
    assert_eq!(client.text(1), "i1 yes ");
    assert_eq!(client.wait(), 0);
}

/// The definition has changed while the launch runs: what is no scope any more ends, the rest stays.
#[test]
fn another_plan_ends_what_it_does_not_name() {
    let (broker, mut channel, mut client) = running_both("lane-plan", 0);
    drop(broker);
    client.call(1, "write_hang");
    both_have_heard(&mut client);
    channel.send(&scene::plan_of(&[("read", &["read_*"]), ("third", &["third_*"])]));
    channel.gone(1, "replaced");
    client.lists_changed();
    assert!(client.text(1).contains("definition of the server has changed"));
    client.call(2, "write_whoami");
    assert_eq!(client.line()["error"]["code"], -32602);
    client.call(3, "read_whoami");
    assert_eq!(client.text(3), "i0 yes ");
}

/// Another scope may be needed, and fail to start, before the first one is there.
#[test]
fn one_that_cannot_start_does_not_end_the_launch() {
    let mut broker = Broker::start("lane-broken");
    broker.plan = scene::two();
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    client.call(1, "write_whoami");
    channel.wanted("write");
    channel.send(&json!({
        "type": "ticket", "kind": "secrets", "launch": scene::LAUNCH, "instance": 0, "server": "t", "scope": "write",
        "idle_secs": 0, "command": ["/nowhere"], "env": {}, "cwd": "/", "credentials": {}, "inject": [],
    }));
    channel.gone(0, "unusable");
    // It waits on for the next try.
    channel.wanted("write");
    channel.ticket_for_command("read", 1, 0, TWICE);
    channel.expect("started");
    client.call(2, "read_whoami");
    assert_eq!(client.text(2), "i1  ");
    channel.ticket_for_command("write", 2, 0, TWICE);
    channel.expect("started");
    assert_eq!(client.text(1), "i2  ");
}

/// Without a record the client sees what the instances list that run: the list of one that rests is over, and its
/// tools can be called all the same.
#[test]
fn what_an_instance_listed_that_rests_is_listed_no_more() {
    let (_broker, mut channel, mut client) = running_two("lane-rests");
    let server = TWICE.replace(r#"{"name":"other"}"#, r#"{"name":"write_'$MARK'"}"#);
    let lists = |client: &mut Client, id: u32, name: &str| {
        client.request(id, "tools/list");
        let tools = client.line()["result"]["tools"].to_string();
        assert!(tools.contains(name), "{tools}");
    };
    client.call(1, "write_whoami");
    channel.wanted("write");
    channel.ticket_for_command("write", 1, 1, &server);
    channel.expect("started");
    client.lists_changed();
    assert_eq!(client.text(1), "i1 yes ");
    lists(&mut client, 2, "write_i1");
    channel.gone(1, "idle");
    client.request(3, "tools/list");
    let tools = client.line()["result"]["tools"].to_string();
    assert!(!tools.contains("write_i1"), "{tools}");
    client.call(4, "write_whoami");
    channel.wanted("write");
    channel.ticket_for_command("write", 2, 0, &server);
    client.lists_changed();
    assert_eq!(client.text(4), "i2 yes ");
    lists(&mut client, 5, "write_i2");
}
