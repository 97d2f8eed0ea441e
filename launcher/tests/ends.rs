//! How launches and their instances end where two things happen at once: a lock in the middle of a handshake, a
//! broker that dies with its last ticket, a client that leaves while an instance does.
#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at the first surprise")]

use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use scene::{Broker, Client, SERVER, running};
use serde_json::json;

mod scene;

/// A lock comes while the answer to the replayed handshake stands unread: the dead instance works for nobody.
#[test]
fn a_dead_instance_does_not_end_a_park() {
    let broker = Broker::start("agreed");
    let mut client = Client::start_with(&broker, false);
    let (mut channel, _) = broker.accept();
    channel.ticket(0, 0);
    channel.expect("started");
    client.send(&json!({ "jsonrpc": "2.0", "id": 0, "method": "initialize", "params": { "protocolVersion": "2025-06-18", "capabilities": {} } }));
    std::thread::sleep(Duration::from_millis(200));
    client.call(1, "flood");
    // Until every buffer is full, so that nothing is read of any instance.
    std::thread::sleep(Duration::from_millis(300));
    channel.park("locked");
    channel.expect("dead");
    channel.resume();
    channel.expect("want");
    channel.ticket(1, 0);
    channel.expect("started");
    std::thread::sleep(Duration::from_millis(300));
    channel.park("locked");
    channel.expect("dead");
    client.read();
    std::thread::sleep(Duration::from_millis(400));
    client.call(5, "whoami");
    let answered = std::iter::from_fn(|| Some(client.line())).find(|line| line["id"] == 5);
    assert!(answered.unwrap().to_string().contains("executed: no"));
    channel.resume();
    channel.expect("want");
}

#[test]
fn a_broker_that_dies_with_its_last_ticket() {
    let broker = Broker::start("last-ticket");
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.ticket(0, 0);
    channel.expect("started");
    // No handshake: the next instance is ready at once.
    client.call(1, "whoami");
    client.text(1);
    channel.park("locked");
    channel.expect("dead");
    channel.resume();
    channel.expect("want");
    std::fs::remove_file(broker.dir.join("socket")).unwrap();
    channel.ticket(1, 0);
    drop(channel);
    std::thread::sleep(Duration::from_millis(300));
    client.call(2, "whoami");
    let text = client.text(2);
    assert!(text.contains("the broker") && text.contains("executed: no"), "{text}");
}

/// An idle instance dies slowly, the client leaves, and the next one ends before it is ready.
#[test]
fn a_launch_ends_when_its_last_instance_fails_after_the_client_left() {
    let broker = Broker::start("never");
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.ticket_of(0, 1, &format!("trap '' TERM; {SERVER}\nsleep 30"));
    channel.expect("started");
    client.open();
    std::thread::sleep(Duration::from_millis(1300));
    client.call(1, "whoami");
    channel.expect("want");
    client.close();
    channel.ticket_of(1, 0, "read x; exit 3");
    channel.expect("started");
    assert_eq!(channel.expect("exited")["instance"], 1);
    channel.gone(1, "exited");
    // What the client had asked is still to be done.
    while channel.frame()["type"] != "want" {}
    channel.ticket(2, 0);
    while channel.frame()["type"] != "started" {}
    let answered = std::iter::from_fn(|| Some(client.line())).find(|line| line["id"] == 1);
    assert!(answered.unwrap().to_string().contains("i2 yes"));
    assert_eq!(client.wait(), 0);
}

#[test]
fn a_client_that_leaves_before_the_first_ticket_is_not_waited_for_long() {
    for asks in [false, true] {
        let broker = Broker::start(&format!("leaves-first-{asks}"));
        let mut client = Client::start(&broker);
        let (mut channel, _) = broker.accept();
        if asks {
            client.call(1, "whoami");
        }
        let began = Instant::now();
        client.close();
        if asks {
            channel.ticket(0, 0);
            channel.expect("started");
            assert_eq!(client.text(1), "i0  ");
        }
        assert_eq!(client.wait(), 0);
        assert!(began.elapsed() < Duration::from_secs(10), "it would have been the broker's time limit");
    }
}

#[test]
fn no_instance_starts_after_a_signal() {
    let broker = Broker::start("signal");
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.ticket_of(0, 1, &format!("trap '' TERM; {SERVER}\nsleep 30"));
    channel.expect("started");
    client.open();
    std::thread::sleep(Duration::from_millis(1300));
    client.call(1, "whoami");
    channel.expect("want");
    client.signal(rustix::process::Signal::TERM);
    std::thread::sleep(Duration::from_millis(100));
    channel.ticket(1, 0);
    channel.gone(1, "unusable");
    channel.gone(0, "idle");
    channel.expect("dead");
    assert_eq!(client.wait(), 128 + libc::SIGTERM);
}

/// The status of an instance that we killed is not that of the launch.
#[test]
fn a_client_that_leaves_during_a_lock_ends_well() {
    for round in 0..4 {
        let (_broker, mut channel, mut client) = running(&format!("exit-{round}"), 0);
        channel.park("locked");
        client.close();
        assert_eq!(client.wait(), 0);
    }
}

/// A ticket that comes in one piece with the answer to the upgrade is read after the keeper was cloned: the keeper
/// lives as long as the instance, and holds no secret.
#[test]
fn the_keeper_never_holds_a_secret() {
    for early in [false, true] {
        let broker = Broker::start(&format!("keeper-{early}"));
        let mut client = Client::start(&broker);
        let (mut channel, _) = broker.accept_unanswered();
        let ticket = json!({
            "type": "ticket", "kind": "secrets", "launch": scene::LAUNCH, "instance": 0, "server": "t",
            "scope": "all", "idle_secs": 0, "command": ["/bin/sh", "-c", SERVER],
            "env": { "MARK": "m", "MODE": "" }, "cwd": "/", "inject": [{ "way": "env", "name": "DSN", "value": "pre:{db.pw}" }],
            "credentials": { "db": { "lease": scene::LAUNCH, "fields": { "pw": NEEDLE }, "expires_at": null, "revocability": "immediate" } },
        });
        if early {
            channel.raw(&format!("{}{}\n{ticket}\n", scene::UPGRADED, broker.plan));
        } else {
            channel.raw(scene::UPGRADED);
            channel.send(&broker.plan);
            std::thread::sleep(Duration::from_millis(100));
            channel.send(&ticket);
        }
        channel.expect("started");
        client.open();
        let (launcher, keepers) = with_keepers(&client);
        // What is searched for in the words of the server, and nothing beside.
        assert!(copies_in(launcher) > 0, "the control");
        assert_eq!(copies_in(keepers[0]), 0, "early: {early}");
        channel.park("locked");
        channel.expect("dead");
        client.request(9, "ping");
        client.line();
        assert_eq!(copies_in(launcher), 0, "nobody can say it any more");
    }
}

/// The keeper of a second instance is a copy of a launcher that knows the secrets of the first.
#[test]
fn a_keeper_knows_no_secret_of_another_instance() {
    let mut broker = Broker::start("keepers");
    broker.plan = scene::two();
    let mut client = Client::start(&broker);
    let (mut channel, _) = broker.accept();
    channel.send(&json!({
        "type": "ticket", "kind": "secrets", "launch": scene::LAUNCH, "instance": 0, "server": "t",
        "scope": "read", "idle_secs": 0, "command": ["/bin/sh", "-c", scene::TWICE],
        "env": { "MARK": "m" }, "cwd": "/", "inject": [{ "way": "env", "name": "DSN", "value": "pre:{db.pw}" }],
        "credentials": { "db": { "lease": scene::LAUNCH, "fields": { "pw": NEEDLE }, "expires_at": null, "revocability": "immediate" } },
    }));
    channel.expect("started");
    client.open();
    client.call(1, "write_whoami");
    channel.wanted("write");
    channel.ticket_for_command("write", 1, 0, scene::TWICE);
    client.lists_changed();
    client.text(1);
    let (launcher, keepers) = with_keepers(&client);
    assert!(copies_in(launcher) > 0, "the control");
    assert_eq!(keepers.iter().map(|keeper| copies_in(*keeper)).collect::<Vec<_>>(), [0, 0]);
}

/// The launcher and the keepers of its instances.
fn with_keepers(client: &Client) -> (u32, Vec<u32>) {
    let launcher = client.child.id();
    let children = std::fs::read_to_string(format!("/proc/{launcher}/task/{launcher}/children")).unwrap();
    (launcher, children.split_whitespace().map(|pid| pid.parse().unwrap()).collect())
}

const NEEDLE: &str = "HUNTERTWO0123456789abcdef";

/// How often the secret stands in the writable memory of a process.
fn copies_in(pid: u32) -> usize {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut count = 0;
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let (from, to) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let [from, to] = [from, to].map(|number| u64::from_str_radix(number, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(to - from).unwrap()];
        // What the kernel maps for itself cannot be read.
        if memory.read_at(&mut bytes, from).is_ok() {
            let needle = NEEDLE.as_bytes();
            count += bytes.windows(needle.len()).filter(|window| *window == needle).count();
        }
    }
    count
}
